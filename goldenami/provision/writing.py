"""How a file of a host gets new contents: beside its place, validated, then moved to its place in one step.

Nobody ever reads half of it, and what does not pass its validation never takes effect.
"""

from __future__ import annotations

import shlex
from functools import cache
from pathlib import Path

from goldenami.provision.shell import Compilation, Script, Steps, lines, sh

VALIDATE = (
    "Command that must succeed before the new file counts. With %s, which stands for its path, it runs before the file "
    'is moved to its place: "visudo -cf %s". Without, it runs when the file is in its place, and the old one is put '
    'back if it fails: "nginx -t". It is split into words as a shell would; it is not run by a shell.'
)


def write(path: Script, produce: Script, attributes: Script, command: str | None = None) -> Script:
    """Code of an apply. ``path``: a word. ``produce``: a command that prints the contents; it may still read the file.
    ``attributes``: code that gives ``$new`` its owner and mode. ``command``: the validation, as ``VALIDATE`` says.
    """
    made = lines(
        sh("beside @path", path=path),
        attributes,
        sh('@produce >"$new"', produce=produce),
    )
    if command is None:
        return lines(made, sh("replace @path", path=path))
    refused = sh("die @message", message=f"the new file was refused by: {command}")
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
    """Code of a check: nothing is there."""
    return sh("[ ! -e @path ] || { detail='is there'; return 1; }", path=path)


def no_file(path: str, *afterwards: Script) -> Steps:
    """A file that is not to be there; what follows its removal."""
    return Steps(is_gone(path), lines(sh("rm -f -- @path", path=path), *afterwards))


def place_file(path: str, contents: Script, mode: str = "0644") -> Script:
    """Code of an apply: a file of root's with what is at ``contents`` (a word), as ``Compilation.place`` gives it."""
    word = sh("@path", path=path)
    return write(word, sh("cat @contents", contents=contents), sh('set_attributes "$new" @mode root root', mode=mode))


def same_file(path: str, contents: Script, mode: str = "0644") -> Script:
    """Code of a check, to what ``place_file`` makes."""
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
    """``attributes`` of ``write`` for a file that is edited: those of the old file, or root's and 0644."""
    return sh(
        """if [ -e @path ]; then cp --attributes-only --preserve=all -- @path "$new"
else set_attributes "$new" 0644 root root; fi""",
        path=path,
    )


def awk(to: Compilation, name: str) -> Script:
    """The command that runs one of the awk programs of this package; its values come from environment variables, since
    awk reads escapes in those that -v takes.
    """
    return sh("awk -f @program", program=to.place(_awk(name)))


def _words(command: str) -> Script:
    """The validation's words; ``%s``, alone or within one, is the path of the new file."""
    found = []
    for word in shlex.split(command):
        parts = [sh("@part", part=part).text if part else "" for part in word.split("%s")]
        found.append('"$new"'.join(parts) or "''")
    return Script(" ".join(found))


@cache
def _awk(name: str) -> bytes:
    return Path(__file__).with_name("awk").joinpath(f"{name}.awk").read_bytes()
