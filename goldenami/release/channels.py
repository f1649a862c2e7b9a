"""Channels after a build: promote a release, roll a channel back, revoke a release, and end a revocation.

Each command is a task (``goldenami.task``) and makes no image. The parameters of a channel, and the launch templates
that follow it, move in all targets or in none, as in a build (``publish``): first all of them are checked, then all are
moved, and the pointer in the catalog is last. If one of them cannot be moved, or the command is interrupted, all get
their earlier values. If the process is killed, ``goldenami resume ID`` completes the move and ``goldenami clean ID``
undoes it; the next move of the same channel also sets all its parameters.

A revocation only goes forward, because its undo would offer a bad image again: the mark in the catalog is first, so
that no reference resolves to the release; then each channel that points to it goes back to the release before; then the
launch permissions and the sharing of snapshots end, and the images are disabled. A second call does what is left.
"""

from __future__ import annotations

import functools
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from typing import cast

from goldenami import task
from goldenami.aws import snapshots, tags
from goldenami.aws.ledger import Ledger
from goldenami.aws.session import Cloud
from goldenami.each import Failures
from goldenami.errors import Busy, ConditionsUnmet, GoldenAmiError, NotFound, TargetsFailed, UsageError
from goldenami.events import Emit, ignore_events
from goldenami.interrupts import Interrupts
from goldenami.journal import Journal
from goldenami.model import ChannelRules, Environment, ImageManifest, Place
from goldenami.nextstep import step
from goldenami.notify import delivery as notify
from goldenami.release import notices, templates, usage
from goldenami.release.catalog import Catalog
from goldenami.release.catalogfiles import Channel, MoveAction
from goldenami.release.conditions import unmet, unmet_by_rollback
from goldenami.release.publish import LOCK_TIMEOUT, Publication
from goldenami.release.removal import Removal
from goldenami.release.unchanged import missing_images
from goldenami.release.usage import Estate
from goldenami.release.versions import Reference
from goldenami.task import Task


@dataclass(frozen=True, slots=True)
class Moved:
    """A channel after a move. ``before``: the version that it pointed to; None if it did not exist. ``changed``: False
    if it pointed to the release already, and all its parameters did. ``failures``: label -> reason, for best-effort
    targets whose parameters could not be set. ``unsent``: receivers of notifications that did not get one -> reason.
    """

    channel: Channel
    manifest: ImageManifest
    before: str | None
    changed: bool
    task_id: str | None = None
    failures: Mapping[str, str] = field(default_factory=dict)
    unsent: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Revoked:
    """The result of a revocation, or of its end.

    ``releases``: those that were revoked or restored. ``moved``: channel -> the version that it points to now, or None
    if it has no earlier release and its parameters still name the revoked one. ``children``: releases that were built
    on a revoked one and are not revoked. ``uses``: what uses the images. ``images``: image ids that were disabled or
    enabled. ``left``: step -> reason of its failure. ``unreachable``: places that did not answer -> reason.
    """

    releases: tuple[ImageManifest, ...]
    moved: Mapping[str, str | None]
    children: tuple[str, ...]
    uses: tuple[str, ...]
    images: tuple[str, ...]
    left: Mapping[str, str]
    unreachable: Mapping[Place, str]
    task_id: str
    unsent: Mapping[str, str] = field(default_factory=dict)


# --- promote and roll back --------------------------------------------------------------------------------------------


def promote(
    environment: Environment,
    reference: Reference,
    channel: str,
    *,
    reason: str | None = None,
    partial: bool = False,
    catalog: Catalog | None = None,
    cloud: Cloud | None = None,
    known: Cloud | None = None,
    emit_to: Emit = ignore_events,
) -> Moved:
    """Point a channel to the release of a reference (of its version or its channel). A second call changes nothing.

    ``partial``: move it also if the release has no image in some places of the channel; the parameters there keep their
    values. ``known``, ``cloud``: as in ``task.run``. Raises ConditionsUnmet if conditions of goldenami.yaml are unmet,
    NotFound if the release does not exist, is retired or revoked, or lacks an image, and TargetsFailed if a parameter
    cannot be moved in a required target; all have their earlier values then.
    """
    if reference.version is None and reference.channel is None:
        raise UsageError(
            f"{reference} does not name one release", hint=f"Write {reference}@VERSION or {reference}@CHANNEL."
        )
    mover = _Mover(environment, catalog, cloud, known, emit_to)
    manifest = mover.catalog.find(reference)
    return mover.move(manifest, channel, "promote", reason, partial=partial)


