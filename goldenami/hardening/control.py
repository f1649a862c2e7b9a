"""Controls, waivers, and the stages that apply a set of controls. No function here does input or output."""

from __future__ import annotations

import datetime
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, ClassVar, Final, Literal

from pydantic import SerializeAsAny

from goldenami.hardening.checks import Check
from goldenami.model import Mark
from goldenami.provision import BoundOperation, Handler, Operation, Stage
from goldenami.provision.shell import Compilation, Steps, lines, sh

if TYPE_CHECKING:
    from goldenami.provision import Recheck


@dataclass(frozen=True, slots=True)
class Excluded:
    """Packages that cannot be used together with a control. ``instead``: what to do in place of a waiver, or ""."""

    packages: tuple[str, ...]
    because: str
    instead: str = ""


@dataclass(frozen=True, slots=True)
class Control:
    """One hardening rule.

    ``applies``: shell code. If it fails, the control is not applicable, and ``otherwise`` is the reason. An empty text
    means that the control always applies. ``reboot``: the control takes effect after a reboot. ``last``: its operations
    run after those of the other controls, because they depend on the state of the host; "of-all": after the "last"
    ones, too. ``exclusive``: a group from which at most one control can be chosen. ``site``: the values of the site
    variables that the control declares.
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
    site: Mapping[str, object] = field(default_factory=dict)
    excludes: tuple[Excluded, ...] = ()
    opens: Mapping[str, tuple[str, ...]] | None = None  # by "tcp" and "udp": the only ports that others can reach


WAIVER_ENDS_SOON: Final = datetime.timedelta(days=14)  # it is told from then on


@dataclass(frozen=True, slots=True)
class Waiver:
    """A control that a recipe leaves out: its operations are not applied, and its checks do not run.

    ``variables``: names of the site variables that the control declares.
    """

    control: str
    title: str
    reason: str
    expires: datetime.date  # the last day on which the waiver is valid
    variables: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Hardening:
    """The controls that result from the section ``hardening`` of a recipe.

    ``systems``: ids of the operating systems that they are for. ``controls``: in order, without the waived ones.
    """

    systems: tuple[str, ...] = ()
    profiles: tuple[str, ...] = ()
    controls: tuple[Control, ...] = ()
    waivers: tuple[Waiver, ...] = ()


class Conditional(Operation):
    """An operation that is skipped if its control is not applicable. Only ``stages`` creates it, no recipe."""

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


STAGES = ("hardening", *LAST)
BEFORE: Final = "before-hardening"
AFTER: Final = "after-hardening"
_RECHECKED = frozenset({"setup", "agents", "software"})


def rechecked(all_stages: Sequence[Stage]) -> list[Stage | Recheck]:
    """Return the stages of a recipe with checks whether agents and software are as before the hardening.

    Two checks, because an operation of the recipe itself may change what an earlier one did. Without hardening the
    stages are returned as they are.
    """
    from goldenami.provision import Recheck  # here, because it loads the compiler of programs

    first = next((i for i, stage in enumerate(all_stages) if stage.name in STAGES), None)
    if first is None:
        return list(all_stages)
    before, after = Recheck(BEFORE, _RECHECKED), Recheck(AFTER, _RECHECKED)
    return [*all_stages[:first], before, *all_stages[first:], after]


def stages(controls: Iterable[Control]) -> tuple[Stage, ...]:
    """Return the stages that apply controls, in order: the normal controls, then those with ``last``, then "of-all".

    The packages of all controls are installed first, with one call of the package manager.
    """
    chosen = [(control, list(_operations(control))) for control in controls]
    packages = [o for _, operations in chosen for o in operations if _installs(o)]
    first = _stage(STAGES[0], [(c, operations) for c, operations in chosen if not c.last], packages)
    last = (
        _stage(name, [(c, operations) for c, operations in chosen if c.last == when], [])
        for name, when in zip(LAST, (True, "of-all"), strict=True)
    )
    return tuple(stage for stage in (first, *last) if stage.operations)


def _stage(name: str, chosen: list[tuple[Control, list[BoundOperation]]], before: list[BoundOperation]) -> Stage:
    handlers = {handler.name: handler for control, _ in chosen for handler in control.handlers}
    others = [o for _, operations in chosen for o in operations if not _installs(o)]
    return Stage(name, (*before, *others), tuple(handlers.values()))


def _installs(bound: BoundOperation) -> bool:
    """Whether an operation always installs packages, and notifies no handler."""
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
