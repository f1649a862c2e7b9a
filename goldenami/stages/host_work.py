"""The work on hosts over SSH: provisioning, both gates, sealing."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Final

from goldenami import planning, provision, ssh, validate
from goldenami.aws import instances
from goldenami.errors import BuilderError, GoldenAmiError, TestsFailed, UsageError
from goldenami.events import Emit, mask
from goldenami.evidence import packages, state
from goldenami.hardening import AFTER, BEFORE, LAST, SUITE, UNDONE, Batch, Collector, Hardening, rechecked, results
from goldenami.hardening import VARIABLE as HARDENING
from goldenami.model import Architecture, Environment, Package, SshEndpoint, TestReport
from goldenami.provision import BoundOperation, Drift, Stage
from goldenami.provision import outputs as script_outputs
from goldenami.provision.boot import Reboot
from goldenami.provision.shell import Script
from goldenami.recipe import Recipe, TestRef
from goldenami.recipe.expectspec import Expected
from goldenami.recipe.project import shown
from goldenami.recipe.schema import VolumeSpec
from goldenami.recipe.secrets import is_secret
from goldenami.stages import hostfacts, hosts
from goldenami.stages.build import BuildContext, Candidate, Host, Prepared
from goldenami.stages.filling import fill_network, fill_stage
from goldenami.stages.replacing import freezing, may_freeze
from goldenami.stages.watch import watched
from goldenami.updates import sources as package_sources
from goldenami.validate import TestPath, Traces

CONTROLS = TestPath(SUITE, "hardening")
AGENTS, OWN = "agents", "recipe"  # the suites of the agents' tests, and of the recipe's own files
SUITES = (*validate.SUITES, AGENTS, CONTROLS.label, OWN)  # the names that select tests
REBOOT = "reboot"  # the suite, and its gate
CHECKS = "goldenami"  # the variable with what the built-in suites know
_READ_TRACES = provision.Fact("traces", Script(validate.READ_TRACES))
_LEFTOVERS = frozenset({"shell-history", "logins", "npm-logins", "memory-dumps", "mail"})  # of ``provision.TRACES``


class SshHostWork:
    """Works on hosts over SSH. Every real build uses it."""

    def answers(self, address: str, port: int) -> bool:
        return ssh.listens(address, port)

    def log_in(self, build: BuildContext, endpoint: SshEndpoint) -> ssh.Connection | None:
        return ssh.log_in_once(endpoint, sleep=build.cloud.sleep)

    def get_ready(self, build: BuildContext, architecture: Architecture) -> None:
        prepare_gate(build, architecture, gate="builder")
        ssh.preload()
        provision.preload()

    def prepare(self, build: BuildContext, architecture: Architecture, host: Host) -> Prepared:
        """Patch, provision, test (gate 1) and seal a builder over one connection.

        Two programs run on the host, with three round trips each. The first runs before the tests: it lists the
        packages of the base and runs all stages. The second runs after the tests: it lists the final packages, seals
        the host and freezes it. What is read on the host is parsed while the second goes on.
        """
        contents_fact = (provision.CONTENTS,) if build.recipe.refresh.skip_same else ()
        freeze = may_freeze(build, architecture)
        begun: list[str] = []
        described: dict[str, Any] = {}

        def read(name: str, text: str) -> None:
            if name in _PARSERS:
                described[name] = _PARSERS[name](build, text)

        def within(name: str) -> AbstractContextManager[object]:
            begun.append(name)
            return build.stage(name, architecture)

        with freezing(host.instance_id, begun), hosts.connected(build, host, architecture) as connection:
            base, outputs, undone = _provision(build, architecture, host, connection)

            def seal(boot: str) -> provision.SealReport:
                return provision.seal(
                    connection,
                    login_key=host.login_key,
                    secrets=build.secrets_not_in_image,
                    masked=build.secrets.values(),
                    emit=build.emit,
                    facts=(provision.PACKAGES, provision.SOURCES, _READ_TRACES),
                    facts_meanwhile=(provision.UNITS_AHEAD, provision.PACKAGES_AHEAD),
                    facts_after=(provision.STATE, provision.INVENTORY),
                    facts_before_stop=contents_fact,  # services write files as they end, at each host others
                    freeze=freeze,
                    within=within,
                    on_fact=read,
                    since=boot,
                )

            known = Known(set_id=base.set_id, fresh=True)
            report, sealed = _gate_and_seal(build, architecture, host, connection, outputs, undone, known, seal)
            connection.drop()  # it is captured now: nobody needs what it has in memory, and frozen it may not answer
        # Now, and not beside the sealing: it takes a processor for a while, and the image takes longer.
        prepare_gate(build, architecture, gate="image", sealed=True)
        after = described[provision.PACKAGES.name]
        traces = validate.parse_traces(sealed.facts[_READ_TRACES.name], host.login_key)
        changes = provision.package_changes(base.packages, after)
        sources = described[provision.SOURCES.name]
        contents = _digest(sealed.facts.get(provision.CONTENTS.name, ""))
        inventory, host_state = described[provision.INVENTORY.name], described[provision.STATE.name]
        found = (report, after, changes, traces, outputs, sources, contents, base.set_id, inventory, host_state)
        frozen = freeze and not sealed.not_frozen
        if sealed.not_frozen:
            why = f"its file systems cannot be frozen: {sealed.not_frozen}"
            build.note(f"EC2 shuts {host.instance_id} down for its capture: {why}")
        return Prepared(architecture, host.instance_id, *found, frozen=frozen, launched=host.launched)

    def prove(self, build: BuildContext, made: Candidate, host: Host) -> TestReport:
        """Run gate 2: the recipe's tests, and the tests of the sealing. Raises TestsFailed if a test failed."""
        prepared = made.prepared
        known = Known(set_id=prepared.set_id, earlier=made.earlier, fresh=True)
        return run_gate(
            build,
            made.architecture,
            host,
            gate="image",
            outputs=prepared.outputs,
            traces=prepared.traces,
            known=known,
        )

    def prove_reboot(self, build: BuildContext, made: Candidate, host: Host, before: TestReport) -> TestReport:
        """Reboot an instance that passed gate 2, and run the tests without a gate, and those of the suite reboot."""
        known = Known(set_id=made.prepared.set_id, running=before.facts.get("running", {}), fresh=True)
        return reboot_gate(build, made.architecture, host, outputs=made.prepared.outputs, known=known)


