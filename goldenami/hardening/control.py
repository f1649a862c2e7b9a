"""A control, a set of them with its waivers, and the stages that bring a set about. Pure."""

from __future__ import annotations

import datetime
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal

from pydantic import SerializeAsAny

from goldenami.hardening.checks import Check
from goldenami.model import Mark
from goldenami.provision import BoundOperation, Handler, Operation, Stage
from goldenami.provision.shell import Compilation, Steps, lines, sh


@dataclass(frozen=True, slots=True)
class Control:
    """One hardening rule.

    ``applies``: shell code; where it fails the control is not applicable, for the reason ``otherwise``. Empty: always.
    ``reboot``: it holds only once the host has booted again. ``last``: its operations come after those of the others,
    since they look at what is there; "of-all": after those, too. ``exclusive``: the group of which one control at most
    can be chosen.
    """

    id: str
    title: str
    why: str
    level: int
    references: tuple[str, ...]
    operations: tuple[BoundOperation, ...]
    handlers: tuple[Handler, ...]
    checks: tuple[Check, ...]
    mark: Mark
    applies: str = ""
    otherwise: str = ""
    reboot: bool = False
    last: Literal[False, True, "of-all"] = False
    exclusive: str = ""


@dataclass(frozen=True, slots=True)
class Waiver:
    """A control that a recipe does without: its operations are not applied, and its check is not asked."""

    control: str
    title: str
    reason: str
    expires: datetime.date  # the last day on which it holds


@dataclass(frozen=True, slots=True)
class Hardening:
    """What a recipe's section ``hardening`` comes to. ``systems``: the ids of the systems that it is for. ``controls``:
    in order, without those that are waived.
    """

    systems: tuple[str, ...] = ()
    profiles: tuple[str, ...] = ()
    controls: tuple[Control, ...] = ()
    waivers: tuple[Waiver, ...] = ()


class Conditional(Operation):
    """An operation that is skipped where its control is not applicable. Made here only; not for recipes to write."""

    wraps: str  # the operation's kind
    operation: SerializeAsAny[Operation]
    applies: str
    otherwise: str
    sources: ClassVar = {}

    def with_fields(self, fields: Mapping[str, Any]) -> Operation:
        return super().with_fields({**fields, "operation": self.operation.with_fields(fields["operation"])})

    @property
    def inner(self) -> Operation:
        return self.operation.inner

    def title(self) -> str:
        return self.operation.title()

    def compile(self, to: Compilation) -> Steps:
        steps = self.operation.compile(to)
        unless = sh("(sh -c @code) >/dev/null 2>&1 || { skip @why; return 0; }", code=self.applies, why=self.otherwise)
        return replace(steps, check=lines(unless, steps.check), verify=steps.verify or steps.check)


LAST = ("hardening-last", "hardening-last-of-all")
"""Names of the stages after which nothing else may change on the host."""


def stages(controls: Iterable[Control]) -> tuple[Stage, ...]:
    """The stages that bring controls about, in order: those of most, then those that come last, and last of all.

    Packages of all of them are installed first, which is one call of the package manager and not one a control.
    """
    chosen = [(control, list(_operations(control))) for control in controls]
    packages = [o for _, operations in chosen for o in operations if _installs(o)]
    first = _stage("hardening", [(c, found) for c, found in chosen if not c.last], packages)
    last = (
        _stage(name, [(c, found) for c, found in chosen if c.last == when], [])
        for name, when in zip(LAST, (True, "of-all"), strict=True)
    )
    return tuple(stage for stage in (first, *last) if stage.operations)


def _stage(name: str, chosen: list[tuple[Control, list[BoundOperation]]], before: list[BoundOperation]) -> Stage:
    handlers = {handler.name: handler for control, _ in chosen for handler in control.handlers}
    others = [o for _, operations in chosen for o in operations if not _installs(o)]
    return Stage(name, (*before, *others), tuple(handlers.values()))


def _installs(bound: BoundOperation) -> bool:
    """Whether it installs packages wherever it is applied, and nothing hangs on whether it did."""
    operation = bound.operation
    return operation.kind == "package" and getattr(operation, "state", "") == "present" and not bound.notify


def _operations(control: Control) -> Iterable[BoundOperation]:
    for bound in control.operations:
        operation = bound.operation
        if control.applies:
            operation = Conditional(
                wraps=operation.kind, operation=operation, applies=control.applies, otherwise=control.otherwise
            )
        yield replace(bound, operation=operation, title=f"{control.id}: {bound.label}")
