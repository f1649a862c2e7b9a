"""Builds several recipes in the order of their graph: a base before the recipes that are built on it.

Recipes that do not depend on each other are built side by side. Each has a build of its own, with a journal, and one
result. A failure ends the recipes that are built on the failed one; the others continue if ``keep_going``.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Literal, Protocol

from goldenami import recipe as recipes
from goldenami.aws.catalogs import open_store
from goldenami.aws.journals import open_journals
from goldenami.aws.session import Cloud
from goldenami.aws.sharing import sharing
from goldenami.each import beside
from goldenami.errors import GoldenAmiError, Interrupted
from goldenami.events import Emit, ignore_events
from goldenami.interrupts import Interrupts
from goldenami.model import Environment
from goldenami.recipe import Project, Recipe
from goldenami.recipe.problems import Problems
from goldenami.release.catalog import Catalog
from goldenami.stages import deciding, facts, learnt

if TYPE_CHECKING:  # a plan needs none of them
    from goldenami.pipeline import Outcome
    from goldenami.stages.build import HostWork
    from goldenami.stages.tools import Decide, OnFailure

Status = Literal["built", "unchanged", "moved", "distributed", "failed", "skipped"]
EmitFor = Callable[[str], Emit]


@dataclass(frozen=True, slots=True)
class Step:
    """A recipe to build. ``reference``: its name or path. ``why``: the reason if nobody named the recipe."""

    recipe: Recipe
    reference: str
    variables: Mapping[str, str] = field(default_factory=dict)
    why: str = ""

    @property
    def name(self) -> str:
        return self.recipe.name

    @property
    def base(self) -> str | None:
        """The recipe that this one is built on. Loading refuses more than one."""
        return next((ref.value for ref in self.recipe.base.values() if ref.kind == "recipe"), None)


@dataclass(frozen=True, slots=True)
class Work:
    """The recipes to build, a base before its children. ``notes``: which recipes were left out, and why."""

    steps: tuple[Step, ...]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Result:
    """How one recipe ended.

    ``status`` "built": a new release; "unchanged": a release with the same inputs exists; "moved": the channel was
    pointed to that release; "distributed": a task of ``distribute`` was completed; "failed": see ``error``; "skipped":
    not tried, see ``reason``. ``before`` and ``after``: the version in the recipe's channel, None if the channel does
    not exist. ``seconds``: of the wall clock.
    """

    recipe: str
    status: Status
    channel: str
    reason: str = ""
    before: str | None = None
    after: str | None = None
    seconds: float = 0.0
    outcome: Outcome | None = None
    error: GoldenAmiError | None = None

    @property
    def exit_code(self) -> int:
        """The exit code that belongs to this result: that of its error, or that of targets without an image."""
        if self.error is not None:
            return self.error.exit_code
        return self.outcome.exit_code if self.outcome is not None else 0


class Ended(Protocol):
    """What became of one recipe."""

    @property
    def exit_code(self) -> int:
        """The exit code that belongs to it."""


def exit_code(every: Iterable[Ended]) -> int:
    """Return the exit code of several recipes: 130 after an interruption, the code that all failures have, or 1."""
    codes = {one.exit_code for one in every} - {0}
    if Interrupted.exit_code in codes:
        return Interrupted.exit_code
    return codes.pop() if len(codes) == 1 else min(len(codes), 1)


# --- which recipes ----------------------------------------------------------------------------------------------------


def choose(
    project: Project,
    environment: Environment,
    references: Sequence[str],
    variables: Mapping[str, str],
    *,
    children: bool = False,
) -> Work:
    """Return the named recipes in the order of their graph; without names, all recipes that are for the environment.

    ``children``: also the recipes that are built on them, and those built on these. ``variables`` are given to the
    recipes that declare them. Raises InvalidInput with the problems of all recipes, and NotFound.
    """
    names = list(dict.fromkeys(references)) or project.recipe_names()
    why: dict[str, str] = {}
    if children:
        why = _children(project, names)
        names += why
    notes: list[str] = []
    if not references or children:
        named, others = set(references), recipes.allowed_in(project, environment.name, names)[1]
        left_out = {name: listed for name, listed in others.items() if name not in named}
        notes = recipes.skipped(left_out, environment.name)
        names = [name for name in names if name not in left_out]
    steps: dict[str, Step] = {}
    problems = Problems()
    for name, given in recipes.fitting(project, names, variables):
        with problems.collected():
            recipe = recipes.load(project, name, environment, given)
            steps.setdefault(recipe.name, Step(recipe, name, given, why.get(name, "")))
    problems.found = list(dict.fromkeys(problems.found))  # such as those of an agent that several recipes use
    problems.refuse_any()
    return Work(ordered(steps), tuple(notes))


def with_missing_bases(
    work: Work,
    project: Project,
    environment: Environment,
    catalog: Catalog,
    loaded: dict[str, Recipe] | None = None,
) -> Work:
    """Add the bases without a release, which would be built first anyway. Raises NotFound as ``pipeline.build``.

    ``loaded``: as in ``deciding.unreleased_parents``; by default the recipes of ``work``.
    """
    steps = {step.name: step for step in work.steps}
    loaded = {step.name: step.recipe for step in work.steps} if loaded is None else loaded
    for step in work.steps:
        for base in deciding.unreleased_parents(project, environment, catalog, step.recipe, loaded):
            steps.setdefault(base.name, Step(base, base.name, why=f"{step.name} is built on it, and it has no release"))
    return replace(work, steps=ordered(steps))


def _children(project: Project, names: Iterable[str]) -> dict[str, str]:
    """Return the recipes that are built on these, directly or not -> the reason."""
    graph = recipes.graph(project)
    known, found = set(names), dict[str, str]()
    while new := {child: base for child, base in graph.items() if base in known and child not in known}:
        found |= {child: f"it is built on {base}" for child, base in new.items()}
        known |= set(new)
    return found


def ordered(steps: Mapping[str, Step]) -> tuple[Step, ...]:
    """Order recipes: each after its base, otherwise as they were given."""
    done: dict[str, Step] = {}

    def add(step: Step) -> None:
        if step.base is not None and step.base in steps and step.base not in done:
            add(steps[step.base])
        done.setdefault(step.name, step)

    for step in steps.values():
        add(step)
    return tuple(done.values())


# --- build ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Options:
    """How each recipe is built: see ``pipeline.build``. ``host_work`` and ``cloud`` replace SSH and the cloud."""

    force: bool = False
    move: bool = True
    adopt: bool = False
    on_failure: OnFailure | Decide = "clean"
    wait: float = 0.0
    host_work: HostWork | None = None
    cloud: Cloud | None = None


def build(
    project: Project,
    environment: Environment,
    work: Work,
    options: Options,
    *,
    at_once: int = 4,
    keep_going: bool = False,
    emit_for: EmitFor = lambda _: ignore_events,
    interrupts: Interrupts | None = None,
) -> tuple[Result, ...]:
    """Build recipes, ``at_once`` at most at the same time, and return a result for each, in the order of ``work``.

    All builds share the clients, the credentials and the rates of calls of one cloud, and these rates with the other
    processes that build (``aws.sharing``). After a failure no build starts
    any more, unless ``keep_going``; running ones end. The recipes that are built on a failed one are skipped. A signal
    stops every build, and each deletes what it created. ``emit_for`` returns the consumer of a recipe's events; it is
    called from several threads.
    """
    cloud = Cloud.of(environment)
    with (
        interrupts or Interrupts() as interrupts,
        sharing(open_store(environment, cloud), (options.cloud or cloud).shares),
        learnt.kept(environment, cloud),
    ):
        run = _Run(project, environment, options, cloud, emit_for, interrupts.stop)
        if len(work.steps) == 1:  # in the thread that a signal interrupts at once
            return (run.one(work.steps[0], interrupts),)
        with ThreadPoolExecutor(1, thread_name_prefix="builds") as pool:
            results = pool.submit(run.all, work.steps, at_once, keep_going=keep_going)
            while True:
                try:
                    return results.result()
                except KeyboardInterrupt:
                    interrupts.stop.set()  # the builds delete what they created, and end


@dataclass(frozen=True, slots=True)
class _Run:
    project: Project
    environment: Environment
    options: Options
    cloud: Cloud
    emit_for: EmitFor
    stop: threading.Event

    def all(self, steps: Sequence[Step], at_once: int, *, keep_going: bool) -> tuple[Result, ...]:
        waiting = list(steps)
        results: dict[str, Result] = {}
        running: dict[Future[Result], str] = {}
        with ThreadPoolExecutor(at_once, thread_name_prefix="build") as pool:
            while waiting or running:
                names = {step.name for step in waiting} | set(running.values())
                for step in tuple(waiting):
                    reason = self._why_not(step, results, keep_going=keep_going)
                    if reason:
                        waiting.remove(step)
                        results[step.name] = Result(step.name, "skipped", step.recipe.distribution.channel, reason)
                    elif step.base not in names and len(running) < at_once:
                        waiting.remove(step)
                        own = Interrupts(self.stop, signals=False)
                        running[pool.submit(self.one, step, own)] = step.name
                for future in wait(running, return_when=FIRST_COMPLETED).done:
                    results[running.pop(future)] = future.result()
        return tuple(results[step.name] for step in steps)

    def _why_not(self, step: Step, results: Mapping[str, Result], *, keep_going: bool) -> str:
        if self.stop.is_set():
            return "interrupted before it was started"
        base = results.get(step.base or "")
        if base is not None and base.status in ("failed", "skipped"):
            return f"its base {base.recipe} {'failed' if base.status == 'failed' else 'was skipped'}"
        failed = [r for r in results.values() if r.error is not None]
        if any(r.error is not None and r.error.ends_everything for r in failed) or (failed and not keep_going):
            return f"not started after {failed[0].recipe} failed"
        return ""

    def one(self, step: Step, interrupts: Interrupts) -> Result:
        """Build one recipe. Returns its failure as a result."""
        cloud = self.options.cloud or self.cloud.with_sleep(interrupts.sleep)
        targets = step.recipe.distribution.targets

        def work() -> Outcome:
            # To load the stages takes about as long as the first answers.
            _, refused = beside(_load_stages, lambda: facts.try_to_sign_in(cloud, targets))
            from goldenami import pipeline

            return pipeline.build(
                pipeline.Request(self.project, self.environment, step.reference, step.variables),
                force=self.options.force,
                move=self.options.move,
                adopt=self.options.adopt,
                on_failure=self.options.on_failure,
                wait=self.options.wait,
                emit_to=self.emit_for(step.name),
                host_work=self.options.host_work,
                cloud=cloud,
                interrupts=interrupts,
                refused=refused,
            )

        channel = step.recipe.distribution.channel
        return carry_out(step.name, channel, Catalog.of(self.environment, cloud), work)


def _load_stages() -> None:
    from goldenami import pipeline  # noqa: F401


def carry_out(name: str, channel: str, catalog: Catalog, work: Callable[[], Outcome]) -> Result:
    """Run a build of a recipe, and return its result. A failure is a result too, also one that ends everything."""
    started, before, after = time.monotonic(), None, None
    outcome: Outcome | None = None
    error: GoldenAmiError | None = None
    try:
        before = _version(catalog, name, channel)
        outcome = work()
        after = _version(catalog, name, channel)
    except GoldenAmiError as failure:
        error = failure
    except KeyboardInterrupt:
        error = Interrupted("interrupted before anything was created")
    seconds = time.monotonic() - started
    if outcome is None:
        return Result(name, "failed", channel, error.message if error else "", before, before, seconds, error=error)
    status: Status = "built" if outcome.status == "released" else outcome.status
    return Result(name, status, channel, outcome.reason, before, after, seconds, outcome, error)


def resume(
    project: Project,
    environment: Environment,
    build_id: str | None,
    *,
    on_failure: OnFailure | Decide = "clean",
    wait: float = 0.0,
    emit_to: Emit = ignore_events,
) -> Result:
    """Resume a build, as ``pipeline.resume``, and return its result. Raises NotFound or UsageError for a wrong id."""
    from goldenami import pipeline

    chosen = pipeline.choose_build(open_journals(environment), build_id, environment)
    name, channel = chosen.build_id, ""
    if chosen.header is not None:
        name, channel = chosen.header.recipe, str(chosen.header.data.get("channel") or "")
    return carry_out(
        name,
        channel,
        Catalog.of(environment),
        lambda: pipeline.resume(
            project, environment, chosen.build_id, on_failure=on_failure, wait=wait, emit_to=emit_to
        ),
    )


def _version(catalog: Catalog, name: str, channel: str) -> str | None:
    if not channel:
        return None
    pointer = catalog.channel(name, channel)
    return pointer.current if pointer is not None else None
