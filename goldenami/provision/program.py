"""Compiles stages into one POSIX shell program, and one tar archive with the program and the contents of files. It
calls no host.

One program contains all stages of a recipe and the facts that are read from the host before, between and after them
(``Fact``). It defines ``check_N``, ``apply_N`` and ``verify_N`` for each operation, numbered over all stages, and calls
``operation N`` for each in order. ``prelude.sh`` contains the functions that they use, and ``operation`` itself. The
program is started as::

    sh program WORK MARK apply|check FIRST CHANGED SPARED

It prints the output of the operations and the events (see ``stream.py``). FIRST: the first operation to run. CHANGED
and SPARED are lists for a second run, after the host lost the first one (a crash, a reboot). CHANGED: operations that
changed something already, so that their handlers are due. SPARED: operations that must not run a second time. Before an
operation that runs on the machine of goldenami (``Steps.here``), the program ends; the next run begins after it.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import os
import tarfile
import tempfile
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import IO

from goldenami.os import MANAGERS
from goldenami.provision.boot import BootEnded
from goldenami.provision.network import BuildNetwork
from goldenami.provision.operation import BoundOperation, Entry, Payload, Stage, all_operations
from goldenami.provision.shell import Script, Steps, lines, quote, sh
from goldenami.reading import Source

MEMORY_BYTES = 8 << 20  # archives larger than this are kept in a temporary file
_WORTH_A_LOOK = 256 << 10
_MUCH = 4 << 20
_NOTHING = Script("")


@dataclass(frozen=True, slots=True)
class Fact:
    """A text that the program reads from the host. ``script`` runs as root, in a subshell, and prints it. ``first``:
    code that runs before, and never beside other work."""

    name: str
    script: Script
    first: Script = _NOTHING


@dataclass(frozen=True, slots=True)
class Beside:
    """Begins to read facts, one after the other, beside what follows. Their texts come with the next ``Collect``, at
    the end of the program, or where an operation collects them (``COLLECT``)."""

    facts: tuple[Fact, ...]


@dataclass(frozen=True, slots=True)
class Collect:
    """Waits for facts that are read beside the program, and takes their texts. ``names``: none means all of them."""

    names: tuple[str, ...] = ()


COLLECT = Script("collect >&3\n")
"""Code for the check of an operation: does what ``Collect`` does."""


@dataclass(frozen=True, slots=True)
class Guard:
    """Ends the program before what follows, unless ``script`` ends with 0."""

    script: Script


@dataclass(frozen=True, slots=True)
class Recheck:
    """A check whether what earlier stages of the program did is still so. It changes nothing, and a run in check mode
    skips it. ``when``: its name in the results. ``stages``: names of the stages. Operations that no check can prove
    (``Steps.once``) are left out.
    """

    when: str
    stages: frozenset[str]


Item = Stage | Fact | Beside | Collect | Guard | Recheck


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
    """Compiled stages. ``files``: the files in the archive beside the program, by name."""

    stages: tuple[Stage, ...]
    text: str
    steps: tuple[Steps, ...]
    files: dict[str, bytes | Source]

    @property
    def operations(self) -> list[Placed]:
        """All operations and handlers in the order of their numbers."""
        return [
            Placed(bound, index, number, len(all_operations(stage)))
            for index, stage in enumerate(self.stages)
            for number, bound in enumerate(all_operations(stage), 1)
        ]

    def archive(self) -> IO[bytes]:
        """Return the gzipped tar archive, positioned at its start; the caller closes it. Files are read now. Raises
        OSError if one is missing.
        """
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
    """Compile one stage. Raises ValueError as ``compile_program`` does."""
    return compile_program([stage])


def compile_program(items: Sequence[Item], network: BuildNetwork | None = None) -> Program:
    """Compile stages and facts in their order. Stages without operations are left out. ``network``: what the program
    uses to download. Raises ValueError, with file:line:column, for an operation that cannot be compiled.
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
        if isinstance(item, Beside):
            calls.append(_beside(item, len(steps)))
            continue
        if isinstance(item, Collect):
            calls.append(sh("collect @names", names=item.names))
            continue
        if isinstance(item, Guard):
            code = '[ "$first" -gt @at ] || (\n@script\n) >/dev/null 2>&1 || {\nevent refused\nend ok\n}'
            calls.append(sh(code, at=len(steps), script=item.script))
            continue
        if isinstance(item, Recheck):
            calls.append(_recheck(item, stages, steps))
            continue
        if not item.operations:
            continue
        compiled = [_steps(compiler, len(steps) + i, bound) for i, bound in enumerate(all_operations(item))]
        functions += [
            *(_functions(len(steps) + i, s) for i, s in enumerate(compiled)),
            *(Script(f"retries_{len(steps) + i}={b.retries}") for i, b in enumerate(all_operations(item)) if b.retries),
            _batches(item, compiled, len(steps)),
        ]
        calls.append(_calls(item, len(stages), compiled, len(steps)))
        stages.append(item)
        steps += compiled
    if any(isinstance(item, Beside) for item in items):
        calls.append(Script("collect"))
    if any(not isinstance(bound.operation, BootEnded) for stage in stages for bound in stage.operations):
        # What a builder prepared while it booted is used up, also if the program was divided by a reboot.
        calls.append(Script('[ "$mode" = check ] || [ ! -d "$flags/boot" ] || rm -rf "$flags/boot"'))
    parts = [_prelude(), _network(compiler, network), compiler.packages(), *functions, *calls, Script("end ok\n")]
    return Program(tuple(stages), lines(*parts).text, tuple(steps), compiler.files)


