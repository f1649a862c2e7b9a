"""Takes from the copy of the test process what reaches beyond it, by the kernel's own means (seccomp(2)).

The audit hook of Python (``effects``) ends one body before it does something. What a library in C does, no hook
reports. So the kernel lets the copy compute, read files, wait, and start threads; with any other call it ends the copy
at once.
"""

from __future__ import annotations

import ctypes
import os
import struct
import sys
from pathlib import Path

_SET_DUMPABLE, _SET_NO_NEW_PRIVILEGES, _SET_SECCOMP, _FILTER = 4, 38, 22, 2
_ALLOW, _KILL, _NO_SUCH_CALL = 0x7FFF0000, 0x80000000, 0x00050000 | 38
_LOAD, _EQUAL, _AT_LEAST, _ANY_BIT, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x06  # of the kernel's packet filter
_NUMBER, _ARCHITECTURE, _ARGUMENTS = 0, 4, 16  # where they are in what the filter sees

# Per machine: its number, and its system calls by the groups below.
_MACHINES: dict[str, tuple[int, dict[str, tuple[int, ...]]]] = {
    "x86_64": (
        0xC000003E,
        {
            # read write close stat fstat lstat poll lseek mmap mprotect munmap brk rt_sigaction rt_sigprocmask
            # rt_sigreturn pread64 readv writev access select sched_yield mremap madvise dup dup2 nanosleep getpid exit
            # uname getdents getcwd readlink gettimeofday getrlimit getrusage sysinfo times getuid getgid geteuid
            # getegid getppid getpgrp getgroups getresuid getresgid sigaltstack statfs fstatfs arch_prctl gettid futex
            # sched_getaffinity getdents64 set_tid_address restart_syscall fadvise64 clock_gettime clock_getres
            # clock_nanosleep exit_group epoll_wait newfstatat readlinkat faccessat pselect6 ppoll set_robust_list
            # epoll_pwait dup3 getcpu getrandom membarrier statx rseq faccessat2
            "any": (
                *(0, 1, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 17, 19, 20, 21, 23, 24, 25, 28, 32, 33, 35, 39),
                *(60, 63, 78, 79, 89, 96, 97, 98, 99, 100, 102, 104, 107, 108, 110, 111, 115, 118, 120, 131, 137, 138),
                *(158, 186, 202, 204, 217, 218, 219, 221, 228, 229, 230, 231, 232, 262, 267, 269, 270, 271, 273, 281),
                *(292, 309, 318, 324, 332, 334, 439),
            ),
            "clone": (56,),
            "open": (2,),
            "openat": (257,),
            "ioctl": (16,),
            "fcntl": (72,),
            "prlimit": (302,),
            "newer": (435, 437),  # clone3 and openat2: the C library takes the older ones instead
        },
    ),
    "aarch64": (
        0xC00000B7,
        {
            # getcwd epoll_pwait dup dup3 statfs fstatfs faccessat close getdents64 lseek read write readv writev
            # pread64 pselect6 ppoll readlinkat newfstatat fstat exit exit_group set_tid_address futex set_robust_list
            # nanosleep
            # clock_gettime clock_getres clock_nanosleep sched_getaffinity sched_yield restart_syscall sigaltstack
            # rt_sigaction rt_sigprocmask rt_sigreturn getresuid getresgid times getpgid getgroups uname getrlimit
            # getrusage getcpu gettimeofday getpid getppid getuid geteuid getgid getegid gettid sysinfo brk munmap
            # mremap mmap fadvise64 mprotect madvise getrandom membarrier statx rseq faccessat2
            "any": (
                *(17, 22, 23, 24, 43, 44, 48, 57, 61, 62, 63, 64, 65, 66, 67, 72, 73, 78, 79, 80, 93, 94, 96, 98, 99),
                *(101, 113, 114, 115, 123, 124, 128, 132, 134, 135, 139, 148, 150, 153, 155, 158, 160, 163, 165, 168),
                *(169, 172, 173, 174, 175, 176, 177, 178, 179, 214, 215, 216, 222, 223, 226, 233, 278, 283, 291, 293),
                439,
            ),
            "clone": (220,),
            "open": (),
            "openat": (56,),
            "ioctl": (29,),
            "fcntl": (25,),
            "prlimit": (261,),
            "newer": (435, 437),
        },
    ),
}
_OTHER_TABLE = 0x40000000  # calls from here on are those of another table (x32)
_THREAD = 0x10000  # CLONE_THREAD
_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC
_QUESTIONS = (0x5401, 0x5413, 0x541B, 0x5450, 0x5451)  # TCGETS TIOCGWINSZ FIONREAD FIONCLEX FIOCLEX
_OF_DESCRIPTORS = (0, 1, 2, 3, 1030)  # F_DUPFD F_GETFD F_SETFD F_GETFL F_DUPFD_CLOEXEC


