"""The start of the process that runs tests: it loads pytest and the rest, and then waits for its order.

``runner`` starts it before its order is known, while a builder is launched or its image captured, because loading takes
longer than many tests do. The order comes over the socket whose descriptor is the only argument: arguments of pytest,
environment, working directory, and the descriptors of the answers and the lifeline. The settings of the run come over
it as well: at once, or when the tests are collected. If the parent ends first, or has no order for a long time, this
process ends too.
"""

from __future__ import annotations

import atexit
import gc
import importlib
import json
import os
import socket
import sys
from contextlib import suppress
from typing import NoReturn

from goldenami.stdstreams import flush
from goldenami.validate.settings import SIZE_BYTES

IDLE_SECONDS = 3600.0
PIECE_BYTES = 1 << 20
MOST_DESCRIPTORS = 2
_TURN_SECONDS = 0.0005  # for one thread, while others want to run: those of the connection answer the host at once
_GARBAGE = 50_000  # new objects between two looks for garbage; pytest makes very many that live as long as it runs


def main() -> None:
    parent = socket.socket(fileno=int(sys.argv[1]))
    os.set_inheritable(parent.fileno(), False)
    gc.set_threshold(_GARBAGE)  # before all this is loaded: with Python's own, that takes a sixth longer
    import _pytest.config
    import pytest
    import testinfra.host
    import testinfra.modules

    from goldenami import ssh
    from goldenami.validate import plugin

    _ = (ssh.connect, ssh.Shells, plugin.TestRun)  # names that are loaded on demand
    for name in testinfra.modules.modules:  # they are loaded on demand, too, and each copy would load them again
        testinfra.modules.get_module_class(name)
    for name in _pytest.config.default_plugins:
        importlib.import_module(f"_pytest.{name}")
    importlib.import_module("xml.etree.ElementTree")  # for the JUnit file
    gc.freeze()  # pytest collects garbage at its end, and need not look at all this
    parent.settimeout(IDLE_SECONDS)
    data, (answers, lifeline) = _receive(parent, None)
    size = int.from_bytes(data[:SIZE_BYTES], "big")
    while len(data) < SIZE_BYTES + size:
        data += parent.recv(min(PIECE_BYTES, SIZE_BYTES + size - len(data))) or _end(None)
    parent.settimeout(None)  # while it waits for settings: only the end of the parent, or of its build, ends that
    order = json.loads(data[SIZE_BYTES:])
    os.environ.clear()
    os.environ.update(order["environment"])
    os.chdir(order["folder"])
    sys.argv = ["pytest", *order["arguments"]]
    sys.setswitchinterval(_TURN_SECONDS)

    def receive_settings() -> list[int]:
        with parent:
            if not order["at_once"]:
                parent.sendall(b"1")  # it is ready
            _, descriptors = _receive(parent, order["folder"])
        return descriptors

    plugin.begin(receive_settings, answers, lifeline, at_once=order["at_once"])
    # A line at once is one call of the kernel, and wakes the parent once.
    sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]
    _exit(pytest.console_main())


def _receive(parent: socket.socket, scratch: str | None) -> tuple[bytes, list[int]]:
    """Return some bytes, and the descriptors that come with them. Ends this process at the end of the parent."""
    data, descriptors, *_rest = socket.recv_fds(parent, SIZE_BYTES, MOST_DESCRIPTORS)
    return data or _end(scratch), descriptors


def _end(scratch: str | None) -> NoReturn:
    """End this process after its parent. ``scratch``: None without an order, which ran no code of others yet."""
    if scratch is not None:
        from goldenami.validate.plugin import end_with_parent

        end_with_parent(scratch)
    os._exit(0)


def _exit(status: int) -> NoReturn:
    """End this process with no work on its memory, which takes longer than many tests do. Threads that a test left
    behind are not waited for."""
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError):  # the parent has ended, or a test closed its descriptor
            flush(stream)
    os._exit(status)


if __name__ == "__main__":
    main()
