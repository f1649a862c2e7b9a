"""The work on hosts over SSH: provisioning, both gates, sealing."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path

from goldenami import planning, provision, ssh, validate
from goldenami.aws import instances
from goldenami.errors import BuilderError, GoldenAmiError, TestsFailed
from goldenami.events import Emit, mask
from goldenami.hardening import AFTER, BEFORE, LAST, SUITE, UNDONE, Batch, Collector, Hardening, rechecked, results
from goldenami.hardening import VARIABLE as HARDENING
from goldenami.model import Architecture, Environment, Package, SshEndpoint, TestReport
from goldenami.provision import Drift, Stage
from goldenami.provision import outputs as script_outputs
from goldenami.provision.shell import Script
from goldenami.recipe import Recipe
from goldenami.recipe.project import shown
from goldenami.recipe.schema import VolumeSpec
from goldenami.recipe.secrets import is_secret
from goldenami.stages import hosts
from goldenami.stages.build import BuildContext, Candidate, Host, Prepared
from goldenami.stages.filling import fill_stage
from goldenami.stages.watch import watched
from goldenami.updates import sources as package_sources
from goldenami.validate import TestPath, Traces

CONTROLS = TestPath(SUITE, "hardening")
_TRACES = "traces"


class SshHostWork:
    """Works on hosts over SSH. Every real build uses it."""

    def prepare(self, build: BuildContext, architecture: Architecture, host: Host) -> Prepared:
        """Patch, provision, test (gate 1) and seal a builder over one connection.

        Two programs run on the host, with three round trips each. The first runs before the tests: it lists the
        packages of the base and runs all stages. The second runs after the tests: it lists the final packages and seals
        the host.
        """
        with hosts.connected(build, host, architecture) as connection:
            before, outputs, undone = _provision(build, architecture, host, connection)
            provision.settle(connection, build.emit)
            report = _builder_gate(build, architecture, host, connection, outputs, undone)
            sealed = provision.seal(
                connection,
                login_key=host.login_key,
                secrets=build.secrets_not_in_image,
                masked=build.secrets.values(),
                emit=build.emit,
                facts=(provision.PACKAGES, provision.SOURCES, provision.Fact(_TRACES, Script(validate.READ_TRACES))),
                facts_after=(provision.CONTENTS,) if build.recipe.refresh.skip_same else (),
                within=lambda name: build.stage(name, architecture),
            )
        after = provision.parse_packages(sealed.facts[provision.PACKAGES.name])
        traces = validate.parse_traces(sealed.facts[_TRACES], host.login_key)
        changes = provision.package_changes(before, after)
        sources = package_sources.read(mask(sealed.facts[provision.SOURCES.name], tuple(build.secrets.values())))
        contents = sealed.facts.get(provision.CONTENTS.name, "").strip()
        return Prepared(architecture, host.instance_id, report, after, changes, traces, outputs, sources, contents)

    def prove(self, build: BuildContext, made: Candidate, host: Host) -> TestReport:
        """Run gate 2: the recipe's tests, and the tests of the sealing. Raises TestsFailed if a test failed."""
        prepared = made.prepared
        return run_gate(build, made.architecture, host, gate="image", outputs=prepared.outputs, traces=prepared.traces)


def _provision(
    build: BuildContext, architecture: Architecture, host: Host, connection: ssh.Connection
) -> tuple[tuple[Package, ...], dict[str, str], tuple[Drift, ...]]:
    """Run every stage of the recipe in one program. Only a reboot divides it.

    Returns the packages before the stages, the outputs of the recipe's scripts, and the operations that the hardening
    undid.
    """
    recipe = build.recipe
    full = stages_of(recipe, architecture, build.secrets, _volumes(build, host))
    result = provision.run_program(
        connection,
        [provision.PACKAGES, *rechecked(full), *script_outputs.output_facts(full)],
        build.emit,
        secrets=build.secrets.values(),
        timeout=recipe.builder[architecture].stage_timeout,
        within=lambda name: build.stage(name, architecture),
    )
    found = script_outputs.read_outputs(result.facts, build.secrets.values())
    for name, value in found.items():
        build.note(f"output {name}: {value}")
    return provision.parse_packages(result.facts[provision.PACKAGES.name]), found, result.undone(BEFORE, AFTER)


