"""Freezes the filesystems of a host for a short time: all data is flushed, and writes are blocked (fsfreeze(8)).

One program on the host does this, over an SSH channel that is already open, because no new login is possible while the
root filesystem is frozen. The program freezes the filesystems (the root last), prints ``frozen``, and waits for input.
The first of these events unfreezes the filesystems:

- the input ``thaw``;
- the end of the channel, for example after Ctrl-C, a crash of goldenami or a network failure;
- the watchdog, a separate process on the host that needs no connection.
"""

from __future__ import annotations

import queue
import shlex
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from goldenami import ssh
from goldenami.errors import BuilderError, GoldenAmiError, OperationFailed
from goldenami.filesystems import LISTED
from goldenami.shell import sh

LIMIT: Final = 60  # seconds until the watchdog unfreezes; CreateSnapshots needs a few seconds
_PATIENCE: Final = 30.0  # seconds for freezing: unwritten data has to be flushed first
_LONGEST: Final = 3600.0  # seconds for the task while the program runs; the watchdog unfreezes long before
_WORD: Final = "thaw"

_PROGRAM: Final = sh(
    r"""
set -u
limit=$1
mounts=$(awk '@listed' /proc/self/mountinfo | sed -n 's/^freeze //p')
[ -n "$mounts" ] || { echo "error no filesystem here can be frozen"; exit 3; }
frozen=
thaw() {
  for m in $frozen; do fsfreeze --unfreeze "$(printf %b "$m")" 2>/dev/null; done
  [ -z "${dog:-}" ] || kill "$dog" 2>/dev/null
}
command -v fsfreeze >/dev/null || { echo "error fsfreeze is not installed (util-linux)"; exit 3; }
trap 'thaw; exit 4' HUP INT TERM PIPE
# The watchdog gets all mount points, also those that are not frozen yet. It runs in its own session.
setsid sh -c 'sleep "$1"; shift; for m in "$@"; do fsfreeze --unfreeze "$(printf %b "$m")"; done' \
  watchdog "$limit" $mounts </dev/null >/dev/null 2>&1 &
dog=$!
for m in $mounts; do
  if ! said=$(fsfreeze --freeze "$(printf %b "$m")" 2>&1); then
    thaw
    echo "error $said"
    exit 3
  fi
  frozen="$m $frozen"
done
echo "frozen $(echo $mounts)"
read -r word || word=
if kill -0 "$dog" 2>/dev/null; then thaw; echo "thawed"; else thaw; echo "late"; exit 5; fi
""",
    listed=LISTED,
)


@contextmanager
def frozen(connection: ssh.Connection, *, limit: int = LIMIT) -> Iterator[list[str]]:
    """Freeze the filesystems of a host while the context is entered. Yields their mount points.

    The filesystems are unfrozen after at most ``limit`` seconds, also after a failure. Raises OperationFailed if they
    cannot be frozen. When the context is left, raises OperationFailed if the watchdog has already unfrozen them: then
    the snapshots are not consistent.
    """
    lines: queue.Queue[str] = queue.Queue()
    said = threading.Event()
    problem: list[GoldenAmiError] = []

    def word() -> Iterator[bytes]:
        said.wait()
        yield f"{_WORD}\n".encode()

    def run() -> None:
        try:
            command = f"sudo -n sh -c {shlex.quote(_PROGRAM.text)} goldenami-freeze {limit}"
            connection.stream(command, word(), lines.put, timeout=_LONGEST)
        except GoldenAmiError as error:
            problem.append(error)
        finally:
            lines.put("")

    thread = threading.Thread(target=run, name="freeze", daemon=True)
    thread.start()
    try:
        first = _next(lines, problem, connection)
        if not first.startswith("frozen "):
            raise OperationFailed(
                f"the filesystems of {connection.name} cannot be frozen: {first.removeprefix('error ')}",
                hint="Omit --consistent to create snapshots with the contents after a power failure.",
            )
        yield first.split()[1:]
    finally:
        said.set()
        if threading.current_thread() is threading.main_thread():
            thread.join(_PATIENCE)
    last = _next(lines, problem, connection)
    if last != "thawed":
        raise OperationFailed(
            f"the snapshots of {connection.name} are not consistent: they took longer than {limit} s, and the "
            "watchdog unfroze the filesystems",
            hint="Try again, or omit --consistent.",
        )


def _next(lines: queue.Queue[str], problem: list[GoldenAmiError], connection: ssh.Connection) -> str:
    try:
        line = lines.get(timeout=_PATIENCE).strip()
    except queue.Empty:
        raise BuilderError(f"{connection.name} is unreachable. Its watchdog unfreezes the filesystems") from None
    if not line and problem:
        raise problem[0]
    return line or "the program on the host ended without output"
