"""The references that are shipped are those that the models and the agents' files give."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, get_args

import pytest
from pydantic import BaseModel

from goldenami.provision import OPERATIONS
from goldenami.recipe import load_project
from goldenami.recipe.environmentspec import ProjectSpec
from goldenami.recipe.reference import (
    agent_reference,
    agents_reference,
    environment_reference,
    operations_reference,
    recipe_reference,
)
from goldenami.recipe.schema import AgentSpec, RecipeSpec

PROJECT = Path(__file__).parents[2]
SHIPPED = PROJECT / "docs" / "operations.md"


def test_the_reference_is_current() -> None:
    assert SHIPPED.read_text(encoding="utf-8") == operations_reference(), (
        "run: goldenami schema operations >docs/operations.md"
    )


def test_the_reference_of_agents_is_current() -> None:
    shipped = (PROJECT / "docs" / "agents.md").read_text(encoding="utf-8")
    assert shipped == agents_reference(load_project(PROJECT)), "run: goldenami schema agents >docs/agents.md"


def test_every_operation_and_field_is_in_it() -> None:
    text = operations_reference()
    for kind, model in OPERATIONS.items():
        section = text.split(f"## {kind}\n")[1].split("\n## ")[0]
        for name, field in model.model_fields.items():
            assert f"| `{field.alias or name}` |" in section
            assert field.description, f"{kind}.{name} has no description"


def _fields(model: type[BaseModel]) -> Iterator[tuple[str, str | None]]:
    """Every field of a model and of the models inside it, with its description."""
    for name, field in model.model_fields.items():
        yield field.alias or name, field.description
        for inner in _models(field.annotation):
            yield from _fields(inner)


def _models(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for argument in get_args(annotation):
        yield from _models(argument)


@pytest.mark.parametrize(
    ("model", "make"),
    [(RecipeSpec, recipe_reference), (ProjectSpec, environment_reference), (AgentSpec, agent_reference)],
    ids=["recipe", "goldenami.yaml", "agent"],
)
def test_every_section_and_field_is_in_the_reference(model: type[BaseModel], make: Callable[[], str]) -> None:
    text = make()
    rows = re.findall(r"^\| `([^`]+)` \|.*\| (.*) \|$", text, re.MULTILINE)
    for name, description in _fields(model):
        assert description, f"{model.__name__}: the field {name} has no description"
        assert (name, description.replace("|", "\\|")) in rows
    links = set(re.findall(r"\]\(#([^)]+)\)", text))
    headings = [h.lower().replace(".", "") for h in re.findall(r"^## (.+)$", text, re.MULTILINE)]
    assert links == set(headings)
    assert len(headings) == len(set(headings))
