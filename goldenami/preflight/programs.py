"""Check of this machine: the programs that operations of a recipe run here."""

from __future__ import annotations

from collections.abc import Iterator

from goldenami.childenv import find_program
from goldenami.preflight.context import Context
from goldenami.preflight.finding import Finding
from goldenami.provision import all_operations


def check_programs(context: Context) -> Iterator[Finding]:
    """The programs that operations run on this machine are installed."""
    for recipe in context.recipes:
        stages = [stage for found in recipe.provisioning.values() for stage in found]
        for bound in [bound for stage in stages for bound in all_operations(stage)]:
            for name, hint in bound.operation.inner.programs.items():
                if find_program(name) is None:
                    message = f"{bound.label} needs the program {name} on this machine"
                    yield Finding("program", "error", message, hint, mark=bound.mark)
