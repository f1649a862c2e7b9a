"""Writes events as JSON lines, for programs: ``--events FILE``.

``goldenami.events.to_line`` defines the lines.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType

from goldenami.errors import UsageError
from goldenami.events import Event, to_line


class EventFile:
    """An Emit that appends each event to a file and flushes it, so that a reader sees it at once.

    The file may be a named pipe or /dev/fd/N. ``wall_clock``: seconds since the epoch. Raises UsageError if the file
    cannot be opened.
    """

    def __init__(self, path: Path, *, wall_clock: Callable[[], float] = time.time) -> None:
        self._wall_clock = wall_clock
        self._lock = threading.Lock()
        try:
            self._file = path.open("a", encoding="utf-8")
        except OSError as error:
            raise UsageError(
                f"The events cannot be written to {path}: {error.strerror}", hint="Pass another file with --events."
            ) from error

    def __call__(self, event: Event) -> None:
        line = to_line(event, datetime.fromtimestamp(self._wall_clock(), UTC))
        with self._lock:
            self._file.write(line)
            self._file.flush()

    def close(self) -> None:
        """Close the file. A second call does nothing. A failure was reported by the call that wrote the event."""
        with self._lock, suppress(OSError):
            self._file.close()

    def __enter__(self) -> EventFile:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
