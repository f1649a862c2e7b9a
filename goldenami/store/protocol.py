"""The interface of the store below the journal and the catalog.

Keys are paths with slashes, such as ``channels/web/stable.json``. The caller checks them: a key must not contain ``..``
or a name that begins with a dot.

Every implementation guarantees:

- **Atomic.** A reader finds an object's old contents, its new contents, or no object, also if the writer is killed.
- **Durable.** When a method returns, its effect survives a power failure.
- **No write is lost.** Of two writers that create or replace the same object, one succeeds and the other is refused.
- **Locks end with their holder**: at once in a directory, after the lease's time in a bucket.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol, TypeVar

from goldenami.errors import Busy
from goldenami.polling import Interval, poll

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Stored:
    """The contents of an object when it was read or written. ``version``: opaque; each write changes it."""

    data: bytes
    version: str


@dataclass(frozen=True, slots=True)
class Holder:
    """The process that has a lock, for messages only. ``since``: ISO 8601, by that process's own clock."""

    pid: int
    host: str
    command: str
    since: str

    @classmethod
    def this_process(cls, now: datetime) -> Holder:
        command = " ".join([Path(sys.argv[0]).name, *_without_values(sys.argv[1:])])[:500]
        since = now.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        import socket  # here, as what only writers need

        return cls(os.getpid(), socket.gethostname(), command, since)

    @classmethod
    def from_json(cls, data: Any) -> Holder | None:
        """Read a holder from JSON values. Returns None for other data, since a holder is for messages only."""
        try:
            return cls(int(data["pid"]), str(data["host"]), str(data["command"]), str(data["since"]))
        except (ValueError, KeyError, TypeError):
            return None

    @classmethod
    def parse(cls, content: bytes) -> Holder | None:
        """Read a holder from bytes, as :meth:`from_json` does."""
        try:
            return cls.from_json(json.loads(content))
        except ValueError:
            return None

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host} (`{self.command}`) since {self.since}"


def _without_values(arguments: Sequence[str]) -> Iterator[str]:
    """Yield the arguments of a command, without the values of variables (``--var name=value``)."""
    is_variable = False
    for argument in arguments:
        option = "--var=" if argument.startswith("--var=") else ""
        if is_variable or option:
            name, equals, _ = argument.removeprefix(option).partition("=")
            yield f"{option}{name}{equals}***" if equals else f"{option}***"
        else:
            yield argument
        is_variable = not is_variable and argument == "--var"


def busy(what: str, holder: Holder | None, hint: str) -> Busy:
    """Return the error for a lock that another process holds."""
    return Busy(f"{what} is locked by {holder or 'another process'}", hint=hint or None)


@dataclass(frozen=True, slots=True)
class Wait:
    """How long to wait for a lock that another process holds. ``seconds``: math.inf waits without a limit. ``waiting``:
    called once, with the first Busy. ``poll``: seconds between two attempts."""

    seconds: float = 0.0
    clock: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep
    waiting: Callable[[Busy], None] = field(default=lambda _: None)
    poll: float = 1.0

    def take(self, attempt: Callable[[], _T]) -> _T:
        """Repeat an attempt until it does not raise Busy, and return its result. Raises the last Busy after
        ``seconds``."""
        busy: Busy | None = None
        interval = Interval.every(self.poll)
        for elapsed in poll(self.clock, self.sleep, timeout=self.seconds, interval=interval, last_look=True):
            try:
                return attempt()
            except Busy as error:
                if busy is None and elapsed < self.seconds:
                    self.waiting(error)
                busy = error
        assert busy is not None, "there is at least one attempt"
        raise busy


class Lock(Protocol):
    """A lock that this process holds."""

    @property
    def taken_over(self) -> Holder | None:
        """The earlier holder, if its lock expired and was not released. Its process may still run; None if there is
        none."""

    def check(self) -> None:
        """Raise JournalError if another process may hold the lock now. Usually sends no request."""

    def give_back(self) -> None:
        """Release the lock. The second call does nothing."""


