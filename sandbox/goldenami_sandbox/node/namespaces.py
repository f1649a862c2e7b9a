"""The enclosure: the sandbox runs as PID 1 of a PID namespace, with its own mounts and its own cgroup subtree.

    unshare (outside) ── python (PID 1 inside) ── systemd-nspawn ── guests

When that PID 1 ends, also by ``kill -9``, the kernel ends every process inside. Then it removes the mount namespace
with its mounts, the loop devices (autoclear), the network namespaces (their handles are mounts) and their veths. Empty
cgroup directories and the nft table remain; ``leftovers`` removes them at the next start.

The launcher runs the command of ``enclosed_argv``. Its program must call ``enter`` first. As PID 1, the program gets
only signals for which it installs a handler, so it needs one for SIGTERM.
"""

from __future__ import annotations

import contextlib
import ctypes
import hashlib
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TypeVar

from goldenami_sandbox.errors import SandboxError

RUN = Path("/run/goldenami")  # a tmpfs of the enclosure: mount points of guests' roots
CGROUP = Path("/sys/fs/cgroup")  # inside: a fresh cgroup2 whose root is the sandbox's subtree
NETNS = Path("/run/netns")
MARK = "GOLDENAMI_SANDBOX_ENCLOSURE"
_CLONE_NEWNET, _CLONE_NEWNS, _CLONE_FS = 0x40000000, 0x20000, 0x200
_libc = ctypes.CDLL(None, use_errno=True)
T = TypeVar("T")


def sandbox_id(state: Path) -> str:
    """Return eight hexadecimal digits that identify a state directory on this machine, the same at every start."""
    return hashlib.sha256(os.fsencode(state.resolve())).hexdigest()[:8]


def cgroup2_root() -> Path | None:
    """Return the mount point of the host's cgroup2: /sys/fs/cgroup, or a path beside the v1 controllers on a hybrid
    host.
    """
    # The last mount first: inside of an enclosure, a later mount hides an earlier one.
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
    """Return the command that runs ``argv`` as PID 1 of the enclosure of ``sandbox`` (an id from ``sandbox_id``).

    Its exit status is that of ``argv``. Killing either side ends the other. Needs root and cgroup2.
    """
    root = cgroup2_root()
    if root is None:
        raise SandboxError("no cgroup2 hierarchy is mounted", hint="Mount it: mount -t cgroup2 none /sys/fs/cgroup")
    directory = root / cgroup_name(sandbox)
    return ["sh", "-c", _LAUNCH, "goldenami-enclose", str(directory), "env", f"{MARK}={sandbox}", *argv]


def enter() -> None:
    """Set up the enclosure. Its PID 1 calls this once, before it starts any thread.

    Mounts a new cgroup2 on /sys/fs/cgroup, tmpfs on /run/netns and /run/goldenami, and moves this process into the
    cgroup /daemon. Raises SandboxError outside of an enclosure.
    """
    if enclosure() is None or os.getpid() != 1:
        raise SandboxError(
            "this process is not PID 1 of a sandbox enclosure", hint="Start the sandbox with `goldenami-sandbox up`."
        )
    for directory in (NETNS, RUN):
        directory.mkdir(parents=True, exist_ok=True)
        _mount("tmpfs", directory, "-o", "mode=0700")
    _mount("cgroup2", CGROUP)
    daemon = CGROUP / "daemon"
    daemon.mkdir(exist_ok=True)
    (daemon / "cgroup.procs").write_text("0")


def enclosure() -> str | None:
    """Return the id of the sandbox whose enclosure this process runs in."""
    return os.environ.get(MARK)


def _mount(kind: str, directory: Path, *options: str) -> None:
    done = subprocess.run(["mount", "-t", kind, *options, "goldenami", str(directory)], capture_output=True, text=True)
    if done.returncode:
        raise SandboxError(f"cannot mount {kind} on {directory}: {done.stderr.strip()}")


def in_network(name: str, action: Callable[[], T]) -> T:
    """Return the result of ``action``, run by a thread in the network namespace ``name``. Sockets that it makes stay
    there.
    """
    with _handles(NETNS / name) as (network,):
        return _in_thread(lambda: _setns(network, _CLONE_NEWNET), action)