def rollback(
    environment: Environment,
    name: str,
    channel: str,
    *,
    to: str | None = None,
    reason: str | None = None,
    partial: bool = False,
    catalog: Catalog | None = None,
    cloud: Cloud | None = None,
    known: Cloud | None = None,
    emit_to: Emit = ignore_events,
) -> Moved:
    """Point a channel to the release before the current one, or to the version ``to``, which must have been in it.

    Builds with the inputs of the release that is left do not move the channel to it again. Raises as ``promote`` does;
    only the conditions ``approvers`` and ``reason`` count.
    """
    mover = _Mover(environment, catalog, cloud, known, emit_to)
    pointer = mover.catalog.existing_channel(name, channel)
    if to is None:
        to = earlier_version(mover.catalog, pointer)
        if to is None:
            raise NotFound(
                f"{name}@{channel} has no earlier release that can be used",
                hint=f"{step('history', f'{name}@{channel}')} shows its moves. "
                f"{step('promote', f'{name}@VERSION', '--to', channel)} points it to any release.",
            )
    elif all(move.version != to for move in pointer.history):
        raise NotFound(
            f"{name} {to} was never in {channel}",
            hint=f"{step('history', f'{name}@{channel}')} shows the versions; "
            f"{step('promote', f'{name}@{to}', '--to', channel)} moves the channel to another release.",
        )
    return mover.move(mover.catalog.get(name, to), channel, "rollback", reason, partial=partial)


def move_by_build(
    environment: Environment, catalog: Catalog, manifest: ImageManifest, channel: str, *, cloud: Cloud, emit_to: Emit
) -> Moved:
    """Point a channel to a release that has the inputs of a build, instead of building it again."""
    return _Mover(environment, catalog, None, cloud, emit_to).move(manifest, channel, "build", None)


