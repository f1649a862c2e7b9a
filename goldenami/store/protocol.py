"""What the journal and the catalog need of the place where they are kept.

Keys are paths with slashes, such as ``channels/web/stable.json``. The caller is responsible for their safety: a key
never contains ``..`` or a name that begins with a dot.

Promises, of every implementation:

- **Whole.** A reader sees an object's old contents, its new contents, or no object. A writer that is killed changes
  nothing of that.
- **Durable.** What a method returned for is there after a power failure.
- **No write is lost.** Of two writers that create or replace the same object, one succeeds; the other one is refused.
- **Locks end with their holder**: at once in a directory, after the lease's time in a bucket.
"""

from __future__ import annotations

import json
import os
import socket
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol, TypeVar

from goldenami.errors import Busy
from goldenami.polling import Interval, poll

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Stored:
    """An object as it was read or written. ``version``: opaque; another one after every change."""

    data: bytes
    version: str


@dataclass(frozen=True, slots=True)
class Holder:
    """The process that has a lock. ``since``: ISO 8601, by that process's own clock. For people only."""

    pid: int
    host: str
    command: str
    since: str

    @classmethod
    def this_process(cls, now: datetime) -> Holder:
        command = " ".join([Path(sys.argv[0]).name, *sys.argv[1:]])[:500]
        since = now.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        return cls(os.getpid(), socket.gethostname(), command, since)

    @classmethod
    def from_json(cls, data: Any) -> Holder | None:
        """None for data that is not a holder: it is for people only, and no reason to fail."""
        try:
            return cls(int(data["pid"]), str(data["host"]), str(data["command"]), str(data["since"]))
        except (ValueError, KeyError, TypeError):
            return None

    @classmethod
    def parse(cls, content: bytes) -> Holder | None:
        """The same, from bytes."""
        try:
            return cls.from_json(json.loads(content))
        except ValueError:
            return None

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host} (`{self.command}`) since {self.since}"


def busy(what: str, holder: Holder | None, hint: str) -> Busy:
    """The error for a lock that another process holds."""
    return Busy(f"{what} is locked by {holder or 'another process'}", hint=hint or None)


@dataclass(frozen=True, slots=True)
class Wait:
    """How long to wait for a lock of another process. ``seconds``: math.inf waits without an end. ``waiting`` is called
    once, with the first refusal. ``poll``: seconds between two attempts."""

    seconds: float = 0.0
    clock: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep
    waiting: Callable[[Busy], None] = field(default=lambda _: None)
    poll: float = 1.0

    def take(self, attempt: Callable[[], _T]) -> _T:
        """Repeat an attempt until it does not raise Busy, and return its result. Raises the last Busy when the time is
        over."""
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
        """The earlier holder whose lock expired without being given back; it may still believe that it holds it."""

    def check(self) -> None:
        """Raise JournalError if the lock may belong to another process by now. Sends nothing, as a rule."""

    def give_back(self) -> None:
        """Let other processes take it at once. The second call does nothing."""


class Log(Protocol):
    """An append-only list of records, each one line that ends with a newline. It is open for one process, which holds
    the lock that belongs to it. Not thread-safe."""

    def content(self) -> bytes:
        """All records. The last line may be torn."""

    def cut(self, whole: int) -> None:
        """Make the first ``whole`` bytes of the content all there is, ended by a newline."""

    def append(self, number: int, line: bytes) -> bool:
        """Add a record durably; ``number`` of them are before it. False, and nothing changed, if another process wrote
        a record of that number. After an error the record is absent, or ``doubtful`` returns it."""

    def doubtful(self) -> Sequence[bytes]:
        """Records whose ``append`` failed without an answer and that exist after all. To be called before each append;
        a record is returned once. Raises JournalError if another process's record has the number."""

    def close(self) -> None:
        """Release what the log needs in this process. The second call does nothing."""


class Store(Protocol):
    """Objects, logs and locks by their keys. Methods raise the store's error class or the cloud's errors."""

    @property
    def poll(self) -> float:
        """Seconds between two attempts to take a lock: an attempt in a bucket is a request."""

    def where(self, key: str = "") -> str:
        """How a person finds an object: a path, or an s3:// address."""

    def read(self, key: str) -> Stored | None:
        """An object; None if it does not exist."""

    def create(self, key: str, data: bytes, *, private: bool = False) -> Stored | None:
        """Write an object that must not exist yet; None, and nothing changed, if it does. ``private``: only the user
        of this process can read it and its folder, where the store has such permissions."""

    def replace(self, key: str, data: bytes, before: Stored | None) -> Stored | None:
        """Write an object that must still be ``before`` (None: must not exist); None, and nothing changed, if it is
        not."""

    def delete_folder(self, folder: str) -> None:
        """Delete everything below a folder. The second call does nothing."""

    def delete(self, key: str) -> None:
        """Delete an object. The second call does nothing."""

    def names(self, folder: str) -> tuple[str, ...]:
        """The objects and folders directly in a folder, sorted; none if it does not exist."""

    def lock(self, key: str, what: str, hint: str) -> Lock:
        """Take a lock without waiting. Raises Busy, with ``what``, the holder and ``hint``, if another has it. A lock
        is not re-entrant."""

    def holder(self, key: str) -> Holder | None:
        """The process that has a lock now; None if none has it."""

    def has_log(self, key: str) -> bool:
        """Whether a log exists."""

    def read_log(self, key: str) -> bytes | None:
        """All records of a log, read without its lock; None if it does not exist."""

    def create_log(self, key: str, first: bytes, lock: Lock, what: str) -> Log | None:
        """Start a log with its first record; None, and nothing changed, if it exists. ``lock``: held by this process
        for as long as it appends. ``what``: for messages, "the journal of build x"."""

    def open_log(self, key: str, lock: Lock, what: str) -> Log:
        """Open a log that exists, to append to it."""
