"""Sparse files as blocks of 512 KiB: which blocks hold data, which are shared by two files; sharing and punching holes.

Two cloned files share extents until one of them is written to. Blocks that FIEMAP reports at the same physical place
are equal and need not be read. All other blocks are read and compared by digest.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import struct
from collections.abc import Iterator

from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from goldenami_sandbox.errors import SandboxError
from goldenami_sandbox.node.api import BLOCK_SIZE

_FICLONE = 0x40049409
_FICLONERANGE = 0x4020940D
_FS_IOC_FIEMAP = 0xC020660B
_FIEMAP_SYNC = 1
_EXTENT_LAST = 0x1
# Unknown, delalloc, encoded, encrypted, not aligned, inline, tail, unwritten: the physical place is no evidence of the
# contents.
_EXTENT_DOUBTFUL = 0x2 | 0x4 | 0x8 | 0x80 | 0x100 | 0x200 | 0x400 | 0x800
_EXTENT_UNWRITTEN = 0x800  # it has a place, and no contents yet
_EXTENTS_PER_CALL = 1024
_KEEP_SIZE_PUNCH_HOLE = 0x1 | 0x2
_CANNOT_SHARE = {errno.EOPNOTSUPP, errno.EINVAL, errno.ENOTTY, errno.EXDEV}
_libc = ctypes.CDLL(None, use_errno=True)
_libc.fallocate.argtypes = [ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64]

ZERO = bytes(BLOCK_SIZE)
_TAG, _NONCE = AESGCM(b"goldenami-blocks"), bytes(12)


def token(stored: bytes) -> str:
    """Return the 16 bytes by which blocks are compared, in hexadecimal: the authentication tag of AES-GMAC.

    It is twenty times as fast as SHA-1. The key is public, so collisions can be made on purpose, which is no threat
    here.
    """
    return _TAG.encrypt(_NONCE, b"", stored).hex()


def clone(source: int, target: int) -> None:
    """Make file ``target`` share all extents with ``source``. Both are open, on the pool."""
    try:
        fcntl.ioctl(target, _FICLONE, source)
    except OSError as e:
        raise SandboxError(f"the pool's filesystem cannot clone files: {e.strerror}") from e


def copy(source: int, target: int) -> None:
    """Copy the data of a sparse file to an empty one. Of a file that becomes shorter meanwhile, the rest is zeros."""
    size = os.fstat(source).st_size
    os.ftruncate(target, size)
    for index in allocated(source):
        at, end = index * BLOCK_SIZE, min(size, (index + 1) * BLOCK_SIZE)
        while at < end and (copied := os.copy_file_range(source, target, end - at, at, at)):
            at += copied


def share(source: int, target: int, index: int, count: int = 1) -> None:
    """Let equal blocks, ``index`` and the following ones, of ``target`` share the extents of ``source``, without
    copying. Where the filesystem cannot do that, they stay apart."""
    offset = index * BLOCK_SIZE
    try:
        fcntl.ioctl(target, _FICLONERANGE, struct.pack("=qQQQ", source, offset, count * BLOCK_SIZE, offset))
    except OSError as e:
        if e.errno not in _CANNOT_SHARE:
            raise


def punch(file: int, index: int) -> None:
    """Make a block empty. The file keeps its size."""
    if _libc.fallocate(file, _KEEP_SIZE_PUNCH_HOLE, index * BLOCK_SIZE, BLOCK_SIZE):
        raise OSError(ctypes.get_errno(), "fallocate")


def read(file: int, index: int) -> bytes:
    """Return BLOCK_SIZE bytes. Bytes after the end of the file are zeros."""
    data = os.pread(file, BLOCK_SIZE, index * BLOCK_SIZE)
    return data if len(data) == BLOCK_SIZE else data + bytes(BLOCK_SIZE - len(data))


def write(file: int, index: int, data: bytes) -> None:
    view, offset = memoryview(data), index * BLOCK_SIZE
    while view:
        written = os.pwrite(file, view, offset)
        view, offset = view[written:], offset + written


def allocated(file: int) -> list[int]:
    """Return the indices of the blocks that hold data, in order. A block of written zeros counts."""
    found: list[int] = []
    end = os.fstat(file).st_size
    offset = 0
    while offset < end:
        try:
            start = os.lseek(file, offset, os.SEEK_DATA)
        except OSError as e:
            if e.errno == errno.ENXIO:
                break
            raise
        stop = os.lseek(file, start, os.SEEK_HOLE)
        first, last = start // BLOCK_SIZE, (stop - 1) // BLOCK_SIZE
        if found and found[-1] == first:
            first += 1
        found.extend(range(first, last + 1))
        offset = stop
    return found


def physically_equal(one: int, other: int) -> set[int]:
    """Return indices of blocks that have the same physical place, or none, in both files: a subset of the
    equal blocks.
    """
    try:
        mine, others = _layout(one), _layout(other)
    except OSError as e:
        if e.errno not in _CANNOT_SHARE:
            raise
        return set()  # a filesystem in memory, for example, tells no places
    size = min(os.fstat(one).st_size, os.fstat(other).st_size)
    return {
        i
        for i in mine.keys() & others.keys()
        if mine[i] is not None and mine[i] == others[i] and (i + 1) * BLOCK_SIZE <= size
    }


def places(file: int) -> list[tuple[int, int | None, int]]:
    """Return the extents of a file: offset, physical place (None where it is not certain), and length."""
    return [
        (logical, None if flags & _EXTENT_DOUBTFUL & ~_EXTENT_UNWRITTEN else physical, length)
        for logical, physical, length, flags in _extents(file)
    ]


def _layout(file: int) -> dict[int, list[tuple[int, int, int]] | None]:
    """Return the extents of each block: offset in the block, physical place, length. Adjacent extents are joined.

    None for a block whose physical place is not certain.
    """
    layout: dict[int, list[tuple[int, int, int]] | None] = {}
    for logical, physical, length, flags in _extents(file):
        at, end = logical, logical + length
        while at < end:
            index, within = divmod(at, BLOCK_SIZE)
            part = min(end - at, BLOCK_SIZE - within)
            if flags & _EXTENT_DOUBTFUL:
                layout[index] = None
            else:
                extents = layout.setdefault(index, [])
                if extents is not None:
                    place = physical + at - logical
                    if (
                        extents
                        and extents[-1][0] + extents[-1][2] == within
                        and extents[-1][1] + extents[-1][2] == place
                    ):
                        begin, origin, known = extents.pop()
                        extents.append((begin, origin, known + part))
                    else:
                        extents.append((within, place, part))
            at += part
    return layout


def _extents(file: int) -> Iterator[tuple[int, int, int, int]]:
    header, extent = struct.Struct("=QQLLLL"), struct.Struct("=QQQQQLLLL")
    start = 0
    while True:
        buffer = bytearray(header.size + extent.size * _EXTENTS_PER_CALL)
        header.pack_into(buffer, 0, start, 2**64 - 1 - start, _FIEMAP_SYNC, 0, _EXTENTS_PER_CALL, 0)
        fcntl.ioctl(file, _FS_IOC_FIEMAP, buffer)
        mapped = header.unpack_from(buffer)[3]
        flags = 0
        for n in range(mapped):
            logical, physical, length, _, _, flags, *_ = extent.unpack_from(buffer, header.size + n * extent.size)
            yield logical, physical, length, flags
            start = logical + length
        if not mapped or flags & _EXTENT_LAST:
            return
