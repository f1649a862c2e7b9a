"""The layout of an environment's journals in a store (``goldenami.store``).

In a directory, which only its owner can read and write (files of mode 0600, folders of mode 0700)::

    <build id>/journal.jsonl     one JSON object in each line, appended and fsynced, never rewritten
    <build id>/lock              the lock of the process that works on the build; contains its holder
    <build id>/secrets/          one file for each secret; deleted at the end
    <build id>/events/           the events of each run (``eventlog``)
    <build id>/ssh/              files for logins to its instances (``stages.logins``); deleted at the end
    locks/<recipe>               the lock of the process that builds the recipe

In a bucket, for pipelines whose next run is on another machine::

    builds/<build id>/records/00000000.jsonl    one object for each record (``aws.bucketstore``), with a MAC
                                                (``authentic``)
    builds/<build id>/lease                     the lease of the process that works on the build
    builds/<build id>/secrets/<name>            envelopes (``aws.envelope``); deleted at the end
    events/<build id>/<run>.jsonl               the events of each run that ended; readers do not trust them
    open/<build id>                             empty; exists for as long as the build is not finished
    locks/<recipe>                              the lease of the process that builds the recipe
    keys/<environment>                          the envelope of the key for the MACs

A process that takes over an expired lease first writes a record. So the earlier holder cannot write its next intent,
and does not make the call of that intent.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Final

from goldenami.errors import GoldenAmiError, JournalError
from goldenami.journal.authentic import Authenticator
from goldenami.journal.eventlog import EventLogs
from goldenami.journal.records import Json, Secret, line, replay, timestamp, utc_now
from goldenami.nextstep import step
from goldenami.store import DirectoryStore, Holder, Lock, Log, Seal, Store

FILE: Final = "journal.jsonl"
LOGINS: Final = "ssh"  # in the local directory of a build: keys and known_hosts for logins to its instances
SAFE_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,199}\Z")


def checked_name(name: str, what: str) -> str:
    """Return the name if it is valid for files and objects. Raises JournalError."""
    if not SAFE_NAME.match(name):
        raise JournalError(
            f"{name!r} cannot be the name of a {what}: expected 1 to 200 letters, digits, dots, underscores and "
            f"hyphens, the first one a letter or digit"
        )
    return name


@dataclass(frozen=True, slots=True)
class Layout:
    """The keys of a build's parts in a store. ``builds``: the folder of all builds. ``records``: the key of the log in
    the build's folder; empty for the folder itself. ``lock``: the key of the lock in it. ``open``: the folder with a
    mark for each unfinished build; empty if reading all builds is fast enough. ``events``: the folder of all logs of
    events; empty if the local directory is the store."""

    builds: str
    records: str
    lock: str
    open: str
    events: str

    def folder(self, build_id: str) -> str:
        return f"{self.builds}/{build_id}".strip("/")

    def log(self, build_id: str) -> str:
        return f"{self.folder(build_id)}/{self.records}".strip("/")


IN_A_DIRECTORY: Final = Layout(builds="", records=FILE, lock="lock", open="", events="")
IN_A_BUCKET: Final = Layout(builds="builds", records="", lock="lease", open="open", events="events")


class Storage:
    """All journals of an environment."""

    def __init__(
        self,
        store: Store,
        layout: Layout,
        local: Path,
        *,
        seal: Callable[[str], Seal] | None = None,
        authenticator: Authenticator | None = None,
        now: Callable[[], datetime] = utc_now,
    ) -> None:
        """``local``: the directory where this machine keeps the reports of builds. ``seal``: returns the encryption for
        a build's secrets; ``authenticator``: signs the records. Both are None if the store's permissions protect
        them."""
        self._store = store
        self._layout = layout
        self._local = local
        self._seal = seal
        self._authenticator = authenticator
        self._now = now

    @classmethod
    def in_directory(
        cls, root: Path, *, now: Callable[[], datetime] = utc_now, sync: Callable[[int], None] = os.fsync
    ) -> Storage:
        """Return the journals in a directory. ``sync``: see ``DirectoryStore``."""
        store = DirectoryStore(root, error=JournalError, now=now, sync=sync, private=True)
        return cls(store, IN_A_DIRECTORY, root, now=now)

    def where(self, build_id: str | None = None) -> str:
        """Return the address of a build's records, or of all journals, for messages."""
        return self._store.where(self._layout.builds if build_id is None else self._layout.log(build_id))

    def directory(self, build_id: str) -> Path:
        """Return the directory where this machine keeps a build's reports. It may not exist."""
        return self._local / build_id

    def events(self, build_id: str) -> EventLogs:
        """Return the logs of the events of a build."""
        name = checked_name(build_id, "build")
        store = self._store if self._layout.events else None
        return EventLogs(store, f"{self._layout.events}/{name}", self.directory(name) / "events", self._now)

    def names(self, *, unfinished: bool = False) -> tuple[str, ...]:
        """Return the ids of all builds, sorted. With ``unfinished``, some finished builds may be omitted, which is
        faster."""
        if unfinished and self._layout.open:
            return self._store.names(self._layout.open)
        names = self._store.names(self._layout.builds)
        if self._layout.builds:
            return names
        return tuple(name for name in names if self._store.has_log(self._layout.log(name)))

    def read(self, build_id: str) -> bytes | None:
        """Return all records of a build, read without its lock; None if the build does not exist. Raises JournalError
        if they are not authentic; those of another environment are not checked, and nothing is done with them."""
        content = self._store.read_log(self._layout.log(build_id)) if SAFE_NAME.match(build_id) else None
        if content is not None:
            self.check(build_id, content)
        return content

    def create(self, build_id: str, header: bytes, secrets: Mapping[str, bytes]) -> Records:
        """Create the records of a new build, after its ``secrets``, by name. Raises JournalError if it exists or cannot
        be written."""
        lock = self._lock_build(checked_name(build_id, "build"))
        try:
            self._mark(build_id)
            for name, value in secrets.items():
                self._secrets(build_id).named(name, partial(bytes, value))
            header, mac = self.sign(build_id, "", header)
            log = self._store.create_log(self._layout.log(build_id), header, lock, _what(build_id))
            if log is None:
                raise JournalError(f"build {build_id} already exists in {self.where()}")
        except BaseException:
            lock.give_back()
            raise
        return Records(self, build_id, lock, log, self._secrets(build_id), mac)

    def open(self, build_id: str) -> Records | None:
        """Lock a build's records. Returns None if the build does not exist. Raises Busy if another process holds the
        lock."""
        key = self._layout.log(build_id)
        if not SAFE_NAME.match(build_id) or not self._store.has_log(key):
            return None
        lock = self._lock_build(build_id)
        try:
            self._mark(build_id)
            log = self._store.open_log(key, lock, _what(build_id))
            mac = None if lock.taken_over is None else self._fence(build_id, log, lock.taken_over)
        except BaseException:
            lock.give_back()
            raise
        return Records(self, build_id, lock, log, self._secrets(build_id), mac)

    def holder(self, build_id: str) -> Holder | None:
        """Return the process that holds a build's lock now; None if the lock is free."""
        return self._store.holder(self._lock_key(build_id)) if SAFE_NAME.match(build_id) else None

    def secret(self, build_id: str, name: str) -> bytes | None:
        """Return the secret of a name, read without the build's lock; None if it does not exist."""
        return self._secrets(checked_name(build_id, "build")).find(name)

    @contextlib.contextmanager
    def lock(self, name: str) -> Iterator[None]:
        """Hold the lock of a name inside a ``with`` block. Raises Busy."""
        key = f"locks/{checked_name(name, 'lock')}"
        held = self._store.lock(key, name, "Wait for that process with --wait, or end it.")
        try:
            yield
        finally:
            held.give_back()

    def closed(self, build_id: str) -> None:
        """Remove the mark of an unfinished build."""
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

    def _secrets(self, build_id: str) -> Secrets:
        seal = None if self._seal is None else self._seal(build_id)
        return Secrets(self._store, f"{self._layout.folder(build_id)}/secrets", seal)

    def sign(self, build_id: str, before: str, line: bytes) -> tuple[bytes, str]:
        """See ``Authenticator.sign``."""
        return (line, "") if self._authenticator is None else self._authenticator.sign(build_id, before, line)

    def check(self, build_id: str, content: bytes) -> str:
        """Check all records of a build, and return the MAC of the last one: see ``Authenticator.check``. Those of
        another environment are not checked."""
        if self._authenticator is None or not self._authenticator.is_ours(content):
            return ""
        return self._authenticator.check(build_id, content, self.where(build_id))

    def _fence(self, build_id: str, log: Log, before: Holder) -> str:
        """Write the next record, with the number that is free now. Then the earlier holder cannot write any more.
        Return the record's MAC."""
        while True:
            content = log.content()
            if self._authenticator is not None and not self._authenticator.is_ours(content):
                raise JournalError(
                    f"build {build_id} is of another environment",
                    hint=f"{step('builds list')} shows the environment. Use --environment.",
                )
            mac = self.check(build_id, content)
            _, _, count, _ = replay(content, self.where(build_id))
            note = {"record": "note", "name": "taken over", "data": {"from": before.to_json()}}
            signed, mac = self.sign(build_id, mac, line({"n": count, "at": timestamp(self._now()), **note}))
            if log.append(count, signed):
                return mac


