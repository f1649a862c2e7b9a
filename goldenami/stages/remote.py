"""Works on a host that exists: applies a recipe, reports what differs, runs its tests. Nothing in the cloud changes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from goldenami import os as systems
from goldenami import provision, ssh, validate
from goldenami.errors import BuilderError, UsageError
from goldenami.events import Emit, emit
from goldenami.hardening import AFTER, BEFORE, rechecked
from goldenami.model import Architecture, Environment, SshEndpoint, TestReport
from goldenami.provision import OperationResult, Stage
from goldenami.provision.boot import Reboot
from goldenami.recipe import Recipe
from goldenami.stages.host_work import Known, outputs_on, run_tests, stages_of

_MACHINES: Final[Mapping[str, Architecture]] = {"x86_64": "x86_64", "aarch64": "arm64", "arm64": "arm64"}
_IDENTIFY: Final = '. /etc/os-release; printf "%s|%s|" "$ID" "$ID_LIKE"; uname -m'


@dataclass(frozen=True, slots=True)
class Applied:
    """The result of a recipe on a host. ``operations``: (stage, result); with ``check``, "changed" means that the host
    differs. ``reboot_due``: a reboot is due, and was not made."""

    architecture: Architecture
    operations: tuple[tuple[str, OperationResult], ...]
    reboot_due: bool

    @property
    def changed(self) -> int:
        """The number of operations that changed something, or would."""
        return sum(result.status == "changed" for _, result in self.operations)


def architecture_of(recipe: Recipe, connection: ssh.Connection) -> Architecture:
    """Return the architecture of a host. Raises UsageError if the recipe is not for its operating system or
    architecture."""
    name = connection.endpoint.address
    done = connection.run(_IDENTIFY, timeout=60)
    try:
        id, like, machine = done.text.split("|")
    except ValueError:
        raise BuilderError(f"{name}: /etc/os-release and uname cannot be read: {done.text[-200:]}") from None
    system = systems.of_release(id, like)
    if system is None or system.id != recipe.os:
        raise UsageError(
            f"the recipe {recipe.name} is for {recipe.os}, and {name} is {id}",
            hint="Choose a recipe for the operating system of the host.",
        )
    architecture = _MACHINES.get(machine)
    if architecture is None or architecture not in recipe.architectures:
        raise UsageError(
            f"the recipe {recipe.name} is for {', '.join(recipe.architectures)}, and {name} is {machine}",
            hint="Add the architecture to `architectures` of the recipe.",
        )
    return architecture


def apply(
    recipe: Recipe,
    connection: ssh.Connection,
    secrets: Mapping[str, str],
    to: Emit,
    *,
    mode: Literal["apply", "check"] = "apply",
    reboot: bool = False,
) -> Applied:
    """Run all stages of a recipe on a host. A second run changes nothing. ``mode`` "check" only reports what differs.

    The host reboots only with ``reboot``. Raises UsageError if the recipe is not for this host, and the errors of
    ``provision.run_program``.
    """
    architecture = architecture_of(recipe, connection)
    stages = stages_of(recipe, architecture, secrets, connection)
    reboots = [one for stage in stages for one in stage.operations if isinstance(one.operation, Reboot)]
    if not reboot:
        stages = [_without_reboot(stage) for stage in stages]
    timeout = recipe.builder[architecture].stage_timeout
    values = secrets.values()
    items = rechecked(stages)
    done = provision.run_program(connection, items, to, secrets=values, mode=mode, timeout=timeout)
    for one in done.undone(BEFORE, AFTER):
        message = f"{one.place}: the hardening undid {one.title}" + (f" ({one.detail})" if one.detail else "")
        emit(to, "note", message=message, level="warning")
    due = False
    if reboots and not reboot:
        asked = provision.run_stage(connection, Stage("reboot", tuple(reboots)), secrets=values, mode="check")
        due = asked.changed > 0
        if due:
            emit(to, "note", message=f"a reboot of {connection.endpoint.address} is due", level="warning")
    operations = tuple((stage.stage, result) for stage in done.stages for result in stage.operations)
    return Applied(architecture, operations, due)


def _without_reboot(stage: Stage) -> Stage:
    kept = tuple(bound for bound in stage.operations if not isinstance(bound.operation, Reboot))
    return Stage(stage.name, kept, stage.handlers)


def test(
    recipe: Recipe,
    environment: Environment,
    endpoint: SshEndpoint,
    secrets: Mapping[str, str],
    to: Emit,
    *,
    gate: Literal["builder", "image"],
    report_dir: Path,
    timeout: float,
    suites: Sequence[str] | None,
) -> TestReport:
    """Run the tests of a recipe on a host. A failed test raises no error. ``timeout``: seconds to connect. ``suites``:
    as in :func:`host_work.run_tests`."""
    validate.prepare()
    with ssh.connect(endpoint, timeout=timeout) as connection:
        architecture = architecture_of(recipe, connection)
        outputs = outputs_on(recipe, architecture, secrets, connection)
    return run_tests(
        recipe,
        environment,
        recipe.version,
        architecture,
        endpoint,
        gate=gate,
        report_dir=report_dir,
        emit=to,
        secrets=secrets,
        outputs=outputs,
        known=Known(made_here=False),
        suites=suites,
    )
