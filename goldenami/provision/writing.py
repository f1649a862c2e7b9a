"""Writes files on a host: a new file is created beside the old one, validated, and moved to its place in one step.

So no program reads a half-written file, and a file that fails its validation is not used.
"""

from __future__ import annotations

import shlex
from functools import cache
from pathlib import Path

from goldenami.provision.shell import Compilation, Script, Steps, lines, sh

VALIDATE = (
    "Command that validates the new file. With %s, which is replaced by its path, the command runs before the file is "
    'moved to its place: "visudo -cf %s". Without %s, it runs after the move, and the old file is restored if the '
    'command fails: "nginx -t". The text is split into words like a shell command, but no shell runs it.'
)

STALE = Script(': >"$flags/stale-lists"\nrm -f "$work/updated"')
"""Code that makes the package manager fetch its lists again, after a change of its sources."""


def write(path: Script, produce: Script, attributes: Script, command: str | None = None) -> Script:
    """Return code of an apply that writes a file. ``path``: a shell word. ``produce``: a command that prints the
    contents; it can read the old file. ``attributes``: code that sets owner and mode of ``$new``. ``command``: the
    validation, as in ``VALIDATE``.
    """
    made = lines(
        sh("beside @path", path=path),
        attributes,
        sh('@produce >"$new"', produce=produce),
    )
    if command is None:
        return lines(made, sh("replace @path", path=path))
    refused = sh("die @message", message=f"the validation of the new file failed: {command}")
    check = _words(command)
    if "%s" in command:
        return lines(made, sh("@check || @refused", check=check, refused=refused), sh("replace @path", path=path))
    return lines(
        made,
        sh(
            """_old=''
if [ -e @path ] || [ -L @path ]; then
_old=$(mktemp -u -- "$_folder/.goldenami.XXXXXX")
cp -aT -- @path "$_old"
fi
replace @path
_put_back() { if [ -n "$_old" ]; then mv -fT -- "$_old" @path; else rm -f -- @path; fi; }
@check || { _put_back; @refused; }
[ -z "$_old" ] || rm -f -- "$_old\"""",
            path=path,
            check=check,
            refused=refused,
        ),
    )


def is_gone(path: str) -> Script:
    """Return code of a check: the path does not exist."""
    return sh("[ ! -e @path ] || { detail='is there'; return 1; }", path=path)


def no_file(path: str, *afterwards: Script) -> Steps:
    """Return the steps that remove a file. ``afterwards``: code that runs after the removal."""
    return Steps(is_gone(path), lines(sh("rm -f -- @path", path=path), *afterwards))


def place_file(path: str, contents: Script, mode: str = "0644") -> Script:
    """Return code of an apply: a file of root with the contents of the file ``contents`` (a shell word, as from
    ``Compilation.place``).
    """
    word = sh("@path", path=path)
    return write(word, sh("cat @contents", contents=contents), sh('set_attributes "$new" @mode root root', mode=mode))


def same_file(path: str, contents: Script, mode: str = "0644") -> Script:
    """Return code of a check: the file is as ``place_file`` writes it."""
    return sh(
        """[ -f @path ] || { detail=@missing; return 1; }
cmp -s -- @contents @path || { detail=@differs; return 1; }
attributes @path @mode root root || return 1""",
        path=path,
        contents=contents,
        mode=mode,
        missing=f"{path} is not there",
        differs=f"{path} differs",
    )


def keep_attributes(path: Script) -> Script:
    """Return ``attributes`` for ``write`` when a file is edited: those of the old file, or owner root and mode 0644."""
    return sh(
        """if [ -e @path ]; then cp --attributes-only --preserve=all -- @path "$new"
else set_attributes "$new" 0644 root root; fi""",
        path=path,
    )


def awk(to: Compilation, name: str) -> Script:
    """Return the command that runs one of the awk programs of this package. Values are passed as environment
    variables, because awk interprets escapes in values of -v.
    """
    return sh("awk -f @program", program=to.place(_awk(name)))


def _words(command: str) -> Script:
    """Returns the words of the validation. ``%s``, also within a word, becomes the path of the new file."""
    found = []
    for word in shlex.split(command):
        parts = [sh("@part", part=part).text if part else "" for part in word.split("%s")]
        found.append('"$new"'.join(parts) or "''")
    return Script(" ".join(found))


@cache
def _awk(name: str) -> bytes:
    return Path(__file__).with_name("awk").joinpath(f"{name}.awk").read_bytes()
