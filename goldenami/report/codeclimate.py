"""Problems of a project as a report of code quality, which GitLab shows in the merge request.

The form is that of "Code Quality report format" (GitLab): a list of findings with a description, the name of the check,
a fingerprint, a severity and a place.
"""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from goldenami.errors import Problem


def report(problems: Iterable[Problem], warnings: Iterable[Problem], top: Path) -> list[dict[str, Any]]:
    """Return the findings. ``top``: the folder of the repository, from which paths are counted.

    A fingerprint depends on file and message, and not on the line. So GitLab recognizes a problem that has moved.
    """
    seen: Counter[tuple[str, ...]] = Counter()
    found = []
    for check, severity, kind in (("error", "major", problems), ("warning", "minor", warnings)):
        for problem in kind:
            path = _path(problem.file, top)
            identity = (check, path, problem.message)
            seen[identity] += 1
            key = "\0".join((*identity, str(seen[identity])))
            found.append(
                {
                    "description": f"{problem.message}. {problem.hint}" if problem.hint else problem.message,
                    "check_name": f"goldenami-validate-{check}",
                    "fingerprint": hashlib.sha256(key.encode("utf-8", "surrogatepass")).hexdigest(),
                    "severity": severity,
                    "location": {"path": path, "lines": {"begin": max(problem.line, 1)}},
                }
            )
    return found


def top_of(directory: Path) -> Path:
    """Return the folder of the repository that a directory is in: the nearest one with ``.git``, or the directory."""
    return next((folder for folder in (directory, *directory.parents) if (folder / ".git").exists()), directory)


def _path(file: str, top: Path) -> str:
    """Return a file for GitLab, from the top of the repository. A file outside of it keeps its name."""
    if not Path(file).exists():  # a shipped file has a short name
        return file
    path = os.path.relpath(file, top)
    return file if path.startswith("..") else Path(path).as_posix()
