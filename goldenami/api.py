"""The public Python API of ``import goldenami``. docs/python.md explains it with examples.

    import goldenami

    project = goldenami.Project("my-images")
    plan = goldenami.plan(project, "debian-12-web")
    outcome = goldenami.build(plan)
    print([image.image_id for image in outcome.images])

Every function works in any thread. No function prints, or changes the working directory, the environment variables or
the signal handlers of the process. Errors are classes of ``goldenami.errors``. Progress is reported as events:
``on_event`` is called with each event, in the thread that called the function. ``goldenami.events`` lists their kinds.

Long work runs in a separate thread while the caller waits. Three events end it early: Ctrl-C (KeyboardInterrupt in the
waiting thread), an exception of ``on_event``, and a set ``stop``. Then the resources of the build are deleted, and the
exception is raised. A second Ctrl-C does not wait for that; `goldenami clean` deletes the rest later.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar, overload

from goldenami.background import OnEvent, run_work
from goldenami.events import Emit, emit, ignore_events
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
    from goldenami.aws.session import Cloud
    from goldenami.errors import Problem
    from goldenami.pipeline import Outcome
    from goldenami.planning import BuildPlan
    from goldenami.preflight import Finding
    from goldenami.reconcile import CleanUp
    from goldenami.release.channels import Moved, Revoked
    from goldenami.release.difference import Difference
    from goldenami.release.fleet import Fleet
    from goldenami.release.rebuild import Rebuild
    from goldenami.release.redistribute import Redistributed

OnFailure = Literal["clean", "keep"]

_T = TypeVar("_T")


class Project:
    """A project and one of its environments.

    ``directory``: the directory of goldenami.yaml, or one below it. ``environment``: a name in goldenami.yaml; by
    default that of its key ``environment``, else ``sandbox``, or the only one. ``connection``: the endpoint and the
    credentials of the cloud; by default those of the AWS_* variables and configuration files. For an environment with
    ``sandbox: true``, and without AWS_ENDPOINT_URL, the default is the sandbox on this machine. It is started if it
    does not run.

    ``allow_project_code``: whether ``plan`` and ``check`` may execute the project's own operations, the Python files in
    ``operations/``. By default they may if the variable GOLDENAMI_ALLOW_PROJECT_CODE allows it. ``build`` and
    ``resume`` always execute them.

    Raises NotFound if there is no goldenami.yaml or no such environment, InvalidInput with every problem of
    goldenami.yaml, UsageError if an environment must be named. Files are read once. To read changed files, create a new
    object.
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
        endpoint = connection.endpoint_url if connection is not None else None
        found = recipe.environment(self._files, environment, endpoint=endpoint)
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
        """The environment: its accounts, targets and catalog."""
        return self._environment

    @property
    def recipes(self) -> tuple[str, ...]:
        """The names of all recipes, sorted."""
        return tuple(self._files.recipe_names())

    def check(self, *recipes: str, variables: Mapping[str, str] | None = None) -> tuple[Problem, ...]:
        """Return every problem of these recipes (names or paths), or of the whole project, ordered by place.

        This is `goldenami validate`. It makes no API call, and executes no code of the project without consent. Raises
        NotFound for a recipe that does not exist.
        """
        from goldenami import recipe

        names = recipes or self.recipes
        name = self._environment.name
        return tuple(
            recipe.check(self._files, names, all_agents=not recipes, environment=name, variables=variables or {})
        )

    def _connect(self, emit_to: Emit) -> Environment:
        """Return the environment with its connection. Starts the sandbox if needed."""
        found = self._environment
        if self._connected or not found.sandbox or os.environ.get("AWS_ENDPOINT_URL"):
            return found
        from goldenami import plugins

        variables = plugins.sandbox_variables(found.home_region, lambda text: emit(emit_to, "note", message=text))
        return replace(found, connection=Connection.from_variables(variables))

    def _connect_for(self, where: str) -> Environment:
        """Return the environment, with its connection if ``where`` is a bucket."""
        return self._connect(ignore_events) if where.startswith("s3://") else self._environment


