"""Publishing: from now on, this release is what a channel means, in every target at once or in none.

The order, and what a process that dies after each step leaves behind:

1. *The version's parameters*, in every target. Nobody follows them yet. One that cannot be made: all are removed again.
   Dies here: they are in the journal, so resuming goes on and cleaning deletes them, with the images. They carry the
   same expiry tag, too, for whoever collects what a machine left that never came back.
2. *The manifest into the catalog.* This is the step that makes a release: from here on the images are never deleted by
   a clean-up, and they and the version's parameters lose the tag. It stands before the next step because no parameter
   that people follow may name an image that a clean-up is about to delete. Dies here: a release that no channel points
   to; resuming goes on.
3. *The channel's parameters*, in every target. One that cannot be moved, or an interruption: those that were are put
   back to where they pointed (or removed, if there were none). Dies here: some have moved; resuming moves the others.
   These never carry the tag: somebody may follow one from the moment that it is there, and all that it can name is an
   image of a release. If the machine does not come back, the channel's next move in the catalog moves them all.
4. *The channel's pointer in the catalog*, last, because it remembers where the parameters have to be put back to.

Every step finds out what is there before it changes anything, so a second call changes nothing. Of two processes that
publish to one channel, one waits for the other.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Final

from goldenami import manifest as codec
from goldenami.aws import images, parameters, snapshots, tags
from goldenami.aws.ledger import Ledger
from goldenami.each import each
from goldenami.errors import GoldenAmiError, TargetsFailed
from goldenami.events import Emit, emit, ignore_events
from goldenami.model import Architecture, ImageManifest, Place, Target
from goldenami.release import targets as modes
from goldenami.release.catalog import Catalog, Channel
from goldenami.release.parameters import Parameter, Parameters, parameters_for

_LOCK_TIMEOUT: Final = 900.0  # seconds; another build's publishing takes one or two minutes at worst


@dataclass(frozen=True, slots=True)
class Published:
    """The channel as it is now, and the manifest as it is in the catalog. ``failures``: best-effort targets whose
    parameters could not be set, reason by label."""

    channel: Channel
    manifest: ImageManifest
    failures: Mapping[str, str] = field(default_factory=dict)


def publish(
    ledger: Ledger,
    catalog: Catalog,
    manifest: ImageManifest,
    *,
    channel: str,
    prefix: str,
    targets: Sequence[Target],
    now: datetime,
    emit: Emit = ignore_events,
) -> Published:
    """Make a release of a verified manifest and point the channel to it; see the module for order and crashes.

    ``prefix``: the environment's, "/golden-ami". ``targets``: of the order; a parameter that cannot be set in one that
    is not required is told and holds nothing up. Raises TargetsFailed if one of the others cannot be set; then every
    channel parameter is where it was.
    """
    with catalog.publishing(manifest.recipe, channel, timeout=_LOCK_TIMEOUT):
        manifest = _as_released(catalog, manifest)
        publication = _Publication(ledger, catalog, manifest, targets, emit)
        publication.make_version_parameters(prefix)
        catalog.add(manifest)
        publication.keep(prefix)
        with publication.channel_parameters_moved(prefix, channel):
            moved = catalog.move(manifest.recipe, channel, manifest.version, now=now, build_id=manifest.build_id)
        return Published(moved, manifest, publication.failures)


def withdraw(
    ledger: Ledger,
    catalog: Catalog,
    manifest: ImageManifest,
    *,
    channel: str,
    prefix: str,
    targets: Sequence[Target],
    emit: Emit = ignore_events,
) -> dict[str, str]:
    """Undo the publishing of a release by a process that died between steps 2 and 4: the channel's parameters that it
    moved are put back to where the channel points; and what stays, its images and the version's parameters, loses the
    mark of what is temporary.

    Changes nothing if the channel got as far as this release. Returns the reasons by target's label where it failed.
    """
    with catalog.publishing(manifest.recipe, channel, timeout=_LOCK_TIMEOUT):
        publication = _Publication(ledger, catalog, manifest, targets, emit)
        try:
            publication.keep(prefix)
            kept: Mapping[str, str] = {}
        except TargetsFailed as error:
            kept = error.failures
        return {**kept, **publication.put_back(prefix, channel)}


def _as_released(catalog: Catalog, manifest: ImageManifest) -> ImageManifest:
    """The manifest as the catalog has it, where this build made its release before it died.

    A build that is resumed after that may test the same images once more, in other seconds; the evidence that was
    written first stands. Anything else that differs is for ``Catalog.add`` to refuse.
    """
    if manifest.version not in catalog.versions(manifest.recipe):
        return manifest
    stored = catalog.get(manifest.recipe, manifest.version)
    same = replace(stored, tests=manifest.tests) == codec.canonical(manifest)
    return stored if same else manifest


class _Publication:
    def __init__(
        self, ledger: Ledger, catalog: Catalog, manifest: ImageManifest, targets: Sequence[Target], to: Emit
    ) -> None:
        self._ledger = ledger
        self._cloud = ledger.cloud
        self._catalog = catalog
        self._manifest = manifest
        self._parameters = Parameters(ledger, manifest)
        self._targets = {target.place: target for target in targets}
        self._emit = to
        self.failures: dict[str, str] = {}

    def make_version_parameters(self, prefix: str) -> None:
        released = self._manifest.version in self._catalog.versions(self._manifest.recipe)
        wanted = parameters_for(self._manifest, prefix, self._manifest.version)
        # Of a release whose parameter was deleted since, the new one stays as well.
        refused = self._each(wanted, lambda p: self._parameters.make(p, temporary=not released), "publishing")
        if refused:
            # Once it is a release, its parameters stay: somebody may have pinned the version.
            kept = self._undo(wanted, self._parameters.unmake, "removing") if not released else {}
            raise self._failed("nothing was published: the parameters of the version cannot be set", refused, kept)

    def keep(self, prefix: str) -> None:
        """Take the mark off that lets anybody collect what a dead machine left (goldenami:expires-at): the images and
        the version's parameters are a release's now. Before the channel moves, so that nothing that is in use ever
        looks left over."""
        wanted = parameters_for(self._manifest, prefix, self._manifest.version)
        refused = self._each(wanted, self._keep, "publishing")
        if refused:
            raise self._failed("the release is still marked as temporary", refused)

    @contextmanager
    def channel_parameters_moved(self, prefix: str, channel: str) -> Iterator[None]:
        """Inside, all of them are moved; if they cannot be, or the inside fails or is interrupted, all are back."""
        wanted = parameters_for(self._manifest, prefix, channel)
        pointer = self._catalog.channel(self._manifest.recipe, channel)
        before = self._before(wanted, pointer)
        name = f"{self._manifest.recipe}@{channel}"
        try:
            refused = self._each(wanted, self._parameters.move, "publishing")
            if refused:
                raise self._failed(f"{name} was not moved: its parameters cannot be set", refused)
            yield
        except (Exception, KeyboardInterrupt) as error:
            if self._catalog.channel(self._manifest.recipe, channel) != pointer:
                raise  # interrupted after the last step: all is done
            kept = self._undo(wanted, lambda p: self._parameters.put_back(p, before[p]), "putting back")
            if isinstance(error, TargetsFailed):
                raise self._failed(f"{name} was not moved: its parameters cannot be set", refused, kept) from None
            for parameter, reason in kept.items():
                what = f"{parameter.name} in {self._label(parameter)} could not be put back: {reason}"
                emit(self._emit, "note", message=what, level="warning")
            raise
        for parameter in wanted:
            if self._label(parameter) not in self.failures:
                self._tell(parameter, "published")

    def put_back(self, prefix: str, channel: str) -> dict[str, str]:
        pointer = self._catalog.channel(self._manifest.recipe, channel)
        if pointer is not None and any(move.version == self._manifest.version for move in pointer.history):
            return {}
        before = self._before(wanted := parameters_for(self._manifest, prefix, channel), pointer)
        moved = [p for p in wanted if self._parameters.may_differ(p, before[p])]
        kept = self._undo(moved, lambda p: self._parameters.put_back(p, before[p]), "putting back")
        return {self._label(parameter): reason for parameter, reason in kept.items()}

    def _keep(self, parameter: Parameter) -> None:
        parameters.settle(self._ledger, parameter.key)
        image, place = parameter.image, parameter.place
        if not modes.owns(image):  # a shared one comes with the row of its owner
            return
        behind = [snapshot.snapshot_id for snapshot in image.snapshots]
        found = images.describe_many(self._cloud, place, [image.image_id])
        found |= snapshots.describe_many(self._cloud, place, behind)
        marked = [id for id, item in found.items() if tags.EXPIRES_AT in tags.from_list(item.get("Tags"))]
        if marked:
            self._ledger.settle(f"keep/{place}/{image.architecture}", place, marked)

    # --- all of them --------------------------------------------------------------------------------------------------

    def _before(self, wanted: Sequence[Parameter], pointer: Channel | None) -> dict[Parameter, str | None]:
        """Where each parameter has to be put back to.

        That is its value now; except where a process that died has moved it already: there it is the image of the
        release that the channel points to, which moves last.
        """
        moving = pointer is None or pointer.current != self._manifest.version
        previous: dict[tuple[Place, Architecture], str] = {}
        if pointer is not None and moving:
            old = self._catalog.get(self._manifest.recipe, pointer.current)
            previous = {(i.place, i.architecture): i.image_id for i in old.images}
        values: dict[Parameter, str | None] = {}

        def read(parameter: Parameter) -> None:
            current = self._parameters.read(parameter)
            if moving and current == parameter.image.image_id:
                current = previous.get((parameter.place, parameter.image.architecture))
            values[parameter] = current

        refused = self._each(wanted, read, None)
        if refused:
            raise self._failed(f"the channel of {self._manifest.recipe} was not moved: it cannot be read", refused)
        for parameter in wanted:
            values.setdefault(parameter, None)
        return values

    def _each(
        self, wanted: Sequence[Parameter], do: Callable[[Parameter], None], state: str | None
    ) -> dict[Parameter, str]:
        """Do it for all at once; the reasons of those required that failed. Best-effort ones go to ``failures``."""
        todo = [parameter for parameter in wanted if self._label(parameter) not in self.failures]
        failed = self._all_at_once(todo, do, state, undoing=False)
        self.failures |= {self._label(p): reason for p, reason in failed.items() if not self._is_required(p)}
        return {parameter: reason for parameter, reason in failed.items() if self._is_required(parameter)}

    def _undo(self, wanted: Sequence[Parameter], do: Callable[[Parameter], None], state: str) -> dict[Parameter, str]:
        """Do it for all at once, best-effort ones too, and to the end; the reasons of those that failed."""
        return self._all_at_once(wanted, do, state, undoing=True)

    def _all_at_once(
        self, todo: Sequence[Parameter], do: Callable[[Parameter], None], state: str | None, *, undoing: bool
    ) -> dict[Parameter, str]:
        def one(parameter: Parameter) -> None:
            if state is not None:
                self._tell(parameter, state)
            do(parameter)

        def failed(parameter: Parameter, error: GoldenAmiError) -> None:
            self._tell(parameter, "failed", error.message)

        return each(todo, one, on_failure=failed, undoing=undoing).reasons

    def _failed(
        self, message: str, refused: Mapping[Parameter, str], kept: Mapping[Parameter, str] | None = None
    ) -> TargetsFailed:
        failures = {self._label(parameter): reason for parameter, reason in refused.items()}
        message += f" in {', '.join(sorted(failures))}"
        if kept:
            places = ", ".join(sorted({self._label(parameter) for parameter in kept}))
            message += f"; and in {places} what was set could not be put back"
            failures |= {f"{self._label(parameter)} (putting back)": reason for parameter, reason in kept.items()}
        return TargetsFailed(
            message,
            failures=failures,
            hint="The images are kept: `goldenami resume` publishes them once the cause is gone.",
        )

    def _label(self, parameter: Parameter) -> str:
        target = self._targets.get(parameter.place)
        return target.label if target is not None else str(parameter.place)

    def _is_required(self, parameter: Parameter) -> bool:
        target = self._targets.get(parameter.place)
        return target is None or target.required

    def _tell(self, parameter: Parameter, state: str, detail: str | None = None) -> None:
        emit(
            self._emit,
            "target.progress",
            target=self._label(parameter),
            architecture=parameter.image.architecture,
            state=state,
            image_id=parameter.image.image_id,
            detail=detail,
        )
