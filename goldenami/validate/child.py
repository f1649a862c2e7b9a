"""The start of the process that runs tests: it loads pytest and the rest, and then waits for its order.

``runner`` starts it before its order is known, while a host is provisioned or boots, because loading takes longer than
many tests do. The order comes over the socket whose descriptor is the only argument, until its end: arguments of
pytest, environment, working directory, and with it the descriptors of the settings, the answers and the lifeline. If
the parent ends first, or has no order for a long time, this process ends too.
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import socket
import sys

IDLE_SECONDS = 3600.0
PIECE_BYTES = 1 << 20
MOST_DESCRIPTORS = 4
_GARBAGE = 50_000  # new objects between two looks for garbage; pytest makes very many that live as long as it runs


def main() -> None:
    parent = socket.socket(fileno=int(sys.argv[1]))
    os.set_inheritable(parent.fileno(), False)
    import _pytest.config
    import pytest
    import testinfra.host
    import testinfra.modules

    from goldenami import ssh
    from goldenami.validate import plugin
    from goldenami.validate.settings import VARIABLE

    _ = (ssh.connect, ssh.Shells, plugin.TestRun)  # names that are loaded on demand
    for name in testinfra.modules.modules:  # they are loaded on demand, too, and each copy would load them again
        testinfra.modules.get_module_class(name)
    for name in _pytest.config.default_plugins:
        importlib.import_module(f"_pytest.{name}")
    importlib.import_module("xml.etree.ElementTree")  # for the JUnit file
    gc.freeze()  # pytest collects garbage at its end, and need not look at all this
    gc.set_threshold(_GARBAGE)
    parent.settimeout(IDLE_SECONDS)
    data, descriptors, *_rest = socket.recv_fds(parent, PIECE_BYTES, MOST_DESCRIPTORS)
    if not data:
        return
    while piece := parent.recv(PIECE_BYTES):
        data += piece
    parent.close()
    order = json.loads(data)
    os.environ.clear()
    os.environ.update(order["environment"])
    os.environ[VARIABLE] = ",".join(map(str, descriptors))
    os.chdir(order["folder"])
    sys.argv = ["pytest", *order["arguments"]]
    # A line at once is one call of the kernel, and wakes the parent once.
    sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]
    sys.exit(pytest.console_main())


if __name__ == "__main__":
    main()
