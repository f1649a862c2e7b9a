"""Keeps failures of stdout and stderr away from the work of a command.

A terminal that is closed, a full disk or a pipe without a reader must not end a build in the midst of its clean-up, or
turn a release into a failure. So writing never raises an error here. The first failure is kept, later output is
dropped, and :meth:`Streams.finish` reports a failure of stdout at the end, as a warning and an exit code of its own.
"""

from __future__ import annotations

import errno
import io
import os
import select
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from goldenami.errors import OutputFailed
from goldenami.printable import escaped

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

# Of a command that did its work, but could not write its data to stdout or to a file.
OUTPUT_FAILED: Final = OutputFailed.exit_code


class _Descriptor(io.RawIOBase):
    """Writes to a file descriptor, which stays open. ``failure``: the first error."""

    def __init__(self, number: int) -> None:
        self.failure: OSError | None = None
        self._number = number

    def fileno(self) -> int:
        return self._number

    def isatty(self) -> bool:
        return os.isatty(self._number)

    def writable(self) -> bool:
        return True

    def write(self, data: ReadableBuffer, /) -> int:
        while self.failure is None:
            try:
                return os.write(self._number, data)
            except BlockingIOError:  # another program made the pipe or terminal non-blocking
                select.select((), (self._number,), ())
            except OSError as error:
                self.failure = error
        return memoryview(data).nbytes


@dataclass(frozen=True, slots=True)
class Streams:
    """stdout of this process."""

    _stdout: _Descriptor

    def finish(self, code: int) -> int:
        """Write what is buffered, and return the exit code of the process. ``code``: that of the command.

        If stdout failed, a command that succeeded has the exit code ``OUTPUT_FAILED``. A reader that ends early
        (``| head``) is no failure.
        """
        sys.stdout.flush()
        failure = self._stdout.failure
        if failure is not None and failure.errno != errno.EPIPE:
            sys.stderr.write(
                f"warning: stdout could not be written: {failure.strerror}. The command itself has ended"
                f"{' well' if code == 0 else ''}; only its output is incomplete.\n"
            )
            code = code or OUTPUT_FAILED
        sys.stderr.flush()
        return code


def protect() -> Streams:
    """Replace sys.stdout and sys.stderr by streams whose failures raise no error.

    A closed descriptor is opened as /dev/null. Otherwise the next file that this program opens, for example the
    journal, would get its number, and whatever a child process prints would end up in that file.
    """
    for number in (0, 1, 2):
        try:
            os.fstat(number)
        except OSError:
            os.set_inheritable(os.open(os.devnull, os.O_RDONLY), True)  # it gets the lowest number that is free
    stdout, stderr = _Descriptor(1), _Descriptor(2)
    sys.stdout = _stream(stdout, sys.stdout, _Escaping, line_buffering=stdout.isatty())
    sys.stderr = _stream(stderr, sys.stderr, io.TextIOWrapper, line_buffering=True)  # has colors
    return Streams(stdout)


def write_file(path: Path, data: str | bytes, option: str) -> None:
    """Write a file that the user named with an option, and its folders. An existing file is replaced.

    Raises OutputFailed if it cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data.encode() if isinstance(data, str) else data)
    except OSError as error:
        raise OutputFailed(
            f"{path} cannot be written: {error.strerror or error}", hint=f"Give another file with {option}."
        ) from error


class _Escaping(io.TextIOWrapper):
    """Writes control characters as escapes, because names and texts of others are in the output."""

    def write(self, text: str, /) -> int:
        super().write(escaped(text))
        return len(text)


def _stream(
    descriptor: _Descriptor, before: Any, kind: type[io.TextIOWrapper], *, line_buffering: bool
) -> io.TextIOWrapper:
    """Return a text stream over a descriptor with the encoding of the stream before; None: it was closed."""
    encoding = before.encoding if before is not None else "utf-8"
    errors = before.errors if before is not None and before.errors != "strict" else "backslashreplace"
    buffer = io.BufferedWriter(descriptor)
    return kind(buffer, encoding=encoding, errors=errors, line_buffering=line_buffering)
