"""What became of each control, gathered from the tests that proved them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from goldenami.events import Emit, Event
from goldenami.hardening.control import Hardening
from goldenami.model import ControlResult

AFTER_BOOT = "holds once the host has booted again: proven on the image"
"""Why a control is not proven on a builder."""

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
    """An Emit that passes every event on, and keeps how the tests of controls ended: (outcome, message) by control."""

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
    """One result for each control of the set, the waived ones included, by id. A control that no test ended for is
    "not-run": a run that broke off proves nothing."""
    found = []
    for control in hardening.controls:
        outcome, message = ended.get(control.id, (NOT_RUN, ""))
        if outcome == "passed":
            message = ""
        found.append(ControlResult(control.id, outcome, message))
    for waiver in hardening.waivers:
        found.append(ControlResult(waiver.control, "waived", waiver.reason, waiver.expires.isoformat()))
    return tuple(sorted(found, key=lambda result: result.control))
