"""What files occupy on the disk, where they share blocks: each block is counted once, for the first that has it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from itertools import chain
from pathlib import Path

from goldenami_sandbox.node import blocks

_Range = tuple[int, int]  # physical bytes: from, to


def by_kind(files: Mapping[str, Iterable[Path]]) -> dict[str, int]:
    """Return the bytes of each kind of files on one filesystem, without those that an earlier kind has already."""
    taken: list[_Range] = []
    found: dict[str, int] = {}
    for kind, paths in files.items():
        ranges: list[_Range] = []
        elsewhere = 0  # bytes without a known place: they are nobody else's
        for path in paths:
            try:
                for start, length in _extents(path):
                    if start is None:
                        elsewhere += length
                    else:
                        ranges.append((start, start + length))
            except FileNotFoundError:  # deleted meanwhile
                continue
        before = sum(end - start for start, end in taken)
        taken = merged(chain(taken, ranges))
        found[kind] = sum(end - start for start, end in taken) - before + elsewhere
    return found


def merged(ranges: Iterable[_Range]) -> list[_Range]:
    """Return the union of ranges, sorted."""
    result: list[_Range] = []
    for start, end in sorted(ranges):
        if result and start <= result[-1][1]:
            result[-1] = result[-1][0], max(end, result[-1][1])
        else:
            result.append((start, end))
    return result


def of_tree(path: Path) -> int:
    """Return the bytes that the files below a directory occupy, or a file. Zero for what does not exist."""
    total = 0
    for one in chain((path,), path.rglob("*") if path.is_dir() and not path.is_symlink() else ()):
        try:
            total += one.lstat().st_blocks * 512
        except FileNotFoundError:
            continue
    return total


def _extents(path: Path) -> Iterator[tuple[int | None, int]]:
    with path.open("rb") as file:
        try:
            yield from [(place, length) for _, place, length in blocks.places(file.fileno())]
        except OSError:  # a filesystem that does not tell them
            yield None, path.stat().st_blocks * 512
