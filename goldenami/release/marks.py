"""Marks of releases in the catalog, beside their manifests: pins, retirements and revocations.

::

    pins/<name>/<version>.json       the release must be kept, and the reason
    retired/<name>/<version>.json    "retiring" before its first image is deleted, "retired" when all are deleted
    revoked/<name>/<version>.json    the release must not be used, and the reason; "restored" after `goldenami restore`
    scanned/<name>/<version>.json    the vulnerabilities that were told, so that only new ones are told again
    same/<name>/<version>.json       the inputs of the last build whose image would have been this release again

The manifest of a retired release is kept as a record of the image that was in use.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any, Literal, TypeVar

from goldenami import forms
from goldenami.errors import CatalogError
from goldenami.model import timestamp
from goldenami.release.index import Index, Records, View
from goldenami.release.versions import Version, check_name
from goldenami.store import Store

MARKS = ("pins", "retired", "revoked")
PIN_SCHEMA = "goldenami.pin/1"
RETIREMENT_SCHEMA = "goldenami.retirement/1"
REVOCATION_SCHEMA = "goldenami.revocation/1"
SAME_SCHEMA = "goldenami.same/1"
SCANNED_SCHEMA = "goldenami.scanned/1"
_T = TypeVar("_T")
Updates = Mapping[str, tuple[tuple[str, ...], ...]]
"""By architecture: the name, the architecture and the version of each package."""


@dataclass(frozen=True, slots=True)
class Pin:
    """A release that rules must keep."""

    name: str
    version: str
    reason: str
    pinned: str  # ISO 8601, UTC
    schema: str = PIN_SCHEMA


@dataclass(frozen=True, slots=True)
class Retirement:
    """The retirement of a release. ``rule``: its reason. ``finished``: None until all its resources are deleted."""

    name: str
    version: str
    status: Literal["retiring", "retired"]
    rule: str
    started: str  # ISO 8601, UTC
    finished: str | None = None
    schema: str = RETIREMENT_SCHEMA


@dataclass(frozen=True, slots=True)
class Revocation:
    """The revocation of a release. ``by``: the ARN of the caller. ``finished``: None until its images are disabled."""

    name: str
    version: str
    status: Literal["revoked", "restored"]
    reason: str
    by: str
    revoked: str  # ISO 8601, UTC
    finished: str | None = None
    restored: str | None = None
    restored_by: str | None = None
    restored_because: str | None = None
    schema: str = REVOCATION_SCHEMA


@dataclass(frozen=True, slots=True)
class Same:
    """A build that found nothing new. ``inputs``: those of its plan, without updates and age. ``updates``: those that
    were due, as name, architecture and version."""

    name: str
    version: str
    inputs: Mapping[str, str]
    updates: Updates
    compared: str  # ISO 8601, UTC
    schema: str = SAME_SCHEMA


@dataclass(frozen=True, slots=True)
class Scanned:
    """The last scan of a release that told its vulnerabilities. ``told``: a text for each."""

    name: str
    version: str
    told: tuple[str, ...]
    scanned: str  # ISO 8601, UTC
    schema: str = SCANNED_SCHEMA


@dataclass(frozen=True, slots=True)
class MarkEvent:
    """One event of a release's marks. ``action``: pin, retire, revoke or restore."""

    time: str  # ISO 8601, UTC
    action: str
    by: str | None = None
    reason: str | None = None


