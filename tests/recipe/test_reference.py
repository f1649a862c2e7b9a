"""The reference of operations that is shipped is the one that the models give."""

from __future__ import annotations

from pathlib import Path

from goldenami.provision import OPERATIONS
from goldenami.recipe.reference import operations_reference

SHIPPED = Path(__file__).parents[2] / "docs" / "operations.md"


def test_the_reference_is_current() -> None:
    assert SHIPPED.read_text(encoding="utf-8") == operations_reference(), (
        "run: goldenami schema operations >docs/operations.md"
    )


def test_every_operation_and_field_is_in_it() -> None:
    text = operations_reference()
    for kind, model in OPERATIONS.items():
        section = text.split(f"## {kind}\n")[1].split("\n## ")[0]
        for name, field in model.model_fields.items():
            assert f"| `{field.alias or name}` |" in section
            assert field.description, f"{kind}.{name} has no description"
