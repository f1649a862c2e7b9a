"""The output of a running program: lines that its operations print, and events between them.

An event is a line that begins with the run's mark, a random word::

    MARK begin BOOT                      the program runs; the id of the host's boot
    MARK stage 0 1234.50                 stage 0 begins; seconds since the host's boot
    MARK fact NAME                       lines of a fact follow, until
    MARK read NAME STATUS                its end, with the exit status of its script; both may be within a stage
    MARK start 3 1234.56                 operation 3 begins
    MARK ok|changed|skipped 3 1234.60 0 DETAIL
    MARK failed 3 1234.60 STATUS DETAIL
    MARK drift WHEN 3 DETAIL             operation 3 does not hold any more (see ``program.Recheck``)
    MARK reboot 3                        the host must reboot; the program continues after operation 3
    MARK going 3                         the host is going down, without a request of the program, after operation 3
    MARK refused                         a guard ended the program (see ``program.Guard``)
    MARK end ok|failed                   the end of the program; no event follows
    MARK gone STATUS KILLED FREE SIZE    the process of the program has ended: its status ("output": its log was too
                                         long; "running": unknown), how many processes the kernel has ended for memory
                                         since its start, the KiB that are free where its log is, and those of its log

The program prints a line end before each event, because the output before it may end without one. ``Reader`` removes
it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, cast

Status = Literal["ok", "changed", "failed", "skipped"]


@dataclass(frozen=True, slots=True)
class Begun:
    """The program runs. ``boot``: Linux' boot id (/proc/sys/kernel/random/boot_id)."""

    boot: str


@dataclass(frozen=True, slots=True)
class StageStarted:
    index: int
    uptime: float


@dataclass(frozen=True, slots=True)
class FactBegun:
    """The program reads a fact now, or waits for one that it reads beside its operations."""

    name: str


@dataclass(frozen=True, slots=True)
class FactRead:
    name: str
    status: int
    text: str


@dataclass(frozen=True, slots=True)
class Started:
    index: int
    uptime: float


@dataclass(frozen=True, slots=True)
class Finished:
    index: int
    uptime: float
    status: Status
    exit_status: int
    detail: str


@dataclass(frozen=True, slots=True)
class Drifted:
    when: str
    index: int
    detail: str


@dataclass(frozen=True, slots=True)
class RebootDue:
    index: int


@dataclass(frozen=True, slots=True)
class HereDue:
    """The next operation runs on the machine of goldenami."""

    index: int


@dataclass(frozen=True, slots=True)
class GoingDown:
    """The host is going down: the operation reboots it by itself."""

    index: int


@dataclass(frozen=True, slots=True)
class RefusedByGuard:
    """A guard ended the program."""


@dataclass(frozen=True, slots=True)
class Ended:
    """The program ended. ``whole``: it reported its end itself. If not, the other fields tell what is known.

    ``status``: its exit status as a shell gives it, "output" if its log was too long, else "running".
    ``out_of_memory``: processes that the kernel ended for lack of memory. ``free``: KiB that are free for its log; None
    if unknown. ``size``: KiB of its log.
    """

    whole: bool
    status: str = ""
    out_of_memory: int = 0
    free: int | None = None
    size: int = 0


Message = (
    Begun
    | StageStarted
    | FactBegun
    | FactRead
    | Started
    | Finished
    | Drifted
    | RebootDue
    | HereDue
    | GoingDown
    | RefusedByGuard
    | Ended
)


class Reader:
    """Separates events from output. ``feed`` takes the lines of the stream in order."""

    def __init__(self, mark: str, on_message: Callable[[Message], None], on_output: Callable[[str], None]) -> None:
        self._prefix = mark + " "
        self._on_message = on_message
        self._on_output = on_output
        self._empty = False  # an empty line was read; the next line shows whether it is output
        self._fact: list[str] | None = None  # the lines of a fact while it is read

    def feed(self, line: str) -> None:
        """Read one line. Raises ValueError for an unknown event."""
        held, self._empty = self._empty, False
        if line.startswith(self._prefix):
            self._event(line.removeprefix(self._prefix))
            return
        if held:
            self._plain("")
        if line:
            self._plain(line)
        else:
            self._empty = True

    def _plain(self, line: str) -> None:
        if self._fact is None:
            self._on_output(line)
        else:
            self._fact.append(line)

    def _event(self, text: str) -> None:
        kind, _, rest = text.partition(" ")
        if kind == "fact":
            self._fact = []
            self._on_message(FactBegun(rest))
        elif kind == "read":
            name, status = rest.split(" ")
            lines, self._fact = self._fact or [], None
            self._on_message(FactRead(name, int(status), "\n".join(lines)))
        else:
            self._on_message(_parse(text))


def _parse(text: str) -> Message:
    kind, _, rest = text.partition(" ")
    words = rest.split(" ", 3)
    if kind == "begin":
        return Begun(rest)
    if kind == "stage":
        return StageStarted(int(words[0]), float(words[1]))
    if kind == "start":
        return Started(int(words[0]), float(words[1]))
    if kind in ("ok", "changed", "failed", "skipped"):
        detail = words[3].strip() if len(words) > 3 else ""
        return Finished(int(words[0]), float(words[1]), cast("Status", kind), int(words[2]), detail)
    if kind == "drift":
        when, number, detail = (*rest.split(" ", 2), "")[:3]
        return Drifted(when, int(number), detail.strip())
    if kind == "reboot":
        return RebootDue(int(words[0]))
    if kind == "here":
        return HereDue(int(words[0]))
    if kind == "going":
        return GoingDown(int(words[0]))
    if kind == "refused":
        return RefusedByGuard()
    if kind == "end":
        return Ended(True)
    if kind == "gone":
        status, killed, free, size = (*rest.split(" "), "", "", "", "")[:4]
        return Ended(False, status, int(killed or 0), int(free) if free.isdecimal() else None, int(size or 0))
    raise ValueError(f"not an event: {text!r}")