@dataclass(frozen=True, slots=True)
class Known:
    """What the built-in suites compare a host with. ``set_id``: the set-id files of the base; None: unknown.
    ``earlier``: what the tests of the last release recorded. ``running``: what ran before the reboot. ``fresh``: the
    host is a new instance of the image, and its only login is ours. ``made_here``: False if the traces of the builder
    are not known, because this is no build."""

    set_id: tuple[str, ...] | None = None
    earlier: Mapping[str, Any] = field(default_factory=dict)
    running: Mapping[str, Any] = field(default_factory=dict)
    fresh: bool = False
    made_here: bool = True


@dataclass(frozen=True, slots=True)
class _Base:
    """What a builder had before the recipe."""

    packages: tuple[Package, ...]
    set_id: tuple[str, ...] | None


def _inventory(build: BuildContext, text: str) -> str:
    """Return the inventory of a builder for the catalog. One that is missing or cut is told."""
    found = packages.parse(mask(text, tuple(build.secrets.values())))
    if found is None or not found.complete:
        build.note("the inventory of the image could not be read as a whole: its SBOM is missing or cut", "warning")
    return packages.dumps(found) if found is not None else ""


def _digest(text: str) -> str:
    """Return the digest of the files of a builder, or an empty text if the host printed anything else: two hosts that
    could not read their files may say the same."""
    text = text.strip()
    return text if re.fullmatch(r"[0-9a-f]{64}", text) else ""


