"""Keeps what Jinja makes of the source of a template in the user's cache: program, names, and whether it is cheap.

All of it depends on the source and on the code that makes it alone, so both find it. What a template renders to is not
kept. It is one table (``kepttable``) for all projects. Only a process that runs one command reads it, and writes it at
its end.
"""

from __future__ import annotations

import atexit
import hashlib
import marshal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, TypeVar

import jinja2

import goldenami
from goldenami import onecommand, usercache
from goldenami.kepttable import Table

_FORM: Final = 1  # of the file
_FILES: Final = 4  # in the cache: one for each version
_LONGEST: Final = 16 << 10  # characters of a source
_MOST: Final = 8192  # results in the file
_LARGEST: Final = 8 << 20  # bytes of it
_CODE: Final = ("rendering.py", "secret_text.py", "secrets.py")  # decide what is made
T = TypeVar("T")


class _Kept:
    """``current``: the table of this process, whose file is found by the code that it runs; None: not read yet."""

    current: Table | None = None


def kept(what: str, source: str, make: Callable[[], T]) -> T:
    """Return what ``make`` makes of a source, or what it made of it before. ``what``: the name of the result, which
    ``marshal`` can write. Raises what ``make`` raises; then nothing is kept."""
    if not onecommand.here() or len(source) > _LONGEST:
        return make()
    if _Kept.current is None:
        _Kept.current = Table(_entry())
        atexit.register(_Kept.current.write, most=_MOST, largest=_LARGEST, files=_FILES)
    current = _Kept.current
    key = hashlib.sha256(f"{what}\0{source}".encode(errors="surrogatepass")).digest()
    content = current.find(key)
    if content is None:
        made: Any = make()
        current.used[key] = marshal.dumps(made)
        fresh: T = made
        return fresh
    found: T = marshal.loads(content)  # only this user has written it
    return found


def _entry() -> Path | None:
    """Return the file of the cache for the code of this program; None if nothing can be kept."""
    folder = usercache.folder("templates")
    if folder is None:
        return None
    code = usercache.states(Path(goldenami.__file__).with_name("recipe") / name for name in _CODE)
    if code is None:
        return None
    decides = [_FORM, goldenami.__version__, jinja2.__version__, sys.version, code]
    return folder / hashlib.sha256(repr(decides).encode()).hexdigest()
