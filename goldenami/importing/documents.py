"""Reads the documents of other tools: text of a file, and its parts without those of another form."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from goldenami.errors import InvalidInput, NotFound, Problem
from goldenami.reading import Files, describe


def read_text(path: Path, hint: str) -> str:
    """Return the text of a file. Raises NotFound, or InvalidInput if it cannot be read or is not UTF-8."""
    try:
        return Files([path.parent]).read_bytes(path).decode()
    except FileNotFoundError:
        raise NotFound(f"{path} does not exist", hint=hint) from None
    except (OSError, UnicodeDecodeError) as error:
        reason = describe(error, path.name) if isinstance(error, OSError) else f"{path.name} is not UTF-8"
        raise InvalidInput([Problem(str(path), 1, 1, reason, hint)]) from None


def maps(value: Any) -> list[dict[str, Any]]:
    """Return the maps in a list; nothing for another value."""
    return [one for one in value if isinstance(one, dict)] if isinstance(value, list) else []
