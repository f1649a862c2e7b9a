"""Tests an image on a fresh instance: launches it, runs the tests of a recipe, and deletes everything again.

It is a task with a journal, as all work that creates something: ``goldenami clean ID`` deletes what a killed process
leaves, and the instance powers itself off after its lifetime.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from goldenami import reconcile
from goldenami.aws import journals
from goldenami.errors import GoldenAmiError
from goldenami.events import masked
from goldenami.model import Architecture, TestReport
from goldenami.planning import BuildPlan, Facts
from goldenami.recipe import Recipe
from goldenami.stages import hosts, transports
from goldenami.stages.build import BuildContext, Host
from goldenami.stages.host_work import SshHostWork, run_gate
from goldenami.stages.opening import secrets_of
from goldenami.stages.replacing import on_a_host
from goldenami.task import Task

KIND: Final = "test"  # of the task

OnInstance = Callable[[BuildContext, Architecture, Host, Mapping[str, str]], TestReport]


def run(
    job: Task,
    recipe: Recipe,
    version: str,
    architecture: Architecture,
    image_id: str,
    *,
    outputs: Mapping[str, str],
    on_instance: OnInstance | None = None,
) -> TestReport:
    """Run the tests of a recipe on a fresh instance of an image in the home region, inside a task.

    A failed test raises no error. A lost instance is replaced. ``outputs``: of the scripts of the build. The instance
    and its keys are deleted at the end, whatever happens. ``on_instance`` replaces SSH, for callers without hosts.
    """
    environment, secrets = job.environment, secrets_of(recipe, job.cloud)
    events = journals.open_journals(environment, job.cloud).storage.events(job.id)
    with (
        events.recording(job.emit) as to,
        transports.opened(environment, job.cloud) as transport,
    ):
        transport.start()
        build = BuildContext(
            plan=BuildPlan(recipe, environment, Facts({}, {}), ""),
            environment=environment,
            ledger=job.ledger,
            version=version,
            reports=job.journal.directory / "reports",
            emit=masked(to, tuple(secrets.values())),
            stop=job.interrupts.stop,
            host_work=SshHostWork(),
            transport=transport,
            secrets=secrets,
        )

        def once(spot: bool) -> TestReport:
            with build.stage("boot image", architecture):
                host = hosts.launch(build, architecture, "proof", image_id, None, spot=spot)
            return (on_instance or _over_ssh)(build, architecture, host, outputs)

        report = on_a_host(build, architecture, "proof", once)
        with build.stage("clean up"):
            done = reconcile.delete_all(job.cloud, job.journal, job.ledger.proofs, emit=to)
        if not done.complete:
            left = ", ".join([*done.left, *done.unreachable])
            raise GoldenAmiError(f"the tests ended, but not everything could be deleted: {left}")
        return report


def _over_ssh(build: BuildContext, architecture: Architecture, host: Host, outputs: Mapping[str, str]) -> TestReport:
    return run_gate(build, architecture, host, gate="image", outputs=outputs, required=False)
