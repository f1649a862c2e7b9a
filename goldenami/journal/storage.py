"""Where the journals of an environment are kept, on a store (``goldenami.store``).

In a directory::

    <build id>/journal.jsonl     one JSON object a line, appended and fsynced, never rewritten
    <build id>/lock              held by the one process that works on the build; contains its name
    <build id>/secrets/          mode 0700, one file of mode 0600 each; deleted at the end
    locks/<recipe>               held by the one process that builds the recipe

In a bucket, for pipelines whose next run is on another machine::

    builds/<build id>/records/00000000.jsonl    one record each (``aws.bucketstore``)
    builds/<build id>/lease                     the lease of the process that works on the build
    builds/<build id>/secrets/<name>            envelopes (``aws.envelope``); deleted at the end
    open/<build id>                             empty; exists for as long as the build is not finished
    locks/<recipe>                              the lease of the process that builds the recipe

A process that takes an expired lease over writes a record before anything else. The earlier holder's next intent then
fails, and with it the call that the intent is for.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Final, Protocol

from goldenami.errors import GoldenAmiError, JournalError
from goldenami.journal.records import Json, Secret, line, replay, timestamp, utc_now
from goldenami.store import DirectoryStore, Holder, Lock, Log, Store

FILE: Final = "journal.jsonl"
SAFE_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,199}\Z")


def checked_name(name: str, what: str) -> str:
    """The name, if it can be one of a file and of an object. Raises JournalError."""
    if not SAFE_NAME.match(name):
        raise JournalError(
            f"{name!r} cannot be the name of a {what}: expected 1 to 200 letters, digits, dots, underscores and "
            f"hyphens, the first one a letter or digit"
        )
    return name


@dataclass(frozen=True, slots=True)
class Layout:
    """Where a store has what belongs to a build. ``builds``: the folder of all builds. ``records``: the log, below the
    build's folder; empty for the folder itself. ``lock``: the lock, below it. ``open``: the folder of marks of
    unfinished builds; empty where looking into every build is quick enough."""

    builds: str
    records: str
    lock: str
    open: str

    def folder(self, build_id: str) -> str:
        return f"{self.builds}/{build_id}".strip("/")

    def log(self, build_id: str) -> str:
        return f"{self.folder(build_id)}/{self.records}".strip("/")


IN_A_DIRECTORY: Final = Layout(builds="", records=FILE, lock="lock", open="")
IN_A_BUCKET: Final = Layout(builds="builds", records="", lock="lease", open="open")


class Seal(Protocol):
    """Makes the secrets of one build unreadable for everyone who may read the store."""

    def close(self, name: str, value: bytes) -> bytes:
        """What is stored of a secret."""

    def open(self, name: str, envelope: bytes) -> bytes:
        """The secret. Raises JournalError for what was not closed under that name."""


class Storage:
    """All journals of an environment."""

    def __init__(
        self,
        store: Store,
        layout: Layout,
        local: Path,
        *,
        seal: Callable[[str], Seal] | None = None,
        now: Callable[[], datetime] = utc_now,
    ) -> None:
        """``local``: the directory where this machine keeps what else belongs to builds (reports). ``seal``: gives the
        seal of a build's secrets; None where the store's own permissions protect them."""
        self._store = store
        self._layout = layout
        self._local = local
        self._seal = seal
        self._now = now

    @classmethod
    def in_directory(
        cls, root: Path, *, now: Callable[[], datetime] = utc_now, sync: Callable[[int], None] = os.fsync
    ) -> Storage:
        """The journals below a directory. ``sync``: see ``DirectoryStore``."""
        return cls(DirectoryStore(root, error=JournalError, now=now, sync=sync), IN_A_DIRECTORY, root, now=now)

    def where(self, build_id: str | None = None) -> str:
        """How a person finds a build's records, or all of them."""
        return self._store.where(self._layout.builds if build_id is None else self._layout.log(build_id))

    def directory(self, build_id: str) -> Path:
        """Where this machine keeps what else belongs to a build (reports); it need not exist."""
        return self._local / build_id

    def names(self, *, unfinished: bool = False) -> tuple[str, ...]:
        """The ids of all builds, sorted; or of the unfinished ones, and perhaps others, if that is quicker."""
        if unfinished and self._layout.open:
            return self._store.names(self._layout.open)
        names = self._store.names(self._layout.builds)
        if self._layout.builds:
            return names
        return tuple(name for name in names if self._store.has_log(self._layout.log(name)))

    def read(self, build_id: str) -> bytes | None:
        """All records of a build, read without its lock; None if there is no such build."""
        return self._store.read_log(self._layout.log(build_id)) if SAFE_NAME.match(build_id) else None

    def create(self, build_id: str, header: bytes) -> Records:
        """Start the records of a new build. Raises JournalError if it exists, or cannot be written."""
        lock = self._lock_build(checked_name(build_id, "build"))
        try:
            self._mark(build_id)
            log = self._store.create_log(self._layout.log(build_id), header, lock, _what(build_id))
            if log is None:
                raise JournalError(f"build {build_id} already exists in {self.where()}")
        except BaseException:
            lock.give_back()
            raise
        return self._records(build_id, lock, log)

    def open(self, build_id: str) -> Records | None:
        """Lock a build's records; None if there is no such build. Raises Busy if another process holds the lock."""
        key = self._layout.log(build_id)
        if not SAFE_NAME.match(build_id) or not self._store.has_log(key):
            return None
        lock = self._lock_build(build_id)
        try:
            self._mark(build_id)
            log = self._store.open_log(key, lock, _what(build_id))
            if lock.taken_over is not None:
                self._fence(build_id, log, lock.taken_over)
        except BaseException:
            lock.give_back()
            raise
        return self._records(build_id, lock, log)

    def holder(self, build_id: str) -> Holder | None:
        """The process that works on a build now, as far as can be told; None if none does."""
        return self._store.holder(self._lock_key(build_id)) if SAFE_NAME.match(build_id) else None

    @contextlib.contextmanager
    def lock(self, name: str) -> Iterator[None]:
        """Hold the lock of a name ("one build of this recipe at a time"). Raises Busy."""
        key = f"locks/{checked_name(name, 'lock')}"
        held = self._store.lock(key, name, "Wait for that process with --wait, or end it.")
        try:
            yield
        finally:
            held.give_back()

    def closed(self, build_id: str) -> None:
        """The build is finished: it need not be found as an unfinished one."""
        if self._layout.open:
            self._store.delete(f"{self._layout.open}/{build_id}")

    def _mark(self, build_id: str) -> None:
        if self._layout.open:
            self._store.create(f"{self._layout.open}/{build_id}", b"")

    def _lock_build(self, build_id: str) -> Lock:
        hint = "Wait for that process, or end it. Then run the command again."
        return self._store.lock(self._lock_key(build_id), f"build {build_id}", hint)

    def _lock_key(self, build_id: str) -> str:
        return f"{self._layout.folder(build_id)}/{self._layout.lock}"

    def _records(self, build_id: str, lock: Lock, log: Log) -> Records:
        seal = None if self._seal is None else self._seal(build_id)
        secrets = Secrets(self._store, f"{self._layout.folder(build_id)}/secrets", seal)
        return Records(self, build_id, lock, log, secrets)

    def _fence(self, build_id: str, log: Log, before: Holder) -> None:
        """Write the next record, whatever its number is by now: the earlier holder writes none after it."""
        while True:
            _, _, count, _ = replay(log.content(), self.where(build_id))
            note = {"record": "note", "name": "taken over", "data": {"from": before.to_json()}}
            if log.append(count, line({"n": count, "at": timestamp(self._now()), **note})):
                return


