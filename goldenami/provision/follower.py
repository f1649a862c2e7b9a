"""Follows one run of a program, over several connections if necessary. Also the shell code that starts a program and
prints its log.

The program runs independently of the connection. It writes a log on the disk, and the command of the connection only
follows that log. A lost connection does not interrupt the program. The working directory is in /run, a file system in
memory, which is too small for a long log.
"""

from __future__ import annotations

import queue
import shlex
from collections.abc import Callable, Iterator, Sequence
from typing import IO, TYPE_CHECKING

from goldenami.provision.stream import Ended, Message, Reader

if TYPE_CHECKING:  # paramiko takes a while to load, and recipes are validated without it
    from goldenami.ssh import Completed, Connection, Deadline

DISK = "/var/tmp"  # for the log: /run is small
FLAGS = "/run/goldenami"  # as in prelude.sh
# With the name of a working directory: its program is not to start any more. The suite base does not take it for
# something that was left behind, which it finds by the name of the program.
_TOO_LATE = "/run/start-too-late"
_LATEST_SECONDS = 60  # for a start command whose connection was lost
LOG_BYTES = 1 << 30
_LEAST_KIB = 64 << 10  # of free space on the disk for a log there
_OOM = "sed -n 's/^oom_kill //p' /proc/vmstat"  # how many processes the kernel has ended for memory
UNWRITTEN = 98  # the status of a program that cannot write its log (prelude.sh)
LOST = 95  # the status of a command if the working directory disappeared before the program was found
AGAIN = 96  # the status of a command that could not print the log to its end
NO_DIRECTORY = 97  # the status of a command if the working directory is missing, or exists before the start
_CHUNK = 256 << 10


def sudo(connection: Connection, script: str) -> str:
    """Return the command that runs a script as root on this connection."""
    return connection.as_root(f"sh -c {shlex.quote(script)}")


class Follower:
    """Reads one run of a program, over several connections if necessary."""

    def __init__(self, mark: str, on_message: Callable[[Message], None], on_output: Callable[[str], None]) -> None:
        self.mark = mark
        self.ended = False
        self.whole = False  # the program reported its end itself
        self.end = Ended(False)
        self.taken = 0  # lines over all connections; each connection reads the log from its beginning
        self._skip = 0
        self._on_message = on_message
        self._reader = Reader(mark, self._message, on_output)
        self._acknowledge: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()

    def follow(
        self,
        connection: Connection,
        command: str,
        archive: IO[bytes] | None,
        deadline: Deadline | None,
        on_silence: Callable[[float], None],
    ) -> Completed:
        """Read the log until its end. ``on_silence``: as in ``Connection.stream``."""
        self._acknowledge = queue.SimpleQueue()
        self._skip = self.taken
        try:
            return connection.stream(
                command, self._input(archive), self._line, deadline, lambda: self.ended, on_silence
            )
        finally:
            self._acknowledge.put(None)

    def _input(self, archive: IO[bytes] | None) -> Iterator[bytes]:
        """Yields the archive. After the end of the log was read, yields the line that permits the removal of the
        working directory.
        """
        acknowledge = self._acknowledge
        while archive is not None and (chunk := archive.read(_CHUNK)):
            yield chunk
        if (word := acknowledge.get()) is not None:
            yield word

    def _line(self, line: str) -> None:
        if self._skip:
            self._skip -= 1
            return
        self.taken += 1
        self._reader.feed(line)

    def _message(self, message: Message) -> None:
        if isinstance(message, Ended):
            self.ended = True
            self.end = self.end if self.whole else message
            self.whole = self.whole or message.whole
            self._acknowledge.put(b"read\n")
        self._on_message(message)


def start_script(work: str, mark: str, arguments: str, size: int, *, on_disk: bool, earlier: Sequence[str] = ()) -> str:
    """Return the script that unpacks the archive from stdin, starts the program in its own session and follows its log.

    ``arguments``: shell words, after the working directory and the mark. ``size``: bytes of the archive. ``on_disk``:
    whether the log may be on the disk; without, or with little space there, it is in the working directory. After the
    end of the program its log is kept for at most 10 minutes, so that a connection can read it. The log and the status
    are opened only once, before the program begins: a later open could create the file again while the directory is
    being removed, and the directory would remain.

    A program whose log has more than ``LOG_BYTES``, or half of the free space, is ended: the disk must not fill up.
    ``earlier``: the working directories of runs of the same program that have ended or are lost. What they left, as by
    a reboot, is removed; see ``removal_script``.
    """
    log = _log(work)
    return f"""umask 077
mkdir -m 0711 {work} || exit {NO_DIRECTORY}
[ ! -e {_too_late(work)} ] || {{ rmdir {work}; exit {NO_DIRECTORY}; }}
{removal_script(earlier)}
head -c {size} | tar -xzf - -C {work} --no-same-owner || {{ rm -rf {work}; exit 1; }}
if command -v setsid >/dev/null; then apart=setsid; else apart=nohup; fi
free=0
[ {int(on_disk)} = 0 ] || free=$(df -Pk {DISK} 2>/dev/null | tail -n 1 | tr -s ' ' | cut -d ' ' -f 4)
most={LOG_BYTES >> 10}
if [ "${{free:-0}}" -ge {_LEAST_KIB} ] && : >{log}; then
ln -s {log} {work}/log
[ $most -le $((free / 2)) ] || most=$((free / 2))
else : >{work}/log || {{ rm -rf {work}; exit {NO_DIRECTORY}; }}
fi 2>/dev/null
exec 7<{work}/log
printf 'running\\n' >{work}/status
{_OOM} >{work}/oom
(
exec >>{work}/log 2>&1 8<>{work}/status
$apart sh {work}/program {work} {mark} {arguments} 8>&- &
program=$!
echo $program >{work}/pid || kill -s KILL -- -$program || kill -s KILL $program # a later start has taken its place
trap '' HUP # of a terminal that sudo asked for
(
while sleep 0.5 && [ -d {work} ]; do
[ $(($(stat -Lc %s {work}/log) / 1024)) -le $most ] || {{
printf 'output\\n' >&8
kill -s KILL -- -$program || kill -s KILL $program
exit
}}
done
) >/dev/null 2>&1 &
bound=$!
wait $program
status=$?
kill $bound
read -r said <{work}/status
[ "$said" = output ] || printf '%s\\n' $status >&8
exec >/dev/null 2>&1
left=600
while [ -d {work} ] && [ $left -gt 0 ]; do sleep 1; left=$((left - 1)); done
[ ! -e {log} ] || rm -f {log} # a host may be frozen, so that even this would wait
rm -rf {work}
) </dev/null >/dev/null 2>&1 7<&- &
{_follow(work, mark)}"""