def _state(build: BuildContext, text: str) -> bytes:
    """Return the state of a builder for the catalog. One that is missing or cut is told."""
    found = state.parse(mask(text, tuple(build.secrets.values())))
    if found is None or not found.complete:
        build.note("the state of the image could not be read as a whole: `images diff` lacks its files", "warning")
    return state.dumps(found) if found is not None else b""


# What is made of a fact of a builder. Names and versions of packages are compared with those of other hosts. With
# secrets masked, "postgresql" would be another package if one is "postgres".
_PARSERS: Final[Mapping[str, Callable[[BuildContext, str], object]]] = {
    provision.PACKAGES.name: lambda _, text: provision.parse_packages(text),
    provision.SOURCES.name: lambda build, text: package_sources.read(mask(text, tuple(build.secrets.values()))),
    provision.INVENTORY.name: _inventory,
    provision.STATE.name: _state,
}


def _provision(
    build: BuildContext, architecture: Architecture, host: Host, connection: ssh.Connection
) -> tuple[_Base, dict[str, str], tuple[Drift, ...]]:
    """Run every stage of the recipe in one program. Only a reboot divides it. The host reads ahead what the sealing
    needs, beside the stages and while it is tested.

    Returns what the host had before the stages, the outputs of the recipe's scripts, and the operations that the
    hardening undid.
    """
    recipe = build.recipe
    known = {**build.secrets, **hostfacts.of_image(build.plan.facts.base[architecture])}
    full = stages_of(recipe, architecture, known, connection, _volumes(build, host))
    before = (provision.SET_ID,) if recipe.has_suite("hygiene") else ()
    result = provision.run_program(
        connection,
        [
            provision.PACKAGES,
            *before,
            provision.READ_AHEAD,
            *rechecked(full),
            *script_outputs.output_facts(full),
            provision.READ_AHEAD,
        ],
        build.emit,
        secrets=build.secrets.values(),
        timeout=recipe.builder[architecture].stage_timeout,
        within=lambda name: build.stage(name, architecture),
        network=fill_network(recipe.builder[architecture].network, build.secrets),
    )
    found = script_outputs.read_outputs(result.facts, build.secrets.values())
    for name, value in found.items():
        build.note(f"output {name}: {value}")
    packages = provision.parse_packages(result.facts[provision.PACKAGES.name])
    set_id = tuple(result.facts[provision.SET_ID.name].splitlines()) if before else None
    return _Base(packages, set_id), found, result.undone(BEFORE, AFTER)


def _gate_and_seal(
    build: BuildContext,
    architecture: Architecture,
    host: Host,
    connection: ssh.Connection,
    outputs: Mapping[str, str],
    undone: Sequence[Drift],
    known: Known,
    seal: Callable[[str], provision.SealReport],
) -> tuple[TestReport, provision.SealReport]:
    """Run gate 1, after a reboot that the recipe left behind, and seal the builder. ``seal`` gets the boot id that the
    gate began with, and leaves a host alone that rebooted since. Then the tests prove nothing: they run again, once,
    after the boot."""
    boot = provision.settle(connection, build.emit)
    for _ in range(2):
        report, failure = None, None
        try:
            report = run_gate(build, architecture, host, gate="builder", outputs=outputs, undone=undone, known=known)
        except (TestsFailed, BuilderError) as error:
            failure = error
        if report is not None and (sealed := seal(boot)).begun:
            return report, sealed
        before, boot = boot, _settled(build, connection, boot, failure)
        if failure is not None and boot == before:
            raise failure
        # A shutdown that was due may have been cancelled.
        did = "rebooted by itself" if boot != before else "was going down"
        build.note(f"{host.instance_id} {did} during gate 1; what its tests found does not count", "warning")
    raise BuilderError(
        f"{host.instance_id} did not stay up during gate 1, twice",
        hint="Find what reboots the host after the recipe, such as an installer that schedules a reboot. Put the "
        "operation `reboot` after it.",
    )


