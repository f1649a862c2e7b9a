"""The intent log of one build: what makes the build survive its process.

A build owns a directory ``<builds>/<build id>/``::

    journal.jsonl     one JSON object a line, appended and fsynced, never rewritten
    lock              held (flock) by the one process that works on the build; says who that is
    secrets/          mode 0700: what calls need and the journal must not hold, one 0600 file each; removed at the end

The first line is the header. After it, for each mutating call: an *intent* before the call (kind, place, key, token,
the exact request), and after it a *result* (the id that came back, or the error by which the service refused). A call
whose outcome is unknown has an intent and no result, which is exactly what a killed process leaves behind. ``gone``
records that a resource was deleted, ``spoiled`` that it exists but must not be used (a failed copy), ``stage`` and
``note`` what the pipeline wants to remember, ``end`` how the build ended.

A crash can only tear the last line: it is dropped on opening if it is not whole. Anything else that cannot be read is
corruption, and refused with its place, because a journal that is trusted wrongly leaks or deletes the wrong things.

Replay is pure (:class:`State`); this module knows files and nothing of AWS.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import re
import secrets
import shutil
import socket
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, Literal, Self

from goldenami.errors import JournalError, NotFound
from goldenami.model import Place

SCHEMA: Final = "goldenami.journal/1"
FILE: Final = "journal.jsonl"

Action = Literal["create", "change", "delete"]
Ending = Literal["released", "failed", "cleaned", "skipped"]
Json = dict[str, Any]

_SAFE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,199}\Z")


def utc_now() -> datetime:
    return datetime.now(UTC)


def new_build_id(now: datetime) -> str:
    """Sorts by time, is unique without asking anyone, and is a valid tag value, file name and SSM path segment."""
    return f"{now.astimezone(UTC):%Y%m%d-%H%M%S}-{secrets.token_hex(4)}"


def token(build_id: str, key: str, attempt: int) -> str:
    """40 characters that name one attempt to make one resource of one build: its tag and its ClientToken (at most
    64)."""
    return hashlib.sha256(f"{build_id}\n{key}\n{attempt}".encode()).hexdigest()[:40]


@dataclass(frozen=True, slots=True)
class Secret:
    """A value inside a request that must not reach the journal. It is kept in a side file named by its digest."""

    value: str = field(repr=False)

    @property
    def digest(self) -> str:
        return hashlib.sha256(self.value.encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class Header:
    """The first line: which build this is. ``created``: UTC."""

    build_id: str
    recipe: str
    plan_digest: str
    environment: str
    created: datetime
    data: Mapping[str, Any] = field(default_factory=dict)  # small JSON values: version, source file, ...


@dataclass(frozen=True, slots=True)
class Intent:
    """A mutating call that is about to be made. ``request`` is what is sent, tags and ClientToken included.

    ``resource``: the id that a "change" or "delete" is about, where there is one. ``key``: the caller's name for the
    step, unique in the build ("builder/x86_64", "image/apps/eu-west-1/x86_64").
    """

    key: str
    action: Action
    kind: str
    place: Place
    token: str
    service: str
    operation: str
    request: Mapping[str, Any]
    attempt: int
    resource: str | None = None


@dataclass(frozen=True, slots=True)
class Result:
    """How a call ended: ``id`` for a resource that now exists, ``error`` for a definite refusal, neither for a change.
    ``data``: small JSON values of the answer. ``adopted``: found by its token instead of read from the answer."""

    token: str
    id: str | None = None
    error: Mapping[str, str] | None = None
    data: Mapping[str, Any] = field(default_factory=dict)
    adopted: bool = False

    @property
    def ok(self) -> bool:
        return self.error is None


@dataclass(frozen=True, slots=True)
class Resource:
    """Something this build created, and has not deleted as far as the journal knows."""

    kind: str
    place: Place
    id: str
    key: str
    token: str
    request: Mapping[str, Any] = field(repr=False)
    spoiled: str | None = None  # why it must not be used, or None


class State:
    """What the records add up to: a pure fold, one record at a time."""

    def __init__(self) -> None:
        self.by_key: dict[str, list[Intent]] = {}
        self.by_token: dict[str, Intent] = {}
        self.results: dict[str, Result] = {}
        self.gone: set[tuple[Place, str]] = set()
        self.spoiled: dict[tuple[Place, str], str] = {}
        self.stages: dict[str, Json] = {}
        self.notes: list[Json] = []
        self.ending: Json | None = None

    def apply(self, record: Json) -> None:
        """Raises KeyError, TypeError or ValueError on a record that is not of this schema."""
        what = record["record"]
        if what == "intent":
            intent = _intent_from(record)
            if intent.token in self.by_token and intent.action != "delete":
                raise ValueError(f"token {intent.token} is used twice")
            self.by_token[intent.token] = intent
            self.by_key.setdefault(intent.key, []).append(intent)
            self.ending = None
        elif what == "result":
            if record["token"] not in self.by_token:
                raise ValueError("a result without its intent")
            if record.get("id") is not None:
                # A name can be used again after what had it was deleted; an id never is.
                again = (self.by_token[record["token"]].place, record["id"])
                self.gone.discard(again)
                self.spoiled.pop(again, None)
            self.results[record["token"]] = Result(
                record["token"],
                record.get("id"),
                record.get("error"),
                record.get("data", {}),
                record.get("adopted", False),
            )
        elif what == "gone":
            self.gone.add((_place_from(record), record["id"]))
        elif what == "spoiled":
            self.spoiled[_place_from(record), record["id"]] = record["reason"]
        elif what == "stage":
            self.stages[record["name"]] = {"status": record["status"], "data": record["data"]}
        elif what == "note":
            self.notes.append(record)
        elif what == "end":
            self.ending = record
        else:
            raise ValueError(f"unknown record {what!r}")

    def resources(self) -> tuple[Resource, ...]:
        live = []
        for intent in self.by_token.values():
            result = self.results.get(intent.token)
            if (
                intent.action != "create"
                or result is None
                or result.id is None
                or (intent.place, result.id) in self.gone
            ):
                continue
            reason = self.spoiled.get((intent.place, result.id))
            live.append(
                Resource(intent.kind, intent.place, result.id, intent.key, intent.token, intent.request, reason)
            )
        return tuple(live)

    def unresolved(self) -> tuple[Intent, ...]:
        return tuple(i for i in self.by_token.values() if i.action == "create" and i.token not in self.results)


class Journal:
    """The journal of one build, open for appending and locked. Methods may be called from any thread.

    An append that returns is on the disk. One that fails raises JournalError and leaves the file as it was, so the
    caller must not make the call whose intent could not be written.
    """

    def __init__(
        self,
        directory: Path,
        header: Header,
        state: State,
        descriptor: int,
        lock: int,
        *,
        count: int,
        now: Callable[[], datetime],
        sync: Callable[[int], None],
    ) -> None:
        """Use :meth:`create` or :meth:`open`."""
        self.directory = directory
        self.header = header
        self._state = state
        self._descriptor = descriptor
        self._lock_descriptor = lock
        self._count = count
        self._now = now
        self._sync = sync
        self._mutex = threading.RLock()
        self._closed = False

    # --- opening and closing ------------------------------------------------------------------------------------------

    @classmethod
    def create(
        cls,
        builds: Path,
        header: Header,
        *,
        now: Callable[[], datetime] = utc_now,
        sync: Callable[[int], None] = os.fsync,
    ) -> Journal:
        """Start the journal of a new build under the directory ``builds``, which is made if it is missing.

        Raises JournalError if the build exists already or the directory cannot be written. ``sync`` flushes a file
        descriptor to the disk; tests that need no durability pass one that does nothing.
        """
        if not _SAFE_NAME.match(header.build_id):
            raise JournalError(f"{header.build_id!r} cannot be the name of a build")
        directory = builds / header.build_id
        lock = -1
        try:
            builds.mkdir(parents=True, exist_ok=True)
            directory.mkdir(exist_ok=True)
            lock = _lock(directory, now())
            path = directory / FILE
            if path.exists():
                raise JournalError(f"build {header.build_id} exists already in {builds}")
            # Written aside and renamed: a journal with half a header is never seen.
            draft = directory / f".{FILE}"
            with draft.open("wb") as file:
                file.write(_line({"record": "header", "schema": SCHEMA, "n": 0, **_header_json(header)}))
                file.flush()
                sync(file.fileno())
            draft.rename(path)
            for folder in (directory, builds):
                _sync_directory(folder, sync)
            descriptor = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CLOEXEC)
        except (OSError, JournalError) as error:
            if lock >= 0:
                os.close(lock)
            if isinstance(error, JournalError):
                raise
            raise JournalError(f"cannot create the journal in {directory}: {error.strerror}") from error
        return cls(directory, header, State(), descriptor, lock, count=1, now=now, sync=sync)

    @classmethod
    def open(
        cls, directory: Path, *, now: Callable[[], datetime] = utc_now, sync: Callable[[int], None] = os.fsync
    ) -> Journal:
        """Lock an existing build's journal, replay it and make it ready for more. A torn last line is cut off.

        Raises NotFound if there is none, JournalError if another process holds it or it is damaged.
        """
        path = directory / FILE
        if not path.exists():
            raise NotFound(f"there is no build journal in {directory}")
        lock = _lock(directory, now())
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CLOEXEC)
            try:
                content = path.read_bytes()
                header, state, count, whole = replay(content, path)
                if whole < len(content):
                    os.ftruncate(descriptor, whole)
                    sync(descriptor)
                elif not content.endswith(b"\n"):
                    os.write(descriptor, b"\n")
                    sync(descriptor)
            except BaseException:
                os.close(descriptor)
                raise
        except OSError as error:
            os.close(lock)
            raise JournalError(f"cannot open {path}: {error.strerror}") from error
        except BaseException:
            os.close(lock)
            raise
        return cls(directory, header, state, descriptor, lock, count=count, now=now, sync=sync)

    def close(self) -> None:
        """Let go of the lock. The second call does nothing."""
        with self._mutex:
            if not self._closed:
                self._closed = True
                os.close(self._descriptor)
                os.close(self._lock_descriptor)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def build_id(self) -> str:
        return self.header.build_id

    # --- the protocol of calls ----------------------------------------------------------------------------------------

    def intend(self, intent: Intent) -> None:
        """Record that a call is about to be made. Its secrets are on the disk before its record is."""
        with self._mutex:
            request = _conceal(intent.request, self._keep)
            self._append(
                {
                    "record": "intent",
                    "key": intent.key,
                    "action": intent.action,
                    "kind": intent.kind,
                    **_place_json(intent.place),
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
                self._append({"record": "gone", "kind": kind, **_place_json(place), "id": id})

    def spoiled(self, kind: str, place: Place, id: str, reason: str) -> None:
        """The resource exists and must not be used: the next "create" of its key makes another one."""
        with self._mutex:
            if (place, id) not in self._state.spoiled:
                self._append(
                    {"record": "spoiled", "kind": kind, **_place_json(place), "id": id, "reason": reason[:1000]}
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
        """All attempts at a key, oldest first. Secrets in their requests are read back in."""
        with self._mutex:
            return tuple(self._reveal(i) for i in self._state.by_key.get(key, ()))

    def latest(self, key: str) -> tuple[Intent, Result | None] | None:
        """The last attempt at a key and its result, if it has one."""
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
        """Creating calls whose outcome is unknown."""
        with self._mutex:
            return tuple(self._reveal(i) for i in self._state.unresolved())

    def places(self) -> tuple[Place, ...]:
        """Every account and region this build ever meant to change something in, sorted."""
        with self._mutex:
            return tuple(sorted({i.place for i in self._state.by_token.values()}))

    # --- secrets ------------------------------------------------------------------------------------------------------

    def secret(self, name: str, make: Callable[[], bytes]) -> bytes:
        """The secret of that name. The first call makes it and stores it durably; later ones, in any process, read
        it."""
        if not _SAFE_NAME.match(name):
            raise ValueError(f"{name!r} cannot be the name of a secret")
        with self._mutex:
            path = self._secrets / name
            try:
                return path.read_bytes()
            except FileNotFoundError:
                value = make()
                self._keep_file(path, value)
                return value
            except OSError as error:
                raise JournalError(f"cannot read {path}: {error.strerror}") from error

    def remove_secrets(self) -> None:
        """Delete all side files. The second call does nothing."""
        with self._mutex:
            shutil.rmtree(self._secrets, ignore_errors=True)

    @property
    def _secrets(self) -> Path:
        return self.directory / "secrets"

    def _keep(self, secret: Secret) -> Json:
        path = self._secrets / secret.digest
        if not path.exists():
            self._keep_file(path, secret.value.encode())
        return {"$secret": secret.digest}

    def _keep_file(self, path: Path, value: bytes) -> None:
        try:
            path.parent.mkdir(mode=0o700, exist_ok=True)
            draft = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
            descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            with os.fdopen(descriptor, "wb") as file:
                file.write(value)
                file.flush()
                self._sync(file.fileno())
            draft.rename(path)
            _sync_directory(path.parent, self._sync)
            _sync_directory(self.directory, self._sync)
        except OSError as error:
            raise JournalError(f"cannot write {path}: {error.strerror}", hint=_space_hint(error)) from error

    def _reveal(self, intent: Intent) -> Intent:
        def read(digest: str) -> Secret:
            path = self._secrets / digest
            try:
                return Secret(path.read_text())
            except OSError as error:
                raise JournalError(
                    f"a secret of build {self.build_id} is missing: {path}",
                    hint=f"The build cannot be continued; `goldenami clean {self.build_id}` deletes what it made.",
                ) from error

        if intent.action != "create" or intent.token in self._state.results:
            return intent  # only a request that may be sent again needs its secrets, and they may be gone by now
        return Intent(
            intent.key,
            intent.action,
            intent.kind,
            intent.place,
            intent.token,
            intent.service,
            intent.operation,
            _uncover(intent.request, read),
            intent.attempt,
            intent.resource,
        )

    # --- writing ------------------------------------------------------------------------------------------------------

    def _append(self, record: Json) -> None:
        with self._mutex:
            if self._closed:
                raise JournalError(f"the journal of build {self.build_id} is closed")
            line = _line({"n": self._count, "at": _timestamp(self._now()), **record})
            before = os.fstat(self._descriptor).st_size
            try:
                written = os.write(self._descriptor, line)
                while written < len(line):
                    written += os.write(self._descriptor, line[written:])
                self._sync(self._descriptor)
            except OSError as error:
                # Half a line in the middle would be corruption; at worst the cut fails too and it stays a torn last
                # line.
                with contextlib.suppress(OSError):
                    os.ftruncate(self._descriptor, before)
                raise JournalError(
                    f"cannot write the journal of build {self.build_id}: {error.strerror}", hint=_space_hint(error)
                ) from error
            self._count += 1
            self._state.apply(json.loads(line))


@dataclass(frozen=True, slots=True)
class Summary:
    """One build as ``builds list`` shows it. ``ending``: None while unfinished. ``problem``: why it cannot be read."""

    build_id: str
    directory: Path
    header: Header | None
    ending: str | None
    resources: tuple[Resource, ...]
    unresolved: int
    problem: str | None = None


class Journals:
    """All builds under one directory (an environment's ``builds``)."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def list(self) -> tuple[Summary, ...]:
        """Every build, oldest first, read without its lock. A damaged one is listed with its problem."""
        if not self.directory.is_dir():
            return ()
        return tuple(self.read(path.name) for path in sorted(self.directory.iterdir()) if (path / FILE).exists())

    def read(self, build_id: str) -> Summary:
        """One build, read without its lock. Raises NotFound."""
        path = self.directory / build_id / FILE
        try:
            header, state, _, _ = replay(path.read_bytes(), path)
        except FileNotFoundError:
            raise NotFound(
                f"there is no build {build_id} in {self.directory}",
                hint="`goldenami builds list` names those there are.",
            ) from None
        except JournalError as error:
            return Summary(build_id, path.parent, None, None, (), 0, error.message)
        ending = state.ending["status"] if state.ending is not None else None
        return Summary(build_id, path.parent, header, ending, state.resources(), len(state.unresolved()))

    def unfinished(self, *, recipe: str | None = None, plan_digest: str | None = None) -> tuple[Summary, ...]:
        """Builds that did not end, or failed: those that can be resumed or cleaned. Oldest first."""
        return tuple(
            s
            for s in self.list()
            if s.header is not None
            and s.ending in (None, "failed")
            and (recipe is None or s.header.recipe == recipe)
            and (plan_digest is None or s.header.plan_digest == plan_digest)
        )


# --- the form of the file ---------------------------------------------------------------------------------------------


def replay(content: bytes, path: Path) -> tuple[Header, State, int, int]:
    """Read a whole journal: header, state, number of records, and how many bytes of ``content`` are whole records.

    Pure. Raises JournalError, with file and line, for anything but a torn last line.
    """
    lines = content.split(b"\n")
    complete = len(lines) - 1  # what follows the last newline is empty, or torn
    header: Header | None = None
    state = State()
    whole = count = 0
    for number, line in enumerate(lines, start=1):
        last = number >= complete
        if not line and number > complete:
            break
        try:
            record = json.loads(line)
            if record["n"] != count:
                raise ValueError(f"record {record['n']} where {count} was expected")
            if header is None:
                header = _header_from(record)
            else:
                state.apply(record)
        except (ValueError, KeyError, TypeError) as error:
            # The newline of a torn line is missing, unless the file system replaced what was lost by zeros.
            if (
                (header is not None
                and number > complete)
                or (header is not None and last and _is_torn(line, lines[number:]))
            ):
                break
            detail = error if str(error) else type(error).__name__
            raise JournalError(
                f"{path}:{number}: the journal is damaged: {detail}",
                hint="What the build made can still be found by the tag goldenami:build-id.",
            ) from error
        count += 1
        whole += len(line) + (1 if number <= complete else 0)
    if header is None:
        raise JournalError(f"{path}:1: the journal has no header: it is empty")
    return header, state, count, whole


def _is_torn(line: bytes, rest: list[bytes]) -> bool:
    return b"\0" in line and not any(part.strip(b"\0") for part in rest)


def _line(record: Json) -> bytes:
    return json.dumps(record, ensure_ascii=False, separators=(",", ":"), default=_to_json).encode() + b"\n"


def _to_json(value: object) -> Any:
    if isinstance(value, datetime):
        return _timestamp(value)
    if isinstance(value, Mapping):
        return dict(value)
    raise TypeError(f"{type(value).__name__} cannot be kept in a journal")


def _timestamp(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _header_json(header: Header) -> Json:
    return {
        "build_id": header.build_id,
        "recipe": header.recipe,
        "plan_digest": header.plan_digest,
        "environment": header.environment,
        "created": _timestamp(header.created),
        "data": dict(header.data),
    }


def _header_from(record: Json) -> Header:
    if record["record"] != "header":
        raise ValueError("the first line is not a header")
    if record["schema"] != SCHEMA:
        raise ValueError(f"schema {record['schema']!r} is not {SCHEMA!r}; another version of goldenami wrote it")
    return Header(
        record["build_id"],
        record["recipe"],
        record["plan_digest"],
        record["environment"],
        datetime.fromisoformat(record["created"]),
        record["data"],
    )


def _place_json(place: Place) -> Json:
    return {"account": place.account, "region": place.region}


def _place_from(record: Json) -> Place:
    return Place(record["account"], record["region"])


def _intent_from(record: Json) -> Intent:
    return Intent(
        key=record["key"],
        action=record["action"],
        kind=record["kind"],
        place=_place_from(record),
        token=record["token"],
        service=record["service"],
        operation=record["operation"],
        request=record["request"],
        attempt=record["attempt"],
        resource=record.get("resource"),
    )


def _conceal(value: Any, keep: Callable[[Secret], Json]) -> Any:
    if isinstance(value, Secret):
        return keep(value)
    if isinstance(value, Mapping):
        return {k: _conceal(v, keep) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_conceal(v, keep) for v in value]
    return value


def _uncover(value: Any, read: Callable[[str], Secret]) -> Any:
    if isinstance(value, Mapping):
        if set(value) == {"$secret"}:
            return read(value["$secret"])
        return {k: _uncover(v, read) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_uncover(v, read) for v in value]
    return value


# --- files ------------------------------------------------------------------------------------------------------------


def _sync_directory(directory: Path, sync: Callable[[int], None]) -> None:
    """A new name is durable only once its directory is."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        sync(descriptor)
    finally:
        os.close(descriptor)


def _lock(directory: Path, now: datetime) -> int:
    """Take the build's lock without waiting; the descriptor that holds it. The kernel lets go when the process ends."""
    descriptor = os.open(directory / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        holder = _holder(os.pread(descriptor, 4096, 0))
        os.close(descriptor)
        raise JournalError(
            f"build {directory.name} is being worked on by {holder}",
            hint="Wait for that process, or end it; then try again.",
        ) from error
    who = {
        "pid": os.getpid(),
        "host": socket.gethostname(),
        "command": " ".join([Path(sys.argv[0]).name, *sys.argv[1:]])[:500],
        "since": _timestamp(now),
    }
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, json.dumps(who).encode(), 0)
    return descriptor


def _holder(content: bytes) -> str:
    try:
        who = json.loads(content)
        return f"process {who['pid']} on {who['host']} (`{who['command']}`) since {who['since']}"
    except (ValueError, KeyError, TypeError):
        return "another process"


def _space_hint(error: OSError) -> str | None:
    import errno

    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return "Free some space; then `goldenami resume` continues where the build stopped."
    return None


def walk(state: State) -> Iterator[tuple[Intent, Result | None]]:
    """Every call of a build with its result, in order: for ``builds show`` and for tests."""
    for intent in state.by_token.values():
        yield intent, state.results.get(intent.token)
