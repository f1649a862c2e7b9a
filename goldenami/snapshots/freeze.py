"""Filesystems that stand still for a moment: everything is written out, and nothing is written (fsfreeze(8)).

One program runs on the host and does all of it, over a channel that is open already: with the root frozen, nobody can
log in any more. It freezes the filesystems (the root last), says so, and waits for a word. They are thawed by whatever
comes first: the word; the end of the channel, which is what Ctrl-C, a crash here and a cut line look like over there;
or its watchdog, a process of its own that does not depend on this side at all.
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

LIMIT: Final = 60  # seconds until the watchdog thaws: CreateSnapshots answers in a few
_PATIENCE: Final = 30.0  # seconds for freezing: what is dirty has to be written out first
_WORD: Final = "thaw"

# Mount points of filesystems that can be frozen, each filesystem once and as a whole (a part of one that is mounted
# somewhere may be anybody's), the root last. mountinfo escapes blanks as \040, which printf %b undoes.
_PROGRAM: Final = r"""
set -u
limit=$1
mounts=$(awk '{
  for (i = 7; $i != "-"; i++);
  whole = $4 == "/" || $(i+1) == "btrfs"
  if (whole && $(i+1) ~ "^(ext[234]|xfs|btrfs|f2fs|jfs|reiserfs)$" && $6 ~ "(^|,)rw(,|$)" && !seen[$3]++)
    print length($5), $5
}' /proc/self/mountinfo | sort -rn | cut -d" " -f2-)
[ -n "$mounts" ] || { echo "error no filesystem here can be frozen"; exit 3; }
frozen=
thaw() {
  for m in $frozen; do fsfreeze --unfreeze "$(printf %b "$m")" 2>/dev/null; done
  [ -z "${dog:-}" ] || kill "$dog" 2>/dev/null
}
command -v fsfreeze >/dev/null || { echo "error fsfreeze is not installed (util-linux)"; exit 3; }
trap 'thaw; exit 4' HUP INT TERM PIPE
# The watchdog knows all mount points, not only those frozen so far, and is alone in its session.
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
"""


@contextmanager
def frozen(connection: ssh.Connection, *, limit: int = LIMIT) -> Iterator[list[str]]:
    """While entered, no filesystem of the host changes; yields their mount points.

    Raises OperationFailed if they cannot be frozen; or, on leaving, if it took so long that the watchdog had thawed
    them before: then what was taken meanwhile is not consistent. However this ends, they are thawed within ``limit``
    seconds.
    """
    lines: queue.Queue[str] = queue.Queue()
    said = threading.Event()
    problem: list[GoldenAmiError] = []

    def word() -> Iterator[bytes]:
        said.wait()
        yield f"{_WORD}\n".encode()

    def run() -> None:
        try:
            command = f"sudo -n sh -c {shlex.quote(_PROGRAM)} goldenami-freeze {limit}"
            connection.stream(command, word(), lines.put)
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
                hint="Without --consistent the snapshots are as after a power cut.",
            )
        yield first.split()[1:]
    finally:
        said.set()
        if threading.current_thread() is threading.main_thread():
            thread.join(_PATIENCE)
    last = _next(lines, problem, connection)
    if last != "thawed":
        raise OperationFailed(
            f"{connection.name} was frozen for longer than {limit} s and thawed itself: what was taken meanwhile is "
            "not consistent",
            hint="Try again; if the service is slow today, without --consistent.",
        )


def _next(lines: queue.Queue[str], problem: list[GoldenAmiError], connection: ssh.Connection) -> str:
    try:
        line = lines.get(timeout=_PATIENCE).strip()
    except queue.Empty:
        raise BuilderError(f"{connection.name} does not answer: its watchdog thaws it") from None
    if not line and problem:
        raise problem[0]
    return line or "it ended without a word"
