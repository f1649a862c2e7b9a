"""Tests an image on a fresh instance: launches it, runs the tests of a recipe, and deletes everything again.

It is a task with a journal, as all work that creates something: ``goldenami clean ID`` deletes what a killed process
leaves, and the instance powers itself off after its lifetime.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

from goldenami import reconcile, validate
from goldenami.aws import images, journals
from goldenami.aws.session import Cloud
from goldenami.each import Failures
from goldenami.errors import GoldenAmiError
from goldenami.events import masked
from goldenami.model import Architecture, Place, TestReport
from goldenami.planning import BuildPlan, Facts
from goldenami.recipe import Recipe
from goldenami.stages import hosts, transports
from goldenami.stages.build import BuildContext, Host
from goldenami.stages.host_work import (
    REBOOT,
    Known,
    SshHostWork,
    prepare_gate,
    reboot_gate,
    recipe_suites,
    run_gate,
)
from goldenami.stages.opening import reports_of, secrets_of
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
    place: Place | None = None,
    known: Known | None = None,
    suites: Sequence[str] | None = None,
    reboot: bool = False,
    in_group: bool = False,
    on_instance: OnInstance | None = None,
) -> tuple[TestReport, ...]:
    """Run the tests of a recipe on a fresh instance of an image, inside a task. Returns a report for each run.

    A failed test raises no error. A lost instance is replaced. ``outputs``: of the scripts of the build. ``place``:
    where the instance is launched, with the role of its account; None: the home account and region. ``known``,
    ``suites``: as in :func:`host_work.run_tests`. ``reboot``: reboot it after the tests, and run tests again.
    ``in_group``: an Auto Scaling group launches the instance, with its service-linked role. The
    instance and its keys are deleted at the end, whatever happens. ``on_instance`` replaces SSH, for callers without
    hosts.
    """
    environment, secrets = job.environment, secrets_of(recipe, job.cloud)
    events = journals.open_journals(environment, job.cloud).storage.events(job.id)
    with (
        events.recording(job.emit) as to,
        transports.opened(environment, job.cloud, place) as transport,
        validate.ending_prepared(reports_of(job.journal)),
    ):
        transport.start()
        build = BuildContext(
            plan=BuildPlan(recipe, environment, Facts({}, {}), ""),
            environment=environment,
            ledger=job.ledger,
            version=version,
            reports=reports_of(job.journal),
            emit=masked(to, tuple(secrets.values())),
            stop=job.interrupts.stop,
            host_work=SshHostWork(),
            transport=transport,
            secrets=secrets,
        )

        wanted = _with_reboot(recipe, suites) if reboot else suites

        def once(spot: bool) -> tuple[TestReport, ...]:
            if on_instance is None:
                prepare_gate(build, architecture, gate="image", suites=wanted)
            with build.stage("boot image", architecture):
                host = hosts.launch(
                    build,
                    architecture,
                    "proof",
                    image_id,
                    None,
                    kept_devices=_kept_devices(job.cloud, place or environment.home_place, image_id),
                    spot=spot,
                    place=place,
                    in_group=in_group,
                )
            if on_instance is not None:
                reports: tuple[TestReport, ...] = (on_instance(build, architecture, host, outputs),)
            else:
                fresh = replace(known or Known(), fresh=True)
                reports = _over_ssh(build, architecture, host, outputs, fresh, wanted, reboot)
            if not in_group:  # the group ends its instances itself, and the clean-up waits for them
                with Failures[str]().of(host.instance_id):  # the clean-up tries again, and tells what is left
                    hosts.dispose(build, host)
            return reports

        reports = on_a_host(build, architecture, "proof", once)
        if place not in (None, environment.home_place):
            reports = tuple(replace(report, place=str(place)) for report in reports)
        with build.stage("clean up"):
            done = reconcile.delete_all(job.cloud, job.journal, job.ledger.proofs, emit=to)
        if not done.complete:
            left = ", ".join([*done.left, *done.unreachable])
            raise GoldenAmiError(f"the tests ended, but not everything could be deleted: {left}")
        return reports


def _kept_devices(cloud: Cloud, place: Place, image_id: str) -> tuple[str, ...]:
    """Return the devices of an image whose volumes outlive its instances. The image may be anybody's."""
    image = images.describe_many(cloud, place, [image_id]).get(image_id)
    devices = images.base_image(image, "").devices if image is not None else ()
    return tuple(device.device_name for device in devices if not device.delete_on_termination)


def _with_reboot(recipe: Recipe, suites: Sequence[str] | None) -> Sequence[str] | None:
    """Return the suites with that of the reboot. None: all of the recipe, which has it."""
    if suites is None:
        return None if recipe.has_suite(REBOOT) else (*recipe_suites(recipe), REBOOT)
    return (*suites, REBOOT)


def _over_ssh(
    build: BuildContext,
    architecture: Architecture,
    host: Host,
    outputs: Mapping[str, str],
    known: Known,
    suites: Sequence[str] | None,
    reboot: bool,
) -> tuple[TestReport, ...]:
    options: dict[str, Any] = {"outputs": outputs, "suites": suites, "required": False}
    first = run_gate(build, architecture, host, gate="image", known=known, **options)
    if not reboot:
        return (first,)
    before = replace(known, running=first.facts.get("running", {}))
    return first, reboot_gate(build, architecture, host, known=before, **options)
