"""The files of a catalog beside its manifests and marks: their names, and the forms of channels and reservations."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from goldenami import forms
from goldenami.errors import CatalogError, UsageError
from goldenami.model import ManifestImage
from goldenami.release.versions import Version, check_name

if TYPE_CHECKING:
    from pydantic import TypeAdapter

CHANNEL_SCHEMA = "goldenami.channel/1"
RESERVATION_SCHEMA = "goldenami.reservation/1"
_ADAPTERS: dict[type, TypeAdapter[Any]] = {}  # of forms, by their classes
_DOCUMENT = re.compile(r"[a-z0-9]+([._-][a-z0-9_]+)*")
_T = TypeVar("_T")

MoveAction = Literal["build", "promote", "rollback", "revoke"]


@dataclass(frozen=True, slots=True)
class Move:
    """One move of a channel.

    ``moved``: the time (ISO 8601, UTC) since which the channel points to the version. ``build_id``: the id of the build
    or task that moved it. ``action``: the command that moved it; ``by``: the ARN of its caller, None if it is unknown.
    """

    version: str
    moved: str
    build_id: str | None = None
    action: MoveAction = "build"
    by: str | None = None
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class Channel:
    """A pointer to a release. ``previous``: the version before the last move; None if it was moved once.

    A consumer may be allowed to read this object only, so it has a copy of what a consumer needs: ``images`` are those
    of the current release, and empty in a file of an earlier version of goldenami. ``created``: when it was built.
    ``unusable``: why it must not be used, if it was revoked while the channel had no earlier release.
    """

    name: str
    channel: str
    current: str
    previous: str | None
    history: tuple[Move, ...]  # oldest first; the last is the current one
    images: tuple[ManifestImage, ...] = ()
    created: str | None = None
    unusable: str | None = None
    schema: str = CHANNEL_SCHEMA

    def rolled_back(self, version: str) -> Move | None:
        """Return the rollback or revocation that moved the channel away from a version; None if the channel points to
        the version, never did, or left it for another reason. Only the last time counts."""
        numbers = [number for number, move in enumerate(self.history[:-1]) if move.version == version]
        if self.current == version or not numbers:
            return None
        away = self.history[numbers[-1] + 1]
        return away if away.action in ("rollback", "revoke") else None


@dataclass(frozen=True, slots=True)
class Reservation:
    """A version that one build has reserved. ``environment``: that of the build; None in a file of an earlier version
    of goldenami."""

    name: str
    version: str
    build_id: str
    reserved: str  # ISO 8601, UTC
    environment: str | None = None
    schema: str = RESERVATION_SCHEMA


# --- names ------------------------------------------------------------------------------------------------------------


def release_key(name: str, version: str) -> str:
    """Return the name of the file of a manifest. Raises UsageError for an invalid name, as all here."""
    return f"releases/{check_name(name, 'release')}/{Version.parse(version)}.json"


def original_key(name: str, version: str) -> str:
    """Return the name of the file of a manifest as the build wrote it."""
    return f"originals/{check_name(name, 'release')}/{Version.parse(version)}.json"


def document_key(name: str, version: str, file: str) -> str:
    """Return the name of the file of a document about a release."""
    if not _DOCUMENT.fullmatch(file):
        raise UsageError(f"{file!r} is no name of a document")
    return f"evidence/{check_name(name, 'release')}/{Version.parse(version)}/{file}"


def reservation_key(name: str, version: str) -> str:
    """Return the name of the file of a reservation."""
    return f"reservations/{check_name(name, 'release')}/{Version.parse(version)}.json"


def channel_key(name: str, channel: str) -> str:
    """Return the name of the file of a channel."""
    return f"channels/{check_name(name, 'release')}/{check_name(channel, 'channel')}.json"


# --- contents ---------------------------------------------------------------------------------------------------------


def encode(form: Channel | Reservation) -> bytes:
    """Return the contents of the file of a form."""
    kind: type[Any] = type(form)
    fields: dict[str, Any] = _adapter(kind).dump_python(form, mode="json")
    return (json.dumps({"schema": form.schema} | fields, indent=2) + "\n").encode()


def prepare() -> None:
    """Load what :func:`encode` takes for a channel. The first call takes some hundredths of a second."""
    _adapter(Channel)


def decode(kind: type[_T], data: bytes, schema: str, *, source: str) -> _T:
    """Return the form in a file. ``source``: where the file is, for messages. Raises CatalogError if it has another
    schema or is damaged."""
    made = forms.build(kind, forms.load(data, schema, source=source))
    if made is not None:
        return made
    from pydantic import ValidationError  # here: it is slow to load, and says what is wrong

    try:
        return _adapter(kind).validate_json(data, strict=True)
    except ValidationError as error:
        problem = error.errors(include_url=False)[0]
        place = ".".join(map(str, problem["loc"]))
        raise CatalogError(f"{source}: {place}: {problem['msg']}", hint="Restore the file from a backup.") from error


def _adapter(kind: type[_T]) -> TypeAdapter[_T]:
    """Return what reads and writes a form. To make it takes some hundredths of a second."""
    from pydantic import TypeAdapter  # here, because few commands write or check one

    if kind not in _ADAPTERS:
        _ADAPTERS[kind] = TypeAdapter(kind)
    made: TypeAdapter[_T] = _ADAPTERS[kind]
    return made
