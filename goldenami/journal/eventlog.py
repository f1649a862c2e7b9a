"""The logs of a build's events, for people: one file for each run, ``<run>.jsonl``, with lines of ``events.to_line``.

A run is one process that works on the build: ``build`` is the first, each ``resume`` another one. Its file is appended
while it runs, in the local directory of the build. If the journals are in a bucket, the file is copied there when the
run ends, so that other machines can read it. The file of a killed process is copied by the next run on its machine.
While it runs, its events without the output of operations are in an object beside it, ``<run>.live``, which is written
again every 15 seconds if there are new ones.

The events have no secrets: they are masked before they come here. A log that cannot be written never fails the build.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from goldenami.errors import GoldenAmiError
from goldenami.events import Emit, Event, from_line, to_line
from goldenami.store import Store, Stored

_SUFFIX: Final = ".jsonl"
_LIVE: Final = ".live"
_LIVE_SECONDS: Final = 15.0  # between two copies of the events of a run that goes on; each is a request
_LIVE_BYTES: Final = 1 << 20  # of one run; after these, other machines see the rest when the run ends
_OUTPUT: Final = "operation.output"
_OUTPUT_MARK: Final = f'"kind": "{_OUTPUT}"'.encode()
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
        return tuple(sorted(self._found()))

    def started(self) -> datetime | None:
        """Return when the latest run with a log began; None if there is no log."""
        runs = self.runs()
        return _time_of(runs[-1]) if runs else None

    def read(self, kinds: Sequence[str] = ()) -> Iterator[Recorded]:
        """Yield the events of all runs, in order. Unreadable lines are left out. ``kinds``: only these; the others are
        not parsed."""
        return self.follow(lambda: False, lambda: None, kinds)

    def follow(
        self, running: Callable[[], bool], pause: Callable[[], None], kinds: Sequence[str] = ()
    ) -> Iterator[Recorded]:
        """Yield the events of all runs, and further events until ``running`` returns False. ``pause`` waits between two
        reads of the files."""
        readers: dict[str, _Reader] = {}
        marks = [f'"kind": "{kind}"'.encode() for kind in kinds]
        while True:
            last = not running()  # before the read, so that the events of the end are read as well
            for run, suffixes in sorted(self._found().items()):
                for line in self._new_lines(run, suffixes, readers.setdefault(run, _Reader())):
                    found = from_line(line) if not marks or any(mark in line for mark in marks) else None
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

        shared = _Shared(self._store, f"{self._folder}/{file.run}{_LIVE}") if self._store is not None else None

        def emit(event: Event) -> None:
            line = file.append(event)
            if shared is not None and event.kind != _OUTPUT:
                shared.append(line)
            to(event)

        try:
            yield emit
        except Exception:
            self._end(file, shared)
            raise
        except BaseException:  # the process must end now
            file.close()
            if shared is not None:
                shared.abandon()
            raise
        self._end(file, shared)

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

    def _end(self, file: _File, shared: _Shared | None) -> None:
        file.close()
        if shared is not None:
            shared.stop()
        self._copy()

    def _found(self) -> dict[str, set[str]]:
        """Return the names of all runs, and which of their files exist. One request for a bucket."""
        found: dict[str, set[str]] = {}
        for name in (*(() if self._store is None else self._store.names(self._folder)), *self._local_names()):
            run, dot, suffix = name.rpartition(".")
            found.setdefault(run, set()).add(dot + suffix)
        return found

    def _copy(self) -> None:
        """Copy the local files that the store does not have. A failure is ignored: the log is only for people."""
        if self._store is None:
            return
        names = self._local_names()
        if not names:
            return
        with suppress(GoldenAmiError, OSError):
            stored = set(self._store.names(self._folder))
            for name in names:
                if name not in stored:
                    self._store.create(f"{self._folder}/{name}", (self._local / name).read_bytes())
                live = f"{name.removesuffix(_SUFFIX)}{_LIVE}"
                if live in stored:
                    self._store.delete(f"{self._folder}/{live}")

    def _local_names(self) -> tuple[str, ...]:
        try:
            return tuple(path.name for path in self._local.iterdir() if path.name.endswith(_SUFFIX))
        except OSError:
            return ()

    def _new_lines(self, run: str, suffixes: set[str], reader: _Reader) -> list[bytes]:
        """Return the lines of a run that ``reader`` has not seen."""
        try:
            with (self._local / f"{run}{_SUFFIX}").open("rb") as file:
                file.seek(reader.offset)
                content = file.read()
        except OSError:
            return self._stored_lines(run, suffixes, reader)
        whole = content.rfind(b"\n") + 1
        reader.offset += whole
        return content[:whole].splitlines()

    def _stored_lines(self, run: str, suffixes: set[str], reader: _Reader) -> list[bytes]:
        """Return the new lines of a run of another machine. Its file is complete, so it is read once."""
        if self._store is None or reader.complete:
            return []
        reader.complete = _SUFFIX in suffixes
        stored = self._store.read(f"{self._folder}/{run}{_SUFFIX if reader.complete else _LIVE}")
        if stored is None:  # deleted since it was listed, or not readable
            reader.complete = False
            return []
        lines = stored.data.splitlines()
        if reader.complete:  # it has the output as well; what was shown already is left out
            known = [at for at, line in enumerate(lines) if _OUTPUT_MARK not in line][: reader.shared]
            return lines[known[-1] + 1 :] if known else lines
        new = lines[reader.shared :]
        reader.shared = len(lines)
        return new


@dataclass(slots=True)
class _Reader:
    """What was read of one run: bytes of a local file; of a run on another machine, the lines of its shared events, and
    whether its complete file was read."""

    offset: int = 0
    shared: int = 0
    complete: bool = False


class _Shared:
    """The object with the events of a run that goes on. A thread writes it, and a failure is tried again."""

    def __init__(self, store: Store, key: str) -> None:
        self._store = store
        self._key = key
        self._lines = bytearray()
        self._written = 0
        self._before: Stored | None = None
        self._mutex = threading.Lock()
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="share events", daemon=True)
        self._thread.start()

    def append(self, line: bytes) -> None:
        with self._mutex:
            if len(self._lines) + len(line) <= _LIVE_BYTES:
                self._lines += line

    def abandon(self) -> None:
        """Write no more, and do not wait for a write that goes on."""
        self._stopped.set()

    def stop(self) -> None:
        """Write no more."""
        self._stopped.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stopped.wait(_LIVE_SECONDS):
            with suppress(GoldenAmiError, OSError):
                self._write()

    def _write(self) -> None:
        with self._mutex:
            data = bytes(self._lines)
        if len(data) == self._written:
            return
        done = self._store.replace(self._key, data, self._before)
        if done is None:  # an answer was lost, so the object is not the one that is known
            self._before = self._store.read(self._key)
        else:
            self._before, self._written = done, len(data)


class _File:
    """The file of one run. It is bounded, and a failure ends the recording."""

    def __init__(self, path: Path, now: Callable[[], datetime]) -> None:
        self.run = path.name.removesuffix(_SUFFIX)
        self._now = now
        self._mutex = threading.Lock()
        self._size = 0
        self._limit = _OUTPUT_BYTES
        self._descriptor: int | None = None
        with suppress(OSError):
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)

    def append(self, event: Event) -> bytes:
        """Append an event, and return its line; empty if the file is full."""
        with self._mutex:
            if self._size > _BYTES or (self._size > _OUTPUT_BYTES and event.kind == _OUTPUT):
                return b""
            line = self._write(event)
            if self._size > self._limit:
                what = "the output of operations" if self._limit == _OUTPUT_BYTES else "everything"
                message = f"this log has {self._limit >> 20} MiB: {what} is left out from here on"
                self._limit = _BYTES if self._limit == _OUTPUT_BYTES else 2 * _BYTES
                self._write(Event("note", {"message": message, "level": "warning"}))
            return line

    def _write(self, event: Event) -> bytes:
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
        return data

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
