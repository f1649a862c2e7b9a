"""A RealNode in an enclosure, driven over pipes: one JSON request a line, one JSON reply a line.

Run as a program it is the enclosed side; ``Remote`` is the side of the tests.
"""

from __future__ import annotations

import base64
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping
from dataclasses import asdict, is_dataclass
from pathlib import Path
from typing import Any

from goldenami_sandbox.node.api import DataKey, InstanceSpec
from goldenami_sandbox.node.namespaces import enclosed_argv, enter, sandbox_id

_TYPES: dict[str, Callable[[Any], Any]] = {
    "DataKey": lambda v: DataKey(base64.b64decode(v)),
    "InstanceSpec": lambda v: InstanceSpec(**v),
    "Path": Path,
}


def pack(value: Any) -> Any:
    if isinstance(value, DataKey):
        return {"$": "DataKey", "value": base64.b64encode(value).decode()}
    if isinstance(value, bytes):
        return {"$": "bytes", "value": base64.b64encode(value).decode()}
    if is_dataclass(value) and not isinstance(value, type):
        return {"$": type(value).__name__, "value": {k: pack(v) for k, v in asdict(value).items()}}
    if isinstance(value, Path):
        return {"$": "Path", "value": str(value)}
    if isinstance(value, Mapping):
        return {"$": "dict", "value": [[pack(k), pack(v)] for k, v in value.items()]}
    if isinstance(value, list | tuple):
        return [pack(v) for v in value]
    return value


def unpack(value: Any) -> Any:
    if isinstance(value, list):
        return [unpack(v) for v in value]
    if not isinstance(value, dict):
        return value
    kind, inner = value["$"], value["value"]
    if kind == "bytes":
        return base64.b64decode(inner)
    if kind == "dict":
        return {unpack(k): unpack(v) for k, v in inner}
    if kind == "InstanceSpec":
        return InstanceSpec(**{k: unpack(v) for k, v in inner.items()})
    if kind in _TYPES:
        return _TYPES[kind](inner)
    return inner


class Remote:
    """``remote.call("launch", spec)``; raises RuntimeError with the error's type and message."""

    def __init__(self, state: Path, cache: Path) -> None:
        self.state = state
        self.sandbox = sandbox_id(state)
        argv = enclosed_argv(self.sandbox, [sys.executable, __file__, str(state), str(cache)])
        self.process = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self._lock = threading.Lock()

    def call(self, method: str, *args: Any, **named: Any) -> Any:
        with self._lock:
            assert self.process.stdin is not None
            assert self.process.stdout is not None
            self.process.stdin.write(json.dumps([method, pack(args), pack(named)]) + "\n")
            self.process.stdin.flush()
            line = self.process.stdout.readline()
        if not line:
            raise RuntimeError("the enclosed process ended")
        reply = json.loads(line)
        if "error" in reply:
            raise RuntimeError(reply["error"])
        return unpack(reply["result"])

    def inner_pid(self) -> int:
        """The enclosure's PID 1, as the host numbers it."""
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        return int(children[0])

    def kill(self) -> None:
        os.kill(self.inner_pid(), signal.SIGKILL)
        self.process.wait(120)

    def end(self) -> None:
        if self.process.poll() is None:
            try:
                self.call("close")
            finally:
                assert self.process.stdin is not None
                self.process.stdin.close()
                self.process.wait(120)


def _serve(state: Path, cache: Path) -> None:
    enter()
    from goldenami_sandbox.node.runtime import RealNode

    node = RealNode(state, cache)
    exits: list[list[str]] = []
    node.on_exit(lambda instance, reason: exits.append([instance, reason]))
    for line in sys.stdin:
        method, args, named = json.loads(line)
        try:
            if method == "exits":
                result: Any = exits
            else:
                result = getattr(node, method)(*unpack(args), **unpack(named))
            reply = {"result": pack(result)}
        except Exception as e:  # whatever it is, the test wants to see it
            reply = {"error": f"{type(e).__name__}: {e}"}
        print(json.dumps(reply), flush=True)


if __name__ == "__main__":
    _serve(Path(sys.argv[1]), Path(sys.argv[2]))
