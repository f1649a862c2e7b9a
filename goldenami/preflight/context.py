"""What the checks work with: the cloud, the environment, the recipes, and the accounts that answer."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from goldenami.aws.session import Cloud
from goldenami.each import each
from goldenami.model import Environment, Mark, Place, Target
from goldenami.preflight.finding import Finding, Level, from_error
from goldenami.recipe import Recipe
from goldenami.release.catalog import Catalog


@dataclass(frozen=True, slots=True)
class Context:
    """``recipes``: those that will be built; empty for the checks of an environment alone. ``refused``: the ids of the
    accounts whose credentials failed; no other check uses them. ``builds``: a build begins, whose plan finds regions
    and keys itself. ``keys``: label of a target -> ARN of its key, if the plan has found them. ``remembering``: the
    cloud for what several checks read: each request is sent once. ``is_wanted``: returns whether more is to be asked;
    what only warns is given up at the end of a build."""

    cloud: Cloud
    environment: Environment
    catalog: Catalog
    recipes: Sequence[Recipe] = ()
    refused: frozenset[str] = frozenset()
    builds: bool = False
    keys: Mapping[str, str] | None = None
    remembering: Cloud = field(kw_only=True)
    is_wanted: Callable[[], bool] = lambda: True

    @property
    def targets(self) -> tuple[Target, ...]:
        """The targets of the recipes; without recipes, those of the environment."""
        if not self.recipes:
            return self.environment.targets
        return tuple(dict.fromkeys(target for recipe in self.recipes for target in recipe.distribution.targets))

    @property
    def reachable(self) -> tuple[Target, ...]:
        """The targets whose account answers."""
        return tuple(target for target in self.targets if target.account.id not in self.refused)

    @property
    def home_answers(self) -> bool:
        return self.environment.home.id not in self.refused

    def mark(self, *path: str) -> Mark:
        """Return the position of a key in goldenami.yaml, or of the nearest key above it."""
        return self.environment.mark(*path)

    def level(self, target: Target) -> Level:
        """Return the level of a failure of one target: a best-effort target does not stop a build."""
        return "error" if target.required else "warning"

    def places(self) -> Mapping[Place, Target | None]:
        """Return the home place and the places of the targets that answer, with the first target there."""
        found: dict[Place, Target | None] = {self.environment.home_place: None} if self.home_answers else {}
        for target in self.reachable:
            found[target.place] = found.get(target.place) or target
        return found


Check = Callable[[Context], Iterator[Finding]]


def for_each_target(
    context: Context, code: str, check: Callable[[Target], Iterator[Finding]], targets: Sequence[Target]
) -> Iterator[Finding]:
    """Run a check for all targets at the same time. A target whose read fails is a finding."""
    by_label = {target.label: target for target in targets}
    answers = each(by_label, lambda label: list(check(by_label[label])))
    for label, target in by_label.items():
        yield from answers.results.get(label, ())
        if label in answers.errors:
            yield from_error(
                code,
                answers.errors[label],
                level=context.level(target),
                place=target.place,
                mark=context.mark("targets", label),
            )


def for_each_place(
    code: str, check: Callable[[Place], Iterator[Finding]], places: Sequence[Place]
) -> Iterator[Finding]:
    """Run a check that a build does not depend on for all places. A place whose read fails is unknown."""
    answers = each(places, lambda place: list(check(place)))
    for place in places:
        yield from answers.results.get(place, ())
        if place in answers.errors:
            error = answers.errors[place]
            yield Finding(code, "unknown", error.message, error.hint or "", place)
