"""The import rules in pyproject.toml hold for every module: none can be left out by mistake."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

PROJECT = Path(__file__).parents[2]


def contracts(kind: str) -> list[dict[str, Any]]:
    settings = tomllib.loads((PROJECT / "pyproject.toml").read_text(encoding="utf-8"))
    return [c for c in settings["tool"]["importlinter"]["contracts"] if c["type"] == kind]


def test_every_module_has_a_layer() -> None:
    (contract,) = [c for c in contracts("layers") if c.get("containers") == ["goldenami"]]
    assert contract["exhaustive"], "import-linter refuses a module without a layer only with `exhaustive = true`"
    layers = {name.strip() for layer in contract["layers"] for name in layer.split("|")}
    package = PROJECT / "goldenami"
    modules = {p.stem for p in package.glob("*.py") if p.stem != "__init__"}
    modules |= {p.parent.name for p in package.glob("*/__init__.py")}
    missing, stale = sorted(modules - layers), sorted(layers - modules)
    assert not missing, f"pyproject.toml, contract {contract['name']!r}: add {missing} to `layers`, above their imports"
    assert not stale, f"pyproject.toml, contract {contract['name']!r}: remove {stale} from `layers`, they do not exist"


def test_what_is_forbidden_is_forbidden_everywhere() -> None:
    """A list of packages as `source_modules` would leave out the next package."""
    rules = contracts("forbidden")
    partial = [c["name"] for c in rules if any(m.startswith("goldenami.") for m in c["source_modules"])]
    assert not partial, f"pyproject.toml: use 'goldenami' as `source_modules` in {partial}, and `ignore_imports`"
