"""Plans several recipes in the order of their graph: what a build of them would do now, and why. Changes nothing.

The plans share one cloud that remembers its answers, one view of the catalog and one memory of package indices, so that
no fact is asked for twice. Recipes at the same depth of the graph are planned side by side, and their releases are
looked up together. What is decided for a base is known before its children are planned.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final, Literal

from goldenami import changes, costs, many, model
from goldenami.aws import regions
from goldenami.aws.session import Cloud
from goldenami.aws.tags import start_of_build
from goldenami.costs import Cost
from goldenami.each import Failures, each
from goldenami.errors import GoldenAmiError
from goldenami.events import Event, ignore_events
from goldenami.interrupts import Interrupts
from goldenami.many import Step, Work
from goldenami.model import Architecture, BaseImage, Environment, ImageManifest, Target
from goldenami.nextstep import step as next_step
from goldenami.planning import BuildPlan
from goldenami.preflight import Finding
from goldenami.recipe import BaseRef, Project
from goldenami.recipe.places import Place
from goldenami.recipe.prices import prices as read_prices
from goldenami.release import targets as modes
from goldenami.release import unchanged
from goldenami.release.catalog import Catalog
from goldenami.release.catalogfiles import Channel
from goldenami.release.parameters import parameter_name
from goldenami.release.templates import following
from goldenami.same import for_the_same
from goldenami.snapshots.prices import Prices
from goldenami.stages import deciding, facts, missing
from goldenami.stages.tools import Tools, open_tools

Action = Literal["build", "move", "unchanged", "unknown", "failed", "skipped"]

_AT_ONCE: Final = 8  # plans, each of which makes some calls at the same time
_BUILDS: Final = 5  # builds of which an estimate is the median
_GIVEN_LATER: Final = ("target:", "share")  # the labels of inputs that `goldenami distribute` applies without a build


@dataclass(frozen=True, slots=True)
class Planned:
    """What a build of one recipe would do.

    ``action`` "build": make a new release, for ``reasons``; "move": point the channel to ``release``, which has the
    same inputs; "unchanged": nothing; "unknown": it cannot be known offline; "failed": the recipe cannot be planned,
    see ``error``; "skipped": its base cannot be planned. ``why``: the reason if nobody named the recipe. ``changed``:
    the labels of the inputs that differ from those of the last release. ``before``, ``after``: the version in the
    channel; ``after`` is None if a build names it. ``places``: where these inputs differ, if the repository has the
    commit of that release. ``hints``: other ways, and what could not be looked up. ``seconds``: the median of the last
    builds of the recipe; None if there are none in the channel. ``cost``: of a build, by the price table. ``missing``:
    what a build needs and does not find here, such as a secret. ``gaining``, ``losing``: accounts, organizations and
    units that may launch the home account's images of the new release, and not those of the release before, and the
    other way round.
    """

    recipe: str
    action: Action
    channel: str
    why: str = ""
    reasons: tuple[str, ...] = ()
    changed: tuple[str, ...] = ()
    release: ImageManifest | None = None
    before: str | None = None
    after: str | None = None
    places: tuple[Place, ...] = ()
    hints: tuple[str, ...] = ()
    seconds: float | None = None
    cost: Cost | None = None
    missing: tuple[Finding, ...] = ()
    gaining: tuple[str, ...] = ()
    losing: tuple[str, ...] = ()
    plan: BuildPlan | None = None
    error: GoldenAmiError | None = None

    @property
    def exit_code(self) -> int:
        """The exit code of its error, or 0."""
        return self.error.exit_code if self.error is not None else 0

    @property
    def changes(self) -> bool:
        """Whether a build would change something."""
        return self.action in ("build", "move")

    @property
    def digest(self) -> str | None:
        """The digest of the plan; None if it depends on a base that is built first."""
        return None if self.plan is None or self.plan.awaits_base else self.plan.digest

    @property
    def parameters(self) -> tuple[str, ...]:
        """The names of the parameters with the image ids that would be set in each target."""
        if self.plan is None or not self.changes:
            return ()
        prefix, recipe = self.plan.environment.parameter_prefix, self.plan.recipe
        return tuple(parameter_name(prefix, recipe.name, a, self.channel) for a in recipe.architectures)

    @property
    def templates(self) -> tuple[str, ...]:
        """The launch templates that would get the image, each with its place: those that follow the channel."""
        if self.plan is None or not self.changes:
            return ()
        every = _places_of(self.plan.targets)
        declared = following(self.plan.environment.launch_templates, self.recipe, self.channel)
        return tuple(f"{place} {one.template}" for one in declared for place in sorted(every & set(one.places)))


def make(
    project: Project,
    environment: Environment,
    work: Work,
    *,
    cloud: Cloud | None = None,
    interrupts: Interrupts | None = None,
) -> tuple[Planned, ...]:
    """Plan recipes, and return what is planned for each, a base before its children.

    Bases without a release are added. The failure of one recipe does not stop the others. Raises AccessError for
    credentials of another account, and errors that end everything.
    """
    table = read_prices(project)
    known = (cloud or Cloud.of(environment)).remembering()
    regions.check_home(known)
    known.check_caller()
    with (
        open_tools(environment, None, known, "clean", ignore_events, interrupts=interrupts) as tools,
        changes.commits_of(project, environment) as commits,
    ):
        tools = replace(tools, catalog=tools.catalog.indexed())
        failures = Failures[str]()
        steps = _with_bases(project, environment, work, tools.catalog, failures)
        return _Run(environment, tools, steps, failures, commits, table).all()


def _with_bases(
    project: Project, environment: Environment, work: Work, catalog: Catalog, failures: Failures[str]
) -> tuple[Step, ...]:
    steps = {step.name: step for step in work.steps}
    loaded = {step.name: step.recipe for step in work.steps}
    for step in work.steps:
        with failures.of(step.name):
            alone = replace(work, steps=(step,))
            for base in many.with_missing_bases(alone, project, environment, catalog, loaded).steps:
                steps.setdefault(base.name, base)
    return many.ordered(steps)


@dataclass(frozen=True, slots=True)
class _Base:
    """What is decided for the base of a recipe. ``images``: its images if they are not those of the channel now."""

    reason: str = ""
    images: Mapping[Architecture, BaseImage] | None = None


class _Run:
    def __init__(
        self,
        environment: Environment,
        tools: Tools,
        steps: tuple[Step, ...],
        failures: Failures[str],
        commits: changes.Commits,
        prices: Prices,
    ) -> None:
        self.environment = environment
        self.tools = tools
        self.steps = steps
        self.failures = failures
        self.commits = commits
        self.prices = prices
        self.done: dict[str, Planned] = {}
        self.bases: dict[str, _Base] = {}
        self.shared = facts.Shared()

    def all(self) -> tuple[Planned, ...]:
        for level in self._levels():
            self._plan(level)
        made = [self.done[step.name] for step in self.steps]
        builds = [one.plan.recipe for one in made if one.action == "build" and one.plan is not None]
        lacks = missing.find(self.tools.cloud, self.environment, builds)
        return tuple(replace(one, missing=lacks.get(one.recipe, ())) for one in made)

    def _levels(self) -> list[list[Step]]:
        depths: dict[str, int] = {}
        levels: list[list[Step]] = []
        for step in self.steps:
            depth = depths[step.name] = depths.get(step.base or "", -1) + 1
            levels += [[]] if depth == len(levels) else []
            levels[depth].append(step)
        return levels

    def _plan(self, level: list[Step]) -> None:
        """Plan recipes that do not depend on each other."""
        steps = {step.name: step for step in level}
        for step in level:
            above = self.done.get(step.base or "")
            if step.name not in self.failures.errors and above is not None and above.action in ("failed", "skipped"):
                reason = f"its base {above.recipe} cannot be planned"
                self.done[step.name] = self._ended(step, "skipped", reason)
        names = [name for name in steps if name not in self.done and name not in self.failures.errors]
        made = each(names, lambda name: self._make(steps[name]), at_once=_AT_ONCE)
        for name, error in made.errors.items():
            self.failures.add(name, error)
        releases: dict[str, tuple[ImageManifest, ...]] = {}
        for name, plan in made.results.items():
            with self.failures.of(name):
                releases[name] = () if plan.awaits_base else tuple(self.tools.catalog.with_digest(name, plan.digest))
        seen = unchanged.look_at(self.tools.cloud, [one for found in releases.values() for one in found])
        for name, same in releases.items():
            with self.failures.of(name):
                self.done[name] = self._decide(steps[name], made.results[name], same, seen)
        for name, step in steps.items():
            if name in self.failures.errors:
                failure = self.failures.errors[name]
                self.done[name] = replace(self._ended(step, "failed", failure.message), error=failure)

    def _make(self, step: Step) -> BuildPlan:
        base = self.bases[step.name] = self._base(step)
        return deciding.plan_for(step.recipe, self.environment, self.tools, bases=base.images, shared=self.shared)

    def _base(self, step: Step) -> _Base:
        """Return what the plan of a recipe's base means for the recipe."""
        above = self.done.get(step.base or "")
        ref = next((ref for ref in step.recipe.base.values() if ref.kind == "recipe"), None)
        if above is None or above.plan is None or ref is None or ref.channel != above.channel or not above.changes:
            return _Base()
        if above.action == "move" and above.after is not None:
            images = {
                architecture: facts.released_base(
                    self.tools.cloud, self.environment, self.tools.catalog, ref, architecture, version=above.after
                )
                for architecture in step.recipe.architectures
            }
            return _Base(f"its base {ref} moves to {above.after} first", images)
        return _Base(f"its base {ref.value} is built first", _coming(above.plan, ref))

    def _decide(
        self, step: Step, plan: BuildPlan, releases: tuple[ImageManifest, ...], seen: unchanged.Seen
    ) -> Planned:
        recipe, fresh, base = plan.recipe, plan.facts.freshness, self.bases[step.name]
        pointer = self.tools.catalog.channel(recipe.name, recipe.distribution.channel)
        planned = replace(
            self._ended(step, "unchanged"),
            before=pointer.current if pointer is not None else None,
            changed=fresh.changed,
            seconds=_seconds(self.tools.catalog, pointer),
            plan=plan,
        )
        notes: list[Event] = []
        found = unchanged.choose(
            self.tools.cloud,
            self.tools.catalog,
            recipe.name,
            releases,
            best_effort=plan.best_effort,
            emit=notes.append,
            seen=seen,
        )
        lost = [str(event.fields["message"]) for event in notes]
        if found is None:
            reasons = [*filter(None, [base.reason]), *lost, *fresh.reasons] or ["no release has the same inputs"]
            places, why_none = self._places(step, planned)
            gaining, losing = self._shares(plan, planned.before)
            return replace(
                planned,
                action="build",
                gaining=gaining,
                losing=losing,
                reasons=tuple(reasons),
                places=places,
                cost=costs.of_build(plan, planned.seconds, self.prices),
                hints=(*fresh.notes, *_without_build(planned), *filter(None, [why_none])),
            )
        kept = deciding.stays(pointer, found.release)
        is_moved = not kept and (pointer is None or pointer.current != found.release.version)
        after = found.release.version if is_moved else planned.before
        return replace(
            planned,
            action="move" if is_moved else "unchanged",
            reasons=tuple(filter(None, (f"{found.reason}{fresh.since}", kept))),
            hints=tuple(lost),
            release=found.release,
            after=after,
        )

    def _places(self, step: Step, planned: Planned) -> tuple[tuple[Place, ...], str]:
        """Return where the inputs differ from those of the last release; or why that is not known."""
        labels = [label for label in planned.changed if not label.startswith("base:")]
        if not labels:
            return (), ""
        last = self.tools.catalog.get(planned.recipe, self.tools.catalog.versions(planned.recipe)[0])
        return self.commits.places(step, last, labels)

    def _shares(self, plan: BuildPlan, before: str | None) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """Return who may launch the home account's images only after a build, and who only before it."""
        home, shares = self.environment.home.id, plan.recipe.distribution
        after = {*shares.share_accounts, *shares.share_organizations, *_sharers(plan.targets)}
        was: set[str] = set()
        if before is not None:
            rows = self.tools.catalog.get(plan.recipe.name, before).images
            was = {who for row in rows if modes.owns(row) and row.account == home for who in row.shared_with}
        after.discard(home)
        return tuple(sorted(after - was)), tuple(sorted(was - after))

    @staticmethod
    def _ended(step: Step, action: Action, *reasons: str) -> Planned:
        return Planned(step.name, action, step.recipe.distribution.channel, step.why, reasons)


