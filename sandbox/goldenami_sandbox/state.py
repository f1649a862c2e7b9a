"""The files of a sandbox, and its saved state.

    <home>/<name>/
        format.json   the format of all other files here, and the version that wrote it
        lock          held by the daemon while it runs
        up.lock       held by a command that starts or stops the daemon
        process.json  the daemon's process id on the host, its port, the token of the control endpoints, and the secret
        port          the port, kept over restarts
        instances     the way in which its instances run (``ways``)
        state.zip     the state of the API: state.json, and moto's services pickled
        calls.jsonl   the log of calls
        daemon.log    the log of the daemon
        node/         the files of the node: volumes, snapshots, instances
        clients/      files of clients that belong to this sandbox, such as a catalog of its images

``state.zip`` is replaced as a whole, so after a crash it is either the old or the new file.

Formats: a change to ``state.json`` or to the node's files needs a new format and an entry in ``_MIGRATIONS`` if the
previous version cannot read the result, or if this version cannot read files of the previous one without a conversion:

    1   state.json: ec2, sessions, parameters, policies, settings, accounts; no format.json (up to 0.2.0)
    2   state.json: accounts, settings, sessions, and services by name; format.json
    3   encrypted snapshots have a key for each block, and a seal of these keys; older ones are read as they are

Only the same version of moto can read moto's pickles. They are not migrated.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import threading
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from goldenami_sandbox.errors import PROGRAM, SandboxError, StateError

if TYPE_CHECKING:
    import logging

FORMAT = 3
_RESET = f"Delete the state with `{PROGRAM} reset`. Its images and instances are lost."
_DEBOUNCE = 0.2  # seconds from a change until it is saved
_ATTENTIVE = 30.0  # seconds after a call in which background work is checked every second


# Commands ask only where the files are. So what writes and reads the state loads what it needs itself.


def _version(distribution: str) -> str:
    from importlib.metadata import version

    return version(distribution)


def _log() -> logging.Logger:
    import logging

    return logging.getLogger(__name__)


def default_home() -> Path:
    """Return the directory of all sandboxes: $GOLDENAMI_SANDBOX_HOME, or goldenami/sandbox in the user's data
    directory.
    """
    if home := os.environ.get("GOLDENAMI_SANDBOX_HOME"):
        return Path(home).absolute()
    data = os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share"
    return Path(data).absolute() / "goldenami" / "sandbox"


def default_cache() -> Path:
    """Return the directory of base images, for all sandboxes of a user: goldenami in $XDG_CACHE_HOME or ~/.cache."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache").absolute() / "goldenami"


@dataclass(frozen=True)
class Files:
    """The paths of a sandbox, under ``root``."""

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
    def secret(self) -> Path:
        return self.root / "secret"

    @property
    def port(self) -> Path:
        return self.root / "port"

    @property
    def instances(self) -> Path:
        return self.root / "instances"

    @property
    def format(self) -> Path:
        return self.root / "format.json"

    @property
    def node(self) -> Path:
        return self.root / "node"

    @property
    def state(self) -> Path:
        return self.root / "state.zip"

    @property
    def clients(self) -> Path:
        return self.root / "clients"

    @property
    def calls(self) -> Path:
        return self.root / "calls.jsonl"

    @property
    def log(self) -> Path:
        return self.root / "daemon.log"


def clients_directory(endpoint_url: str | None, home: Path | None = None) -> Path | None:
    """Return the directory of clients' files of the sandbox at an endpoint, or of the default sandbox.

    Returns None if no sandbox in ``home`` has that endpoint. A sandbox keeps its port, so it need not run.
    """
    home = home or default_home()
    found = Files(home / "default") if endpoint_url is None else at_endpoint(endpoint_url, home)
    return None if found is None else found.clients


def at_endpoint(endpoint_url: str, home: Path | None = None) -> Files | None:
    """Return the files of the sandbox in ``home`` that has an endpoint; None if there is none. It need not run."""
    home = home or default_home()
    with contextlib.suppress(OSError, ValueError):
        address = urlsplit(endpoint_url)
        if address.hostname in ("127.0.0.1", "localhost"):
            for root in sorted(home.iterdir()):
                with contextlib.suppress(OSError, ValueError):
                    if int(Files(root).port.read_text()) == address.port:
                        return Files(root)
    return None


@contextlib.contextmanager
def locked(path: Path, *, wait: bool) -> Iterator[None]:
    """Hold a lock file. Raises BlockingIOError if another process holds it and ``wait`` is false."""
    with path.open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        yield


def write_atomically(path: Path, data: bytes, mode: int = 0o600) -> None:
    """Replace a file as a whole. The contents are on disk when the function returns."""
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


# --- formats ----------------------------------------------------------------------------------------------------------