class _Mover:
    def __init__(
        self,
        environment: Environment,
        catalog: Catalog | None,
        cloud: Cloud | None,
        known: Cloud | None,
        emit_to: Emit,
    ) -> None:
        self.environment = environment
        self._judged: Sequence[str] | None = None
        self._given, self._known = cloud, known
        self.cloud = cloud or known or Cloud.of(environment)
        self.catalog = catalog or Catalog.of(environment, self.cloud)
        self._emit = emit_to

    def move(
        self,
        manifest: ImageManifest,
        channel: str,
        action: MoveAction,
        reason: str | None,
        *,
        partial: bool = False,
    ) -> Moved:
        name = manifest.recipe
        caller = self.cloud.check_caller().arn
        self.catalog.refuse_unusable(manifest)
        pointer = self.catalog.channel(name, channel)
        self._check(manifest, channel, action, caller, reason)
        self._refuse_missing(manifest, pointer, partial=partial)
        arguments = {
            "name": name,
            "version": manifest.version,
            "channel": channel,
            "before": pointer.current if pointer is not None else None,
            "reason": reason,
        }
        with (
            task.run(
                self.environment,
                action,
                arguments,
                cloud=self._given,
                known=self._known or self.cloud,
                emit_to=self._emit,
                undo=put_back,
            ) as job,
            self.catalog.publishing(name, channel, timeout=LOCK_TIMEOUT),
        ):
            self._check(manifest, channel, action, caller, reason)  # another process may have moved a channel meanwhile
            _conclude_earlier(job, name, channel)
            moved = _move(job, self.catalog, manifest, caller)
        return replace(moved, unsent=notify.unsent(job.journal))

    def _check(
        self, manifest: ImageManifest, channel: str, action: MoveAction, caller: str, reason: str | None
    ) -> None:
        rules = self.environment.channels.get(channel, ChannelRules())
        where = f"channels.{channel}"
        if action == "rollback":
            reasons = unmet_by_rollback(rules, caller=caller, reason=reason)
        else:
            if action == "build" and self.environment.vulnerabilities.builds:
                rules = replace(rules, vulnerabilities=True)  # the build that this move replaces would end
                where += " and vulnerabilities"
            channels = {one.channel: one for one in self.catalog.channels(manifest.recipe)}
            reasons = unmet(
                rules,
                manifest,
                channels,
                caller=caller,
                reason=reason,
                now=self.cloud.now(),
                unsigned=self._signature_problems(manifest, rules),
                vulnerabilities=functools.partial(self._vulnerabilities, manifest),
            )
        if reasons:
            raise ConditionsUnmet(
                f"{manifest.label} cannot move into {channel}",
                reasons=reasons,
                hint=f"The conditions are in goldenami.yaml, in {where} of the environment {self.environment.name}.",
            )

    def _signature_problems(self, manifest: ImageManifest, rules: ChannelRules) -> list[str]:
        """Return what is wrong with the signature of a release, if its environment or the channel requires one."""
        signing = self.environment.signing
        if signing is None or not (signing.required or rules.signature):
            return []
        from goldenami.evidence import signing_keys  # here, because few environments need cryptography
        from goldenami.release import attest

        trusted = signing_keys.trusted_keys(signing, self.cloud)
        return list(map(str, attest.check(self.catalog, manifest.recipe, manifest.version, trusted).deviations))

    def _vulnerabilities(self, manifest: ImageManifest) -> Sequence[str]:
        """Return what is not accepted. It is looked for once: the second check of a move is some seconds later."""
        if self._judged is None:
            from goldenami.release import scan  # here, because few environments name feeds

            policy = self.environment.vulnerabilities
            self._judged = scan.unmet_by_release(policy, self.catalog, manifest, self.cloud.now())
        return self._judged

    def _refuse_missing(self, manifest: ImageManifest, pointer: Channel | None, *, partial: bool) -> None:
        best_effort = {target.place for target in self.environment.targets if not target.required}
        missing, unreachable = missing_images(self.cloud, manifest, {row.place for row in manifest.images})
        failed = {str(place): reason for place, reason in unreachable.items() if place not in best_effort}
        if failed:
            raise TargetsFailed(
                f"{manifest.label} was not moved: its images could not be checked in {', '.join(sorted(failed))}",
                failures=failed,
                hint="Nothing was changed. Remove the cause, and try again.",
            )
        if missing:
            rows = ", ".join(f"{row.image_id} in {row.place}" for row in missing)
            raise NotFound(
                f"{manifest.label} cannot be used everywhere: not available: {rows}",
                hint=f"Build it again: {step('build', manifest.recipe, '--force')}.",
            )
        if pointer is None or partial or pointer.current == manifest.version:
            return
        current = self.catalog.get(manifest.recipe, pointer.current)
        without = {(row.place, row.architecture) for row in current.images}
        without -= {(row.place, row.architecture) for row in manifest.images}
        if without:
            listed = ", ".join(f"{place} ({architecture})" for place, architecture in sorted(without))
            raise NotFound(
                f"{manifest.label} has no image in {listed}, which are places of {pointer.name}@{pointer.channel}",
                hint="With --partial, the channel moves in the other places, and the parameters there keep the image "
                f"of {pointer.current}.",
            )


def earlier_version(catalog: Catalog, pointer: Channel) -> str | None:
    """Return the version that a channel pointed to before its current one and that is neither revoked nor retired.

    Versions that the channel left by a rollback or a revocation do not count.
    """
    numbers = [number for number, move in enumerate(pointer.history) if move.version == pointer.current]
    for move in reversed(pointer.history[: numbers[0] if numbers else None]):
        usable = catalog.marks.why_unusable(pointer.name, move.version) is None
        if usable and move.version != pointer.current and pointer.rolled_back(move.version) is None:
            return move.version
    return None


def _move(job: Task, catalog: Catalog, manifest: ImageManifest, caller: str, *, again: bool = False) -> Moved:
    """Move the channel of a task, inside its lock. ``again``: an earlier process may have moved it already."""
    channel = str(job.arguments["channel"])
    pointer, sent = catalog.channel(manifest.recipe, channel), _puts(job)
    moved, failures = _switch(job, catalog, manifest, channel, caller, job.arguments["reason"])
    before = pointer.current if pointer is not None else None
    changed = moved != pointer or _puts(job) > sent
    if changed or again:
        notices.moved(job, manifest, channel, job.arguments["before"], caller)
    return Moved(moved, manifest, before, changed, job.id, failures)


