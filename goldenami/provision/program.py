"""Stages become one POSIX shell program, and one tar archive that holds it and the contents of files. Pure.

A recipe's stages, and what is to be learnt of the host before, between and after them (``Fact``), go together. The
program defines ``check_N``, ``apply_N`` and ``verify_N`` for each operation, numbered over all stages, and calls
``operation N`` for one after the other; ``prelude.sh`` has what these functions use, and what it means to run one. It
is started as::

    sh program WORK MARK apply|check FIRST CHANGED SPARED

and prints the output of the operations with events in between (see ``stream.py``). FIRST: the first operation to run.
CHANGED and SPARED are for a program that is run again because the host has forgotten it: operations that have changed
something already, which still makes their handlers due; and those that must not be run a second time.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import tarfile
import tempfile
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import IO

from goldenami.os import MANAGERS
from goldenami.provision.operation import BoundOperation, Payload, Stage, all_operations
from goldenami.provision.shell import Script, Steps, lines, quote, sh

MEMORY_BYTES = 8 << 20  # archives larger than this are kept in a temporary file
_WORTH_A_LOOK = 256 << 10
_MUCH = 4 << 20


@dataclass(frozen=True, slots=True)
class Fact:
    """Something that is read from the host on the way. ``script`` runs as root, in a subshell, and prints it."""

    name: str
    script: Script


Item = Stage | Fact


@dataclass(frozen=True, slots=True)
class Placed:
    """An operation at its place in the program. ``number`` (from 1) and ``total``: within its stage, handlers
    included. ``stage``: the index of its stage.
    """

    bound: BoundOperation
    stage: int
    number: int
    total: int


@dataclass(frozen=True)
class Program:
    """Compiled stages. ``files``: what goes into the archive beside the program, by name."""

    stages: tuple[Stage, ...]
    text: str
    steps: tuple[Steps, ...]
    files: dict[str, bytes | Path]

    @property
    def operations(self) -> list[Placed]:
        """All operations and handlers, as they are numbered."""
        return [
            Placed(bound, index, number, len(all_operations(stage)))
            for index, stage in enumerate(self.stages)
            for number, bound in enumerate(all_operations(stage), 1)
        ]

    def archive(self) -> IO[bytes]:
        """The gzipped tar archive, at its start; the caller closes it. Files are read now: OSError if one went away."""
        output = tempfile.SpooledTemporaryFile(MEMORY_BYTES)  # noqa: SIM115
        with (
            gzip.GzipFile(fileobj=output, mode="wb", compresslevel=_level(self.files), mtime=0) as packed,
            tarfile.open(fileobj=packed, mode="w|", format=tarfile.PAX_FORMAT) as tar,
        ):
            _add(tar, "program", self.text.encode())
            for name, contents in self.files.items():
                _add(tar, name, contents)
        output.seek(0)
        return output


def compile_stage(stage: Stage) -> Program:
    """One stage as a program. Raises as ``compile_program`` does."""
    return compile_program([stage])


def compile_program(items: Sequence[Item]) -> Program:
    """Compile stages, and facts where they stand between them; a stage without operations is left out. Raises
    ValueError, naming the place, for what cannot be.
    """
    compiler = _Compiler()
    steps: list[Steps] = []
    functions: list[Script] = []
    calls: list[Script] = []
    stages: list[Stage] = []
    for item in items:
        if isinstance(item, Fact):
            calls.append(_fact(item, len(steps)))
            continue
        if not item.operations:
            continue
        compiled = [_steps(compiler, len(steps) + i, bound) for i, bound in enumerate(all_operations(item))]
        functions += [
            *(_functions(len(steps) + i, s) for i, s in enumerate(compiled)),
            _batches(item, compiled, len(steps)),
        ]
        calls.append(_calls(item, len(stages), compiled, len(steps)))
        stages.append(item)
        steps += compiled
    parts = [_prelude(), compiler.packages(), *functions, *calls, Script("end ok\n")]
    return Program(tuple(stages), lines(*parts).text, tuple(steps), compiler.files)


def _steps(compiler: _Compiler, index: int, bound: BoundOperation) -> Steps:
    try:
        return bound.operation.compile(_Place(compiler, index, bound))
    except ValueError as error:
        raise ValueError(f"{bound.mark}: {error}") from error


@cache
def _prelude() -> Script:
    """What every program begins with: what an operation is, then the package managers, and which one the host has."""
    prelude, packages = (Path(__file__).with_name(name).read_text() for name in ("prelude.sh", "packages.sh"))
    return Script("".join([prelude, packages, *(m.functions for m in MANAGERS.values()), _family().text]))


def _family() -> Script:
    """Sets ``$family``, the package manager that the host's system is made with: it may have another one's programs,
    too. ``$families``: the names of all; ``$suffix``: the ending of the names of package files.
    """
    code = sh("\nfamilies=@names family=none suffix=''\n", names=", ".join(MANAGERS))
    for number, manager in enumerate(MANAGERS.values()):
        code += sh(
            "@word @detect; then family=@name suffix=@suffix\n",
            word=Script("elif" if number else "if"),
            detect=manager.detect,
            name=manager.name,
            suffix=manager.suffix,
        )
    return code + Script("fi\n")


def _functions(index: int, steps: Steps) -> Script:
    found = []
    for name, code in (("check", steps.check), ("apply", steps.apply), ("verify", steps.verify)):
        body = code.text if code is not None else f'"check_{index}"'
        found.append(f"{name}_{index}() {{\n{body}\n}}")
    return Script("\n".join(found))


def _batches(stage: Stage, steps: list[Steps], base: int) -> Script:
    """For each package, those of the operations right after it that may be installed by the same call."""
    found = []
    count = len(stage.operations)
    for index, step in enumerate(steps[:count]):
        if step.batch is None:
            continue
        number = base + index
        found.append(f"spec_{number}={quote(step.batch.spec).text} options_{number}={quote(step.batch.options).text}")
        after = []
        for other in range(index + 1, count):
            batch = steps[other].batch
            if batch is None or batch.options != step.batch.options:
                break
            after.append(str(base + other))
        if after:
            found.append(f"after_{number}='{' '.join(after)}'")
    return Script("\n".join(found))


def _fact(fact: Fact, at: int) -> Script:
    """Read once, also where a reboot divides the program: by the run whose first operation does not come after it."""
    return sh(
        '[ "$first" -gt @at ] || {\nevent fact @name\n(\n@script\n) 2>&1\nevent read @name $?\n}',
        at=at,
        name=fact.name,
        script=fact.script,
    )


def _calls(stage: Stage, number: int, steps: list[Steps], base: int) -> Script:
    """A stage: its operations in order; handlers at the end, and before a reboot, which forgets which were due."""
    count = len(stage.operations)
    flags = {h.name: _flag(stage, h.name) for h in stage.handlers}
    handlers = [f"handlers_{number}() {{", "reload_units"]
    index = base + count
    for handler in stage.handlers:
        handlers.append(f"if is_due {flags[handler.name]}; then")
        for bound in handler.operations:
            handlers.append(_call(index, bound, flags))
            index += 1
        handlers.append(f"done_with {flags[handler.name]}\nfi")
    handlers.append("}")
    found = []
    for index, bound in enumerate(stage.operations, base):
        call = _call(index, bound, flags)
        if steps[index - base].reboot:
            due = f"case $?$mode in 0apply) handlers_{number}; event reboot {index}; end ok ;; esac"
            call = f"operation {index}\n{due}"
        found.append(f'[ "$first" -gt {index} ] || {{\n{call}\n}}')
    last = base + count - 1
    main = "\n".join([f"stage {number}", *found, f"handlers_{number}"])
    return Script("\n".join([*handlers, f'[ "$first" -gt {last} ] || {{\n{main}\n}}']))


def _call(index: int, bound: BoundOperation, flags: dict[str, str]) -> str:
    notified = "; ".join(f"notify {flags[name]}" for name in bound.notify) or ":"
    # Not as the condition of an if: in there a shell heeds no "set -e", not even a subshell's, and an apply would go on
    # after what failed in it.
    return f"operation {index}\ncase $? in 0) {notified} ;; esac"


def _flag(stage: Stage, handler: str) -> str:
    """A handler's name for the shell. Stable: a stage that is run again finds what the run before left undone."""
    return hashlib.sha256(f"{stage.name}\0{handler}".encode()).hexdigest()[:16]