def in_guest(pid: int, action: Callable[[], T]) -> T:
    """Return the result of ``action``, run by a thread that sees the files of a guest as its process ``pid`` does: no
    path and no link leads out of the guest. The thread keeps the rights of this process.
    """
    process = Path(f"/proc/{pid}")
    with _handles(process / "ns/mnt", process / "root", process / "cwd") as (mounts, root, directory):

        def enter() -> None:
            if _libc.unshare(_CLONE_FS):
                raise OSError(ctypes.get_errno(), "unshare")
            _setns(mounts, _CLONE_NEWNS)
            os.fchdir(root)
            os.chroot(".")
            os.fchdir(directory)

        return _in_thread(enter, action)


@contextlib.contextmanager
def _handles(*paths: Path) -> Iterator[list[int]]:
    with contextlib.ExitStack() as stack:
        handles = []
        for path in paths:
            handles.append(os.open(path, os.O_RDONLY | os.O_CLOEXEC))
            stack.callback(os.close, handles[-1])
        yield handles


def _setns(handle: int, kind: int) -> None:
    if _libc.setns(handle, kind):
        raise OSError(ctypes.get_errno(), "setns")


def _in_thread(enter: Callable[[], None], action: Callable[[], T]) -> T:
    import threading

    result: list[T] = []
    error: list[BaseException] = []

    def run() -> None:
        try:
            enter()
            result.append(action())
        except BaseException as e:  # any exception is raised again in the caller's thread
            error.append(e)

    thread = threading.Thread(target=run, name="elsewhere")
    thread.start()
    thread.join()
    if error:
        raise error[0]
    return result[0]


def remove_cgroup(directory: Path) -> None:
    """Remove a cgroup and its subgroups, except those that have processes."""
    if not directory.is_dir():
        return
    for child in sorted((p for p in directory.rglob("*") if p.is_dir()), key=lambda p: len(p.parts), reverse=True):
        with contextlib.suppress(OSError):
            child.rmdir()
    with contextlib.suppress(OSError):
        directory.rmdir()


_NOT_YET_INIT = ("Name:\tsystemd-nspawn\n", "Name:\t(sd-")  # the begin of /proc/PID/status


def guest_leader(instance_cgroup: Path) -> int | None:
    """Return the guest's PID 1, as a number of the caller's PID namespace.

    It is the process of the instance's cgroup whose innermost number is 1. A guest can make more PID namespaces, which
    are deeper. A PID 1 that is still a part of systemd-nspawn does not count: until it becomes the guest's init, its
    ids may have no numbers of the host, and its root may be another.
    """
    leader: int | None = None
    depth = sys.maxsize
    for directory in _groups(instance_cgroup):
        with contextlib.suppress(OSError):
            for pid in (directory / "cgroup.procs").read_text().split():
                with contextlib.suppress(OSError):
                    status = Path(f"/proc/{pid}/status").read_text()
                    found = re.search(r"^NSpid:\s+(.*)$", status, re.MULTILINE)
                    numbers = found[1].split() if found else []
                    if 1 < len(numbers) < depth and numbers[-1] == "1" and not status.startswith(_NOT_YET_INIT):
                        leader, depth = int(pid), len(numbers)
    return leader


def _groups(directory: Path) -> Iterator[Path]:
    """Yield a cgroup, then those below it. They are listed after the caller has looked at it, so that a process that
    moves down meanwhile is found: systemd moves itself into init.scope when it boots. Cgroups that end meanwhile are
    ignored.
    """
    yield directory
    with contextlib.suppress(OSError), os.scandir(directory) as entries:
        below = [Path(entry.path) for entry in entries if entry.is_dir(follow_symlinks=False)]
        for group in below:
            yield from _groups(group)


def nsenter_argv(leader: int, argv: Sequence[str]) -> list[str]:
    """Return the command that runs ``argv`` as root in the guest's namespaces, with a plain environment."""
    return [
        "nsenter", "--target", str(leader), "--user", "--mount", "--uts", "--ipc", "--net", "--pid", "--",
        "env", "-i", "HOME=/root", "USER=root", "LOGNAME=root", f"TERM={os.environ.get('TERM', 'dumb')}",
        "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", *argv,
    ]  # fmt: skip


def guest_argv(sandbox: str, instance: str, argv: Sequence[str] = ("/bin/bash", "-l")) -> list[str] | None:
    """Return the command that runs ``argv`` in a running guest, for callers on the host, outside of the enclosure.

    None if it has no PID 1, as between the two boots of a reboot.
    """
    root = cgroup2_root()
    leader = guest_leader(root / cgroup_name(sandbox) / instance) if root else None
    return None if leader is None else nsenter_argv(leader, argv)
