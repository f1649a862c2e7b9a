"""A cloud on paper in a process of its own, for benchmarks in virtual time: its memory and processor time are not those
of goldenami.

The calls come over a Unix socket each thread has its own connection to, with the virtual time at which they were sent.
While a call is under way, the time stands still (``Apart.busy``).
"""

from __future__ import annotations

import multiprocessing
import pickle
import tempfile
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from multiprocessing.connection import Client, Connection, Listener
from pathlib import Path
from typing import Any

from goldenami_sandbox.http import Response
from goldenami_sandbox.protocol import Call


class Apart:
    """The cloud, as far as clients see it. ``furnish``: called in the other process with the new cloud."""

    def __init__(
        self,
        accounts: Mapping[str, str],
        secret: str,
        clock: Callable[[], float],
        furnish: Callable[..., None],
        arguments: Sequence[Any],
    ) -> None:
        self._clock = clock
        self._folder = tempfile.TemporaryDirectory(prefix="goldenami-bench-")
        self._address = str(Path(self._folder.name) / "cloud")
        self._local = threading.local()
        self._mutex = threading.Lock()
        self._under_way = 0
        spawning = multiprocessing.get_context("spawn")  # a fork would have this process's memory
        here, there = spawning.Pipe()
        self._process = spawning.Process(
            target=_serve, args=(self._address, there, dict(accounts), secret, clock(), furnish, list(arguments))
        )
        self._process.start()
        there.close()
        here.recv()  # it listens
        self._control = here

    def serve(self, call: Call) -> Response:
        """Answer a call."""
        with self._mutex:
            self._under_way += 1
        try:
            line = self._line()
            line.send_bytes(pickle.dumps((self._clock(), call), pickle.HIGHEST_PROTOCOL))
            answer: Response = pickle.loads(line.recv_bytes())
            return answer
        finally:
            with self._mutex:
                self._under_way -= 1

    def busy(self) -> bool:
        """Return whether a call is under way."""
        return self._under_way > 0

    def seconds(self) -> float:
        """Return the processor time of the cloud so far."""
        self._control.send("seconds")
        return float(self._control.recv())

    def close(self) -> None:
        """End the process."""
        self._control.send("end")
        self._process.join()
        self._folder.cleanup()

    def _line(self) -> Connection:
        if not hasattr(self._local, "line"):
            self._local.line = Client(self._address)
        line: Connection = self._local.line
        return line


def _serve(
    address: str,
    control: Connection,
    accounts: Mapping[str, str],
    secret: str,
    began: float,
    furnish: Callable[..., None],
    arguments: Sequence[Any],
) -> None:
    """Serve a cloud until the other process says that it ends."""
    from goldenami_sandbox.cloud import Cloud
    from goldenami_sandbox.ec2.paper import PaperNode
    from goldenami_sandbox.settings import Settings

    now = began
    node = PaperNode()
    node.start()
    cloud = Cloud(
        node,
        accounts=accounts,
        clock=lambda: now,
        sleep=lambda _: None,
        settings=Settings(),
        secret=secret,
    )
    cloud.seed()
    furnish(cloud, *arguments)
    mutex = threading.Lock()

    def answer(line: Connection) -> None:
        nonlocal now
        while True:
            try:
                at, call = pickle.loads(line.recv_bytes())
            except EOFError:
                return
            with mutex:
                now = max(now, at)
                response = cloud.serve(call)
            line.send_bytes(pickle.dumps(response, pickle.HIGHEST_PROTOCOL))

    def accept(listener: Listener) -> None:
        while True:
            threading.Thread(target=answer, args=(listener.accept(),), daemon=True).start()

    listener = Listener(address, backlog=256)
    threading.Thread(target=accept, args=(listener,), daemon=True).start()
    control.send("listening")
    try:
        while control.recv() == "seconds":
            control.send(time.process_time())
    except EOFError:
        pass
