"""The files of a project at a commit of Git, in a private temporary folder that is deleted at the end.

They are read like the files of the working tree, with the same rules: a link out of the project is not followed, and
code is executed only with consent. Git writes nothing: this module writes the files itself, regular files first and
links last, so that no file is written through a link of the commit.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from goldenami.errors import GoldenAmiError, InvalidInput, UsageError
from goldenami.git import Entry, Repository
from goldenami.recipe.problems import Problems
from goldenami.recipe.project import ALLOW_OUTSIDE, FILE, Project, load_project, shown

_FILES: Final = 100_000
_BYTES: Final = 2 << 30


@dataclass(frozen=True, slots=True)
class Revision:
    """A project at a commit. ``ref``: as the user wrote it. ``project``: None if the commit has no project there.
    ``folder``: the temporary folder, which stands for the top of the repository."""

    ref: str
    commit: str
    folder: Path
    project: Project | None

    def named(self, text: str) -> str:
        """Return a text with the files of the commit as Git names them: ``main:recipes/web.yaml``."""
        for folder in dict.fromkeys((str(self.folder), shown(self.folder), os.path.relpath(self.folder))):
            text = text.replace(f"{folder}/", f"{self.ref}:")
        return text

    def told(self, error: GoldenAmiError) -> str:
        """Return an error about the files of the commit as one line."""
        if isinstance(error, InvalidInput):
            more = f" and {len(error.problems) - 1} more" if len(error.problems) > 1 else ""
            return self.named(f"{error.problems[0]}{more}")
        return self.named(error.message)


@contextmanager
def at_commit(project: Project, ref: str) -> Iterator[Revision]:
    """Yield a project as it is at a ref of its Git repository. Reads the repository only.

    Raises UsageError if the project is not in a repository, or Git refuses it, and NotFound for an unknown ref.
    """
    repository = Repository.around(project.root)
    commit = repository.commit(ref)
    root = Path(os.path.realpath(project.root)).relative_to(repository.top)
    with tempfile.TemporaryDirectory(prefix="goldenami-") as name:  # mode 0700
        folder = Path(os.path.realpath(name))
        own = _write(repository, commit, ["" if root == Path() else str(root)], folder)
        there = None
        if (folder / root / FILE).is_file():
            there = load_project(folder / root, project.consent)
            _write(repository, commit, _outside(there, root), folder, done=own)
        yield Revision(ref, commit, folder, there)


def _outside(project: Project, root: Path) -> Iterator[str]:
    """Yield the folders of ``allow_outside`` that are in the repository, below its top; empty for the top itself."""
    document = project.document(project.file, Problems())
    written = document.value.get(ALLOW_OUTSIDE) if document is not None else None
    for name in written if isinstance(written, list) else ():
        path = os.path.normpath(root / name) if isinstance(name, str) else ".."
        if not path.startswith(("..", "/")) and not Path(path).is_relative_to(root):
            yield "" if path == "." else path


def _write(
    repository: Repository, commit: str, folders: Iterable[str], into: Path, *, done: Sequence[Entry] = ()
) -> list[Entry]:
    """Write the files of some folders, and return them. ``done``: what was written before."""
    before = {entry.path for entry in done}
    every = [entry for folder in folders for entry in repository.entries(commit, folder)]
    entries = [entry for entry in dict.fromkeys(every) if entry.path not in before]
    if len(entries) > _FILES or sum(entry.size for entry in entries) > _BYTES:
        raise UsageError(
            f"the commit {commit[:12]} has more than {_FILES} files or {_BYTES >> 30} GiB in the project",
            hint="Move the project into a folder of its own, with the files that its recipes need.",
        )
    for entry in entries:
        _check(entry, commit)
        os.makedirs(into / os.fsdecode(os.path.dirname(entry.path)), exist_ok=True)  # noqa: PTH103, PTH120
    links = []
    for entry, data in repository.contents(entries):
        path = into / os.fsdecode(entry.path)
        if entry.kind == "link":
            links.append((path, data))
        else:
            with _whole(entry, commit), path.open("xb") as file:
                file.write(data)
            path.chmod(_mode(entry, repository.top))
    for path, target in links:
        with _whole(Entry(os.fsencode(path), "link", "", 0), commit):
            path.symlink_to(os.fsdecode(target))
    return entries


def _check(entry: Entry, commit: str) -> None:
    """Raise GoldenAmiError for a name that no checkout has: a tree object can be made by hand."""
    if any(part in (b"", b".", b"..") or part.lower() == b".git" for part in entry.path.split(b"/")):
        raise GoldenAmiError(
            f"the commit {commit[:12]} has a file with the name {os.fsdecode(entry.path)!r}", hint="Check it: git fsck."
        )


@contextmanager
def _whole(entry: Entry, commit: str) -> Iterator[None]:
    try:
        yield
    except FileExistsError:
        raise GoldenAmiError(
            f"the commit {commit[:12]} has {os.fsdecode(entry.path)!r} twice", hint="Check it: git fsck."
        ) from None


def _mode(entry: Entry, top: Path) -> int:
    """Return the permissions of a file as a checkout has them. Git records only whether a file can be executed; the
    rest is that of the working tree, which can be part of an image."""
    with suppress(OSError):
        now = (top / os.fsdecode(entry.path)).lstat().st_mode & 0o777
        if bool(now & 0o100) == (entry.kind == "program"):
            return now
    return 0o755 if entry.kind == "program" else 0o644