def _steps(compiler: _Compiler, index: int, bound: BoundOperation) -> Steps:
    try:
        return bound.operation.compile(_Place(compiler, index, bound))
    except ValueError as error:
        raise ValueError(f"{bound.mark}: {error}") from error


def _network(compiler: _Compiler, network: BuildNetwork | None) -> Script:
    """Returns code that sets the network of the build. Its URLs can have passwords, so they are in a file of their
    own."""
    code = (network.script().text if network is not None else "").encode()
    if not code:
        return Script("")
    return sh(". @file", file=compiler.file(hashlib.sha256(code).hexdigest(), code))


@cache
def _prelude() -> Script:
    """Returns the common start of all programs: functions, package managers, and the detection of the manager."""
    prelude, packages = (Path(__file__).with_name(name).read_text() for name in ("prelude.sh", "packages.sh"))
    return Script("".join([prelude, packages, *(m.functions for m in MANAGERS.values()), _family().text]))


def _family() -> Script:
    """Returns code that sets ``$family``, the package manager of the host's system. A host may have programs of another
    manager too. ``$families``: the names of all managers; ``$suffix``: the suffix of package files.
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
    """Returns, for each package, the following operations whose packages the same call can install."""
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
    """Returns code that reads a fact once, also if a reboot divides the program: only runs that start before it read
    it.
    """
    return sh(
        """[ "$first" -gt @at ] || {
@before
event fact @name
(
@script
) 2>&1
event read @name $?
}""",
        at=at,
        name=fact.name,
        before=fact.first,
        script=fact.script,
    )


def _beside(item: Beside, at: int) -> Script:
    """Returns code that begins to read facts in the background, unless a reboot divided the program after it. Their
    temporary files, such as those of a large sort, are in the working directory: the operations may empty /tmp."""
    if not item.facts:
        return Script("")
    reading = [
        sh(
            '(\n@script\n) >"$work/fact."@name 2>&1\nprintf \'%s\\n\' $? >"$work/read."@name',
            script=fact.script,
            name=fact.name,
        )
        for fact in item.facts
    ]
    return sh(
        """[ "$first" -gt @at ] || {
@before
(
export TMPDIR="$work"
@reading
) >/dev/null 2>&1 3>&- &
reads @names
}""",
        at=at,
        before=lines(*(fact.first for fact in item.facts)),
        reading=lines(*reading),
        names=[fact.name for fact in item.facts],
    )


def _recheck(recheck: Recheck, stages: Sequence[Stage], steps: Sequence[Steps]) -> Script:
    """Returns code that checks the operations of the stages again, without their handlers."""
    numbers, base = [], 0
    for stage in stages:
        if stage.name in recheck.stages:
            own = range(base, base + len(stage.operations))
            numbers += [str(number) for number in own if not _unproved(steps[number])]
        base += len(all_operations(stage))
    if not numbers:
        return Script("")
    return sh(
        '[ "$first" -gt @at ] || [ "$mode" = check ] || recheck @when @numbers',
        at=len(steps),
        when=recheck.when,
        numbers=numbers,
    )


def _unproved(steps: Steps) -> bool:
    """Returns whether no check on the host can prove that the operation holds."""
    return steps.once or steps.reboot or steps.here


def _calls(stage: Stage, number: int, steps: list[Steps], base: int) -> Script:
    """Returns the code of a stage: its operations in order, then handlers. Handlers also run before a reboot, because
    the flags of due handlers do not survive it.
    """
    count = len(stage.operations)
    flags = {h.name: _flag(stage, h.name) for h in stage.handlers}
    handlers = [f"handlers_{number}() {{", "reload_units"]
    index = base + count
    for handler in stage.handlers:
        for bound, step in zip(handler.operations, steps[index - base :], strict=False):
            if step.reboot:
                raise ValueError(f"{bound.mark}: a reboot cannot be in a handler: put it after the operations")
            if step.here:
                kind = bound.operation.inner.kind
                raise ValueError(
                    f"{bound.mark}: the operation {kind} cannot be in a handler: put it after the operations"
                )
        handlers.append(f"if is_due {flags[handler.name]}; then")
        for bound in handler.operations:
            handlers.append(_call(index, bound, flags))
            index += 1
        handlers.append(f"done_with {flags[handler.name]}\nfi")
    handlers.append("}")
    found = []
    for index, bound in enumerate(stage.operations, base):
        call = _call(index, bound, flags)
        if steps[index - base].own_code:
            call += f"\n[ $mode = check ] || going_down {index}"
        if steps[index - base].reboot:
            due = f"case $?$mode in 0apply) handlers_{number}; event reboot {index}; end ok ;; esac"
            call = f"operation {index}\n{due}"
        if steps[index - base].here:
            # Its result comes with the next run, which begins after it.
            found.append(f'[ "$first" -gt {index} ] || {{ event here {index}; end ok; }}')
            if bound.notify:
                notified = _notified(bound, flags)
                found.append(f'[ "$first" -ne {index + 1} ] || case $changed in *" {index} "*) {notified} ;; esac')
            continue
        found.append(f'[ "$first" -gt {index} ] || {{\n{call}\n}}')
    # After an operation on the machine of goldenami, the handlers are still to come.
    last = base + count - 1 + int(steps[count - 1].here)
    main = "\n".join([f"stage {number}", *found, f"handlers_{number}"])
    return Script("\n".join([*handlers, f'[ "$first" -gt {last} ] || {{\n{main}\n}}']))


def _call(index: int, bound: BoundOperation, flags: dict[str, str]) -> str:
    # Not as the condition of an if: there a shell ignores "set -e", even in subshells, and an apply would go on after a
    # failed command.
    return f"operation {index}\ncase $? in 0) {_notified(bound, flags)} ;; esac"


def _notified(bound: BoundOperation, flags: dict[str, str]) -> str:
    """Returns the code that notifies the handlers of an operation."""
    return "; ".join(f"notify {flags[name]}" for name in bound.notify) or ":"


def _flag(stage: Stage, handler: str) -> str:
    """Returns a handler's name for the shell. It is stable, so that a second run finds the flags of the first."""
    return hashlib.sha256(f"{stage.name}\0{handler}".encode()).hexdigest()[:16]