def _settled(build: BuildContext, connection: ssh.Connection, boot: str, failure: GoldenAmiError | None) -> str:
    """Wait for the end of a reboot since this boot id, and return the boot id now. Raises ``failure``, if given, for a
    host that does not come back."""
    try:
        return provision.settle(connection, build.emit, since=boot)
    except BuilderError:
        if failure is not None:
            raise failure from None
        raise


def _volumes(build: BuildContext, host: Host) -> tuple[Stage, ...]:
    """Return the stage that makes the file systems of the data volumes. The ids of the volumes are known now."""
    wanted = _data_volumes(build.recipe)
    if not wanted:
        return ()
    instance = instances.find(build.ledger, build.home, host.instance_id)
    attached = instance.volumes if instance is not None else {}
    missing = [volume.device for volume in wanted if volume.device not in attached]
    if missing:
        raise BuilderError(f"builder {host.instance_id} has no volume at {', '.join(missing)}")
    made = [
        provision.DataVolume(
            volume=attached[volume.device],
            device=volume.device,
            path=volume.filesystem.mount,
            fstype=volume.filesystem.type,
            label=volume.filesystem.label,
            options=volume.filesystem.options,
        )
        for volume in wanted
        if volume.filesystem is not None
    ]
    return (provision.data_volume_stage(made, build.recipe.volumes_mark),)


def _data_volumes(recipe: Recipe) -> list[VolumeSpec]:
    """Return the data volumes that get a file system."""
    return [volume for volume in recipe.image.volumes if volume.filesystem is not None]


def outputs_on(
    recipe: Recipe, architecture: Architecture, secrets: Mapping[str, str], connection: ssh.Connection
) -> dict[str, str]:
    """Return the outputs of a recipe's scripts, as a host has them now. Raises the errors of ``stages_of``, but only
    for what these scripts use, and of ``provision.run_program``."""
    scripts = [script_outputs.scripts_with_outputs(stage) for stage in _stages(recipe, architecture, ())]
    values = {**secrets, **hostfacts.read(connection, scripts, secrets)}
    facts = script_outputs.output_facts([fill_stage(stage, values) for stage in scripts])
    found = provision.run_program(connection, facts, secrets=secrets.values()).facts if facts else {}
    return script_outputs.read_outputs(found, secrets.values())


def stages_of(
    recipe: Recipe,
    architecture: Architecture,
    known: Mapping[str, str],
    connection: ssh.Connection,
    volumes: tuple[Stage, ...] = (),
) -> list[Stage]:
    """Return all stages of a recipe in their order, with the values of its secrets and facts. ``known``: the secrets,
    and facts of the base image; those of the host are read. ``volumes``: the stage of the data volumes, which only a
    builder has. Raises UsageError for a fact that is unknown here."""
    stages = _stages(recipe, architecture, volumes)
    values = {**known, **hostfacts.read(connection, stages, known)}
    return [fill_stage(stage, values) for stage in stages]


def stage_names(recipe: Recipe, architecture: Architecture) -> tuple[str, ...]:
    """Return the names of the stages that a builder runs for a recipe, without those that have nothing to do."""
    volumes = _data_volumes(recipe)
    return tuple(
        stage.name
        for stage in _stages(recipe, architecture, (provision.data_volume_stage((), recipe.volumes_mark),))
        if stage.operations or (volumes and stage.name == provision.DATA_VOLUMES)
    )


