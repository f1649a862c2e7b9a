"""Follows one run of a program, over as many connections as it takes, and the shell code that starts and shows it.

The program runs beside the connection and writes to a file in its working directory (in /run, which is memory); the
command only follows that file. So nothing is cut off in its middle when a connection drops.
"""

from __future__ import annotations

import queue
import shlex
from collections.abc import Callable, Iterator
from typing import IO, TYPE_CHECKING

from goldenami.provision.stream import Ended, Message, Reader

if TYPE_CHECKING:  # paramiko takes a while to load, and recipes are validated without it
    from goldenami.ssh import Completed, Connection, Deadline

NO_DIRECTORY = 97  # the status of a command that does not find the working directory, or finds it where it is not to be
_CHUNK = 256 << 10


def sudo(connection: Connection, script: str) -> str:
    """The command that runs a script as root on this connection."""
    command = f"sh -c {shlex.quote(script)}"
    return command if connection.endpoint.user == "root" else f"sudo -n {command}"


class Follower:
    """Reads one run of a program, over as many connections as it takes."""

    def __init__(self, mark: str, on_message: Callable[[Message], None], on_output: Callable[[str], None]) -> None:
        self.mark = mark
        self.ended = False
        self.whole = False  # it came to an end of its own
        self.taken = 0  # lines, over all connections; a new one reads the log from its beginning again
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
        """The archive; then, once the end was read, the word that the working directory may go."""
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
    """Unpack the archive from stdin, start the program apart from this connection, follow what it writes.

    ``arguments``: shell words, after the working directory and the mark. When the program has ended, its log stays for
    ten minutes at most for a connection to read. The log is opened once: opened again for its last line, it could be
    made anew in a directory that is being removed, which would stay then.
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
wait $!
printf '\\n{mark} gone\\n'
exec >/dev/null 2>&1
left=600
while [ -d {work} ] && [ $left -gt 0 ]; do sleep 1; left=$((left - 1)); done
rm -rf {work}
) </dev/null >/dev/null 2>&1 &
{_follow(work)}"""


def attach_script(work: str) -> str:
    """Follow a program that an earlier connection has started; NO_DIRECTORY if there is none, and will be none.

    That connection may have been lost before its command began, or while the archive was under way: so the name of the
    working directory is taken first, and then that command, should it come after all, cannot start anything.
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
    """Show the log from its beginning, until this side says that it was read to its end."""
    return f"""tail -n +1 -f -s 0.1 {work}/log &
follower=$!
if read -r _; then rm -rf {work}; fi
kill $follower
"""


def end_script(work: str) -> str:
    """End a program, and everything that it has started."""
    return f"kill -s KILL -- -$(cat {work}/pid); rm -rf {work}"
