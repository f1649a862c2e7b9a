"""The files of one sandbox, and its memory on disk.

    <home>/<name>/
        lock          held by the daemon while it lives
        up.lock       held by a command that starts or stops it
        process.json  the daemon's process, as the host sees it, its port and the token of the control endpoints
        port          the port, kept over restarts
        state.zip     everything that the API knows: state.json, and moto's services pickled
        calls.jsonl   the log of calls         daemon.log  what went wrong
        node/         the node's own: volumes, snapshots, instances

``state.zip`` is replaced as a whole, so a crash leaves the old one or the new one.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import logging
import os
import threading
import zipfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from goldenami_sandbox.errors import SandboxError

_log = logging.getLogger(__name__)
_FORMAT = 1
_DEBOUNCE = 0.2  # seconds from a change to its being written
_ATTENTIVE = 30.0  # seconds after a call during which work in the background is looked for every second


def default_home() -> Path:
    """Where sandboxes live: $GOLDENAMI_SANDBOX_HOME, or goldenami/sandbox in the user's data directory."""
    if home := os.environ.get("GOLDENAMI_SANDBOX_HOME"):
        return Path(home).absolute()
    data = os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share"
    return Path(data).absolute() / "goldenami" / "sandbox"


@dataclass(frozen=True)
class Files:
    """The paths above, under ``root``."""

    root: Path

    @property
    def lock(self) -> Path:
        return self.root / "lock"

    @property
    def up_lock(self) -> Path:
        return self.root / "up.lock"

    @property
    def process(self) -> Path:
        return self.root / "process.json"

    @property
    def port(self) -> Path:
        return self.root / "port"

    @property
    def state(self) -> Path:
        return self.root / "state.zip"

    @property
    def calls(self) -> Path:
        return self.root / "calls.jsonl"

    @property
    def log(self) -> Path:
        return self.root / "daemon.log"


@contextlib.contextmanager
def locked(path: Path, *, wait: bool) -> Iterator[None]:
    """Hold a lock file. Raises BlockingIOError where another process has it and ``wait`` is false."""
    with path.open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        yield


def write_atomically(path: Path, data: bytes, mode: int = 0o600) -> None:
    """Replace a file as a whole; it is on disk when this returns."""
    temporary = path.with_name(f".{path.name}.new")
    handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode)
    with os.fdopen(handle, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
    directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


def save(path: Path, own: Mapping[str, Any], services: Mapping[str, bytes]) -> None:
    import io

    head = {"format": _FORMAT, "moto": version("moto"), "goldenami": version("goldenami-sandbox"), "state": own}
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("state.json", json.dumps(head))
        for service, data in services.items():
            archive.writestr(f"moto/{service}", data)
    write_atomically(path, buffer.getvalue())


def load(path: Path) -> tuple[dict[str, Any], dict[str, bytes]] | None:
    """What ``save`` wrote; None where nothing was. Raises SandboxError for what cannot be used."""
    if not path.exists():
        return None
    hint = "Start anew with `goldenami-sandbox reset`; its images and instances are lost then."
    try:
        with zipfile.ZipFile(path) as archive:
            head = json.loads(archive.read("state.json"))
            names = [name for name in archive.namelist() if name.startswith("moto/")]
            services = {name.removeprefix("moto/"): archive.read(name) for name in names}
    except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise SandboxError(f"the state of the sandbox cannot be read ({path}): {error}", hint=hint) from error
    if head.get("format") != _FORMAT or head.get("moto") != version("moto"):
        raise SandboxError(
            f"the state of the sandbox was written by goldenami {head.get('goldenami')} with moto {head.get('moto')}, "
            f"and cannot be read with moto {version('moto')}",
            hint=hint,
        )
    return head["state"], services


class Keeper:
    """Writes the state soon after it changed: 0.2 s after a call that may have changed it, and when work in the
    background did.
    """

    def __init__(self, path: Path, dump: Callable[[], tuple[dict[str, Any], dict[str, bytes]]]) -> None:
        self._path = path
        self._dump = dump
        self._wake = threading.Event()
        self._stop = threading.Event()
        self._written: object = None
        self._thread = threading.Thread(target=self._run, name="keeper", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def changed(self) -> None:
        """Something may have changed. Cheap; called after every mutating call."""
        self._wake.set()

    def save(self) -> None:
        """Write the state if it differs from what is written."""
        own, services = self._dump()
        if (own, services) == self._written:
            return
        save(self._path, own, services)
        self._written = (own, services)

    def close(self) -> None:
        """Stop, without a last ``save``."""
        self._stop.set()
        self._wake.set()
        if self._thread.ident is not None:
            self._thread.join()

    def _run(self) -> None:
        quiet = 0.0
        while not self._stop.is_set():
            pause = 1.0 if quiet < _ATTENTIVE else 10.0
            if self._wake.wait(pause):
                quiet = 0.0
                self._stop.wait(_DEBOUNCE)
                self._wake.clear()
            else:
                quiet += pause
            if self._stop.is_set():
                return
            try:
                self.save()
            except Exception:  # a full disk must not end the keeping for good
                _log.exception("the state could not be written")
