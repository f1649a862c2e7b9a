"""Reads commits of a Git repository, and starts no other program and no network connection for it.

The files of a merge request may come from an author who is not trusted, and so may a repository that a runner keeps.
Therefore only plumbing commands are used, which know no filters, no textconv and no external diff. Hooks, the monitor
of files, the fetching of missing objects and replaced objects are turned off. Git gets no ``GIT_*`` variables of this
process. The repository is the nearest folder with ``.git``, so Git does not find a bare repository that a commit has
as ordinary files, whose configuration could name programs.
"""

from __future__ import annotations

import os
import select
import subprocess
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Final, Literal

from goldenami.childenv import clean_environment
from goldenami.errors import GoldenAmiError, NotFound, UsageError

_SETTINGS: Final = (
    "core.fsmonitor=false",
    "core.hooksPath=/dev/null",
    "core.pager=cat",
    "protocol.allow=never",
    "safe.bareRepository=explicit",
)
_VARIABLES: Final = {
    "LC_ALL": "C",  # the texts of errors are read
    "GIT_ALLOW_PROTOCOL": "",
    "GIT_LITERAL_PATHSPECS": "1",
    "GIT_NO_LAZY_FETCH": "1",
    "GIT_NO_REPLACE_OBJECTS": "1",
    "GIT_OPTIONAL_LOCKS": "0",
    "GIT_TERMINAL_PROMPT": "0",
}
_TIMEOUT: Final = 60.0  # seconds, for one command; of a command that sends many files, between two parts of its output
_PART: Final = 1 << 16
_KINDS: Final[dict[str, Literal["file", "program", "link"]]] = {
    "100644": "file",
    "100664": "file",  # of very old versions of Git
    "100755": "program",
    "120000": "link",
}


@dataclass(frozen=True, slots=True)
class Entry:
    """A file of a commit. ``path``: below the top of the repository. ``kind`` "program": a file that can be
    executed; "link": its contents are the target."""

    path: bytes
    kind: Literal["file", "program", "link"]
    object: str
    size: int


@dataclass(frozen=True, slots=True)
class Repository:
    """A repository with a work tree. ``top``: the folder with ``.git``."""

    top: Path

    @classmethod
    def around(cls, directory: Path) -> Repository:
        """Return the repository that a directory is in. Raises UsageError if there is none, or Git refuses it."""
        real = Path(os.path.realpath(directory))
        for folder in (real, *real.parents):
            if os.path.lexists(folder / ".git"):
                repository = cls(folder)
                repository._check()
                return repository
        raise UsageError(
            f"{directory} is not in a Git repository",
            hint="Run it in a clone of the repository, or create one: git init, git commit.",
        )

    def commit(self, ref: str) -> str:
        """Return the id of the commit that a ref means (a branch, a tag, an id, HEAD~1). Raises NotFound."""
        if not ref or ref.startswith("-") or "\0" in ref:
            raise UsageError(f"{ref!r} is not a ref of Git", hint="Write a branch, a tag or the id of a commit.")
        answer = self._run("rev-parse", "--verify", "--quiet", f"{ref}^{{commit}}")
        if answer.returncode == 0:
            return answer.stdout.decode().strip()
        raise NotFound(f"the repository {self.top} has no commit {ref!r}", hint=self._hint(ref))

    def state(self) -> str | None:
        """Return the id of the commit that is checked out, with the suffix ``-dirty`` if files differ from it; None
        before the first commit."""
        answer = self._run("describe", "--always", "--dirty", "--abbrev=40", "--exclude=*")
        return answer.stdout.decode().strip() or None if answer.returncode == 0 else None

    def entries(self, commit: str, folder: str) -> list[Entry]:
        """Return the files of a commit in a folder, and below it. ``folder``: its path below the top; empty for all.
        Submodules are left out."""
        paths = [f"{folder.rstrip('/')}/"] if folder else []
        answer = self._run("ls-tree", "-r", "-z", "-l", "--full-tree", commit, "--", *paths)
        if answer.returncode != 0:
            raise _failed("ls-tree", answer.stderr)
        found = []
        for line in answer.stdout.split(b"\0")[:-1]:
            about, _, path = line.partition(b"\t")
            mode, _, object_id, size = about.decode().split()
            if mode in _KINDS:
                found.append(Entry(path, _KINDS[mode], object_id, 0 if size == "-" else int(size)))
        return found

    def contents(self, entries: Iterable[Entry]) -> Iterator[tuple[Entry, bytes]]:
        """Yield each entry with its contents. Raises GoldenAmiError if the repository does not have them."""
        wanted = list(entries)
        with tempfile.TemporaryFile() as ids:
            ids.write("".join(f"{entry.object}\n" for entry in wanted).encode())
            ids.seek(0)
            with self._process("cat-file", "--batch", stdin=ids) as answers:
                for entry in wanted:
                    yield entry, _object(entry, answers)

    def _check(self) -> None:
        """Raise UsageError if Git does not work on the repository."""
        answer = self._run("rev-parse", "--git-dir")
        if answer.returncode == 0:
            return
        said = _last(answer.stderr)
        if b"safe.directory" in answer.stderr:
            raise UsageError(
                f"the repository {self.top} belongs to another user, so Git refuses to read it",
                hint=f"If you trust it: git config --global --add safe.directory {self.top}",
            )
        raise UsageError(f"Git cannot read the repository {self.top}: {said}")

    def _hint(self, ref: str) -> str:
        if self._run("rev-parse", "--is-shallow-repository").stdout.strip() == b"true":
            return (
                "This is a shallow clone, which has only the last commits. Fetch it: "
                f"git fetch --depth=1 origin {ref}, and then use FETCH_HEAD. "
                "In GitLab, the variable GIT_DEPTH: 0 clones everything."
            )
        names = self._run("for-each-ref", "--format=%(refname:short)").stdout.decode(errors="replace").split()
        near = [name for name in names if name.rpartition("/")[2] == ref.rpartition("/")[2]]
        if near:
            return f"Did you mean {near[0]}?"
        return "Fetch it: git fetch origin. `git branch --all` and `git tag` list the names."

    def _command(self, *arguments: str) -> list[str]:
        settings = [word for setting in _SETTINGS for word in ("-c", setting)]
        return ["git", "--no-pager", *settings, "-C", str(self.top), *arguments]

    def _environment(self) -> dict[str, str]:
        # HOME and XDG_CONFIG_HOME: the user's own configuration has safe.directory.
        own = clean_environment(["XDG_CONFIG_HOME"])
        return {**own, **_VARIABLES, "GIT_CEILING_DIRECTORIES": str(self.top.parent)}

    def _run(self, *arguments: str) -> subprocess.CompletedProcess[bytes]:
        with _translated():
            return subprocess.run(
                self._command(*arguments),
                capture_output=True,
                stdin=subprocess.DEVNULL,
                env=self._environment(),
                timeout=_TIMEOUT,
                check=False,
            )

    @contextmanager
    def _process(self, *arguments: str, stdin: IO[bytes]) -> Iterator[_Output]:
        """Yield the output of a command, and end the command at the end of the block."""
        with _translated():
            process = subprocess.Popen(
                self._command(*arguments),
                stdin=stdin,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                env=self._environment(),
                bufsize=0,
            )
        assert process.stdout is not None
        with process:
            try:
                yield _Output(process.stdout)
            finally:
                process.kill()


@contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except FileNotFoundError:
        raise UsageError("git is not installed", hint="Install it, for example: apt-get install git") from None
    except (OSError, subprocess.TimeoutExpired) as error:
        raise GoldenAmiError(f"git cannot be started, or does not answer: {error}") from None


class _Output:
    """The output of a command that is running. Raises GoldenAmiError if nothing comes for a minute: an object can be on
    a disk that does not answer."""

    def __init__(self, pipe: IO[bytes]) -> None:
        self._pipe = pipe.fileno()
        self._here = bytearray()

    def line(self) -> bytes:
        """Return the next line; what is left after the last one."""
        while (end := self._here.find(b"\n")) < 0 and self._more():
            pass
        return self._take(end + 1 if end >= 0 else len(self._here))

    def read(self, size: int) -> bytes:
        """Return this many bytes; fewer at the end."""
        while len(self._here) < size and self._more():
            pass
        return self._take(size)

    def _more(self) -> bool:
        if not select.select([self._pipe], [], [], _TIMEOUT)[0]:
            raise GoldenAmiError(
                f"git does not answer: it has sent nothing for {_TIMEOUT:.0f} seconds",
                hint="The clone may be on a disk that does not answer. Check it: git fsck.",
            )
        part = os.read(self._pipe, _PART)
        self._here += part
        return bool(part)

    def _take(self, size: int) -> bytes:
        taken = bytes(self._here[:size])
        del self._here[:size]
        return taken


def _object(entry: Entry, answers: _Output) -> bytes:
    head = answers.line().split()
    if len(head) != 3 or head[1] != b"blob":
        raise _failed(entry.path.decode(errors="replace"), b" ".join(head[1:]))
    data = answers.read(int(head[2]) + 1)
    if len(data) != int(head[2]) + 1:
        raise _failed(entry.path.decode(errors="replace"), b"the output of git ended")
    return data[:-1]


def _failed(what: str, said: bytes) -> GoldenAmiError:
    return GoldenAmiError(
        f"git cannot read {what}: {_last(said)}",
        hint="The clone may have only some of the objects. Clone it without --filter, or check it: git fsck.",
    )


def _last(said: bytes) -> str:
    lines = said.decode(errors="replace").strip().splitlines()
    return lines[-1] if lines else "it gave no reason"
