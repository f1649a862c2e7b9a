"""Makes some system calls for the root of a guest, which the kernel refuses to it in its user namespace.

A guest's root has no rights outside of its user namespace, so it cannot mount the filesystem of a block device, freeze
or trim one, or make a file immutable. An instance of EC2 can. ``confine`` lets the kernel report these calls
(seccomp_unotify(2)), and this module makes them, if they concern a volume of that guest and the caller is its root. All
other calls go on in the kernel, with the rights of the caller. Filesystems are mounted without devices, with the
guest's user namespace as their mapping of owners, and without options that name another device or stop the machine.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import fcntl
import os
import re
import select
import stat
import struct
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from goldenami_sandbox.node.confine import (
    FIFREEZE,
    FITHAW,
    FITRIM,
    FSCONFIG,
    FSOPEN,
    FSPICK,
    IOCTL,
    MOUNT,
    MS_MAGIC,
    MS_MAGIC_MASK,
    MS_REMOUNT,
    SETFLAGS,
)  # fmt: skip
from goldenami_sandbox.node.namespaces import in_guest

_RECEIVE, _SEND, _IS_VALID, _ADD_HANDLE = 0xC0502100, 0xC0182101, 0x40082102, 0x40182103
_AND_SEND = 2
_NOTIFICATION, _ANSWER = struct.Struct("=QIIiIQ6Q"), struct.Struct("=QqiI")
_CONTINUE = 1
_ADMINISTER, _SET_FLAGS = 1 << 21, 1 << 9 | 1 << 3  # CAP_SYS_ADMIN; CAP_LINUX_IMMUTABLE and CAP_FOWNER
_LONGEST = 4096  # bytes of a path or of options

_FSMOUNT, _MOVE_MOUNT, _MOUNT_SETATTR = 432, 429, 442
_CLOEXEC = 1  # of FSOPEN_ and FSMOUNT_
_SET_FLAG, _SET_STRING, _CREATE = 0, 1, 6
_EMPTY_PATH = 0x1000
_BOTH_EMPTY = 0x4 | 0x40  # MOVE_MOUNT_F_EMPTY_PATH, MOVE_MOUNT_T_EMPTY_PATH
_IDMAP = 0x100000
_ATTRIBUTES = {1: 1, 2: 2, 4: 4, 8: 8, 0x400: 0x10, 0x800: 0x80, 0x1000000: 0x20}  # by flag: ro, nosuid, nodev, …
_NODEV, _CHANGEABLE = 4, 1 | 2 | 8  # read-only, nosuid, noexec
_OF_FILESYSTEM = {1: "ro", 16: "sync", 128: "dirsync", 1 << 25: "lazytime"}
# Not errors=panic, and nothing that names another device.
_OPTIONS = re.compile(
    r"errors=(remount-ro|continue)|data=(journal|ordered|writeback)|commit=\d+|(no)?(discard|barrier|acl|user_xattr"
    r"|delalloc|auto_da_alloc|block_validity|init_itable|uuid|recovery|load|quota)|init_itable=\d+|stripe=\d+|dioread_(no)?lock"
    r"|inode(32|64)|largeio|nolargeio|swalloc|noalign|attr2|noattr2|ikeep|noikeep|logbufs=\d+|logbsize=\d+k?"
)  # fmt: skip
_OWNERS = ("uid", "gid")
_MEMORY_OPTIONS = re.compile(r"((size|nr_blocks|nr_inodes)=\d+[kmgtKMGT%]?|mode=[0-7]+|inode(32|64)=|,)*")
_TMPFS = 0x01021994
_TYPES = ("ext2", "ext3", "ext4", "xfs")
_STAND_IN = "goldenami-filesystem"
_libc = ctypes.CDLL(None, use_errno=True)


def _call(number: int, *arguments: int | bytes | None) -> int:
    """Make a system call. Raises OSError."""
    # Integers are passed as longs: the wide registers of a variadic call must not keep garbage.
    given = [ctypes.c_long(a) if isinstance(a, int) else a for a in arguments]
    result: int = _libc.syscall(ctypes.c_long(number), *given)
    if result < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return result


class Frozen:
    """The filesystems that a guest has frozen, by device number. ``on_first``: called when it freezes one and had none.

    Processes that write to a frozen filesystem do not end, even if they are killed, and the kernel keeps it after its
    last unmount. So it must be thawed when the guest ends. A handle of each one makes that possible at any time.
    """

    def __init__(self, on_first: Callable[[], None]) -> None:
        self._handles: dict[int, int] = {}
        self._lock = threading.Lock()
        self._on_first = on_first

    def __bool__(self) -> bool:
        return bool(self._handles)

    def freeze(self, handle: int) -> None:
        """Freeze the filesystem of a handle. Raises OSError: EBUSY if it is frozen."""
        fcntl.ioctl(handle, FIFREEZE, 0)  # it can take long, and wait for others
        with self._lock:
            first = not self._handles
            self._handles[os.fstat(handle).st_dev] = os.dup(handle)
        if first:
            self._on_first()

    def thaw(self, handle: int) -> None:
        """Raises OSError: EINVAL if it is not frozen."""
        fcntl.ioctl(handle, FITHAW, 0)
        with self._lock:
            kept = self._handles.pop(os.fstat(handle).st_dev, None)
        if kept is not None:
            os.close(kept)

    def thaw_all(self) -> None:
        while True:
            with self._lock:
                if not self._handles:
                    return
                _, handle = self._handles.popitem()
            with contextlib.suppress(OSError):
                fcntl.ioctl(handle, FITHAW, 0)
            os.close(handle)


@dataclass(frozen=True, slots=True)
class _Call:
    """A system call of a thread of the guest, which waits for the answer."""

    id: int
    thread: int
    number: int
    arguments: tuple[int, ...]

    def text(self, address: int) -> str:
        """Return a string of the caller's memory; empty for a null pointer."""
        if not address:
            return ""
        with self._memory.open("rb", buffering=0) as memory:
            found = b""
            while b"\0" not in found and len(found) < _LONGEST:
                at = address + len(found)  # page by page, because the next page may not exist
                found += os.pread(memory.fileno(), 4096 - at % 4096, at) or b"\0"
        return os.fsdecode(found.partition(b"\0")[0])

    def read(self, address: int, size: int) -> bytes:
        with self._memory.open("rb", buffering=0) as memory:
            return os.pread(memory.fileno(), size, address)

    def write(self, address: int, data: bytes) -> None:
        with self._memory.open("r+b", buffering=0) as memory:
            os.pwrite(memory.fileno(), data, address)

    @property
    def _memory(self) -> Path:
        return Path(f"/proc/{self.thread}/mem")


