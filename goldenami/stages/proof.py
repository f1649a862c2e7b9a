"""Gate 2: boots the final, encrypted image in the home region and runs the tests on it."""

from __future__ import annotations

from goldenami.model import TestReport
from goldenami.planning import kept_devices
from goldenami.release.targets import home_label
from goldenami.stages import hosts
from goldenami.stages.build import BuildContext, Candidate, report_from_json, report_to_json
from goldenami.stages.replacing import on_a_host


def boot_and_test(build: BuildContext, made: Candidate, image_id: str) -> TestReport:
    """Launch an instance of the image and run the recipe's tests and the tests of the sealing on it.

    Raises TestsFailed if a test failed. A lost instance is replaced, and its results do not count. An image that passed
    in an earlier run is not booted again.
    """
    architecture = made.architecture
    record = f"proof/{architecture}"
    done = build.journal.stage(record)
    if done is not None and done["image_id"] == image_id:
        return report_from_json(done["report"])

    def once(spot: bool) -> TestReport:
        with build.stage("boot image", architecture):
            kept = kept_devices(build.recipe, build.plan.facts.base[architecture])
            key = home_key(build)
            host = hosts.launch(
                build, architecture, "proof", image_id, None, image_key=key, kept_devices=kept, spot=spot
            )
        report = build.host_work.prove(build, made, host)
        hosts.dispose(build, host)
        return report

    report = on_a_host(build, architecture, "proof", once)
    build.journal.stage_done(record, image_id=image_id, report=report_to_json(report))
    return report


def home_key(build: BuildContext) -> str | None:
    """Return the ARN of the key of the images in the home account and region."""
    return build.plan.facts.kms_keys.get(home_label(build.home.region))