def _level(files: Mapping[str, bytes | Source]) -> int:
    """Returns gzip's level for an archive of these files: 6 for small archives, 1 for large ones, and 0 if most of the
    data is compressed already, because compression would then only cost time on both sides.
    """
    total = useless = 0
    for contents in files.values():
        size = len(contents) if isinstance(contents, bytes) else _size(contents)
        total += size
        if size >= _WORTH_A_LOOK:
            sample = _sample(contents)
            useless += size if len(zlib.compress(sample, 1)) > 0.9 * len(sample) else 0
    if 2 * useless > total:
        return 0
    return 6 if total <= _MUCH else 1


def _sample(contents: bytes | Source, size: int = 64 << 10) -> bytes:
    """Returns bytes from the middle of a file, because many formats begin with text."""
    if isinstance(contents, bytes):
        return contents[len(contents) // 2 :][:size]
    with contents.open() as stream:
        stream.seek(os.fstat(stream.fileno()).st_size // 2)
        return stream.read(size)


def _size(source: Source) -> int:
    with source.open() as stream:
        return os.fstat(stream.fileno()).st_size


def _add(tar: tarfile.TarFile, name: str, contents: bytes | Source) -> None:
    entry = tarfile.TarInfo(name)
    entry.mode = 0o600
    if isinstance(contents, bytes):
        entry.size = len(contents)
        tar.addfile(entry, io.BytesIO(contents))
        return
    with contents.open() as stream:
        entry.size = os.fstat(stream.fileno()).st_size
        tar.addfile(entry, stream)


@dataclass
class _Compiler:
    files: dict[str, bytes | Source] = field(default_factory=dict)
    names: dict[str, int] = field(default_factory=dict)

    def file(self, digest: str, contents: bytes | Source) -> Script:
        self.files[digest] = contents
        return Script(f'"$work/{digest}"')

    def package(self, name: str) -> int:
        return self.names.setdefault(name, len(self.names))

    def packages(self) -> Script:
        """Returns the function that queries dpkg or rpm once for all packages of the program. It stores the results in
        ``version_N`` and ``wanted_N``; see ``Compilation.package``.
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
    """Implements ``Compilation`` for one operation."""

    compiler: _Compiler
    index: int
    bound: BoundOperation

    def payload(self, name: str) -> Script:
        return self._file(self._payload(name))

    def _file(self, payload: Payload) -> Script:
        contents = payload.data if payload.data is not None else payload.source
        assert contents is not None
        return self.compiler.file(payload.sha256, contents)

    def tree(self, name: str) -> tuple[Entry, ...]:
        entries = self._payload(name).tree or ()
        for entry in entries:
            if entry.payload is not None:
                self._file(entry.payload)
        return entries

    def is_tree(self, name: str) -> bool:
        payload = self.bound.payloads.get(name)
        return payload is not None and payload.tree is not None

    def digest(self, name: str) -> str:
        return self._payload(name).sha256

    def _payload(self, name: str) -> Payload:
        payload = self.bound.payloads.get(name)
        if payload is None:
            raise ValueError(f"the contents of {name} are missing")
        return payload

    def source_mode(self, name: str) -> int | None:
        payload = self.bound.payloads.get(name)
        return payload.mode if payload else None

    def place(self, data: bytes) -> Script:
        return self.compiler.file(hashlib.sha256(data).hexdigest(), data)

    def package(self, name: str) -> int:
        return self.compiler.package(name)
