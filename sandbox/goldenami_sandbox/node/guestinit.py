"""A program: PID 1 of a guest without systemd, in namespaces that ``rootless`` makes.

    python -I -S guestinit.py ROOT HOSTNAME INSTANCE

It imports nothing of the package. It mounts what a system expects, makes ROOT its root, runs the commands of user data,
and reaps processes. It ends with status 0 for a power-off and 133 for a reboot, as systemd-nspawn does. Both are asked
for by the signals of systemd, and from inside by halt, poweroff, reboot, shutdown and telinit, which write to
/run/initctl (initreq.h of sysvinit) if there is no systemd.
"""

import contextlib
import ctypes
import os
import select
import signal
import socket
import struct
import sys
import time
from pathlib import Path

POWER_OFF, REBOOT = 0, 133
_MS_NOSUID, _MS_NODEV, _MS_NOEXEC, _MS_BIND, _MS_REC, _MS_SLAVE = 2, 4, 8, 4096, 16384, 1 << 19
_PIVOT_ROOT, _MNT_DETACH = 155, 2
_MOUNT_SETATTR, _AT_FDCWD, _AT_RECURSIVE = 442, -100, 0x8000
_READ_ONLY = struct.pack("=QQQQ", 1, 0, 0, 0)  # mount_attr: to set, to clear, propagation, user namespace
_MS_RDONLY = 1
_DEVICES = ("null", "zero", "full", "random", "urandom", "tty")
_LINKS = {"fd": "/proc/self/fd", "stdin": "fd/0", "stdout": "fd/1", "stderr": "fd/2", "ptmx": "pts/ptmx"}
_REQUEST = struct.Struct("=iiii368x")  # magic, command, run level, seconds
_MAGIC, _RUN_LEVEL = 0x03091969, 1
_PATIENCE = 5.0  # seconds from SIGTERM to SIGKILL
_BOOT, _FINAL = Path("/var/lib/cloud/instance/boot.sh"), Path("/var/lib/cloud/instance/final.sh")
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_libc = ctypes.CDLL(None, use_errno=True)


def mount(source: str, target: str, kind: str, flags: int = 0, options: str = "") -> None:
    words = [word.encode() for word in (source, target, kind)]
    if _libc.mount(*words, ctypes.c_ulong(flags), options.encode()):
        error = ctypes.get_errno()
        raise OSError(error, f"mounting {target}: {os.strerror(error)}")


def make_root(root: str) -> None:
    """Mount what a system expects below ``root``, and make it the root."""
    mount("none", "/", "", _MS_REC | _MS_SLAVE)
    mount(root, root, "", _MS_BIND | _MS_REC)
    for name in ("proc", "sys", "dev", "run"):
        Path(root, name).mkdir(exist_ok=True)
    mount("proc", f"{root}/proc", "proc", _MS_NOSUID | _MS_NODEV | _MS_NOEXEC)
    mount_sys(f"{root}/sys")
    mount("tmpfs", f"{root}/run", "tmpfs", _MS_NOSUID | _MS_NODEV, "mode=755")
    mount("tmpfs", f"{root}/dev", "tmpfs", _MS_NOSUID, "mode=755")
    # A directory lists a device that is mounted over a file as a file, and a search of files would read it without end.
    # So they are in /run, which is not searched, and /dev has links.
    own = Path(root, "run/host/dev")
    own.mkdir(parents=True)
    for name in _DEVICES:
        (own / name).touch()
        mount(f"/dev/{name}", str(own / name), "", _MS_BIND)
        Path(root, "dev", name).symlink_to(f"/run/host/dev/{name}")
    for name in ("pts", "shm"):
        Path(root, "dev", name).mkdir()
    mount("devpts", f"{root}/dev/pts", "devpts", _MS_NOSUID | _MS_NOEXEC, "newinstance,ptmxmode=0666,mode=620,gid=5")
    mount("tmpfs", f"{root}/dev/shm", "tmpfs", _MS_NOSUID | _MS_NODEV, "mode=1777")
    for name, target in _LINKS.items():
        Path(root, "dev", name).symlink_to(target)
    os.chdir(root)
    if _libc.syscall(_PIVOT_ROOT, b".", b"."):
        raise OSError(ctypes.get_errno(), "pivot_root")
    if _libc.umount2(b".", _MNT_DETACH):
        raise OSError(ctypes.get_errno(), "umount of the old root")
    os.chdir("/")