def isolate() -> bool:
    """Isolate this thread for the rest of its life, with the threads that it starts.

    Returns false, with nothing done, if this system cannot do it, or if memory is shared with other processes."""
    machine = _MACHINES.get(os.uname().machine)
    # From Python 3.14 on, each thread sets its name by prctl, which the filter does not allow.
    if machine is None or sys.version_info >= (3, 14) or _shares_memory():
        return False
    program = _program(*machine)
    libc = ctypes.CDLL(None, use_errno=True)
    data = ctypes.create_string_buffer(program, len(program))
    head = ctypes.create_string_buffer(struct.pack("HxxxxxxP", len(program) // 8, ctypes.addressof(data)))
    nothing = ctypes.c_ulong(0)
    libc.prctl(_SET_DUMPABLE, nothing, nothing, nothing, nothing)  # its end leaves no file
    if libc.prctl(_SET_NO_NEW_PRIVILEGES, ctypes.c_ulong(1), nothing, nothing, nothing) != 0:
        return False
    return bool(libc.prctl(_SET_SECCOMP, ctypes.c_ulong(_FILTER), head, nothing, nothing) == 0)


def _shares_memory() -> bool:
    """Return whether this process can write into memory that it shares with others, or with a file."""
    try:
        lines = Path("/proc/self/maps").read_text().splitlines()
    except OSError:
        return True
    return any(line.split(" ", 2)[1][1::2] == "ws" for line in lines)


def _program(architecture: int, calls: dict[str, tuple[int, ...]]) -> bytes:
    lines: list[tuple[int, int, int, int]] = [  # what, then how many lines on if it is true, if it is false, value
        (_LOAD, 0, 0, _ARCHITECTURE),
        (_EQUAL, 1, 0, architecture),
        (_RETURN, 0, 0, _KILL),
        (_LOAD, 0, 0, _NUMBER),
        (_AT_LEAST, 0, 1, _OTHER_TABLE),
        (_RETURN, 0, 0, _KILL),
    ]
    for number in calls["any"]:
        lines += [(_EQUAL, 0, 1, number), (_RETURN, 0, 0, _ALLOW)]
    for number in calls["newer"]:
        lines += [(_EQUAL, 0, 1, number), (_RETURN, 0, 0, _NO_SUCH_CALL)]
    for name, argument, with_bits in (("clone", 0, _ALLOW), ("open", 1, _KILL), ("openat", 2, _KILL)):
        without = _KILL if with_bits == _ALLOW else _ALLOW
        for number in calls[name]:
            lines += [
                (_EQUAL, 0, 4, number),
                (_LOAD, 0, 0, _ARGUMENTS + 8 * argument),
                (_ANY_BIT, 0, 1, _THREAD if name == "clone" else _WRITING),
                (_RETURN, 0, 0, with_bits),
                (_RETURN, 0, 0, without),
            ]
    for name, values in (("ioctl", _QUESTIONS), ("fcntl", _OF_DESCRIPTORS)):
        for number in calls[name]:
            lines += [(_EQUAL, 0, 2 * len(values) + 2, number), (_LOAD, 0, 0, _ARGUMENTS + 8)]
            for value in values:
                lines += [(_EQUAL, 0, 1, value), (_RETURN, 0, 0, _ALLOW)]
            lines.append((_RETURN, 0, 0, _KILL))
    for number in calls["prlimit"]:  # without new limits
        lines += [
            (_EQUAL, 0, 6, number),
            (_LOAD, 0, 0, _ARGUMENTS + 16),
            (_EQUAL, 0, 3, 0),
            (_LOAD, 0, 0, _ARGUMENTS + 20),
            (_EQUAL, 0, 1, 0),
            (_RETURN, 0, 0, _ALLOW),
            (_RETURN, 0, 0, _KILL),
        ]
    lines.append((_RETURN, 0, 0, _KILL))
    return b"".join(struct.pack("HBBI", *line) for line in lines)
