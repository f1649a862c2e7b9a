"""Opens builds: creates the journal, version, tags and secrets of a new build; reopens a build for a resume."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from goldenami import planning, provision, reconcile, validate
from goldenami import recipe as recipes
from goldenami.aws import parameters, tags
from goldenami.aws.ledger import Ledger
from goldenami.aws.ownership import Owner
from goldenami.aws.session import Cloud
from goldenami.errors import CatalogError, JournalError, NameTaken, NotFound, UsageError
from goldenami.events import emit, masked
from goldenami.journal import Header, Journal, Summary, new_build_id
from goldenami.model import Environment, ImageManifest, Place, Target
from goldenami.nextstep import step
from goldenami.planning import BuildPlan, Facts
from goldenami.recipe import Project, Recipe
from goldenami.recipe.secrets import read as read_secrets
from goldenami.recipe.words import seconds
from goldenami.release import availability
from goldenami.release.catalog import Catalog
from goldenami.stages import attesting, expected, transports
from goldenami.stages.build import BuildContext
from goldenami.stages.tools import Tools
from goldenami.stages.transports import HostTransport

_FACTS: TypeAdapter[Facts] = TypeAdapter(Facts)
_VARIABLES = "variables"


@dataclass(frozen=True, slots=True)
class Names:
    """What the targets have of the names of a new release, on the day of its version."""

    day: date
    taken: availability.Taken


def read_names(recipe: Recipe, environment: Environment, targets: Sequence[Target], tools: Tools) -> Names:
    """Search targets for the names of a recipe's next release. Raises NameTaken or CloudError if they are not free in
    all of them."""
    return _read_names(recipe, environment, targets, tools, tools.cloud.now().date())


def _read_names(
    recipe: Recipe,
    environment: Environment,
    targets: Sequence[Target],
    tools: Tools,
    day: date,
    version: str | None = None,
) -> Names:
    """Search for the names of the versions of a day, from ``version``, by default the next one of the catalog."""
    wanted, channel = release_names(recipe, environment, targets), recipe.distribution.channel
    taken = availability.find_taken(tools.cloud, tools.catalog, wanted, day, channel, version)
    check_channel(recipe, environment, wanted, tools, taken.channel)
    return Names(day, taken)


@contextmanager
def create(
    project: Project, plan: BuildPlan, variables: Mapping[str, str], names: Names, tools: Tools
) -> Iterator[BuildContext]:
    """Create a new build. Its journal holds what a resume needs: the recipe's path, the variables, facts and version.

    The time of the build is the cloud's time, because the clock of this machine may be wrong or may jump. The expiry
    and the deprecation are computed from it. ``names``: what :func:`read_names` returned.
    """
    secrets = secrets_of(plan.recipe, tools.cloud)
    with transports.opened(plan.environment, tools.cloud) as transport:
        transport.start()
        with _create(project, plan, variables, names, secrets, transport, tools) as build:
            yield build


@contextmanager
def _create(
    project: Project,
    plan: BuildPlan,
    variables: Mapping[str, str],
    names: Names,
    secrets: Mapping[str, str],
    transport: HostTransport,
    tools: Tools,
) -> Iterator[BuildContext]:
    now = tools.cloud.now()
    name = plan.recipe.name
    build_id, version = _reserve(plan, names, now, tools)
    data = {
        "catalog": tools.catalog.ensure_identity(),
        "version": version,
        "channel": plan.recipe.distribution.channel,
        "source": _within(project, plan.recipe.source),
        "users": {a: builder.ssh_user for a, builder in plan.recipe.builder.items()},  # for ``logins``
        "ports": {a: [b.ssh_port, b.image_ssh_port] for a, b in plan.recipe.builder.items()},  # for ``logins``, too
        "variables": sorted(variables),  # their values are in a secret of the journal
        "facts": _FACTS.dump_python(plan.facts, mode="json"),
    }
    if attesting.signs(plan.environment):  # now, when they were just loaded
        data[attesting.FILES] = attesting.read_files(project, plan.recipe)
    header = Header(build_id, name, plan.digest, plan.environment.name, now, data)
    values = {_VARIABLES: json.dumps(dict(variables)).encode()} if variables else {}
    with (
        tools.journals.create(header, secrets=values) as journal,
        tools.journals.storage.events(build_id).recording(tools.emit) as to,
        validate.ending_prepared(reports_of(journal)),
    ):
        build = _begin(plan, version, journal, secrets, transport, replace(tools, emit=to))
        _tell_unsearched(build)
        yield build


def _reserve(plan: BuildPlan, names: Names, now: datetime, tools: Tools) -> tuple[str, str]:
    """Reserve a version whose names are free for a new build; return the id of the build, and the version.

    If another process has reserved the version of ``names`` since, the names of the one that is left are searched.
    """
    while True:
        build_id = new_build_id(now)
        for warning in names.taken.warnings:
            emit(tools.emit, "note", message=warning, level="warning")
        version = tools.catalog.reserve(
            plan.recipe.name,
            plan.recipe.version,
            names.day,
            build_id=build_id,
            now=now,
            taken=names.taken.numbers,
            environment=plan.environment.name,
        )
        if version == names.taken.version:
            return build_id, version
        # If its names are taken, too, this number stays unused: another build id gets a higher one.
        names = _read_names(plan.recipe, plan.environment, usable(plan), tools, names.day, version)
        if version == names.taken.version:
            return build_id, version


def _tell_unsearched(build: BuildContext) -> None:
    names = provision.unsearched(build.secrets_not_in_image)
    if names:
        build.note(
            f"the disk of the image cannot be searched for the secret{'s' if len(names) > 1 else ''} "
            f"{', '.join(names)}: a value of fewer than {provision.SHORTEST} characters is part of many files",
            "warning",
        )


@contextmanager
def reopen(project: Project, environment: Environment, summary: Summary, tools: Tools) -> Iterator[BuildContext]:
    """Reopen a build for a resume.

    Raises UsageError if the build has ended, is of another environment, or if one of its inputs has changed. Raises
    CatalogError if it is of another catalog.
    """
    with tools.journals.open(summary.build_id, tools.patience) as journal:
        header = journal.header
        if journal.ending not in (None, "failed"):
            raise UsageError(
                f"build {header.build_id} is {journal.ending}, expected an unfinished or failed build",
                hint=f"{step('builds list')} shows the unfinished builds.",
            )
        check_owner(header, environment, tools.catalog)
        data = header.data
        recipe = recipes.load(project, str(project.root / data["source"]), environment, _variables(journal))
        plan = planning.make(recipe, environment, _FACTS.validate_python(data["facts"]))
        if plan.digest != header.plan_digest:
            raise UsageError(
                f"{recipe.name} or its environment has changed since build {header.build_id} began",
                hint=_changed_hint(journal),
            )
        tools.cloud.check_caller()
        if release_of(tools.catalog, journal) is None:
            wanted = release_names(recipe, environment, usable(plan))
            check_channel(recipe, environment, wanted, tools)
            try:
                availability.check_version(tools.cloud, wanted, data["version"], header.build_id)
            except NameTaken as error:
                again = f"Or give this build up: {step('clean', header.build_id)}. A new build gets a free number."
                error.hint = f"{error.hint} {again}"
                raise
        with (
            transports.opened(environment, tools.cloud) as transport,
            tools.journals.storage.events(header.build_id).recording(tools.emit) as to,
            validate.ending_prepared(reports_of(journal)),
        ):
            secrets = secrets_of(recipe, tools.cloud)
            build = _begin(plan, data["version"], journal, secrets, transport, replace(tools, emit=to))
            reconcile.finish_deletions(build.ledger)
            yield build


def _changed_hint(journal: Journal) -> str:
    """Return what to do with a build whose inputs have changed.

    Its builder never becomes an image of the changed recipe. A person may have changed it, and what an operation did
    that is not in the recipe any more is still there: the image would not be what the recipe says.
    """
    id = journal.build_id
    hint = f"Delete the resources of this build with {step('clean', id)}, and build again."
    if any(resource.key.startswith("builder/") for resource in journal.resources("instance")):
        hint += (
            f" To try the change on its builder before that, if it was kept: {step('apply', 'RECIPE', '--on', id)} and "
            f"{step('test', 'RECIPE', '--on', id)}."
        )
    return hint


def _variables(journal: Journal) -> dict[str, str]:
    """Return the variables that a build was started with. Raises JournalError if their values are missing."""

    def missing() -> bytes:
        raise JournalError(
            f"the values of --var of build {journal.build_id} are missing, so it cannot be resumed",
            hint=f"Run {step('clean', journal.build_id)}, and build again.",
        )

    given = journal.header.data["variables"]
    if isinstance(given, Mapping):  # a journal of version 0.2.0
        return dict(given)
    return dict(json.loads(journal.secret(_VARIABLES, missing))) if given else {}


def usable(plan: BuildPlan) -> tuple[Target, ...]:
    """Return the targets of a plan that can be used now."""
    return tuple(target for target in plan.targets if target.label not in plan.facts.unavailable)


def release_names(recipe: Recipe, environment: Environment, targets: Sequence[Target]) -> availability.ReleaseNames:
    """Return what determines the names of a recipe's releases in these targets."""
    own = {target.place for target in targets}
    shared = {target.region for target in targets if target.account.id == environment.home.id}
    accounts = [a.id for a in environment.informed if a.id in recipe.distribution.share_accounts]
    return availability.ReleaseNames(
        recipe.name,
        recipe.version,
        recipe.architectures,
        tuple(targets),
        environment.image_name,
        environment.parameter_prefix,
        tuple(place for place in (Place(a, region) for a in accounts for region in sorted(shared)) if place not in own),
    )


