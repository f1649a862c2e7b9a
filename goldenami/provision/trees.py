"""Directories beside a recipe as payloads, and the operation ``tree``, which copies one to a host.

Links are never followed: a link of the directory becomes the same link on the host. So a directory of a stranger's
merge request gives only files of the directory itself, and nothing that a link in it points to.
"""

from __future__ import annotations

import fnmatch
import hashlib
import json
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import ClassVar, Final

from pydantic import Field, model_validator

from goldenami.provision import demands
from goldenami.provision.fields import AbsolutePath, Account, Mode, OneLine
from goldenami.provision.operation import Entry, Operation, Payload
from goldenami.provision.shell import Compilation, Script, Steps, lines, sh
from goldenami.reading import FILE_BYTES, Files, Refused

MOST_ENTRIES: Final = 10_000  # files, directories and links of one directory
MOST_LEVELS: Final = 100  # of directories in one another
_ARCHIVE = "Exclude what the host does not need, or use the operation archive."
PATTERNS = (
    '"*.log" is compared with names, "conf/*.log" with whole paths from the source directory (* also matches a slash).'
)


def read_tree(path: Path, files: Files, *, match: Sequence[str] = (), exclude: Sequence[str] = ()) -> Payload:
    """Return a directory as a payload. ``match``: patterns of the files to take, all by default; ``exclude``: patterns
    of files and directories that are left out. Raises OSError; Refused for what cannot be copied.
    """
    found = _Found()
    for entry in _walk(path, files, "", tuple(match), tuple(exclude)):
        found.add(entry)
    return _payload(_without_empty(found.entries) if match else found.entries, path)


def write_tree(entries: Iterable[Entry], folder: Path) -> None:
    """Write the contents of a directory to an existing directory of this machine. Raises OSError."""
    for entry in entries:
        path = folder / entry.path
        if entry.kind == "directory":
            path.mkdir()
        elif entry.payload is None:
            path.symlink_to(entry.target)
        else:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(entry.payload.contents())
            path.chmod(0o755 if entry.executable else 0o644)


def read_files(paths: Iterable[Path], files: Files) -> Payload:
    """Return files and directories side by side, by their names. Raises as ``read_tree``."""
    found = _Found()
    for path in paths:
        files.check(path)  # first: nothing outside the project is looked at
        _check_name(path.name)
        if any(entry.path == path.name for entry in found.entries):
            raise Refused(f"has the name {path.name}, as another one of the list", "Rename one of them.")
        if path.is_dir():
            found.add(Entry(path.name, "directory"))
            for entry in _walk(path, files, f"{path.name}/", (), ()):
                found.add(entry)
        else:
            found.add(Entry(path.name, "file", Payload.read(path, files)))
    return _payload(found.entries, None)


@dataclass
class _Found:
    """The entries of a directory so far. ``add`` raises Refused if they are too many, or too large."""

    entries: list[Entry] = field(default_factory=list)
    size: int = 0

    def add(self, entry: Entry) -> None:
        self.entries.append(entry)
        self.size += entry.payload.size if entry.payload is not None else 0
        if len(self.entries) > MOST_ENTRIES:
            raise Refused(f"has more than {MOST_ENTRIES} files and directories", _ARCHIVE)
        if self.size > FILE_BYTES:
            raise Refused(f"is too large: expected at most {FILE_BYTES >> 20} MiB", _ARCHIVE)


def _walk(folder: Path, files: Files, below: str, match: tuple[str, ...], exclude: tuple[str, ...]) -> Iterator[Entry]:
    files.check(folder)
    with os.scandir(folder) as listed:
        entries = sorted(listed, key=lambda entry: entry.name)
    for entry in entries:
        path = f"{below}{entry.name}"
        if _matches(path, exclude):
            continue
        _check_name(path)
        if entry.is_symlink():
            if not match or _matches(path, match):
                target = os.readlink(entry.path)  # noqa: PTH115 - Path changes the text of a target
                _check_name(target)
                yield Entry(path, "link", target=target)
        elif entry.is_dir(follow_symlinks=False):
            if entry.name == ".git":
                raise Refused(f"has {path}, which can have credentials", "Add .git to exclude.")
            if path.count("/") >= MOST_LEVELS:
                top = path.partition("/")[0]
                raise Refused(f"has more than {MOST_LEVELS} levels of directories, below {top}", _ARCHIVE)
            yield Entry(path, "directory")
            yield from _walk(folder / entry.name, files, f"{path}/", match, exclude)
        elif not match or _matches(path, match):
            try:
                yield Entry(path, "file", Payload.read(folder / entry.name, files))
            except Refused as error:
                raise Refused(
                    f"has {path}, which {error.strerror}", f"Exclude it. {error.hint or ''}".strip()
                ) from None


