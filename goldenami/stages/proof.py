"""Gate 2: boots the final, encrypted image and runs the tests on it: in the home account and region, and where
``distribution.prove`` says.

The instances of other places are launched by the role of their account, from the image that consumers there get: the
copy of the target, or the image that is shared with it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from goldenami.each import all_of
from goldenami.events import Emit, Event
from goldenami.model import Architecture, Target, TestReport
from goldenami.planning import kept_devices, proved_elsewhere
from goldenami.release.catalog import Catalog
from goldenami.release.distribute import Placed
from goldenami.release.targets import home_label
from goldenami.stages import hosts, transports
from goldenami.stages.build import BuildContext, Candidate, report_from_json, report_to_json
from goldenami.stages.replacing import on_a_host


def boot_and_test(
    build: BuildContext,
    made: Candidate,
    image_id: str,
    target: Target | None = None,
    *,
    access: hosts.Access | None = None,
) -> tuple[TestReport, ...]:
    """Launch an instance of the image and run the recipe's tests and the tests of the sealing on it. With the suite
    reboot, reboot it and run tests again. Returns a report for each run. ``target``: where; None: home. The transport
    of the build must be for the same place. ``access``: what ``hosts.prepare`` returned for the instance.

    Raises TestsFailed if a test failed. A lost instance is replaced, and its results do not count. An image that passed
    in an earlier run is not booted again.
    """
    architecture = made.architecture
    record = f"proof/{architecture}" + (f"@{target.place}" if target is not None else "")
    label = target.label if target is not None else home_label(build.home.region)
    done = build.journal.stage(record)
    if done is not None and done["image_id"] == image_id:
        return tuple(map(report_from_json, done.get("reports") or [done["report"]]))

    def once(spot: bool) -> tuple[TestReport, ...]:
        with build.stage("boot image", architecture):
            kept = kept_devices(build.recipe, build.plan.facts.base[architecture])
            host = hosts.launch(
                build,
                architecture,
                "proof",
                image_id,
                None,
                image_key=build.plan.facts.kms_keys.get(label),
                kept_devices=kept,
                spot=spot,
                place=target.place if target is not None else None,
                access=access,
            )
        reports = [build.host_work.prove(build, made, host)]
        if build.recipe.has_suite("reboot"):
            reports.append(build.host_work.prove_reboot(build, made, host, reports[0]))
        # Nothing waits for it. The clean-up tries again, and tells what is left.
        build.asides.start(partial(hosts.dispose, build, host))
        return tuple(reports)

    reports = on_a_host(build, architecture, "proof", once)
    if target is not None:
        reports = tuple(replace(report, place=target.label) for report in reports)
    build.journal.stage_done(record, image_id=image_id, reports=[*map(report_to_json, reports)])
    return reports


def boot_at_home(
    build: BuildContext, candidates: Sequence[Candidate], home_image: Callable[[Architecture], str]
) -> list[TestReport]:
    """Boot and test the images of the home account and region, all architectures at the same time. ``home_image``:
    waits for an image; what its instance needs is made meanwhile. Raises the first failure."""

    def prove(one: Candidate) -> tuple[TestReport, ...]:
        is_done = build.journal.stage(f"proof/{one.architecture}") is not None
        access = hosts.prepare(build, one.architecture, "proof") if not is_done else None
        return boot_and_test(build, one, home_image(one.architecture), access=access)

    return [report for reports in all_of(candidates, prove) for report in reports]


def boot_elsewhere(build: BuildContext, candidates: Sequence[Candidate], placed: Sequence[Placed]) -> list[TestReport]:
    """Boot and test the images in the other places of ``distribution.prove``, several at a time. A target without an
    image is left out: it is not released either. Raises TestsFailed if a test failed in one of them."""
    made = {one.architecture: one for one in candidates}
    chosen = {target.label for target in proved_elsewhere(build.recipe, build.home, build.plan.targets)}

    def prove(one: Placed) -> tuple[TestReport, ...]:
        label = one.target.label
        with transports.opened(build.environment, build.cloud, one.target.place) as transport:
            transport.start()
            there = replace(build, transport=transport, emit=_within(label, build.emit), reports=build.reports / label)
            return boot_and_test(there, made[one.architecture], one.image_id, one.target)

    found = all_of([one for one in placed if one.target.label in chosen], prove)
    return [report for reports in found for report in reports]


def _within(label: str, to: Emit) -> Emit:
    """Return an Emit that names the place in the stages and gates of events: several places report at the same time."""

    def emit(event: Event) -> None:
        named = {key: f"{event.fields[key]} in {label}" for key in ("stage", "gate") if key in event.fields}
        to(Event(event.kind, {**event.fields, **named}))

    return emit


def earlier_facts(build: BuildContext, catalog: Catalog) -> dict[Architecture, dict[str, Any]]:
    """Return what the tests of the last release recorded at gate 2, for the suites that compare with it."""
    if not build.recipe.has_suite("performance"):
        return {}
    versions = catalog.versions(build.recipe.name)
    usable = (v for v in versions if catalog.marks.why_unusable(build.recipe.name, v) is None)
    last = next(usable, None)
    if last is None:
        return {}
    reports = catalog.get(build.recipe.name, last).tests
    return {one.architecture: dict(one.facts) for one in reports if one.gate == "image" and not one.place}
