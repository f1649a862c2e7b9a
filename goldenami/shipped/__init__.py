"""Where the shipped files are: agents and recipes in ``recipes/``, profiles and controls in ``hardening/``.

A wheel has both directories inside this package. A checkout and an editable install have them at the top of the
repository, where a platform team edits them.
"""

from __future__ import annotations

from pathlib import Path

_HERE = Path(__file__).parent

ROOT = _HERE if (_HERE / "recipes").is_dir() else _HERE.parents[1]
"""The directory that holds ``recipes/`` and ``hardening/``, as a project's root does."""
