"""Outputs: values that scripts declare, read from the host after the last operation."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace

from goldenami.errors import BuilderError
from goldenami.model import Mark
from goldenami.provision.command import ScriptFile
from goldenami.provision.masking import masker
from goldenami.provision.operation import BoundOperation, Stage
from goldenami.provision.program import Fact
from goldenami.provision.shell import sh

LONGEST = 4096  # characters of a value: it is kept in the manifest

_PREFIX = "output:"


def duplicate_outputs(stages: Iterable[Stage]) -> list[tuple[Mark, str, Mark]]:
    """Return the names that two scripts declare: the second script's place, the name, the first script's place."""
    places: dict[str, Mark] = {}
    found = []
    for bound, name, _ in _declared(stages):
        if name in places:
            found.append((bound.mark, name, places[name]))
        places.setdefault(name, bound.mark)
    return found


def output_facts(stages: Iterable[Stage]) -> tuple[Fact, ...]:
    """Return the facts that a program must read after these stages, so that ``read_outputs`` finds the outputs."""
    # stderr is read with the value, so that the error of a failing command is reported.
    return tuple(Fact(_PREFIX + name, sh("sh -c @command 2>&1", command=c)) for _, name, c in _declared(stages))


def scripts_with_outputs(stage: Stage) -> Stage:
    """Return a stage with only its scripts that have outputs."""
    kept = {id(bound): replace(bound, notify=()) for bound, _, _ in _declared([stage])}
    return Stage(stage.name, tuple(kept.values()))


def read_outputs(found: Mapping[str, str], secrets: Iterable[str] = ()) -> dict[str, str]:
    """Return the outputs among the facts of a run, without trailing line ends and with secrets masked. Raises
    BuilderError for an output of more than ``LONGEST`` characters.
    """
    mask = masker(secrets)
    values = {name.removeprefix(_PREFIX): mask(v.rstrip("\n")) for name, v in found.items() if name.startswith(_PREFIX)}
    for name, value in values.items():
        if len(value) > LONGEST:
            raise BuilderError(
                f"the output {name} has {len(value)} characters, expected at most {LONGEST}",
                hint="Print a checksum or a version instead, and keep the full text in a file.",
            )
    return values


def _declared(stages: Iterable[Stage]) -> Iterator[tuple[BoundOperation, str, str]]:
    """Yields every output: its script, its name, and the shell command that prints it."""
    for stage in stages:
        for bound in stage.operations:
            if isinstance(bound.operation, ScriptFile):
                for name, command in bound.operation.outputs.items():
                    yield bound, name, command
