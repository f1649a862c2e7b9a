"""Compiles the code of classes quickly, for a process of the command line.

``dataclasses``, ``namedtuple`` and ``typing`` write Python code for each class and each annotation in quotes, and
compile it when its module is loaded: two thousand pieces for `goldenami plan`, a tenth of its time. What the compiler
makes of a text depends on the text and the version of Python alone. So it is kept in the user's cache. In which
module, and with which values, the code runs, is decided anew each time.
"""

from __future__ import annotations

import atexit
import builtins
import collections
import dataclasses
import marshal
import sys
import typing
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from types import CodeType

    from goldenami.kepttable import Table

_FORM: Final = 2  # of the file
_FILES: Final = 4  # in the cache: one for each version of Python
_MOST: Final = 8192  # texts in the file
_LARGEST: Final = 16 << 20  # bytes of the file
_VERSION: Final = b"version"  # the key of that of Python, beside those of texts
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
        self._codes: dict[bytes, CodeType] = {}  # that this process used
        self._table: Table | None = None
        self._is_read = False

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
        key = f"{mode} {text}".encode()
        code = self._codes.get(key)
        if code is None:
            self._read()
            kept = self._table.find(key) if self._table is not None else None
            code = self._codes[key] = marshal.loads(kept) if kept is not None else _compiled(text, mode)
        return code

    def _read(self) -> None:
        """Read the cache, if that has not begun: what is loaded to read it may have classes, too."""
        if self._is_read:
            return
        self._is_read = True
        from goldenami import kepttable, usercache

        table = kepttable.Table(usercache.file_of_python("code", _FORM))
        if table.find(_VERSION) != sys.version.encode():
            table.known = {}
        self._table = table

    def write(self) -> None:
        """Keep what was compiled, for the next process."""
        if self._table is None:
            return
        used = self._table.used
        used[_VERSION] = sys.version.encode()
        used |= {key: marshal.dumps(code) for key, code in self._codes.items() if key not in used}
        self._table.write(most=_MOST, largest=_LARGEST, files=_FILES)


def _compiled(text: str, mode: str) -> CodeType:
    # The statements of this module, such as its import from __future__, are not those of the text.
    code: CodeType = builtins.compile(text, _NAME, mode, dont_inherit=True)
    return code
