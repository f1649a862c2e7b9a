"""Checks: the value that a check reads on a host, and the expected value. No function here does input or output."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Literal

from goldenami import bounded
from goldenami.bounded import Budget

Kind = Literal["equals", "one of", "matches", "at least", "at most", "contains"]


@dataclass(frozen=True, slots=True)
class Expected:
    """The condition that a value must meet.

    ``values`` are texts. For "at least" and "at most" it is one whole number, for "matches" one regular expression for
    the whole value, and for "contains" the lines that the value must have.
    """

    kind: Kind
    values: tuple[str, ...]

    def holds(self, value: str) -> bool:
        """Whether a value (without white space at both ends) meets the condition. Raises TooMuch for a regular
        expression that takes too long."""
        match self.kind:
            case "equals" | "one of":
                return value in self.values
            case "matches":
                return bounded.matches(Budget(), self.values[0], value, re.DOTALL)
            case "contains":
                there = {" ".join(line.split()) for line in value.splitlines()}
                return all(" ".join(line.split()) in there for line in self.values)
            case _:
                if not re.fullmatch(r"-?[0-9]{1,100}", value):
                    return False
                bound, number = int(self.values[0]), int(value)
                return number >= bound if self.kind == "at least" else number <= bound

    def missing(self, value: str) -> tuple[str, ...]:
        """Return the expected lines that a value does not have, for "contains"."""
        there = {" ".join(line.split()) for line in value.splitlines()}
        return tuple(line for line in self.values if " ".join(line.split()) not in there)

    def __str__(self) -> str:
        match self.kind:
            case "equals":
                return repr(self.values[0]) if self.values[0] else "nothing"
            case "one of":
                return f"one of {', '.join(repr(v) for v in self.values)}"
            case "matches":
                return f"a text that matches {self.values[0]}"
            case "contains":
                return f"the lines {', '.join(repr(v) for v in self.values)}"
            case _:
                return f"{self.kind} {self.values[0]}"


@dataclass(frozen=True, slots=True)
class Check:
    """One value of the host and its condition.

    ``reads``: shell code that prints the value. Root runs it in the program of ``Batch``, and it can use the functions
    of that program. It changes nothing on the host.
    """

    reads: str
    expected: Expected

    def to_json(self) -> dict[str, Any]:
        return {"reads": self.reads, "kind": self.expected.kind, "values": list(self.expected.values)}

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Check:
        return cls(data["reads"], Expected(data["kind"], tuple(data["values"])))
