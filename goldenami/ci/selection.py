"""Which recipes a pipeline builds. Reads files only."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from goldenami import changes, many
from goldenami.ci.gitlab import Node
from goldenami.many import Step
from goldenami.model import Environment
from goldenami.recipe import Project
from goldenami.recipe.revision import at_commit

# What GitLab has in CI_COMMIT_BEFORE_SHA if nothing was pushed, or for a new branch; with SHA-1 and with SHA-256.
_NO_COMMIT: Final = ("0" * 40, "0" * 64)

Selection = tuple[tuple[Node, ...], tuple[str, ...]]  # recipes, a base before its children; and notes for people


def every(project: Project, environment: Environment) -> Selection:
    """Return all recipes that are for an environment. Raises InvalidInput with the problems of all recipes."""
    work = many.choose(project, environment, (), {})
    return _nodes(work.steps), work.notes


def changed(project: Project, environment: Environment, ref: str) -> tuple[Selection, str]:
    """Return the recipes for an environment that the files change since a ref of Git, and those that follow their base;
    and the short id of its commit. Zeros stand for no commit, with the id "": all recipes.

    Raises InvalidInput with the problems of all recipes, UsageError without a repository, and NotFound for an unknown
    ref.
    """
    if ref in _NO_COMMIT:
        return every(project, environment), ""
    work = many.choose(project, environment, (), {})
    with at_commit(project, ref) as revision:
        found = changes.since(project, environment, work, revision)
        commit = revision.commit[:12]
    built = {one.recipe for one in found if one.builds}
    others = tuple(f"{one.recipe}: {why}" for one in found if not one.builds for why in (*one.reasons, *one.hints))
    return (_nodes(step for step in work.steps if step.name in built), (*work.notes, *others)), commit


def _nodes(steps: Iterable[Step]) -> tuple[Node, ...]:
    chosen = tuple(steps)
    names = {step.name for step in chosen}
    return tuple(
        Node(step.name, step.base if step.base in names else None, step.recipe.distribution.channel) for step in chosen
    )
