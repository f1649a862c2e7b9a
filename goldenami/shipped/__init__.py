"""Where the shipped files are: agents and recipes in ``recipes/``, profiles and controls in ``hardening/``.

A wheel has both directories inside this package. A checkout and an editable install have them at the top of the
repository, where a platform team edits them.
"""

from __future__ import annotations

from pathlib import Path

_HERE = Path(__file__).parent

ROOT = _HERE if (_HERE / "recipes").is_dir() else _HERE.parents[1]
"""The directory that holds ``recipes/`` and ``hardening/``, as a project's root does."""

_PREFIX = "shipped:"
_START = str(ROOT)


def name_of(path: Path) -> str | None:
    """The short name of a shipped file, such as ``shipped:recipes/agents/chrony/agent.yaml``: the same wherever
    goldenami is installed. None for any other file, and for somebody who works in the directory of the shipped files.
    """
    # Compared as texts first, because projects have many files.
    if not str(path).startswith(_START) or not path.is_relative_to(ROOT) or Path.cwd().is_relative_to(ROOT):
        return None
    below = path.relative_to(ROOT)
    return f"{_PREFIX}{below.as_posix()}" if below.parts[:1] in (("recipes",), ("hardening",)) else None


def path_of(name: str) -> Path:
    """The file of a name that people were shown: that of ``name_of``, or a path."""
    return ROOT / name.removeprefix(_PREFIX) if name.startswith(_PREFIX) else Path(name)
