"""A program: joins a cgroup, installs the filter of system calls of a guest, hands out its listener, and becomes ARGV.

    python -I -S confine.py CGROUP SOCKET ARGV…

It runs before systemd-nspawn in each boot of a guest, and imports nothing of the package.
``syscalls`` answers what the filter reports. The filter is no part of the boundary, which is the user namespace: it
reports calls that the kernel would refuse to a guest's root, and that the sandbox can make for it.
"""

from __future__ import annotations

import array
import ctypes
import errno
import os
import socket
import struct
import sys
from pathlib import Path

# asm/unistd_64.h, linux/mount.h, linux/fs.h
MOUNT, IOCTL, SECCOMP, FSOPEN, FSCONFIG, FSPICK = 165, 16, 317, 430, 431, 433
MS_REMOUNT, MS_BIND = 0x20, 0x1000
_MS_BIND_MOVE, _MS_PROPAGATION = MS_BIND | 0x2000, 0x1E0000
MS_MAGIC, MS_MAGIC_MASK = 0xC0ED0000, 0xFFFF0000  # old callers set it; then the upper half holds no flags
FIFREEZE, FITHAW, FITRIM, SETFLAGS = 0xC0045877, 0xC0045878, 0xC0185879, 0x40086602
_LOOP = 0x4C00  # linux/loop.h: the family of ioctls that would give the loop device of a volume another file

# linux/filter.h, linux/seccomp.h, linux/audit.h
_LOAD, _JUMP_EQUAL, _JUMP_SET, _AND, _RETURN = 0x20, 0x15, 0x45, 0x54, 0x06
_ALLOW, _NOTIFY, _ERRNO = 0x7FFF0000, 0x7FC00000, 0x00050000
_X86_64 = 0xC000003E
_NR, _ARCH, _ARGUMENT_1, _ARGUMENT_3 = 0, 4, 24, 40
_SET_FILTER, _NEW_LISTENER, _WAIT_KILLABLE = 1, 1 << 3, 1 << 5


def program() -> bytes:
    """Return the filter. Jumps are to the next instruction plus a distance, here computed from labels."""
    lines: list[tuple[str, int, int, str, str]] = [  # label, code, operand, then, otherwise
        ("", _LOAD, _ARCH, "", ""),
        ("", _JUMP_EQUAL, _X86_64, "", "allow"),
        ("", _LOAD, _NR, "", ""),
        ("", _JUMP_EQUAL, MOUNT, "mount", ""),
        ("", _JUMP_EQUAL, IOCTL, "ioctl", ""),
        # The newer way has several steps, whose state the kernel keeps. Without it programs use mount(2).
        ("", _JUMP_EQUAL, FSOPEN, "missing", ""),
        ("", _JUMP_EQUAL, FSPICK, "notify", ""),
        ("", _JUMP_EQUAL, FSCONFIG, "notify", "allow"),
        ("mount", _LOAD, _ARGUMENT_3, "", ""),
        ("", _JUMP_SET, _MS_BIND_MOVE, "allow", ""),
        ("", _AND, MS_MAGIC_MASK, "", ""),
        ("", _JUMP_EQUAL, MS_MAGIC, "notify", ""),
        ("", _JUMP_SET, _MS_PROPAGATION, "allow", "notify"),
        ("ioctl", _LOAD, _ARGUMENT_1, "", ""),
        *[("", _JUMP_EQUAL, request, "notify", "") for request in (FIFREEZE, FITHAW, FITRIM, SETFLAGS)],
        ("", _AND, 0xFFFFFF00, "", ""),
        ("", _JUMP_EQUAL, _LOOP, "refuse", ""),
        ("allow", _RETURN, _ALLOW, "", ""),
        ("notify", _RETURN, _NOTIFY, "", ""),
        ("missing", _RETURN, _ERRNO | errno.ENOSYS, "", ""),
        ("refuse", _RETURN, _ERRNO | errno.EPERM, "", ""),
    ]
    at = {label: number for number, (label, *_) in enumerate(lines) if label}
    return b"".join(
        struct.pack("=HBBI", code, *(at[label] - number - 1 if label else 0 for label in (then, otherwise)), operand)
        for number, (_, code, operand, then, otherwise) in enumerate(lines)
    )


def install() -> int:
    """Install the filter for this process and its descendants, and return the listener."""
    code = program()
    buffer = ctypes.create_string_buffer(code, len(code))
    filter_ = struct.pack("=H6xQ", len(code) // 8, ctypes.addressof(buffer))
    libc = ctypes.CDLL(None, use_errno=True)
    for flags in (_NEW_LISTENER | _WAIT_KILLABLE, _NEW_LISTENER):  # the former from Linux 5.19 on
        listener: int = libc.syscall(SECCOMP, _SET_FILTER, flags, filter_)
        if listener >= 0:
            return listener
    raise OSError(ctypes.get_errno(), "cannot install the filter of system calls of the guest")


def main(cgroup: str, handle: str, *argv: str) -> None:
    Path(cgroup, "cgroup.procs").write_text("0")
    with socket.socket(fileno=int(handle)) as channel:
        listener = install()
        channel.sendmsg([b"!"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [listener]))])
    os.close(listener)
    os.execvp(argv[0], argv)


if __name__ == "__main__":
    main(*sys.argv[1:])