def _what(build_id: str) -> str:
    return f"the journal of build {build_id}"


class Records:
    """The records of one build, locked for this process. Not thread-safe: the journal serializes the calls."""

    def __init__(
        self, storage: Storage, build_id: str, lock: Lock, log: Log, secrets: Secrets, mac: str | None
    ) -> None:
        """``mac``: of the last record; None: :meth:`content` finds it."""
        self.secrets = secrets
        self._mac = mac
        self._storage = storage
        self._build_id = build_id
        self._lock = lock
        self._log = log
        self._closed = False

    def content(self) -> bytes:
        """Return all records, one in each line. The last line may be torn. Raises JournalError if a record is not
        authentic."""
        content = self._log.content()
        self._mac = self._storage.check(self._build_id, content)
        return content

    def cut(self, whole: int) -> None:
        """Truncate the content to its first ``whole`` bytes, and end it with a newline."""
        self._log.cut(whole)

    def append(self, number: int, line: bytes) -> None:
        """Append a record durably. ``number``: the number of records before it. Raises JournalError or an error of the
        cloud; then the record is absent, or :meth:`recover_appended` returns it."""
        signed, mac = self._storage.sign(self._build_id, self._mac or "", line)
        if not self._log.append(number, signed):
            raise JournalError(
                f"build {self._build_id} was taken over by another process, which has written record {number}",
                hint=f"This process changed nothing more. Run {step('builds show', self._build_id)} to see the "
                "lock's holder.",
            )
        self._mac = mac

    def recover_appended(self) -> Sequence[bytes]:
        """See ``store.Log.recover_appended``."""
        late = self._log.recover_appended()
        for record in late:
            self._mac = str(json.loads(record).get("mac", ""))
        return late

    def check(self) -> None:
        """Raise JournalError if another process may hold the lock now. Usually sends no request."""
        self._lock.check()

    def close(self, *, finished: bool = False) -> None:
        """Release the lock. ``finished``: also remove the mark of an unfinished build. The second call does nothing."""
        if self._closed:
            return
        self._closed = True
        try:
            self._log.close()
            if finished:
                with contextlib.suppress(GoldenAmiError):  # the mark only makes the search faster
                    self._lock.check()
                    self._storage.closed(self._build_id)
        finally:
            self._lock.give_back()


