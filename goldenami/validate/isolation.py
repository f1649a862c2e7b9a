"""Takes from the copy of the test process what reaches beyond it, by the kernel's own means (seccomp(2)).

The audit hook of Python (``effects``) ends one body before it does something. What a library in C does, no hook
reports. So the kernel lets the copy compute, read files, wait, and start threads; with any other call it ends the copy
at once.
"""

from __future__ import annotations

import ctypes
import os
import struct
from pathlib import Path

_SET_DUMPABLE, _SET_NO_NEW_PRIVILEGES, _SET_SECCOMP, _FILTER = 4, 38, 22, 2
_ALLOW, _KILL, _NO_SUCH_CALL = 0x7FFF0000, 0x80000000, 0x00050000 | 38
_LOAD, _EQUAL, _AT_LEAST, _ANY_BIT, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x06  # of the kernel's packet filter
_NUMBER, _ARCHITECTURE, _ARGUMENTS = 0, 4, 16  # where they are in what the filter sees

# The system calls that the filter allows, per machine, with their numbers: of asm/unistd_64.h and asm-generic/unistd.h.
_CALLS = {
    "x86_64": """
        read=0 write=1 close=3 stat=4 fstat=5 lstat=6 poll=7 lseek=8 mmap=9 mprotect=10 munmap=11 brk=12
        rt_sigaction=13 rt_sigprocmask=14 rt_sigreturn=15 pread64=17 readv=19 writev=20 access=21 select=23
        sched_yield=24 mremap=25 madvise=28 dup=32 dup2=33 nanosleep=35 getpid=39 exit=60 uname=63
        getdents=78 getcwd=79 readlink=89 gettimeofday=96 getrlimit=97 getrusage=98 sysinfo=99 times=100
        getuid=102 getgid=104 geteuid=107 getegid=108 getppid=110 getpgrp=111 getgroups=115 getresuid=118
        getresgid=120 sigaltstack=131 statfs=137 fstatfs=138 arch_prctl=158 gettid=186 futex=202
        sched_getaffinity=204 getdents64=217 set_tid_address=218 restart_syscall=219 fadvise64=221
        clock_gettime=228 clock_getres=229 clock_nanosleep=230 exit_group=231 epoll_wait=232 newfstatat=262
        readlinkat=267 faccessat=269 pselect6=270 ppoll=271 set_robust_list=273 epoll_pwait=281 dup3=292
        getcpu=309 getrandom=318 membarrier=324 statx=332 rseq=334 faccessat2=439
    """,
    "aarch64": """
        getcwd=17 epoll_pwait=22 dup=23 dup3=24 statfs=43 fstatfs=44 faccessat=48 close=57 getdents64=61
        lseek=62 read=63 write=64 readv=65 writev=66 pread64=67 pselect6=72 ppoll=73 readlinkat=78
        newfstatat=79 fstat=80 exit=93 exit_group=94 set_tid_address=96 futex=98 set_robust_list=99
        nanosleep=101 clock_gettime=113 clock_getres=114 clock_nanosleep=115 sched_getaffinity=123
        sched_yield=124 restart_syscall=128 sigaltstack=132 rt_sigaction=134 rt_sigprocmask=135
        rt_sigreturn=139 getresuid=148 getresgid=150 times=153 getpgid=155 getgroups=158 uname=160
        getrlimit=163 getrusage=165 getcpu=168 gettimeofday=169 getpid=172 getppid=173 getuid=174
        geteuid=175 getgid=176 getegid=177 gettid=178 sysinfo=179 brk=214 munmap=215 mremap=216 mmap=222
        fadvise64=223 mprotect=226 madvise=233 getrandom=278 membarrier=283 statx=291 rseq=293
        faccessat2=439
    """,
}
# The calls of which the filter looks at an argument.
_CHECKED = {
    "x86_64": "open=2 openat=257 clone=56 ioctl=16 fcntl=72 prctl=157 prlimit64=302 clone3=435 openat2=437",
    "aarch64": "openat=56 clone=220 ioctl=29 fcntl=25 prctl=167 prlimit64=261 clone3=435 openat2=437",
}
_ARCHITECTURES = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
_OTHER_TABLE = 0x40000000  # calls from here on are those of another table (x32)
_THREAD = 0x10000  # CLONE_THREAD
_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC
_QUESTIONS = (0x5401, 0x5413, 0x541B, 0x5450, 0x5451)  # TCGETS TIOCGWINSZ FIONREAD FIONCLEX FIOCLEX
_OF_DESCRIPTORS = (0, 1, 2, 3, 1030)  # F_DUPFD F_GETFD F_SETFD F_GETFL F_DUPFD_CLOEXEC
_OF_NAMES = (15, 16)  # PR_SET_NAME PR_GET_NAME: from Python 3.14 on, each thread names itself


