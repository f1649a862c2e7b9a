"""Gate 2: the final, encrypted image of the home region is booted, and the tests run on that."""

from __future__ import annotations

from goldenami import validate
from goldenami.model import TestReport
from goldenami.stages import candidate, hosts
from goldenami.stages.build import Build, Candidate, report_from_json, report_to_json


def boot_and_test(build: Build, made: Candidate, image_id: str) -> TestReport:
    """Launch an instance of the image and run the recipe's tests on it, and those that prove the sealing.

    Raises TestsFailed. An image that has passed in an earlier run is not booted again.
    """
    architecture = made.architecture
    record = f"proof/{architecture}"
    done = build.journal.stage(record)
    if done is not None and done["image_id"] == image_id:
        return report_from_json(done["report"])
    with build.stage("boot image", architecture):
        host = hosts.launch(build, architecture, "proof", image_id, None)
    with build.stage("test image", architecture):
        report = validate.run_suite(
            host.endpoint,
            (*candidate.tests(build), "sealed"),
            gate="image",
            architecture=architecture,
            report_dir=build.reports,
            emit=build.emit,
            variables=candidate.test_variables(build, architecture),
            traces=made.traces,
            secrets=tuple(build.secrets.values()),
            connect_timeout=build.recipe.builder[architecture].ssh_timeout,
            stop=build.stop,
        )
        validate.require(report)
    hosts.dispose(build, host)
    build.journal.stage_done(record, image_id=image_id, report=report_to_json(report))
    return report
