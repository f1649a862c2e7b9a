"""The logs of a build's events, for people: one file for each run, ``<run>.jsonl``, with lines of ``events.to_line``.

A run is one process that works on the build: ``build`` is the first, each ``resume`` another one. Its file is appended
while it runs, in the local directory of the build. If the journals are in a bucket, the file is copied there when the
run ends, so that other machines can read it. The file of a killed process is copied by the next run on its machine.

The events have no secrets: they are masked before they come here. A log that cannot be written never fails the build.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from goldenami.errors import GoldenAmiError
from goldenami.events import Emit, Event, from_line, to_line
from goldenami.store import Store

_SUFFIX: Final = ".jsonl"
_OUTPUT_BYTES: Final = 8 << 20  # of one run; after these, the output of operations is left out
_BYTES: Final = 10 << 20  # of one run; after these, everything is left out
_LINE_BYTES: Final = 16 << 10


@dataclass(frozen=True, slots=True)
class Recorded:
    """One event of a log. ``run``: the name of its run; names sort by time. ``at``: by the clock of that machine."""

    run: str
    at: datetime
    event: Event


class EventLogs:
    """The logs of one build. ``Storage.events`` returns them."""

    def __init__(self, store: Store | None, folder: str, local: Path, now: Callable[[], datetime]) -> None:
        """``store`` and ``folder``: where the files of ended runs are copied to; None: ``local`` is in the store."""
        self._store = store
        self._folder = folder
        self._local = local
        self._now = now

    def runs(self) -> tuple[str, ...]:
        """Return the names of all runs with a log, oldest first."""
        stored = () if self._store is None else self._store.names(self._folder)
        return tuple(sorted({name.removesuffix(_SUFFIX) for name in (*stored, *self._local_names())}))

    def started(self) -> datetime | None:
        """Return when the latest run with a log began; None if there is no log."""
        runs = self.runs()
        return _time_of(runs[-1]) if runs else None

    def read(self) -> Iterator[Recorded]:
        """Yield the events of all runs, in order. Unreadable lines are left out."""
        return self.follow(lambda: False, lambda: None)

    def follow(self, running: Callable[[], bool], pause: Callable[[], None]) -> Iterator[Recorded]:
        """Yield the events of all runs, and further events until ``running`` returns False. ``pause`` waits between two
        reads of the files."""
        taken: dict[str, int] = {}
        while True:
            last = not running()  # before the read, so that the events of the end are read as well
            for run in self.runs():
                content = self._content(run, taken.get(run, 0))
                whole = content.rfind(b"\n") + 1
                taken[run] = taken.get(run, 0) + whole
                for line in content[:whole].splitlines():
                    found = from_line(line)
                    if found is not None:
                        yield Recorded(run, *found)
            if last:
                return
            pause()

    @contextmanager
    def recording(self, to: Emit) -> Iterator[Emit]:
        """Record the events of one run inside a ``with`` block. The Emit of the block also passes each event to
        ``to``."""
        self._copy()
        file = _File(self._local / f"{self._now().astimezone(UTC):%Y%m%dT%H%M%S.%fZ}{_SUFFIX}", self._now)

        def emit(event: Event) -> None:
            file.append(event)
            to(event)

        try:
            yield emit
        except Exception:
            file.close()
            self._copy()
            raise
        except BaseException:  # the process must end now
            file.close()
            raise
        file.close()
        self._copy()

    def delete(self) -> int:
        """Delete all logs; return the number of runs that had one. A second call does nothing."""
        runs = self.runs()
        if self._store is not None:
            self._store.delete_folder(self._folder)
        for name in self._local_names():
            with suppress(OSError):
                (self._local / name).unlink()
        with suppress(OSError):
            self._local.rmdir()
        return len(runs)

    def _copy(self) -> None:
        """Copy the local files that the store does not have. A failure is ignored: the log is only for people."""
        if self._store is None:
            return
        with suppress(GoldenAmiError, OSError):
            names = self._local_names()
            for name in sorted(set(names) - set(self._store.names(self._folder)) if names else ()):
                self._store.create(f"{self._folder}/{name}", (self._local / name).read_bytes())

    def _local_names(self) -> tuple[str, ...]:
        try:
            return tuple(path.name for path in self._local.iterdir() if path.name.endswith(_SUFFIX))
        except OSError:
            return ()

    def _content(self, run: str, start: int) -> bytes:
        """Return the content of a run's file from an offset on."""
        try:
            with (self._local / f"{run}{_SUFFIX}").open("rb") as file:
                file.seek(start)
                return file.read()
        except OSError:
            # A file in the store is complete, so it is read once.
            stored = None if self._store is None or start else self._store.read(f"{self._folder}/{run}{_SUFFIX}")
            return b"" if stored is None else stored.data


class _File:
    """The file of one run. It is bounded, and a failure ends the recording."""

    def __init__(self, path: Path, now: Callable[[], datetime]) -> None:
        self._now = now
        self._mutex = threading.Lock()
        self._size = 0
        self._limit = _OUTPUT_BYTES
        self._descriptor: int | None = None
        with suppress(OSError):
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)

    def append(self, event: Event) -> None:
        with self._mutex:
            if self._size > _BYTES or (self._size > _OUTPUT_BYTES and event.kind == "operation.output"):
                return
            self._write(event)
            if self._size > self._limit:
                what = "the output of operations" if self._limit == _OUTPUT_BYTES else "everything"
                message = f"this log has {self._limit >> 20} MiB: {what} is left out from here on"
                self._limit = _BYTES if self._limit == _OUTPUT_BYTES else 2 * _BYTES
                self._write(Event("note", {"message": message, "level": "warning"}))

    def _write(self, event: Event) -> None:
        line = to_line(event, self._now())
        if len(line) > _LINE_BYTES:
            fields = {k: v[:1000] if isinstance(v, str) else v for k, v in event.fields.items()}
            line = to_line(Event(event.kind, fields), self._now())
        data = line.encode()
        try:
            if self._descriptor is not None:
                self._size += os.write(self._descriptor, data)
        except OSError:  # the disk is full, for example
            self._close()

    def close(self) -> None:
        with self._mutex:
            self._close()

    def _close(self) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None


def _time_of(run: str) -> datetime | None:
    try:
        return datetime.strptime(run, "%Y%m%dT%H%M%S.%fZ").replace(tzinfo=UTC)
    except ValueError:
        return None