def _puts(job: Task) -> int:
    """Return how many calls of a task wrote parameters or launch templates."""
    return sum(len(job.journal.calls(kind)) for kind in ("parameter", "parameter-value", *templates.KINDS))


def _switch(
    job: Task, catalog: Catalog, manifest: ImageManifest, channel: str, caller: str, reason: str | None
) -> tuple[Channel, Mapping[str, str]]:
    """Point the parameters of a channel, and then its pointer, to a release. Returns the channel, and label -> reason
    for the best-effort targets that failed."""
    publication = _publication(job, catalog, manifest)
    with publication.channel_parameters_moved(job.environment.parameter_prefix, channel):
        moved = catalog.move(
            manifest.recipe,
            channel,
            manifest.version,
            now=job.cloud.now(),
            build_id=job.id,
            action=cast(MoveAction, job.kind),
            by=caller,
            reason=reason,
        )
    return moved, publication.failures


def _publication(job: Task, catalog: Catalog, manifest: ImageManifest) -> Publication:
    # A parameter that the task creates has the tags of those that a build creates.
    more = {tags.RECIPE: manifest.recipe, tags.VERSION: manifest.version}
    ledger = Ledger(
        job.cloud,
        job.journal,
        {**job.ledger.tags, **more},
        proofs=job.ledger.proofs,
        emit=job.emit,
        lifetime=job.environment.lifetime,
    )
    environment = job.environment
    return Publication(
        ledger,
        catalog,
        manifest,
        environment.targets,
        job.emit,
        environment.informed,
        environment.launch_templates,
    )


def _conclude_earlier(job: Task, name: str, channel: str) -> None:
    """End the tasks of killed processes that moved the same channel: this move sets all its parameters."""
    for id in task.unfinished(job.environment, job.cloud, task.MOVES, {"name": name, "channel": channel}):
        if id != job.id:
            with suppress(Busy):  # its process waits for the lock of the channel
                task.conclude_one(job.environment, job.cloud, id, emit_to=job.emit)


# --- after a killed process -------------------------------------------------------------------------------------------


def put_back(job: Task) -> None:
    """Restore the parameters of a channel that a task did not move everywhere. Does nothing if the channel moved.

    Raises TargetsFailed with the targets whose parameters could not be restored.
    """
    with _catalog_of(job) as (catalog, manifest, channel):
        refused = _publication(job, catalog, manifest).put_back(job.environment.parameter_prefix, channel)
    if refused:
        raise TargetsFailed(
            f"{manifest.recipe}@{channel} was not restored in {', '.join(sorted(refused))}",
            failures=refused,
            hint=f"Remove the cause; then {step('clean', job.id)}, or {step('resume', job.id)}.",
        )


def resume(environment: Environment, journal: Journal, cloud: Cloud, interrupts: Interrupts, *, emit_to: Emit) -> Moved:
    """Complete the move of a channel whose process was killed. The conditions were checked when it began."""
    with (
        task.again(environment, journal, cloud, interrupts, undo=put_back, emit_to=emit_to) as job,
        _catalog_of(job) as (catalog, manifest, _),
    ):
        catalog.refuse_unusable(manifest)
        moved = _move(job, catalog, manifest, str(journal.header.data.get("caller", "")), again=True)
    return replace(moved, unsent=notify.unsent(job.journal))


@contextmanager
def _catalog_of(job: Task) -> Iterator[tuple[Catalog, ImageManifest, str]]:
    """Lock the channel of a task. Yields its catalog, its release and its channel."""
    catalog = Catalog.of(job.environment, job.cloud)
    name, channel = str(job.arguments["name"]), str(job.arguments["channel"])
    with catalog.publishing(name, channel, timeout=LOCK_TIMEOUT):
        yield catalog, catalog.get(name, str(job.arguments["version"])), channel


# --- revoke and restore -----------------------------------------------------------------------------------------------