def _check_name(path: str) -> None:
    """Raise Refused for a name that the lists of the program cannot have."""
    shown = path.encode("utf-8", "backslashreplace").decode()
    if shown != path or any(ord(character) < 32 for character in path):
        raise Refused(f"has a name that is not one line of UTF-8 text: {shown!r}", "Rename it, or exclude it.")


def _matches(path: str, patterns: Iterable[str]) -> bool:
    name = path.rpartition("/")[2]
    return any(
        fnmatch.fnmatchcase(path, pattern.lstrip("/")) if "/" in pattern else fnmatch.fnmatchcase(name, pattern)
        for pattern in patterns
    )


def _without_empty(found: Iterable[Entry]) -> list[Entry]:
    """Return the entries without directories that have no file."""
    found = list(found)
    needed = {str(parent) for e in found if e.kind != "directory" for parent in PurePosixPath(e.path).parents}
    return [entry for entry in found if entry.kind != "directory" or entry.path in needed]


def _payload(found: Sequence[Entry], path: Path | None) -> Payload:
    content = [[e.path, e.kind, _contents(e)] for e in found]
    digest = hashlib.sha256(json.dumps(content, ensure_ascii=False).encode()).hexdigest()
    size = sum(entry.payload.size for entry in found if entry.payload is not None)
    return Payload(digest, size, path=path, tree=tuple(found))


def _contents(entry: Entry) -> object:
    """Return what the digest of a tree covers of an entry. Of the mode, it covers the bit that the host gets."""
    if entry.payload is not None:
        return [entry.payload.sha256, entry.executable]
    return entry.target


