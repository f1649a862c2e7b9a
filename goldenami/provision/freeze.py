"""Freezing: the last work on a builder. Afterwards nothing can write to its disks, so that EC2 captures it as it is.

Without it, EC2 shuts the builder down for its capture and boots it again, which takes a while, and what the shutdown
writes comes after the sealing. A frozen builder stays so until it is terminated.

First the services are stopped that a shutdown would stop, in systemd's own order: a database ends its work. What they
wrote as they ended is sealed again. Then every file system of a disk is frozen, which flushes it (fsfreeze(8)). One
that the kernel cannot freeze, such as the partition of EFI, is unmounted, or mounted for reading only. If the host
cannot be made still, all of it is thawed again, and the result says why: then EC2 shuts the host down.

Nothing here waits for a disk afterwards: the program, its events and sshd are in memory.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Final

from goldenami.filesystems import ELSEWHERE, LISTED
from goldenami.lifetime import FROZEN_MARK
from goldenami.provision.operation import Operation
from goldenami.provision.program import COLLECT, Fact
from goldenami.provision.shell import Compilation, Script, Steps, sh

_PATIENCE: Final = 120  # seconds for services to stop: systemd kills them after 90 unless their units say otherwise
_LIMIT: Final = 60  # seconds until a freeze that hangs is given up
STAGE: Final = "freeze"
DEADLINE: Final = 600.0  # seconds for the whole stage: then the host is given up

FROZEN: Final = Fact(
    "frozen",
    sh(
        """if [ -e @mark ]; then echo frozen
elif [ -s "$work/cannot" ]; then cat "$work/cannot"
else echo unknown; fi""",
        mark=FROZEN_MARK,
    ),
)
"""Whether the host is frozen: "frozen", or why it is not."""


def not_frozen(fact: str | None) -> str:
    """Return why a host is not frozen, by ``FROZEN``, and nothing only if it says that it is."""
    said = (fact or "").strip()
    return "" if said == "frozen" else said or "unknown"


class StopServices(Operation):
    """Stops what writes to the disks, but for what this session needs."""

    def title(self) -> str:
        return "stop what writes to the disks"

    def compile(self, to: Compilation) -> Steps:
        check = Script("[ ! -d /run/systemd/system ] || return 1\nskip 'this host has no systemd'")
        return Steps(check, _functions() + Script("stop\n:"), Script(":"))


class Again(Operation):
    """Seals a trace once more. One that is left, such as the log of a service that still runs, is no failure: then the
    host is not frozen."""

    trace: Operation

    def title(self) -> str:
        return self.trace.title()

    def compile(self, to: Compilation) -> Steps:
        steps = self.trace.compile(to)
        # No command of the apply may be part of a condition: there a shell ignores "set -e".
        apply = sh(
            """set +e
(
set -e
@apply
)
[ $? -eq 0 ] || [ -e "$work/cannot" ] || echo 'what services left could not be sealed' >"$work/cannot\"""",
            apply=steps.apply,
        )
        verify = sh(
            """again() {
@check
}
again || [ -e "$work/cannot" ] ||
  printf '%s\\n' "what services left as they ended is found again $detail" >"$work/cannot"
return 0""",
            check=steps.check,
        )
        return Steps(steps.check, apply, verify)


class Freeze(Operation):
    """Freezes the file systems. The detail of its result names their mount points, or says why it cannot; then its
    status is "skipped"."""

    def title(self) -> str:
        return "freeze the file systems"

    def compile(self, to: Compilation) -> Steps:
        # What still reads could need to write: the database of a package manager, or a large sort.
        check = COLLECT + Script("""[ -d /run/systemd/system ] || echo 'this host has no systemd' >"$work/cannot"
[ -e "$work/cannot" ] || return 1
skip "not possible: $(cat "$work/cannot")\"""")
        verify = Script("""[ ! -e "$work/cannot" ] || given_up="not possible: $(cat "$work/cannot")\"""")
        return Steps(check, _functions() + Script("freeze\n:"), verify)


@cache
def _functions() -> Script:
    text = Path(__file__).with_suffix(".sh").read_text(encoding="utf-8")
    return sh(f"set +e\n{text}", mark=FROZEN_MARK, listed=LISTED, elsewhere=ELSEWHERE, patience=_PATIENCE, limit=_LIMIT)


def steps(sealed_again: Sequence[Operation], at_last: Sequence[Operation] = ()) -> tuple[Operation, ...]:
    """Return the operations in their order. ``sealed_again``: what services may write as they end. ``at_last``: what
    else comes before the freezing."""
    return (StopServices(), *(Again(trace=trace) for trace in sealed_again), *at_last, Freeze())