def _what(build_id: str) -> str:
    return f"the journal of build {build_id}"


class Records:
    """The records of one build, locked for this process. The journal serializes the calls."""

    def __init__(self, storage: Storage, build_id: str, lock: Lock, log: Log, secrets: Secrets) -> None:
        self.secrets = secrets
        self._storage = storage
        self._build_id = build_id
        self._lock = lock
        self._log = log
        self._closed = False

    def content(self) -> bytes:
        """All records, one a line; the last line may be torn."""
        return self._log.content()

    def cut(self, whole: int) -> None:
        """Make the first ``whole`` bytes of the content all there is, ended by a newline."""
        self._log.cut(whole)

    def append(self, number: int, line: bytes) -> None:
        """Add a record durably; ``number`` of them are before it. Raises JournalError, or an error of the cloud; then
        the record is absent, or ``doubtful`` returns it."""
        if not self._log.append(number, line):
            raise JournalError(
                f"build {self._build_id} was taken over by another process, which has written record {number}",
                hint="This process changed nothing more. Run `goldenami builds list` to see the lock's holder.",
            )

    def doubtful(self) -> Sequence[bytes]:
        """See ``store.Log.doubtful``."""
        return self._log.doubtful()

    def check(self) -> None:
        """Raise JournalError if the lock may have been lost. Quick: as a rule nothing is sent."""
        self._lock.check()

    def close(self, *, finished: bool = False) -> None:
        """Release the lock. ``finished``: the build need not be found as an unfinished one. The second call does
        nothing."""
        if self._closed:
            return
        self._closed = True
        try:
            self._log.close()
            if finished:
                with contextlib.suppress(GoldenAmiError):  # the mark only makes finding quicker
                    self._lock.check()
                    self._storage.closed(self._build_id)
        finally:
            self._lock.give_back()


class Secrets:
    """The secrets of one build, beside its records, where only those who may continue the build can read them."""

    def __init__(self, store: Store, folder: str, seal: Seal | None) -> None:
        self._store = store
        self._folder = folder
        self._seal = seal

    def keep(self, secret: Secret) -> Json:
        """Store what a request must not show; returns what the journal holds instead of it."""
        if self._store.read(self._key(secret.digest)) is None:
            self._write(secret.digest, secret.value.encode())
        return {"$secret": secret.digest}

    def read(self, digest: str) -> Secret:
        """What :meth:`keep` stored. Raises FileNotFoundError."""
        found = self._store.read(self._key(digest))
        if found is None:
            raise FileNotFoundError(errno.ENOENT, "the secret does not exist", self._store.where(self._key(digest)))
        return Secret(self._opened(digest, found.data).decode())

    def named(self, name: str, make: Callable[[], bytes]) -> bytes:
        """The secret of a name: read, or made and stored."""
        if not SAFE_NAME.match(name):
            raise ValueError(f"{name!r} cannot be the name of a secret")
        found = self._store.read(self._key(name))
        if found is None:
            value = make()
            if self._write(name, value):
                return value
            found = self._store.read(self._key(name))  # another thread was quicker
            if found is None:
                raise JournalError(f"{self._store.where(self._key(name))} was deleted while it was read")
        return self._opened(name, found.data)

    def remove(self) -> None:
        """Delete all of them. The second call does nothing."""
        self._store.delete_folder(self._folder)

    def _key(self, name: str) -> str:
        return f"{self._folder}/{name}"

    def _write(self, name: str, value: bytes) -> bool:
        data = value if self._seal is None else self._seal.close(name, value)
        return self._store.create(self._key(name), data, private=True) is not None

    def _opened(self, name: str, data: bytes) -> bytes:
        return data if self._seal is None else self._seal.open(name, data)
