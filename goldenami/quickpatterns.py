"""Compiles regular expressions quickly, for a process of the command line.

Modules compile their patterns when they are loaded: two hundred for `goldenami plan`, a twentieth of its time. What
``re`` makes of a pattern depends on the pattern, its flags and the version of Python alone. So it is kept in the user's
cache, for the patterns of modules and classes; those that a function compiles may come from anywhere, and are not kept.
``_sre`` checks what it gets, as it does for ``re``.
"""

from __future__ import annotations

import atexit
import marshal
import re
import sys
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from types import FrameType

_FOLDER: Final = "patterns"  # of the cache
_FORM: Final = 1  # of the file
_FILES: Final = 4  # in the cache: one for each version of Python
_MOST: Final = 2048  # patterns in the file
_OPTIMIZED: Final = 1  # the flag of the code of functions (inspect.CO_OPTIMIZED)


def install() -> None:
    """Compile the patterns of modules quickly from here on."""
    compiler: Any = getattr(re, "_compiler", None)
    if all(hasattr(compiler, name) for name in ("compile", "_code", "_parser", "_sre")):
        patterns = Patterns(compiler)
        compiler.compile = patterns.compile
        atexit.register(patterns.write)


class Patterns:
    """What is made of patterns: in the cache, and by this process."""

    def __init__(self, compiler: Any) -> None:
        """``compiler``: the module ``re._compiler``."""
        self._compiler, self._compile = compiler, compiler.compile
        self._known: dict[tuple[Any, int], tuple[Any, ...]] | None = None
        self._new: dict[tuple[Any, int], tuple[Any, ...]] = {}

    def compile(self, pattern: Any, flags: int = 0) -> Any:
        """Compile a pattern, as ``re`` does."""
        if self._known is None:
            self._known = self._read()
        if type(pattern) not in (str, bytes) or flags & re.DEBUG:
            return self._compile(pattern, flags)
        key = pattern, int(flags)
        made = self._known.get(key)
        if made is not None:
            with suppress(RuntimeError, TypeError, ValueError, OverflowError):  # the file is damaged
                return self._compiler._sre.compile(pattern, *made)
        elif not _of_module():
            return self._compile(pattern, flags)
        made = self._new[key] = self._made(pattern, int(flags))
        return self._compiler._sre.compile(pattern, *made)

    def _made(self, pattern: Any, flags: int) -> tuple[Any, ...]:
        """Return the arguments of ``_sre.compile``, as ``re._compiler.compile`` does."""
        parsed = self._compiler._parser.parse(pattern, flags)
        code = self._compiler._code(parsed, flags)
        groups = parsed.state.groupdict
        names: list[str | None] = [None] * parsed.state.groups
        for name, number in groups.items():
            names[number] = name
        return int(flags | parsed.state.flags), [*map(int, code)], parsed.state.groups - 1, groups, tuple(names)

    def _read(self) -> dict[tuple[Any, int], tuple[Any, ...]]:
        from goldenami import usercache

        path = usercache.file_of_python(_FOLDER, _FORM)
        content = usercache.read(path) if path is not None else None
        try:
            version, known = marshal.loads(content or b"")  # only this user has written it
        except (ValueError, EOFError, TypeError):
            return {}
        return known if version == sys.version and isinstance(known, dict) else {}

    def write(self) -> None:
        """Keep what was made, for the next process."""
        from goldenami import usercache

        path = usercache.file_of_python(_FOLDER, _FORM) if self._new else None
        if path is not None and len(self._known or ()) < _MOST:
            usercache.write(path, marshal.dumps((sys.version, {**(self._known or {}), **self._new})), _FILES)


def _of_module() -> bool:
    """Return whether the code of a module or of a class compiles a pattern, and not a function."""
    frame: FrameType | None = sys._getframe(2)
    while frame is not None and frame.f_globals.get("__name__") == "re":
        frame = frame.f_back
    return frame is not None and not frame.f_code.co_flags & _OPTIMIZED
