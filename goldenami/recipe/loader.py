"""Loads recipes: reads, renders and validates the files, and reports all problems at once.

The order is: the form of the YAML; variables; then for each architecture the expressions of all sections, the schema,
the agents, the operations and their files; then the checks across sections and files (bases, targets, tests). If one
step fails, the other steps are still done, to find their problems.
"""

from __future__ import annotations

import datetime
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from goldenami.errors import InvalidInput
from goldenami.hardening import Hardening
from goldenami.hardening import stages as hardening_stages
from goldenami.model import Architecture, Environment, Mark, Place, Target
from goldenami.nextstep import step
from goldenami.os import SYSTEMS, of_reference
from goldenami.provision import SETUP, BuildNetwork, PatchSpec, Stage, outputs
from goldenami.recipe import agents, hardening, limits, operations
from goldenami.recipe.allowed import check_environments, environments_of
from goldenami.recipe.conflicts import Forced, check_base, check_conflicts, check_ssh_port, forced_by
from goldenami.recipe.context import base_names, environment_names, fact_names, recipe_names
from goldenami.recipe.document import Document, NodePath
from goldenami.recipe.expectspec import Expected
from goldenami.recipe.extensions import check_compiles
from goldenami.recipe.problems import Problems
from goldenami.recipe.project import Project, cycle, graph
from goldenami.recipe.recipe import BaseRef, Builder, Distribution, Recipe, TestRef
from goldenami.recipe.rendering import Namespace, Renderer
from goldenami.recipe.schedulesection import read_schedules
from goldenami.recipe.schema import LITERAL, BaseSpec, BuilderSpec, RecipeSpec, ShareSpec
from goldenami.recipe.scope import Scope, render_tree
from goldenami.recipe.secrets import SecretRef
from goldenami.recipe.similar import suggestion
from goldenami.recipe.testfiles import read_test
from goldenami.recipe.userdata import read_user_data
from goldenami.recipe.variables import read_variables
from goldenami.recipe.words import BASE_KINDS, DEFAULT_CHANNEL, NAME, BaseKind, OsId, seconds
from goldenami.release import names
from goldenami.release import targets as modes

DEFAULT_SSH_PORT = 22
DEFAULT_INSTANCE_TYPES: Mapping[Architecture, tuple[str, ...]] = {
    "x86_64": ("t3.small", "t3a.small"),
    "arm64": ("t4g.small",),
}

_PER_ARCHITECTURE = ("base", "builder", "setup", "patches", "agents", "software", "handlers", "hardening")
_OPERATIONS = ("setup", "agents", "software", "handlers")  # rendered one by one, because `when` decides which


@dataclass
class _Loading:
    """The state of loading one recipe."""

    project: Project
    document: Document
    environment: Environment
    problems: Problems
    today: datetime.date
    context: dict[str, Any] = field(default_factory=dict)
    secrets: tuple[SecretRef, ...] = ()


def load(
    project: Project,
    ref: str,
    environment: Environment,
    variables: Mapping[str, str] | None = None,
    *,
    today: datetime.date | None = None,
) -> Recipe:
    """Load the recipe at a path or of a name, rendered for an environment.

    ``variables`` override declared ones (``--var``, ``--var-file``), also those that the environment gives; they are
    converted to the type of the default. ``today`` (UTC; by
    default the current day) decides which waivers have expired. Raises InvalidInput with all problems,
    NotFound for an unknown recipe.
    """
    path = project.recipe_path(ref)
    problems = Problems()
    document = project.document(path, problems)
    date = today or datetime.datetime.now(datetime.UTC).date()
    loading = _Loading(project, document, environment, problems, date) if document else None
    recipe = _load(loading, variables or {}) if loading else None
    if problems.found or recipe is None:
        raise InvalidInput(problems.found)
    return recipe


