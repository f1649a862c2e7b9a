"""What a catalog notes about releases beside their manifests: pins, and how far a release is retired.

    pins/<name>/<version>.json       somebody wants it kept, and why
    retired/<name>/<version>.json    "retiring" from before its first image goes, "retired" when nothing of it is left

The manifest of a retired release stays: it is the evidence of what once ran.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any, Literal

from pydantic import TypeAdapter, ValidationError

from goldenami.errors import CatalogError
from goldenami.release.versions import Version, check_name
from goldenami.store import Store

PIN_SCHEMA = "goldenami.pin/1"
RETIREMENT_SCHEMA = "goldenami.retirement/1"


@dataclass(frozen=True, slots=True)
class Pin:
    name: str
    version: str
    reason: str
    pinned: str  # ISO 8601, UTC
    schema: str = PIN_SCHEMA


@dataclass(frozen=True, slots=True)
class Retirement:
    """``rule``: what decided. ``finished``: None while something of it may be left."""

    name: str
    version: str
    status: Literal["retiring", "retired"]
    rule: str
    started: str  # ISO 8601, UTC
    finished: str | None = None
    schema: str = RETIREMENT_SCHEMA


class Marks:
    """The marks in a catalog's store. Raises CatalogError for a file that is damaged."""

    def __init__(self, store: Store) -> None:
        self._store = store

    # --- pins ---------------------------------------------------------------------------------------------------------

    def pin(self, name: str, version: str, reason: str, now: datetime) -> Pin:
        """Keep a release whatever its rules say. A second call replaces the reason."""
        pin = Pin(name, version, reason, _timestamp(now))
        self._write(_key("pins", name, version), {**asdict(pin), "active": True})
        return pin

    def unpin(self, name: str, version: str) -> bool:
        """Whether it was pinned."""
        before = self.pinned(name, version)
        if before is None:
            return False
        self._write(_key("pins", name, version), {**asdict(before), "active": False})
        return True

    def pinned(self, name: str, version: str) -> Pin | None:
        form = self._read(_key("pins", name, version), PIN_SCHEMA)
        if form is None or not form.pop("active", True):
            return None
        made: Pin = self._made(_PIN, form, _key("pins", name, version))
        return made

    # --- retirement ---------------------------------------------------------------------------------------------------

    def begin(self, name: str, version: str, rule: str, now: datetime) -> Retirement:
        """From now on the release is not given out any more. What an earlier run began goes on as it was."""
        before = self.retirement(name, version)
        if before is not None:
            return before
        retirement = Retirement(name, version, "retiring", rule, _timestamp(now))
        self._write(_key("retired", name, version), asdict(retirement))
        return retirement

    def finish(self, name: str, version: str, now: datetime) -> None:
        """Nothing of it is left. The second call does nothing."""
        before = self.retirement(name, version)
        if before is not None and before.status == "retiring":
            form = {**asdict(before), "status": "retired", "finished": _timestamp(now)}
            self._write(_key("retired", name, version), form)

    def cancel(self, name: str, version: str) -> None:
        """It stays after all: the release is given out again. Only for one of which nothing is gone yet."""
        before = self.retirement(name, version)
        if before is not None:
            self._write(_key("retired", name, version), {**asdict(before), "status": "kept"})

    def retirement(self, name: str, version: str) -> Retirement | None:
        form = self._read(_key("retired", name, version), RETIREMENT_SCHEMA)
        if form is None or form.get("status") == "kept":
            return None
        made: Retirement = self._made(_RETIREMENT, form, _key("retired", name, version))
        return made

    # --- inside -------------------------------------------------------------------------------------------------------

    def _write(self, key: str, form: dict[str, Any]) -> None:
        data = (json.dumps(form, indent=2, sort_keys=True) + "\n").encode()
        if self._store.replace(key, data, self._store.read(key)) is None:
            raise CatalogError(f"{self._store.where(key)} was changed by another process meanwhile", hint="Try again.")

    def _read(self, key: str, schema: str) -> dict[str, Any] | None:
        stored = self._store.read(key)
        if stored is None:
            return None
        try:
            form = json.loads(stored.data)
        except ValueError as error:
            raise CatalogError(f"{self._store.where(key)}: not JSON: {error}") from error
        if not isinstance(form, dict) or form.get("schema") != schema:
            raise CatalogError(
                f"{self._store.where(key)}: not of the schema {schema!r}, which this goldenami knows",
                hint="Update goldenami, or restore the file from a backup.",
            )
        return form

    def _made(self, adapter: TypeAdapter[Any], form: dict[str, Any], key: str) -> Any:
        try:
            return adapter.validate_python(form)
        except ValidationError as error:
            problem = error.errors(include_url=False)[0]
            raise CatalogError(
                f"{self._store.where(key)}: {'.'.join(map(str, problem['loc']))}: {problem['msg']}",
                hint="Restore it from a backup.",
            ) from error


_PIN: TypeAdapter[Pin] = TypeAdapter(Pin)
_RETIREMENT: TypeAdapter[Retirement] = TypeAdapter(Retirement)


def _key(folder: str, name: str, version: str) -> str:
    check_name(name, "release")
    return f"{folder}/{name}/{Version.parse(version)}.json"


def _timestamp(now: datetime) -> str:
    return now.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