class Secrets:
    """The secrets of one build, stored beside its records. Only users who may resume the build can read them."""

    def __init__(self, store: Store, folder: str, seal: Seal | None) -> None:
        self._store = store
        self._folder = folder
        self._seal = seal

    def keep(self, secret: Secret) -> Json:
        """Store a secret of a request. Returns the JSON value that replaces it in the journal."""
        if self._store.read(self._key(secret.digest)) is None:
            self._write(secret.digest, secret.value.encode())
        return {"$secret": secret.digest}

    def read(self, digest: str) -> Secret:
        """Return a secret that :meth:`keep` stored. Raises FileNotFoundError."""
        found = self._store.read(self._key(digest))
        if found is None:
            raise FileNotFoundError(errno.ENOENT, "the secret does not exist", self._store.where(self._key(digest)))
        return Secret(self._opened(digest, found.data).decode())

    def find(self, name: str) -> bytes | None:
        """Return the secret of a name; None if it does not exist."""
        found = self._store.read(self._key(name))
        return None if found is None else self._opened(name, found.data)

    def named(self, name: str, make: Callable[[], bytes]) -> bytes:
        """Return the secret of a name. It is created and stored if it does not exist."""
        if not SAFE_NAME.match(name):
            raise ValueError(f"{name!r} cannot be the name of a secret")
        found = self._store.read(self._key(name))
        if found is None:
            value = make()
            if self._write(name, value):
                return value
            found = self._store.read(self._key(name))  # another thread has written it meanwhile
            if found is None:
                raise JournalError(f"{self._store.where(self._key(name))} was deleted while it was read")
        return self._opened(name, found.data)

    def remove(self) -> None:
        """Delete all secrets of the build. The second call does nothing."""
        self._store.delete_folder(self._folder)

    def _key(self, name: str) -> str:
        return f"{self._folder}/{name}"

    def _write(self, name: str, value: bytes) -> bool:
        data = value if self._seal is None else self._seal.close(name, value)
        return self._store.create(self._key(name), data, private=True) is not None

    def _opened(self, name: str, data: bytes) -> bytes:
        return data if self._seal is None else self._seal.open(name, data)