def _load(loading: _Loading, overrides: Mapping[str, str]) -> Recipe | None:
    document, problems = loading.document, loading.problems
    value = document.value
    stem = document.path.stem
    if isinstance(value.get("name"), str) and value["name"] != stem and re.match(NAME, value["name"]):
        problems.add(
            document.mark(("name",)),
            f"name is {value['name']}, expected {stem}, the name of the file",
            f"Write {stem}, or rename the file.",
        )
    check_environments(loading.project, document, loading.environment.name, problems)
    loading.context = {
        "environment": environment_names(loading.environment),
        "recipe": recipe_names(value),
    }
    variables, loading.secrets = read_variables(
        loading.project, document, loading.context, loading.environment.name, overrides, problems
    )
    declared = f"Declare it under vars:. Declared there: {', '.join(variables) or 'nothing'}."
    loading.context["vars"] = Namespace("vars", variables, declared)
    outer = Scope(loading.project, document, Renderer(loading.context), problems)
    common = _render(outer, [k for k in value if k not in (*LITERAL, *_PER_ARCHITECTURE, "vars")])
    limits.check_recipe({**value, **common}, loading.environment.tags, document, problems)
    os = _os(loading)
    specs: dict[Architecture, RecipeSpec] = {}
    stages: dict[Architecture, tuple[Stage, ...]] = {}
    hardened: dict[Architecture, Hardening] = {}
    user_data: dict[Architecture, str] = {}
    tests: list[TestRef] = []
    used: dict[str, dict[str, Any]] = {}
    expected: dict[Architecture, Expected] = {}
    for architecture in _architectures(value):
        context = {**loading.context, "architecture": architecture}
        scope = outer.within(document, Renderer(context))
        sections = _render(scope, [k for k in ("base", "builder", "patches", "hardening") if k in value])
        candidate = {**value, **common, **sections}
        try:
            spec = RecipeSpec.model_validate(candidate)
            specs[architecture] = spec
        except ValidationError as error:
            scope.failed.update(outer.failed)
            scope.reject(error, (), RecipeSpec)
        else:
            _check_patches(scope, spec.patches, os)
        kind, reference = _base_kind(sections.get("base"))
        channel = sections["base"].get("channel", DEFAULT_CHANNEL) if kind == "recipe" else ""
        context["base"] = base_names(kind or "", reference, channel, os)
        context["facts"] = fact_names()
        user_data[architecture] = read_user_data(scope, sections.get("builder"))
        found = agents.read(scope, os)
        hardened[architecture] = hardening.read(scope, os, loading.today)
        software = (
            *operations.stage(scope, SETUP, value.get("setup"), ("setup",)),
            *((Stage("agents", found.operations, found.handlers),) if found.operations else ()),
            *operations.stage(scope, "software", value.get("software"), ("software",)),
        )
        check_base(problems, software, partial(_hardened_bases, loading, architecture, os))
        if hardened[architecture].controls:
            controls = _controls(loading.project, hardened[architecture])
            check_conflicts(problems, software, controls.forced, from_recipe=kind == "recipe")
            software = (*software, *controls.stages)
        stages[architecture] = software
        problems.extend(check_compiles(stages[architecture], loading.project))
        for mark, name, other in outputs.duplicate_outputs(stages[architecture]):
            problems.add_once(mark, f"outputs: {name} is already declared at {other}", "Choose another name.")
        tests.extend(found.tests)
        if architecture in specs:
            expected[architecture] = Expected.of(specs[architecture].expect, found.expect)
            if loading.environment.network.transport != "ssm":  # its agent connects from the instance itself
                check_ssh_port(problems, hardened[architecture].controls, *_ssh_port(document, specs[architecture]))
        used.update((name, found.params[name]) for name in found.names if name not in used)
    tests[:0] = _tests(loading, common.get("tests", value.get("tests")))
    _check_base(loading)
    targets = _distribution_targets(loading, common.get("distribution"))
    shared = _shared_accounts(loading, common.get("distribution"))
    fast_restore = _fast_restore(loading, common.get("distribution"), targets)
    _check_channel(loading, common.get("distribution"))
    _check_image_name(loading, value)
    valid = next(iter(specs.values()), None)
    schedules = read_schedules(
        valid.schedules if valid is not None else {},
        ("schedules",),
        document,
        loading.environment.accounts,
        loading.environment.home_region,
        problems,
        recipe=document.path.stem,
    )
    if os is None and not problems.found:
        problems.add(
            document.mark(("base", "recipe")),
            "os is not known, because the base recipe has problems",
            f"Check the base recipe with {step('validate')}.",
        )
    if problems.found or os is None:
        return None
    first = next(iter(specs.values()))
    protection = first.distribution.deregistration_protection
    return Recipe(
        name=first.name,
        version=first.version,
        description=first.description,
        owner=first.owner,
        os=os,
        architectures=first.architectures,
        base={a: _base(spec.base, document) for a, spec in specs.items()},
        builder={
            a: _builder(spec, a, os, document.mark(("builder", "instance_types")), user_data[a])
            for a, spec in specs.items()
        },
        patches={a: spec.patches for a, spec in specs.items()},
        provisioning=stages,
        tests=tuple({(t.name, t.path): t for t in tests}.values()),
        image=first.image,
        distribution=Distribution(
            targets,
            shared,
            first.distribution.channel,
            _organizations(first.distribution.share),
            protection=None if protection == "none" else protection,
            fast_restore=fast_restore,
            share_tags=dict(first.distribution.share.tags),
            prove=first.distribution.prove,
        ),
        retention=first.retention,
        refresh=first.refresh,
        source=document.path,
        mark=document.mark(()),
        patches_mark=document.mark(("patches",)),
        volumes_mark=document.mark(("image", "volumes")),
        variables=variables,
        agents=used,
        secrets=loading.secrets,
        schedules=schedules,
        hardening=hardened,
        expect=expected,
        lookups=tuple(outer.lookups[key] for key in sorted(outer.lookups)),
    )


