"""What the commands about several recipes have in common: which recipes they work on."""

from __future__ import annotations

from typing import TYPE_CHECKING

from goldenami.errors import NotFound, UsageError
from goldenami.nextstep import step

if TYPE_CHECKING:
    from collections.abc import Sequence

    from goldenami.many import Work
    from goldenami.model import Environment


def require_recipes(references: Sequence[str], every: bool) -> None:
    """Raise UsageError unless either recipes or --all are given."""
    if bool(references) == every:
        raise UsageError(
            "RECIPE and --all cannot be combined" if every else "expected recipes, or --all",
            hint=f"{step('validate')} lists the recipes of the project.",
        )


def require_work(work: Work, environment: Environment) -> None:
    """Raise NotFound if no recipe is left to work on."""
    if not work.steps:
        raise NotFound(f"no recipe is for the environment {environment.name}")
