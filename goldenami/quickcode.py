"""Compiles the code of classes quickly, for a process of the command line.

``dataclasses``, ``namedtuple`` and ``typing`` write Python code for each class and each annotation in quotes, and
compile it when its module is loaded: two thousand pieces for `goldenami plan`, a tenth of its time. What the compiler
makes of a text depends on the text and the version of Python alone. So it is kept in the user's cache. In which
module, and with which values, the code runs, is decided anew each time.
"""

from __future__ import annotations

import atexit
import binascii
import builtins
import collections
import dataclasses
import marshal
import sys
import typing
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from pathlib import Path
    from types import CodeType

_FORM: Final = 1  # of the file
_FILES: Final = 4  # in the cache: one for each version of Python
_MOST: Final = 8192  # texts in the file
_SUM: Final = 4  # bytes of the checksum at the begin of the file: the interpreter believes what is in code
_NAME: Final = "<string>"  # as the name of the file, for all three


def install() -> None:
    """Compile the code of classes quickly from here on. A second call changes nothing."""
    if "exec" in vars(dataclasses):
        return
    codes = Codes()
    # Each of the three calls one function of ``builtins``, and only for such code.
    for module, name, instead in (
        (dataclasses, "exec", codes.exec),
        (collections, "eval", codes.eval),
        (typing, "compile", codes.compile),
    ):
        setattr(module, name, instead)
    atexit.register(codes.write)


class Codes:
    """Compiled texts: those in the cache, and those of this process."""

    def __init__(self) -> None:
        self._known: dict[tuple[str, str], bytes] | None = None
        self._used: dict[tuple[str, str], CodeType] = {}

    def exec(self, text: Any, *names: Any) -> None:
        """Do what ``builtins.exec`` does."""
        builtins.exec(self._of(text, "exec") if type(text) is str else text, *names)

    def eval(self, text: Any, *names: Any) -> Any:
        """Do what ``builtins.eval`` does."""
        return builtins.eval(self._of(text, "eval") if type(text) is str else text, *names)

    def compile(self, text: Any, filename: Any, mode: str, *more: Any, **named: Any) -> Any:
        """Do what ``builtins.compile`` does."""
        if type(text) is str and (filename, mode) == (_NAME, "eval") and not more and not named:
            return self._of(text, mode)
        return builtins.compile(text, filename, mode, *more, **named)

    def _of(self, text: str, mode: str) -> CodeType:
        key = mode, text
        code = self._used.get(key)
        if code is None:
            if self._known is None:
                self._known = {}  # what is loaded to read the file may have classes, too
                self._known = self._read()
            kept = self._known.get(key)
            code = marshal.loads(kept) if kept is not None else _compiled(text, mode)
            self._used[key] = code
        return code

    def _read(self) -> dict[tuple[str, str], bytes]:
        from goldenami import usercache

        path = _entry()
        content = usercache.read(path) if path is not None else None
        if content is None or _sum(content[_SUM:]) != content[:_SUM]:
            return {}
        try:
            version, known = marshal.loads(content[_SUM:])  # only this user has written it
        except (ValueError, EOFError, TypeError):
            return {}
        return known if version == sys.version else {}

    def write(self) -> None:
        """Keep what was compiled, for the next process."""
        known = self._known or {}
        path = None if self._used.keys() <= known.keys() else _entry()
        if path is None:
            return
        from goldenami import usercache

        every = known | {key: known.get(key) or marshal.dumps(code) for key, code in self._used.items()}
        if len(every) > _MOST:
            every = {key: every[key] for key in self._used}
        content = marshal.dumps((sys.version, every))
        usercache.write(path, _sum(content) + content, _FILES)


def _compiled(text: str, mode: str) -> CodeType:
    # The statements of this module, such as its import from __future__, are not those of the text.
    code: CodeType = builtins.compile(text, _NAME, mode, dont_inherit=True)
    return code


def _sum(content: bytes) -> bytes:
    return binascii.crc32(content).to_bytes(_SUM, "big")


def _entry() -> Path | None:
    from goldenami import usercache

    folder = usercache.folder("code")
    return folder / f"{_FORM}-{sys.implementation.cache_tag}-{sys.hexversion:x}" if folder is not None else None
