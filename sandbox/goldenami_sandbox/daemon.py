"""The process of a sandbox: puts node, cloud and HTTP server together, keeps their state, and ends cleanly.

It is PID 1 of its enclosure (``node.namespaces``): its end is the end of every guest. On the way up it tells its
starter how far it is, in JSON lines on a pipe: {"progress": text}, then {"ready": {…}} or {"error": text, "hint":
text}.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import secrets
import signal
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from goldenami_sandbox import state
from goldenami_sandbox.cloud import Cloud
from goldenami_sandbox.controlpoint import ControlPoint
from goldenami_sandbox.errors import SandboxError
from goldenami_sandbox.http import Server
from goldenami_sandbox.node.namespaces import RUN
from goldenami_sandbox.node.pool import Pool
from goldenami_sandbox.node.runtime import RealNode

_log = logging.getLogger(__name__)
_REAP_SECONDS = 15.0
_LOG_BYTES = 64 * 2**20  # logs larger than this are put aside at the next start; one old one is kept


class Starter:
    """The other end of the pipe; it may be gone."""

    def __init__(self, handle: int) -> None:
        self._handle = handle

    def tell(self, message: Mapping[str, Any]) -> None:
        with contextlib.suppress(OSError):
            os.write(self._handle, json.dumps(message).encode() + b"\n")

    def progress(self, text: str) -> None:
        self.tell({"progress": text})

    def close(self) -> None:
        with contextlib.suppress(OSError):
            os.close(self._handle)


def run(
    files: state.Files,
    *,
    name: str,
    port: int,
    images: Sequence[str],
    settings: Mapping[str, Any],
    accounts: Mapping[str, str],
    starter: Starter,
) -> int:
    """Serve until SIGTERM or SIGINT; returns the exit status."""
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    try:
        with contextlib.ExitStack() as cleanup:
            try:
                cleanup.enter_context(state.locked(files.lock, wait=False))
            except BlockingIOError:
                raise SandboxError(f"the sandbox {name!r} is running already") from None
            info = _start(files, name, port, images, settings, accounts, starter, cleanup, stop)
            starter.tell({"ready": info})
            starter.close()
            while not stop.wait(_REAP_SECONDS):
                _reap()
            _log.info("stopping")
    except SandboxError as error:
        _log.error("%s", error.message)
        starter.tell({"error": error.message, "hint": error.hint})
        return error.exit_code
    except Exception as error:
        _log.exception("the sandbox failed")
        starter.tell({"error": f"{type(error).__name__}: {error}", "hint": f"{files.log} has the details."})
        return 1
    return 0


def _start(
    files: state.Files,
    name: str,
    port: int,
    images: Sequence[str],
    settings: Mapping[str, Any],
    accounts: Mapping[str, str],
    starter: Starter,
    cleanup: contextlib.ExitStack,
    stop: threading.Event,
) -> dict[str, Any]:
    """Bring everything up, in the order in which things need each other; ``cleanup`` takes it down in reverse."""
    state.claim(files)
    known = state.load(files.state)
    if known is not None:
        with state.taken_over(files.state):
            accounts = {**known[0]["accounts"], **accounts}
    starter.progress("mounting the pool and bringing up the network")
    node = RealNode(files.root, default_cache())
    cleanup.callback(node.close)
    node.start()
    keeper = state.Keeper(files.state, lambda: cloud.dump())
    cloud = Cloud(node, accounts=accounts, clock=time.time, sleep=time.sleep, log=files.calls, changed=keeper.changed)
    cleanup.callback(_shut, cloud, keeper)
    if known is not None:
        with state.taken_over(files.state):
            ec2 = known[0]["services"]["ec2"]
            if any(instance["goal"] == "running" for instance in ec2["instances"].values()):
                starter.progress("starting the instances that were running")
            _clear_orphans(node, ec2)
            cloud.load(*known)
    cloud.seed()
    if settings:
        cloud.change(settings)
    for release in images:
        if stop.is_set():
            break
        if not node.has_snapshot(f"base-{release}"):
            starter.progress(f"preparing {release}; the first time on a machine, this installs it: half a minute")
        node.base(release)
    keeper.save()
    keeper.start()
    token = secrets.token_urlsafe(24)
    server = _listen(files, port, ControlPoint(cloud, node, name, token, time.time))
    cleanup.callback(server.close)
    server.serve_in_thread()
    return {"port": server.port, "token": token, "accounts": dict(accounts)}


def _listen(files: state.Files, port: int, app: ControlPoint) -> Server:
    """Take the port that was asked for, else the one of last time, else any free one, and remember it."""
    try:
        wanted = port or int(files.port.read_text())
    except (OSError, ValueError):
        wanted = 0
    try:
        server = Server(app, wanted)
    except OSError as error:
        if port:
            raise SandboxError(
                f"port {port} of 127.0.0.1 cannot be used: {error.strerror}",
                hint="Choose another, or leave out --port.",
            ) from error
        server = Server(app, 0)
    state.write_atomically(files.port, str(server.port).encode())
    return server


def _shut(cloud: Cloud, keeper: state.Keeper) -> None:
    """Let running work end, then write the state as it is now: with the instances running, so that the next start
    boots them.
    """
    keeper.close()
    cloud.ec2.close()
    keeper.save()
    cloud.close()


def _clear_orphans(node: RealNode, ec2: Mapping[str, Any]) -> None:
    """What a killed predecessor had made and not yet remembered: nobody can name it any more."""
    for instance in set(node.instances()) - set(ec2["instances"]):
        _log.info("forgetting the instance %s, which no state knows", instance)
        node.terminate(instance)
    pool = Pool(Path(), RUN / "pool")
    for volume in {path.name for path in pool.volumes.iterdir()} - set(ec2["volumes"]):
        _log.info("deleting the volume %s, which no state knows", volume)
        node.delete_volume(volume)
    for snapshot in {path.name for path in pool.snapshots.iterdir()} - set(ec2["snapshots"]):
        if not snapshot.startswith("base-"):
            _log.info("deleting the snapshot %s, which no state knows", snapshot)
            node.delete_snapshot(snapshot)


def default_cache() -> Path:
    """Where base roots are kept, for all sandboxes of a user: goldenami in $XDG_CACHE_HOME or ~/.cache."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache").absolute() / "goldenami"


def _reap() -> None:
    """As PID 1, take in orphans of guests' helpers that ended. Our own children are left to those who wait for them: an
    orphan is told from them by having been dead for a whole round."""
    global _dead
    dead = set()
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit() or entry.name == "1":
            continue
        with contextlib.suppress(OSError, IndexError):
            fields = (entry / "stat").read_text().rpartition(")")[2].split()
            if fields[0] == "Z" and fields[1] == "1":
                dead.add(int(entry.name))
    for pid in dead & _dead:
        with contextlib.suppress(ChildProcessError):
            os.waitpid(pid, os.WNOHANG)
    _dead = dead


_dead: set[int] = set()


def prepare_files(root: Path) -> state.Files:
    """The sandbox's directory, readable by its owner only: whoever reads it can use the control endpoints."""
    root.mkdir(parents=True, exist_ok=True)
    root.chmod(0o700)
    files = state.Files(root)
    for log in (files.calls, files.log):
        if log.exists() and log.stat().st_size > _LOG_BYTES:
            log.replace(log.with_name(log.name + ".1"))
    return files
