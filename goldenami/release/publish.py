"""Publishing: points a channel to a release, in all targets or in none.

Before all steps, the signed statement and other documents about the release are kept in the catalog. Without a
manifest they are no release: a resume keeps or replaces them, and so does another build of the same version. These are
the steps, and the effect of a process that is killed after each step:

1. *The version's parameters*, in every target. No consumer reads them yet. If one cannot be created, all are deleted.
   They are read back wherever an image lives, because SSM takes no image that is gone: a lost image is no release, and
   a resume makes it again. The same call reads the channel's parameters, for step 3, unless this process knows that
   they do not exist.
   Killed here: the journal lists the parameters, so a resume continues, and a clean-up deletes them with the images.
   Until there is a release of their version, ``goldenami clean --expired`` may delete them, as the images.
2. *The manifest in the catalog*. This step makes the release. From now on no clean-up deletes the images and
   the version's parameters. This step is before the next one, because a channel's parameter must never name an image
   that a clean-up can delete. Killed here: no channel points to the release; a resume continues.
3. *The channel's parameters*, in every target: first all are checked, then all are moved: the versions and manifests
   everywhere, and then the image ids everywhere, with which all parameters of the place are read back, also those of
   step 1 that were not: one call. The images lose the expiry tag before an image id moves. So an account that cannot
   be written to is found before any image id has moved, and who reacts to a new image id finds the version and manifest
   of the same release. Between the two, for as long as the move takes, a version can be newer than the image id beside
   it; the manifest has both in one value. If one parameter cannot be moved, or the build is interrupted, the moved
   parameters get their earlier values again, in the same order (or are deleted, if they had none). Killed here: some
   are moved; a resume moves the others. No clean-up deletes these parameters, because consumers read them from
   their creation on, and they only name images of releases. If the machine is lost, the next move of the channel moves
   all parameters.
   The launch templates of the channel follow (``templates``): all are checked with the parameters; then all get their
   new versions, and then all get their new default versions. They are undone before the parameters.
4. *The channel's pointer in the catalog*. It is last, because it stores the earlier release for a restore of step 3.

Every step reads the current state before it changes anything, so a second call changes nothing. If two processes
publish to one channel, the second one waits.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Final, TypeVar

from goldenami import manifest as codec
from goldenami.aws import images, snapshots, tags
from goldenami.aws.ledger import Ledger
from goldenami.aws.parameters import Current
from goldenami.each import each
from goldenami.errors import GoldenAmiError, TargetsFailed
from goldenami.events import Emit, emit, ignore_events
from goldenami.model import Account, ImageManifest, LaunchTemplate, ManifestImage, Place, Target
from goldenami.nextstep import step
from goldenami.release import targets as modes
from goldenami.release.catalog import Catalog, Evidence
from goldenami.release.catalogfiles import Channel, Move
from goldenami.release.parameters import Parameter, Parameters, channel_parameters, parameters_for
from goldenami.release.templates import Follower, Templates, followers

_P = TypeVar("_P", bound="At | Parameter | Follower")

_AT_ONCE: Final = 32  # threads: a release has several parameters of a place beside each other
LOCK_TIMEOUT: Final = 900.0  # seconds; another build's publishing takes one or two minutes at worst


@dataclass(frozen=True, slots=True)
class Published:
    """The channel and the manifest after publishing, as they are in the catalog.

    ``failures``: label -> reason, for best-effort targets whose parameters could not be set.
    """

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
    informed: Sequence[Account] = (),
    templates: Sequence[LaunchTemplate] = (),
    now: datetime,
    by: str | None = None,
    attest: Callable[[ImageManifest], None] = lambda _: None,
    released: Callable[[], object] = lambda: None,
    emit: Emit = ignore_events,
) -> Published:
    """Make a release of a verified manifest and point the channel to it. The module describes the steps.

    ``by``: the ARN of the caller, for the history of the channel. ``prefix``: the environment's, for example
    "/golden-ami". ``targets``: the targets of the order. ``informed``: accounts that also get parameters of images
    that are only shared with them. ``templates``: the launch templates of the environment. ``attest``: keeps the
    documents about the release in the catalog; called before any change of a parameter, with the manifest that is
    added. ``released``: called when the manifest is in the catalog, before the channel moves. A parameter that cannot
    be set in a best-effort target is listed in ``failures``. Raises TargetsFailed if a parameter cannot be set in a
    required target; every parameter of the channel has its earlier value then.
    """
    with catalog.publishing(manifest.recipe, channel, timeout=LOCK_TIMEOUT):
        manifest = _as_released(catalog, manifest)
        attest(manifest)  # first: it may take a while, and the next step reads the parameters that the last one moves
        publication = Publication(ledger, catalog, manifest, targets, emit, informed, templates)
        publication.make_version_parameters(prefix, channel)
        catalog.add(manifest)
        released()
        with publication.channel_parameters_moved(prefix, channel, keep=True):
            moved = catalog.move(manifest.recipe, channel, manifest.version, now=now, build_id=manifest.build_id, by=by)
        return Published(moved, manifest, publication.failures)


def withdraw(
    ledger: Ledger,
    catalog: Catalog,
    manifest: ImageManifest,
    *,
    channel: str,
    prefix: str,
    targets: Sequence[Target],
    informed: Sequence[Account] = (),
    templates: Sequence[LaunchTemplate] = (),
    emit: Emit = ignore_events,
) -> dict[str, str]:
    """Undo step 3 of a process that was killed between steps 2 and 4.

    The channel's parameters get the images of the release that the channel points to. The images and the version's
    parameters of the new release are kept, and the images lose the expiry tag. Changes nothing if the channel already
    points to the new release. Returns label of the target -> reason for each failure.
    """
    with catalog.publishing(manifest.recipe, channel, timeout=LOCK_TIMEOUT):
        publication = Publication(ledger, catalog, manifest, targets, emit, informed, templates)
        try:
            publication.keep(prefix)
            kept: Mapping[str, str] = {}
        except TargetsFailed as error:
            kept = error.failures
        return {**kept, **publication.put_back(prefix, channel)}


def _as_released(catalog: Catalog, manifest: ImageManifest) -> ImageManifest:
    """Return the manifest in the catalog if this build was killed after step 2; otherwise the given manifest.

    A resumed build may test the same images again, with other durations. The first test results are kept. If anything
    else differs, ``Catalog.add`` refuses the manifest.
    """
    if manifest.version not in catalog.versions(manifest.recipe):
        return manifest
    stored = catalog.get(manifest.recipe, manifest.version)
    same = replace(stored, tests=manifest.tests) == codec.canonical(manifest)
    revised = bool(stored.revisions) and stored.build_id == manifest.build_id  # `goldenami distribute` changed it since
    return stored if same or revised else manifest


@dataclass(frozen=True, eq=False)
class At:
    """Parameters of one place. They are read together, and set one after the other."""

    place: Place
    parameters: tuple[Parameter, ...]


def by_place(wanted: Iterable[Parameter]) -> list[At]:
    """Return parameters by place, in the order of the places."""
    found: dict[Place, list[Parameter]] = {}
    for parameter in wanted:
        found.setdefault(parameter.place, []).append(parameter)
    return [At(place, tuple(every)) for place, every in found.items()]


class Publication:
    """Changes the parameters of a release in all targets. ``failures``: label of a best-effort target -> reason."""

    def __init__(
        self,
        ledger: Ledger,
        catalog: Catalog,
        manifest: ImageManifest,
        targets: Sequence[Target],
        to: Emit,
        informed: Sequence[Account] = (),
        templates: Sequence[LaunchTemplate] = (),
    ) -> None:
        self._ledger = ledger
        self._cloud = ledger.cloud
        self._catalog = catalog
        self._manifest = manifest
        self._parameters = Parameters(ledger, catalog, manifest)
        self._targets = {target.place: target for target in targets}
        self._declared = templates
        self._templates = Templates(ledger, to)
        self._informed = {account.id: account.name for account in informed}
        self._emit = to
        self._current: dict[Place, dict[str, Current]] = {}  # parameters as they were before they are moved
        self._pointers: dict[str, Channel | None] = {}
        self._made: dict[Place, tuple[Parameter, ...]] = {}  # parameters of the version that are not read back yet
        self.failures: dict[str, str] = {}

    def make_version_parameters(self, prefix: str, channel: str) -> None:
        """Create the parameters of the version, and read those of the channel, which move next: by one call in each
        place, which waits for those of the version. It is not made where the channel has none, and all images are
        shared by others: they are there if their owners' are, so the parameters are read back with the channel's."""
        released = self._manifest.version in self._catalog.versions(self._manifest.recipe)
        exists = self._pointer(channel) is not None
        wanted = self._version_parameters(prefix)
        of_channel = {at.place: at.parameters for at in by_place(self._channel_names(prefix, channel))}

        def make(at: At) -> None:
            missing, moving = at.parameters, of_channel[at.place]
            if released:  # they exist, probably
                found = self._parameters.read([*at.parameters, *moving])
                missing = tuple(p for p in missing if p.name not in found or found[p.name].value != p.value)
                self._current[at.place] = found
            elif not exists and self._parameters.are_missing(moving):
                self._current[at.place] = {}
            for parameter in at.parameters:
                self._tell(parameter, "publishing")
            for parameter in missing:
                self._parameters.make(parameter)
            is_known = at.place in self._current
            is_shared = not any(modes.owns(p.image) and p.place == p.image.place for p in missing)
            self._made[at.place] = missing if is_known and is_shared else ()
            if not self._made[at.place] and (missing or not is_known):
                current = self._parameters.wait(missing, beside=() if is_known else moving)
                self._current.setdefault(at.place, current)

        refused = self._each(by_place(wanted), make, None)
        if refused:
            # The parameters of an existing release are kept, because consumers may read them.
            kept = self._undo(wanted, self._parameters.unmake, "removing") if not released else {}
            raise self._failed("nothing was published: the parameters of the version cannot be set", refused, kept)

    def keep(self, prefix: str) -> None:
        """Take the mark off that lets anybody collect what a dead machine left (goldenami:expires-at): the images are a
        release's now. Before the channel moves, so that nothing that is in use ever looks left over."""
        refused = self._each(self._owned(prefix), self._keep, None)
        if refused:
            raise self._failed("the release is still marked as temporary", refused)

    @contextmanager
    def channel_parameters_moved(self, prefix: str, channel: str, *, keep: bool = False) -> Iterator[None]:
        """Inside, all of them are moved, and the launch templates of the channel; if they cannot be, or the inside
        fails or is interrupted, all are back. ``keep``: does the work of :meth:`keep` before an image id moves, beside
        the texts."""
        wanted = self._channel_parameters(self._manifest, prefix, channel)
        following = followers(self._declared, self._manifest, channel)
        pointer = self._pointer(channel)
        before = self._before(wanted, pointer, prefix)
        name = f"{self._manifest.recipe}@{channel}"
        why = "its parameters cannot be set"
        refused = self._each([at for at in by_place(wanted) if self._current.get(at.place)], self._refuse, None)
        if refused:
            raise self._failed(f"{name} was not moved: {why}", refused)
        unmoved = self._each(following, self._templates.check, None)
        if unmoved:
            raise self._failed(f"{name} was not moved: its launch templates cannot be changed", unmoved)
        try:
            texts, ids = in_order(wanted)
            every = {at.place: at for at in by_place(wanted)}
            # Texts are not the pointer, so those of a place may be set beside each other: if there are threads for it.
            few = len(every) * 3 <= _AT_ONCE
            at_once = [At(text.place, (text,)) for text in texts] if few else by_place(texts)
            first: dict[At, Callable[[At], None]] = dict.fromkeys(at_once, self._move)
            first |= dict.fromkeys(self._owned(prefix) if keep else (), self._keep)
            refused = self._each(tuple(first), lambda at: first[at](at), None)
            if refused and all(first[at] == self._keep for at in refused):
                why = "the release is still marked as temporary"
            state = None if self._made else "publishing"
            refused = refused or self._each(by_place(ids), lambda at: self._move(at, every[at.place]), state)
            if refused:
                raise self._failed(f"{name} was not moved: {why}", refused)
            for work in (self._templates.prepare, self._templates.switch):
                unmoved = unmoved or self._each(following, work, None)
            if unmoved:
                why = "its launch templates cannot be changed"
                raise self._failed(f"{name} was not moved: {why}", unmoved)
            # A best-effort target that failed keeps its earlier values, all of them.
            self._undo_templates([one for one in following if self._label(one) in self.failures])
            behind = [parameter for parameter in wanted if self._label(parameter) in self.failures]
            self._undo(behind, lambda p: self._parameters.put_back(p, before[p.key]), None)
            yield
        except (Exception, KeyboardInterrupt) as error:
            if self._catalog.channel(self._manifest.recipe, channel) != pointer:
                raise  # interrupted after the last step: all is done
            left = self._undo_templates(following)
            kept = self._undo(wanted, lambda p: self._parameters.put_back(p, before[p.key]), "putting back")
            if isinstance(error, TargetsFailed):
                places = {**self._by_label(refused), **self._by_label(unmoved)}
                back = {**self._by_label(kept), **self._by_label(left)}
                raise _not_moved(f"{name} was not moved: {why}", places, back) from None
            for label, reason in [*self._named(kept), *self._named(left)]:
                emit(self._emit, "note", message=f"{label} could not be restored: {reason}", level="warning")
            raise
        for parameter in wanted:
            if parameter.names_image and self._label(parameter) not in self.failures:
                self._tell(parameter, "published")

    def put_back(self, prefix: str, channel: str) -> dict[str, str]:
        """Restore the channel's parameters, unless this build or task has moved its pointer.

        Returns label -> reason for each failure.
        """
        pointer = self._catalog.channel(self._manifest.recipe, channel)
        if pointer is not None and any(self._is_move(move) for move in pointer.history):
            return {}
        before = self._before(wanted := self._channel_parameters(self._manifest, prefix, channel), pointer, prefix)
        moved = [p for p in wanted if self._parameters.may_differ(p, before[p.key])]
        # Another task may have moved the channel to the same release, with the same versions.
        is_current = pointer is not None and pointer.current == self._manifest.version
        left = {} if is_current else self._undo_templates(self._templates.changed(self._manifest))
        kept = self._undo(moved, lambda p: self._parameters.put_back(p, before[p.key]), "putting back")
        return {**self._by_label(kept), **self._by_label(left)}

    def _pointer(self, channel: str) -> Channel | None:
        """Return the channel before it is moved. The lock of the channel is held, so it is read once."""
        if channel not in self._pointers:
            self._pointers[channel] = self._catalog.channel(self._manifest.recipe, channel)
        return self._pointers[channel]

    def _is_move(self, move: Move) -> bool:
        """Return whether this build or task made a move. The moves of a restored catalog name no build."""
        return move.version == self._manifest.version and move.build_id in (None, self._ledger.journal.build_id)

    def _owned(self, prefix: str) -> list[At]:
        """Return the version's parameters of the images that their place owns. Only its account sees their tags."""
        return by_place(p for p in self._version_parameters(prefix) if modes.owns(p.image) and p.place == p.image.place)

    def _keep(self, at: At) -> None:
        for image in (parameter.image for parameter in at.parameters):
            marked = self._marked(at.place, image)
            if marked:
                self._ledger.settle(f"keep/{at.place}/{image.architecture}", at.place, marked)

    def _marked(self, place: Place, image: ManifestImage) -> list[str]:
        """Return the ids of an image and its snapshots that have the expiry tag. This journal has the tags of the
        images that it created; others are read."""
        every = [image.image_id, *(snapshot.snapshot_id for snapshot in image.snapshots)]
        if self._ledger.journal.created("image", place, image.image_id):
            return every
        found = images.describe_many(self._cloud, place, every[:1])
        found |= snapshots.describe_many(self._cloud, place, every[1:])
        return [id for id, item in found.items() if tags.EXPIRES_AT in tags.from_list(item.get("Tags"))]

    # --- all parameters -----------------------------------------------------------------------------------------------

    def _version_parameters(self, prefix: str) -> tuple[Parameter, ...]:
        return parameters_for(self._manifest, prefix, self._manifest.version, self._informed)

    def _channel_names(self, prefix: str, channel: str) -> tuple[Parameter, ...]:
        """Return the parameters of the channel for their names: the manifest that the values need is not stored yet."""
        return channel_parameters(self._manifest, prefix, channel, Evidence("", ""), self._informed)

    def _channel_parameters(self, manifest: ImageManifest, prefix: str, channel: str) -> tuple[Parameter, ...]:
        evidence = self._catalog.evidence(manifest.recipe, manifest.version)
        return channel_parameters(manifest, prefix, channel, evidence, self._informed)

    def _before(self, wanted: Sequence[Parameter], pointer: Channel | None, prefix: str) -> dict[str, str | None]:
        """Return the value to restore for each parameter, by its key.

        It is the current value, unless a killed process has already moved the parameter. Then it is the value for the
        release that the channel points to, because the pointer moves last.
        """
        moving = pointer is None or pointer.current != self._manifest.version
        previous: dict[str, str] = {}
        if pointer is not None and moving:
            old = self._catalog.get(self._manifest.recipe, pointer.current)
            previous = {p.key: p.value for p in self._channel_parameters(old, prefix, pointer.channel)}

        def read(at: At) -> None:
            self._current[at.place] = self._parameters.read(at.parameters)

        refused = self._each([at for at in by_place(wanted) if at.place not in self._current], read, None)
        if refused:
            raise self._failed(f"the channel of {self._manifest.recipe} was not moved: it cannot be read", refused)
        values: dict[str, str | None] = {}
        for parameter in wanted:
            current = self._current_of(parameter)
            value = None if current is None else current.value
            values[parameter.key] = previous.get(parameter.key) if moving and value == parameter.value else value
        return values

    def _current_of(self, parameter: Parameter) -> Current | None:
        """Return what was read of a parameter before the move."""
        return self._current.get(parameter.place, {}).get(parameter.name)

    def _refuse(self, at: At) -> None:
        for parameter in at.parameters:
            self._parameters.refuse(parameter, self._current_of(parameter))

    def _move(self, at: At, read_back: At | None = None) -> None:
        """Set parameters of one place. ``read_back``: the parameters to wait for then, with those of the version. A
        text has its value with SSM's answer; an image id gets it later, so all are read back together at the end."""
        for parameter in at.parameters:
            self._parameters.move(parameter, self._current_of(parameter))
        if read_back is not None:
            self._parameters.wait([*self._made.get(at.place, ()), *read_back.parameters])

    def _each(self, wanted: Sequence[_P], do: Callable[[_P], None], state: str | None) -> dict[_P, str]:
        """Call ``do`` for all parameters or templates in parallel. Returns the reasons of required targets that failed.

        Failures of best-effort targets are added to ``failures``.
        """
        todo = [parameter for parameter in wanted if self._label(parameter) not in self.failures]
        failed = self._all_at_once(todo, do, state, undoing=False)
        self.failures |= {self._label(p): reason for p, reason in failed.items() if not self._is_required(p)}
        return {parameter: reason for parameter, reason in failed.items() if self._is_required(parameter)}

    def _undo(
        self, wanted: Sequence[Parameter], do: Callable[[Parameter], None], state: str | None
    ) -> dict[Parameter, str]:
        """Call ``do`` for all parameters, also after an interruption. Returns all failures."""
        failed: dict[Parameter, str] = {}
        for wave in in_order(wanted):
            failed |= self._all_at_once(wave, do, state, undoing=True)
        return failed

    def _undo_templates(self, wanted: Sequence[Follower]) -> dict[Follower, str]:
        return self._all_at_once(wanted, self._templates.put_back, None, undoing=True)

    def _all_at_once(
        self, todo: Sequence[_P], do: Callable[[_P], None], state: str | None, *, undoing: bool
    ) -> dict[_P, str]:
        def one(item: _P) -> None:
            for parameter in _parts(item):
                if state is not None and parameter.names_image:
                    self._tell(parameter, state)
            do(item)

        def failed(item: _P, error: GoldenAmiError) -> None:
            for parameter in {one.image.architecture: one for one in _parts(item)}.values():
                self._tell(parameter, "failed", error.message)

        return each(todo, one, at_once=_AT_ONCE, on_failure=failed, undoing=undoing).reasons

    def _failed(
        self, message: str, refused: Mapping[_P, str], kept: Mapping[Parameter, str] | None = None
    ) -> TargetsFailed:
        return _not_moved(message, self._by_label(refused), self._by_label(kept or {}))

    def _by_label(self, reasons: Mapping[_P, str]) -> dict[str, str]:
        return {self._label(one): reason for one, reason in reasons.items()}

    def _named(self, reasons: Mapping[Parameter, str] | Mapping[Follower, str]) -> list[tuple[str, str]]:
        """Return the names of parameters or templates with their targets, for notes."""
        return [
            (f"{one.name if isinstance(one, Parameter) else one.template} in {self._label(one)}", reason)
            for one, reason in reasons.items()
        ]

    def _label(self, parameter: At | Parameter | Follower) -> str:
        target, place = self._targets.get(parameter.place), parameter.place
        if target is not None:
            return target.label
        return f"{self._informed.get(place.account, place.account)}/{place.region}"

    def _is_required(self, parameter: At | Parameter | Follower) -> bool:
        target = self._targets.get(parameter.place)
        return target is None or target.required

    def _tell(self, parameter: Parameter | Follower, state: str, detail: str | None = None) -> None:
        emit(
            self._emit,
            "target.progress",
            target=self._label(parameter),
            architecture=parameter.image.architecture,
            state=state,
            image_id=parameter.image.image_id,
            detail=detail,
        )


def _parts(item: At | Parameter | Follower) -> tuple[Parameter | Follower, ...]:
    return item.parameters if isinstance(item, At) else (item,)


def _not_moved(message: str, failures: Mapping[str, str], kept: Mapping[str, str]) -> TargetsFailed:
    """Return the error with the reasons of all labels. ``kept``: those whose earlier values could not be restored."""
    message += f" in {', '.join(sorted(failures))}"
    if kept:
        message += f"; and in {', '.join(sorted(kept))} the earlier values could not be restored"
    return TargetsFailed(
        message,
        failures={**failures, **{f"{label} (putting back)": reason for label, reason in kept.items()}},
        hint=f"The images are kept. Remove the cause; then {step('resume')} publishes them.",
    )


def in_order(wanted: Iterable[Parameter]) -> tuple[list[Parameter], list[Parameter]]:
    """Return the parameters that must be set first, all at once, and those that follow."""
    texts = [parameter for parameter in wanted if not parameter.names_image]
    return texts, [parameter for parameter in wanted if parameter.names_image]
