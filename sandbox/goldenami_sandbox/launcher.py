"""Starts, identifies and stops the daemon process of a sandbox on the host, and cleans up after it."""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from goldenami_sandbox import state, ways
from goldenami_sandbox.errors import SandboxError
from goldenami_sandbox.guard import killed_with_parent
from goldenami_sandbox.ways import Choice

Progress = Callable[[str], None]
_START_SECONDS = 900.0  # the first start installs a base from Debian's archive, maybe over a slow network
_STOP_SECONDS = 150.0  # where no way is known
_KILL_SECONDS = 60.0


def running(files: state.Files) -> dict[str, Any] | None:
    """Return process.json (pid, port, token, secret, accounts, way) if its process lives and was ready, else None."""
    try:
        record: dict[str, Any] = json.loads(files.process.read_text())
        alive = _start_ticks(record["pid"]) == record["started"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return record if alive and "port" in record else None


def spawn(
    files: state.Files,
    name: str,
    port: int,
    images: Sequence[str],
    settings: Mapping[str, Any],
    accounts: Mapping[str, str],
    choice: Choice,
    progress: Progress,
    die_with_parent: bool,
) -> None:
    """Start the daemon and wait until it is ready. Raises SandboxError with the daemon's error if the start fails."""
    reader, writer = os.pipe()
    argv = [sys.executable, "-m", "goldenami_sandbox", "--name", name, "--state-dir", str(files.root)]
    argv += ["--port", str(port), "--ready-fd", str(writer), "--images", ",".join(images)]
    argv += ["--settings", json.dumps(dict(settings)), "--accounts", json.dumps(dict(accounts))]
    argv += ["--instances", choice.way.name]
    command = choice.way.command(files.root, argv)
    if die_with_parent:
        command = killed_with_parent(command)
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("AWS_", "MOTO_"))}
    with os.fdopen(reader, "rb", buffering=0) as pipe:
        with os.fdopen(writer, "wb"), files.log.open("ab") as log:
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd="/",
                env=environment,
                pass_fds=[writer],
                start_new_session=True,
            )
        process_record = {
            "pid": process.pid,
            "started": _start_ticks(process.pid),
            "instances": choice.way.name,
            "lacks": choice.lacks,
            "hint": choice.hint,
        }
        state.write_atomically(
            files.process, json.dumps(process_record).encode()
        )  # so that a later command can end it if this process is killed
        try:
            ready = _await_ready(pipe.fileno(), files, progress)
        except BaseException:
            process.kill()  # unshare's --kill-child ends the processes below it
            process.wait()
            raise
    state.write_atomically(files.process, json.dumps({**process_record, **ready}).encode())
    if running(files) is None:
        raise SandboxError(
            f"the sandbox {name!r} ended directly after its start", hint=f"The reason is in {files.log}."
        )


def _await_ready(pipe: int, files: state.Files, progress: Progress) -> dict[str, Any]:
    """Read the messages of the starting daemon. Returns the contents of its message ``ready``."""
    deadline = time.monotonic() + _START_SECONDS
    pending = b""
    while True:
        left = deadline - time.monotonic()
        if left <= 0 or not select.select([pipe], [], [], left)[0]:
            raise SandboxError(
                f"the sandbox was not ready within {_START_SECONDS:.0f} s", hint=f"The log of the start is {files.log}."
            )
        data = os.read(pipe, 65536)
        if not data:
            raise SandboxError(
                f"the sandbox ended during its start: {_last_line(files.log)}", hint=f"The details are in {files.log}."
            )
        *lines, pending = (pending + data).split(b"\n")
        for line in lines:
            message = json.loads(line)
            if "progress" in message:
                progress(message["progress"])
            elif "error" in message:
                raise SandboxError(message["error"], hint=message.get("hint"))
            else:
                ready: dict[str, Any] = message["ready"]
                return ready


def stop(files: state.Files, pid: int) -> None:
    """Send SIGTERM to the daemon, and SIGKILL if it does not end in time. Raises SandboxError if it still runs."""
    for child in _children(pid) or [pid]:  # the daemon is the child of what encloses it, if anything does
        with contextlib.suppress(ProcessLookupError):
            os.kill(child, signal.SIGTERM)
    way = ways.kept_by(files)
    if not _await_end(files, pid, _STOP_SECONDS if way is None else way.stop_seconds):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
        if not _await_end(files, pid, _KILL_SECONDS):
            raise SandboxError(
                f"the sandbox in {files.root} (process {pid}) still runs {_KILL_SECONDS:.0f} s after SIGKILL",
                hint=f"The log is {files.log}.",
            )


def _await_end(files: state.Files, pid: int, seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        with contextlib.suppress(ChildProcessError):
            os.waitpid(pid, os.WNOHANG)  # a child of this process stays a zombie until waitpid
        if running(files) is None:
            return True
        time.sleep(0.02)
    return False


def sweep(files: state.Files) -> None:
    """Remove what the kernel keeps of a sandbox that ended."""
    files.process.unlink(missing_ok=True)
    way = ways.kept_by(files)
    if way is not None:
        way.sweep(files.root)


def end_half_started(files: state.Files) -> None:
    """End the process of an interrupted start. The caller holds the lock, so no other process waits for this daemon."""
    try:
        record = json.loads(files.process.read_text())
        pid, started = int(record["pid"]), record["started"]
    except (OSError, ValueError, KeyError, TypeError):
        return
    while started is not None and _start_ticks(pid) == started:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
        time.sleep(0.02)


def _children(pid: int) -> list[int]:
    try:
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []


def _start_ticks(pid: int) -> int | None:
    """Return the start time of a process in clock ticks since boot. Together with the pid it identifies a process.

    None if there is no such process, or if it is a zombie.
    """
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] in "ZX" else int(fields[19])


def _last_line(log: Path) -> str:
    try:
        lines = log.read_text(errors="replace").strip().splitlines()
    except OSError:
        return "no log was written"
    return lines[-1] if lines else "its log is empty"
