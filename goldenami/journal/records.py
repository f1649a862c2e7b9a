"""The records of a journal, and the state that they give. Pure: no files, no clock."""

from __future__ import annotations

import hashlib
import json
import secrets
import sys
import zlib
from collections.abc import Callable, ItemsView, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cache, lru_cache
from pathlib import Path
from typing import Any, Final, Literal

from goldenami.errors import JournalError
from goldenami.model import Place

SCHEMA: Final = "goldenami.journal/1"
NOTIFICATION: Final = "notification"  # the kind of calls that send a message

Action = Literal["create", "change", "delete"]
Ending = Literal["released", "failed", "cleaned", "skipped", "done"]
Json = dict[str, Any]
_NOTHING: Final[Mapping[str, Any]] = {}
_MOST_SHARED: Final = 1000  # answers that are kept once
_WINDOW: Final = -12  # of zlib, without a header: 4 KiB, more than most requests have


def utc_now() -> datetime:
    return datetime.now(UTC)


def new_build_id(now: datetime) -> str:
    """Return a new build id, valid as tag value, file name and SSM path segment.

    Ids sort by time, to a quarter of a millisecond: the first three of the eight digits at the end are the part of the
    second that has passed, in 4,096ths. The other five are random, so that two machines do not take the same id."""
    part = now.microsecond * 4096 // 1_000_000
    return f"{now.astimezone(UTC):%Y%m%d-%H%M%S}-{part:03x}{secrets.randbelow(1 << 20):05x}"


@lru_cache(maxsize=4096)  # of what is there, a search reads each one again and again
def token(build_id: str, key: str, attempt: int) -> str:
    """Return the token of one attempt to create one resource of one build: 40 characters, for its tag and its
    ClientToken (at most 64 characters)."""
    return hashlib.sha256(f"{build_id}\n{key}\n{attempt}".encode()).hexdigest()[:40]