def removal_script(works: Sequence[str]) -> str:
    """Return the script that removes what lost runs left. A run that is still there is ended first: a host that stood
    still for seconds may begin it after it was given up. Its id may belong to another process meanwhile, which has
    another command line."""
    return "\n".join(map(_removal, works)) or ":"


def _removal(work: str) -> str:
    program = f"sh {work}/program {work} "
    return f"""rm -f {work}/program # so it cannot begin any more
if read -r first <{work}/pid; then
case $(tr '\\0' ' ' </proc/"$first"/cmdline) in
"{program}"* | "setsid {program}"* | "nohup {program}"*) kill -s KILL -- "-$first" || kill -s KILL "$first" ;;
esac
fi 2>/dev/null
rm -rf {work} {_log(work)} {FLAGS}/.{_name(work)}"""


def attach_script(work: str, mark: str) -> str:
    """Return the script that follows a program which an earlier connection started. Its status is NO_DIRECTORY if no
    such program exists.

    The earlier connection may have been lost before its command began, or during the transfer of the archive. So this
    script leaves a mark first, for a minute: a late start command finds it and starts nothing. One that has made the
    directory looks for the mark after that, so it is either followed here or starts nothing.
    """
    return f""": >{_too_late(work)}
(trap '' HUP; sleep {_LATEST_SECONDS}; rm -f {_too_late(work)}) </dev/null >/dev/null 2>&1 &
if mkdir {work} 2>/dev/null; then rmdir {work}; exit {NO_DIRECTORY}; fi
tries=0
until [ -e {work}/log ]; do
if [ ! -d {work} ] || [ $tries -ge 100 ]; then rm -rf {work}; exit {NO_DIRECTORY}; fi
tries=$((tries + 1))
sleep 0.1
done
exec 7<{work}/log
{_follow(work, mark)}"""


def _follow(work: str, mark: str) -> str:
    """Return the script that prints the log, which is open as descriptor 7, from its beginning, until a line on stdin
    confirms that all was read.

    If the program ends, its end is printed after the log (see ``stream``): the log itself may be unable to hold it. If
    the kernel ends the process that prints the log, the script ends, so that the runner connects again.
    """
    return f"""tries=0
until [ -s {work}/pid ] || [ $tries -ge 500 ]; do sleep 0.01; tries=$((tries + 1)); done
read -r program <{work}/pid || {{ tail -n +1 <&7; exit {LOST}; }}
whole=$$
trap 'exit {AGAIN}' USR1
(
trap 'kill $printer; exit' TERM
tail -n +1 -f -s 0.02 --pid=$program <&7 &
printer=$!
wait $printer || {{ kill -s USR1 $whole; exit; }}
tries=0
while read -r status <{work}/status && [ "$status" = running ] && [ $tries -lt 20 ]; do
sleep 0.1
tries=$((tries + 1))
done
read -r before <{work}/oom
after=$({_OOM})
printf '\\n{mark} gone %s %s %s %s\\n' "$status" $((${{after:-0}} - ${{before:-0}})) \\
"$(df -Pk {work}/log | tail -n 1 | tr -s ' ' | cut -d ' ' -f 4)" \\
$(($(stat -Lc %s {work}/log) / 1024))
) 2>/dev/null &
follower=$!
if read -r _; then rm -f "$(readlink {work}/log)"; rm -rf {work}; fi
kill $follower
"""


def end_script(work: str) -> str:
    """Return the script that ends a program and all processes that it started."""
    return (
        f'kill -s KILL -- -$(cat {work}/pid); rm -f "$(readlink {work}/log)"; rm -rf {work} {FLAGS}/.{_name(work)}; '
        f"rmdir {FLAGS}"
    )


def _name(work: str) -> str:
    return work.rpartition("/")[2]


def _log(work: str) -> str:
    return f"{DISK}/{_name(work)}.log"


def _too_late(work: str) -> str:
    return f"{_TOO_LATE}.{_name(work).rpartition('.')[2]}"