class Tree(Operation):
    """Copies a directory with everything in it: a directory beside the recipe becomes the directory `dest`.

    Links are copied as links. Directories that exist keep their owner and mode, unless `directories` is given. What
    `dest` has in addition stays there, unless `delete` is true.
    """

    kind: ClassVar[str] = "tree"
    sources: ClassVar = {"src": "tree"}

    src: str = Field(description="A directory beside the recipe.")
    dest: AbsolutePath = Field(description="The directory on the host: / for a layout such as etc/app/app.conf.")
    owner: Account = Field("root", description="Name or number of the owner.")
    group: Account = Field("root", description="Name or number of the group.")
    files: Mode | None = Field(
        None, description='Mode of files, as a string: "0640". Default: 0755 if the source is executable, else 0644.'
    )
    directories: Mode | None = Field(
        None, description='Mode of all directories: "0750". Default: 0755 for new ones; others are not changed.'
    )
    modes: Mapping[OneLine, Mode] = Field(
        default_factory=dict,
        description=f'Modes of files by pattern: {{"*.key": "0600"}}. The last pattern that matches counts. {PATTERNS}',
    )
    match: tuple[OneLine, ...] = Field((), description=f"Copy only files that match one of these patterns. {PATTERNS}")
    exclude: tuple[OneLine, ...] = Field(
        (), description="Patterns, as for match. Neither copied nor deleted: what matches, and everything below it."
    )
    delete: bool = Field(False, description="Whether everything in dest that the source does not have is removed.")

    @model_validator(mode="after")
    def _refuse_system_paths(self) -> Tree:
        if self.dest.count("/") < 2 and self.delete:
            raise ValueError(f"delete: {self.dest} belongs to the system. Name a directory below it")
        if self.dest == "/" and self.directories is not None:
            raise ValueError("directories: with dest / they are those of the system. Name a directory below it")
        return self

    def title(self) -> str:
        return f"tree {self.dest}"

    def claims(self, payloads: Mapping[str, Payload]) -> Mapping[str, str]:
        found: dict[str, str] = {}
        for entry in (payloads["src"].tree or ()) if "src" in payloads else ():
            path = self._path(entry)
            found[path] = _claim(entry)
            if entry.payload is not None:
                found.update(demands.of_file(path, entry.payload))
        return found

    def misfit(self, payloads: Mapping[str, Payload]) -> str | None:
        if "src" in payloads and not payloads["src"].tree:
            why = "match and exclude leave nothing to copy" if self.match or self.exclude else "the directory is empty"
            return f"src: {self.src}: {why}"
        return None

    def compile(self, to: Compilation) -> Steps:
        entries = to.tree("src")
        files = [(e, self._mode(e)) for e in entries if e.kind == "file" and e.payload is not None]
        top = [] if self.dest == "/" else [self.dest]
        folders = [*top, *(self._path(e) for e in entries if e.kind == "directory")]
        links = [e for e in entries if e.kind == "link"]
        values: dict[str, str | Script] = {
            "dest": self.dest,
            "owner": self.owner,
            "group": self.group,
            "directories": self.directories or "",
            "folders": _list(to, folders),
            "files": _list(to, [f"{e.payload.sha256} {m}\n{self._path(e)}" for e, m in files if e.payload]),
            "links": _list(to, [f"{e.target}\n{self._path(e)}" for e in links]),
            "sums": to.place("".join(_sum(e, self._path(e)) for e, _ in files).encode()),
        }
        modes = sorted({mode for _, mode in files})
        rights = [self._attributes(to, [self._path(e) for e, m in files if m == mode], mode) for mode in modes]
        if self.directories is not None:
            rights.append(self._attributes(to, folders, self.directories))
        extra, remove = self._deletion(to, entries) if self.delete else (Script(""), Script(""))
        return Steps(lines(sh(_CHECK, **values), *rights, extra), lines(sh(_APPLY, **values), remove))

    def _path(self, entry: Entry) -> str:
        return f"{self.dest.rstrip('/')}/{entry.path}"

    def _mode(self, entry: Entry) -> str:
        found = [mode for pattern, mode in self.modes.items() if _matches(entry.path, [pattern])]
        return found[-1] if found else self.files or ("0755" if entry.executable else "0644")

    def _attributes(self, to: Compilation, paths: Sequence[str], mode: str) -> Script:
        """Returns code of a check: all of these paths have this mode and the owner."""
        if not paths:
            return Script("")
        names = to.place("".join(f"{path}\0" for path in paths).encode())
        return sh(
            """_wrong=$(xargs -0 -r sh -c '_mode=$0 _user=$1 _group=$2; shift 2
find -H "$@" -maxdepth 0 \\( ! -perm "$_mode" -o ! @user "$_user" -o ! @of "$_group" \\) -printf "%p is %m %u:%g\\n"' \\
@mode @owner @group <@names) || { detail='the owner cannot be compared'; return 1; }
[ -z "$_wrong" ] || { detail=${_wrong%%"
"*}; return 1; }""",
            names=names,
            mode=mode,
            owner=self.owner,
            group=self.group,
            user=Script("-uid" if self.owner.isdigit() else "-user"),
            of=Script("-gid" if self.group.isdigit() else "-group"),
        )

    def _deletion(self, to: Compilation, entries: Sequence[Entry]) -> tuple[Script, Script]:
        """Returns the code that finds what the source does not have, for the check, and the code that removes it."""
        known = to.place("".join(f"{self._path(e)}\n" for e in entries).encode())
        kept = [
            sh("-path @pattern", pattern=f"{_literal(self.dest)}/{pattern.lstrip('/')}")
            if "/" in pattern
            else sh("-name @pattern", pattern=pattern)
            for pattern in self.exclude
        ]
        spared = f"\\( {' -o '.join(one.text for one in kept)} \\) -prune -o" if kept else ""
        found = "find @dest/ -xdev -mindepth 1 @spared @which -print0 | LC_ALL=C grep -azvxF -f @known"
        values: dict[str, str | Script] = {"dest": self.dest, "known": known, "spared": Script(spared)}
        # A directory with something that is spared stays, so only empty ones count as too much.
        extra = sh(found, which=Script("\\( ! -type d -o -empty \\)"), **values)
        every = sh(found, which=Script("-true"), **values)
        return (
            sh(
                """_extra=$(@extra | tr '\\0\\n' '\\n ' | head -n 1)
[ -z "$_extra" ] || { detail="$_extra is not in the source"; return 1; }""",
                extra=extra,
            ),
            sh(
                """{ @every || :; } | sort -zr | xargs -0 -r sh -c 'for _path do
if [ -d "$_path" ] && [ ! -L "$_path" ]; then rmdir --ignore-fail-on-non-empty -- "$_path"
else rm -f -- "$_path"; fi || exit 1
done' sh""",
                every=every,
            ),
        )


