"""Outputs: values that scripts declare, read from the host when everything is done."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from goldenami.errors import BuilderError
from goldenami.model import Mark
from goldenami.provision.command import ScriptFile
from goldenami.provision.masking import masker
from goldenami.provision.operation import BoundOperation, Stage
from goldenami.provision.program import Fact
from goldenami.provision.shell import sh

LONGEST = 4096  # characters of a value: it is evidence, not a file

_PREFIX = "output:"


def twice(stages: Iterable[Stage]) -> list[tuple[Mark, str, Mark]]:
    """Names that two scripts declare: where the second one is, the name, where the first one is."""
    places: dict[str, Mark] = {}
    found = []
    for bound, name, _ in _declared(stages):
        if name in places:
            found.append((bound.mark, name, places[name]))
        places.setdefault(name, bound.mark)
    return found


def facts(stages: Iterable[Stage]) -> tuple[Fact, ...]:
    """What a program reads after these stages, so that ``read`` finds the outputs."""
    # Errors go with the value: where the command fails, they are what is told.
    return tuple(Fact(_PREFIX + name, sh("sh -c @command 2>&1", command=c)) for _, name, c in _declared(stages))


def read(found: Mapping[str, str], secrets: Iterable[str] = ()) -> dict[str, str]:
    """The outputs among the facts of a run, without the line ends that follow them, and with secrets masked. Raises
    BuilderError for one that is too long.
    """
    mask = masker(secrets)
    values = {name.removeprefix(_PREFIX): mask(v.rstrip("\n")) for name, v in found.items() if name.startswith(_PREFIX)}
    for name, value in values.items():
        if len(value) > LONGEST:
            raise BuilderError(
                f"the output {name} has {len(value)} characters, and {LONGEST} are taken",
                hint="Let it print a checksum or a version, and keep the rest in a file.",
            )
    return values


def _declared(stages: Iterable[Stage]) -> Iterator[tuple[BoundOperation, str, str]]:
    """Every output: its script, its name, the shell command that prints it."""
    for stage in stages:
        for bound in stage.operations:
            if isinstance(bound.operation, ScriptFile):
                for name, command in bound.operation.outputs.items():
                    yield bound, name, command
