"""What the hardening undid fails gate 1, as a test of its own beside those of the controls."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from goldenami import recipe as recipes
from goldenami import validate
from goldenami.errors import TestsFailed
from goldenami.events import ignore_events
from goldenami.model import TestReport
from goldenami.provision import Drift
from goldenami.stages.host_work import CONTROLS, run_tests
from tests.worlds.builds import PROJECT

if TYPE_CHECKING:
    from tests.validate.conftest import Sshd

pytestmark = pytest.mark.root  # the checks of controls run as root

FILES = {
    "goldenami.yaml": PROJECT["goldenami.yaml"] + "    catalog: releases\n",
    "recipes/web.yaml": PROJECT["recipes/web.yaml"] + "hardening: {profiles: [own]}\n",
    "hardening/profiles/own.yaml": "{name: own, title: Own, os: debian, level: 1, files: [own]}\n",
    "hardening/controls/own.yaml": """
controls:
  - id: device
    title: A device
    why: It is wanted.
    operations: [{permissions: {path: /dev/null, files: "0666"}}]
    check: {reads: test -c /dev/null && echo yes, expected: "yes"}
""",
}
Gate = Callable[[str, Sequence[Drift] | None], TestReport]


@pytest.fixture
def gate(sshd: Sshd, tmp_path: Path) -> Gate:
    """Run the tests of the controls of a recipe at a gate, with what the hardening undid."""
    for name, text in FILES.items():
        path = tmp_path / "project" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    project = recipes.load_project(tmp_path / "project")
    environment = recipes.environment(project, "test")
    recipe = recipes.load(project, "web", environment)

    def run(gate: str, undone: Sequence[Drift] | None) -> TestReport:
        return run_tests(
            recipe,
            environment,
            "1.0.20261124.1",
            "x86_64",
            sshd.endpoint,
            gate=gate,
            report_dir=tmp_path / gate,
            emit=ignore_events,
            secrets={},
            outputs={},
            undone=undone,
            suites=[CONTROLS.label],
        )

    return run


def test_what_the_hardening_undid_fails_the_gate(gate: Gate) -> None:
    undone = [
        Drift("file /etc/app.conf", "recipes/web.yaml:7:5", "mode is 600"),
        Drift("service app", "recipes/web.yaml:9:5", ""),
    ]
    report = gate("builder", undone)
    assert (report.passed, report.failed) == (1, 1)
    with pytest.raises(TestsFailed) as caught:
        validate.require(report)
    lines = [line.strip() for line in caught.value.message.splitlines()]
    assert "1 of 2 tests failed at gate builder (x86_64)" in lines[0]
    assert "recipes/web.yaml:7:5: file /etc/app.conf (mode is 600)" in lines
    assert "recipes/web.yaml:9:5: service app" in lines
    assert "hardening.waivers" in caught.value.message
    assert [(c.control, c.outcome) for c in report.controls] == [("device", "passed")]


@pytest.mark.parametrize(("name", "undone", "results"), [("builder", [], (2, 0)), ("image", None, (1, 1))])
def test_nothing_undone_passes_and_the_image_has_nothing_to_compare(
    gate: Gate, name: str, undone: Sequence[Drift] | None, results: tuple[int, int]
) -> None:
    report = gate(name, undone)
    validate.require(report)
    assert (report.passed, report.skipped) == results
