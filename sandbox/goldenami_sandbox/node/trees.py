"""Volumes as directories, for users who cannot mount: an ext4 image is unpacked, and changes are written back.

    trees/<volume>/root         the files of a root volume, while an instance uses it, and after a kill
    trees/<volume>/known.json   what each of them was when image and files were last the same
    trees/<volume>/known.next   the same for an image that was about to take the place of the volume's, at a kill

debugfs(8) reads the image, and writes to a clone of it, which takes its place as a whole or not at all. Only files that
changed since are written back, so all other blocks of the image stay as they are, and a snapshot stores only what
changed. Kept are contents, modes, owners, times, links and extended attributes. Two names of one changed file become
two files. Sockets are left out, as they have no contents.
"""

from __future__ import annotations

import json
import os
import shutil
import stat
import subprocess
import tempfile
import threading
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

from goldenami_sandbox.errors import SandboxError
from goldenami_sandbox.node.pool import Pool, clone_file
from goldenami_sandbox.node.volumes import Volumes, filesystem_size, grow

_Known = dict[str, list[int]]  # by path in the tree: mode, size, change time in nanoseconds, inode
_OWN = {"/lost+found"}


class TreeVolumes(Volumes):
    """Volumes that are unpacked while an instance uses them. ``trees``: the directory for them."""

    def __init__(self, pool: Pool, trees: Path) -> None:
        super().__init__(pool)
        self._trees = trees
        self._still: dict[str, Callable[[], AbstractContextManager[None]]] = {}
        # By volume. A guest may end, in its own thread, while a snapshot of its volume is made.
        self._locks: defaultdict[str, threading.Lock] = defaultdict(threading.Lock)

    def tree(self, volume: str) -> Path:
        """Return the directory with the files of a volume that is in use."""
        self.path(volume)  # refuses what is not an id
        return self._trees / volume / "root"

    def stand_still(self, volume: str, still: Callable[[], AbstractContextManager[None]]) -> None:
        """Set what keeps the processes of a guest from writing while its files are read."""
        self._still[volume] = still

    def clone(self, volume: str, target: Path) -> None:
        with self._locks[volume], self._still.get(volume, nullcontext)():
            source = self.existing(volume)
            self._write_back(volume)
            clone_file(source, target)

    def mount(self, volume: str, directory: Path) -> None:
        """Unpack the filesystem, grown to the volume's size. Files that a killed predecessor left are used as they
        are."""
        with self._locks[volume]:
            path = self.existing(volume)
            if not (directory.parent / "known.json").exists():
                if filesystem_size(path) < path.stat().st_size:
                    grow(path)
                shutil.rmtree(directory.parent, ignore_errors=True)
                directory.mkdir(parents=True)
                _debugfs(path, [f"rdump / {_quoted(str(directory))}"])
                _complete(path, directory)
                _write_known(directory.parent / "known.json", path, dict(_entries(directory)))
            self._mounted[volume] = directory

    def unmount(self, volume: str) -> None:
        with self._locks[volume]:
            if self._mounted.pop(volume, None) is not None:
                self._still.pop(volume, None)
                self._write_back(volume)
                _forget(self._trees / volume)
                shutil.rmtree(self._trees / volume)

    def delete(self, volume: str) -> None:
        with self._locks[volume]:
            super().delete(volume)
            shutil.rmtree(self._trees / volume, ignore_errors=True)

    def _write_back(self, volume: str) -> None:
        root, image = self.tree(volume), self.path(volume)
        known = _read_known(root, image)
        if known is None or (now := dict(_entries(root))) == known:
            return
        new = self._pool.scratch / f"tree-{volume}"
        try:
            clone_file(image, new)
            with tempfile.TemporaryDirectory(dir=root.parent) as scratch:
                _debugfs(new, list(_changes(root, known, now, Path(scratch))), write=True)
            _check(new)
            _write_known(root.parent / "known.next", new, now)
            new.rename(image)
        finally:
            new.unlink(missing_ok=True)
        (root.parent / "known.next").rename(root.parent / "known.json")


def _complete(image: Path, root: Path) -> None:
    """Make what rdump leaves out: the pipes, and the modes with setuid, setgid and sticky bits."""
    directories = ["/", *(path for path, facts in _entries(root) if stat.S_ISDIR(facts[0]))]
    answer = _debugfs(image, [f"ls -p {_quoted(path)}" for path in directories])
    listed = iter(directories)
    at = ""
    for line in answer.split("\n"):  # other characters that Unicode takes for line breaks are those of names
        if line.startswith("debugfs: ls "):
            at = next(listed).rstrip("/")
        elif line.startswith("/") and line.count("/") > 4:  # /inode/mode/uid/gid/name/size/
            _, _, digits, uid, gid, name, *end = line.split("/")
            mode, path = int(digits, 8), Path(f"{root}{at}/{name}")
            if name not in (".", "..") and (stat.S_ISFIFO(mode) or mode & 0o7000):
                if not end:
                    raise SandboxError(f"a file name with a line break cannot be read: {at}/{name}")
                if stat.S_ISFIFO(mode):
                    _make_pipe(path, int(uid), int(gid))
                path.chmod(stat.S_IMODE(mode))


def _make_pipe(path: Path, uid: int, gid: int) -> None:
    """Make a pipe in a directory that keeps its time."""
    facts = path.parent.stat()
    os.mkfifo(path)
    os.chown(path, uid, gid)
    os.utime(path.parent, ns=(facts.st_atime_ns, facts.st_mtime_ns))