@for_the_same
def _places_of(targets: tuple[Target, ...]) -> frozenset[model.Place]:
    return frozenset(target.place for target in targets)


@for_the_same
def _sharers(targets: tuple[Target, ...]) -> frozenset[str]:
    """Return the accounts of the targets that use the image of another target."""
    return frozenset(target.account.id for target in targets if modes.get_mode(target).source(target) is not None)


def _coming(above: BuildPlan, ref: BaseRef) -> dict[Architecture, BaseImage]:
    """Return the images that the build of a base will make, as far as they are known before it."""
    recipe = above.recipe
    return {
        architecture: replace(
            base,
            image_id="",
            name="",
            owner=above.environment.home.id,
            creation_date="",
            source=f"the release of {ref} that is built first",
            root_volume_gib=recipe.image.root_volume.size_gib or base.root_volume_gib,
            boot_mode=recipe.image.boot_mode or base.boot_mode,
            release=None,
        )
        for architecture, base in above.facts.base.items()
    }


def _without_build(planned: Planned) -> Iterator[str]:
    """Yield the hint that no build is needed, if only targets and shares differ from the last release."""
    if planned.changed and planned.before and all(label.startswith(_GIVEN_LATER) for label in planned.changed):
        reference = f"{planned.recipe}@{planned.channel}"
        yield f"only targets and shares differ: {next_step('distribute', reference)} applies them without a build"


def _seconds(catalog: Catalog, pointer: Channel | None) -> float | None:
    """Return how long the last builds of a recipe took: from the time in the id of a build to its move of the
    channel."""
    took: list[float] = []
    for move in reversed(pointer.history if pointer is not None else ()):
        if pointer is None or move.build_id is None or move.version not in catalog.versions(pointer.name):
            continue
        began = start_of_build(move.build_id)
        if began is not None and catalog.entry(pointer.name, move.version).build_id == move.build_id:
            took.append((datetime.fromisoformat(move.moved) - began).total_seconds())
    return statistics.median(took[:_BUILDS]) if took else None
