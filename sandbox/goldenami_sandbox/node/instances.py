"""Guests: systemd-nspawn, each in a cgroup and a network namespace. A file captures the console.

nspawn runs with --register=no and --keep-unit, so that it needs neither machined nor systemd of the host. So a reboot
in the guest ends nspawn with status 133 (it expects a restart of its unit), and a power-off with 0. A thread per guest
waits for that and acts.

A guest is kept from the machine by its user namespace: its root is a user without rights outside. nspawn chooses 65536
free ids for each boot, and mounts the root volume with its owners mapped to them, so that the files keep theirs.
``syscalls`` makes the few calls that a guest needs and a user namespace forbids.
"""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, ClassVar, Literal

from goldenami_sandbox.errors import SandboxError
from goldenami_sandbox.node import confine
from goldenami_sandbox.node.api import ExitReason
from goldenami_sandbox.node.namespaces import CGROUP, guest_leader, nsenter_argv, remove_cgroup
from goldenami_sandbox.node.syscalls import Calls, Frozen

CONSOLE_BYTES = 64 * 1024  # as GetConsoleOutput returns at most
_CONSOLE_FILE_BYTES = 4 * 2**20
REBOOT_STATUS = 133
# What is well takes less than a second of an idle machine. On a busy one it may take many times as long.
_SHUTDOWN_PATIENCE = 60.0  # seconds until a guest that shuts down is killed
CLOSE_PATIENCE = 20.0  # the same at the end of the sandbox
_INIT_PATIENCE = 60.0
_SIGNAL_AGAIN = 2.0  # seconds
_FROZEN_PAUSE = 0.2
# What the kernel refuses in a user namespace, or should: these calls have had many errors, and no image needs them.
_REFUSED_CALLS = "~bpf kexec_file_load kexec_load open_by_handle_at perf_event_open userfaultfd"
# The equivalent of a kernel command line: the console shows the units that start, as on a real instance.
_INIT_OPTIONS = ("systemd.show_status=yes",)

Wish = Literal["run", "reboot", "down"]