@dataclass(frozen=True, slots=True)
class Plan:
    """A plan, returned by ``plan``. ``str(plan)`` has the inputs, images and targets, as `goldenami plan` prints them
    for one recipe."""

    project: Project
    recipe: str  # as given: a name or a path
    variables: Mapping[str, str]
    details: BuildPlan

    @property
    def digest(self) -> str:
        """The SHA-256 over everything that determines the images and their targets."""
        return self.details.digest

    @property
    def targets(self) -> tuple[Target, ...]:
        """The places that get the images."""
        return self.details.targets

    def to_json(self) -> dict[str, Any]:
        """Return the plan as JSON values of the schema "goldenami.plan/1". `goldenami plan --json` prints the same keys
        for each recipe."""
        from goldenami import planning

        return planning.to_json(self.details)

    def __str__(self) -> str:
        from goldenami import planning

        return "\n".join(planning.describe(self.details))


@dataclass(frozen=True, slots=True)
class Release:
    """A release in the catalog: its manifest, channels, pin, retirement and revocation."""

    manifest: ImageManifest
    channels: tuple[str, ...] = ()  # the channels that point to it, sorted
    pinned: str | None = None  # the reason of its pin; None if it is not pinned
    retired: str | None = None  # "retiring" or "retired"; None if it is not retired
    revoked: str | None = None  # the reason of its revocation; None if it is not revoked

    @property
    def name(self) -> str:
        """The name of the recipe."""
        return self.manifest.recipe

    @property
    def version(self) -> str:
        """The version: MAJOR.MINOR.YYYYMMDD.N."""
        return self.manifest.version

    @property
    def images(self) -> tuple[ManifestImage, ...]:
        """The images, one for each architecture and target."""
        return self.manifest.images


# --- functions --------------------------------------------------------------------------------------------------------


def plan(
    project: Project,
    recipe: str,
    *,
    variables: Mapping[str, str] | None = None,
    on_event: OnEvent | None = None,
    stop: threading.Event | None = None,
) -> Plan:
    """Plan a build of a recipe (a name or a path): its inputs, images and targets. Changes nothing.

    ``variables`` override those that the recipe declares. Raises InvalidInput with every problem of the recipe,
    NotFound for a base image or key that does not exist, AccessError.
    """
    from goldenami import pipeline
    from goldenami import recipe as recipes

    given = dict(variables or {})
    recipes.load(project._files, recipe, project.environment, given)  # problems are reported before the first API call

    def work(interrupts: Interrupts, emit_to: Emit) -> BuildPlan:
        request = pipeline.Request(project._files, project._connect(emit_to), recipe, given)
        return pipeline.make_plan(request, interrupts=interrupts)

    return Plan(project, recipe, given, run_work(work, on_event, stop))


