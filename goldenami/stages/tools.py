"""The tools of one command: cloud, catalog, journals, work on hosts, and the handling of signals."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from goldenami.aws import catalogs, journals
from goldenami.aws.ownership import Proofs
from goldenami.aws.session import Cloud
from goldenami.errors import Busy
from goldenami.events import Emit, emit
from goldenami.interrupts import Interrupts
from goldenami.journal import Journals, Wait
from goldenami.model import Environment
from goldenami.release.catalog import Catalog
from goldenami.stages import learnt
from goldenami.updates.fetch import Memory

if TYPE_CHECKING:  # a plan works on no host
    from goldenami.stages.build import HostWork

OnFailure = Literal["clean", "keep"]
Decide = Callable[[Exception], Literal["clean", "keep", "retry"]]
"""Decides what to do after the error of a build."""


@dataclass(frozen=True, slots=True)
class Tools:
    """The tools of one command, for one environment."""

    cloud: Cloud
    catalog: Catalog
    proofs: Proofs
    journals: Journals
    other_work: HostWork | None  # the work on hosts, if it is not done over SSH
    interrupts: Interrupts
    on_failure: OnFailure | Decide
    emit: Emit
    indices: Memory  # of package repositories, as read so far
    patience: Wait  # for another process that builds the same recipe or works on the same build
    told: list[BaseException] = field(default_factory=list)  # failures of builds that were notified

    @property
    def host_work(self) -> HostWork:
        """The work on hosts of a build."""
        from goldenami.stages.host_work import SshHostWork

        return self.other_work or SshHostWork()


@contextmanager
def open_tools(
    environment: Environment,
    host_work: HostWork | None,
    cloud: Cloud | None,
    on_failure: OnFailure | Decide,
    emit_to: Emit,
    wait: float = 0.0,
    interrupts: Interrupts | None = None,
) -> Iterator[Tools]:
    """Open the tools of an environment.

    Inside the ``with`` block the first signal interrupts the work (see ``interrupts``), unless the caller passes its
    own ``interrupts``. ``wait``: seconds to wait for another process that builds the same recipe or works on the same
    build.
    """

    def waiting(error: Busy) -> None:
        emit(emit_to, "note", message=f"waiting: {error.message}", level="warning")

    with ExitStack() as stack:
        interrupts = stack.enter_context(interrupts or Interrupts())
        if cloud is None:
            cloud = Cloud.of(environment, sleep=interrupts.sleep)
            stack.enter_context(learnt.kept(environment, cloud))
        yield Tools(
            cloud=cloud,
            catalog=Catalog.of(environment, cloud),
            proofs=catalogs.open_proofs(environment, cloud),
            journals=journals.open_journals(environment, cloud),
            other_work=host_work,
            interrupts=interrupts,
            on_failure=on_failure,
            emit=emit_to,
            indices=Memory(),
            patience=Wait(wait, cloud.clock, cloud.sleep, waiting),
        )
