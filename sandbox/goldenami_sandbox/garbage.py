"""Finds files that no sandbox uses any more, outside of the pools: `goldenami-sandbox gc`.

What a running sandbox has without a record, it finds itself (``Ec2.unreachable``).
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from goldenami_sandbox import launcher, state, ways
from goldenami_sandbox.node import baseimage, usage

_AGE: Final = 3600.0  # seconds; a younger directory may belong to a run that goes on
_DEPTH: Final = 5  # of the directory of a sandbox below that of temporary files
_TEMPORARY: Final = ("pytest-of-*/pytest-*", "goldenami-bench-*")


@dataclass(frozen=True, slots=True)
class Garbage:
    """A file or a directory that can be deleted. ``size``: bytes on the disk."""

    kind: str
    path: Path
    size: int


def find(home: Path, cache: Path, temporary: Path) -> list[Garbage]:
    """Return what can be deleted. ``home``: of the sandboxes. ``temporary``: the directory of temporary files."""
    found = [("base images of older versions", path) for path in _old_bases(cache)]
    found += [("unfinished base images", path) for path in _unfinished_bases(cache)]
    for root in sorted(home.iterdir()) if home.is_dir() else ():
        found += [("old logs", path) for path in sorted(root.glob("*.jsonl.1")) + sorted(root.glob("*.log.1"))]
        if not _in_use(root):
            found += [("unfinished files", path) for path in (*root.glob(".*.new"), *root.glob("node/*.new"))]
    found += [("sandboxes of tests that were killed", path) for path in _of_killed_tests(temporary)]
    return [Garbage(kind, path, usage.of_tree(path)) for kind, path in found]


def remove(one: Garbage) -> None:
    """Delete it. What is gone already is no error. Raises OSError and SandboxError."""
    if one.path.is_symlink() or not one.path.is_dir():
        one.path.unlink(missing_ok=True)
        return
    if (one.path / "node").exists():
        _clear(one.path)
    try:
        shutil.rmtree(one.path)
    except PermissionError:  # a base image that an ordinary user made: its files have owners of the user's range
        if os.geteuid() == 0:
            raise
        from goldenami_sandbox.node import rootless

        rootless.delete(one.path)


def _clear(root: Path) -> None:
    """Remove what the kernel keeps of a sandbox, and the files that its user cannot delete."""
    way = ways.kept_by(state.Files(root))
    if way is None and os.geteuid() == 0:  # killed before it wrote down its way
        way = ways.WAYS["systemd"]
    if way is not None:
        way.sweep(root)
        way.clear(root)


def current_base(release: str, cache: Path) -> Path:
    """Return the path of a base image that this version uses, as ``baseimage.image`` does.

    It is not a function there, because each change of that file is a new definition, for which all images are made
    again.
    """
    definition = hashlib.sha256(Path(baseimage.__file__).read_bytes()).hexdigest()[:12]
    return cache / f"{release}-amd64-{definition}.ext4"


def _old_bases(cache: Path) -> list[Path]:
    """Return base images of other definitions: no start of this version uses them."""
    current = {current_base(release, cache) for release in baseimage.RELEASES}
    return [path for path in sorted(cache.glob("*-amd64-*.ext4")) if path not in current]


def _unfinished_bases(cache: Path) -> Iterator[Path]:
    """Yield the directories in which a base image was made when the process was killed."""
    for release in baseimage.RELEASES:
        with contextlib.suppress(OSError), state.locked(cache / f".{release}.lock", wait=False):
            yield from sorted(path for path in cache.glob(f".{release}-*") if path.is_dir())


def _of_killed_tests(temporary: Path) -> Iterator[Path]:
    for pattern in _TEMPORARY:
        for run in sorted(temporary.glob(pattern)):
            if run.is_symlink() or run.stat().st_uid != os.geteuid() or _goes_on(run):
                continue
            for root in _sandboxes(run, _DEPTH):
                age = time.time() - max(file.stat().st_mtime for file in (root / "format.json", root / "node"))
                if age > _AGE and not _in_use(root):
                    yield root


def _sandboxes(directory: Path, depth: int) -> Iterator[Path]:
    """Yield the directories of sandboxes below a directory."""
    if (directory / "format.json").is_file() and (directory / "node").is_dir():
        yield directory
        return
    if depth:
        with contextlib.suppress(OSError):
            for child in sorted(directory.iterdir()):
                if child.is_dir() and not child.is_symlink():
                    yield from _sandboxes(child, depth - 1)


def _goes_on(run: Path) -> bool:
    """Return whether the test run that a directory belongs to still runs: pytest keeps its process id there."""
    try:
        written = (run / ".lock").read_text()
    except OSError:
        return False
    return re.fullmatch(r"\d+", written) is not None and Path(f"/proc/{written}").exists()


def _in_use(root: Path) -> bool:
    """Return whether the daemon of a sandbox runs, or starts."""
    files = state.Files(root)
    if launcher.running(files) is not None:
        return True
    try:
        for lock in (files.up_lock, files.lock):
            if lock.exists():
                with state.locked(lock, wait=False):
                    pass
    except OSError:
        return True
    return False
