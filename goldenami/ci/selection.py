"""Which recipes a pipeline builds. Reads files only."""

from __future__ import annotations

from collections.abc import Iterable

from goldenami import many
from goldenami.ci.gitlab import Node
from goldenami.many import Step
from goldenami.model import Environment
from goldenami.recipe import Project

Selection = tuple[tuple[Node, ...], tuple[str, ...]]  # recipes, a base before its children; and notes for people


def every(project: Project, environment: Environment) -> Selection:
    """Return all recipes that are for an environment. Raises InvalidInput with the problems of all recipes."""
    work = many.choose(project, environment, (), {})
    return _nodes(work.steps), work.notes


def _nodes(steps: Iterable[Step]) -> tuple[Node, ...]:
    chosen = tuple(steps)
    names = {step.name for step in chosen}
    return tuple(
        Node(step.name, step.base if step.base in names else None, step.recipe.distribution.channel) for step in chosen
    )