def _entries(root: Path) -> Iterator[tuple[str, list[int]]]:
    """Yield every file of a tree, directories before what is in them."""
    directories = [""]
    while directories:
        at = directories.pop()
        with os.scandir(f"{root}{at}") as found:
            for entry in sorted(found, key=lambda one: one.name):
                path, facts = f"{at}/{entry.name}", entry.stat(follow_symlinks=False)
                if path in _OWN or stat.S_ISSOCK(facts.st_mode):  # a socket has no contents, and is made again
                    continue
                yield path, [facts.st_mode, facts.st_size, facts.st_ctime_ns, facts.st_ino]
                if stat.S_ISDIR(facts.st_mode):
                    directories.append(path)


def _changes(root: Path, known: _Known, now: _Known, scratch: Path) -> Iterator[str]:
    """Yield the commands for debugfs that make an image with the files ``known`` one with the files ``now``."""

    def kind(mode: int) -> int:
        return stat.S_IFMT(mode)

    replaced = {path for path, facts in known.items() if path not in now or kind(now[path][0]) != kind(facts[0])}
    yield "cd /"
    for path in sorted(replaced, key=lambda one: one.count("/"), reverse=True):
        yield f"{'rmdir' if stat.S_ISDIR(known[path][0]) else 'rm'} {_quoted(path)}"
    for path, facts in sorted(now.items(), key=lambda one: one[0].count("/")):
        was = known.get(path) if path not in replaced else None
        if was == facts:
            continue
        yield from _made(root, path, facts[0], scratch, exists=was is not None)


def _made(root: Path, path: str, mode: int, scratch: Path, *, exists: bool) -> Iterator[str]:
    inside, source = _quoted(path), f"{root}{path}"
    folder, _, name = path.rpartition("/")
    new = _quoted(name)  # mknod and others take a name in the current directory
    yield f"cd {_quoted(folder or '/')}"
    if stat.S_ISDIR(mode):
        if not exists:
            yield f"mkdir {new}"
    elif stat.S_ISREG(mode):
        if exists:
            yield f"rm {inside}"
        yield f"write {_quoted(source)} {new}"
    elif stat.S_ISLNK(mode):
        if exists:
            yield f"rm {inside}"
        yield f"symlink {new} {_quoted(str(Path(source).readlink()))}"
    elif stat.S_ISFIFO(mode):
        if not exists:
            yield f"mknod {new} p"
    else:
        return
    facts = os.lstat(source)
    yield f"sif {inside} mode 0{mode:o}"
    yield f"sif {inside} uid {facts.st_uid}"
    yield f"sif {inside} gid {facts.st_gid}"
    yield f"sif {inside} mtime @{int(facts.st_mtime)}"
    for name in os.listxattr(source, follow_symlinks=False):
        attribute = _quoted(name)
        value = scratch / f"{len(list(scratch.iterdir()))}"
        value.write_bytes(os.getxattr(source, name, follow_symlinks=False))
        yield f"ea_set -f {_quoted(str(value))} {inside} {attribute}"


def _quoted(word: str) -> str:
    """Quote a word for debugfs, which reads a line for each command. Raises SandboxError for more than a line."""
    if "\n" in word:
        raise SandboxError(f"a file name with a line break cannot be stored: {word!r}")
    return '"' + word.replace('"', '""') + '"'


def _debugfs(image: Path, commands: list[str], *, write: bool = False) -> str:
    """Run commands on an image that is not mounted, and return their output, each after a line with the command. Raises
    SandboxError for the first one that fails."""
    with tempfile.NamedTemporaryFile(prefix="debugfs-") as script:
        script.write(os.fsencode("\n".join(commands) + "\n"))  # names are bytes in any encoding
        script.flush()
        argv = ["debugfs", *(["-w"] if write else []), "-f", script.name, str(image)]
        done = subprocess.run(argv, capture_output=True, check=False)
    # debugfs ends with 0 also if a command failed. Its errors are lines on stderr, after that of its version.
    said = done.stderr.decode(errors="replace").splitlines()
    errors = [line for line in said if line.strip() and not line.startswith("debugfs 1.")]
    if done.returncode or errors:
        reason = errors[0] if errors else "debugfs failed"
        raise SandboxError(f"the files of a volume cannot be read or written: {reason}")
    return os.fsdecode(done.stdout)


def _check(image: Path) -> None:
    """Correct the counts of free blocks, which debugfs leaves as they are. Raises SandboxError if more is wrong."""
    done = subprocess.run(["e2fsck", "-f", "-p", str(image)], capture_output=True, check=False)
    if done.returncode >= 4:
        reason, *_ = [*done.stdout.decode(errors="replace").splitlines(), f"status {done.returncode}"]
        raise SandboxError(f"the files of a volume cannot be written; e2fsck finds damage: {reason}")


def _read_known(root: Path, image: Path) -> _Known | None:
    """Return what the files were when they were last the same as those of the image. None: they are not unpacked, or
    not completely."""
    known, following = root.parent / "known.json", root.parent / "known.next"
    if following.exists():  # of a predecessor that was killed before or after its new image took the place of this one
        if json.loads(following.read_text())["image"] == image.stat().st_ino:
            following.rename(known)
        else:
            following.unlink()
    try:
        found: _Known = json.loads(known.read_text())["files"]
    except FileNotFoundError:
        return None
    return found


def _write_known(path: Path, image: Path, files: _Known) -> None:
    """Write the record of an image and its files as a whole."""
    new = path.with_name("known.new")
    new.write_text(json.dumps({"image": image.stat().st_ino, "files": files}))
    new.rename(path)


def _forget(directory: Path) -> None:
    """Let ``mount`` unpack a tree again. It is called before files are deleted: what a kill leaves of them is not what
    the volume has."""
    (directory / "known.json").unlink()
    handle = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
