"""Which recipe is built on which, as the recipes are written: nothing is rendered, and a broken recipe is no error."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final

from goldenami.recipe.problems import Problems
from goldenami.recipe.project import Project
from goldenami.recipe.schema import DistributionSpec
from goldenami.recipe.words import BASE_KINDS, DEFAULT_CHANNEL

_OWN_CHANNEL: Final = str(DistributionSpec.model_fields["channel"].default)


@dataclass(frozen=True, slots=True)
class Written:
    """The place of a recipe in the graph. ``base``: ``filter debian-12-amd64-*``, or NAME@CHANNEL of ``parent``; "" if
    the recipe cannot be read. ``parent_channel``: "" without a parent. ``channel``: the one that its builds move."""

    name: str
    base: str
    parent: str | None
    parent_channel: str
    channel: str


def family(project: Project, names: Iterable[str]) -> list[Written]:
    """Return the places of some recipes, in the order of the names."""
    return [_written(project, name) for name in names]


def _written(project: Project, name: str) -> Written:
    document = project.document(project.recipe_path(name), Problems())
    value = document.value if document is not None and isinstance(document.value, dict) else {}
    base = _mapping(value.get("base"))
    channel = str(_mapping(value.get("distribution")).get("channel") or _OWN_CHANNEL)
    kind = next((kind for kind in BASE_KINDS if isinstance(base.get(kind), str)), None)
    if kind == "recipe":
        of = str(base.get("channel") or DEFAULT_CHANNEL)
        return Written(name, f"{base['recipe']}@{of}", base["recipe"], of, channel)
    return Written(name, f"{kind} {base[kind]}" if kind is not None else "", None, "", channel)


def _mapping(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}