def isolate() -> bool:
    """Isolate this thread for the rest of its life, with the threads that it starts.

    Returns false, with nothing done, if this system cannot do it, or if memory is shared with other processes."""
    machine = os.uname().machine
    if machine not in _ARCHITECTURES or _shares_memory():
        return False
    program = _program(machine)
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


def _numbers(calls: str) -> dict[str, int]:
    return {name: int(number) for name, _, number in (call.partition("=") for call in calls.split())}


def _program(machine: str) -> bytes:
    """Return the filter for a machine, in the form of the kernel."""
    checked = _numbers(_CHECKED[machine])
    lines: list[tuple[int, int, int, int]] = [  # what, then how many lines on if it is true, if it is false, value
        (_LOAD, 0, 0, _ARCHITECTURE),
        (_EQUAL, 1, 0, _ARCHITECTURES[machine]),
        (_RETURN, 0, 0, _KILL),
        (_LOAD, 0, 0, _NUMBER),
        (_AT_LEAST, 0, 1, _OTHER_TABLE),
        (_RETURN, 0, 0, _KILL),
    ]
    for number in _numbers(_CALLS[machine]).values():
        lines += [(_EQUAL, 0, 1, number), (_RETURN, 0, 0, _ALLOW)]
    for name in ("clone3", "openat2"):  # the C library takes the older ones instead
        lines += [(_EQUAL, 0, 1, checked[name]), (_RETURN, 0, 0, _NO_SUCH_CALL)]
    for name, argument, with_bits in (("clone", 0, _ALLOW), ("open", 1, _KILL), ("openat", 2, _KILL)):
        without = _KILL if with_bits == _ALLOW else _ALLOW
        if name in checked:
            lines += [
                (_EQUAL, 0, 4, checked[name]),
                (_LOAD, 0, 0, _ARGUMENTS + 8 * argument),
                (_ANY_BIT, 0, 1, _THREAD if name == "clone" else _WRITING),
                (_RETURN, 0, 0, with_bits),
                (_RETURN, 0, 0, without),
            ]
    for name, argument, values in (("ioctl", 1, _QUESTIONS), ("fcntl", 1, _OF_DESCRIPTORS), ("prctl", 0, _OF_NAMES)):
        lines += [
            (_EQUAL, 0, 2 * len(values) + 2, checked[name]),
            (_LOAD, 0, 0, _ARGUMENTS + 8 * argument),
        ]
        for value in values:
            lines += [(_EQUAL, 0, 1, value), (_RETURN, 0, 0, _ALLOW)]
        lines.append((_RETURN, 0, 0, _KILL))
    lines += [  # without new limits
        (_EQUAL, 0, 6, checked["prlimit64"]),
        (_LOAD, 0, 0, _ARGUMENTS + 16),
        (_EQUAL, 0, 3, 0),
        (_LOAD, 0, 0, _ARGUMENTS + 20),
        (_EQUAL, 0, 1, 0),
        (_RETURN, 0, 0, _ALLOW),
        (_RETURN, 0, 0, _KILL),
        (_RETURN, 0, 0, _KILL),
    ]
    return b"".join(struct.pack("HBBI", *line) for line in lines)
