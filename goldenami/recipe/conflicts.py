"""Finds controls that undo what the recipe's own software and agents do.

Hardening runs after ``software``. So a control that removes a package of the recipe would win, and the image would be
released without it. Only contradictions that the recipe itself shows are found here, such as one package that is both
installed and removed. After the hardening a builder checks all of ``agents`` and ``software`` again
(``provision.Recheck``), which finds the others.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from goldenami.hardening import Control
from goldenami.model import Mark
from goldenami.provision import BoundOperation, Stage
from goldenami.recipe.problems import Problems
from goldenami.recipe.secrets import display


@dataclass(frozen=True, slots=True)
class Claim:
    """What an operation requires of the host. ``control``: that of the operation, if it is one of a control."""

    value: str
    bound: BoundOperation
    control: Control | None = None


def claims_of(controls: Iterable[Control]) -> Mapping[str, Claim]:
    """Return the claims of controls by name. A control whose ``applies`` only the host can answer is left out."""
    return _claims((bound, control) for control in controls if not control.applies for bound in control.operations)


def check_conflicts(problems: Problems, software: Iterable[Stage], forced: Mapping[str, Claim]) -> None:
    """Report each operation of ``software`` that a control undoes, with the place of both. ``forced``: the claims of
    the controls."""
    wanted = _claims((bound, None) for stage in software for bound in stage.operations)
    found: dict[tuple[Mark, str], list[tuple[str, Claim, Claim]]] = {}
    for name, claim in wanted.items():
        other = forced.get(name)
        if other is not None and other.value != claim.value and other.control is not None:
            found.setdefault((claim.bound.mark, other.control.id), []).append((name, claim, other))
    for group in found.values():
        _report(problems, group)


def _claims(operations: Iterable[tuple[BoundOperation, Control | None]]) -> dict[str, Claim]:
    """Return the claims by name. A later operation replaces the claim of an earlier one, as it does on the host."""
    return {name: Claim(value, bound, control) for bound, control in operations for name, value in bound.claims.items()}


def _report(problems: Problems, group: list[tuple[str, Claim, Claim]]) -> None:
    _, claim, other = group[0]
    control = other.control
    assert control is not None
    what = "; ".join(_difference(name, claim.value, other.value) for name, claim, other in group)
    message = f"{claim.bound.label}: the control {control.id} ({other.bound.mark}) undoes it ({what})"
    waiver = f'{control.id}: {{reason: "…", expires: YYYY-MM-DD}}'
    hint = f"Add `{waiver}` under hardening.waivers, or remove the operation."
    lists = _variables(control.site, [name.partition(" ")[2] for name, _, _ in group])
    if lists:
        hint = f"Set the variable {lists[0]} under hardening.variables without it. Or: {hint[0].lower()}{hint[1:]}"
    problems.add_once(claim.bound.mark, message, hint)


def _variables(site: Mapping[str, object], names: list[str]) -> list[str]:
    """Return the site variables that are lists with all of these names: they are narrower than a waiver."""
    return [key for key, value in site.items() if isinstance(value, list) and all(name in value for name in names)]


def _difference(name: str, here: str, there: str) -> str:
    if here.startswith("contents ") and there.startswith("contents "):
        return f"{name}: other contents there"  # the claims have digests, which nobody can read
    return f"{name}: {_shown(here)} here, {_shown(there)} there"


def _shown(value: str) -> str:
    return "contents" if value.startswith("contents ") else display(value)
