"""The process of a sandbox: it connects node, cloud and HTTP server, saves their state, and ends cleanly.

The way in which instances run (``ways``) decides what encloses it, so that all guests end when it ends. During the
start it writes JSON lines to a pipe: {"progress": text}, then {"ready": {…}} or {"error": text, "hint": text}.
"""

from __future__ import annotations

import contextlib
import gc
import json
import logging
import os
import random
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
from goldenami_sandbox.node.api import BASE, Node
from goldenami_sandbox.ways import Way

_log = logging.getLogger(__name__)
_REAP_SECONDS = 15.0
_LASTING_PORTS = 20_000  # the first one; the last one is below those that the kernel gives to connections
_TRIED_PORTS = 100
_LOG_BYTES = 64 * 2**20  # bytes; a larger log is renamed at the next start, and one old log is kept


class Starter:
    """Sends messages to the starting command over a pipe. The other end of the pipe may be closed."""

    def __init__(self, handle: int) -> None:
        self._handle = handle

    def send(self, message: Mapping[str, Any]) -> None:
        with contextlib.suppress(OSError):
            os.write(self._handle, json.dumps(message).encode() + b"\n")

    def progress(self, text: str) -> None:
        self.send({"progress": text})

    def close(self) -> None:
        with contextlib.suppress(OSError):
            os.close(self._handle)


def run(
    files: state.Files,
    way: Way,
    *,
    name: str,
    port: int,
    images: Sequence[str],
    settings: Mapping[str, Any],
    accounts: Mapping[str, str],
    starter: Starter,
) -> int:
    """Serve until SIGTERM or SIGINT. Returns the exit status."""
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    try:
        with contextlib.ExitStack() as cleanup:
            try:
                cleanup.enter_context(state.locked(files.lock, wait=False))
            except BlockingIOError:
                raise SandboxError(f"the sandbox {name!r} is already running") from None
            info = _start(files, way, name, port, images, settings, accounts, starter, cleanup, stop)
            gc.freeze()
            starter.send({"ready": info})
            starter.close()
            while not stop.wait(_REAP_SECONDS):
                _reap()
            _log.info("stopping")
    except SandboxError as error:
        _log.error("%s", error.message)
        starter.send({"error": error.message, "hint": error.hint})
        return error.exit_code
    except Exception as error:
        _log.exception("the sandbox failed")
        starter.send({"error": f"{type(error).__name__}: {error}", "hint": f"The details are in {files.log}."})
        return 1
    return 0


def _start(
    files: state.Files,
    way: Way,
    name: str,
    port: int,
    images: Sequence[str],
    settings: Mapping[str, Any],
    accounts: Mapping[str, str],
    starter: Starter,
    cleanup: contextlib.ExitStack,
    stop: threading.Event,
) -> dict[str, Any]:
    """Start all parts in the order of their dependencies. ``cleanup`` stops them in reverse order."""
    state.claim(files)
    known = state.load(files.state)
    if known is not None:
        with state.taken_over(files.state):
            accounts = {**known[0]["accounts"], **accounts}
    if way.has_instances:
        starter.progress("starting the storage and the network of instances")
    node = way.node(files.root, state.default_cache())
    cleanup.callback(node.close)
    node.start()
    state.write_atomically(files.instances, way.name.encode())
    keeper = state.Keeper(files.state, lambda: cloud.dump())
    secret = _secret(files)
    cloud = Cloud(
        node,
        accounts=accounts,
        clock=time.time,
        sleep=time.sleep,
        log=files.calls,
        changed=keeper.changed,
        secret=secret,
    )
    cleanup.callback(_save_and_stop, cloud, keeper)
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
        if way.has_instances and not node.has_snapshot(f"base-{release}"):
            starter.progress(
                f"preparing {release}; the first start on a machine installs it, which takes about 30 seconds"
            )
        node.base(release)
    keeper.save()
    keeper.start()
    token = secrets.token_urlsafe(24)
    server = _listen(files, port, ControlPoint(cloud, node, name, token, time.time))
    cleanup.callback(server.close)
    server.serve_in_thread()
    return {"port": server.port, "token": token, "secret": secret, "accounts": dict(accounts)}


def _secret(files: state.Files) -> str:
    """Return the secret of the administrators' keys. A restart keeps it, so that clients' keys stay valid."""
    if not files.secret.exists():
        state.write_atomically(files.secret, secrets.token_hex(32).encode())
    return files.secret.read_text()


def _listen(files: state.Files, port: int, app: ControlPoint) -> Server:
    """Listen on the requested port, else on the last port used, else on any free port, and save its number."""
    try:
        wanted = port or int(files.port.read_text())
    except (OSError, ValueError):
        wanted = 0
    try:
        server = Server(app, wanted) if wanted else _on_a_lasting_port(app)
    except OSError as error:
        if port:
            raise SandboxError(
                f"port {port} of 127.0.0.1 cannot be used: {error.strerror}",
                hint="Choose another port, or omit --port.",
            ) from error
        server = _on_a_lasting_port(app)
    state.write_atomically(files.port, str(server.port).encode())
    return server


def _on_a_lasting_port(app: ControlPoint) -> Server:
    """Listen on a free port that the kernel gives to no connection. The next start needs the same port again."""
    first = 0
    with contextlib.suppress(OSError):
        first = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    lasting = range(_LASTING_PORTS, max(first, _LASTING_PORTS))
    for port in random.sample(lasting, min(len(lasting), _TRIED_PORTS)):
        with contextlib.suppress(OSError):  # it is in use
            return Server(app, port)
    return Server(app, 0)


def _save_and_stop(cloud: Cloud, keeper: state.Keeper) -> None:
    """Wait for running work, then save the state while the instances are running, so that the next start boots them."""
    keeper.close()
    cloud.ec2.close()
    keeper.save()
    cloud.close()


def _clear_orphans(node: Node, ec2: Mapping[str, Any]) -> None:
    """Delete what a killed daemon created after its last saved state. No record refers to these resources."""
    for instance in set(node.instances()) - set(ec2["instances"]):
        _log.info("removing the instance %s, which is not in the saved state", instance)
        node.terminate(instance)
    volumes, snapshots = node.stored()
    for volume in volumes - set(ec2["volumes"]):
        _log.info("deleting the volume %s, which is not in the saved state", volume)
        node.delete_volume(volume)
    for snapshot in snapshots - {*ec2["snapshots"], *ec2.get("binned_snapshots", ())}:
        if not snapshot.startswith(BASE):
            _log.info("deleting the snapshot %s, which is not in the saved state", snapshot)
            node.delete_snapshot(snapshot)


def _reap() -> None:
    """Reap zombies as PID 1: helper processes of guests whose parent ended.

    Children of this process are left to the threads that wait for them. A process counts as an orphan if it is still a
    zombie one round later.
    """
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
    """Create the directory of the sandbox. Only its owner can read it, because its token gives access to the control
    endpoints.
    """
    root.mkdir(0o700, parents=True, exist_ok=True)
    root.chmod(0o700)
    files = state.Files(root)
    for log in (files.calls, files.log):
        if log.exists() and log.stat().st_size > _LOG_BYTES:
            log.replace(log.with_name(log.name + ".1"))
    return files