def check_channel(
    recipe: Recipe,
    environment: Environment,
    wanted: availability.ReleaseNames,
    tools: Tools,
    values: availability.ChannelValues | None = None,
) -> None:
    """Raise CloudError if the parameters that the build will move belong to another catalog or environment.
    ``values``: of these parameters, if they were read."""
    owner, channel = Owner(tools.catalog.identity(), environment.name), recipe.distribution.channel
    availability.check_channel(tools.cloud, tools.catalog, owner, wanted, channel, values)


def is_of(header: Header | None, environment: Environment) -> bool:
    """Return whether a build or task is of an environment. Several environments may share the place of the journals."""
    return header is not None and header.environment == environment.name


def check_owner(header: Header, environment: Environment, catalog: Catalog) -> None:
    """Check that a build or task is of this environment and catalog, before it is resumed or cleaned.

    Raises UsageError for another environment, and CatalogError for another catalog: its releases are unknown here.
    """
    if not is_of(header, environment):
        raise UsageError(
            f"build {header.build_id} is of the environment {header.environment!r}, not {environment.name!r}",
            hint=f"Use --environment {header.environment}.",
        )
    identity = catalog.identity()
    if header.catalog not in (None, identity):
        found = f"{environment.catalog} is the catalog {identity}" if identity else f"{environment.catalog} is empty"
        raise CatalogError(
            f"build {header.build_id} is of the catalog {header.catalog}, and {found}: nothing is changed",
            hint="Set `catalog` in goldenami.yaml to the catalog of this build. If it is lost, "
            f"{step('catalog rebuild')} restores it from what is in the cloud.",
        )