def revoke(
    environment: Environment,
    name: str,
    version: str,
    *,
    reason: str,
    cascade: bool = False,
    catalog: Catalog | None = None,
    cloud: Cloud | None = None,
    known: Cloud | None = None,
    emit_to: Emit = ignore_events,
) -> Revoked:
    """Revoke a release, and with ``cascade`` all releases that were built on it. A second call does what is left.

    One failure does not stop the other steps; it is listed in ``left``. Raises ConditionsUnmet if the caller is none of
    the approvers of a channel that would move.
    """
    known = cloud or known or Cloud.of(environment)
    catalog = catalog or Catalog.of(environment, known)
    first = catalog.get(name, version)
    children = children_of(catalog, first)
    chosen = (first, *children) if cascade else (first,)
    caller = known.check_caller().arn
    _check_revocation(environment, catalog, chosen, caller, reason)
    arguments = {"releases": [one.label for one in chosen], "reason": reason}
    with task.run(environment, "revoke", arguments, cloud=cloud, known=known, emit_to=emit_to) as job:
        now = job.cloud.now()
        for manifest in chosen:
            catalog.marks.revoke(manifest.recipe, manifest.version, reason, caller, now)
        failures = Failures[str]()
        moved: dict[str, str | None] = {}
        for manifest in chosen:
            for pointer in catalog.channels(manifest.recipe):
                if pointer.current == manifest.version:
                    what = f"{pointer.name}@{pointer.channel}"
                    with failures.of(what):
                        moved[what] = _move_away(job, catalog, pointer, caller, reason)
        for manifest in chosen:
            catalog.refresh_channels(manifest.recipe, manifest.version)
        estate = _survey(job, chosen)
        removal = Removal(job, catalog, now)
        disabled: list[str] = []
        for manifest in chosen:
            disabled += _disable(removal, manifest, estate)
            left = {**failures.reasons, **removal.failures}
            if not left and not estate.unreachable:
                catalog.marks.finish_revocation(manifest.recipe, manifest.version, now)
        prefix = environment.parameter_prefix
        uses = dict.fromkeys(use for manifest in chosen for use in usage.uses_of(estate, manifest, prefix))
        notices.revoked(job, chosen, moved, caller, {**failures.reasons, **removal.failures})
        revoked = Revoked(
            chosen,
            moved,
            () if cascade else tuple(child.label for child in children),
            tuple(uses),
            tuple(disabled),
            {**failures.reasons, **removal.failures},
            estate.unreachable,
            job.id,
        )
    return replace(revoked, unsent=notify.unsent(job.journal))


def restore(
    environment: Environment,
    name: str,
    version: str,
    *,
    reason: str | None = None,
    catalog: Catalog | None = None,
    cloud: Cloud | None = None,
    known: Cloud | None = None,
    emit_to: Emit = ignore_events,
) -> Revoked:
    """End the revocation of a release: enable its images, share them as its manifest says, and resolve it again.

    Channels do not move. The mark ends last, and only if everything succeeded. Raises NotFound if the release is not
    revoked.
    """
    known = cloud or known or Cloud.of(environment)
    catalog = catalog or Catalog.of(environment, known)
    manifest = catalog.get(name, version)
    if catalog.marks.revocation(name, version) is None:
        raise NotFound(f"{manifest.label} is not revoked", hint=f"{step('history', name)} shows what happened to it.")
    caller = known.check_caller().arn
    arguments = {"releases": [manifest.label], "reason": reason}
    with task.run(environment, "restore", arguments, cloud=cloud, known=known, emit_to=emit_to) as job:
        now = job.cloud.now()
        estate = _survey(job, [manifest])
        removal = Removal(job, catalog, now)
        enabled: list[str] = []
        for place, image in usage.own_images(manifest, estate):
            id = str(image["ImageId"])
            with removal.attempt(f"enable {id} in {place}"):
                removal.enable(manifest, place, id, disabled=image.get("State") == "disabled")
                enabled.append(id)
        lost = usage.ids_of(manifest) - {str(image["ImageId"]) for _, image in usage.own_images(manifest, estate)}
        if lost and not estate.unreachable:
            removal.failures[manifest.label] = f"these images do not exist any more: {', '.join(sorted(lost))}"
        if not removal.failures and not estate.unreachable:
            catalog.marks.restore(name, version, caller, now, reason)
            catalog.refresh_channels(name, version)
            notices.restored(job, manifest, caller)
        restored = Revoked((manifest,), {}, (), (), tuple(enabled), removal.failures, estate.unreachable, job.id)
    return replace(restored, unsent=notify.unsent(job.journal))