@dataclass(frozen=True, slots=True)
class _Controls:
    """What is made of the controls of a recipe: their stages, and what they make of a host (``conflicts``)."""

    hardening: Hardening
    stages: tuple[Stage, ...]
    forced: Forced


def _controls(project: Project, hardened: Hardening) -> _Controls:
    """Return what is made of controls. Recipes with the same controls share it."""
    kept: dict[tuple[int, ...], _Controls] = project.kept.setdefault("controls", {})
    key = tuple(map(id, hardened.controls))  # the kept value has the controls, so the ids stay theirs
    if key not in kept:
        kept[key] = _Controls(hardened, hardening_stages(hardened.controls), forced_by(hardened.controls))
    return kept[key]


def _render(scope: Scope, keys: list[str]) -> dict[str, Any]:
    return {key: render_tree(scope, scope.document.value[key], (key,)) for key in keys}


def _architectures(value: Mapping[str, Any]) -> list[Architecture]:
    """Return the valid architectures of a recipe. The schema reports the others."""
    given = value.get("architectures", ["x86_64"])
    known: tuple[Architecture, ...] = ("x86_64", "arm64")
    return [a for a in known if isinstance(given, list) and a in given] or ["x86_64"]


# --- the base ---------------------------------------------------------------------------------------------------------


def _base_kind(base: object) -> tuple[BaseKind | None, str]:
    """Return the kind of a base and its value; (None, "") if the base is not well-formed."""
    if isinstance(base, dict):
        for kind in BASE_KINDS:
            if isinstance(base.get(kind), str):
                return kind, base[kind]
    return None, ""


def _base(spec: BaseSpec, document: Document) -> BaseRef:
    kind, value = _base_kind(spec.model_dump())
    assert kind is not None, "the schema requires exactly one"
    channel = (spec.channel or DEFAULT_CHANNEL) if kind == "recipe" else None
    return BaseRef(kind, value, document.mark(("base", kind)), spec.owners, channel, spec.include_deprecated)


def _builder(spec: RecipeSpec, architecture: Architecture, os: OsId, mark: Mark, user_data: str) -> Builder:
    builder = spec.builder
    return Builder(
        instance_types=builder.instance_types or DEFAULT_INSTANCE_TYPES[architecture],
        spot=builder.spot,
        ssh_user=builder.ssh_user or SYSTEMS[os].login_user,
        ssh_timeout=seconds(builder.ssh_timeout),
        stage_timeout=seconds(builder.timeout),
        encrypted=builder.encrypted,
        instance_profile=builder.instance_profile,
        ssh_port=builder.ssh_port or DEFAULT_SSH_PORT,
        hop_limit=builder.hop_limit,
        freeze=builder.capture == "freeze",
        tags=dict(builder.tags),
        user_data=user_data,
        network=_network(builder),
        image_ssh_port=spec.image.ssh_port or builder.ssh_port or DEFAULT_SSH_PORT,
        mark=mark,
    )


