"""What a test does beside computing and reading, as Python's audit hooks report it: a file that it writes, a program
that it starts, a connection, a pause. Whatever is not known to be harmless counts."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Any

_EVENTS = (
    "import compile exec marshal.load marshal.loads pickle.find_class code.__new__ function.__new__ "
    "builtins.id object.__getattr__ object.__setattr__ object.__delattr__ sys._getframe "
    "sys._getframemodulename sys._current_frames os.listdir os.scandir os.walk os.fwalk os.putenv os.unsetenv "
    "glob.glob glob.glob/2 pathlib.Path.glob pathlib.Path.rglob array.__new__ gc.get_objects gc.get_referrers "
    "gc.get_referents"
)
_HARMLESS = frozenset(_EVENTS.split())
_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND


def is_effect(event: str, arguments: tuple[Any, ...]) -> bool:
    """Return whether an event of the audit hook is something other than computing and reading."""
    if event in _HARMLESS:
        return False
    if event == "open" and len(arguments) > 2 and not (arguments[2] or 0) & _WRITING:
        return not _is_plain(arguments[0])
    return True


def _is_plain(path: object) -> bool:
    """Return whether reading a file takes nothing out of it, as it does out of a pipe or a device."""
    if not isinstance(path, str | bytes):
        return True  # a descriptor: how it was opened was reported
    try:
        mode = Path(os.fsdecode(path)).stat().st_mode
    except (OSError, ValueError):
        return True
    return stat.S_ISREG(mode) or stat.S_ISDIR(mode)
