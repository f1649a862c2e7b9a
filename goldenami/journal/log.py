"""The journal of one build, locked and open for appending. ``records.py`` computes the state from the records;
``storage.py`` stores them."""

from __future__ import annotations

import json
import os
import shutil
import threading
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any, Self

from goldenami.errors import JournalError, NotFound
from goldenami.journal.records import (
    NOTIFICATION,
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
from goldenami.journal.storage import LOGINS, Records, Storage
from goldenami.model import Place
from goldenami.nextstep import step


class Journal:
    """The journal of one build, locked and open for appending. Methods may be called from any thread.

    A record is durable when its method returns. If an append fails, it raises JournalError or the error of the bucket
    (AccessError for expired credentials). Then the caller must not make the call of that intent.

    ``directory``: where this machine keeps the build's reports.
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
        secrets: Mapping[str, bytes] | None = None,
        now: Callable[[], datetime] = utc_now,
        sync: Callable[[int], None] = os.fsync,
    ) -> Journal:
        """Create the journal of a new build in a storage, or in a directory, which is created if it is missing.

        ``secrets``: values by their names, which :meth:`secret` returns. Raises JournalError if the build already
        exists or the journal cannot be written. ``sync``: see ``DirectoryStore``.
        """
        storage = Storage.in_directory(builds, now=now, sync=sync) if isinstance(builds, Path) else builds
        first = line({"record": "header", "schema": SCHEMA, "n": 0, **header_json(header)})
        records = storage.create(header.build_id, first, secrets or {})
        return cls(records, header, State(), directory=storage.directory(header.build_id), count=1, now=now)

    @classmethod
    def open(
        cls, directory: Path, *, now: Callable[[], datetime] = utc_now, sync: Callable[[int], None] = os.fsync
    ) -> Journal:
        """Open the journal in a build's directory: lock it, replay it and prepare it for more records. A torn last line
        is cut off.

        Raises NotFound if it does not exist, Busy if another process holds the lock, JournalError if it is damaged.
        """
        return cls.open_in(Storage.in_directory(directory.parent, now=now, sync=sync), directory.name, now=now)

    @classmethod
    def open_in(cls, storage: Storage, build_id: str, *, now: Callable[[], datetime] = utc_now) -> Journal:
        """Open a journal in a storage, as :meth:`open` does."""
        records = storage.open(build_id)
        if records is None:
            raise NotFound(
                f"there is no build {build_id} in {storage.where()}",
                hint=f"Run {step('builds list')} to see all builds.",
            )
        try:
            header, state, count, whole = replay(records.content(), storage.where(build_id))
            records.cut(whole)
        except BaseException:
            records.close()
            raise
        return cls(records, header, state, directory=storage.directory(build_id), count=count, now=now)

    def close(self) -> None:
        """Release the lock. The second call does nothing."""
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
        """Raise JournalError if another process may have taken the build over. Called right before each mutating
        call."""
        self._records.check()

    # --- the protocol of calls ----------------------------------------------------------------------------------------

    def intend(self, intent: Intent) -> None:
        """Record the intent of a call, before the call. The call's secrets are stored before the record."""
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

    def record_success(
        self, token: str, *, id: str | None = None, data: Mapping[str, Any] | None = None, adopted: bool = False
    ) -> None:
        """Record that a call succeeded. ``id``: of the resource that it created. ``adopted``: the resource was found by
        its token."""
        record: Json = {"record": "result", "token": token}
        if id is not None:
            record["id"] = id
        if data:
            record["data"] = dict(data)
        if adopted:
            record["adopted"] = True
        self._append(record)

    def record_refusal(self, token: str, *, code: str, message: str) -> None:
        """Record that a call was refused: this attempt created nothing."""
        self._append({"record": "result", "token": token, "error": {"code": code, "message": message[:1000]}})

    def record_deleted(self, kind: str, place: Place, id: str) -> None:
        """Record that a resource does not exist any more. A second call writes nothing."""
        with self._mutex:
            if (place, id) not in self._state.gone:
                self._append({"record": "gone", "kind": kind, **place_json(place), "id": id})

    def record_spoiled(self, kind: str, place: Place, id: str, reason: str) -> None:
        """Record that a resource exists but must not be used: the next "create" of its key creates another one. A
        second call writes nothing."""
        with self._mutex:
            if (place, id) not in self._state.spoiled:
                self._append(
                    {"record": "spoiled", "kind": kind, **place_json(place), "id": id, "reason": reason[:1000]}
                )

    # --- data of the pipeline -----------------------------------------------------------------------------------------

    def stage_done(self, name: str, **data: Any) -> None:
        """Record that a stage is done, with small JSON values for a later run. The last record of a name is valid."""
        self._append({"record": "stage", "name": name, "status": "done", "data": data})

    def stage_undone(self, name: str) -> None:
        """Record that a stage must run again, because its result is not valid any more (its builder was lost)."""
        self._append({"record": "stage", "name": name, "status": "undone", "data": {}})

    def stage(self, name: str) -> Mapping[str, Any] | None:
        """Return the data of a stage that is done, or None."""
        with self._mutex:
            found = self._state.stages.get(name)
            return found["data"] if found is not None and found["status"] == "done" else None

    def note(self, name: str, **data: Any) -> None:
        """Record a fact for readers of the journal."""
        self._append({"record": "note", "name": name, "data": data})

    def finish(self, status: Ending, **data: Any) -> None:
        """Record how the build ended. A later intent (of a resume or a clean-up) reopens it. The secrets are deleted,
        except with the status "failed"."""
        self._append({"record": "end", "status": status, "data": data})
        if status != "failed":
            self.remove_secrets()

    # --- reading ------------------------------------------------------------------------------------------------------

    @property
    def ending(self) -> str | None:
        """The status at the end of the build; None while it is unfinished."""
        with self._mutex:
            return self._state.ending["status"] if self._state.ending is not None else None

    @property
    def notes(self) -> tuple[Mapping[str, Any], ...]:
        with self._mutex:
            return tuple(self._state.notes)

    def intents(self, key: str) -> tuple[Intent, ...]:
        """Return all attempts at a key, oldest first. Secrets stay concealed."""
        with self._mutex:
            return tuple(self._state.by_key.get(key, ()))

    def latest(self, key: str) -> tuple[Intent, Result | None] | None:
        """Return the last attempt at a key, and its result if there is one. The request of an unresolved creating call
        contains its secrets, since it may be sent again."""
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

    def resources(self, kind: str | None = None, place: Place | None = None) -> tuple[Resource, ...]:
        """Return the resources that this build created and has not deleted, oldest first. ``kind``, ``place``: only
        those. Secrets stay concealed."""
        with self._mutex:
            return tuple(r for r in self._state.resources(place) if kind is None or r.kind == kind)

    def spoiled(self, key: str) -> Resource | None:
        """Return the resource of a key that must not be used and is not deleted. Secrets stay concealed."""
        with self._mutex:
            return self._state.spoiled_of(key)

    def spoiled_in(self, kind: str) -> frozenset[Place]:
        """Return the places of the resources of a kind that must not be used, also of those that are deleted."""
        with self._mutex:
            made = self._state.creations
            return frozenset(at[0] for at in self._state.spoiled if any(i.kind == kind for i in made.get(at, ())))

    def created(self, kind: str, place: Place, id: str) -> tuple[Intent, ...]:
        """Return the calls that created a resource, oldest first. Secrets stay concealed."""
        with self._mutex:
            return tuple(i for i in self._state.creations.get((place, id), ()) if i.kind == kind)

    def done_since(self, moment: datetime) -> tuple[tuple[Intent, Result], ...]:
        """Return the calls that succeeded at this time or later, by the clocks of the machines that made them, oldest
        first. Secrets stay concealed."""
        with self._mutex:
            state = self._state
            found = ((intent, state.results.get(token)) for token, intent in state.by_token.items())
            return tuple(
                (intent, result)
                for intent, result in found
                if result is not None and result.ok and state.times.get(intent.token, moment) >= moment
            )

    def intended_at(self, token: str) -> datetime | None:
        """Return the time of the last record about a call, by the clock of the machine that made it."""
        with self._mutex:
            return self._state.times.get(token)

    def refusal(self, token: str) -> str | None:
        """Return the code of the error with which a call was refused; None if it was not, or not yet."""
        with self._mutex:
            result = self._state.results.get(token)
            return result.error["code"] if result is not None and result.error is not None else None

    def unresolved(self) -> tuple[Intent, ...]:
        """Return the creating calls of unknown outcome. Secrets stay concealed."""
        with self._mutex:
            return self._state.unresolved()

    def unresolved_deletions(self) -> tuple[Intent, ...]:
        """Return the deletions of unknown outcome, one for each resource."""
        with self._mutex:
            return self._state.unresolved_deletions()

    def calls(self, kind: str, place: Place | None = None) -> tuple[Intent, ...]:
        """Return the intents of all calls for a kind, oldest first. ``place``: only those there. Secrets stay
        concealed."""
        with self._mutex:
            return tuple(i for i in self._state.calls(place) if i.kind == kind)

    def places(self) -> tuple[Place, ...]:
        """Return all places that the build's intents name, sorted. A notification creates nothing, so its place has
        nothing to clean up, and the caller may have no other permission there."""
        with self._mutex:
            return tuple(sorted({i.place for i in self._state.by_token.values() if i.kind != NOTIFICATION}))

    # --- secrets ------------------------------------------------------------------------------------------------------

    def secret(self, name: str, make: Callable[[], bytes]) -> bytes:
        """Return the secret of a name. The first call creates and stores it; later calls, in any process, read it."""
        with self._mutex:
            return self._records.secrets.named(name, make)

    def remove_secrets(self) -> None:
        """Delete all secrets of the build, and this machine's files for logins. The second call does nothing."""
        with self._mutex:
            self._records.secrets.remove()
            shutil.rmtree(self.directory / LOGINS, ignore_errors=True)

    def _reveal(self, intent: Intent) -> Intent:
        if intent.action != "create" or intent.token in self._state.results:
            return intent  # only a request that may be sent again needs its secrets; they may be deleted already
        try:
            return replace(intent, request=uncover(intent.request, self._records.secrets.read))
        except FileNotFoundError as error:
            raise JournalError(
                f"a secret of build {self.build_id} is missing: {error.filename}",
                hint=f"The build cannot be resumed. Run {step('clean', self.build_id)} to delete its resources.",
            ) from error

    # --- writing ------------------------------------------------------------------------------------------------------

    def _append(self, record: Json) -> None:
        with self._mutex:
            if self._closed:
                raise JournalError(f"the journal of build {self.build_id} is closed")
            for late in self._records.recover_appended():
                self._take(json.loads(late))
            record = {"n": self._count, "at": timestamp(self._now()), **record}
            text = line(record)
            self._records.append(self._count, text)
            # The state keeps a copy of an intent's request: it need not be read again for that.
            self._take(record if record["record"] == "intent" else json.loads(text))

    def _take(self, record: Json) -> None:
        self._count += 1
        self._state.apply(record)
