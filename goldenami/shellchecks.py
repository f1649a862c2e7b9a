"""Files of shell checks, ``*.checks``: a name, a script for sh and its exit status, in the form of bats::

    # goldenami: reads
    @test "nginx answers" {
      curl -fsS http://localhost/ >/dev/null
    }

A check passes if no command of it fails (``sh -e``). Lines outside of checks, for example functions, belong to every
check. ``}`` alone at the start of a line ends a check. A comment ``# goldenami:`` directly before a check has its
options, separated by commas: ``root``, ``reads``, ``alone``, ``gate=image``, ``retry=5``. Two functions are there:
``run COMMAND…`` never fails, and sets ``$status`` and ``$output``; ``skip REASON`` skips the check.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

SUFFIX = ".checks"
SKIPPED = 77  # the exit status of ``skip``
_GATES = ("builder", "image")
_TEST = re.compile(r"""@test\s+(?P<quote>["'])(?P<name>[^"']+)(?P=quote)\s*\{\s*""")
_OPTIONS = re.compile(r"#\s*goldenami:(?P<options>.*)")
# In front of the first line, so that the numbers of lines in the messages of sh are those of the file.
_FUNCTIONS = (
    'run() { if output=$("$@" 2>&1); then status=0; else status=$?; fi; }; '
    f'skip() {{ printf "%s\\n" "$*"; exit {SKIPPED}; }}; '
)


class InvalidCheckError(ValueError):
    """A file of shell checks is not in the form that is expected. ``line`` counts from 1."""

    def __init__(self, line: int, message: str, hint: str) -> None:
        super().__init__(message)
        self.line = line
        self.hint = hint


@dataclass(frozen=True, slots=True)
class ShellCheck:
    """One check. ``line``: of its name, from 1. ``script``: for ``sh -e``."""

    name: str
    line: int
    script: str
    is_root: bool = False
    is_reading: bool = False
    is_alone: bool = False
    gate: str = ""
    retries: int | None = None


def parse(text: str) -> tuple[ShellCheck, ...]:
    """Return the checks of a file, in their order. Raises InvalidCheckError."""
    lines = text.split("\n")
    bodies: list[tuple[int, int, str, str]] = []  # first and last line from 0, name, options
    start, name, options = -1, "", ""
    for number, line in enumerate(lines):
        match = _TEST.fullmatch(line.rstrip("\r"))
        if line.startswith("@test"):
            if match is None:
                raise InvalidCheckError(
                    number + 1, 'expected @test "NAME" {', "The { ends the line; NAME has no quotes."
                )
            if start >= 0:
                raise InvalidCheckError(start + 1, f"the check {name!r} has no end", "Write } alone on a line.")
            before = _OPTIONS.fullmatch(lines[number - 1].strip()) if number else None
            start, name, options = number, match["name"], before["options"] if before else ""
        elif start >= 0 and line.rstrip() == "}":
            bodies.append((start, number, name, options))
            start = -1
    if start >= 0:
        raise InvalidCheckError(start + 1, f"the check {name!r} has no end", "Write } alone on a line.")
    inside = {number for first, last, _, _ in bodies for number in range(first, last + 1)}
    common = ["" if number in inside else line for number, line in enumerate(lines)]
    found: dict[str, ShellCheck] = {}
    for first, last, name, options in bodies:
        if name in found:
            raise InvalidCheckError(first + 1, f"two checks have the name {name!r}", f"See line {found[name].line}.")
        script = [*common[:first], "", *lines[first + 1 : last], ""]
        # What stands below a check belongs to it as well, so it comes first, without the lines of the script.
        below = [line for line in common[last + 1 :] if line.strip() and not line.lstrip().startswith("#")]
        if below:
            raise InvalidCheckError(
                common.index(below[0], last + 1) + 1,
                "a line below a check belongs to no check",
                "Put functions and variables before the first check.",
            )
        found[name] = _with_options(ShellCheck(name, first + 1, _FUNCTIONS + "\n".join(script)), first, options)
    return tuple(found.values())


def _with_options(check: ShellCheck, line: int, options: str) -> ShellCheck:
    values: dict[str, object] = {}
    for option in filter(None, (part.strip() for part in options.split(","))):
        key, _, value = option.partition("=")
        if option in ("root", "reads", "alone"):
            values[{"root": "is_root", "reads": "is_reading", "alone": "is_alone"}[option]] = True
        elif key == "gate" and value in _GATES:
            values["gate"] = value
        elif key == "retry" and re.fullmatch(r"\d{1,3}", value):
            values["retries"] = int(value)
        else:
            known = "root, reads, alone, gate=builder, gate=image, retry=NUMBER"
            raise InvalidCheckError(line, f"unknown option {option!r}", f"Known options: {known}.")
    fields = {name: getattr(check, name) for name in check.__dataclass_fields__}
    return ShellCheck(**{**fields, **values})
