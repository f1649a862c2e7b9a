"""Gathers the answers to many commands by one: ``dpkg-query -W`` of fifty packages starts one program instead of fifty.

testinfra asks for one property of one thing at a time. Nearly all of what that costs on the host is the start of
programs. So commands that differ only in the name at their end run as one, with all the names. Its output has a line
for each name, from which each command's own answer follows: the same bytes, the same exit status. Where it does not
follow without doubt (a name that does not exist, a line too many, a program that takes only one name), there is no
answer, and the command runs as it is.

Some lines also answer what testinfra asks next about the same thing, such as the owner, group and mode of a file. Pure.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

Output = tuple[int, bytes, bytes]  # status, stdout, stderr
Split = Callable[[Sequence[str], Output], Mapping[str, Output]]

_NAME = r"(?P<name>[A-Za-z0-9_][A-Za-z0-9_.@+-]*)"  # the shell, and the program, take it for nothing else
_PATH = r"(?P<name>/[A-Za-z0-9_./@+-]*)"
_MOST_BYTES = 16 << 10  # of the names of one command


@dataclass(frozen=True, slots=True)
class Gathering:
    """One command in place of others. ``split`` returns the answers that follow from its output without doubt: to the
    commands in ``wanted``, and to more."""

    command: str
    wanted: tuple[str, ...]
    split: Callable[[Output], Mapping[str, Output]]


@dataclass(frozen=True, slots=True)
class _Family:
    """Commands that differ in one name. ``hints``: commands after which testinfra often asks for this, too."""

    pattern: re.Pattern[str]
    command: str  # before the names
    split: Split
    hints: re.Pattern[str] | None = None
    fewest: int = 2  # names from which on the one command is cheaper


def gather(commands: Iterable[str]) -> list[Gathering]:
    """Return commands that answer several of these. A command that is in none of them has to run as it is."""
    asked = list(dict.fromkeys(commands))
    return [gathering for family in _FAMILIES for gathering in _of_family(family, asked)]


def _of_family(family: _Family, asked: Sequence[str]) -> Iterator[Gathering]:
    names: dict[str, list[str]] = {}  # each with the commands about it
    is_hinted = False
    for command in asked:
        if match := family.pattern.fullmatch(command):
            names.setdefault(match["name"], []).append(command)
        elif family.hints is not None and (match := family.hints.fullmatch(command)):
            names.setdefault(match["name"], [])
            is_hinted = True
    if not is_hinted and len(names) < family.fewest:
        return
    for some in _in_pieces(list(names)):
        wanted = tuple(command for name in some for command in names[name])
        yield Gathering(f"{family.command} {' '.join(some)}", wanted, partial(family.split, some))


def _in_pieces(names: Sequence[str]) -> Iterator[list[str]]:
    piece: list[str] = []
    size = 0
    for name in names:
        if piece and size + len(name) > _MOST_BYTES:
            yield piece
            piece, size = [], 0
        piece.append(name)
        size += len(name) + 1
    if piece:
        yield piece


def _fine(line: str) -> Output:
    return 0, line.encode("utf-8", errors="surrogateescape") + b"\n", b""


def _lines(output: Output) -> list[str]:
    *lines, rest = output[1].decode("utf-8", errors="surrogateescape").split("\n")
    return lines if not rest else []


# --- one line for each name, in their order ---------------------------------------------------------------------------


def _in_order(command: str, line: str) -> Split:
    """If all went well, each name has its line. ``line``: what one looks like whose command ends with status 0."""

    def split(names: Sequence[str], output: Output) -> Mapping[str, Output]:
        lines = _lines(output)
        if output[2] or len(lines) != len(names):
            return {}
        pairs = zip(names, lines, strict=True)
        return {f"{command} {name}": _fine(text) for name, text in pairs if re.fullmatch(line, text)}

    return split


def _users(names: Sequence[str], output: Output) -> Mapping[str, Output]:
    return _in_order("id", r"uid=\d+.*")(names, output) if output[0] == 0 else {}


def _numbers(names: Sequence[str], output: Output) -> Mapping[str, Output]:
    return _in_order("id -u", r"\d+")(names, output) if output[0] == 0 else {}


def _parameters(command: str) -> Split:
    return lambda names, output: _in_order(command, ".*")(names, output) if output[0] == 0 else {}


# --- lines that begin with the name -----------------------------------------------------------------------------------


def _entries(database: str) -> Split:
    """Entries of the databases of accounts. A name without an entry has no line, and gets no answer."""

    def split(names: Sequence[str], output: Output) -> Mapping[str, Output]:
        found: dict[str, list[str]] = {}
        for line in _lines(output):
            found.setdefault(line.partition(":")[0], []).append(line)
        answers: dict[str, Output] = {}
        for name in names:
            if output[2] or len(found.get(name, ())) != 1:
                continue
            line = found[name][0]
            answers[f"getent {database} {name}"] = _fine(line)
            fields = line.split(":")
            if database == "group" and len(fields) == 4:
                for number in (3, 4):  # as testinfra asks
                    answers[f"getent group {name} | cut -d':' -f{number}"] = _fine(fields[number - 1])
        return answers

    return split


_PACKAGE = r"${Package}\t${Status}\t${Version}\n"


def _packages(names: Sequence[str], output: Output) -> Mapping[str, Output]:
    found: dict[str, list[list[str]]] = {}
    for line in _lines(output):
        fields = line.split("\t")
        if len(fields) != 3:
            return {}
        found.setdefault(fields[0], []).append(fields)
    errors = output[2].decode("utf-8", errors="surrogateescape").splitlines()
    answers: dict[str, Output] = {}
    for name in names:
        asked = {what: f"dpkg-query -f '{what}' -W {name}" for what in ("${Status}", "${Status} ${Version}")}
        missing = f"dpkg-query: no packages found matching {name}"
        lines = found.get(name, [])
        if len(lines) == 1 and missing not in errors:  # a package of two architectures has two
            _, status, version = lines[0]
            answers[asked["${Status}"]] = (0, status.encode(), b"")
            answers[asked["${Status} ${Version}"]] = (0, f"{status} {version}".encode(), b"")
        elif not lines and errors.count(missing) == 1:
            answers |= dict.fromkeys(asked.values(), (1, b"", missing.encode() + b"\n"))
    return answers


# --- files ------------------------------------------------------------------------------------------------------------

_FIELDS = ("%U", "%u", "%G", "%g", "%a", "%s", "%Y")


def _files(names: Sequence[str], output: Output) -> Mapping[str, Output]:
    """A file that cannot be read has no line, and gets no answer."""
    answers: dict[str, Output] = {}
    wanted = set(names)
    for line in _lines(output):
        *fields, name = line.split(":", len(_FIELDS))
        if len(fields) != len(_FIELDS) or name not in wanted:
            return {}
        answers |= {f"stat -Lc {field} {name}": _fine(value) for field, value in zip(_FIELDS, fields, strict=True)}
    return answers


def _family(pattern: str, command: str, split: Split, hints: str | None = None, fewest: int = 2) -> _Family:
    return _Family(re.compile(pattern), command, split, re.compile(hints) if hints else None, fewest)


_FAMILIES = (
    _family(
        rf"dpkg-query -f '\$\{{Status\}}( \$\{{Version\}})?' -W {_NAME}",
        f"dpkg-query -f '{_PACKAGE}' -W",
        _packages,
        fewest=1,  # for what is asked next
    ),
    _family(
        rf"stat -Lc %[UuGgasY] {_PATH}", f"stat -Lc {':'.join((*_FIELDS, '%n'))}", _files, rf"test -[efdx] {_PATH}", 1
    ),
    _family(rf"id {_NAME}", "id", _users),
    _family(rf"id -u {_NAME}", "id -u", _numbers, rf"id {_NAME}"),
    _family(rf"getent passwd {_NAME}", "getent passwd", _entries("passwd"), rf"id {_NAME}"),
    _family(rf"getent shadow {_NAME}", "getent shadow", _entries("shadow")),
    _family(rf"getent group {_NAME}( \| cut -d':' -f[34])?", "getent group", _entries("group")),
    *(
        _family(rf"systemctl {verb} {_NAME}", f"systemctl {verb}", _in_order(f"systemctl {verb}", well))
        for verb, well in (("is-active", "active"), ("is-enabled", "enabled"))
    ),
    *(
        _family(rf"{program} -n {_NAME}", f"{program} -n", _parameters(f"{program} -n"))
        for program in ("/sbin/sysctl", "/usr/sbin/sysctl", "sysctl")
    ),
)
