"""Retiring releases: the facts are read, the rules decide (``retention``), and what goes, goes in this order:

    marked as retiring → deprecated → disabled → (asked once more) → deregistered → its snapshots → grants → parameters
    → marked as retired

The mark in the catalog comes first, so that nobody is given a release that is about to go; and a run that was killed
is continued by the next one, which finds the mark. Between disabling and deregistering every place is asked again: an
image that came into use meanwhile is enabled again, and stays.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from functools import partial
from typing import Final

from goldenami import task
from goldenami.aws import images, journals, kms, parameters, recyclebin, snapshots, tags
from goldenami.aws.kinds import grant_prefix
from goldenami.aws.ledger import Call, Ledger, Patience
from goldenami.aws.session import Cloud
from goldenami.aws.waiters import Item
from goldenami.errors import GoldenAmiError, JournalError, TargetsFailed, UnjournaledMutation
from goldenami.events import Emit, emit, silent
from goldenami.journal import Wait
from goldenami.model import Environment, ImageManifest, Place
from goldenami.release import usage
from goldenami.release.catalog import Catalog
from goldenami.release.publish import parameters_for
from goldenami.release.retention import Fate, ReleaseFacts, Rules, Verdict, decide
from goldenami.release.usage import Estate
from goldenami.task import Task

KIND: Final = "retire"
_WAIT_FOR_OTHERS: Final = 900.0
_SOON: Final = timedelta(minutes=2)  # EC2 rounds to the minute, and refuses what is past


@dataclass(frozen=True, slots=True)
class Retired:
    """What a run did, or with ``dry_run`` would do. ``deleted``: ids, kind by kind, in the order in which they went.
    ``left``: what could not be done, with the reason. ``silent``: places that did not answer. ``recoverable``: until
    when what went (or would go) lies in the Recycle Bin, by the words of ``deleted``; what is not named is gone for
    good, but in ``unknown_bins``: places that do not tell the rules of their bin."""

    verdicts: tuple[Verdict, ...]
    deleted: tuple[str, ...] = ()
    left: Mapping[str, str] = field(default_factory=dict)
    silent: Mapping[Place, str] = field(default_factory=dict)
    task_id: str = ""
    recoverable: Mapping[str, datetime] = field(default_factory=dict)
    unknown_bins: Mapping[Place, str] = field(default_factory=dict)

    def of(self, fate: Fate) -> tuple[Verdict, ...]:
        return tuple(v for v in self.verdicts if v.fate == fate)


def retire(
    environment: Environment,
    catalog: Catalog,
    rules: Mapping[str, Rules],
    now: datetime,
    *,
    only: Collection[str] = (),
    dry_run: bool = False,
    cloud: Cloud | None = None,
    emit_to: Emit = silent,
    patience: Patience | None = None,
) -> Retired:
    """Judge every release of a catalog, and do what the rules say. A second run does nothing.

    ``rules``: by recipe. ``only``: these recipes alone; the others' releases count as what is built on them. What fails
    is told in ``left``, and stops nothing else.
    """
    at_hand = cloud or Cloud.of(environment)
    at_hand.check_identity()
    if dry_run:
        verdicts, estate = judge(at_hand, environment, catalog, rules, now, only)
        bins = recyclebin.Bins(at_hand)
        recoverable = _preview(at_hand, bins, verdicts, estate, now)
        return Retired(verdicts, silent=estate.silent, recoverable=recoverable, unknown_bins=bins.silent)
    with journals.of(environment, at_hand).exclusive(KIND, Wait(_WAIT_FOR_OTHERS, at_hand.clock, at_hand.sleep)):
        _finish_earlier(environment, at_hand, emit_to, patience or Patience())
        verdicts, estate = judge(at_hand, environment, catalog, rules, now, only)
        due = [v for v in verdicts if _is_due(v, estate, now)]
        if not due:
            return Retired(verdicts, silent=estate.silent)
        arguments = {"recipes": sorted(only), "releases": [v.release.label for v in due]}
        with task.run(environment, KIND, arguments, cloud=at_hand, emit_to=emit_to) as job:
            work = _Work(job, environment, catalog, now)
            going = work.prepare(due, estate)
            if going:
                again, estate = judge(at_hand, environment, catalog, rules, now, only)
                fates = {v.release.label: v for v in again}
                for verdict in going:
                    latest = fates.get(verdict.release.label, verdict)
                    if latest.fate == "delete":
                        work.delete(verdict.release.manifest, estate)
                    elif _comes_back(latest, estate):
                        work.take_back(verdict.release.manifest, estate, latest.rule)
                latest_of = ((v, fates.get(v.release.label, v)) for v in verdicts)
                verdicts = tuple(new if new.fate != old.fate else old for old, new in latest_of)
        deleted = tuple(work.deleted)
        return Retired(
            verdicts, deleted, work.left, estate.silent, job.id, work.recoverable, unknown_bins=work.bins.silent
        )


def failed(retired: Retired) -> TargetsFailed | None:
    """The error that tells of what could not be done."""
    if not retired.left:
        return None
    count = len(retired.left)
    return TargetsFailed(
        f"{count} thing{'s' if count != 1 else ''} could not be retired",
        failures=dict(retired.left),
        hint="The next `goldenami retire` tries again.",
    )


# --- judging ----------------------------------------------------------------------------------------------------------


def judge(
    cloud: Cloud,
    environment: Environment,
    catalog: Catalog,
    rules: Mapping[str, Rules],
    now: datetime,
    only: Collection[str] = (),
) -> tuple[tuple[Verdict, ...], Estate]:
    """The verdicts as of now, over facts that are read now."""
    manifests = living(catalog)
    ids = {id for manifest in manifests for id in usage.ids_of(manifest)}
    estate = usage.survey(cloud, usage.places_of(environment, manifests), ids)
    releases = gather(catalog, manifests, estate, environment)
    verdicts = decide(releases, rules, now, only=only)
    # Who an image is shared with takes a call for each, so it is asked for those only that would go.
    doubts = {
        v.release.label: usage.shared_beyond(cloud, estate, v.release.manifest, environment, now)
        for v in verdicts
        if v.fate in ("disable", "delete")
    }
    if any(doubts.values()):
        releases = [replace(one, unknown=(*one.unknown, *doubts.get(one.label, ()))) for one in releases]
        verdicts = decide(releases, rules, now, only=only)
    return verdicts, estate


def living(catalog: Catalog) -> tuple[ImageManifest, ...]:
    """Every release of which something may be left."""
    found = []
    for name in catalog.names():
        for version in catalog.versions(name):
            retirement = catalog.marks.retirement(name, version)
            if retirement is None or retirement.status == "retiring":
                found.append(catalog.get(name, version))
    return tuple(found)


def gather(
    catalog: Catalog, manifests: Iterable[ImageManifest], estate: Estate, environment: Environment
) -> list[ReleaseFacts]:
    """The catalog's side of the facts, and the cloud's, release by release."""
    every = list(manifests)
    of_image = {id: f"{m.recipe} {m.version}" for m in every for id in usage.ids_of(m)}
    children: dict[str, set[str]] = {}
    for manifest in every:
        label = f"{manifest.recipe} {manifest.version}"
        for base in manifest.base.values():
            parent = base.release or of_image.get(base.image_id)
            if parent is not None and parent != label:
                children.setdefault(parent, set()).add(label)
    found = []
    for manifest in every:
        name, version = manifest.recipe, manifest.version
        channels = catalog.channels(name)
        pin = catalog.marks.pinned(name, version)
        retirement = catalog.marks.retirement(name, version)
        found.append(
            ReleaseFacts(
                manifest,
                created=datetime.fromisoformat(manifest.created.replace("Z", "+00:00")),
                pin=pin.reason if pin is not None else None,
                pointed=tuple(
                    f"{which} of the channel {c.channel}"
                    for c in channels
                    for which, at in (("current", c.current), ("previous", c.previous))
                    if at == version
                ),
                channels=frozenset(c.channel for c in channels if version in {m.version for m in c.history}),
                uses=usage.uses_of(estate, manifest, environment.parameter_prefix),
                launched=usage.last_launch(estate, manifest),
                children=frozenset(children.get(f"{name} {version}", ())),
                unknown=usage.unknown_uses(estate, manifest, environment),
                protected=usage.protected_images(estate, manifest),
                retiring=retirement is not None,
            )
        )
    return found


def _is_due(verdict: Verdict, estate: Estate, now: datetime) -> bool:
    """Whether anything is left to be done for a verdict; for one that is kept, to give back what a killed run took."""
    if verdict.fate == "keep":
        return _comes_back(verdict, estate)
    if verdict.fate == "delete":
        return True
    images_of = [image for _, image in usage.own_images(verdict.release.manifest, estate)]
    if verdict.fate == "deprecate":
        return any(not _is_deprecated(image, now) for image in images_of)
    return any(image.get("State") != "disabled" for image in images_of)


def _comes_back(verdict: Verdict, estate: Estate) -> bool:
    """An earlier run began to delete it, nothing of it is gone, and by now there is a reason to keep it."""
    one = verdict.release
    wanted = usage.ids_of(one.manifest)
    there = {str(image["ImageId"]) for _, image in usage.own_images(one.manifest, estate)}
    return one.retiring and bool(one.uses or one.pin or one.pointed) and there == wanted


def _is_deprecated(image: Item, now: datetime) -> bool:
    text = image.get("DeprecationTime")
    if not text:
        return False
    return datetime.fromisoformat(str(text).replace("Z", "+00:00")) <= now + 2 * _SOON


def _finish_earlier(environment: Environment, cloud: Cloud, emit_to: Emit, patience: Patience) -> None:
    """A killed run made nothing that could be left; what it was deleting is found again by the marks."""
    found = journals.of(environment, cloud)
    for summary in found.unfinished():
        if summary.header is not None and task.kind_of(summary.header) == KIND:
            with found.open(summary.build_id) as journal:
                Ledger(cloud, journal, emit=emit_to, patience=patience).resolve_all(journal.unresolved())
                journal.finish("done")


# --- doing ------------------------------------------------------------------------------------------------------------


class _Work:
    """One run that changes something."""

    def __init__(self, job: Task, environment: Environment, catalog: Catalog, now: datetime) -> None:
        self.job = job
        self.ledger = job.ledger
        self.cloud = job.cloud
        self.environment = environment
        self.catalog = catalog
        self.now = now
        self.deleted: list[str] = []
        self.left: dict[str, str] = {}
        self.bins = recyclebin.Bins(job.cloud)
        self.recoverable: dict[str, datetime] = {}

    def prepare(self, due: Iterable[Verdict], estate: Estate) -> list[Verdict]:
        """Deprecate and disable, which can be undone. Returns what is to be deleted."""
        going = []
        for verdict in due:
            manifest = verdict.release.manifest
            if verdict.fate == "keep":
                self.take_back(manifest, estate, verdict.rule)
                continue
            if verdict.fate == "delete":
                self.catalog.marks.begin(manifest.recipe, manifest.version, verdict.rule, self.now)
                going.append(verdict)
            for place, image in usage.own_images(manifest, estate):
                id = str(image["ImageId"])
                if not _is_deprecated(image, self.now):
                    self.attempt(f"deprecate {id} in {place}", partial(self.deprecate, place, id))
                if verdict.fate in ("disable", "delete") and image.get("State") == "available":
                    self.attempt(f"disable {id} in {place}", partial(self.disable, place, id))
        return going

    def deprecate(self, place: Place, id: str) -> None:
        images.deprecate(self.ledger, f"deprecate/{place}/{id}", place, id, self.now + _SOON)

    def disable(self, place: Place, id: str) -> None:
        """Nobody launches it any more; its launch permissions go with it."""
        call = Call("ec2", "DisableImage", {"ImageId": id})
        self.ledger.change(f"disable/{place}/{id}", place, call, resource=id, kind="attribute")

    def take_back(self, manifest: ImageManifest, estate: Estate, rule: str) -> None:
        """It came into use at the last moment: it is enabled again. Its launch permissions do not come back by that;
        the manifest's own shares are given again."""
        for place, image in usage.own_images(manifest, estate):
            id = str(image["ImageId"])
            if image.get("State") == "disabled":
                what = f"enable {id} in {place}"
                self.attempt(what, partial(self.enable, manifest, place, id))
        self.catalog.marks.cancel(manifest.recipe, manifest.version)
        label = f"{manifest.recipe} {manifest.version}"
        emit(self.job.emit, "note", message=f"{label} stays after all: {rule}", level="warning")

    def enable(self, manifest: ImageManifest, place: Place, id: str) -> None:
        call = Call("ec2", "EnableImage", {"ImageId": id})
        self.ledger.change(f"enable/{place}/{id}", place, call, resource=id, kind="attribute")
        accounts = {i.account for i in manifest.images if i.image_id == id and i.mode == "share"}
        if accounts:
            images.share(self.ledger, f"reshare/{place}/{id}", place, id, accounts=accounts)

    def delete(self, manifest: ImageManifest, estate: Estate) -> None:
        """Images, then their snapshots, then grants, then parameters; the mark last, if nothing is left."""
        before = len(self.left)
        rows = [(place, str(image["ImageId"]), image) for place, image in usage.own_images(manifest, estate)]
        behind = usage.snapshots_of(manifest, estate)
        for place, id, image in rows:
            self.attempt(f"image {id} in {place}", partial(self.ledger.delete, "image", place, id))
            self.tell("image", place, id)
            self.tell_bin("image", place, id, image)
        for place, ids in sorted(behind.items()):
            self.attempt(f"snapshots in {place}", partial(self.delete_snapshots, place, ids))
        self.attempt("grants", partial(self.revoke_grants, manifest))
        for parameter in parameters_for(manifest, self.environment.parameter_prefix, manifest.version):
            self.attempt(
                f"parameter {parameter.name} in {parameter.place}",
                partial(self.delete_parameter, parameter.place, parameter.name, parameter.image.image_id),
            )
        if len(self.left) == before:
            self.catalog.marks.finish(manifest.recipe, manifest.version, self.now)

    def delete_snapshots(self, place: Place, ids: Collection[str]) -> None:
        """Those that are there and that no other image uses."""
        there = snapshots.describe_many(self.cloud, place, ids)
        using = snapshots.images_using(self.cloud, place, there)
        for id in sorted(there):
            others = [image for image in using.get(id, ()) if f"image {image} in {place}" not in self.deleted]
            if others:
                self.left[f"snapshot {id} in {place}"] = f"image {', '.join(others)} uses it"
                continue
            self.attempt(f"snapshot {id} in {place}", partial(snapshots.delete, self.ledger, place, id))
            self.tell("snapshot", place, id)
            self.tell_bin("snapshot", place, id, there[id])

    def revoke_grants(self, manifest: ImageManifest) -> None:
        """Those that the release's build made; their names say so."""
        keys = {
            (Place(_owner(key, image.account), image.region), key)
            for image in manifest.images
            for key in (s.kms_key_id for s in image.snapshots)
            if key is not None
        }
        prefix = grant_prefix(manifest.build_id)
        for place, key in sorted(keys):
            if place.account not in {a.id for a in self.environment.accounts.values()}:
                continue
            for grant in kms.grants(self.cloud, place, key):
                if str(grant.get("Name", "")).startswith(prefix):
                    id = str(grant["GrantId"])
                    self.ledger.delete("grant", place, id, parent=key)
                    self.tell("grant", place, id)

    def delete_parameter(self, place: Place, name: str, image_id: str) -> None:
        """The release's own parameter; one that somebody has put another value into is theirs."""
        found = parameters.find(self.cloud, place, name)
        if found == image_id:
            parameters.delete(self.ledger, place, name)
            self.tell("parameter", place, name)

    def tell(self, kind: str, place: Place, id: str) -> None:
        if self.ledger.journal.is_gone(place, id):
            self.deleted.append(f"{kind} {id} in {place}")

    def tell_bin(self, kind: str, place: Place, id: str, item: Item) -> None:
        if self.ledger.journal.is_gone(place, id):
            until = self.bins.until(place, kind, tags.from_list(item.get("Tags")), self.cloud.now())
            if until is not None:
                self.recoverable[f"{kind} {id} in {place}"] = until

    def attempt(self, what: str, step: Callable[[], object]) -> None:
        """Do a step; what is wrong with it is told, and does not stop the others."""
        try:
            step()
        except (JournalError, UnjournaledMutation):
            raise
        except GoldenAmiError as error:
            if error.exit_code == 130:
                raise
            self.left[what] = error.message
            emit(self.job.emit, "note", message=f"{what}: {error.message}", level="warning")


def _preview(
    cloud: Cloud, bins: recyclebin.Bins, verdicts: Iterable[Verdict], estate: Estate, now: datetime
) -> dict[str, datetime]:
    """What would be in the Recycle Bin until when."""
    going = [v.release.manifest for v in verdicts if v.fate == "delete"]
    found: dict[str, datetime | None] = {}
    for manifest in going:
        for place, image in usage.own_images(manifest, estate):
            own = tags.from_list(image.get("Tags"))
            found[f"image {image['ImageId']} in {place}"] = bins.until(place, "image", own, now)
        for place, ids in sorted(usage.snapshots_of(manifest, estate).items()):
            for id, item in sorted(snapshots.describe_many(cloud, place, ids).items()):
                own = tags.from_list(item.get("Tags"))
                found[f"snapshot {id} in {place}"] = bins.until(place, "snapshot", own, now)
    return {line: until for line, until in found.items() if until is not None}


def _owner(key_arn: str, account: str) -> str:
    """The account of a key: a shared image's is its owner's."""
    parts = key_arn.split(":")
    return parts[4] if len(parts) > 5 else account