def _network(builder: BuilderSpec) -> BuildNetwork:
    proxy = builder.proxy
    http, https, direct = (proxy.http, proxy.https, proxy.no_proxy) if proxy is not None else (None, None, ())
    return BuildNetwork(http or "", https or "", direct, dict(builder.mirrors))


def _check_patches(scope: Scope, spec: PatchSpec, os: OsId | None) -> None:
    """Report patch options that the distribution does not support."""
    if os is None:
        return
    system = SYSTEMS[os]
    enough = spec.mirror is not None and (spec.mirror.key is not None or not system.manager.mirror_needs_key)
    if spec.date is not None and system.snapshots is None and not enough:
        mirror = "mirror with uri and key" if system.manager.mirror_needs_key else "mirror"
        scope.problems.add(
            scope.document.mark(("patches", "date")),
            f"date: {system.name} has no archive of packages by date",
            f"Set releasever, or {mirror}." if system.versioned else f"Set {mirror}.",
        )
    if spec.releasever is not None and not system.versioned:
        scope.problems.add(
            scope.document.mark(("patches", "releasever")),
            f"releasever: {system.name} has no release versions of its repositories",
            "Set date instead.",
        )
    elif spec.releasever == "latest" and not system.follows_latest:
        scope.problems.add(
            scope.document.mark(("patches", "releasever")),
            f"releasever: the repositories of {system.name} have no release named latest",
            "Remove releasever: without it the repositories give the newest packages.",
        )


def _os(loading: _Loading) -> OsId | None:
    """Return the os of the recipe, or of its base recipe, or found from the base's name. Reports a problem if it is not
    known."""
    seen: set[Path] = set()
    known: dict[Path, OsId] = loading.project.kept.setdefault("os", {})
    document: Document | None = loading.document
    while document is not None and document.path not in seen:
        if document.path in known:
            return known[document.path]
        seen.add(document.path)
        written = document.value.get("os")
        if written is not None:
            return written if isinstance(written, str) and written in SYSTEMS else None
        kind, value = _base_kind(document.value.get("base"))
        if kind != "recipe":
            found = of_reference(value)
            if found is None and kind:
                loading.problems.add(
                    loading.document.key_mark(("base",)),
                    "os is missing, and the name of the base does not show it",
                    f"Add os: {_join_or(list(SYSTEMS))} (the ID in /etc/os-release).",
                )
            if found is not None:
                known.update(dict.fromkeys(seen, found.id))
            return found.id if found is not None else None
        project, parent = loading.project, loading.project.recipe_file(value)
        document = project.document(parent, Problems()) if project.has_recipe(value) else None
    return None


def _join_or(alternatives: list[str]) -> str:
    return f"{', '.join(alternatives[:-1])} or {alternatives[-1]}"


def _ssh_port(document: Document, spec: RecipeSpec) -> tuple[int, Mark]:
    """Return the port of the SSH server of the image, and the place that says so."""
    places: tuple[NodePath, ...] = (("image", "ssh_port"), ("builder", "ssh_port"), ("hardening",))
    given = (spec.image.ssh_port, spec.builder.ssh_port, DEFAULT_SSH_PORT)
    port, place = next((port, place) for port, place in zip(given, places, strict=True) if port is not None)
    return port, document.mark(place)


def _hardened_bases(loading: _Loading, architecture: Architecture, os: OsId | None) -> Iterator[tuple[str, Forced]]:
    """Yield the recipes that the base comes from and that have a hardening, with what their controls make of a host.
    Their problems are reported when they are loaded themselves.
    """
    project, problems, edges = loading.project, Problems(), graph(loading.project)
    _, name = _base_kind(loading.document.value.get("base"))
    seen: set[str] = set()
    while name in edges and name not in seen:
        seen.add(name)
        document = project.document(project.recipe_file(name), problems)
        if document is None:
            return
        context: dict[str, Any] = {
            "environment": environment_names(loading.environment),
            "recipe": recipe_names(document.value),
            "architecture": architecture,
        }
        variables, _ = read_variables(project, document, context, loading.environment.name, {}, problems)
        scope = Scope(project, document, Renderer({**context, "vars": Namespace("vars", variables, "")}), problems)
        hardened = hardening.read(scope, os, loading.today)
        if hardened.controls:
            yield name, _controls(project, hardened).forced
        if "mount" in str([document.value.get(section) for section in _OPERATIONS]):
            return  # it may have changed what the hardening of its own bases mounted
        name = edges[name] or ""