def _stages(recipe: Recipe, architecture: Architecture, volumes: tuple[Stage, ...]) -> tuple[Stage, ...]:
    spec, mark = recipe.patches[architecture], recipe.patches_mark
    provisioning = recipe.provisioning[architecture]
    mirrors = recipe.builder[architecture].network.mirrors
    setup = tuple(
        provision.after_boot(stage, os=recipe.os, mirrors=mirrors)
        for stage in provisioning
        if stage.name == provision.SETUP
    )
    return (
        *setup,
        provision.patch_stage(spec, mark, os=recipe.os, mirrors=mirrors),
        *volumes,
        *(stage for stage in provisioning if stage.name not in (provision.SETUP, *LAST)),
        provision.closing_stage(spec, mark, os=recipe.os, mirrors=mirrors),
        *(stage for stage in provisioning if stage.name in LAST),  # they read the final state
    )


def run_gate(
    build: BuildContext,
    architecture: Architecture,
    host: Host,
    *,
    gate: str,
    outputs: Mapping[str, str],
    undone: Sequence[Drift] | None = None,
    traces: Traces | None = None,
    known: Known | None = None,
    suites: Sequence[str] | None = None,
    required: bool = True,
) -> TestReport:
    """Run the tests of a gate on a host, in a stage of the build. ``outputs``, ``undone``, ``traces``, ``known``,
    ``suites``: as in :func:`run_tests`.

    Raises TestsFailed if a test failed and ``required``.
    """
    with build.stage(f"test {gate}", architecture) as fail, watched(build, host) as watch:
        report = run_tests(
            build.recipe,
            build.environment,
            build.version,
            architecture,
            host.endpoint,
            gate=gate,
            report_dir=build.reports,
            emit=build.emit,
            secrets=build.secrets,
            outputs=outputs,
            undone=undone,
            traces=traces,
            known=known,
            suites=suites,
            stop=watch,
        )
        if required:
            validate.require(report)
        elif report.failed:
            fail()
    return report


def prepare_gate(
    build: BuildContext,
    architecture: Architecture,
    *,
    gate: str,
    sealed: bool = False,
    suites: Sequence[str] | None = None,
) -> None:
    """Let the tests of a gate be collected now, for a later :func:`run_gate`. ``sealed``: it will have traces.

    Raises UsageError if the recipe has no tests of ``suites``."""
    validate.prepare(
        _chosen(build.recipe, architecture, suites, sealed=sealed),
        gate=gate,
        architecture=architecture,
        report_dir=build.reports,
        environment=build.environment.test_environment,
    )


def run_tests(
    recipe: Recipe,
    environment: Environment,
    version: str,
    architecture: Architecture,
    endpoint: SshEndpoint,
    *,
    gate: str,
    report_dir: Path,
    emit: Emit,
    secrets: Mapping[str, str],
    outputs: Mapping[str, str],
    undone: Sequence[Drift] | None = None,
    traces: Traces | None = None,
    known: Known | None = None,
    suites: Sequence[str] | None = None,
    stop: threading.Event | None = None,
) -> TestReport:
    """Run the tests of a recipe on one host: its suites, its files and its hardening controls.

    ``undone``: what the hardening undid, if it was applied just now. ``traces``: of the builder; with them the tests of
    the sealing run as well. ``known``: what the built-in suites compare with. ``suites``: run only these
    (``SUITES``); None: all of the recipe. A failed test raises no error; see ``run_suite``."""
    hardening = recipe.hardening.get(architecture, Hardening())
    known = known or Known()
    proven = Collector(emit)
    report = validate.run_suite(
        endpoint,
        _chosen(recipe, architecture, suites, sealed=traces is not None),
        gate=gate,
        architecture=architecture,
        report_dir=report_dir,
        emit=proven,
        variables={
            **_variables(recipe, environment, version, architecture),
            "outputs": dict(outputs),
            CHECKS: _checks(recipe, architecture, endpoint, known),
            HARDENING: Batch.of(hardening.controls).to_json(),
            UNDONE: None if undone is None else [asdict(drift) for drift in undone],
        },
        traces=traces,
        secrets=tuple(secrets.values()),
        environment=environment.test_environment,
        connect_timeout=recipe.builder[architecture].ssh_timeout,
        stop=stop,
    )
    return replace(report, controls=results(hardening, proven.ended))