def claim(files: Files) -> None:
    """Check that this version can read the directory's format, and write its own format into ``format.json``.

    Call it with the daemon's lock held, before any other file of the directory is read. A directory without the file is
    empty, or has format 1. Raises StateError for a format that cannot be read.
    """
    found = _format_of(files)
    if found > FORMAT:
        raise StateError(
            f"the state of the sandbox in {files.root} has format {found}, which is newer than this version supports "
            f"(up to {FORMAT})",
            hint=f"Install the newer version of goldenami-sandbox again, or delete the state with `{PROGRAM} reset`.",
        )
    if found < FORMAT and found not in _MIGRATIONS:
        raise StateError(
            f"the state of the sandbox in {files.root} has format {found}, which is too old for this version",
            hint=_RESET,
        )
    if not files.format.exists() or found != FORMAT:
        mark = {"format": FORMAT, "sandbox": _version("goldenami-sandbox")}
        write_atomically(files.format, json.dumps(mark).encode())


def _format_of(files: Files) -> int:
    if not files.format.exists():
        return 1 if files.state.exists() or files.node.exists() else FORMAT
    try:
        found = json.loads(files.format.read_bytes())["format"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise StateError(f"{files.format} cannot be read: {type(error).__name__}: {error}", hint=_RESET) from error
    if not isinstance(found, int) or isinstance(found, bool):
        raise StateError(f"{files.format}: format is {found!r}, a whole number is expected", hint=_RESET)
    return found


def _from_1(own: Mapping[str, Any]) -> dict[str, Any]:
    services = {"ec2": own["ec2"], "ssm": own["parameters"], "dlm": own.get("policies", [])}
    return {**{key: own[key] for key in ("accounts", "settings", "sessions")}, "services": services}


# Conversions of state.json to the next format, by the old format. The node reads the files of all these formats.
_MIGRATIONS: Mapping[int, Callable[[Mapping[str, Any]], dict[str, Any]]] = {1: _from_1, 2: dict}


# --- state.zip --------------------------------------------------------------------------------------------------------


def save(path: Path, own: Mapping[str, Any], services: Mapping[str, bytes]) -> None:
    import io
    import zipfile

    head = {"format": FORMAT, "moto": _version("moto"), "sandbox": _version("goldenami-sandbox"), "state": own}
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("state.json", json.dumps(head))
        for service, data in services.items():
            archive.writestr(f"moto/{service}", data)
    write_atomically(path, buffer.getvalue())


def load(path: Path) -> tuple[dict[str, Any], dict[str, bytes]] | None:
    """Return the saved state in the current format, or None if there is none. Raises StateError for a file that cannot
    be used.
    """
    import zipfile

    if not path.exists():
        return None
    try:
        with zipfile.ZipFile(path) as archive:
            head = json.loads(archive.read("state.json"))
            names = [name for name in archive.namelist() if name.startswith("moto/")]
            services = {name.removeprefix("moto/"): archive.read(name) for name in names}
        own: dict[str, Any] = head["state"]
        found, moto = head["format"], head["moto"]
    except (OSError, ValueError, KeyError, TypeError, zlib.error, zipfile.BadZipFile) as error:
        raise _unreadable(path, error) from error
    writer = head.get("sandbox") or head.get("goldenami")
    if moto != _version("moto"):
        raise StateError(
            f"the state of the sandbox was written by version {writer} with moto {moto}, and cannot be read with moto "
            f"{_version('moto')}",
            hint=_RESET,
        )
    while found != FORMAT:
        if found not in _MIGRATIONS:
            raise StateError(
                f"the state of the sandbox ({path}) was written by version {writer} in format {found!r}; this version "
                f"reads {min(_MIGRATIONS)} to {FORMAT}",
                hint=_RESET,
            )
        try:
            own = _MIGRATIONS[found](own)
        except (KeyError, TypeError, AttributeError) as error:
            raise _unreadable(path, error) from error
        found += 1
    return own, services


def _unreadable(path: Path, error: Exception) -> StateError:
    detail = f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
    return StateError(f"the state of the sandbox cannot be read ({path}): {detail}", hint=_RESET)


@contextlib.contextmanager
def taken_over(path: Path) -> Iterator[None]:
    """Raise StateError, with the name of the file, for any error while the result of ``load`` is restored."""
    try:
        yield
    except SandboxError:
        raise
    except Exception as error:
        _log().exception("the state in %s could not be restored", path)
        raise _unreadable(path, error) from error


class Keeper:
    """Saves the state soon after a change: 0.2 s after a call that may have changed it, and after background work."""

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
        """Schedule a save. This is fast; the cloud calls it after every mutating call."""
        self._wake.set()

    def save(self) -> None:
        """Save the state if it differs from the saved one."""
        own, services = self._dump()
        if (own, services) == self._written:
            return
        save(self._path, own, services)
        self._written = (own, services)

    def close(self) -> None:
        """Stop without a last ``save``."""
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
            except Exception:  # the thread goes on after an error such as a full disk
                _log().exception("the state could not be saved")
