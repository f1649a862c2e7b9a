"""Follows one run of a program, over several connections if necessary. Also the shell code that starts a program and
prints its log.

The program runs independently of the connection. It writes a log in its working directory (in /run, a file system in
memory), and the command of the connection only follows that log. A lost connection does not interrupt the program.
"""

from __future__ import annotations

import queue
import shlex
from collections.abc import Callable, Iterator
from typing import IO, TYPE_CHECKING

from goldenami.provision.stream import Ended, Message, Reader

if TYPE_CHECKING:  # paramiko takes a while to load, and recipes are validated without it
    from goldenami.ssh import Completed, Connection, Deadline

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
        self.taken = 0  # lines over all connections; each connection reads the log from its beginning
        self._skip = 0
        self._on_message = on_message
        self._reader = Reader(mark, self._message, on_output)
        self._acknowledge: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()

    def follow(
        self, connection: Connection, command: str, archive: IO[bytes] | None, deadline: Deadline | None
    ) -> Completed:
        self._acknowledge = queue.SimpleQueue()
        self._skip = self.taken
        try:
            return connection.stream(command, self._input(archive), self._line, deadline, lambda: self.ended)
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
            self.whole = self.whole or message.whole
            self._acknowledge.put(b"read\n")
        self._on_message(message)


def start_script(work: str, mark: str, arguments: str, size: int) -> str:
    """Return the script that unpacks the archive from stdin, starts the program in its own session and follows its log.

    ``arguments``: shell words, after the working directory and the mark. ``size``: bytes of the archive. After the end
    of the program its log is kept for at most 10 minutes, so that a connection can read it. The log is opened only
    once: a second open for the last line could create the file again while the directory is being removed, and the
    directory would remain.
    """
    return f"""umask 077
mkdir -m 0711 {work} || exit {NO_DIRECTORY}
head -c {size} | tar -xzf - -C {work} --no-same-owner || {{ rm -rf {work}; exit 1; }}
if command -v setsid >/dev/null; then apart=setsid; else apart=nohup; fi
: >{work}/log || {{ rm -rf {work}; exit {NO_DIRECTORY}; }}
(
exec >>{work}/log 2>&1
$apart sh {work}/program {work} {mark} {arguments} &
echo $! >{work}/pid
trap '' HUP # of a terminal that sudo asked for
wait $!
printf '\\n{mark} gone\\n'
exec >/dev/null 2>&1
left=600
while [ -d {work} ] && [ $left -gt 0 ]; do sleep 1; left=$((left - 1)); done
rm -rf {work}
) </dev/null >/dev/null 2>&1 &
{_follow(work)}"""


def attach_script(work: str) -> str:
    """Return the script that follows a program which an earlier connection started. Its status is NO_DIRECTORY if no
    such program exists.

    The earlier connection may have been lost before its command began, or during the transfer of the archive. So this
    script creates the working directory first: a late start command then fails and starts nothing.
    """
    return f"""if mkdir {work} 2>/dev/null; then
(sleep 60; rmdir {work}) </dev/null >/dev/null 2>&1 &
exit {NO_DIRECTORY}
fi
tries=0
until [ -e {work}/log ]; do
if [ ! -d {work} ] || [ $tries -ge 100 ]; then rm -rf {work}; exit {NO_DIRECTORY}; fi
tries=$((tries + 1))
sleep 0.1
done
{_follow(work)}"""


def _follow(work: str) -> str:
    """Return the script that prints the log from its beginning, until a line on stdin confirms that all was read."""
    return f"""tail -n +1 -f -s 0.1 {work}/log &
follower=$!
if read -r _; then rm -rf {work}; fi
kill $follower
"""


def end_script(work: str) -> str:
    """Return the script that ends a program and all processes that it started."""
    return f"kill -s KILL -- -$(cat {work}/pid); rm -rf {work}"