def reboot_gate(
    build: BuildContext,
    architecture: Architecture,
    host: Host,
    *,
    outputs: Mapping[str, str],
    known: Known,
    suites: Sequence[str] | None = None,
    required: bool = True,
) -> TestReport:
    """Reboot a host, and run the tests at gate "reboot". Raises TestsFailed if a test failed and ``required``."""
    prepare_gate(build, architecture, gate=REBOOT, suites=suites)
    with build.stage("reboot", architecture), hosts.connected(build, host, architecture) as connection:
        once = BoundOperation(Reboot(when="always"), build.recipe.mark)
        provision.run_stage(connection, Stage("reboot", (once,)), build.emit)
    return run_gate(
        build, architecture, host, gate=REBOOT, outputs=outputs, known=known, suites=suites, required=required
    )


def recipe_suites(recipe: Recipe) -> tuple[str, ...]:
    """Return the names of the suites that a recipe runs, as ``suites`` of :func:`run_tests` names them."""
    return tuple(dict.fromkeys((*(_suite_of(ref) for ref in recipe.tests), CONTROLS.label)))


def _suite_of(ref: TestRef) -> str:
    return AGENTS if ref.origin else OWN if ref.path is not None else ref.name


def _chosen(
    recipe: Recipe, architecture: Architecture, suites: Sequence[str] | None, *, sealed: bool
) -> tuple[TestPath | str, ...]:
    """Return the tests for ``validate``: suites by name, files by the path that the user sees."""
    own: list[tuple[str, TestPath | str]] = []
    for t in recipe.tests:
        file = None if t.path is None else TestPath(t.path, t.name if t.installed else shown(t.path), t.installed)
        own.append((_suite_of(t), file or t.name))
    if sealed:
        own.append(("sealed", "sealed"))
    if recipe.hardening.get(architecture, Hardening()).controls:
        own.append((CONTROLS.label, CONTROLS))
    if suites is None:
        return tuple(test for _, test in own)
    more = [name for name in suites if name in validate.SUITES and name not in (kind for kind, _ in own)]
    chosen = (*(test for kind, test in own if kind in suites), *more)
    if not chosen:
        known = dict.fromkeys((*validate.SUITES, *(kind for kind, _ in own)))
        raise UsageError(f"{recipe.name} has no tests of {', '.join(suites)}", hint=f"It has {', '.join(known)}.")
    return chosen


def _checks(recipe: Recipe, architecture: Architecture, endpoint: SshEndpoint, known: Known) -> dict[str, Any]:
    """Return what the built-in suites know about the host."""
    logins = [*(ssh.KeyPair.from_private(key).public_key for key in endpoint.private_keys), *endpoint.agent_keys]
    builder = recipe.builder[architecture]
    return {
        "expect": recipe.expect.get(architecture, Expected()).to_json(),
        "set_id": None if known.set_id is None else list(known.set_id),
        "earlier": dict(known.earlier),
        "before": dict(known.running),
        "fresh": known.fresh,
        "made_here": known.made_here,
        "login_keys": logins if known.fresh else None,
        "ssh_ports": sorted({builder.ssh_port, builder.image_ssh_port}),
        "leftovers": {trace.what: trace.find.text for trace in provision.TRACES if trace.name in _LEFTOVERS},
    }


def _variables(recipe: Recipe, environment: Environment, version: str, architecture: Architecture) -> dict[str, object]:
    """Return the variables that tests can read. Secrets are left out."""
    return {
        **planning.variables(recipe),
        "agents": _plain(recipe.agents),
        "recipe": recipe.name,
        "version": version,
        "architecture": architecture,
        "environment": environment.name,
    }


def _plain(value: object) -> object:
    """Return a value as JSON types. Secrets and unknown types become None."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return value if isinstance(value, (str, int, float, bool)) and not is_secret(value) else None
