"""The public Python API, as ``import goldenami`` offers it; docs/python.md explains it with examples.

    import goldenami

    project = goldenami.Project("my-images")
    plan = goldenami.plan(project, "debian-12-web")
    outcome = goldenami.build(plan)
    print([image.image_id for image in outcome.images])

Every function works in any thread. None of them prints, changes the working directory, the process's environment
variables or its signal handlers. Errors are of ``goldenami.errors``. What happens meanwhile is told as events
(``goldenami.events`` lists their kinds): ``on_event`` is called with each, in the thread that called the function.

Long work is done in a thread of its own while the caller waits. Ctrl-C (KeyboardInterrupt in the thread that waits),
an exception of ``on_event``, and ``stop`` that is set all end it: what a build made is deleted, then the exception is
raised. A second Ctrl-C does not wait for that; `goldenami clean` deletes the rest later.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future
from dataclasses import dataclass, field, replace
from pathlib import Path
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any, Generic, Literal, ParamSpec, TypeVar, overload

from goldenami.events import Emit, Event, emit, ignore_events
from goldenami.interrupts import Interrupts
from goldenami.model import (
    Architecture,
    Connection,
    Environment,
    ImageManifest,
    ManifestImage,
    Target,
)

if TYPE_CHECKING:
    from goldenami.errors import Problem
    from goldenami.pipeline import Outcome
    from goldenami.planning import BuildPlan
    from goldenami.reconcile import CleanUp

OnEvent = Callable[[Event], object]
OnFailure = Literal["clean", "keep"]

_T = TypeVar("_T")
_P = ParamSpec("_P")


class Project:
    """A project, and the environment of it in which everything is done.

    ``directory``: the one of goldenami.yaml, or one inside of it. ``environment``: a name in goldenami.yaml; by default
    ``sandbox``, or the only one. ``connection``: where the cloud's API is and whose credentials are used; by default
    what the AWS_* variables and configuration files contain. For an environment with ``sandbox: true``, and without
    AWS_ENDPOINT_URL, the default is the sandbox on this machine. It is started where it does not run.

    ``allow_project_code``: whether ``plan`` and ``check`` may execute the project's own operations, the Python files in
    ``operations/``. By default they may if the variable GOLDENAMI_ALLOW_PROJECT_CODE allows it. ``build`` and
    ``resume`` always execute them.

    Raises NotFound where there is no goldenami.yaml or no such environment, InvalidInput with every problem of
    goldenami.yaml, UsageError where an environment must be named. Files are read once: a new object sees what changed.
    """

    def __init__(
        self,
        directory: str | os.PathLike[str] = ".",
        *,
        environment: str | None = None,
        connection: Connection | None = None,
        allow_project_code: bool = False,
    ) -> None:
        from goldenami import recipe

        files = recipe.load_project(Path(directory))
        self._files = files.trusted() if allow_project_code else files
        found = recipe.environment(self._files, environment)
        self._connected = connection is not None
        self._environment = found if connection is None else replace(found, connection=connection)

    def __repr__(self) -> str:
        return f"Project({str(self.root)!r}, environment={self._environment.name!r})"

    @property
    def root(self) -> Path:
        """The directory of goldenami.yaml, absolute."""
        return self._files.root

    @property
    def environment(self) -> Environment:
        """The environment: accounts, targets, where its catalog is."""
        return self._environment

    @property
    def recipes(self) -> tuple[str, ...]:
        """The names of all recipes, sorted."""
        return tuple(self._files.recipe_names())

    def check(self, *recipes: str, variables: Mapping[str, str] | None = None) -> tuple[Problem, ...]:
        """Every problem of these recipes (names or paths), ordered by place; of the whole project without any.

        It is what `goldenami validate` does: nothing is executed, and no cloud is asked. Raises NotFound for a recipe
        that does not exist.
        """
        from goldenami import recipe

        names = recipes or self.recipes
        name = self._environment.name
        return tuple(
            recipe.check(self._files, names, all_agents=not recipes, environment=name, variables=variables or {})
        )

    def _reached(self, emit_to: Emit) -> Environment:
        """The environment with the connection to use now."""
        found = self._environment
        if self._connected or not found.sandbox or os.environ.get("AWS_ENDPOINT_URL"):
            return found
        from goldenami import plugins

        variables = plugins.sandbox_variables(found.home_region, lambda text: emit(emit_to, "note", message=text))
        return replace(found, connection=Connection.from_variables(variables))

    def _storage(self, where: str) -> Environment:
        """As ``_reached``, where a catalog or journals are kept that it takes a cloud to read."""
        return self._reached(ignore_events) if where.startswith("s3://") else self._environment


@dataclass(frozen=True, slots=True)
class Plan:
    """What a build would make; made by ``plan``. Its text is what `goldenami plan` prints."""

    project: Project
    recipe: str  # as it was asked for: a name or a path
    variables: Mapping[str, str]
    details: BuildPlan

    @property
    def digest(self) -> str:
        """The SHA-256 over everything that determines the images and where they go."""
        return self.details.digest

    @property
    def targets(self) -> tuple[Target, ...]:
        """The places that get the images."""
        return self.details.targets

    def to_json(self) -> dict[str, Any]:
        """The plan as JSON values, as `goldenami plan --json` prints them."""
        from goldenami import planning

        return planning.to_json(self.details)

    def __str__(self) -> str:
        from goldenami import planning

        return "\n".join(planning.describe(self.details))


@dataclass(frozen=True, slots=True)
class Release:
    """A release in the catalog, with what the catalog keeps about it beside its manifest."""

    manifest: ImageManifest
    channels: tuple[str, ...] = ()  # those that point to it, sorted
    pinned: str | None = None  # why it is kept, whatever the rules say
    retired: str | None = None  # "started" or "done"; None for one that is in use

    @property
    def name(self) -> str:
        """The name of the recipe."""
        return self.manifest.recipe

    @property
    def version(self) -> str:
        """MAJOR.MINOR.YYYYMMDD.N"""
        return self.manifest.version

    @property
    def images(self) -> tuple[ManifestImage, ...]:
        """One for each architecture and target."""
        return self.manifest.images


# --- what can be done -------------------------------------------------------------------------------------------------


def plan(
    project: Project,
    recipe: str,
    *,
    variables: Mapping[str, str] | None = None,
    on_event: OnEvent | None = None,
    stop: threading.Event | None = None,
) -> Plan:
    """What a build of a recipe (a name or a path) would make, from what, and where it would go. Changes nothing.

    ``variables`` override those that the recipe declares. Raises InvalidInput with every problem of the recipe,
    NotFound for a base image or key that does not exist, AccessError.
    """
    from goldenami import pipeline
    from goldenami import recipe as recipes

    given = dict(variables or {})
    recipes.load(project._files, recipe, project.environment, given)  # mistakes are reported before a cloud is asked

    def work(interrupts: Interrupts, emit_to: Emit) -> BuildPlan:
        request = pipeline.Request(project._files, project._reached(emit_to), recipe, given)
        return pipeline.make_plan(request, interrupts=interrupts)

    return Plan(project, recipe, given, _carry_out(work, on_event, stop))


@overload
def build(
    what: Plan,
    /,
    *,
    force: bool = False,
    on_failure: OnFailure = "clean",
    wait: float = 0.0,
    on_event: OnEvent | None = None,
    stop: threading.Event | None = None,
) -> Outcome: ...


@overload
def build(
    what: Project,
    recipe: str,
    /,
    *,
    variables: Mapping[str, str] | None = None,
    force: bool = False,
    on_failure: OnFailure = "clean",
    wait: float = 0.0,
    on_event: OnEvent | None = None,
    stop: threading.Event | None = None,
) -> Outcome: ...


def build(
    what: Plan | Project,
    recipe: str | None = None,
    /,
    *,
    variables: Mapping[str, str] | None = None,
    force: bool = False,
    on_failure: OnFailure = "clean",
    wait: float = 0.0,
    on_event: OnEvent | None = None,
    stop: threading.Event | None = None,
) -> Outcome:
    """Turn a recipe into tested, encrypted images in every target: ``build(plan)`` or ``build(project, recipe)``.

    With a plan, exactly what was planned is built: UsageError if the inputs have changed since. With a recipe, base
    recipes that have no release yet are built first. If a release of the same inputs exists, nothing is built unless
    ``force``: the outcome's ``status`` is "unchanged". One build of a recipe runs at a time; another one is waited for
    ``wait`` seconds, then Busy is raised.

    Raises what went wrong, after what the build made is deleted; with ``on_failure="keep"`` it stays, to be looked at
    and deleted by ``clean``. Targets that a release does not require may fail without an error: see
    ``Outcome.failures``.
    """
    from goldenami import pipeline
    from goldenami import recipe as recipes

    if isinstance(what, Plan):
        if recipe is not None or variables is not None:
            raise TypeError("build(plan) takes no recipe and no variables: the plan has them")
        project, ref, given, digest = what.project, what.recipe, dict(what.variables), what.digest
    else:
        if recipe is None:
            raise TypeError("build(project, recipe): the recipe is missing")
        project, ref, given, digest = what, recipe, dict(variables or {}), None
    files = project._files.trusted()
    recipes.load(files, ref, project.environment, given)

    def work(interrupts: Interrupts, emit_to: Emit) -> Outcome:
        request = pipeline.Request(files, project._reached(emit_to), ref, given, digest)
        return pipeline.build(
            request, force=force, on_failure=on_failure, wait=wait, emit_to=emit_to, interrupts=interrupts
        )

    return _carry_out(work, on_event, stop)


def resume(
    project: Project,
    build_id: str | None = None,
    *,
    on_failure: OnFailure = "clean",
    wait: float = 0.0,
    on_event: OnEvent | None = None,
    stop: threading.Event | None = None,
) -> Outcome:
    """Continue a build that was interrupted or failed: what it made is used again, what failed is repeated.

    Without an id, the only build that is unfinished. Raises NotFound if there is none, UsageError if there are several,
    or if the recipe, its files or the environment have changed since it began.
    """
    from goldenami import pipeline

    def work(interrupts: Interrupts, emit_to: Emit) -> Outcome:
        return pipeline.resume(
            project._files.trusted(),
            project._reached(emit_to),
            build_id,
            on_failure=on_failure,
            wait=wait,
            emit_to=emit_to,
            interrupts=interrupts,
        )

    return _carry_out(work, on_event, stop)


def clean(
    project: Project,
    build_id: str | None = None,
    *,
    dry_run: bool = False,
    wait: float = 0.0,
    on_event: OnEvent | None = None,
    stop: threading.Event | None = None,
) -> CleanUp:
    """Delete what an unfinished or failed build left, or undo a task. What a release owns is never deleted.

    Without an id, the only build that is unfinished: NotFound if there is none, UsageError if there are several.
    ``dry_run``: delete nothing; the answer says what would be deleted. ``CleanUp.left`` has what could not be deleted,
    with the reason.
    """
    from goldenami import pipeline
    from goldenami.aws import journals

    def work(interrupts: Interrupts, emit_to: Emit) -> CleanUp:
        environment = project._reached(emit_to)
        chosen = pipeline.choose_build(journals.open_journals(environment), build_id).build_id
        return pipeline.clean(environment, chosen, dry_run=dry_run, wait=wait, emit_to=emit_to, interrupts=interrupts)

    return _carry_out(work, on_event, stop)


def releases(project: Project, name: str | None = None) -> tuple[Release, ...]:
    """All releases in the catalog, or those of one name; of each name the newest first.

    No cloud is asked, unless the catalog is in a bucket. Raises NotFound for a name that was never released,
    CatalogError for a release that cannot be read.
    """
    from goldenami.release.catalog import Catalog
    from goldenami.release.versions import Reference

    catalog = Catalog.of(project._storage(project.environment.catalog))
    if name is not None and not catalog.versions(name):
        catalog.find(Reference(name))  # raises NotFound, with the nearest name
    found: list[Release] = []
    for one in (name,) if name is not None else catalog.names():
        pointers: dict[str, list[str]] = {}
        for channel in catalog.channels(one):
            pointers.setdefault(channel.current, []).append(channel.channel)
        for version in catalog.versions(one):
            pin, retirement = catalog.marks.pinned(one, version), catalog.marks.retirement(one, version)
            found.append(
                Release(
                    catalog.get(one, version),
                    tuple(sorted(pointers.get(version, ()))),
                    pin.reason if pin is not None else None,
                    retirement.status if retirement is not None else None,
                )
            )
    return tuple(found)


def resolve(
    project: Project,
    reference: str,
    *,
    region: str | None = None,
    account: str | None = None,
    architecture: Architecture | None = None,
) -> ManifestImage:
    """The image behind NAME@CHANNEL, NAME@VERSION or NAME (its newest release) for a region and an account.

    ``region`` and ``account`` (a name in goldenami.yaml, or 12 digits) are home's by default. ``architecture`` is
    needed where the release has images of several. Raises NotFound, naming what there is, and UsageError.
    """
    from goldenami import recipe
    from goldenami.model import Place
    from goldenami.release.catalog import Catalog
    from goldenami.release.versions import Reference

    environment = project._storage(project.environment.catalog)
    place = Place(recipe.account_id(environment, account), region or environment.home_region)
    return Catalog.of(environment).resolve(Reference.parse(reference), place, architecture)


# --- in the background ------------------------------------------------------------------------------------------------


class Run(Generic[_T]):
    """Work in the background; made by ``start``. Iterate over it for its events, then call ``result``.

    ::

        run = goldenami.start(goldenami.build, plan)
        for event in run:
            print(event.kind)
        outcome = run.result()
    """

    def __init__(self, function: Callable[..., _T], arguments: tuple[Any, ...], options: Mapping[str, Any]) -> None:
        self._stop = threading.Event()
        self._events: SimpleQueue[Event | None] = SimpleQueue()
        self._future: Future[_T] = Future()
        self._future.set_running_or_notify_cancel()

        def work() -> None:
            try:
                result = function(*arguments, on_event=self._events.put, stop=self._stop, **options)
            except BaseException as error:
                self._future.set_exception(error)
            else:
                self._future.set_result(result)
            finally:
                self._events.put(None)

        threading.Thread(target=work, name="goldenami run", daemon=True).start()

    def __iter__(self) -> Iterator[Event]:
        """The events from the first one that was not read yet, as they come, until the work has ended."""
        while (event := self._events.get()) is not None:
            yield event
        self._events.put(None)  # for the next loop over it, which ends at once

    @property
    def done(self) -> bool:
        """Whether the work has ended."""
        return self._future.done()

    def stop(self) -> None:
        """Ask for the end: what a build made is deleted, and ``result`` raises Interrupted. Returns at once."""
        self._stop.set()

    def result(self, timeout: float | None = None) -> _T:
        """Wait for the end. Returns what the function returns, or raises what it raises; TimeoutError after ``timeout``
        seconds, and then the work goes on."""
        return self._future.result(timeout)


def start(function: Callable[_P, _T], *args: _P.args, **kwargs: _P.kwargs) -> Run[_T]:
    """Begin ``plan``, ``build``, ``resume`` or ``clean`` in the background, with the same arguments. ``on_event`` and
    ``stop`` are the Run's: do not give them."""
    return Run(function, args, kwargs)


