"""One build's journal, open for appending and locked. What its records add up to is in ``records``; where they
are kept is in ``storage``."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any, Self

from goldenami.errors import JournalError, NotFound
from goldenami.journal.records import (
    SCHEMA,
    Ending,
    Header,
    Intent,
    Json,
    Resource,
    Result,
    State,
    conceal,
    header_json,
    line,
    place_json,
    replay,
    timestamp,
    uncover,
    utc_now,
)
from goldenami.journal.storage import Records, Storage
from goldenami.model import Place


class Journal:
    """The journal of one build, open for appending and locked. Methods may be called from any thread.

    An append that returns is durable. One that fails raises JournalError, or what the storage's cloud said (AccessError
    for credentials that expired), and the caller must not make the call whose intent could not be written.

    ``directory``: where this machine keeps what else belongs to the build (reports).
    """

    def __init__(
        self,
        records: Records,
        header: Header,
        state: State,
        *,
        directory: Path,
        count: int,
        now: Callable[[], datetime],
    ) -> None:
        """Use ``Journals.create`` and ``Journals.open``, or :meth:`create` and :meth:`open`."""
        self.directory = directory
        self.header = header
        self._records = records
        self._state = state
        self._count = count
        self._now = now
        self._mutex = threading.RLock()
        self._closed = False

    # --- opening and closing ------------------------------------------------------------------------------------------

    @classmethod
    def create(
        cls,
        builds: Path | Storage,
        header: Header,
        *,
        now: Callable[[], datetime] = utc_now,
        sync: Callable[[int], None] = os.fsync,
    ) -> Journal:
        """Start the journal of a new build in a storage, or under a directory, which is made if it is missing.

        Raises JournalError if the build exists already or nothing can be written there. ``sync`` (of directories)
        flushes a file descriptor to the disk; tests that need no durability pass one that does nothing.
        """
        storage = Storage.in_directory(builds, now=now, sync=sync) if isinstance(builds, Path) else builds
        first = line({"record": "header", "schema": SCHEMA, "n": 0, **header_json(header)})
        records = storage.create(header.build_id, first)
        return cls(records, header, State(), directory=storage.directory(header.build_id), count=1, now=now)

    @classmethod
    def open(
        cls, directory: Path, *, now: Callable[[], datetime] = utc_now, sync: Callable[[int], None] = os.fsync
    ) -> Journal:
        """Lock the journal of the build whose directory this is, replay it and make it ready for more. A torn last line
        is cut off.

        Raises NotFound if there is none, Busy if another process holds it, JournalError if it is damaged.
        """
        return cls.open_in(Storage.in_directory(directory.parent, now=now, sync=sync), directory.name, now=now)

    @classmethod
    def open_in(cls, storage: Storage, build_id: str, *, now: Callable[[], datetime] = utc_now) -> Journal:
        """The same, wherever journals are kept."""
        records = storage.open(build_id)
        if records is None:
            raise NotFound(
                f"there is no build {build_id} in {storage.where()}",
                hint="Run `goldenami builds list` to see all builds.",
            )
        try:
            header, state, count, whole = replay(records.content(), storage.where(build_id))
            records.cut(whole)
        except BaseException:
            records.close()
            raise
        return cls(records, header, state, directory=storage.directory(build_id), count=count, now=now)

    def close(self) -> None:
        """Let go of the lock. The second call does nothing."""
        with self._mutex:
            if not self._closed:
                self._closed = True
                self._records.close(finished=self.ending not in (None, "failed"))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def build_id(self) -> str:
        return self.header.build_id

    def check(self) -> None:
        """Raise JournalError if somebody else may have taken the build over meanwhile: asked right before each call
        that changes something."""
        self._records.check()

    # --- the protocol of calls ----------------------------------------------------------------------------------------

    def intend(self, intent: Intent) -> None:
        """Record that a call is about to be made. Its secrets are stored before its record is."""
        with self._mutex:
            request = conceal(intent.request, self._records.secrets.keep)
            self._append(
                {
                    "record": "intent",
                    "key": intent.key,
                    "action": intent.action,
                    "kind": intent.kind,
                    **place_json(intent.place),
                    "token": intent.token,
                    "service": intent.service,
                    "operation": intent.operation,
                    "request": request,
                    "attempt": intent.attempt,
                    **({"resource": intent.resource} if intent.resource is not None else {}),
                }
            )

    def succeeded(
        self, token: str, *, id: str | None = None, data: Mapping[str, Any] | None = None, adopted: bool = False
    ) -> None:
        record: Json = {"record": "result", "token": token}
        if id is not None:
            record["id"] = id
        if data:
            record["data"] = dict(data)
        if adopted:
            record["adopted"] = True
        self._append(record)

    def refused(self, token: str, *, code: str, message: str) -> None:
        """The service answered no: nothing was made by this attempt."""
        self._append({"record": "result", "token": token, "error": {"code": code, "message": message[:1000]}})

    def gone(self, kind: str, place: Place, id: str) -> None:
        """The resource is deleted, or was found to be. Nothing is written the second time."""
        with self._mutex:
            if (place, id) not in self._state.gone:
                self._append({"record": "gone", "kind": kind, **place_json(place), "id": id})

    def spoiled(self, kind: str, place: Place, id: str, reason: str) -> None:
        """The resource exists and must not be used: the next "create" of its key makes another one."""
        with self._mutex:
            if (place, id) not in self._state.spoiled:
                self._append(
                    {"record": "spoiled", "kind": kind, **place_json(place), "id": id, "reason": reason[:1000]}
                )

    # --- what the pipeline remembers ----------------------------------------------------------------------------------

    def stage_done(self, name: str, **data: Any) -> None:
        """Record that a stage is done, with small JSON values that a later run needs. The last record of a name
        counts."""
        self._append({"record": "stage", "name": name, "status": "done", "data": data})

    def stage_undone(self, name: str) -> None:
        """What the stage left is no longer valid (its builder is gone): it has to run again."""
        self._append({"record": "stage", "name": name, "status": "undone", "data": {}})

    def stage(self, name: str) -> Mapping[str, Any] | None:
        """The data of a stage that is done, or None."""
        with self._mutex:
            found = self._state.stages.get(name)
            return found["data"] if found is not None and found["status"] == "done" else None

    def note(self, name: str, **data: Any) -> None:
        """Record a fact for whoever reads the journal later; nothing is decided by it."""
        self._append({"record": "note", "name": name, "data": data})

    def finish(self, status: Ending, **data: Any) -> None:
        """The build ended. A later intent (a resume, a clean) reopens it. Secrets are removed unless it merely
        failed."""
        self._append({"record": "end", "status": status, "data": data})
        if status != "failed":
            self.remove_secrets()

    # --- reading ------------------------------------------------------------------------------------------------------

    @property
    def ending(self) -> str | None:
        """How the build ended; None while it is unfinished."""
        with self._mutex:
            return self._state.ending["status"] if self._state.ending is not None else None

    @property
    def notes(self) -> tuple[Mapping[str, Any], ...]:
        with self._mutex:
            return tuple(self._state.notes)

    def intents(self, key: str) -> tuple[Intent, ...]:
        """All attempts at a key, oldest first. Secrets stay concealed."""
        with self._mutex:
            return tuple(self._state.by_key.get(key, ()))

    def latest(self, key: str) -> tuple[Intent, Result | None] | None:
        """The last attempt at a key and its result, if it has one. A request that may have to be sent again has its
        secrets."""
        with self._mutex:
            attempts = self._state.by_key.get(key)
            if not attempts:
                return None
            last = attempts[-1]
            return self._reveal(last), self._state.results.get(last.token)

    def attempts(self, key: str) -> int:
        with self._mutex:
            return len(self._state.by_key.get(key, ()))

    def is_gone(self, place: Place, id: str) -> bool:
        with self._mutex:
            return (place, id) in self._state.gone

    def is_spoiled(self, place: Place, id: str) -> bool:
        with self._mutex:
            return (place, id) in self._state.spoiled

    def resources(self, kind: str | None = None) -> tuple[Resource, ...]:
        """What this build made and has not deleted, oldest first. Secrets stay concealed in the requests."""
        with self._mutex:
            return tuple(r for r in self._state.resources() if kind is None or r.kind == kind)

    def unresolved(self) -> tuple[Intent, ...]:
        """Creating calls whose outcome is unknown. Secrets stay concealed."""
        with self._mutex:
            return self._state.unresolved()

    def half_deleted(self) -> tuple[Intent, ...]:
        """Deletions whose outcome is unknown, one for each resource."""
        with self._mutex:
            return self._state.half_deleted()

    def calls(self, kind: str) -> tuple[Intent, ...]:
        """Every call that was ever meant for a kind, oldest first. Secrets stay concealed."""
        with self._mutex:
            return tuple(i for i in self._state.by_token.values() if i.kind == kind)

    def places(self) -> tuple[Place, ...]:
        """Every account and region this build ever meant to change something in, sorted."""
        with self._mutex:
            return tuple(sorted({i.place for i in self._state.by_token.values()}))

    # --- secrets ------------------------------------------------------------------------------------------------------

    def secret(self, name: str, make: Callable[[], bytes]) -> bytes:
        """The secret of that name. The first call makes and stores it; later ones, in any process, read it."""
        with self._mutex:
            return self._records.secrets.named(name, make)

    def remove_secrets(self) -> None:
        """Delete all side files. The second call does nothing."""
        with self._mutex:
            self._records.secrets.remove()

    def _reveal(self, intent: Intent) -> Intent:
        if intent.action != "create" or intent.token in self._state.results:
            return intent  # only a request that may be sent again needs its secrets, and they may be gone by now
        try:
            return replace(intent, request=uncover(intent.request, self._records.secrets.read))
        except FileNotFoundError as error:
            raise JournalError(
                f"a secret of build {self.build_id} is missing: {error.filename}",
                hint=f"The build cannot be resumed. Run `goldenami clean {self.build_id}` to delete its resources.",
            ) from error

    # --- writing ------------------------------------------------------------------------------------------------------

    def _append(self, record: Json) -> None:
        with self._mutex:
            if self._closed:
                raise JournalError(f"the journal of build {self.build_id} is closed")
            for late in self._records.doubtful():
                self._take(late)
            text = line({"n": self._count, "at": timestamp(self._now()), **record})
            self._records.append(self._count, text)
            self._take(text)

    def _take(self, text: bytes) -> None:
        self._count += 1
        self._state.apply(json.loads(text))
