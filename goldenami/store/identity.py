"""The identity of a catalog: the record ``catalog.json`` at the root of its store.

::

    {"schema": "goldenami.catalog/1", "id": "0123456789abcdef", "created": "2026-11-24T03:00:00Z"}

The record is written once and never changed. Every resource that is created for the catalog carries the id as its tag
``goldenami:catalog``, so that another catalog in the same accounts does not change it. The first command that changes
the cloud creates the record.
"""

from __future__ import annotations

import json
import re
import secrets
from datetime import datetime
from typing import Final

from goldenami.errors import CatalogError
from goldenami.model import timestamp
from goldenami.store.protocol import Store

KEY: Final = "catalog.json"
SCHEMA: Final = "goldenami.catalog/1"
_ID: Final = re.compile(r"[0-9a-f]{16}")


def is_identity(text: str) -> bool:
    """Return whether a text has the form of a catalog's id: 16 lower-case hexadecimal digits."""
    return _ID.fullmatch(text) is not None


def read_identity(store: Store) -> str | None:
    """Return the id of the catalog in a store; None if it has none yet. Raises CatalogError for a damaged record."""
    found = store.read(KEY)
    return None if found is None else _decode(found.data, store.where(KEY))


def ensure_identity(store: Store, now: datetime, *, identity: str | None = None) -> str:
    """Return the id of the catalog in a store. If it has none, the record is created first, with a new random id.

    Of two processes that create it at the same time, both return the same id. ``identity``: the id that the record must
    have, for a catalog that is restored. Raises CatalogError if the record has another id, and for a damaged record.
    """
    found = store.read(KEY)
    if found is None:
        record = {
            "schema": SCHEMA,
            "id": identity or secrets.token_hex(8),
            "created": timestamp(now),
        }
        found = store.create(KEY, (json.dumps(record, indent=2) + "\n").encode()) or store.read(KEY)
    if found is None:
        raise CatalogError(f"{store.where(KEY)} was deleted while it was read", hint="Run the command again.")
    there = _decode(found.data, store.where(KEY))
    if identity not in (None, there):
        raise CatalogError(
            f"{store.where(KEY)}: the id is {there}, expected {identity}",
            hint="This is another catalog. Set `catalog` in goldenami.yaml to the catalog that you mean.",
        )
    return there


def _decode(data: bytes, where: str) -> str:
    hint = "Restore the file from a backup. Every resource of this catalog carries its id as the tag goldenami:catalog."
    try:
        record = json.loads(data)
    except ValueError as error:
        raise CatalogError(f"{where}: not JSON: {error}", hint=hint) from error
    schema = record.get("schema") if isinstance(record, dict) else None
    if schema != SCHEMA:
        raise CatalogError(f"{where}: the schema is {schema!r}, expected {SCHEMA!r}", hint=f"Update goldenami. {hint}")
    found = record.get("id")
    if not isinstance(found, str) or not is_identity(found):
        raise CatalogError(f"{where}: the id is {found!r}, expected 16 lower-case hexadecimal digits", hint=hint)
    return found