class Marks:
    """The marks in a catalog's store. Raises CatalogError for a file that is damaged."""

    def __init__(self, store: Store, index: Index, records: Records | None = None) -> None:
        """``records``: where marks are read; None: in the store."""
        self._store = store
        self._index = index
        self._records: Records = records or store

    # --- pins ---------------------------------------------------------------------------------------------------------

    def pin(self, name: str, version: str, reason: str, now: datetime) -> Pin:
        """Pin a release, so that no rule deletes it. A second call replaces the reason."""
        pin = Pin(name, version, reason, timestamp(now))
        self._write(_key("pins", name, version), {**asdict(pin), "active": True})
        return pin

    def unpin(self, name: str, version: str) -> bool:
        """Remove the pin of a release. Returns whether it was pinned."""
        before = self.pinned(name, version)
        if before is None:
            return False
        self._write(_key("pins", name, version), {**asdict(before), "active": False})
        return True

    def pinned(self, name: str, version: str) -> Pin | None:
        """Return the pin of a release, or None."""
        form = self._read(_key("pins", name, version), PIN_SCHEMA)
        if form is None or not form.pop("active", True):
            return None
        return self._validated(Pin, form, _key("pins", name, version))

    # --- retirement ---------------------------------------------------------------------------------------------------

    def begin(self, name: str, version: str, rule: str, now: datetime) -> Retirement:
        """Mark a release as retiring, so that references do not resolve to it. A second call returns the first mark."""
        before = self.retirement(name, version)
        if before is not None:
            return before
        retirement = Retirement(name, version, "retiring", rule, timestamp(now))
        self._write(_key("retired", name, version), asdict(retirement))
        return retirement

    def finish(self, name: str, version: str, now: datetime) -> None:
        """Mark a release as retired: all its resources are deleted. A second call does nothing."""
        before = self.retirement(name, version)
        if before is not None and before.status == "retiring":
            form = {**asdict(before), "status": "retired", "finished": timestamp(now)}
            self._write(_key("retired", name, version), form)

    def cancel(self, name: str, version: str) -> None:
        """Cancel a retirement, so that references resolve to the release again.

        Call it only while all images of the release exist.
        """
        before = self.retirement(name, version)
        if before is not None:
            self._write(_key("retired", name, version), {**asdict(before), "status": "kept"})

    def retirement(self, name: str, version: str) -> Retirement | None:
        """Return the retirement of a release, or None if it is not retired."""
        form = self._read(_key("retired", name, version), RETIREMENT_SCHEMA)
        if form is None or form.get("status") == "kept":
            return None
        return self._validated(Retirement, form, _key("retired", name, version))

    # --- revocation ---------------------------------------------------------------------------------------------------

    def revoke(self, name: str, version: str, reason: str, by: str, now: datetime) -> Revocation:
        """Mark a release as revoked, so that references do not resolve to it. A second call returns the first mark."""
        before = self.revocation(name, version)
        if before is not None:
            return before
        made = Revocation(name, version, "revoked", reason, by, timestamp(now))
        self._write(_key("revoked", name, version), asdict(made))
        return made

    def finish_revocation(self, name: str, version: str, now: datetime) -> None:
        """Record that all images of a revoked release are disabled. A second call does nothing."""
        before = self.revocation(name, version)
        if before is not None and before.finished is None:
            self._write(_key("revoked", name, version), {**asdict(before), "finished": timestamp(now)})

    def restore(self, name: str, version: str, by: str, now: datetime, reason: str | None = None) -> None:
        """End the revocation of a release. Does nothing for a release that is not revoked."""
        before = self.revocation(name, version)
        if before is not None:
            ended = {"status": "restored", "restored": timestamp(now), "restored_by": by, "restored_because": reason}
            self._write(_key("revoked", name, version), {**asdict(before), **ended})

    def revocation(self, name: str, version: str) -> Revocation | None:
        """Return the revocation of a release, or None if it is not revoked."""
        form = self._read(_key("revoked", name, version), REVOCATION_SCHEMA)
        if form is None or form.get("status") == "restored":
            return None
        return self._validated(Revocation, form, _key("revoked", name, version))

    # --- comparisons --------------------------------------------------------------------------------------------------

    def compared(self, name: str, version: str, inputs: Mapping[str, str], updates: Updates, now: datetime) -> None:
        """Note that a build with other inputs found nothing new. A second call replaces the first note."""
        # Not in the index: only recipes that compare their builds read it, one record each.
        self._replace(_key("same", name, version), asdict(Same(name, version, inputs, updates, timestamp(now))))

    def same(self, name: str, version: str) -> Same | None:
        """Return the last build that found nothing new since a release, or None."""
        form = self._read(_key("same", name, version), SAME_SCHEMA)
        return None if form is None else self._validated(Same, form, _key("same", name, version))

    # --- scans --------------------------------------------------------------------------------------------------------

    def note_told(self, name: str, version: str, told: Iterable[str], now: datetime) -> None:
        """Note which vulnerabilities of a release are told. A second call replaces the first note."""
        # Not in the index, as the comparisons: only scans that tell read it.
        form = asdict(Scanned(name, version, tuple(sorted(told)), timestamp(now)))
        self._replace(_key("scanned", name, version), form)

    def told(self, name: str, version: str) -> frozenset[str]:
        """Return the vulnerabilities of a release that were told."""
        form = self._read(_key("scanned", name, version), SCANNED_SCHEMA)
        return (
            frozenset()
            if form is None
            else frozenset(self._validated(Scanned, form, _key("scanned", name, version)).told)
        )

    # --- both ---------------------------------------------------------------------------------------------------------

    def events(self, name: str, version: str) -> list[MarkEvent]:
        """Return the events of a release's marks that are known: the last pin, retirement and revocation."""
        found = []
        pin, retirement = self.pinned(name, version), self.retirement(name, version)
        if pin is not None:
            found.append(MarkEvent(pin.pinned, "pin", None, pin.reason))
        if retirement is not None:
            found.append(MarkEvent(retirement.started, "retire", None, retirement.rule))
        form = self._read(_key("revoked", name, version), REVOCATION_SCHEMA)
        if form is not None:
            made = self._validated(Revocation, form, _key("revoked", name, version))
            found.append(MarkEvent(made.revoked, "revoke", made.by, made.reason))
            if made.restored is not None:
                found.append(MarkEvent(made.restored, "restore", made.restored_by, made.restored_because))
        return found

    def why_unusable(self, name: str, version: str) -> str | None:
        """Return why references must not resolve to a release ("revoked since …: reason"), or None."""
        revocation = self.revocation(name, version)
        if revocation is not None:
            return f"revoked since {revocation.revoked}: {revocation.reason}"
        retirement = self.retirement(name, version)
        return None if retirement is None else f"retired since {retirement.started}: {retirement.rule}"

    # --- inside -------------------------------------------------------------------------------------------------------

    def _write(self, key: str, form: dict[str, Any]) -> None:
        section, name, file = key.split("/")
        with self._index.changing(section, name, file.removesuffix(".json")):
            self._replace(key, form)

    def _replace(self, key: str, form: dict[str, Any]) -> None:
        data = (json.dumps(form, indent=2, sort_keys=True) + "\n").encode()
        if self._store.replace(key, data, self._store.read(key)) is None:
            raise CatalogError(
                f"{self._store.where(key)} was changed by another process at the same time", hint="Try again."
            )

    def _read(self, key: str, schema: str) -> dict[str, Any] | None:
        form = self._records.form(key) if isinstance(self._records, View) else None
        if form is None:
            stored = self._records.read(key)
            if stored is None:
                return None
            try:
                form = json.loads(stored.data)
            except ValueError as error:
                raise CatalogError(f"{self._store.where(key)}: not JSON: {error}") from error
        if not isinstance(form, dict) or form.get("schema") != schema:
            raise CatalogError(
                f"{self._store.where(key)}: expected the schema {schema!r}, found another",
                hint="Update goldenami, or restore the file from a backup.",
            )
        return form

    def _validated(self, kind: type[_T], form: dict[str, Any], key: str) -> _T:
        made = forms.build(kind, form)
        if made is not None:
            return made
        from pydantic import TypeAdapter, ValidationError  # here: it is slow to load, and says what is wrong

        try:
            return TypeAdapter(kind).validate_python(form)
        except ValidationError as error:
            problem = error.errors(include_url=False)[0]
            raise CatalogError(
                f"{self._store.where(key)}: {'.'.join(map(str, problem['loc']))}: {problem['msg']}",
                hint="Restore the file from a backup.",
            ) from error


def _key(folder: str, name: str, version: str) -> str:
    check_name(name, "release")
    return f"{folder}/{name}/{Version.parse(version)}.json"
