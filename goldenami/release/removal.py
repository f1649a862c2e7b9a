"""Removes releases step by step: reversible steps first. Reports every resource that could not be removed."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from datetime import datetime, timedelta
from typing import Final

from goldenami.aws import images, kms, parameters, recent, recyclebin, snapshots, tags
from goldenami.aws.kinds import grant_prefix, parameter_tags
from goldenami.aws.ledger import Call
from goldenami.aws.ownership import Owner
from goldenami.aws.waiters import Item
from goldenami.model import ImageManifest, Place
from goldenami.release import consumers, protection, usage
from goldenami.release import targets as modes
from goldenami.release.actual import makers
from goldenami.release.catalog import Catalog
from goldenami.release.parameters import parameters_for
from goldenami.release.retention import RetentionDecision
from goldenami.release.usage import Estate
from goldenami.task import Task
from goldenami.work import Attempts

_SOON: Final = timedelta(minutes=2)  # EC2 rounds to the minute, and refuses a time in the past


def is_due(decision: RetentionDecision, estate: Estate, now: datetime) -> bool:
    """Return whether a decision requires a change. A kept release may need one after a killed run."""
    if decision.fate == "keep":
        return comes_back(decision, estate)
    if decision.fate == "delete":
        return cooldown_end(decision, estate, now) is None
    images_of = [image for _, image in usage.own_images(decision.release.manifest, estate)]
    if decision.fate == "deprecate":
        return any(not _is_deprecated(image, now) for image in images_of)
    return any(image.get("State") != "disabled" for image in images_of)


def cooldown_end(decision: RetentionDecision, estate: Estate, now: datetime) -> datetime | None:
    """Return until when EC2 refuses to deregister images of a release whose protection an earlier run disabled. None:
    nothing waits, or this release is not disabled yet."""
    own = [image for _, image in usage.own_images(decision.release.manifest, estate)]
    if any(image.get("State") == "available" or protection.mode_of(image) is not None for image in own):
        return None
    return max(filter(None, (protection.cooldown_end(image, now) for image in own)), default=None)


def is_new(manifest: ImageManifest, now: datetime) -> bool:
    """Return whether reads may still omit resources of a release, so that a deletion would miss them."""
    return now - datetime.fromisoformat(manifest.created) < timedelta(seconds=recent.LONGEST)


def comes_back(decision: RetentionDecision, estate: Estate) -> bool:
    """Return whether a release that an earlier run began to delete must be kept, and all its images still exist."""
    one = decision.release
    wanted = usage.ids_of(one.manifest)
    there = {str(image["ImageId"]) for _, image in usage.own_images(one.manifest, estate)}
    return one.retiring and bool(one.uses or one.pin or one.pointed) and there == wanted


def _is_deprecated(image: Item, now: datetime) -> bool:
    text = image.get("DeprecationTime")
    if not text:
        return False
    return datetime.fromisoformat(str(text)) <= now + 2 * _SOON


class Removal(Attempts):
    """Removes releases in one run. ``failures``: resource or step -> reason, for everything that failed. ``waiting``:
    as in ``retire.Retired``."""

    def __init__(self, job: Task, catalog: Catalog, now: datetime) -> None:
        super().__init__(job.emit)
        self.job = job
        self.ledger = job.ledger
        self.cloud = job.cloud
        self.environment = job.environment
        self.catalog = catalog
        self.owner = Owner(catalog.identity(), job.environment.name)
        self.now = now
        self.deleted: list[str] = []
        self.waiting: dict[str, datetime] = {}
        self.bins = recyclebin.Bins(job.cloud)
        self.recoverable: dict[str, datetime] = {}

    def prepare(self, due: Iterable[RetentionDecision], estate: Estate) -> list[RetentionDecision]:
        """Do the reversible steps: deprecate and disable. Returns the decisions of the releases to delete."""
        to_delete = []
        for decision in due:
            manifest = decision.release.manifest
            if decision.fate == "keep":
                self.take_back(manifest, estate, decision.rule)
                continue
            if decision.fate == "delete" and is_new(manifest, self.now):
                self.failures[manifest.label] = (
                    f"it was released less than {recent.LONGEST / 60:.0f} minutes ago, so AWS may not list all its "
                    "resources yet; retire it later"
                )
                continue
            if decision.fate == "delete":
                self.catalog.marks.begin(manifest.recipe, manifest.version, decision.rule, self.now)
                to_delete.append(decision)
            for place, image in usage.own_images(manifest, estate):
                id = str(image["ImageId"])
                if not _is_deprecated(image, self.now):
                    with self.attempt(f"deprecate {id} in {place}"):
                        self.deprecate(place, id)
                if decision.fate in ("disable", "delete") and image.get("State") == "available":
                    with self.attempt(f"disable {id} in {place}"):
                        self.disable(place, id)
                if decision.fate == "delete":
                    with self.attempt(f"protection of {id} in {place}"):
                        end = protection.lift(self.ledger, place, image, self.now)
                        if end is not None:
                            self.waiting[manifest.label] = max(end, self.waiting.get(manifest.label, end))
        return to_delete

    def deprecate(self, place: Place, id: str) -> None:
        images.deprecate(self.ledger, f"deprecate/{place}/{id}", place, id, self.now + _SOON)

    def disable(self, place: Place, id: str) -> None:
        """Disable an image, so that no account can launch it. EC2 removes its launch permissions."""
        call = Call("ec2", "DisableImage", {"ImageId": id})
        self.ledger.change(f"disable/{place}/{id}", place, call, resource=id, kind="attribute")

    def take_back(self, manifest: ImageManifest, estate: Estate, rule: str) -> None:
        """Enable the images of a release again, because it came into use.

        EC2 does not restore launch permissions. The shares of the manifest are created again, and images that were
        protected from deregistration are protected again.
        """
        for place, image in usage.own_images(manifest, estate):
            id = str(image["ImageId"])
            if image.get("State") == "disabled":
                with self.attempt(f"enable {id} in {place}"):
                    self.enable(manifest, place, id)
            with self.attempt(f"protection of {id} in {place}"):
                protection.restore(self.ledger, place, image)
        self.catalog.marks.cancel(manifest.recipe, manifest.version)
        self.job.note(f"{manifest.label} is kept and its images are enabled again: {rule}", "warning")

    def enable(self, manifest: ImageManifest, place: Place, id: str, *, disabled: bool = True) -> None:
        """Enable an image, if it is ``disabled``, and share it as the manifest says."""
        if disabled:
            call = Call("ec2", "EnableImage", {"ImageId": id})
            self.ledger.change(f"enable/{place}/{id}", place, call, resource=id, kind="attribute")
        accounts = {i.account for i in manifest.images if i.image_id == id and not modes.owns(i)}
        shared = {one for i in manifest.images if i.image_id == id for one in i.shared_with}
        organizations = {one for one in shared if one.startswith("arn:")}
        accounts |= shared - organizations
        if shared or accounts:
            images.share(
                self.ledger,
                f"reshare/{place}/{id}",
                place,
                id,
                accounts=accounts,
                organizations=organizations,
            )

    def delete(self, manifest: ImageManifest, estate: Estate) -> None:
        """Delete the images, then the snapshots, grants and parameters of a release.

        Marks the release as retired if all deletions succeeded.
        """
        before = len(self.failures)
        rows = [(place, str(image["ImageId"]), image) for place, image in usage.own_images(manifest, estate)]
        behind = usage.snapshots_of(manifest, estate)
        for place, id, image in rows:
            with self.attempt(f"image {id} in {place}"):
                self.ledger.delete("image", place, id)
            self.tell("image", place, id)
            self.tell_bin("image", place, id, image)
        for place, ids in sorted(behind.items()):
            with self.attempt(f"snapshots in {place}"):
                self.delete_snapshots(place, ids)
        with self.attempt("grants"):
            self.revoke_grants(manifest)
        accounts = {account.id for account in self.environment.accounts.values()}
        for parameter in parameters_for(manifest, self.environment.parameter_prefix, manifest.version, accounts):
            with self.attempt(f"parameter {parameter.name} in {parameter.place}"):
                self.delete_parameter(parameter.place, parameter.name, parameter.image.image_id)
        if len(self.failures) == before:
            self.catalog.marks.finish(manifest.recipe, manifest.version, self.now)

    def delete_snapshots(self, place: Place, ids: Collection[str]) -> None:
        """Delete the existing snapshots of this catalog and environment that no other image uses."""
        there = snapshots.describe_many(self.cloud, place, ids)
        using = snapshots.images_using(self.cloud, place, there)
        for id in sorted(there):
            if not self.is_ours(f"snapshot {id} in {place}", tags.from_list(there[id].get("Tags"))):
                continue
            others = [image for image in using.get(id, ()) if f"image {image} in {place}" not in self.deleted]
            if others:
                self.failures[f"snapshot {id} in {place}"] = f"image {', '.join(others)} uses it"
                continue
            with self.attempt(f"snapshot {id} in {place}"):
                snapshots.delete(self.ledger, place, id)
            self.tell("snapshot", place, id)
            self.tell_bin("snapshot", place, id, there[id])

    def revoke_grants(self, manifest: ImageManifest) -> None:
        """Revoke the grants of the release's build, and the grants of consumers that no other release needs.

        The names of the grants contain the id of the build, or of the task of `goldenami distribute`."""
        unneeded = consumers.unneeded(self.environment, self.catalog, manifest)
        keys = {
            (Place(_owner(key, image.account), image.region), key)
            for image in manifest.images
            for key in (s.kms_key_id for s in image.snapshots)
            if key is not None
        }
        catalog = self.ledger.journal.header.catalog
        prefixes = tuple(grant_prefix(id, catalog) for id in makers(manifest))
        for place, key in sorted(keys):
            if place.account not in {a.id for a in self.environment.accounts.values()}:
                continue
            for grant in kms.grants(self.cloud, place, key):
                if str(grant.get("Name", "")).startswith(prefixes) or unneeded.contains(key, grant):
                    id = str(grant["GrantId"])
                    self.ledger.delete("grant", place, id, parent=key)
                    self.tell("grant", place, id)

    def delete_parameter(self, place: Place, name: str, image_id: str) -> None:
        """Delete the parameter of a release, unless another program has changed its value or its tags."""
        found = parameters.find(self.cloud, place, name)
        if found == image_id and self.is_ours(f"parameter {name} in {place}", parameter_tags(self.cloud, place, name)):
            parameters.delete(self.ledger, place, name)
            self.tell("parameter", place, name)

    def is_ours(self, what: str, own: Mapping[str, str]) -> bool:
        """Return whether a resource of the release is ours by its tags. Otherwise it is kept, and that is reported."""
        answer = self.owner.of_tags(own)
        if not answer.is_ours:
            self.job.note(f"{what} is kept: it is {answer.reason}", "warning")
        return answer.is_ours

    def tell(self, kind: str, place: Place, id: str) -> None:
        if self.ledger.journal.is_gone(place, id):
            self.deleted.append(f"{kind} {id} in {place}")

    def tell_bin(self, kind: str, place: Place, id: str, item: Item) -> None:
        if self.ledger.journal.is_gone(place, id):
            until = self.bins.until(place, kind, tags.from_list(item.get("Tags")), self.cloud.now())
            if until is not None:
                self.recoverable[f"{kind} {id} in {place}"] = until


def _owner(key_arn: str, account: str) -> str:
    """Return the account that owns a key. The key of a shared image belongs to the owner of the image."""
    parts = key_arn.split(":")
    return parts[4] if len(parts) > 5 else account
