"""The base class of modes, what a mode works with, and the registry."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Final, Protocol, TypeVar

from goldenami.errors import ManifestError, UsageError
from goldenami.model import Architecture, ImageManifest, ManifestImage, Place, Target
from goldenami.same import for_the_same

if TYPE_CHECKING:
    from goldenami.aws.ledger import Ledger
    from goldenami.release.order import ReleaseOrder


@dataclass(frozen=True, slots=True)
class Source:
    """The image that a copy is made from: its id, and the region it is in."""

    image_id: str
    region: str


class Delivery(Protocol):
    """What a mode works with while it brings its target's images about; ``release.distribute`` implements it.

    Each method may be called again over the same journal: what was done already is not done again.
    """

    @property
    def target(self) -> Target: ...

    @property
    def order(self) -> ReleaseOrder: ...

    @property
    def ledger(self) -> Ledger: ...

    @property
    def architectures(self) -> Sequence[Architecture]:
        """Every one of them has to be delivered."""

    def copy(self, source: Callable[[Architecture], Source]) -> None:
        """Copy an image of every architecture into the target, encrypted under the target's key. It is the last call of
        a delivery and returns at once: the target has its images when all copies are available. ``source`` is called
        right before each copy starts. A failed copy is tried again.
        """

    def lend_candidate(self, architecture: Architecture) -> Source:
        """Return the candidate in the home region. The target's account may copy it until the build is cleaned up."""

    def source_image(self, architecture: Architecture) -> str:
        """Return the id of the image of the target that ``Mode.source`` names. A delivery begins when that target has
        ended. Raises that target's error if it failed."""

    def allow_source(self, architecture: Architecture, image_id: str) -> None:
        """Let the target's account launch that image of the source, read its snapshots and use its key."""

    def arrived(self, architecture: Architecture, image_id: str, state: str) -> None:
        """Report that the target has this image. ``state``: the word in the progress view. ``copy`` calls it itself."""


class Mode(ABC):
    """How a target gets its image. One object of each class serves all targets, from several threads.

    ``name``: what goldenami.yaml, plans and manifests call it. ``summary``: one line for the schema and the docs.
    ``owns_image``: whether the target's account owns the image that its row in a manifest names. It decides all of
    this: a KMS key must be given (or must not be); the key is looked up for the plan; verification reads the image, its
    snapshots and tags in the target's place (or in the source's, and asks the target's account whether it sees them);
    publishing takes the expiry tag off; retirement deletes the row's snapshots there.
    ``note``: a word that the summary of a build shows before the key; empty for none.
    ``verb``, ``without_source``: words of error messages: "apps/eu-west-1 *shares* the image of home/eu-west-1, which
    is not chosen"; "eu-west-1: *nothing to share* there".
    """

    name: ClassVar[str]
    summary: ClassVar[str]
    owns_image: ClassVar[bool] = True
    note: ClassVar[str] = ""
    verb: ClassVar[str] = "uses"
    without_source: ClassVar[str] = "nothing to use"

    def source(self, target: Target) -> str | None:
        """The label of the target whose image this one uses or is made from; None for the candidate alone.

        The source's image stays usable for this target's account, and both must be chosen by a recipe together. A
        target cannot be its own source, so a mode that uses the home account's image is for other accounts.
        """
        return None

    @abstractmethod
    def plan(self, target: Target, key: str) -> str:
        """The words of ``goldenami plan`` for a target. ``key``: the ARN of its key; empty if it has none."""

    @abstractmethod
    def deliver(self, to: Delivery) -> None:
        """Bring the images of all architectures to the target. Raises what failed."""


def is_home(target: Target, home: Place) -> bool:
    """Whether a target owns the image of the home account and region. With encryption at launch, that is the image of
    the builder, and no copy of it."""
    return target.place == home and get_mode(target).owns_image


def home_label(region: str) -> str:
    """The label of the home account's target in a region."""
    return f"home/{region}"


_MODES: Final[dict[str, Mode]] = {}
_M = TypeVar("_M", bound=type[Mode])


def register(mode: _M) -> _M:
    """Add a mode; used as a decorator of its class. Raises ValueError for a name that is taken."""
    _add(mode())
    return mode


@contextmanager
def registered(mode: Mode) -> Iterator[None]:
    """Add a mode for the length of a ``with`` block: for tests."""
    _add(mode)
    try:
        yield
    finally:
        del _MODES[mode.name]


def _add(mode: Mode) -> None:
    if mode.name in _MODES:
        raise ValueError(f"there are two target modes {mode.name!r}")
    _MODES[mode.name] = mode


def names() -> tuple[str, ...]:
    """The names of all modes, sorted."""
    return tuple(sorted(_MODES))


def get_mode(what: Target | ManifestImage | str) -> Mode:
    """The mode of a target, of a manifest's row, or of that name. Raises UsageError for an unknown one."""
    name = what if isinstance(what, str) else what.mode
    try:
        return _MODES[name]
    except KeyError:
        raise UsageError(f"mode: {name!r} is not one of {', '.join(names())}") from None


@for_the_same
def owners(targets: tuple[Target, ...]) -> tuple[Target, ...]:
    """The targets that own an image, in their order."""
    return tuple(target for target in targets if get_mode(target).owns_image)


def owns(row: ManifestImage) -> bool:
    """Whether the account of a manifest's row owns the image that the row names."""
    return get_mode(row).owns_image


def check_rows(manifest: ImageManifest, where: str) -> None:
    """Raise ManifestError if a row of a manifest has an unknown mode: its image's owner cannot be determined then."""
    for row in manifest.images:
        if row.mode not in _MODES:
            raise ManifestError(
                f"{where}: the mode of {row.image_id} is {row.mode!r}, which is not one of {', '.join(names())}",
                hint="Update goldenami; the version that wrote this manifest can read it.",
            )


def summaries() -> str:
    """One sentence a mode, for the schema of goldenami.yaml."""
    return " ".join(f"{name}: {_MODES[name].summary}" for name in names())


def notes() -> Mapping[str, str]:
    """By the name of the mode, what the summary of a build shows before the key."""
    return {name: mode.note for name, mode in _MODES.items() if mode.note}
