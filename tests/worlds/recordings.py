"""The calls that an undisturbed run makes: each matrix disturbs every one of them.

They are kept in ``calls/``, a line for each call, so that the cases have names before anything runs. A test compares
the files with what runs make today. After a change of what a run calls, write them anew with ``python -m
tests.worlds.recordings``; the difference in git is what changed.
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import Callable, Iterable
from functools import cache
from pathlib import Path

import pytest

from tests.worlds.builds import Label, World, a_world
from tests.worlds.exchanges import WORK, copying, fresh, prepared, sealed

_FOLDER = Path(__file__).parent / "calls"
_LINE = re.compile(r"(\w+):(\w+) #(\d+) in (\w+)/([\w-]+)")
Record = Callable[[World], Iterable[Label]]


def build(world: World) -> Iterable[Label]:
    """The changes of a build in two regions and two accounts."""
    world.fresh()
    world.build()
    return world.cloud.mutations


def every_call(world: World) -> Iterable[Label]:
    """All calls of a build, reads too; of those that ask again and again, the first three."""
    world.fresh(new_process=True)
    return without_polling(recorded(world, world.build))


def second_release(world: World) -> Iterable[Label]:
    """What publishes a second release over a first one."""
    world.fresh()
    world.build()
    world.change_recipe("second")
    world.cloud.start_process()
    world.build()
    return [label for label in world.cloud.mutations if label.service == "ssm"]


def clean_up(world: World) -> Iterable[Label]:
    """The changes of a clean-up, of a build with everything made and nothing published. Which parameters other threads
    had created when it died, and whether they had ended its test instance, depends on a race: that is left out."""
    last = next(label for label in sorted(build(world)) if label.service == "ssm")
    world.fresh()
    world.build_until(last, "before")
    world.clean(world.builds[0])
    raced = ("DeleteParameter", "ModifyInstanceAttribute", "TerminateInstances")
    return [label for label in world.cloud.mutations if label.action not in raced]


def build_in_a_bucket(world: World) -> Iterable[Label]:
    """The changes of a build whose journal and catalog are in a bucket, with those that keep its books."""
    world.fresh(bucket=True)
    world.build()
    return world.cloud.mutations


def exchange(name: str) -> Record:
    """All calls of a work on volumes."""

    def record(world: World) -> Iterable[Label]:
        estate, _ = prepared(fresh(world), name)
        return without_polling(recorded(world, lambda: WORK[name](estate)))

    return record


def exchange_changes(name: str) -> Record:
    """The changes of a work on volumes."""

    def record(world: World) -> Iterable[Label]:
        estate, _ = prepared(fresh(world), name)
        WORK[name](estate)
        return world.cloud.mutations

    return record


def copy_changes(world: World) -> Iterable[Label]:
    """The changes of copying encrypted snapshots into another account and another region."""
    estate = fresh(world)
    sources = sealed(estate)
    world.cloud.start_process()
    copying(estate, sources)
    return world.cloud.mutations


RECORDINGS: dict[str, Record] = {
    "build": build,
    "every-call": every_call,
    "second-release": second_release,
    "clean-up": clean_up,
    "build-in-a-bucket": build_in_a_bucket,
    "encrypt": exchange("encrypt"),
    "restore": exchange("restore"),
    "encrypt-changes": exchange_changes("encrypt"),
    "restore-changes": exchange_changes("restore"),
    "copy-changes": copy_changes,
}


def recorded(world: World, work: Callable[[], object]) -> list[Label]:
    """The calls that come in while something is done."""
    world.gate.start(record=True)
    try:
        work()
        return list(world.gate.recording or ())
    finally:
        world.gate.stop()


def without_polling(labels: Iterable[Label]) -> list[Label]:
    return [label for label in labels if label.action[:8] != "Describe" or label.ordinal <= 3]


@cache
def calls(name: str) -> tuple[Label, ...]:
    """The calls of a recording, sorted."""
    found = []
    for line in (_FOLDER / f"{name}.txt").read_text().splitlines():
        match = _LINE.fullmatch(line)
        assert match is not None, line
        service, action, ordinal, account, region = match.groups()
        found.append(Label(service, action, account, region, int(ordinal)))
    return tuple(found)


def write(name: str, world: World) -> None:
    _FOLDER.mkdir(exist_ok=True)
    (_FOLDER / f"{name}.txt").write_text("".join(f"{label}\n" for label in sorted(RECORDINGS[name](world))))


def main() -> None:
    """Write all recordings anew."""
    with (
        tempfile.TemporaryDirectory() as folder,
        pytest.MonkeyPatch.context() as patch,
        a_world(Path(folder), patch) as world,
    ):
        for name in RECORDINGS:
            write(name, world)


if __name__ == "__main__":
    main()
