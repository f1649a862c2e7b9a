"""Sparse files seen as blocks of 512 KiB: which hold data, which are physically the same in two files, sharing and
punching.

Two files that were cloned from each other share extents until one is written to; what FIEMAP reports at the same
physical place is equal without being read. Everything else has to be read and compared by digest.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import hashlib
import os
import struct
from collections.abc import Iterator

from goldenami_sandbox.errors import SandboxError
from goldenami_sandbox.node.api import BLOCK_SIZE

_FICLONE = 0x40049409
_FICLONERANGE = 0x4020940D
_FS_IOC_FIEMAP = 0xC020660B
_FIEMAP_SYNC = 1
_EXTENT_LAST = 0x1
# Unknown, delalloc, encoded, encrypted, not aligned, inline, tail, unwritten: the physical place says nothing about
# contents.
_EXTENT_DOUBTFUL = 0x2 | 0x4 | 0x8 | 0x80 | 0x100 | 0x200 | 0x400 | 0x800
_EXTENTS_PER_CALL = 1024
_KEEP_SIZE_PUNCH_HOLE = 0x1 | 0x2
_libc = ctypes.CDLL(None, use_errno=True)
_libc.fallocate.argtypes = [ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64]

ZERO = bytes(BLOCK_SIZE)


def token(stored: bytes) -> str:
    """The digest by which blocks are compared. SHA-1 for its speed: nobody gains from making two blocks collide."""
    return hashlib.sha1(stored, usedforsecurity=False).hexdigest()


def clone(source: int, target: int) -> None:
    """Make file ``target`` share everything with ``source`` (both open, on the pool)."""
    try:
        fcntl.ioctl(target, _FICLONE, source)
    except OSError as e:
        raise SandboxError(f"the pool cannot clone files: {e.strerror}") from e


def share(source: int, target: int, index: int, count: int = 1) -> None:
    """Make block ``index`` (and those that follow) of ``target`` the same as those of ``source``, without copying."""
    offset = index * BLOCK_SIZE
    fcntl.ioctl(target, _FICLONERANGE, struct.pack("=qQQQ", source, offset, count * BLOCK_SIZE, offset))


def punch(file: int, index: int) -> None:
    """Empty a block; the file keeps its size."""
    if _libc.fallocate(file, _KEEP_SIZE_PUNCH_HOLE, index * BLOCK_SIZE, BLOCK_SIZE):
        raise OSError(ctypes.get_errno(), "fallocate")


def read(file: int, index: int) -> bytes:
    """BLOCK_SIZE bytes, filled up with zeros beyond the end."""
    data = os.pread(file, BLOCK_SIZE, index * BLOCK_SIZE)
    return data if len(data) == BLOCK_SIZE else data + bytes(BLOCK_SIZE - len(data))


def write(file: int, index: int, data: bytes) -> None:
    view, offset = memoryview(data), index * BLOCK_SIZE
    while view:
        written = os.pwrite(file, view, offset)
        view, offset = view[written:], offset + written


def allocated(file: int) -> list[int]:
    """The indices of the blocks that hold data, in order. A block of zeros that were written counts."""
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
    """Indices of blocks whose every byte has the same physical place, or no place, in both files. A subset of the equal
    ones."""
    mine, others = _layout(one), _layout(other)
    size = min(os.fstat(one).st_size, os.fstat(other).st_size)
    return {
        i
        for i in mine.keys() & others.keys()
        if mine[i] is not None and mine[i] == others[i] and (i + 1) * BLOCK_SIZE <= size
    }


def _layout(file: int) -> dict[int, list[tuple[int, int, int]] | None]:
    """Block index to its extents (offset in the block, physical, length), adjacent ones joined; None where a place is
    doubtful."""
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
