"""The relay in a process of its own: what it takes to delay must not slow down whoever is measured.

Prints its port; then reads round trip times in seconds from stdin, and answers each, once it holds, with the number of
turns since the last one: how often this side spoke after the other had.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from tests.ssh.relay import Relay


@dataclass
class Delayed:
    """A port on loopback behind which a host is, ``set`` seconds of round trip away."""

    port: int
    _process: subprocess.Popen[str]

    def set(self, round_trip: float) -> int:
        """Returns the turns since the last call."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(f"{round_trip}\n")
        self._process.stdin.flush()
        return int(self._process.stdout.readline())


@contextmanager
def delayed(address: str, port: int) -> Iterator[Delayed]:
    command = [sys.executable, "-m", "benchmarks.provisioning.relay", address, str(port)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        yield Delayed(int(process.stdout.readline()), process)
    finally:
        process.kill()
        process.wait()


def main() -> None:
    with Relay((sys.argv[1], int(sys.argv[2]))) as relay:
        print(relay.port, flush=True)
        for line in sys.stdin:
            relay.delay = float(line) / 2
            print(relay.turns, flush=True)
            relay.turns = 0


if __name__ == "__main__":
    main()