# The lists have one path a line; those of files and links have two lines each. The checks start few processes: a
# directory can have thousands of files. A link to a directory counts as the directory: /lib is one on most hosts.
_CHECK = """while IFS= read -r _path; do
[ -d "$_path" ] || { detail="$_path is not there, or no directory"; return 1; }
done <@folders
while read -r _ && IFS= read -r _path; do
if [ -L "$_path" ] || [ ! -f "$_path" ]; then detail="$_path is not there, or no regular file"; return 1; fi
done <@files
while IFS= read -r _target && IFS= read -r _path; do
[ -L "$_path" ] && [ "$(readlink -- "$_path")" = "$_target" ] ||
{ detail="$_path does not link to $_target"; return 1; }
done <@links
if [ -s @sums ]; then
_wrong=$(sha256sum --check --quiet -- @sums 2>/dev/null) || { detail="${_wrong%%: FAILED*} differs"; return 1; }
fi"""

_APPLY = """while IFS= read -r _path; do
if [ ! -d "$_path" ]; then
if [ -e "$_path" ] || [ -L "$_path" ]; then die "$_path is there, and no directory"; fi
mkdir -p -- "$_path"
set_attributes "$_path" @directories @owner @group
elif [ -n @directories ]; then attributes "$_path" @directories @owner @group ||
set_attributes "$_path" @directories @owner @group
fi
done <@folders
_count=0
while read -r _sum _mode && IFS= read -r _path; do
if [ -L "$_path" ] || ! cmp -s -- "$work/$_sum" "$_path" || ! attributes "$_path" "$_mode" @owner @group; then
beside "$_path"
set_attributes "$new" "$_mode" @owner @group
cat -- "$work/$_sum" >"$new"
replace "$_path"
_count=$((_count + 1))
fi
done <@files
while IFS= read -r _target && IFS= read -r _path; do
if [ ! -L "$_path" ] || [ "$(readlink -- "$_path")" != "$_target" ]; then
beside "$_path"
rm -f -- "$new"
ln -s -- "$_target" "$new"
set_attributes "$new" '' @owner @group
replace "$_path"
fi
done <@links
[ "$_count" -eq 0 ] || note "files that were written: $_count\""""


def beside(to: Compilation, name: str) -> Script:
    """Return code of an apply that puts the files of a bundle into the new directory ``$files``, which is removed at
    its end.
    """
    entries = to.tree(name)
    files = [f"{e.payload.sha256} {'0755' if e.executable else '0644'}\n{e.path}" for e in entries if e.payload]
    return sh(
        _BESIDE,
        folders=_list(to, [e.path for e in entries if e.kind == "directory"]),
        files=_list(to, files),
        links=_list(to, [f"{e.target}\n{e.path}" for e in entries if e.kind == "link"]),
    )


_BESIDE = """files=$(mktemp -d /var/tmp/goldenami.XXXXXX)
trap 'rm -rf -- "$files"' EXIT
while IFS= read -r _path; do mkdir -p -- "$files/$_path"; done <@folders
while read -r _sum _mode && IFS= read -r _path; do
cat -- "$work/$_sum" >"$files/$_path"
chmod -- "$_mode" "$files/$_path"
done <@files
while IFS= read -r _target && IFS= read -r _path; do ln -s -- "$_target" "$files/$_path"; done <@links"""


def _list(to: Compilation, items: Sequence[str]) -> Script:
    return to.place("".join(f"{item}\n" for item in items).encode())


def _sum(entry: Entry, path: str) -> str:
    """Returns a line for ``sha256sum --check``, which marks names with a backslash and doubles it."""
    assert entry.payload is not None
    mark = "\\" if "\\" in path else ""
    return f"{mark}{entry.payload.sha256}  {path.replace(chr(92), chr(92) * 2)}\n"


def _literal(path: str) -> str:
    """Returns a pattern of find that matches only this path."""
    return re.sub(r"([*?\[\]\\])", r"\\\1", path)


def _claim(entry: Entry) -> str:
    if entry.payload is not None:
        return f"contents {entry.payload.sha256}"
    return "a directory" if entry.kind == "directory" else f"a link to {entry.target}"
