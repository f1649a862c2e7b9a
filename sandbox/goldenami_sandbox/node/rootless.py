"""RootlessNode: instances in user namespaces, for users without root.

    unshare (outside) ── python (PID 1 inside, root of a user namespace) ── unshare ── guestinit (PID 1) ── a guest

The user namespace has the user's own id and the range of /etc/subuid. A guest has its own mounts, processes, host name
and IPC. It has no systemd, no network of its own and no block devices: it shares the network of this machine, on which
it can open no port below 1024. Its root volume is a directory while it runs (``trees``). Nothing listens for SSH:
``Doors`` hands each connection to an sshd in inetd mode that runs in the guest.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import ipaddress
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from goldenami_sandbox.errors import SandboxError, SandboxUnsupported
from goldenami_sandbox.node import baseimage, guestinit
from goldenami_sandbox.node.api import DataKey, ExportForm, InstanceSpec
from goldenami_sandbox.node.command import last_line, run
from goldenami_sandbox.node.devices import DataVolumes
from goldenami_sandbox.node.imds import MetadataService
from goldenami_sandbox.node.instances import REBOOT_STATUS, Guest
from goldenami_sandbox.node.namespaces import MARK
from goldenami_sandbox.node.network import Network, Range
from goldenami_sandbox.node.pool import PlainPool, Pool
from goldenami_sandbox.node.runtime import RealNode
from goldenami_sandbox.node.trees import TreeVolumes
from goldenami_sandbox.node.volumes import Volumes

_PROGRAMS = {
    "unshare": "util-linux",
    "nsenter": "util-linux",
    "newuidmap": "uidmap",
    "newgidmap": "uidmap",
    "mmdebstrap": "mmdebstrap",
    "debugfs": "e2fsprogs",
    "mke2fs": "e2fsprogs",
}
_UNSHARE = ["unshare", "--user", "--map-root-user", "--map-auto", "--mount", "--pid", "--fork", "--kill-child"]
_ENCLOSE = [*_UNSHARE, "--mount-proc", "--propagation", "private", "--"]
_GUEST = ["unshare", "--mount", "--pid", "--fork", "--kill-child", "--uts", "--ipc", "--"]
_ADDRESSES = Range(ipaddress.IPv4Network("198.18.0.0/22"))  # names of instances: nothing is routed there
_SYSTEM_PATH = f"{os.environ.get('PATH', os.defpath)}:/usr/local/sbin:/usr/sbin:/sbin"


def check() -> None:
    """Check what this machine lacks. Raises SandboxUnsupported with all of it, and how to get it."""
    missing = sorted({package for name, package in _PROGRAMS.items() if shutil.which(name, path=_SYSTEM_PATH) is None})
    if missing:
        raise SandboxUnsupported(
            f"instances in user namespaces cannot run here; the packages {', '.join(missing)} are missing",
            hint=f"Install them: apt-get install {' '.join(missing)}",
        )
    done = subprocess.run(
        [*_ENCLOSE, *_GUEST, "mount", "-t", "tmpfs", "none", "/mnt"], capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise SandboxUnsupported(
            f"instances in user namespaces cannot run here; {last_line(done.stderr) or 'unshare failed'}",
            hint="The user needs a range in /etc/subuid and /etc/subgid (usermod --add-subuids 100000-165535 "
            "--add-subgids 100000-165535 USER), and the machine must allow user namespaces and mounts in them.",
        )


def enclosed_argv(sandbox: str, argv: Sequence[str]) -> list[str]:
    """Return the command that runs ``argv`` as root of a user namespace, as PID 1. Killing either side ends both."""
    return [*_ENCLOSE, "env", f"{MARK}={sandbox}", f"PATH={_SYSTEM_PATH}", *argv]


def delete(directory: Path) -> None:
    """Delete a directory with files of guests, from outside of the sandbox's user namespace."""
    # Root can delete them as it is, and may have no range of ids.
    inside = [] if os.geteuid() == 0 else ["unshare", "--user", "--map-root-user", "--map-auto", "--"]
    run(*inside, "rm", "-rf", "--", str(directory))