def _check_base(loading: _Loading) -> None:
    document, problems, project = loading.document, loading.problems, loading.project
    kind, parent = _base_kind(document.value.get("base"))
    if kind != "recipe":
        return
    mark = document.mark(("base", "recipe"))
    edges = graph(project)
    if edges.get(document.path.stem) != parent:  # a recipe that is outside the directory of recipes
        edges = {**edges, document.path.stem: parent}
    if parent not in edges:
        problems.add(mark, f"base: there is no recipe {parent!r}", project.recipe_hint(parent, list(edges)))
        return
    circle = cycle(edges, document.path.stem)
    if circle is not None:
        problems.add(mark, f"base: the recipes depend on each other: {'→'.join(circle)}")
        return
    base = project.document(project.recipe_file(parent), Problems())
    if base is not None:
        listed = environments_of(base)
        if listed is not None and loading.environment.name not in listed:
            problems.add(
                mark,
                f"base: the recipe {parent} is not for the environment {loading.environment.name}, "
                f"only for {', '.join(listed)}",
                f"Add {loading.environment.name} to environments in {project.shown(base.path)}, or use another base.",
            )
        missing = [a for a in _architectures(document.value) if a not in _architectures(base.value)]
        if missing:
            problems.add(
                document.mark(("architectures",)),
                f"architectures: the base recipe {parent} is not built for {', '.join(missing)}",
                f"Add the architecture to {project.shown(base.path)}.",
            )


# --- tests and distribution -------------------------------------------------------------------------------------------


def _tests(loading: _Loading, given: object) -> list[TestRef]:
    document = loading.document
    names = given if isinstance(given, list) else ["base"]
    found = []
    for index, name in enumerate(names):
        if isinstance(name, str):
            ref = read_test(name, loading.project, document, ("tests", index), loading.problems)
            if ref is not None:
                found.append(ref)
    return found


def _check_image_name(loading: _Loading, value: Mapping[str, Any]) -> None:
    """Add a problem if the environment's template would give AMI names that are too long for EC2."""
    name, line, architectures = value.get("name"), value.get("version"), _architectures(value)
    if not (isinstance(name, str) and isinstance(line, str)):
        return
    longest = names.too_long(loading.environment.image_name, name, line, architectures)
    if longest is not None:
        loading.problems.add(
            loading.document.mark(("name",)),
            f"name: the AMI of a build would have the name {longest!r} with {len(longest)} characters, "
            f"expected at most {names.LONGEST_IMAGE_NAME}",
            f"Choose a shorter name, or a shorter image_name of the environment {loading.environment.name}.",
        )


def _check_channel(loading: _Loading, given: object) -> None:
    """Report a channel that has conditions in goldenami.yaml: only `goldenami promote` moves it."""
    channel = given.get("channel") if isinstance(given, dict) else None
    if isinstance(channel, str) and channel in loading.environment.channels:
        loading.problems.add(
            loading.document.mark(("distribution", "channel")),
            f"channel: {channel} has conditions in the environment {loading.environment.name}: builds cannot move it",
            "Write another channel, such as candidate. Then move the channel: "
            f"{step('promote', 'NAME@candidate', '--to', channel)}.",
        )


