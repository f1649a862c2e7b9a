"""Redistributed by plan: compares releases with what their recipes declare now, and makes exactly the difference.

::

    declare (``declared``) → read (``actual``) → compare (``difference``) → make the changes → read again, compare again

``drift`` ends after the comparison. ``distribute`` is a task (``goldenami.task``) and does its changes in this order:

1. *Images of new targets* are copied from the release's image in the home account, as in a build (``distribute``), and
   read back. Nothing is built.
2. *The manifest* gets a revision with these images. From now on no clean-up deletes them.
3. *Parameters and tags of accounts that may not use the image any more* are deleted, before their access ends.
4. *Fast snapshot restore*, of earlier releases first; then *access, tags, deprecation and grants* of all images.
5. *The manifest* gets a revision with the accounts that may launch each image now.
6. *Tags of shared images* in the accounts that use them.
7. *Parameters* of the version, and of the channels that point to it, and then the launch templates of these channels.

Each step reads what is there. So if the process is killed, ``goldenami resume ID``, or the next ``distribute`` of the
release, does the rest. ``goldenami clean ID`` deletes the copies and grants that no manifest has yet; a change of
permissions is not undone, since the state before was not the declared one.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from functools import partial
from typing import Final

from goldenami import manifest as codec
from goldenami import reconcile, task
from goldenami.aws import images, journals, kms, parameters, snapshots, tags
from goldenami.aws.kinds import kind_of
from goldenami.aws.ledger import Ledger
from goldenami.aws.session import Cloud
from goldenami.aws.tagcalls import tag, untag
from goldenami.each import each
from goldenami.errors import NotFound, TargetsFailed, UsageError
from goldenami.events import Emit, ignore_events
from goldenami.interrupts import Interrupts
from goldenami.journal import Journal, Wait
from goldenami.model import (
    AccessChange,
    Architecture,
    Declaration,
    Environment,
    ImageManifest,
    ManifestImage,
    Place,
    Revision,
    timestamp,
)
from goldenami.nextstep import step
from goldenami.release import actual, consumers, fast_restore, protection, shared_tags
from goldenami.release import targets as modes
from goldenami.release.actual import State
from goldenami.release.catalog import Catalog
from goldenami.release.declared import Declared, declare
from goldenami.release.difference import (
    ALLOWED,
    Change,
    Difference,
    compare,
    of_kind,
    shared_tag_edits,
    wanted_tags,
    why_broken,
)
from goldenami.release.distribute import Distributed, Placed
from goldenami.release.distribute import distribute as copy_to_targets
from goldenami.release.parameters import Parameter, Parameters
from goldenami.release.publish import LOCK_TIMEOUT, At, Publication, by_place, in_order
from goldenami.release.templates import Follower, Templates
from goldenami.release.verify import verify
from goldenami.release.versions import Reference
from goldenami.task import Task
from goldenami.work import Attempts

KIND: Final = "distribute"
_ELSEWHERE: Final = ("parameter", "record", "shared tag")  # kinds that are changed apart from the image
_SOON: Final = timedelta(minutes=2)  # EC2 rounds to the minute, and refuses a time in the past
_WAIT_FOR_OTHERS: Final = 900.0


@dataclass(frozen=True, slots=True)
class Redistributed:
    """The result of ``distribute``.

    ``difference``: what differed before. ``manifest``: the release afterwards. ``failures``: change or target -> reason
    why it was not made; they are all reported by an error, too, if a required target is among them. ``task_id``: None
    if nothing differed, or for a plan.
    """

    difference: Difference
    manifest: ImageManifest
    failures: Mapping[str, str] = field(default_factory=dict)
    task_id: str | None = None


# --- drift ------------------------------------------------------------------------------------------------------------


def find_drift(
    cloud: Cloud, environment: Environment, catalog: Catalog, declarations: Mapping[str, Declaration]
) -> tuple[Difference, ...]:
    """Return the difference of every release that a channel points to, by name and version. Changes nothing.

    ``declarations``: by recipe; the releases of other recipes are left out. Releases of another environment with the
    same catalog are left out, too.
    """
    declared = [
        one
        for name in sorted(declarations)
        for manifest in pointed(catalog, name)
        if manifest.environment == environment.name
        for one in (_declare(catalog, environment, manifest, declarations[name]),)
    ]
    state = actual.read(cloud, environment, catalog, declared)
    return tuple(compare(one, state) for one in declared)


def pointed(catalog: Catalog, name: str) -> list[ImageManifest]:
    """Return the usable releases of a name that a channel points to, newest first."""
    versions = {channel.current for channel in catalog.channels(name)}
    usable = (version for version in catalog.versions(name) if version in versions)
    return [catalog.get(name, v) for v in usable if catalog.marks.why_unusable(name, v) is None]


def _declare(catalog: Catalog, environment: Environment, manifest: ImageManifest, declaration: Declaration) -> Declared:
    channels = [c.channel for c in catalog.channels(manifest.recipe) if c.current == manifest.version]
    evidence = catalog.evidence(manifest.recipe, manifest.version)
    return declare(manifest, declaration, environment, catalog.identity(), channels, evidence)


# --- distribute -------------------------------------------------------------------------------------------------------


def distribute(
    environment: Environment,
    reference: Reference,
    declaration: Declaration,
    *,
    dry_run: bool = False,
    catalog: Catalog | None = None,
    cloud: Cloud | None = None,
    known: Cloud | None = None,
    emit_to: Emit = ignore_events,
) -> Redistributed:
    """Bring a release to the state that its recipe declares now. A second call changes nothing.

    ``dry_run``: only return the difference. ``known``, ``cloud``: as in ``task.run``. An unfinished task of the same
    release is continued first. Raises NotFound if the release does not exist or cannot be used, UsageError if it is of
    another environment, and TargetsFailed if a change was not made; the others are made.
    """
    reading = cloud or known or Cloud.of(environment)
    catalog = catalog or Catalog.of(environment, reading)
    if reference.version is None and reference.channel is None:
        raise UsageError(
            f"{reference} does not name one release", hint=f"Write {reference}@VERSION or {reference}@CHANNEL."
        )
    manifest = catalog.find(reference)
    _refuse(catalog, environment, manifest)
    reading.check_caller()
    if dry_run:
        return Redistributed(_find(reading, environment, catalog, manifest, declaration), manifest)
    arguments = {"name": manifest.recipe, "version": manifest.version}
    builds = journals.open_journals(environment, reading)
    with builds.exclusive(f"{KIND}-{manifest.recipe}", Wait(_WAIT_FOR_OTHERS, reading.clock, reading.sleep)):
        for id in task.unfinished(environment, reading, [KIND], arguments):
            with Interrupts() as interrupts, builds.open(id) as journal:
                again = cloud or reading.with_sleep(interrupts.sleep)
                resume(environment, journal, again, interrupts, declaration, emit_to=emit_to)
        manifest = catalog.get(manifest.recipe, manifest.version)
        difference = _find(reading, environment, catalog, manifest, declaration)
        if difference.in_sync and not difference.unreachable:
            return Redistributed(difference, manifest)
        if not difference.changes:
            raise _failed(manifest, _left(difference))
        _refuse_unsigned(catalog, environment, manifest)
        with task.run(environment, KIND, arguments, cloud=cloud, known=reading, emit_to=emit_to, undo=hand_over) as job:
            return _Work(job, catalog, declaration).run(difference)


def resume(
    environment: Environment,
    journal: Journal,
    cloud: Cloud,
    interrupts: Interrupts,
    declaration: Declaration,
    *,
    emit_to: Emit = ignore_events,
) -> Redistributed:
    """Complete the task of a process that has ended, by what the recipe declares now."""
    catalog = Catalog.of(environment, cloud)
    with task.again(environment, journal, cloud, interrupts, undo=hand_over, emit_to=emit_to) as job:
        manifest = release_of(catalog, job.journal)
        _refuse(catalog, environment, manifest)
        _refuse_unsigned(catalog, environment, manifest)
        difference = _find(cloud, environment, catalog, manifest, declaration)
        return _Work(job, catalog, declaration).run(difference)


def hand_over(job: Task) -> None:
    """Keep what a release has: its images, and the grants and parameters of its accounts. The rest is deleted."""
    job.own(*kept(job.journal, release_of(Catalog.of(job.environment, job.cloud), job.journal)))


def kept(journal: Journal, manifest: ImageManifest) -> frozenset[str]:
    """Return the ids of a task's resources that its release has.

    Grants are among them only if a revision of the manifest names the task. Otherwise nobody would find them when they
    must be revoked; the next run makes those that are needed.
    """
    released = reconcile.released(journal, manifest)
    if is_recorded(manifest, journal.build_id):
        return released
    return released - {resource.id for resource in journal.resources() if resource.kind == "grant"}


def is_recorded(manifest: ImageManifest, task_id: str) -> bool:
    """Return whether a revision of a task exists, so that retirement and later tasks find its grants."""
    return any(revision.task == task_id for revision in manifest.revisions)


def release_of(catalog: Catalog, journal: Journal) -> ImageManifest:
    """Return the release of a task."""
    arguments = journal.header.data["arguments"]
    return catalog.get(arguments["name"], arguments["version"])


def _refuse(catalog: Catalog, environment: Environment, manifest: ImageManifest) -> None:
    catalog.refuse_unusable(manifest)
    if manifest.environment != environment.name:
        raise UsageError(
            f"{manifest.label} is of the environment {manifest.environment!r}, not {environment.name!r}",
            hint=f"Use --environment {manifest.environment}.",
        )


def _refuse_unsigned(catalog: Catalog, environment: Environment, manifest: ImageManifest) -> None:
    """Refuse to change a signed release without a key, if signatures are required: no channel would take it again."""
    signing = environment.signing
    if signing is None or not signing.required or signing.key is not None:
        return
    from goldenami.release.attest import PROVENANCE  # here, because it loads cryptography

    if catalog.document(manifest.recipe, manifest.version, PROVENANCE) is not None:
        raise UsageError(
            f"{manifest.label} is signed, and the environment {environment.name} has no key to sign a change of it",
            hint="Nothing was changed. A change that is not signed would keep the release out of all channels "
            "(signing.required). Run it where signing.key is set.",
        )


def _find(
    cloud: Cloud, environment: Environment, catalog: Catalog, manifest: ImageManifest, declaration: Declaration
) -> Difference:
    declared = _declare(catalog, environment, manifest, declaration)
    return compare(declared, actual.read(cloud, environment, catalog, [declared]))


def _left(difference: Difference, known: Collection[str] = ()) -> dict[str, str]:
    """Return what a run did not change, with the reason. ``known``: targets whose failure is known."""
    left = {str(change): "it is still so" for change in difference.changes if change.resource not in known}
    left |= {text.split()[0]: text for text in difference.broken}
    return left | {str(place): reason for place, reason in difference.unreachable.items()}


def _failed(manifest: ImageManifest, failures: Mapping[str, str]) -> TargetsFailed:
    again = step(KIND, f"{manifest.recipe}@{manifest.version}")
    return TargetsFailed(
        f"{manifest.label} is not distributed as declared: {len(failures)} changes were not made",
        failures=dict(failures),
        hint=f"Remove the causes. Then {again} does the rest. If an image is lost, "
        f"{step('build', manifest.recipe, '--force')} makes a new release.",
    )


class _Work(Attempts):
    """Makes the changes of one release. ``failures``: what was not made -> reason."""

    def __init__(self, job: Task, catalog: Catalog, declaration: Declaration) -> None:
        super().__init__(job.emit)
        self.job = job
        self.cloud = job.cloud
        self.environment = job.environment
        self.catalog = catalog
        self.declaration = declaration
        self.ledger = job.ledger

    def run(self, before: Difference) -> Redistributed:
        """Make all changes, and read again. Raises TargetsFailed if something is not as declared afterwards."""
        self.ledger = self._ledger_for(before.manifest)
        manifest = self._add_images(before.manifest)
        self._end_loans()
        declared = self._declared(manifest)
        state = self._state_of(declared)
        changes = compare(declared, state).changes
        for change in of_kind(changes, "parameter"):
            if change.after is None:
                with self.attempt(f"parameter {change.resource} in {change.place}"):
                    parameters.delete(self.ledger, change.place, change.resource)
        self._change_shared_tags(declared, state, leaving=True)
        self._change_fast_restore(changes)
        self._change_images(declared, changes)
        self._change_grants(changes)
        state = self._state_of(declared)
        declared = self._declared(self._record_access(declared, state))
        after = compare(declared, state)
        tagged = self._change_shared_tags(declared, state, leaving=False)
        if self._publish(declared, after.changes) or tagged:
            after = compare(declared, self._state_of(declared))
        failures = {**_left(after, self.failures), **self.failures}
        if failures:
            raise _failed(manifest, failures)
        return Redistributed(before, declared.manifest, failures, self.job.id)

    def _declared(self, manifest: ImageManifest) -> Declared:
        return _declare(self.catalog, self.environment, manifest, self.declaration)

    def _state_of(self, declared: Declared) -> State:
        return actual.read(self.cloud, self.environment, self.catalog, [declared])

    def _ledger_for(self, manifest: ImageManifest) -> Ledger:
        """Return a ledger whose resources have the tags of the release's other ones."""
        bases = [base.image_id for base in manifest.base.values()]
        every = tags.build_tags(
            recipe=manifest.recipe,
            version=manifest.version,
            build_id=self.job.id,
            own=self.environment.tags,
            git_commit=manifest.git_commit,
            base_ami=bases[0] if len(bases) == 1 else None,
        )
        return Ledger(
            self.cloud,
            self.job.journal,
            {**every, tags.ADDED_TO: manifest.build_id},
            proofs=self.job.ledger.proofs,
            emit=self.job.emit,
            lifetime=self.environment.lifetime,
            began=self.cloud.now(),
        )

    # --- new targets --------------------------------------------------------------------------------------------------

    def _add_images(self, manifest: ImageManifest) -> ImageManifest:
        """Give every target without an image one, and add those that are right to the manifest."""
        declared = self._declared(manifest)
        if not declared.missing:
            return manifest
        found = each(
            [t for t in declared.missing if modes.get_mode(t).owns_image],
            lambda target: kms.resolve(self.cloud, target.place, target.kms_key).arn,
        )
        self.failures |= {target.label: reason for target, reason in found.reasons.items()}
        keys = {**declared.order.keys, **{target.label: arn for target, arn in found.results.items()}}
        targets = [replace(t, required=False) for t in declared.order.targets if t.label not in self.failures]
        # The source of a shared image may have failed. The time of deprecation is set later, with those of all images.
        order = replace(declared.order, targets=tuple(targets), keys=keys, deprecate_at=None)
        ready = [t for t in targets if not (source := modes.get_mode(t).source(t)) or source not in self.failures]
        order = replace(order, home=_source(manifest, self.environment), targets=tuple(ready))
        rows = {(row.place, row.architecture): row for row in manifest.images}
        candidates = {a: rows[order.home, a].image_id for a in declared.architectures}
        there: dict[Place, dict[Architecture, str]] = {}
        for row in manifest.images:
            there.setdefault(row.place, {})[row.architecture] = row.image_id
        with copy_to_targets(self.ledger, order, candidates, emit=self.job.emit, there=there) as copies:
            placed = copies.finish()
        new = [one for one in placed.placed if one.target.place not in there]
        owned = tuple(one for one in new if modes.get_mode(one.target).owns_image)
        verified = verify(self.ledger, order, Distributed(owned, placed.failures), emit=self.job.emit)
        self.failures |= verified.failures
        added = [*verified.images, *self._borrowed(new, [*manifest.images, *verified.images])]
        if not added:
            return manifest
        revised = self._revise(manifest, (*manifest.images, *added), added=added)
        environment = self.environment
        publication = Publication(
            self.ledger, self.catalog, revised, environment.targets, self.job.emit, environment.informed
        )
        publication.keep(environment.parameter_prefix)
        return revised

    def _borrowed(self, placed: Iterable[Placed], rows: Sequence[ManifestImage]) -> list[ManifestImage]:
        """Return the rows of targets that use the image of another account, if they see it."""
        of_image = {row.image_id: row for row in rows if modes.owns(row)}
        found = []
        for one in placed:
            row = of_image.get(one.image_id)
            if modes.get_mode(one.target).owns_image or row is None:
                continue
            place = one.target.place
            if self.cloud.look(partial(images.describe_many, self.cloud, place, [one.image_id])):
                mode = one.target.mode
                found.append(replace(row, account=place.account, region=place.region, mode=mode, shared_with=()))
            else:
                self.failures[one.target.label] = f"{one.image_id} is not visible to account {place.account}"
        return found

    def _end_loans(self) -> None:
        """Revoke the grants with which other accounts copied the image of the home account. Their permission on the
        image is found as a difference."""
        for resource in self.job.journal.resources():
            if resource.key.startswith(reconcile.TEMPORARY) and resource.kind == "grant":
                with self.attempt(f"grant {resource.id} in {resource.place}"):
                    parent = kind_of("grant").parent(resource.request)
                    self.ledger.delete("grant", resource.place, resource.id, parent=parent)

    # --- images -------------------------------------------------------------------------------------------------------

    def _change_images(self, declared: Declared, changes: Collection[Change]) -> None:
        """Change access, tags, IMDS and deprecation, for all images at once."""
        by_image: dict[tuple[Place, str], list[Change]] = {}
        for change in changes:
            if change.image_id and change.kind not in _ELSEWHERE and not _is_fast_restore(change):
                by_image.setdefault((change.place, change.image_id), []).append(change)
        done = each(by_image, lambda at: self._change_image(at[0], by_image[at], declared.order.deprecate_at))
        self.failures |= {f"{id} in {place}": reason for (place, id), reason in done.reasons.items()}

    def _change_image(self, place: Place, changes: Collection[Change], at: datetime | None) -> None:
        resources = dict.fromkeys(change.resource for change in changes)
        for resource in resources:
            of_one = [change for change in changes if change.resource == resource]
            self._permit(place, resource, of_kind(of_one, "launch permission", "snapshot permission"))
            wanted = {change.what: change.after for change in of_kind(of_one, "tag") if change.after is not None}
            if wanted:
                tag(self.ledger, f"tags/{place}/{resource}", place, resource, wanted)
            for change in of_kind(of_one, "deregistration protection"):
                self._protect(place, resource, change)
            # The tag that says who protects an image is deleted after the protection, and not if a cooldown begins.
            removed = {c.what: str(c.before) for c in of_kind(of_one, "tag") if c.after is None}
            if tags.PROTECTION in removed and self._lift(place, resource):
                del removed[tags.PROTECTION]
            if removed:
                untag(self.ledger, f"untag/{place}/{resource}", place, resource, removed)
            if of_kind(of_one, "imds"):
                images.require_imds_v2(self.ledger, f"imds/{place}/{resource}", place, resource)
            if of_kind(of_one, "deprecation"):
                self._deprecate(place, resource, at)

    def _change_fast_restore(self, changes: Iterable[Change]) -> None:
        """Enable and disable fast snapshot restore. Snapshots of earlier releases are first: AWS has a small quota."""
        by_snapshot: dict[tuple[Place, str], list[Change]] = {}
        for change in sorted(filter(_is_fast_restore, changes), key=lambda change: change.image_id):
            by_snapshot.setdefault((change.place, change.resource), []).append(change)
        for (place, id), every in by_snapshot.items():
            zones, tagged = of_kind(every, "fast restore"), of_kind(every, "tag")
            with self.attempt(f"fast restore of {id} in {place}"):
                fast_restore.change(
                    self.ledger,
                    place,
                    id,
                    enable=[change.what for change in zones if change.after is not None],
                    disable=[change.what for change in zones if change.after is None],
                    before=tagged[0].before if tagged else None,
                    after=tagged[0].after if tagged else None,
                )

    def _change_shared_tags(self, declared: Declared, state: State, *, leaving: bool) -> bool:
        """Change the tags of shared images in the accounts that use them, or in those that lose them. Return whether
        there were any."""
        wanted = {}
        for one in declared.images:
            read = state.images.get(one.image_id)
            if read is None or why_broken(one, read, state) is not None:
                continue
            for place, id, _ in shared_tag_edits(declared, one, read, state):
                if (place.account not in one.users) == leaving:
                    wanted[place, id] = wanted_tags(declared, one, place.account)
        done = each(wanted, lambda at: shared_tags.ensure(self.ledger, *at, wanted[at]))
        self.failures |= {f"tags of {id} in {place}": reason for (place, id), reason in done.reasons.items()}
        return bool(wanted)

    def _permit(self, place: Place, resource: str, changes: Collection[Change]) -> None:
        add = [change.what for change in changes if change.after == ALLOWED]
        remove = [change.what for change in changes if change.after is None]
        for number, (more, less) in enumerate(((add, ()), ((), remove))):
            if not more and not less:
                continue
            key = f"access/{number}/{place}/{resource}"
            if resource.startswith("ami-"):
                images.change_launchers(self.ledger, key, place, resource, add=more, remove=less)
            elif more:
                snapshots.share(self.ledger, key, place, resource, more)
            else:
                snapshots.unshare(self.ledger, key, place, resource, less)

    def _protect(self, place: Place, image_id: str, change: Change) -> None:
        if change.after is not None:
            key = f"protect/{place}/{image_id}"
            images.protect(self.ledger, key, place, image_id, cooldown=change.after == "with-cooldown")

    def _lift(self, place: Place, resource: str) -> bool:
        """End the protection that goldenami gave an image. Return whether EC2 still refuses to deregister it: the tag
        tells until when."""
        image = images.describe_many(self.cloud, place, [resource]).get(resource) if resource[:4] == "ami-" else None
        return image is not None and protection.lift(self.ledger, place, image, self.cloud.now()) is not None

    def _deprecate(self, place: Place, image_id: str, at: datetime | None) -> None:
        key = f"deprecate/{place}/{image_id}"
        if at is None:
            images.undeprecate(self.ledger, f"un{key}", place, image_id)
        else:
            images.deprecate(self.ledger, key, place, image_id, max(at, self.cloud.now() + _SOON))

    def _change_grants(self, changes: Collection[Change]) -> None:
        """Create and revoke the grants of accounts, and create those of consumers."""
        for change in of_kind(changes, "grant"):
            place, key, principal = change.place, change.resource, change.what
            with self.attempt(str(change)):
                if change.after is None:
                    kms.revoke_grant(self.ledger, place, kms_key_arn=key, grant_id=str(change.before))
                else:
                    name = f"grant/{place}/{key}/{principal}"
                    kms.create_grant(self.ledger, name, place, kms_key_arn=key, grantee=principal)
        missing = [consumers.Need(c.place, c.resource, c.what) for c in of_kind(changes, "consumer")]
        known = {account.id for account in self.environment.accounts.values()}
        wanted = [need for need in missing if need.place.account in known]
        refused = consumers.create_grants(self.ledger, self.environment, self.catalog.ensure_identity(), wanted)
        self.failures |= {str(need): reason for need, reason in refused.items()}

    # --- the manifest -------------------------------------------------------------------------------------------------

    def _record_access(self, declared: Declared, state: State) -> ImageManifest:
        """Write into the manifest who may launch each image now, as it was read back. Leaving rows go."""
        manifest = declared.manifest
        rows: list[ManifestImage] = []
        own = {one.image_id: one for one in declared.images}
        allowed = {
            id: one.launch_permissions
            for id, one in state.images.items()
            if id in own and why_broken(own[id], one, state) is None
        }
        removed = []
        for row in manifest.images:
            if row in declared.leaving and row.account not in allowed.get(row.image_id, {row.account}):
                removed.append(row)
            elif modes.owns(row) and row.image_id in allowed:
                rows.append(replace(row, shared_with=tuple(sorted(allowed[row.image_id]))))
            else:
                rows.append(row)
        made = any(
            r.kind == "grant" and not r.key.startswith(reconcile.TEMPORARY) for r in self.job.journal.resources()
        )
        if tuple(rows) == manifest.images and (not made or is_recorded(manifest, self.job.id)):
            return manifest
        return self._revise(manifest, rows, removed=removed)

    def _revise(
        self,
        manifest: ImageManifest,
        rows: Sequence[ManifestImage],
        *,
        added: Sequence[ManifestImage] = (),
        removed: Sequence[ManifestImage] = (),
    ) -> ImageManifest:
        before = {(row.place, row.image_id): row.shared_with for row in manifest.images}
        access = tuple(
            AccessChange(row.image_id, before[row.place, row.image_id], row.shared_with)
            for row in rows
            if before.get((row.place, row.image_id), row.shared_with) != row.shared_with
        )
        revision = Revision(
            at=timestamp(self.cloud.now()),
            task=self.job.id,
            by=str(self.job.journal.header.data.get("caller", "")),
            added=tuple(f"{row.place} {row.architecture} {row.image_id}" for row in added),
            removed=tuple(removed),
            access=access,
        )
        revised = codec.canonical(replace(manifest, images=tuple(rows), revisions=(*manifest.revisions, revision)))
        signing = self.environment.signing
        if signing is not None:
            from goldenami.release.attest import attest_revision  # here, because it loads cryptography

            unsigned = attest_revision(self.catalog, signing, self.cloud, manifest, revised)
            if unsigned:
                self.job.note(unsigned, "warning")
        self.catalog.revise(revised)
        return self.catalog.get(manifest.recipe, manifest.version)

    # --- parameters ---------------------------------------------------------------------------------------------------

    def _publish(self, declared: Declared, changes: Collection[Change]) -> bool:
        """Set the parameters and launch templates that have another value, those of each channel while it points to the
        release. Return whether there were any."""
        manifest = declared.manifest
        changed = {(c.place, c.resource) for c in of_kind(changes, "parameter")}
        follow = {(c.place, c.resource) for c in of_kind(changes, "launch template")}
        for which, every in declared.parameters.items():
            chosen = [p for p in every if (p.place, p.name) in changed]
            followers = [f for f in declared.templates.get(which, ()) if (f.place, f.template) in follow]
            if (chosen or followers) and which in declared.channels:
                with self.catalog.publishing(manifest.recipe, which, timeout=LOCK_TIMEOUT):
                    pointer = self.catalog.channel(manifest.recipe, which)
                    if pointer is not None and pointer.current == manifest.version:
                        self._set(manifest, chosen)
                        self._follow(followers)
            elif chosen:
                self._set(manifest, chosen)
        return bool(changed or follow)

    def _set(self, manifest: ImageManifest, chosen: Iterable[Parameter]) -> None:
        work = Parameters(self.ledger, self.catalog, manifest)

        def set_in(at: At) -> None:
            found = work.read(at.parameters)
            for parameter in at.parameters:
                work.refuse(parameter, found.get(parameter.name))
            for parameter in at.parameters:
                work.move(parameter, found.get(parameter.name))
            work.wait(at.parameters)

        for wave in in_order(chosen):
            for at, reason in each(by_place(wave), set_in).reasons.items():
                self.failures |= {f"parameter {p.name} in {at.place}": reason for p in at.parameters}

    def _follow(self, followers: Iterable[Follower]) -> None:
        work = Templates(self.ledger, self.job.emit)

        def follow(follower: Follower) -> None:
            work.prepare(follower)
            work.switch(follower)

        done = each(followers, follow)
        self.failures |= {f"launch template {f.template} in {f.place}": r for f, r in done.reasons.items()}


def _is_fast_restore(change: Change) -> bool:
    return change.kind == "fast restore" or (change.kind == "tag" and change.what == tags.FAST_RESTORE)


def _source(manifest: ImageManifest, environment: Environment) -> Place:
    """Return the place of the home account whose images are copied: the home region, or another one that has all."""
    architectures = {row.architecture for row in manifest.images}
    owned: dict[Place, set[str]] = {}
    for row in manifest.images:
        if modes.owns(row) and row.account == environment.home.id:
            owned.setdefault(row.place, set()).add(row.architecture)
    complete = sorted(place for place, found in owned.items() if found == architectures)
    if environment.home_place in complete:
        return environment.home_place
    if not complete:
        raise NotFound(
            f"{manifest.label} has no image in the home account {environment.home.id}, so there is nothing to copy",
            hint=f"Build it again: {step('build', manifest.recipe, '--force')}.",
        )
    return complete[0]
