"""Gate 2: boots the final, encrypted image in the home region and runs the tests on it."""

from __future__ import annotations

from typing import Any

from goldenami.model import Architecture, TestReport
from goldenami.planning import kept_devices
from goldenami.release.catalog import Catalog
from goldenami.release.targets import home_label
from goldenami.stages import hosts
from goldenami.stages.build import BuildContext, Candidate, report_from_json, report_to_json
from goldenami.stages.replacing import on_a_host


def boot_and_test(build: BuildContext, made: Candidate, image_id: str) -> tuple[TestReport, ...]:
    """Launch an instance of the image and run the recipe's tests and the tests of the sealing on it. With the suite
    reboot, reboot it and run tests again. Returns a report for each run.

    Raises TestsFailed if a test failed. A lost instance is replaced, and its results do not count. An image that passed
    in an earlier run is not booted again.
    """
    architecture = made.architecture
    record = f"proof/{architecture}"
    done = build.journal.stage(record)
    if done is not None and done["image_id"] == image_id:
        return tuple(map(report_from_json, done.get("reports") or [done["report"]]))

    def once(spot: bool) -> tuple[TestReport, ...]:
        with build.stage("boot image", architecture):
            kept = kept_devices(build.recipe, build.plan.facts.base[architecture])
            key = home_key(build)
            host = hosts.launch(
                build, architecture, "proof", image_id, None, image_key=key, kept_devices=kept, spot=spot
            )
        reports = [build.host_work.prove(build, made, host)]
        if build.recipe.has_suite("reboot"):
            reports.append(build.host_work.prove_reboot(build, made, host, reports[0]))
        hosts.dispose(build, host)
        return tuple(reports)

    reports = on_a_host(build, architecture, "proof", once)
    build.journal.stage_done(record, image_id=image_id, reports=[*map(report_to_json, reports)])
    return reports


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


def home_key(build: BuildContext) -> str | None:
    """Return the ARN of the key of the images in the home account and region."""
    return build.plan.facts.kms_keys.get(home_label(build.home.region))