def _builder_gate(
    build: BuildContext,
    architecture: Architecture,
    host: Host,
    connection: ssh.Connection,
    outputs: Mapping[str, str],
    undone: Sequence[Drift],
) -> TestReport:
    """Run gate 1. If the host rebooted meanwhile, the tests prove nothing: they run again, once, after the boot."""
    boot = connection.boot_id()
    for _ in range(2):
        report, failure = None, None
        try:
            report = run_gate(build, architecture, host, gate="builder", outputs=outputs, undone=undone)
        except (TestsFailed, BuilderError) as error:
            failure = error
        if not _rebooted(build, connection, boot, failure):
            if failure is not None:
                raise failure
            assert report is not None
            return report
        build.note(
            f"{host.instance_id} rebooted by itself during gate 1; what its tests found does not count", "warning"
        )
        boot = connection.boot_id()
    raise BuilderError(
        f"{host.instance_id} rebooted by itself during gate 1, twice",
        hint="Find what reboots the host after the recipe, such as an installer that schedules a reboot. Put the "
        "operation `reboot` after it.",
    )


def _rebooted(build: BuildContext, connection: ssh.Connection, boot: str, failure: GoldenAmiError | None) -> bool:
    """Wait for the end of a reboot since this boot id, and return whether there was one. Raises ``failure``, if given,
    for a host that does not come back."""
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


def stages_of(
    recipe: Recipe, architecture: Architecture, secrets: Mapping[str, str], volumes: tuple[Stage, ...] = ()
) -> list[Stage]:
    """Return all stages of a recipe in their order, with the values of its secrets. ``volumes``: the stage of the data
    volumes, which only a builder has."""
    return [fill_stage(stage, secrets) for stage in _stages(recipe, architecture, volumes)]


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
    setup = tuple(provision.after_boot(stage) for stage in provisioning if stage.name == provision.SETUP)
    return (
        *setup,
        provision.patch_stage(spec, mark, os=recipe.os),
        *volumes,
        *(stage for stage in provisioning if stage.name not in (provision.SETUP, *LAST)),
        provision.closing_stage(spec, mark, os=recipe.os),
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
    required: bool = True,
) -> TestReport:
    """Run the tests of a gate on a host, in a stage of the build. ``outputs``, ``undone``, ``traces``: as in
    :func:`run_tests`.

    Raises TestsFailed if a test failed and ``required``.
    """
    with build.stage(f"test {gate}", architecture), watched(build, host) as watch:
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
            stop=watch,
        )
        if required:
            validate.require(report)
    return report


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
    stop: threading.Event | None = None,
) -> TestReport:
    """Run the tests of a recipe on one host: its suites, its files and its hardening controls.

    ``undone``: what the hardening undid, if it was applied just now. ``traces``: of the builder; with them the tests of
    the sealing run as well. A failed test raises no error; see ``run_suite``."""
    hardening = recipe.hardening.get(architecture, Hardening())
    proven = Collector(emit)
    suites = (*(("sealed",) if traces is not None else ()), *((CONTROLS,) if hardening.controls else ()))
    report = validate.run_suite(
        endpoint,
        (*_tests(recipe), *suites),
        gate=gate,
        architecture=architecture,
        report_dir=report_dir,
        emit=proven,
        variables={
            **_variables(recipe, environment, version, architecture),
            "outputs": dict(outputs),
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


def _tests(recipe: Recipe) -> tuple[TestPath | str, ...]:
    """Return the recipe's tests for ``validate``: suites by name, files by the path that the user sees."""
    return tuple(
        TestPath(t.path, t.name if t.installed else shown(t.path), t.installed) if t.path is not None else t.name
        for t in recipe.tests
    )


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
