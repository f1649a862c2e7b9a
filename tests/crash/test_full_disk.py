"""A disk that is full while the journal is written, for real: a tmpfs of some KiB, one page more in each case."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from goldenami.errors import JournalError
from tests.worlds import inventory
from tests.worlds.builds import World
from tests.worlds.cases import check

PAGE = 4096
# A build's journal of this world is a little longer than the largest of these.
SIZES = range(3, 26)


@pytest.fixture
def small(world: World, tmp_path: Path) -> Iterator[Path]:
    if os.geteuid() != 0:
        pytest.skip("mounting a small file system needs root; tests/journal has the same by a failing sync")
    disk = tmp_path / "disk"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={PAGE}", "tmpfs", str(disk)], check=True)
    try:
        yield disk
    finally:
        subprocess.run(["umount", "-l", str(disk)], check=True)


def resize(disk: Path, pages: int) -> None:
    subprocess.run(["mount", "-o", f"remount,size={pages * PAGE}", str(disk)], check=True)


def test_no_call_without_its_intent_and_resumable_once_there_is_space(world: World, small: Path, whole: bool) -> None:
    failed = 0
    for pages in SIZES if whole else SIZES[::9]:
        world.fresh()
        decoys = inventory.place_decoys(world)
        builds = small / f"{pages}"
        world.environment = replace(world.environment, builds=str(builds))
        resize(small, used(small) + pages)
        error = stopped(world)
        if error is None:
            continue
        failed += 1
        assert "No space left" in error.message
        assert "Free some space" in (error.hint or "")
        resize(small, used(small) + 1000)
        if not world.builds:  # no room for a header: nothing was made
            check(world, decoys, released=False)
            continue
        (build_id,) = world.builds
        sent = world.cloud.mutations
        known = {i.operation for i, _ in world.journals.read(build_id).calls}
        assert {label.action for label in sent} <= known, "a call without its intent"
        assert world.resume(build_id).status == "released"
        check(world, decoys, released=True)
    assert failed > 1, "the disk was never full"


def stopped(world: World) -> JournalError | None:
    try:
        world.build()
    except JournalError as error:
        return error
    return None


def used(disk: Path) -> int:
    facts = os.statvfs(disk)
    return facts.f_blocks - facts.f_bfree