class RootlessGuest(Guest):
    """A guest whose init is ``guestinit``. At its end, the files of its root volume are written back."""

    patience = 120.0

    def entering(self, argv: Sequence[str]) -> list[str]:
        return entering(self.leader(), argv)

    @contextlib.contextmanager
    def standing_still(self) -> Iterator[None]:
        """Stop all processes of the guest until the block ends."""
        stopped: list[int] = []
        try:
            while more := [one for one in self._processes() if one not in stopped]:
                for process in more:
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(process, signal.SIGSTOP)
                stopped += more
            yield
        finally:
            for process in stopped:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(process, signal.SIGCONT)

    def _processes(self) -> list[int]:
        """Return the processes in the guest's PID namespace."""
        leader, found = self._find_leader(), []
        with contextlib.suppress(OSError):
            inside = Path(f"/proc/{leader}/ns/pid").readlink()
            for entry in Path("/proc").iterdir():
                with contextlib.suppress(OSError):
                    if entry.name.isdigit() and (entry / "ns/pid").readlink() == inside:
                        found.append(int(entry.name))
        return found

    def _find_leader(self) -> int | None:
        if self.process is None or self.process.poll() is not None:
            return None
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children")
        with contextlib.suppress(OSError):
            return next((int(child) for child in children.read_text().split()), None)
        return None

    def _has_booted(self) -> bool:
        leader = self._find_leader()
        return leader is not None and _is_init(leader)

    def _boot_once(self) -> int:
        argv = [*_GUEST, sys.executable, "-I", "-S", guestinit.__file__, str(self.root), self.hostname, self.instance]
        with self._log() as log:
            self.process = subprocess.Popen(
                argv,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                env={"PATH": _SYSTEM_PATH},
            )
        status = self._await_end(self.process)
        # The kernel ends the init of a guest that calls reboot(2) by one of these signals, and unshare passes it on.
        return {-signal.SIGHUP: REBOOT_STATUS, -signal.SIGINT: 0}.get(status, status)

    def _kill_cgroup(self) -> None:
        """Kill the guest's init, with which the kernel ends all its processes."""
        leader = self._find_leader()
        with contextlib.suppress(ProcessLookupError):
            if leader is not None:
                os.kill(leader, signal.SIGKILL)
            elif self.process is not None:
                self.process.kill()  # does nothing once it has ended: its number may be another process's by now

    def _clear_cgroup(self) -> None:
        """There is none."""


def _is_init(process: int) -> bool:
    """Whether a guest's PID 1 has made its root, and takes requests. Before that, its root is that of this machine."""
    root = Path(f"/proc/{process}/root")
    with contextlib.suppress(OSError):
        return not root.samefile("/") and (root / "run/initctl").exists()
    return False


def entering(leader: int, argv: Sequence[str], *, outside: bool = False) -> list[str]:
    """Return the command that runs ``argv`` as root in a guest. ``outside``: from outside of the sandbox's user
    namespace."""
    user = ["--user"] if outside else []
    return [
        "nsenter", "--target", str(leader), *user, "--mount", "--uts", "--ipc", "--pid", "--root", "--wd=/", "--",
        "env", "-i", "HOME=/root", "USER=root", "LOGNAME=root", f"TERM={os.environ.get('TERM', 'dumb')}",
        "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", *argv,
    ]  # fmt: skip


def guest_argv(state: Path, instance: str, argv: Sequence[str]) -> list[str] | None:
    """Return the command that runs ``argv`` as root in a running guest, for callers outside of the sandbox. ``state``:
    its directory. None if it has no PID 1, as between the two boots of a reboot."""
    program, name, own = os.fsencode(guestinit.__file__), instance.encode(), os.fsencode(state)
    for process in Path("/proc").iterdir():
        with contextlib.suppress(OSError, ValueError):
            words = (process / "cmdline").read_bytes().split(b"\0")
            at = words.index(program)  # and then the root, the host name and the instance
            found = words[0] != b"unshare" and words[at + 3] == name and words[at + 1].startswith(own + b"/")
            if found and _is_init(int(process.name)):
                return entering(int(process.name), argv, outside=True)
    return None


