"""Reports of other commands, which the site reads from files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from goldenami.errors import InvalidInput, Problem


def read_report(path: Path, data: bytes, schema: str, command: str) -> dict[str, Any]:
    """Return the document of a report with this schema. ``data``: the contents of the file ``path``. ``command``: what
    writes such a report. Raises InvalidInput if the file is none."""
    try:
        document: Any = json.loads(data)
    except (json.JSONDecodeError, UnicodeDecodeError, RecursionError):
        document = None
    if not isinstance(document, dict) or document.get("schema") != schema:
        hint = f"Write it with {command}."
        raise InvalidInput([Problem(str(path), 1, 1, f"is no report with the schema {schema}", hint)])
    return document