class Seal(Protocol):
    """Encrypts secrets, so that readers of a store cannot read them."""

    def close(self, name: str, value: bytes) -> bytes:
        """Encrypt a secret. Return the envelope to store."""

    def open(self, name: str, envelope: bytes) -> bytes:
        """Decrypt an envelope. Raises JournalError or CatalogError if it was not encrypted for this purpose and
        name."""


class Log(Protocol):
    """An append-only list of records, each one line that ends with a newline. Only the process that holds the log's
    lock may open it. Not thread-safe."""

    def content(self) -> bytes:
        """Return all records. The last line may be torn."""

    def cut(self, whole: int) -> None:
        """Truncate the content to its first ``whole`` bytes, and end it with a newline."""

    def append(self, number: int, line: bytes) -> bool:
        """Append a record durably. ``number``: the number of records before it. Returns False, and changes nothing, if
        another process has written a record of that number. After an error the record is absent, or
        :meth:`recover_appended` returns it."""

    def recover_appended(self) -> Sequence[bytes]:
        """Return the records whose :meth:`append` had an unknown outcome and that do exist. Call it before each append;
        it returns a record only once. Raises JournalError if another process has written a record of that number."""

    def close(self) -> None:
        """Close the log in this process. The second call does nothing."""


class Store(Protocol):
    """Objects, logs and locks by their keys. Methods raise the store's error class or the cloud's errors."""

    @property
    def poll(self) -> float:
        """Seconds between two attempts to take a lock. In a bucket each attempt is a request."""

    @property
    def lists_freely(self) -> bool:
        """Whether a listing costs no request, so that everything can be listed at any time."""

    def where(self, key: str = "") -> str:
        """Return the address of an object for messages: a path, or an s3:// URL."""

    def read(self, key: str) -> Stored | None:
        """Return an object; None if it does not exist."""

    def create(self, key: str, data: bytes, *, private: bool = False) -> Stored | None:
        """Write an object that must not exist yet. Returns None, and changes nothing, if it exists. ``private``: only
        the user of this process can read it and its folder, if the store has such permissions."""

    def replace(self, key: str, data: bytes, before: Stored | None) -> Stored | None:
        """Write an object that must still be ``before`` (None: it must not exist). Returns None, and changes nothing,
        if it is not."""

    def delete_folder(self, folder: str) -> None:
        """Delete everything below a folder. The second call does nothing."""

    def delete(self, key: str) -> None:
        """Delete an object. The second call does nothing."""

    def names(self, folder: str) -> tuple[str, ...]:
        """Return the names of the objects and folders directly in a folder, sorted; none if it does not exist."""

    def stamps(self, folder: str) -> dict[str, str]:
        """Return all objects below a folder, also in folders of it: key, relative to the folder, -> stamp. Each write
        of an object changes its stamp. A stamp is opaque, and not the ``version`` of :class:`Stored`."""

    def lock(self, key: str, what: str, hint: str) -> Lock:
        """Take a lock without waiting. Raises Busy, with ``what``, the holder and ``hint``, if it is held. A lock is
        not re-entrant."""

    def holder(self, key: str) -> Holder | None:
        """Return the process that has a lock now; None if the lock is free."""

    def has_log(self, key: str) -> bool:
        """Return whether a log exists."""

    def read_log(self, key: str) -> bytes | None:
        """Return all records of a log, read without its lock; None if it does not exist."""

    def create_log(self, key: str, first: bytes, lock: Lock, what: str) -> Log | None:
        """Create a log with its first record. Returns None, and changes nothing, if it exists. ``lock``: the log's
        lock, which this process holds while it appends. ``what``: for messages, "the journal of build x"."""

    def open_log(self, key: str, lock: Lock, what: str) -> Log:
        """Open an existing log to append to it."""