class Doors:
    """Gives SSH connections to guests. A client connects to the socket and sends the id of an instance and a line
    break; from then on, the socket is the standard input and output of an sshd in the guest."""

    def __init__(self, path: Path, find: Callable[[str], Guest | None]) -> None:
        self._path = path
        self._find = find
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)

    def open(self) -> None:
        self._path.unlink(missing_ok=True)
        folder = os.open(self._path.parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:  # the address of a socket has at most 108 bytes
            self._listener.bind(f"/proc/self/fd/{folder}/{self._path.name}")
        finally:
            os.close(folder)
        self._path.chmod(0o600)
        self._listener.listen(64)
        threading.Thread(target=self._serve, name="doors", daemon=True).start()

    def close(self) -> None:
        self._listener.close()
        self._path.unlink(missing_ok=True)

    def _serve(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._admit, args=(client,), name="door", daemon=True).start()

    def _admit(self, client: socket.socket) -> None:
        with client, contextlib.suppress(OSError, SandboxError):
            client.settimeout(10)
            name = b""
            while not name.endswith(b"\n") and len(name) < 64:  # one byte at a time: the rest is for sshd
                name += client.recv(1) or b"\n"
            guest = self._find(name.decode(errors="replace").strip())
            if guest is None:
                return
            client.settimeout(None)
            with guest.console.open("ab") as log:
                argv, handle = guest.entering(["/usr/sbin/sshd", "-i"]), client.fileno()
                process = subprocess.Popen(argv, stdin=handle, stdout=handle, stderr=log)
            client.close()
            process.wait()


class RootlessNode(RealNode):
    """The Node whose instances run in user namespaces."""

    _guest = RootlessGuest

    def start(self) -> None:
        if self._network is None:
            super().start()
            self._doors = Doors(self._home / "ssh.sock", self._guests.get)
            self._doors.open()

    def close(self) -> None:
        if self._network is not None:
            self._doors.close()
        super().close()

    def export(self, snapshot: str, key: DataKey | None, output: Path, form: ExportForm) -> None:
        if form != "raw":
            raise SandboxError(
                "an image cannot be exported to a directory or a .tar file here: that needs a mount, and so root",
                hint="Export it to a file whose name ends with .raw: debugfs(8) reads it, and root can mount it.",
            )
        super().export(snapshot, key, output, form)

    def start_instance(self, instance: str) -> None:
        spec = self._require_spec(instance)
        if spec.data_volumes:
            raise _no_devices()
        self._trees.stand_still(spec.root_volume, lambda: self._still(instance))
        super().start_instance(instance)

    @contextlib.contextmanager
    def _still(self, instance: str) -> Iterator[None]:
        guest = self._guests.get(instance)
        with guest.standing_still() if guest is not None else contextlib.nullcontext():
            yield

    def _storage(self) -> tuple[Pool, Volumes, DataVolumes]:
        pool = PlainPool(self._home / "pool")
        self._trees = TreeVolumes(pool, self._home / "trees")
        return pool, self._trees, _NoDevices(self._trees)

    def _base_image(self, release: str) -> Path:
        return _base_image(release, self._cache)

    def _root_of(self, spec: InstanceSpec) -> Path:
        return self._trees.tree(spec.root_volume)

    def _check(self) -> None:
        """The starting command has checked it, outside of the user namespace."""

    def _services(self, sandbox: str) -> tuple[Network, MetadataService]:
        return _NoNetwork(sandbox), _NoMetadata(lambda _: None)


class _NoDevices(DataVolumes):
    """No guest gets a block device: the kernel gives loop devices to root only."""

    def attach(self, instance: str, leader: int, volume: str, device: str, *, nvme: bool = False) -> None:
        raise _no_devices()

    def boot(self, instance: str, process: int, *, nvme: bool) -> None:
        """There is nothing to attach."""


def _no_devices() -> SandboxError:
    return SandboxError(
        "volumes cannot be attached to instances in user namespaces: block devices need root",
        hint="Run the sandbox as root.",
    )


class _NoNetwork(Network):
    """Guests use the network of this machine. Their addresses are names."""

    def start(self, preferred: str | None) -> None:
        self.range = _ADDRESSES

    def close(self) -> None:
        """Nothing was made."""

    def connect(self, instance: str, address: str, pid: int, *, public: bool = True) -> None:
        """Nothing is made."""

    def disconnect(self, instance: str, address: str) -> None:
        """Nothing was made."""


class _NoMetadata(MetadataService):
    """169.254.169.254 would be an address of this machine, which may have a metadata service itself."""

    def start(self) -> None:
        """Nothing is served."""

    def close(self) -> None:
        """Nothing is served."""


def _base_image(release: str, cache: Path) -> Path:
    """Return the path of the cached image of ``release``, made if it is missing: as ``baseimage.image``, but without
    /sys, which a user cannot mount."""
    known = baseimage.RELEASES.get(release)
    if known is None:
        raise SandboxError(f"there is no base root {release!r}", hint=f"Use one of {', '.join(baseimage.RELEASES)}.")
    # The cache of another sandbox of this user may have it.
    definition = hashlib.sha256(Path(baseimage.__file__).read_bytes()).hexdigest()[:12]
    target = cache / f"{release}-amd64-{definition}.ext4"
    cache.mkdir(parents=True, exist_ok=True)
    with (cache / f".{release}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not target.exists():
            with tempfile.TemporaryDirectory(prefix=f".{release}-", dir=cache) as directory:
                root, new = Path(directory, "root"), Path(directory, "image")
                root.mkdir()
                run(
                    "mmdebstrap", "--quiet", "--mode=root", "--skip=chroot/mount/sys", "--variant=minbase",
                    "--format=directory", f"--include={baseimage._PACKAGES}", known.suite, str(root), baseimage.MIRROR,
                    hint=f"It needs to reach {baseimage.MIRROR}, by http_proxy if that is set, and 1 GB of disk.",
                )  # fmt: skip
                baseimage.furnish(root, known)
                with new.open("wb") as file:
                    file.truncate(baseimage.SIZE)
                run("mke2fs", "-q", "-t", "ext4", "-L", "cloudimg-rootfs", "-d", str(root), str(new))
                new.rename(target)
    return target
