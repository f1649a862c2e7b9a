"""Events as JSON lines, for machines: ``--events FILE``.

Each line is one object: ``schema`` ("goldenami.events/1"), ``time`` (ISO 8601, UTC, milliseconds), ``kind``, and the
fields of that kind (goldenami/events.py) beside them. Readers must accept kinds and fields that they do not know.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType

from goldenami.errors import UsageError
from goldenami.events import Event

SCHEMA = "goldenami.events/1"


class EventFile:
    """An Emit that appends to a file, line by line, so that a reader sees each event at once. A named pipe or
    /dev/fd/N serves as well. ``wall_clock``: seconds since the epoch. Raises UsageError if the file cannot be opened.
    """

    def __init__(self, path: Path, *, wall_clock: Callable[[], float] = time.time) -> None:
        self._wall_clock = wall_clock
        self._lock = threading.Lock()
        try:
            self._file = path.open("a", encoding="utf-8")
        except OSError as error:
            raise UsageError(f"The events cannot be written to {path}: {error.strerror}") from error

    def __call__(self, event: Event) -> None:
        moment = datetime.fromtimestamp(self._wall_clock(), UTC).isoformat(timespec="milliseconds")
        record = {"schema": SCHEMA, "time": moment.replace("+00:00", "Z"), "kind": event.kind}
        line = json.dumps(record | {k: v for k, v in event.fields.items() if k not in record}, default=str)
        with self._lock:
            self._file.write(line + "\n")
            self._file.flush()

    def close(self) -> None:
        with self._lock:
            self._file.close()

    def __enter__(self) -> EventFile:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
