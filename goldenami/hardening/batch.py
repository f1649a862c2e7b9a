"""The checks of many controls as one shell program that runs over one connection, and the parser of its output.

::

    batch = Batch.of(controls)
    values = batch.values(connection.run(batch.command, stdin=batch.program).stdout)
    check_control(subject, values)

This needs one or two round trips for any number of controls. The program changes nothing on the host.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, Literal

from goldenami.bounded import TooMuch
from goldenami.hardening.checks import Check
from goldenami.hardening.control import Control
from goldenami.os import MANAGERS
from goldenami.provision.shell import quote

COMMAND_SECONDS = 110
_VALUE_CHARACTERS = 1 << 16  # the longest value that is kept; the rest is cut off


@dataclass(frozen=True, slots=True)
class Subject:
    """The parts of a control that its checks need, in a form that can be written as JSON."""

    id: str
    title: str
    place: str
    checks: tuple[Check, ...]
    applies: str = ""
    otherwise: str = ""
    reboot: bool = False

    @classmethod
    def of(cls, control: Control) -> Subject:
        place = str(control.mark)
        return cls(control.id, control.title, place, control.checks, control.applies, control.otherwise, control.reboot)

    def to_json(self) -> dict[str, Any]:
        return {
            "id": self.id,
            "title": self.title,
            "place": self.place,
            "checks": [check.to_json() for check in self.checks],
            "applies": self.applies,
            "otherwise": self.otherwise,
            "reboot": self.reboot,
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Subject:
        return cls(**{**data, "checks": tuple(Check.from_json(check) for check in data["checks"])})


@dataclass(frozen=True, slots=True)
class Reading:
    """The value that one check read. ``error``: the reason if its code failed and printed no value."""

    value: str
    error: str = ""


@dataclass(frozen=True, slots=True)
class Values:
    """The values that one run of the program read.

    ``readings``: by the id of the control and the number of the check. ``inapplicable``: ids of controls that do not
    apply to the host.
    """

    readings: Mapping[tuple[str, int], Reading]
    inapplicable: frozenset[str]


@dataclass(frozen=True, slots=True)
class CheckResult:
    """The result of the checks of one control. ``message``: why the control failed or is not applicable."""

    outcome: Literal["passed", "failed", "not-applicable"]
    message: str = ""
    value: str = ""
    expected: str = ""


@dataclass(frozen=True, slots=True)
class Batch:
    """The checks of ``subjects`` as one program. ``mark``: a random word that separates the values."""

    subjects: tuple[Subject, ...]
    mark: str = field(default_factory=lambda: f"goldenami-{secrets.token_hex(8)}")

    @classmethod
    def of(cls, controls: Iterable[Control]) -> Batch:
        return cls(tuple(Subject.of(control) for control in controls))

    @property
    def command(self) -> str:
        """The command that reads the program from its stdin and runs it, as root or with sudo."""
        shell = f"timeout {COMMAND_SECONDS} sh -s {self.mark}"
        return f'if [ "$(id -u)" = 0 ]; then {shell}; else sudo -n {shell}; fi'

    @property
    def program(self) -> bytes:
        parts = ["main() {", _prelude()]
        for number, subject in enumerate(self.subjects):
            functions = "\n".join(
                f"check_{number}_{index}() {{\n{check.reads}\n}}" for index, check in enumerate(subject.checks)
            )
            calls = "\n".join(
                f"read_value {number} {index} check_{number}_{index}" for index in range(len(subject.checks))
            )
            if subject.applies:
                # The condition runs in a separate shell, as the condition of the operations does.
                calls = f"if (sh -c {quote(subject.applies).text}) >/dev/null 2>&1; then\n{calls}\n"
                calls += f"else inapplicable {number}; fi"
            parts += [functions, calls]
        # The program is one function, so the shell reads all of it first. A check that reads stdin cannot consume it.
        parts += [f"printf '\\n%s complete\\n' {self.mark}", "}", 'main "$@"', "exit"]
        return ("\n".join(parts) + "\n").encode()

    def values(self, output: bytes) -> Values:
        """Parse the output of the program. Raises ValueError if the program did not run to its end."""
        readings: dict[tuple[str, int], Reading] = {}
        inapplicable: set[str] = set()
        complete = False
        text = output.decode(errors="replace")
        pieces = re.split(rf"\n{self.mark} (value|end|inapplicable|complete)([ 0-9]*)(?:\n|$)", text)
        current: tuple[str, int] | None = None
        for word, numbers, body in zip(pieces[1::3], pieces[2::3], pieces[3::3], strict=True):
            arguments = [int(number) for number in numbers.split()]
            if word == "value":
                current = (self.subjects[arguments[0]].id, arguments[1])
                readings[current] = Reading(body.strip()[:_VALUE_CHARACTERS])
            elif word == "end" and current is not None:
                if arguments[0] != 0 and not readings[current].value:
                    readings[current] = Reading("", body.strip() or f"exit status {arguments[0]}")
            elif word == "inapplicable":
                inapplicable.add(self.subjects[arguments[0]].id)
            elif word == "complete":
                complete = True
        if not complete:
            last = current[0] if current else "the first control"
            raise ValueError(f"reading the values ended early, at {last}")
        return Values(readings, frozenset(inapplicable))

    def to_json(self) -> dict[str, Any]:
        return {"mark": self.mark, "controls": [subject.to_json() for subject in self.subjects]}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Batch:
        return cls(tuple(Subject.from_json(subject) for subject in data["controls"]), data["mark"])


def check_control(subject: Subject, values: Values) -> CheckResult:
    """Compare the values of a host with those that a control expects. The message is about the first failed check."""
    if subject.id in values.inapplicable:
        return CheckResult("not-applicable", subject.otherwise)
    for index, check in enumerate(subject.checks):
        reading = values.readings[subject.id, index]
        try:
            if not reading.error and check.expected.holds(reading.value):
                continue
        except TooMuch as error:
            return CheckResult("failed", f"{subject.id}: the comparison with the host's value needs more than {error}")
        value, expected = reading.value, str(check.expected)
        if check.expected.kind == "contains" and not reading.error:
            missing, count = check.expected.missing(value), len(check.expected.values)
            message = (
                f"{subject.id}: the host's value lacks {len(missing)} of {count} lines; expected: {_listed(missing)}"
            )
        else:
            shown = f"could not be read ({reading.error})" if reading.error else f"is {_shown(value)}"
            message = f"{subject.id}: the host's value {shown}; expected: {expected}"
        return CheckResult("failed", message, value or reading.error, expected)
    return CheckResult("passed")


def _shown(value: str) -> str:
    return repr(value if len(value) <= 300 else value[:297] + "…") if value else "empty"


def _listed(values: Sequence[str]) -> str:
    more = f" and {len(values) - 5} more" if len(values) > 5 else ""
    return ", ".join(repr(value) for value in values[:5]) + more


@cache
def _prelude() -> str:
    """Return the shell functions for checks, and ``is_installed NAME``, which queries the host's package manager."""
    managers = "".join(f"if {m.detect.text}; then {m.is_installed.text}; return; fi\n" for m in MANAGERS.values())
    return Path(__file__).with_name("prelude.sh").read_text() + f"\nis_installed() {{\n{managers}return 1\n}}\n"