def children_of(catalog: Catalog, manifest: ImageManifest) -> tuple[ImageManifest, ...]:
    """Return the releases that were built on a release, directly or through others, and that are still usable."""
    found: dict[str, ImageManifest] = {}
    parents = {manifest.label}
    every = [
        one
        for name in catalog.names()
        for version in catalog.versions(name)
        if catalog.marks.why_unusable(name, version) is None
        for one in (catalog.get(name, version),)
    ]
    while parents:
        children = [one for one in every if {base.release for base in one.base.values()} & parents]
        parents = {child.label for child in children} - found.keys()
        found |= {child.label: child for child in children}
    return tuple(found.values())


def _check_revocation(
    environment: Environment, catalog: Catalog, manifests: Iterable[ImageManifest], caller: str, reason: str
) -> None:
    if not reason.strip():
        raise UsageError(
            "--reason is empty", hint="Write what is wrong with the release. Everyone who asks for it sees it."
        )
    reasons = {
        f"{channel.name}@{channel.channel}: {text}"
        for manifest in manifests
        for channel in catalog.channels(manifest.recipe)
        if channel.current == manifest.version and (rules := environment.channels.get(channel.channel)) is not None
        for text in unmet_by_rollback(rules, caller=caller, reason=reason)
    }
    if reasons:
        raise ConditionsUnmet(
            "the release cannot be revoked",
            reasons=sorted(reasons),
            hint=f"The conditions are in goldenami.yaml, in channels of the environment {environment.name}.",
        )


def _move_away(job: Task, catalog: Catalog, pointer: Channel, caller: str, reason: str) -> str | None:
    """Point a channel to its last usable release before the current one. Returns its version, or None."""
    name, channel = pointer.name, pointer.channel
    with catalog.publishing(name, channel, timeout=LOCK_TIMEOUT):
        earlier = earlier_version(catalog, pointer)
        if earlier is None:
            job.note(f"{name}@{channel} has no earlier release: its parameters keep the revoked images", "warning")
            return None
        manifest = catalog.get(name, earlier)
        _, failures = _switch(job, catalog, manifest, channel, caller, reason)
        if failures:
            raise TargetsFailed(f"{name}@{channel} did not move everywhere", failures=dict(failures))
        return earlier


def _survey(job: Task, manifests: Collection[ImageManifest]) -> Estate:
    ids = frozenset().union(*(usage.ids_of(manifest) for manifest in manifests))
    return usage.survey(job.cloud, usage.places_of(job.environment, manifests), ids)


def _disable(removal: Removal, manifest: ImageManifest, estate: Estate) -> list[str]:
    """End the sharing of a release's snapshots and disable its images. Returns the ids of the disabled images."""
    disabled = []
    for place, image in usage.own_images(manifest, estate):
        id = str(image["ImageId"])
        if image.get("State") == "available":
            with removal.attempt(f"disable {id} in {place}"):
                removal.disable(place, id)
                disabled.append(id)
        for snapshot in snapshots.of_image(image):
            with removal.attempt(f"end the sharing of {snapshot} in {place}"):
                accounts = snapshots.volume_permissions(removal.cloud, place, snapshot) - {place.account}
                if accounts:
                    snapshots.unshare(removal.ledger, f"unshare/{place}/{snapshot}", place, snapshot, accounts)
    return disabled


def failed(done: Revoked, what: str, *options: str) -> GoldenAmiError | None:
    """Return an error with all failures of a revocation or of its end, or None. ``options``: of the command, which
    does what is left if it is run again."""
    if not done.left and not done.unreachable:
        return None
    again = step(what, f"{done.releases[0].recipe}@{done.releases[0].version}", *options)
    failures = {**done.left, **{str(place): reason for place, reason in done.unreachable.items()}}
    return TargetsFailed(
        f"{', '.join(one.label for one in done.releases)}: {len(failures)} steps of the command `{what}` failed",
        failures=failures,
        hint=f"Remove the causes, and run {again} again: it does what is left.",
    )