@overload
def build(
    what: Plan,
    /,
    *,
    force: bool = False,
    move: bool = True,
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
    move: bool = True,
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
    move: bool = True,
    on_failure: OnFailure = "clean",
    wait: float = 0.0,
    on_event: OnEvent | None = None,
    stop: threading.Event | None = None,
) -> Outcome:
    """Build tested, encrypted images in every target: ``build(plan)`` or ``build(project, recipe)``.

    With a plan, the build has the digest of the plan. UsageError is raised if the inputs have changed since. With a
    recipe, base recipes without a release are built first. If a release of the same inputs exists, nothing is built
    unless ``force``: the recipe's channel is pointed to that release, and ``Outcome.status`` is "moved"; or "unchanged"
    if it points to it already, was rolled back from it, or ``move`` is False. Only one build of a recipe runs at a
    time. This function waits ``wait`` seconds for another build to end, then raises Busy.

    After a failure, the resources of the build are deleted, and the error is raised. With ``on_failure="keep"`` they
    are kept for inspection, until ``clean`` deletes them. A release is no error if targets that it does not require
    fail (``Outcome.failures``), or if temporary resources of its build remain (``Outcome.left``).
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
        request = pipeline.Request(files, project._connect(emit_to), ref, given, digest)
        return pipeline.build(
            request,
            force=force,
            move=move,
            on_failure=on_failure,
            wait=wait,
            emit_to=emit_to,
            interrupts=interrupts,
        )

    return run_work(work, on_event, stop)


def resume(
    project: Project,
    build_id: str | None = None,
    *,
    on_failure: OnFailure = "clean",
    wait: float = 0.0,
    on_event: OnEvent | None = None,
    stop: threading.Event | None = None,
) -> Outcome:
    """Continue a build that was interrupted or failed. Its resources are used, and failed steps are repeated.

    Without an id, the only unfinished build. Raises NotFound if there is none, UsageError if there are several, or
    if the recipe, its files or the environment have changed since it began.
    """
    from goldenami import pipeline

    def work(interrupts: Interrupts, emit_to: Emit) -> Outcome:
        return pipeline.resume(
            project._files.trusted(),
            project._connect(emit_to),
            build_id,
            on_failure=on_failure,
            wait=wait,
            emit_to=emit_to,
            interrupts=interrupts,
        )

    return run_work(work, on_event, stop)


def clean(
    project: Project,
    build_id: str | None = None,
    *,
    dry_run: bool = False,
    wait: float = 0.0,
    on_event: OnEvent | None = None,
    stop: threading.Event | None = None,
) -> CleanUp:
    """Delete the resources of an unfinished or failed build, or undo a task. Resources of a release are never deleted.

    Without an id, the only unfinished build is cleaned: NotFound if there is none, UsageError if there are several.
    ``dry_run``: delete nothing, and return what would be deleted. ``CleanUp.left`` has the resources that could not be
    deleted, with the reasons.
    """
    from goldenami import pipeline
    from goldenami.aws import journals

    def work(interrupts: Interrupts, emit_to: Emit) -> CleanUp:
        environment = project._connect(emit_to)
        chosen = pipeline.choose_build(journals.open_journals(environment), build_id, environment).build_id
        return pipeline.clean(environment, chosen, dry_run=dry_run, wait=wait, emit_to=emit_to, interrupts=interrupts)

    return run_work(work, on_event, stop)


def doctor(project: Project, *recipes: str) -> tuple[Finding, ...]:
    """Return what would make a build of these recipes (names or paths) fail; of all recipes, if none is named.

    Errors come first. Only reads are made. Raises InvalidInput with every problem of a recipe, NotFound for a recipe
    that does not exist, AccessError if AWS refuses the caller's credentials.
    """
    from goldenami import preflight
    from goldenami import recipe as loader
    from goldenami.aws.session import Cloud
    from goldenami.release.catalog import Catalog

    environment = project._connect(ignore_events)
    loaded = [loader.load(project._files, name, environment, {}) for name in recipes or project.recipes]
    cloud = Cloud.of(environment)
    return preflight.find(cloud, environment, Catalog.of(environment, cloud), loaded)


def releases(project: Project, name: str | None = None) -> tuple[Release, ...]:
    """Return all releases in the catalog, or those of one name. The newest release of each name is first.

    There is no API call, unless the catalog is in a bucket. Raises NotFound for a name that was never released,
    CatalogError for a release that cannot be read.
    """
    from goldenami.release.catalog import Catalog
    from goldenami.release.versions import Reference

    catalog = Catalog.of(project._connect_for(project.environment.catalog))
    if name is not None and not catalog.versions(name):
        catalog.find(Reference(name))  # raises NotFound, with the nearest name
    found: list[Release] = []
    for one in (name,) if name is not None else catalog.names():
        pointers: dict[str, list[str]] = {}
        for channel in catalog.channels(one):
            pointers.setdefault(channel.current, []).append(channel.channel)
        for version in catalog.versions(one):
            pin, retirement = catalog.marks.pinned(one, version), catalog.marks.retirement(one, version)
            revocation = catalog.marks.revocation(one, version)
            found.append(
                Release(
                    catalog.get(one, version),
                    tuple(sorted(pointers.get(version, ()))),
                    pin.reason if pin is not None else None,
                    retirement.status if retirement is not None else None,
                    revocation.reason if revocation is not None else None,
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
    """Return the image of NAME@CHANNEL, NAME@VERSION or NAME (its newest release) for a region and an account.

    ``region`` and ``account`` (a name in goldenami.yaml, or 12 digits) are home by default. ``architecture`` is
    required if the release has images of several. Raises NotFound with the available images, and UsageError.
    """
    from goldenami import recipe
    from goldenami.model import Place
    from goldenami.release.catalog import Catalog
    from goldenami.release.versions import Reference

    environment = project._connect_for(project.environment.catalog)
    place = Place(recipe.account_id(environment, account), region or environment.home_region)
    return Catalog.of(environment).resolve(Reference.parse(reference), place, architecture)


def fleet(project: Project, name: str | None = None) -> Fleet:
    """Return the instances of all accounts and regions by the release that they run; of one recipe, if it is named.

    Only reads are made. Raises no error for a place that does not answer: ``Fleet.unreachable`` has the reason.
    """
    from goldenami.aws.session import Cloud
    from goldenami.release.catalog import Catalog
    from goldenami.release.fleet import read_fleet

    environment = project._connect(ignore_events)
    cloud = Cloud.of(environment)
    cloud.check_caller()
    return read_fleet(cloud, environment, Catalog.of(environment, cloud).indexed(), cloud.now(), name)


def promote(
    project: Project,
    reference: str,
    channel: str,
    *,
    reason: str | None = None,
    partial: bool = False,
    on_event: OnEvent | None = None,
    stop: threading.Event | None = None,
) -> Moved:
    """Point a channel to the release of NAME@VERSION or NAME@CHANNEL, in all targets or in none. Builds nothing.

    ``partial``: also if the release has no image in some places of the channel. A second call changes nothing. Raises
    ConditionsUnmet if conditions of goldenami.yaml are unmet, NotFound if the release does not exist or cannot be used,
    and TargetsFailed if a parameter cannot be moved; all have their earlier values then.
    """
    from goldenami.release import channels
    from goldenami.release.versions import Reference

    parsed = Reference.parse(reference)

    def work(environment: Environment, cloud: Cloud, emit_to: Emit) -> Moved:
        return channels.promote(
            environment, parsed, channel, reason=reason, partial=partial, cloud=cloud, emit_to=emit_to
        )

    return _with_cloud(project, work, on_event, stop)


def rollback(
    project: Project,
    name: str,
    channel: str,
    *,
    to: str | None = None,
    reason: str | None = None,
    partial: bool = False,
    on_event: OnEvent | None = None,
    stop: threading.Event | None = None,
) -> Moved:
    """Point a channel to the release before the current one, or to the version ``to``. Raises as ``promote`` does."""
    from goldenami.release import channels

    def work(environment: Environment, cloud: Cloud, emit_to: Emit) -> Moved:
        return channels.rollback(
            environment, name, channel, to=to, reason=reason, partial=partial, cloud=cloud, emit_to=emit_to
        )

    return _with_cloud(project, work, on_event, stop)


def revoke(
    project: Project,
    name: str,
    version: str,
    *,
    reason: str,
    cascade: bool = False,
    on_event: OnEvent | None = None,
    stop: threading.Event | None = None,
) -> Revoked:
    """Take a release out of use: its channels go back, its images are disabled, and no reference resolves to it.

    ``cascade``: also the releases that were built on it. ``Revoked.left`` and ``unreachable`` have what failed; a
    second call does the rest. ``Revoked.uses`` has the instances and other users of the images.
    """
    from goldenami.release import channels

    def work(environment: Environment, cloud: Cloud, emit_to: Emit) -> Revoked:
        return channels.revoke(environment, name, version, reason=reason, cascade=cascade, cloud=cloud, emit_to=emit_to)

    return _with_cloud(project, work, on_event, stop)


def restore(
    project: Project,
    name: str,
    version: str,
    *,
    reason: str | None = None,
    on_event: OnEvent | None = None,
    stop: threading.Event | None = None,
) -> Revoked:
    """End the revocation of a release: its images are enabled and shared again. No channel moves."""
    from goldenami.release import channels

    def work(environment: Environment, cloud: Cloud, emit_to: Emit) -> Revoked:
        return channels.restore(environment, name, version, reason=reason, cloud=cloud, emit_to=emit_to)

    return _with_cloud(project, work, on_event, stop)


def distribute(
    project: Project,
    reference: str,
    *,
    dry_run: bool = False,
    on_event: OnEvent | None = None,
    stop: threading.Event | None = None,
) -> Redistributed:
    """Bring the release of NAME@VERSION or NAME@CHANNEL to the state that its recipe declares now, without a build.

    New targets get a copy, and access, tags, deprecation, grants and parameters are set where they differ. A second
    call changes nothing. ``dry_run``: only return the difference. Raises InvalidInput, NotFound if the release does not
    exist or cannot be used, and TargetsFailed with the changes that were not made; the others are made.
    """
    from goldenami import recipe
    from goldenami.release import redistribute
    from goldenami.release.versions import Reference

    parsed = Reference.parse(reference)
    declared = recipe.declaration(project._files, project.environment, parsed.name)

    def work(environment: Environment, cloud: Cloud, emit_to: Emit) -> Redistributed:
        return redistribute.distribute(environment, parsed, declared, dry_run=dry_run, cloud=cloud, emit_to=emit_to)

    return _with_cloud(project, work, on_event, stop)


def drift(project: Project, *names: str) -> tuple[Difference, ...]:
    """Return how each release that a channel points to differs from what its recipe declares now. Changes nothing.

    ``names``: only the releases of these recipes. ``Difference.unreachable`` has the places that did not answer. Raises
    InvalidInput with every problem of a recipe, NotFound for a recipe that does not exist, AccessError if AWS refuses
    the caller's credentials.
    """
    from goldenami import recipe
    from goldenami.aws.session import Cloud
    from goldenami.release import redistribute
    from goldenami.release.catalog import Catalog

    declared = recipe.declarations(project._files, project.environment, names)
    environment = project._connect(ignore_events)
    cloud = Cloud.of(environment)
    cloud.check_caller()
    return redistribute.find_drift(cloud, environment, Catalog.of(environment, cloud), declared)


def rebuild_catalog(
    project: Project,
    *,
    identity: str | None = None,
    dry_run: bool = True,
    on_event: OnEvent | None = None,
    stop: threading.Event | None = None,
) -> Rebuild:
    """Restore the releases, channels and the id of a lost catalog from images and parameters in the cloud.

    Changes nothing in the cloud, and overwrites no record of the catalog. ``dry_run``: write nothing, and return what
    would be restored. ``identity``: the id of the catalog, needed if resources of several catalogs are in the accounts.

    Raises TargetsFailed, and writes nothing, if an account or region did not answer. Raises NotFound if there is
    nothing to restore, and UsageError if ``identity`` is needed or wrong.
    """
    from datetime import UTC, datetime

    from goldenami.release import rebuild
    from goldenami.release.catalog import Catalog

    def work(interrupts: Interrupts, emit_to: Emit) -> Rebuild:
        from goldenami.aws.session import Cloud

        environment = project._connect(emit_to)
        cloud = Cloud.of(environment, sleep=interrupts.sleep)
        cloud.check_caller()
        catalog = Catalog.of(environment, cloud)
        found = rebuild.find(cloud, environment, catalog, datetime.now(UTC), identity=identity)
        if not dry_run:
            rebuild.restore(catalog, found)
        return found

    return run_work(work, on_event, stop)


def _with_cloud(
    project: Project,
    work: Callable[[Environment, Cloud, Emit], _T],
    on_event: OnEvent | None,
    stop: threading.Event | None,
) -> _T:
    """Run work that needs the environment and a cloud whose waits end when the caller stops it."""

    def run(interrupts: Interrupts, emit_to: Emit) -> _T:
        from goldenami.aws.session import Cloud

        environment = project._connect(emit_to)
        return work(environment, Cloud.of(environment, sleep=interrupts.sleep), emit_to)

    return run_work(run, on_event, stop)
