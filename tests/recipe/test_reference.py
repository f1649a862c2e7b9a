"""The references that are shipped are those that the models and the agents' files give."""

from __future__ import annotations

from pathlib import Path

from goldenami.provision import OPERATIONS
from goldenami.recipe import load_project
from goldenami.recipe.reference import agents_reference, operations_reference

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
