"""The result of each control, collected from the events of the tests."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from goldenami.events import Emit, Event
from goldenami.hardening.control import Hardening
from goldenami.model import ControlResult

AFTER_BOOT = "takes effect after a reboot, so it is checked on the image only"
"""The reason why a control is not checked on a builder."""

Outcome = Literal["passed", "failed", "not-applicable", "not-run"]

NOT_RUN: Outcome = "not-run"
_PREFIX = "hardening::test_control["
_OUTCOMES: dict[str, Outcome] = {
    "passed": "passed",
    "flaky": "passed",
    "failed": "failed",
    "skipped": "not-applicable",
}


@dataclass
class Collector:
    """Forwards every event, and stores the (outcome, message) of the test of each control by the id of the control."""

    emit: Emit
    ended: dict[str, tuple[Outcome, str]] = field(default_factory=dict)

    def __call__(self, event: Event) -> None:
        name = str(event.fields.get("name") or "")
        if event.kind == "test.finished" and name.startswith(_PREFIX):
            message = str(event.fields.get("message") or "")
            outcome = "not-run" if message == AFTER_BOOT else _OUTCOMES[str(event.fields["outcome"])]
            self.ended[name.removeprefix(_PREFIX).removesuffix("]")] = (outcome, message)
        self.emit(event)


def results(hardening: Hardening, ended: Mapping[str, tuple[Outcome, str]]) -> tuple[ControlResult, ...]:
    """Return one result for each control, including the waived ones, sorted by id.

    A control whose test did not finish is "not-run", since an interrupted run proves nothing.
    """
    collected = []
    for control in hardening.controls:
        outcome, message = ended.get(control.id, (NOT_RUN, ""))
        if outcome == "passed":
            message = ""
        collected.append(ControlResult(control.id, outcome, message))
    for waiver in hardening.waivers:
        collected.append(ControlResult(waiver.control, "waived", waiver.reason, waiver.expires.isoformat()))
    return tuple(sorted(collected, key=lambda result: result.control))