def _distribution_targets(loading: _Loading, given: object) -> tuple[Target, ...]:
    every = loading.environment.targets
    wanted = given.get("targets", "all") if isinstance(given, dict) else "all"
    if not isinstance(wanted, list):
        return every
    # Recipes with the same list get the same object, which much is known about (see ``same``).
    kept: dict[str, tuple[tuple[Target, ...], tuple[Target, ...]]] = loading.project.kept.setdefault("targets", {})
    key, before = repr(wanted), len(loading.problems.found)
    if key in kept and kept[key][0] is every:
        return kept[key][1]
    chosen: set[str] = set()
    known = [t.label for t in every] + [t.account.name for t in every] + [t.region for t in every]
    for index, name in enumerate(wanted):
        matching = {t.label for t in every if name in (t.label, t.account.name, t.region)}
        if not matching and isinstance(name, str):
            hint = suggestion(name, known, f"Targets: {', '.join(t.label for t in every)}.")
            mark = loading.document.mark(("distribution", "targets", index))
            loading.problems.add(
                mark, f"targets: the environment {loading.environment.name} has no target {name!r}", hint
            )
        chosen |= matching
    for target in every:
        mode = modes.get_mode(target)
        source = mode.source(target)
        if target.label in chosen and source is not None and source not in chosen:
            loading.problems.add(
                loading.document.mark(("distribution", "targets")),
                f"targets: {target.label} {mode.verb} the image of {source}, which is not chosen",
                f"Add {source} to targets.",
            )
    found = tuple(t for t in every if t.label in chosen)
    if len(loading.problems.found) == before:
        kept[key] = every, found
    return found


def _fast_restore(loading: _Loading, given: object, targets: tuple[Target, ...]) -> dict[Place, tuple[str, ...]]:
    """Return place -> zones with fast restore. Reports targets without an image of their own, and zones of other
    regions. Local Zones and Wavelength Zones have no fast restore."""
    spec = given.get("fast_restore") if isinstance(given, dict) else None
    names, zones = (spec.get("targets", "all"), spec.get("zones")) if isinstance(spec, dict) else ("all", None)
    chosen = [*modes.owners(targets)]
    if isinstance(names, list):
        owning, chosen = chosen, []
        for index, name in enumerate(names):
            matching = [t for t in owning if name in (t.label, t.account.name, t.region)]
            chosen += matching
            if not matching and isinstance(name, str):
                loading.problems.add(
                    loading.document.mark(("distribution", "fast_restore", "targets", index)),
                    f"targets: the recipe has no target {name!r} with an image of its own",
                    f"Targets: {', '.join(t.label for t in owning)}.",
                )
    found: dict[Place, set[str]] = {}
    for index, zone in enumerate(zones if isinstance(zones, list) else ()):
        places = [t.place for t in chosen if re.fullmatch(rf"{re.escape(t.region)}[a-z]", str(zone))]
        for place in places:
            found.setdefault(place, set()).add(zone)
        if not places and chosen:
            regions = sorted({target.region for target in chosen})
            loading.problems.add(
                loading.document.mark(("distribution", "fast_restore", "zones", index)),
                f"zones: {zone} is not an Availability Zone of {' or '.join(regions)}",
                f"Write a zone such as {regions[0]}a. Local Zones and Wavelength Zones have no fast restore.",
            )
    return {place: tuple(sorted(every)) for place, every in sorted(found.items())}


def _organizations(share: ShareSpec) -> tuple[str, ...]:
    return tuple(sorted({*share.organizations, *share.organizational_units}))


def _shared_accounts(loading: _Loading, given: object) -> tuple[str, ...]:
    share = given.get("share") if isinstance(given, dict) else None
    names = share.get("accounts") if isinstance(share, dict) else None
    found: list[str] = []
    for index, name in enumerate(names if isinstance(names, list) else ()):
        if not isinstance(name, str):
            continue
        account = loading.environment.accounts.get(name)
        mark = loading.document.mark(("distribution", "share", "accounts", index))
        identifier = account.id if account else name
        if not (identifier.isascii() and identifier.isdigit() and len(identifier) == 12):
            known = "Write the name of an account of the environment, or 12 digits in quotes."
            hint = suggestion(name, loading.environment.accounts, known)
            loading.problems.add(mark, f"accounts: {name!r} is not an account of the environment or 12 digits", hint)
        elif identifier == loading.environment.home.id:
            loading.problems.add(mark, "accounts: the home account already owns the images", "Remove it.")
        elif identifier not in found:
            found.append(identifier)
    return tuple(found)
