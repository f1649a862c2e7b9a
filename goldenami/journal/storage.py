"""Where journals are kept: the protocol between a journal and its storage.

``directory`` keeps them in a directory, whose locks are the kernel's. ``aws/s3journal`` keeps them in a bucket, for
pipelines whose next run is on another machine; it is above this room, which knows no AWS. Whoever opens journals is
handed a :class:`Storage` and need not care.
"""

from __future__ import annotations

import json
import os
import re
import socket
import sys
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Final, Protocol

from goldenami.errors import Busy, JournalError
from goldenami.journal.records import Json, Secret, timestamp

SAFE_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,199}\Z")


def checked_name(name: str, what: str) -> str:
    """The name, if it can be one of a file and of an object. Raises JournalError."""
    if not SAFE_NAME.match(name):
        raise JournalError(f"{name!r} cannot be the name of a {what}")
    return name


@dataclass(frozen=True, slots=True)
class Holder:
    """Who holds a lock. ``since``: ISO 8601, by the holder's own clock; for people."""

    pid: int
    host: str
    command: str
    since: str

    @classmethod
    def this_process(cls, now: datetime) -> Holder:
        command = " ".join([Path(sys.argv[0]).name, *sys.argv[1:]])[:500]
        return cls(os.getpid(), socket.gethostname(), command, timestamp(now))

    @classmethod
    def from_json(cls, data: Any) -> Holder | None:
        """None for what is not one: it is only for people, and never worth failing for."""
        try:
            return cls(int(data["pid"]), str(data["host"]), str(data["command"]), str(data["since"]))
        except (ValueError, KeyError, TypeError):
            return None

    @classmethod
    def parse(cls, content: bytes) -> Holder | None:
        try:
            return cls.from_json(json.loads(content))
        except ValueError:
            return None

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host} (`{self.command}`) since {self.since}"


def busy(what: str, holder: Holder | None, hint: str) -> Busy:
    """The error for a lock that somebody else holds."""
    return Busy(f"{what} is being worked on by {holder or 'another process'}", hint=hint)


class SideFiles(Protocol):
    """Secrets of one build, where only who may continue the build can read them. The journal serializes the calls."""

    def keep(self, secret: Secret) -> Json:
        """Store what a request must not show; what the journal holds instead of it."""

    def read(self, digest: str) -> Secret:
        """What :meth:`keep` stored. Raises FileNotFoundError."""

    def named(self, name: str, make: Callable[[], bytes]) -> bytes:
        """The secret of a name: read, or made and stored."""

    def remove(self) -> None:
        """All of them. The second call does nothing."""


class Log(Protocol):
    """The records of one build, locked for this process. The journal serializes the calls."""

    @property
    def side(self) -> SideFiles: ...

    def content(self) -> bytes:
        """All records, one a line; the last line may be torn."""

    def cut(self, whole: int) -> None:
        """Make the first ``whole`` bytes of the content all there is, ended by a newline."""

    def append(self, number: int, line: bytes) -> None:
        """Add a record durably; ``number`` is how many there are before it. Raises JournalError, or an error of the
        cloud; then the record is not there, or ``doubtful`` gives it."""

    def doubtful(self) -> Sequence[bytes]:
        """Records whose appending failed without an answer and that, as is known by now, are there after all. Asked
        before each append; what was given once is not given again."""

    def check(self) -> None:
        """Raise JournalError if the lock may have been lost. Quick: nothing is sent."""

    def close(self, *, finished: bool = False) -> None:
        """Let go of the lock; ``finished``: nobody needs to find the build as an unfinished one. The second call does
        nothing."""


class Storage(Protocol):
    """All journals of an environment."""

    def where(self, build_id: str | None = None) -> str:
        """How a person finds a build's records, or all of them."""

    def directory(self, build_id: str) -> Path:
        """Where this machine keeps what else belongs to a build (reports); it need not exist."""

    def names(self, *, unfinished: bool = False) -> tuple[str, ...]:
        """The ids of all builds, sorted; or of those that are unfinished, and perhaps others, if that is quicker."""

    def read(self, build_id: str) -> bytes | None:
        """All records of a build, read without its lock; None if there is no such build."""

    def create(self, build_id: str, header: bytes) -> Log:
        """Start the log of a new build. Raises JournalError if it exists, or cannot be written."""

    def open(self, build_id: str) -> Log | None:
        """Lock a build's log; None if there is no such build. Raises Busy if somebody else holds it."""

    def holder(self, build_id: str) -> Holder | None:
        """Who holds a build's lock now, as far as can be told; None if nobody does."""

    def lock(self, name: str) -> AbstractContextManager[None]:
        """Hold the lock of a name ("one build of this recipe at a time"); taken before this returns. Raises Busy."""
