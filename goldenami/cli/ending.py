"""Ends the process of a command, without the work on its memory that Python does at its end.

Python takes apart all modules and objects, which takes a twelfth of `goldenami plan`, although the operating system
takes back the memory at once. All that others can see is done before, in Python's order: threads end, the handlers of
``atexit`` run, and stdout and stderr are written.
"""

from __future__ import annotations

import atexit
import os
import sys
import threading
from contextlib import suppress
from typing import Any, NoReturn

from goldenami.stdstreams import flush


def end(code: int) -> NoReturn:
    """End this process. ``code``: its exit status."""
    if not _is_observed():
        with suppress(KeyboardInterrupt):  # Python's own end does what is left, as after any Ctrl-C at the end
            _finish()
            os._exit(code)
    sys.exit(code)


def _finish() -> None:
    """Do what Python does first at its end."""
    python: Any = threading
    python._shutdown()  # also ends the threads of pools
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):  # the handlers may have written to them
        flush(stream)


def _is_observed() -> bool:
    """Return whether somebody measures or debugs this process, and may need Python's whole end: a tracer, a profiler,
    ``python -i`` and ``-X dev``."""
    tools: Any = getattr(sys, "monitoring", None)  # from Python 3.12 on
    return (
        sys.gettrace() is not None
        or sys.getprofile() is not None
        or bool(sys.flags.inspect or sys.flags.dev_mode)
        or (tools is not None and any(tools.get_tool(number) is not None for number in range(6)))
    )
