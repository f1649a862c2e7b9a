"""The enclosure: the sandbox runs as PID 1 of a PID namespace, with its own mounts and its own cgroup subtree.

    unshare (outside) ── python (PID 1 inside) ── systemd-nspawn ── guests

Whatever ends that PID 1, ``kill -9`` included, makes the kernel end every process inside; with the last of them go the
mount namespace and so the mounts, the loop devices (autoclear), the network namespaces (their handles are mounts) and
the veths in them. What remains are empty cgroup directories and the nft table; ``leftovers`` takes these away at the
next start.

The launcher runs ``enclosed_argv``'s command; the program in it calls ``enter`` first of all. As PID 1, that program
gets only those signals for which it installs a handler: SIGTERM needs one.
"""

from __future__ import annotations

import contextlib
import ctypes
import hashlib
import os
import re
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

from goldenami_sandbox.errors import SandboxError

RUN = Path("/run/goldenami")  # a tmpfs of the enclosure: mount points of guests' roots
CGROUP = Path("/sys/fs/cgroup")  # inside: a fresh cgroup2 whose root is the sandbox's subtree
NETNS = Path("/run/netns")
_MARK = "GOLDENAMI_SANDBOX_ENCLOSURE"
_CLONE_NEWNET = 0x40000000
_libc = ctypes.CDLL(None, use_errno=True)
T = TypeVar("T")


def sandbox_id(state: Path) -> str:
    """Eight hexadecimal digits that stand for a state directory on this machine, the same at every start."""
    return hashlib.sha256(os.fsencode(state.resolve())).hexdigest()[:8]


def cgroup2_root() -> Path | None:
    """Where the host's cgroup2 hierarchy is mounted: /sys/fs/cgroup, or beside the v1 controllers on a hybrid host."""
    # The last one first: inside of an enclosure, what is mounted later hides what was there.
    for line in reversed(Path("/proc/self/mountinfo").read_text().splitlines()):
        left, _, right = line.partition(" - ")
        if right.split()[0] == "cgroup2":
            return Path(re.sub(r"\\(\d{3})", lambda m: chr(int(m[1], 8)), left.split()[4]))
    return None


def cgroup_name(sandbox: str) -> str:
    return f"goldenami-{sandbox}"


# $1: the cgroup directory. The shell joins it before unshare, so that it becomes the root of the new cgroup namespace.
_LAUNCH = """\
set -e
mkdir -p "$1"
echo 0 >"$1/cgroup.procs"
shift
exec unshare --mount --pid --fork --kill-child --mount-proc --propagation private --cgroup -- "$@"
"""


def enclosed_argv(sandbox: str, argv: Sequence[str]) -> list[str]:
    """The command that runs ``argv`` as PID 1 of the enclosure of ``sandbox`` (an id as ``sandbox_id`` gives it).

    Its exit status is that of ``argv``. Killing either side ends the other. Needs root and cgroup2.
    """
    root = cgroup2_root()
    if root is None:
        raise SandboxError("no cgroup2 hierarchy is mounted", hint="Mount one: mount -t cgroup2 none /sys/fs/cgroup")
    directory = root / cgroup_name(sandbox)
    return ["sh", "-c", _LAUNCH, "goldenami-enclose", str(directory), "env", f"{_MARK}={sandbox}", *argv]


def enter() -> None:
    """Furnish the enclosure: run once, by its PID 1, before any thread starts and anything else is done.

    Mounts a fresh cgroup2 on /sys/fs/cgroup, tmpfs on /run/netns and /run/goldenami, and moves this process into the
    cgroup /daemon. Raises SandboxError outside of an enclosure.
    """
    if enclosure() is None or os.getpid() != 1:
        raise SandboxError(
            "this process is not the first one of a sandbox enclosure", hint="Start it by `goldenami-sandbox up`."
        )
    for directory in (NETNS, RUN):
        directory.mkdir(parents=True, exist_ok=True)
        _mount("tmpfs", directory, "-o", "mode=0700")
    _mount("cgroup2", CGROUP)
    daemon = CGROUP / "daemon"
    daemon.mkdir(exist_ok=True)
    (daemon / "cgroup.procs").write_text("0")


def enclosure() -> str | None:
    """The id of the sandbox whose enclosure this process runs in."""
    return os.environ.get(_MARK)


def _mount(kind: str, directory: Path, *options: str) -> None:
    done = subprocess.run(["mount", "-t", kind, *options, "goldenami", str(directory)], capture_output=True, text=True)
    if done.returncode:
        raise SandboxError(f"cannot mount {kind} on {directory}: {done.stderr.strip()}")


def in_network(name: str, action: Callable[[], T]) -> T:
    """What ``action`` returns, run by a thread of its own in the network namespace ``name``. A socket that it makes
    stays there."""
    import threading

    result: list[T] = []
    error: list[BaseException] = []

    def run() -> None:
        try:
            handle = os.open(NETNS / name, os.O_RDONLY | os.O_CLOEXEC)
            try:
                if _libc.setns(handle, _CLONE_NEWNET):
                    raise OSError(ctypes.get_errno(), f"setns to {name}")
            finally:
                os.close(handle)
            result.append(action())
        except BaseException as e:  # handed to the caller's thread, whatever it is
            error.append(e)

    thread = threading.Thread(target=run, name=f"netns-{name}")
    thread.start()
    thread.join()
    if error:
        raise error[0]
    return result[0]


def remove_cgroup(directory: Path) -> None:
    """Remove a cgroup and those below it; what still has processes stays."""
    if not directory.is_dir():
        return
    for child in sorted((p for p in directory.rglob("*") if p.is_dir()), key=lambda p: len(p.parts), reverse=True):
        with contextlib.suppress(OSError):
            child.rmdir()
    with contextlib.suppress(OSError):
        directory.rmdir()


def guest_leader(instance_cgroup: Path) -> int | None:
    """The guest's PID 1, as the caller's PID namespace numbers it: the process of the instance's cgroup that is 1 in
    its own."""
    for procs in instance_cgroup.rglob("cgroup.procs"):
        with contextlib.suppress(OSError):
            for pid in procs.read_text().split():
                with contextlib.suppress(OSError):
                    status = Path(f"/proc/{pid}/status").read_text()
                    numbers = re.search(r"^NSpid:\s+(.*)$", status, re.MULTILINE)
                    if numbers and len(numbers[1].split()) > 1 and numbers[1].split()[-1] == "1":
                        return int(pid)
    return None


def nsenter_argv(leader: int, argv: Sequence[str]) -> list[str]:
    """The command that runs ``argv`` as root beside the guest's PID 1, with a plain environment."""
    return [
        "nsenter", "--target", str(leader), "--mount", "--uts", "--ipc", "--net", "--pid", "--",
        "env", "-i", "HOME=/root", "USER=root", "LOGNAME=root", f"TERM={os.environ.get('TERM', 'dumb')}",
        "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", *argv,
    ]  # fmt: skip


def guest_argv(sandbox: str, instance: str, argv: Sequence[str] = ("/bin/bash", "-l")) -> list[str]:
    """For the host, outside of the enclosure: the command that runs ``argv`` in the running guest of a sandbox."""
    root = cgroup2_root()
    leader = guest_leader(root / cgroup_name(sandbox) / instance) if root else None
    if leader is None:
        raise SandboxError(
            f"instance {instance} does not run in this sandbox", hint="`goldenami-sandbox status` lists them."
        )
    return nsenter_argv(leader, argv)
