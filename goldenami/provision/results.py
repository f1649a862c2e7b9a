"""Results of operations, stages and runs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from goldenami.provision.stream import Status


@dataclass(frozen=True, slots=True)
class OperationResult:
    """The result of one operation. In check mode, "changed" means that it would change something. ``index``: its number
    within its stage, from 0.
    """

    index: int
    title: str
    place: str
    status: Status
    seconds: float
    detail: str = ""


@dataclass(frozen=True, slots=True)
class StageResult:
    """The result of one stage. ``operations``: in the order in which they ended, with the handlers that ran.
    ``rebooted``: number of reboots.
    """

    stage: str
    operations: tuple[OperationResult, ...]
    seconds: float
    rebooted: int = 0

    def count(self, status: Status) -> int:
        return sum(1 for o in self.operations if o.status == status)

    @property
    def changed(self) -> int:
        return self.count("changed")

    @property
    def ok(self) -> int:
        return self.count("ok")


@dataclass(frozen=True, slots=True)
class RunResult:
    """The result of a run. ``stages``: the stages that have operations, in order. ``facts``: the texts that were read,
    by the fact's name.
    """

    stages: tuple[StageResult, ...]
    facts: Mapping[str, str]
    seconds: float