@dataclass(frozen=True, slots=True)
class Secret:
    """A value in a request that must not be in the journal. It is stored in its own file, named by its digest."""

    value: str = field(repr=False)

    @property
    def digest(self) -> str:
        return hashlib.sha256(self.value.encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class Header:
    """The first record of a journal: the identity of the build or task. ``created``: UTC."""

    build_id: str
    recipe: str
    plan_digest: str
    environment: str
    created: datetime
    data: Mapping[str, Any] = field(default_factory=dict)  # small JSON values: catalog, version, source file, ...

    @property
    def catalog(self) -> str | None:
        """The id of the catalog that the build or task belongs to. None if an earlier version of goldenami, which had
        no such ids, began it."""
        found = self.data.get("catalog")
        return found if isinstance(found, str) else None


@dataclass(frozen=True, slots=True)
class Intent:
    """A mutating call that is about to be made. ``request``: its parameters, with tags and ClientToken.

    ``resource``: the id of the resource that a "change" or "delete" is for, if there is one. ``key``: the caller's name
    for the step, unique in the build ("builder/x86_64", "image/apps/eu-west-1/x86_64").
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
    """The result of a call. ``id``: the resource that it created. ``error``: why it was refused. Both are None for a
    change. ``data``: small JSON values of the answer. ``adopted``: the resource was found by its token."""

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
    """A resource that this build created and, by its journal, has not deleted."""

    kind: str
    place: Place
    id: str
    key: str
    token: str
    request: Mapping[str, Any] = field(repr=False)
    spoiled: str | None = None  # why it must not be used, or None


class Kept(Mapping[str, Any]):
    """A request as the state of a journal keeps it: compressed, with an earlier request of the same action as the
    pattern. With thousands of targets, requests would take most of the memory, and few of them are read again."""

    __slots__ = ("_packed", "_pattern")

    def __init__(self, request: Mapping[str, Any], patterns: dict[str, bytes], operation: str) -> None:
        """``patterns``: by action, for all requests of a journal. The first of an action becomes the pattern."""
        text = _text(request)
        self._pattern = patterns.setdefault(operation, text)
        packer = zlib.compressobj(6, zlib.DEFLATED, _WINDOW, 5, zlib.Z_DEFAULT_STRATEGY, self._pattern)
        self._packed = packer.compress(text) + packer.flush()

    def _read(self) -> Json:
        found: Json = json.loads(zlib.decompressobj(_WINDOW, self._pattern).decompress(self._packed))
        return found

    def __getitem__(self, key: str) -> Any:
        return self._read()[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._read())

    def __len__(self) -> int:
        return len(self._read())

    def items(self) -> ItemsView[str, Any]:
        return self._read().items()

    def __eq__(self, other: object) -> bool:
        return self._read() == other

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return repr(self._read())


class State:
    """The state that the records give. It is computed by applying one record after the other."""

    def __init__(self) -> None:
        self._patterns: dict[str, bytes] = {}  # of ``Kept``
        self._same: dict[bytes, Mapping[str, Any]] = {}
        self._places: dict[Place, Place] = {}
        self.by_key: dict[str, list[Intent]] = {}
        self.by_token: dict[str, Intent] = {}
        self.by_place: dict[Place, list[Intent]] = {}
        self.creations: dict[tuple[Place, str], list[Intent]] = {}  # of the calls that created a resource with this id
        self.results: dict[str, Result] = {}
        self.times: dict[str, datetime] = {}  # token -> of the last record about its call, by that machine's clock
        self.gone: set[tuple[Place, str]] = set()
        self.spoiled: dict[tuple[Place, str], str] = {}
        self.stages: dict[str, Json] = {}
        self.notes: list[Json] = []
        self.ending: Json | None = None

    def apply(self, record: Json) -> None:
        """Apply one record. Raises KeyError, TypeError or ValueError if the record is not of this schema."""
        what = record["record"]
        if "token" in record:
            known = self.by_token.get(record["token"])
            record = {**record, "token": known.token if known is not None else record["token"]}  # one text for all
        if "token" in record and "at" in record:
            self.times[record["token"]] = datetime.fromisoformat(record["at"])
        if what == "intent":
            intent = self._lean(record)
            if intent.token in self.by_token and intent.action != "delete":
                raise ValueError(f"token {intent.token} is used twice")
            if intent.token not in self.by_token:
                self.by_place.setdefault(intent.place, []).append(intent)
            self.by_token[intent.token] = intent
            self.by_key.setdefault(intent.key, []).append(intent)
            if intent.action == "delete" and intent.resource is not None:
                self.gone.discard((intent.place, intent.resource))  # it was found again, and is deleted once more
            self.ending = None
        elif what == "result":
            if record["token"] not in self.by_token:
                raise ValueError("a result without its intent")
            if record.get("id") is not None:
                # A name can be used again after its resource was deleted. An id is never used again.
                intent = self.by_token[record["token"]]
                again = (intent.place, record["id"])
                self.gone.discard(again)
                self.spoiled.pop(again, None)
                if intent.action == "create":
                    self.creations.setdefault(again, []).append(intent)
            elif (done := self.by_token[record["token"]]).action == "delete" and record.get("error") is None:
                # A process that is killed after this record has not written "gone".
                self.gone.add((done.place, str(done.resource)))
            self.results[record["token"]] = Result(
                record["token"],
                record.get("id"),
                record.get("error"),
                self._shared(record),
                record.get("adopted", False),
            )
        elif what == "gone":
            self.gone.add((place_from(record), record["id"]))
        elif what == "spoiled":
            self.spoiled[place_from(record), record["id"]] = record["reason"]
        elif what == "stage":
            self.stages[record["name"]] = {"status": record["status"], "data": record["data"]}
        elif what == "note":
            self.notes.append(record)
        elif what == "end":
            self.ending = record
        else:
            raise ValueError(f"unknown record {what!r}")

    def _lean(self, record: Json) -> Intent:
        """Return an intent that shares what it has in common with others."""
        texts = {name: sys.intern(record[name]) for name in ("action", "kind", "service", "operation")}
        place = place_from(record)
        if not isinstance(record["request"], Mapping):
            raise TypeError("a request is no object")
        request = Kept(record["request"], self._patterns, f"{record['service']}:{record['operation']}")
        return intent_from({**record, **texts, "request": request}, self._places.setdefault(place, place))

    def _shared(self, record: Json) -> Mapping[str, Any]:
        """Return the data of an answer. Equal ones are one object, except those with the new id, which all differ."""
        data = record.get("data")
        if not data:
            return _NOTHING
        if not isinstance(data, dict):
            raise TypeError("the data of a result are no object")
        if record.get("id") in data.values():
            return data
        text = _text(data)
        if text not in self._same and len(self._same) >= _MOST_SHARED:
            return data
        return self._same.setdefault(text, data)

    def spoiled_of(self, key: str) -> Resource | None:
        """Return the resource of a key that must not be used and is not deleted."""
        for intent in self.by_key.get(key, ()):
            result = self.results.get(intent.token)
            if intent.action != "create" or result is None or result.id is None:
                continue
            again = (intent.place, result.id)
            if again in self.spoiled and again not in self.gone:
                reason = self.spoiled[again]
                return Resource(intent.kind, intent.place, result.id, key, intent.token, intent.request, reason)
        return None

    def calls(self, place: Place | None = None) -> Iterable[Intent]:
        """Return the intents of all calls, oldest first. ``place``: only of this place."""
        return self.by_token.values() if place is None else self.by_place.get(place, ())

    def resources(self, place: Place | None = None) -> tuple[Resource, ...]:
        live = []
        for intent in self.calls(place):
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

    def unresolved_deletions(self) -> tuple[Intent, ...]:
        latest = {(i.place, i.resource): i for i in self.by_token.values() if i.action == "delete"}
        return tuple(
            i for i in latest.values() if i.token not in self.results and (i.place, i.resource) not in self.gone
        )


def replay(content: bytes, path: Path | str) -> tuple[Header, State, int, int]:
    """Read a whole journal. Return its header, its state, the number of records, and how many bytes of ``content`` are
    complete records.

    Pure; ``path`` is for messages. Ignores a torn last line. Raises JournalError, with file and line, for any other
    unreadable line.
    """
    lines = content.split(b"\n")
    complete = len(lines) - 1  # what follows the last newline is empty, or torn
    header: Header | None = None
    state = State()
    whole = count = 0
    for number, line in enumerate(lines, start=1):
        if number > complete and not line:
            break
        try:
            record = json.loads(line)
            if record["n"] != count:
                raise ValueError(f"record {record['n']} where {count} was expected")
            if header is None:
                header = header_from(record)
            else:
                state.apply(record)
        except (ValueError, KeyError, TypeError) as error:
            if header is not None and _torn(lines, number):
                break
            detail = error if str(error) else type(error).__name__
            raise JournalError(
                f"{path}:{number}: the journal is damaged: {detail}",
                hint="Find the build's resources by their tag goldenami:build-id.",
            ) from error
        count += 1
        whole += len(line) + (1 if number <= complete else 0)
    if header is None:
        raise JournalError(f"{path}:1: the journal has no header: it is empty")
    return header, state, count, whole


def _torn(lines: list[bytes], number: int) -> bool:
    """Return whether an unreadable line is the last append, torn by a crash: it has no newline, or it contains zero
    bytes, which some file systems write for lost data."""
    if number == len(lines):
        return True
    return number == len(lines) - 1 and b"\0" in lines[number - 1] and not lines[-1].strip(b"\0")


def line(record: Json) -> bytes:
    return _text(record) + b"\n"


def _text(value: Any) -> bytes:
    return _encoder().encode(value).encode()


@cache
def _encoder() -> json.JSONEncoder:
    return json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), default=_to_json)


def _to_json(value: object) -> Any:
    if isinstance(value, datetime):
        return timestamp(value)
    if isinstance(value, Mapping):
        return dict(value)
    raise TypeError(f"{type(value).__name__} cannot be kept in a journal")


def timestamp(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def header_json(header: Header) -> Json:
    return {
        "build_id": header.build_id,
        "recipe": header.recipe,
        "plan_digest": header.plan_digest,
        "environment": header.environment,
        "created": timestamp(header.created),
        "data": dict(header.data),
    }


def header_from(record: Json) -> Header:
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


def place_json(place: Place) -> Json:
    return {"account": place.account, "region": place.region}


def place_from(record: Json) -> Place:
    return Place(record["account"], record["region"])


def intent_from(record: Json, place: Place) -> Intent:
    return Intent(
        key=record["key"],
        action=record["action"],
        kind=record["kind"],
        place=place,
        token=record["token"],
        service=record["service"],
        operation=record["operation"],
        request=record["request"],
        attempt=record["attempt"],
        resource=record.get("resource"),
    )


def conceal(value: Any, keep: Callable[[Secret], Json]) -> Any:
    if isinstance(value, Secret):
        return keep(value)
    if isinstance(value, Mapping):  # most values are texts: a request can have many tags
        return {k: v if type(v) is str else conceal(v, keep) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [conceal(v, keep) for v in value]
    return value


def uncover(value: Any, read: Callable[[str], Secret]) -> Any:
    if isinstance(value, Mapping):
        if set(value) == {"$secret"}:
            return read(value["$secret"])
        return {k: uncover(v, read) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [uncover(v, read) for v in value]
    return value


def walk(state: State) -> Iterator[tuple[Intent, Result | None]]:
    """Yield every call of a build with its result, in order: for ``builds show`` and for tests."""
    for intent in state.by_token.values():
        yield intent, state.results.get(intent.token)