@dataclass(slots=True)
class _Result(Generic[_T]):
    values: list[_T] = field(default_factory=list)
    error: BaseException | None = None


def _carry_out(work: Callable[[Interrupts, Emit], _T], on_event: OnEvent | None, stop: threading.Event | None) -> _T:
    """Do the work in a thread of its own, hand its events to ``on_event`` in this one, and return its result."""
    interrupts = Interrupts(stop, signals=False)
    events: SimpleQueue[Event | None] = SimpleQueue()
    result: _Result[_T] = _Result()

    def run() -> None:
        try:
            result.values.append(work(interrupts, events.put if on_event is not None else ignore_events))
        except BaseException as error:
            result.error = error
        finally:
            events.put(None)

    thread = threading.Thread(target=run, name="goldenami", daemon=True)
    thread.start()
    ending: BaseException | None = None  # what this thread has to raise once the work has ended
    while True:
        try:
            event = events.get()
            if event is None:
                break
            if on_event is not None:
                on_event(event)
        except KeyboardInterrupt as interrupt:
            if ending is not None:
                raise
            ending = interrupt
            interrupts.stop.set()
        except BaseException as error:  # of on_event, which is not called again
            ending = ending or error
            on_event = None
            interrupts.stop.set()
    thread.join()
    if ending is not None:
        raise ending from result.error
    if result.error is not None:
        raise result.error
    return result.values[0]