def mount_sys(target: str) -> None:
    """Show the machine's /sys, read-only and without its cgroups.

    Root of a guest has the user's own id outside, so it could write what the user can: a 1 to the cgroup.kill of the
    user's session ends that session.
    """
    mount("/sys", target, "", _MS_BIND | _MS_REC)
    if Path(target, "fs/cgroup").is_dir():
        mount("tmpfs", f"{target}/fs/cgroup", "tmpfs", _MS_RDONLY | _MS_NOSUID | _MS_NODEV | _MS_NOEXEC, "mode=755")
    # It fails on kernels before 5.12, and where a filter of system calls does not know it; the cgroups are covered.
    _libc.syscall(
        _MOUNT_SETATTR, _AT_FDCWD, target.encode(), _AT_RECURSIVE, _READ_ONLY, ctypes.c_size_t(len(_READ_ONLY))
    )


def run(script: Path) -> int:
    """Start a script as a child, and return its number."""
    return os.posix_spawn(
        "/bin/sh", ["/bin/sh", str(script)], {"PATH": _PATH, "HOME": "/root"}, setsigmask=[], setsid=True
    )


def end(status: int) -> None:
    """End all processes of the guest, and this one. The kernel ends what is left."""
    with contextlib.suppress(ProcessLookupError):  # there is no other process
        for number in (signal.SIGTERM, signal.SIGCONT):
            os.kill(-1, number)
    deadline = time.monotonic() + _PATIENCE
    while time.monotonic() < deadline:
        try:
            if os.waitpid(-1, os.WNOHANG) == (0, 0):
                time.sleep(0.02)
        except ChildProcessError:
            break
    os._exit(status)


def wish(request: bytes) -> int | None:
    """Return the status with which a request to /run/initctl ends the guest, None if it does not."""
    if len(request) != _REQUEST.size:  # somebody wrote something else to it
        return None
    magic, command, level, _ = _REQUEST.unpack(request)
    if magic != _MAGIC or command != _RUN_LEVEL:
        return None
    return {ord("0"): POWER_OFF, ord("6"): REBOOT}.get(level)


def serve() -> None:
    """Reap children, and wait for what ends the guest."""
    signals = signal.SIGRTMIN
    wanted = {signals + 4: POWER_OFF, signals + 5: REBOOT, signal.SIGTERM: POWER_OFF, signal.SIGINT: REBOOT}
    signal.pthread_sigmask(signal.SIG_BLOCK, {*wanted, signal.SIGCHLD})
    reader, writer = socket.socketpair()
    reader.setblocking(False)
    writer.setblocking(False)
    signal.set_wakeup_fd(writer.fileno())
    for number in (*wanted, signal.SIGCHLD):
        signal.signal(number, lambda *_: None)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {*wanted, signal.SIGCHLD})
    os.mkfifo("/run/initctl", 0o600)
    requests = os.open("/run/initctl", os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
    os.write(1, b"goldenami: the instance has started, without systemd\n")
    first = run(_BOOT) if _BOOT.exists() else None
    if first is None and _FINAL.exists():
        run(_FINAL)
    while True:
        for ready in select.select([reader.fileno(), requests], [], [])[0]:
            if ready == requests:
                status = wish(os.read(requests, _REQUEST.size))
                if status is not None:
                    end(status)
                continue
            for number in reader.recv(64):
                if number in wanted:
                    end(wanted[number])
        try:
            while (child := os.waitpid(-1, os.WNOHANG)[0]) != 0:
                if child == first and _FINAL.exists():
                    run(_FINAL)
        except ChildProcessError:
            pass


def main(root: str, hostname: str, _instance: str) -> None:
    """``_instance``: by which others find this process."""
    os.umask(0o022)
    make_root(root)
    socket.sethostname(hostname)
    for directory in ("/run/sshd", "/run/lock", "/run/systemd"):
        Path(directory).mkdir()
    Path("/run/systemd/container").write_text("container-other\n")  # what systemd-detect-virt(1) reads
    machine = Path("/etc/machine-id")
    if machine.exists() and not machine.read_text().strip():  # as systemd at a first boot
        machine.write_text(os.urandom(16).hex() + "\n")
    serve()


if __name__ == "__main__":
    main(*sys.argv[1:])