def _level(files: Mapping[str, bytes | Path]) -> int:
    """gzip's level for an archive with these files: much for little text, little for much, none where it is of no use,
    as for archives and programs that are compressed already: that would only take time, on both sides.
    """
    total = useless = 0
    for contents in files.values():
        size = len(contents) if isinstance(contents, bytes) else contents.stat().st_size
        total += size
        if size >= _WORTH_A_LOOK:
            sample = _sample(contents)
            useless += size if len(zlib.compress(sample, 1)) > 0.9 * len(sample) else 0
    if 2 * useless > total:
        return 0
    return 6 if total <= _MUCH else 1


def _sample(contents: bytes | Path, size: int = 64 << 10) -> bytes:
    """From the middle: many formats begin with text."""
    if isinstance(contents, bytes):
        return contents[len(contents) // 2 :][:size]
    with contents.open("rb") as source:
        source.seek(contents.stat().st_size // 2)
        return source.read(size)


def _add(tar: tarfile.TarFile, name: str, contents: bytes | Path) -> None:
    entry = tarfile.TarInfo(name)
    entry.mode = 0o600
    if isinstance(contents, bytes):
        entry.size = len(contents)
        tar.addfile(entry, io.BytesIO(contents))
        return
    with contents.open("rb") as source:
        entry.size = contents.stat().st_size
        tar.addfile(entry, source)


@dataclass
class _Compiler:
    files: dict[str, bytes | Path] = field(default_factory=dict)
    names: dict[str, int] = field(default_factory=dict)

    def file(self, digest: str, contents: bytes | Path) -> Script:
        self.files[digest] = contents
        return Script(f'"$work/{digest}"')

    def package(self, name: str) -> int:
        return self.names.setdefault(name, len(self.names))

    def packages(self) -> Script:
        """The function that asks dpkg or rpm once for all packages that the stage is about, and keeps the answers.

        In ``version_N`` and ``wanted_N``; see ``Compilation.package``.
        """
        if not self.names:
            return Script("")
        cases = "\n".join(
            sh("@name) version_@number=$_version wanted_@number=$_state ;;", name=quote(name), number=number).text
            for name, number in self.names.items()
        )
        cleared = " ".join(f"version_{n}='' wanted_{n}=''" for n in self.names.values())
        names = " ".join(quote(name).text for name in self.names)
        return Script(
            f"""read_packages() {{
[ -z "$packages_known" ] || return 0
{cleared}
while read -r _state _name _version; do
case $_state in ?i) ;; ?c) _version='' ;; *) continue ;; esac
case $_name in
{cases}
esac
done <<_
$(list_packages {names})
_
packages_known=1
}}"""
        )


@dataclass(frozen=True)
class _Place:
    """What ``Compilation`` promises, for one operation."""

    compiler: _Compiler
    index: int
    bound: BoundOperation

    def payload(self, name: str) -> Script:
        payload = self._payload(name)
        contents = payload.data if payload.data is not None else payload.path
        assert contents is not None
        return self.compiler.file(payload.sha256, contents)

    def digest(self, name: str) -> str:
        return self._payload(name).sha256

    def _payload(self, name: str) -> Payload:
        payload = self.bound.payloads.get(name)
        if payload is None:
            raise ValueError(f"no contents were given for {name}")
        return payload

    def source_mode(self, name: str) -> int | None:
        payload = self.bound.payloads.get(name)
        return payload.mode if payload else None

    def place(self, data: bytes) -> Script:
        return self.compiler.file(hashlib.sha256(data).hexdigest(), data)

    def package(self, name: str) -> int:
        return self.compiler.package(name)