@dataclass
class Guest:
    """A running guest. ``wish``: what happens after nspawn ends."""

    instance: str
    root: Path
    hostname: str
    console: Path
    prepare: Callable[[], None]  # before every boot
    connect: Callable[[int], None]  # gives the network namespace of a process its links, in every boot
    devices: Callable[[], Mapping[int, str]]  # the data volumes, by device number
    ended: Callable[[Guest, ExitReason], None]  # once it is down for good; from the guest's thread
    wish: Wish = "run"
    process: subprocess.Popen[bytes] | None = None
    boots: int = 0
    patience: ClassVar[float] = _INIT_PATIENCE  # seconds for the init to run, and for the end after a kill
    started: bool = False  # its thread runs, and will call ``ended``
    down: threading.Event = field(default_factory=threading.Event)
    booted: threading.Condition = field(default_factory=threading.Condition)
    frozen: Frozen = field(init=False)

    def __post_init__(self) -> None:
        self.frozen = Frozen(self._on_frozen)

    @property
    def cgroup(self) -> Path:
        return CGROUP / self.instance

    def start(self) -> None:
        """Boot, and return when the guest's init runs. Raises SandboxError if nspawn ends before that."""
        self.started = True
        threading.Thread(target=self._run, name=f"guest-{self.instance}", daemon=True).start()
        self._await_boot(1)

    def shut_down(self, patience: float = _SHUTDOWN_PATIENCE) -> None:
        """Shut down init by SIGRTMIN+4 (systemd: power off). Kill the remaining processes after
        ``patience`` seconds, and those of a guest with frozen filesystems at once: it cannot shut down, and EC2 would
        end it after some minutes.
        """
        self.wish = "down"
        if self.frozen or not self._ask_init(4, self.down.wait, patience):
            self.kill()

    def kill(self) -> None:
        self.wish = "down"
        self._kill_cgroup()
        if not self.down.wait(self.patience):
            raise SandboxError(f"instance {self.instance} still runs after it was killed")

    def reboot(self) -> None:
        boots = self.boots

        def rebooted(seconds: float) -> bool:
            with self.booted:
                return self.booted.wait_for(lambda: self.boots > boots or self.down.is_set(), seconds)

        self.wish = "reboot"
        if self.frozen:
            self._kill_cgroup()
        if not self._ask_init(5, rebooted, _SHUTDOWN_PATIENCE):  # SIGRTMIN+5: reboot.target
            self._kill_cgroup()
        self._await_boot(boots + 1)

    def exec(self, argv: Sequence[str], stdin: bytes | None) -> tuple[int, bytes, bytes]:
        done = subprocess.run(self.entering(argv), input=stdin or b"", capture_output=True, check=False)
        return done.returncode, done.stdout, done.stderr

    @contextlib.contextmanager
    def standing_still(self) -> Iterator[None]:
        """Freeze all processes of the guest until the block ends, by the cgroup freezer. Freezing may take up to one
        second.
        """
        freezer, events = self.cgroup / "cgroup.freeze", self.cgroup / "cgroup.events"
        try:
            with contextlib.suppress(OSError):  # it may be going down
                freezer.write_text("1")
                deadline = time.monotonic() + 1.0
                while "frozen 1" not in events.read_text() and time.monotonic() < deadline:
                    time.sleep(0.002)
            yield
        finally:
            with contextlib.suppress(OSError):
                freezer.write_text("0")

    def leader(self) -> int:
        """Return the process id of the guest's PID 1, and wait for it during a reboot. Raises SandboxError if there
        is none.
        """
        deadline = time.monotonic() + _INIT_PATIENCE
        while not self._has_booted() or (leader := self._find_leader()) is None:
            if self.down.is_set() or time.monotonic() > deadline:
                raise SandboxError(f"instance {self.instance} is not running")
            self.down.wait(0.01)
        return leader

    def entering(self, argv: Sequence[str]) -> list[str]:
        """Return the command that runs ``argv`` as root in the guest. Raises SandboxError if it does not run."""
        return nsenter_argv(self.leader(), argv)

    # --- what another way to run guests replaces ---------------------------------------------------------------------

    def _find_leader(self) -> int | None:
        return guest_leader(self.cgroup)

    def _has_booted(self) -> bool:
        """Whether the guest's init runs."""
        return self._find_leader() is not None

    # --- its thread --------------------------------------------------------------------------------------------------

    def _run(self) -> None:
        reason: ExitReason = "crashed"
        try:
            while True:
                self.prepare()
                status = self._boot_once()
                self._clear_cgroup()
                if status == REBOOT_STATUS and self.wish != "down":
                    self.wish = "run"
                    continue
                if self.wish == "reboot":  # its shutdown hung, and it was killed
                    self.wish = "run"
                    continue
                reason = "poweroff" if status == 0 else "crashed"
                break
        except Exception as e:  # no caller waits for this thread, so the error goes to the console
            self._write_console(f"goldenami: {e}\n")
        finally:
            self._clear_cgroup()
            try:
                self.ended(self, reason)
            finally:
                self.down.set()
                with self.booted:
                    self.booted.notify_all()

    def _boot_once(self) -> int:
        """Boot, and return the status at the end: 0 after a power-off, 133 before a reboot."""
        self.cgroup.mkdir(exist_ok=True)
        argv = [
            "systemd-nspawn",
            "--quiet",
            "--boot",
            "--register=no",
            "--keep-unit",
            "--settings=no",
            f"--directory={self.root}",
            f"--machine={self.hostname[:63]}",
            f"--hostname={self.hostname}",
            "--private-network",
            "--private-users=pick",
            "--private-users-ownership=map",
            f"--system-call-filter={_REFUSED_CALLS}",
            "--console=read-only",
            "--resolv-conf=off",
            "--timezone=off",
            "--link-journal=no",
            *_INIT_OPTIONS,
        ]
        ours, theirs = socket.socketpair()
        with self._log() as log, ours, theirs:
            self.process = subprocess.Popen(
                [sys.executable, "-I", "-S", confine.__file__, str(self.cgroup), str(theirs.fileno()), *argv],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                pass_fds=[theirs.fileno()],
                start_new_session=True,
                env={
                    "PATH": os.environ.get("PATH", "/usr/sbin:/usr/bin:/sbin:/bin"),
                    # /proc/sys/net belongs to the guest's own network namespace, so the guest may write to it.
                    "SYSTEMD_NSPAWN_API_VFS_WRITABLE": "network",
                    "SYSTEMD_NSPAWN_UNIFIED_HIERARCHY": "1",
                    "SYSTEMD_NSPAWN_LOCK": "0",
                },
            )
            theirs.close()
            _, handles, _, _ = socket.recv_fds(ours, 1, 1)
        if handles:  # else the console says why it ended
            root = self.root.stat().st_dev
            calls = Calls(handles[0], self._find_leader, root, self.devices, self._connect, self.frozen)
            threading.Thread(target=calls.serve, name=f"calls-{self.instance}", daemon=True).start()
        return self._await_end(self.process)

    def _log(self) -> BinaryIO:
        log = self.console.open("ab")
        if log.tell() > _CONSOLE_FILE_BYTES:
            log.truncate(0)
        return log

    def _await_end(self, process: subprocess.Popen[bytes]) -> int:
        threading.Thread(target=self._watch_boot, args=(process,), daemon=True).start()
        return process.wait()

    def _watch_boot(self, process: subprocess.Popen[bytes]) -> None:
        while process.poll() is None:
            if self._has_booted():
                with self.booted:
                    self.boots += 1
                    self.booted.notify_all()
                return
            time.sleep(0.01)

    def _await_boot(self, boots: int) -> None:
        with self.booted:
            self.booted.wait_for(lambda: self.boots >= boots or self.down.is_set(), self.patience)
        if self.boots < boots:
            tail = tail_of(self.console, 400).decode(errors="replace").strip()
            self._kill_cgroup()
            raise SandboxError(f"instance {self.instance} did not boot: {tail}")

    def _ask_init(self, offset: int, done: Callable[[float], bool], patience: float) -> bool:
        """Send SIGRTMIN+offset to init, and return whether ``done(seconds)`` is true in time. The signal is sent again,
        because the kernel drops it while an init that has just begun does not handle it.
        """
        deadline = time.monotonic() + patience
        while (left := deadline - time.monotonic()) > 0:
            leader = self._find_leader()  # each time: if init has ended, its number may be another process's
            if leader is not None:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(leader, 34 + offset)  # glibc's SIGRTMIN
            if done(min(left, _SIGNAL_AGAIN)):
                return True
        return False

    def _on_frozen(self) -> None:
        threading.Thread(target=self._thaw_at_end, name=f"frozen-{self.instance}", daemon=True).start()

    def _thaw_at_end(self) -> None:
        """Thaw what the guest has frozen when its init ends or shuts down: it waits for processes that write to it, and
        EC2 would end it after some minutes.
        """
        leader = self._find_leader()
        while self.frozen and leader is not None and not _is_ending(leader):
            time.sleep(_FROZEN_PAUSE)
        self.frozen.thaw_all()

    def _kill_cgroup(self) -> None:
        with contextlib.suppress(OSError):
            (self.cgroup / "cgroup.kill").write_text("1")
        # Now, so that only processes write that wait in the kernel already: SIGKILL ends the others before.
        self.frozen.thaw_all()

    def _clear_cgroup(self) -> None:
        """Kill the remaining processes and remove the cgroup. Every boot gets a new one.

        In a cgroup that was killed once, the kernel also kills processes that are cloned into it from a cgroup that was
        not killed (CLONE_INTO_CGROUP compares the numbers of kills). With systemd 257 this kills every service.
        """
        deadline = time.monotonic() + _INIT_PATIENCE
        remove_cgroup(self.cgroup)
        while self.cgroup.exists() and time.monotonic() < deadline:
            self._kill_cgroup()
            time.sleep(0.005)
            remove_cgroup(self.cgroup)

    def _connect(self, pid: int) -> None:
        try:
            self.connect(pid)
        except Exception as e:  # the guest boots without a network; its console says why
            self._write_console(f"goldenami: the instance has no network: {e}\n")

    def _write_console(self, text: str) -> None:
        with self.console.open("ab") as log:
            log.write(text.encode())


def _is_ending(process: int) -> bool:
    """Return whether an init has ended, or does (PF_EXITING, proc_pid_stat(5)), or is the end of a shutdown."""
    try:
        name, _, words = Path(f"/proc/{process}/stat").read_text().partition("(")[2].rpartition(")")
    except OSError:
        return True
    return name.startswith("systemd-shutdow") or bool(int(words.split()[6]) & 4)


def tail_of(file: Path, size: int) -> bytes:
    try:
        with file.open("rb") as f:
            f.seek(max(0, f.seek(0, os.SEEK_END) - size))
            return f.read()
    except FileNotFoundError:
        return b""