class Calls:
    """Answers the calls of one boot of a guest. ``leader``: the process id of its PID 1, None before it is there.

    ``devices``: the paths on this machine of the guest's data volumes, by device number. ``root``: the number of the
    device of its root volume. ``frozen``: keeps what it freezes. ``connect``: gives the network namespace of a process
    its links; it is called once, when systemd-nspawn has made the namespace and before the guest's init runs.
    """

    def __init__(
        self,
        listener: int,
        leader: Callable[[], int | None],
        root: int,
        devices: Callable[[], Mapping[int, str]],
        connect: Callable[[int], None],
        frozen: Frozen,
    ) -> None:
        self._frozen = frozen
        self._listener = listener
        self._find_leader = leader
        self._leader: int | None = None
        self._root = root
        self._devices = devices
        self._connect: Callable[[int], None] | None = connect
        self._prepared: frozenset[int] = frozenset()  # the devices of what nspawn mounted: /dev/shm, /run, /tmp
        self._network = Path("/proc/self/ns/net").stat().st_ino
        self._owners_here = Path("/proc/self/uid_map").read_text().split()

    def serve(self) -> None:
        """Answer until no process of the guest is left."""
        poll = select.poll()
        poll.register(self._listener, select.POLLIN)
        try:
            while True:
                for _, events in poll.poll():
                    if events & select.POLLIN:
                        self._receive()
                    elif events:
                        return
        finally:
            os.close(self._listener)

    def _receive(self) -> None:
        buffer = bytearray(_NOTIFICATION.size)
        try:
            fcntl.ioctl(self._listener, _RECEIVE, buffer)
        except OSError:  # the caller was killed meanwhile
            return
        id, thread, _, number, _, _, *arguments = _NOTIFICATION.unpack(buffer)
        call = _Call(id, thread, number, tuple(arguments))
        self._connect_once(call)
        try:
            action = self._choose(call)
        except (OSError, ValueError):  # the caller died, or gave what cannot be read: the kernel says what is wrong
            action = None
        if action is None:
            self._answer(call, flags=_CONTINUE)
        else:  # freezing can wait for other calls of the same guest
            threading.Thread(target=self._act, args=(call, action), name=f"call-{thread}", daemon=True).start()

    def _connect_once(self, call: _Call) -> None:
        if self._connect is None or call.number != MOUNT:
            return
        with contextlib.suppress(OSError):
            if Path(f"/proc/{call.thread}/ns/net").stat().st_ino == self._network:
                return
            # The first calls come before the user namespace has its map, and /dev its final contents.
            owners = Path(f"/proc/{call.thread}/uid_map").read_text().split()
            if not owners or owners == self._owners_here:
                return
            connect, self._connect = self._connect, None
            self._prepared = _memory_filesystems(call.thread)
            connect(call.thread)

    def _act(self, call: _Call, action: Callable[[], None]) -> None:
        try:
            action()
        except OSError as e:
            self._answer(call, error=-(e.errno or errno.EPERM))
        except Exception:  # it must be answered, or the caller hangs
            self._answer(call, error=-errno.EIO)
        else:
            self._answer(call)

    def _answer(self, call: _Call, error: int = 0, flags: int = 0) -> None:
        with contextlib.suppress(OSError):  # the caller was killed meanwhile
            fcntl.ioctl(self._listener, _SEND, bytearray(_ANSWER.pack(call.id, 0, error, flags)))

    def _choose(self, call: _Call) -> Callable[[], None] | None:
        """Return what to do for a call. None: the kernel decides."""
        self._leader = self._leader or self._find_leader()
        if self._leader is None:
            return None
        if call.number == IOCTL:
            needed = _SET_FLAGS if call.arguments[1] == SETFLAGS else _ADMINISTER
            return self._choose_ioctl(call) if _has(call.thread, self._leader, needed) else None
        if not _has(call.thread, self._leader, _ADMINISTER):
            return None
        if call.number == FSPICK:
            return self._choose_pick(call)
        if call.number == FSCONFIG:
            return self._choose_option(call)
        target, kind, flags = call.arguments[1:4]
        if flags & MS_MAGIC_MASK == MS_MAGIC:
            flags &= ~MS_MAGIC_MASK
        if flags & MS_REMOUNT:
            return self._remount(call, call.text(target), flags)
        return self._mount(call, self._leader, flags) if call.text(kind) in _TYPES else None

    # --- mounts ------------------------------------------------------------------------------------------------------

    def _mount(self, call: _Call, leader: int, flags: int) -> Callable[[], None] | None:
        source, target, kind = (call.text(address) for address in call.arguments[:3])
        options = [option for option in call.text(call.arguments[4]).split(",") if option]
        device = in_guest(call.thread, Path(source).stat)
        path = self._devices().get(device.st_rdev) if stat.S_ISBLK(device.st_mode) else None
        if path is None:
            return None

        def mount() -> None:
            if any(not _OPTIONS.fullmatch(option) for option in options):
                raise OSError(errno.EINVAL, "an option that the sandbox does not allow")
            mounted = _filesystem(kind, path, flags, options, leader)
            try:
                self._require(call)
                in_guest(call.thread, lambda: _move(mounted, target))
            finally:
                os.close(mounted)

        return mount

    def _remount(self, call: _Call, target: str, flags: int) -> Callable[[], None] | None:
        """Change the flags of the mount instead of those of the filesystem, which belongs to this machine."""
        if not self._is_of_machine(in_guest(call.thread, Path(target).stat).st_dev):
            return self._remount_memory(call, target, flags)
        wanted = _attributes(flags) & _CHANGEABLE
        attributes = struct.pack("=4Q", wanted, _CHANGEABLE & ~wanted, 0, 0)

        def change() -> None:
            handle = os.open(target, os.O_PATH | os.O_CLOEXEC)
            try:
                if self._is_of_machine(os.fstat(handle).st_dev):
                    _call(_MOUNT_SETATTR, handle, b"", _EMPTY_PATH, attributes, len(attributes))
            finally:
                os.close(handle)

        return lambda: in_guest(call.thread, change)

    def _remount_memory(self, call: _Call, target: str, flags: int) -> Callable[[], None] | None:
        """Change a tmpfs of the guest, if its options name owners that the kernel itself has listed."""
        options = dict(option.partition("=")[::2] for option in call.text(call.arguments[4]).split(",") if option)
        if not any(name in _OWNERS and self._is_listed_owner(value) for name, value in options.items()):
            return None
        kept = ",".join(f"{name}={value}" for name, value in options.items() if name not in _OWNERS)

        def change() -> None:
            if not _MEMORY_OPTIONS.fullmatch(kept):
                raise OSError(errno.EINVAL, "an option that the sandbox does not allow")
            place = os.open(target, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                if _file_system(place) != _TMPFS or self._is_of_machine(os.fstat(place).st_dev):
                    raise OSError(errno.EPERM, "no tmpfs of the guest")
                os.fchdir(place)  # of this thread only
                _call(MOUNT, b"none", b".", b"tmpfs", flags, kept.encode())
            finally:
                os.close(place)

        return lambda: in_guest(call.thread, change)

    def _is_listed_owner(self, number: str) -> bool:
        """Return whether a number is what /proc/self/mountinfo shows for a user or group of the guest. It is a number
        of this machine, which the kernel does not take back from the guest."""
        assert self._leader is not None
        _, first, count = map(int, Path(f"/proc/{self._leader}/uid_map").read_text().split()[:3])
        return number.isdecimal() and first <= int(number) < first + count

    def _choose_pick(self, call: _Call) -> Callable[[], None] | None:
        """The newer way to remount: give the caller a handle that stands for the filesystem, whose options are not
        changed. It changes the flags of the mount itself."""
        directory, path, flags = call.arguments[:3]
        name = call.text(path)
        if name and not name.startswith("/"):
            return None
        place = Path(f"/proc/{call.thread}/fd/{directory}").stat if not name else Path(name).stat
        if not self._is_of_machine((place() if not name else in_guest(call.thread, place)).st_dev):
            return None

        def give() -> None:
            memory = os.memfd_create(_STAND_IN, os.MFD_CLOEXEC)
            try:  # mount(8) reads messages of the kernel until that fails, so this handle must not be readable
                handle = os.open(f"/proc/self/fd/{memory}", os.O_WRONLY | os.O_CLOEXEC)
            finally:
                os.close(memory)
            try:
                close = os.O_CLOEXEC if flags & _CLOEXEC else 0
                request = struct.pack("=QIIII", call.id, _AND_SEND, handle, 0, close)
                fcntl.ioctl(self._listener, _ADD_HANDLE, request)
            finally:
                os.close(handle)

        return give

    def _choose_option(self, call: _Call) -> Callable[[], None] | None:
        """Leave out the options of a filesystem of this machine, and owners that the kernel itself has listed."""
        handle, command, key, value = call.arguments[:4]
        link = str(Path(f"/proc/{call.thread}/fd/{handle}").readlink())
        if link.startswith(f"/memfd:{_STAND_IN}"):
            return _nothing
        owner = command == _SET_STRING and call.text(key) in _OWNERS
        return _nothing if owner and self._is_listed_owner(call.text(value)) else None

    # --- ioctls ------------------------------------------------------------------------------------------------------

    def _choose_ioctl(self, call: _Call) -> Callable[[], None] | None:
        number, request, pointer = call.arguments[:3]
        found = os.open(f"/proc/{call.thread}/fd/{number}", os.O_PATH | os.O_CLOEXEC)
        try:
            facts = os.fstat(found)
            if not self._is_ours(facts.st_dev) or not (stat.S_ISREG(facts.st_mode) or stat.S_ISDIR(facts.st_mode)):
                return None
            handle = os.open(f"/proc/self/fd/{found}", os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        finally:
            os.close(found)

        def make() -> None:
            try:
                argument = bytearray(call.read(pointer, {FITRIM: 24, SETFLAGS: 4}.get(request, 0)))
                self._require(call)
                if request == FIFREEZE:
                    self._frozen.freeze(handle)
                elif request == FITHAW:
                    self._frozen.thaw(handle)
                else:
                    fcntl.ioctl(handle, request, argument)
                if request == FITRIM:
                    call.write(pointer, bytes(argument))
            finally:
                os.close(handle)

        return make

    # --- checks ------------------------------------------------------------------------------------------------------

    def _is_ours(self, device: int) -> bool:
        return device == self._root or device in self._devices()

    def _is_of_machine(self, device: int) -> bool:
        """Return whether a filesystem belongs to this machine, so that the guest can change flags of its mount only."""
        return device in self._prepared or self._is_ours(device)

    def _require(self, call: _Call) -> None:
        """Raises OSError if the caller is gone, so that its numbers may belong to another process."""
        fcntl.ioctl(self._listener, _IS_VALID, struct.pack("=Q", call.id))


def _has(thread: int, leader: int, capability: int) -> bool:
    """Return whether a thread has a capability in the guest's user namespace, and not only in one within it."""
    if Path(f"/proc/{thread}/ns/user").stat().st_ino != Path(f"/proc/{leader}/ns/user").stat().st_ino:
        return False
    status = Path(f"/proc/{thread}/status").read_text()
    found = re.search(r"^CapEff:\s+([0-9a-f]+)$", status, re.MULTILINE)
    return found is not None and int(found[1], 16) & capability == capability


def _memory_filesystems(pid: int) -> frozenset[int]:
    """Return the device numbers of the tmpfs that a process has mounted."""
    lines = [line.partition(" - ") for line in Path(f"/proc/{pid}/mountinfo").read_text().splitlines()]
    numbers = [left.split()[2].split(":") for left, _, right in lines if right.startswith("tmpfs ")]
    return frozenset(os.makedev(int(major), int(minor)) for major, minor in numbers)


def _file_system(handle: int) -> int:
    """Return the magic number of the filesystem of an open file (statfs(2))."""
    facts = (ctypes.c_long * 32)()
    if _libc.fstatfs(handle, facts) < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return int(facts[0])


def _nothing() -> None:
    pass


def _filesystem(kind: str, device: str, flags: int, options: list[str], leader: int) -> int:
    """Return a detached mount of a device, with the owners of the guest's user namespace."""
    context = _call(FSOPEN, kind.encode(), _CLOEXEC)
    try:
        _call(FSCONFIG, context, _SET_STRING, b"source", device.encode(), 0)
        if kind.startswith("ext"):  # the filesystem itself may say that an error stops the machine
            options = ["errors=remount-ro", *options]
        for option in [*options, *(name for flag, name in _OF_FILESYSTEM.items() if flags & flag)]:
            key, is_pair, value = option.partition("=")
            if is_pair:
                _call(FSCONFIG, context, _SET_STRING, key.encode(), value.encode(), 0)
            else:
                _call(FSCONFIG, context, _SET_FLAG, key.encode(), None, 0)
        _call(FSCONFIG, context, _CREATE, None, None, 0)
        mounted = _call(_FSMOUNT, context, _CLOEXEC, _attributes(flags) | _NODEV)
    finally:
        os.close(context)
    try:
        users = os.open(f"/proc/{leader}/ns/user", os.O_RDONLY | os.O_CLOEXEC)
        try:
            attributes = struct.pack("=4Q", _IDMAP, 0, 0, users)
            _call(_MOUNT_SETATTR, mounted, b"", _EMPTY_PATH, attributes, len(attributes))
        finally:
            os.close(users)
    except BaseException:
        os.close(mounted)
        raise
    return mounted


def _move(mounted: int, target: str) -> None:
    place = os.open(target, os.O_PATH | os.O_CLOEXEC)
    try:
        _call(_MOVE_MOUNT, mounted, b"", place, b"", _BOTH_EMPTY)
    finally:
        os.close(place)


def _attributes(flags: int) -> int:
    return sum(attribute for flag, attribute in _ATTRIBUTES.items() if flags & flag)
