"""Checks what the sandbox needs from this machine, before anything is changed."""

from __future__ import annotations

import os
import platform
import re
import shutil
import subprocess
from pathlib import Path

from goldenami_sandbox.errors import SandboxUnsupported
from goldenami_sandbox.node.command import attempt
from goldenami_sandbox.node.namespaces import cgroup2_root

# Program to the Debian package that has it.
_PROGRAMS = {
    "systemd-nspawn": "systemd-container",
    "mmdebstrap": "mmdebstrap",
    "nft": "nftables",
    "ip": "iproute2",
    "mkfs.xfs": "xfsprogs",
    "mke2fs": "e2fsprogs",
    "resize2fs": "e2fsprogs",
    "e2fsck": "e2fsprogs",
    "losetup": "mount",
    "mount": "mount",
    "nsenter": "util-linux",
    "unshare": "util-linux",
}
_LINUX = (5, 14)  # mounts with mapped owners, answers to system calls
_SBIN = "/usr/local/sbin:/usr/sbin:/sbin"


def check() -> None:
    """Check all requirements. Raises SandboxUnsupported with everything that is missing and how to install it."""
    path = f"{os.environ.get('PATH', os.defpath)}:{_SBIN}"
    missing = [program for program in _PROGRAMS if shutil.which(program, path=path) is None]
    lacks = _kernel_lacks()
    if os.geteuid() != 0:
        lacks.insert(0, "root (it mounts filesystems and starts containers)")
    elif not missing and not attempt("unshare", "--mount", "--pid", "--fork", "--mount-proc", "true"):
        lacks.insert(0, "the rights to mount and to make namespaces (this is a container without privileges)")
    if missing:
        lacks.append("the programs " + ", ".join(missing))
    if not lacks:
        return
    hints = []
    if os.geteuid() != 0:
        hints.append("Run it as root, for example with sudo.")
    if missing:
        packages = sorted({_PROGRAMS[program] for program in missing})
        hints.append(f"Install what is missing: apt-get install {' '.join(packages)}")
    raise SandboxUnsupported(
        f"real instances cannot run here; this machine lacks {'; '.join(lacks)}", hint=" ".join(hints) or None
    )


def _kernel_lacks() -> list[str]:
    if platform.system() != "Linux":
        return ["Linux"]
    lacks = []
    if platform.machine() not in ("x86_64", "amd64"):
        lacks.append(f"an x86_64 processor (this is {platform.machine()})")
    if tuple(map(int, re.findall(r"\d+", platform.release())[:2])) < _LINUX:
        lacks.append(f"Linux {_LINUX[0]}.{_LINUX[1]} or later (this is {platform.release()})")
    if Path("/proc/sys/user/max_user_namespaces").read_text().strip() == "0":
        lacks.append("user namespaces (the setting user.max_user_namespaces is 0)")
    filesystems = Path("/proc/filesystems").read_text().split()
    for kind in ("xfs", "ext4"):
        if kind not in filesystems and not _loadable(kind):
            lacks.append(f"the {kind} filesystem in the kernel")
    if not Path("/dev/loop-control").exists() and not _loadable("loop"):
        lacks.append("loop devices (/dev/loop-control)")
    root = cgroup2_root()
    if root is None:
        lacks.append("a mounted cgroup2 hierarchy")
    elif os.geteuid() == 0 and not os.access(root, os.W_OK):
        lacks.append(f"a writable cgroup2 hierarchy ({root} is read-only)")
    lacks += [
        f"{kind} namespaces"
        for kind in ("mnt", "pid", "net", "cgroup", "user")
        if not Path(f"/proc/self/ns/{kind}").exists()
    ]
    return lacks


def _loadable(module: str) -> bool:
    try:
        done = subprocess.run(["modprobe", "--dry-run", "--quiet", module], capture_output=True, check=False)
    except FileNotFoundError:
        return False
    return done.returncode == 0