def _within(project: Project, source: Path) -> str:
    """Return the path of a recipe relative to the project, or its own path if it is outside the project.

    Another checkout of the project finds the recipe by the relative path.
    """
    return source.relative_to(project.root).as_posix() if source.is_relative_to(project.root) else str(source)


def _begin(
    plan: BuildPlan,
    version: str,
    journal: Journal,
    secrets: Mapping[str, str],
    transport: HostTransport,
    tools: Tools,
) -> BuildContext:
    to = masked(tools.emit, tuple(secrets.values()))
    every = tags.build_tags(
        recipe=plan.recipe.name,
        version=version,
        build_id=journal.build_id,
        own=plan.environment.tags,
        git_commit=plan.facts.git_commit,
        base_ami=next(iter(plan.facts.base.values())).image_id if len(plan.facts.base) == 1 else None,
    )
    emit(
        to,
        "build.started",
        recipe=plan.recipe.name,
        version=version,
        environment=plan.environment.name,
        digest=plan.digest,
        build_id=journal.build_id,
        caller=plan.facts.caller_arn,
        targets=[t.label for t in plan.targets],
        expected=expected.expected(plan, tools.catalog, tools.journals.storage),
    )
    return BuildContext(
        plan=plan,
        environment=plan.environment,
        # After a resume, new resources have the whole lifetime again. Otherwise another machine could delete them while
        # they are in use.
        ledger=Ledger(
            tools.cloud,
            journal,
            every,
            proofs=tools.proofs,
            emit=to,
            lifetime=plan.environment.lifetime,
            began=tools.cloud.now(),
        ),
        version=version,
        reports=reports_of(journal),
        emit=to,
        stop=tools.interrupts.stop,
        host_work=tools.host_work,
        transport=transport,
        secrets=secrets,
    )


def reports_of(journal: Journal) -> Path:
    """Return the directory of a build or task for JUnit files and logs."""
    return journal.directory / "reports"


def secrets_of(recipe: Recipe, cloud: Cloud) -> dict[str, str]:
    """Read the values of a recipe's secrets. Raises InvalidInput or NotFound if a secret is missing."""
    names = [secret.key for secret in recipe.secrets if secret.source == "ssm"]
    values = parameters.find_many(cloud, cloud.home, names, decrypt=True)

    def value_of(name: str) -> str:
        if name not in values:
            raise NotFound(f"parameter {name} does not exist in {cloud.home}")
        return values[name]

    return read_secrets(recipe.secrets, value_of)


def deprecation(recipe: Recipe, created: datetime) -> datetime | None:
    """Return the time at which EC2 deprecates the recipe's images, or None if the recipe sets none."""
    after = recipe.retention.deprecate_after
    return created + timedelta(seconds=seconds(after)) if after is not None else None


def release_of(catalog: Catalog, journal: Journal) -> ImageManifest | None:
    """Return the release that a build made, or None if it made none.

    Raises CatalogError if the catalog cannot be read, and JournalError if the journal has no version.
    """
    version: Any = journal.header.data.get("version")
    if not isinstance(version, str):
        raise JournalError(f"the journal of build {journal.build_id} has no version")
    try:
        manifest = catalog.get(journal.header.recipe, version)
    except NotFound:
        return None
    return manifest if manifest.build_id == journal.build_id else None


def owned_by_release(catalog: Catalog, journal: Journal) -> frozenset[str]:
    """Return the ids of the resources that the release of a build owns; empty if the build made no release.

    Raises CatalogError if the catalog cannot be read.
    """
    manifest = release_of(catalog, journal)
    return reconcile.released(journal, manifest) if manifest is not None else frozenset()
