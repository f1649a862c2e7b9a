"""The crash matrix over a bucket: the machine dies at any call, also at any write of the journal, its locks and the
catalog; then another machine, which has nothing but the bucket, resumes or cleans.
"""

from __future__ import annotations

import itertools

import pytest

from goldenami.errors import Busy
from tests.worlds import inventory
from tests.worlds.builds import Death, Label, World
from tests.worlds.cases import check, points_to, release_of
from tests.worlds.matrix import matrix
from tests.worlds.recordings import calls

MOMENTS = ("before", "after")


@matrix("label, when, then", itertools.product(calls("build-in-a-bucket"), MOMENTS, ("resume", "clean")), every=211)
def test_another_machine_resumes_or_cleans(world: World, label: Label, when: str, then: str) -> None:
    killed(world, label, when, then)


def killed(world: World, label: Label, when: str, then: str) -> None:
    world.fresh(bucket=True)
    decoys = inventory.place_decoys(world)
    world.cloud.start_process(label, when)
    try:
        world.build()
    except Death:
        pass
    else:
        assert label.service == "s3", "what a journal is compacted to depends on nothing else"
    world.other_machine()
    if not world.builds:  # it died before there was anything to remember
        check(world, decoys, released=None)
        return
    (build_id,) = world.builds
    ended = world.journals.read(build_id).ending
    if ended == "released":
        check(world, decoys, released=True)
    elif then == "resume":
        assert world.resume().status == "released"
        check(world, decoys, released=True)
        assert world.journals.read(build_id).ending == "released"
    else:
        assert world.clean(build_id).complete
        check(world, decoys, released=None)
        manifest = release_of(world)
        assert manifest is None or points_to(world) in (None, manifest.version)


def test_a_machine_that_is_only_slow_keeps_its_build(world: World) -> None:
    """Nobody takes over while its leases hold; what keeps others away is said."""
    copy = next(label for label in calls("build-in-a-bucket") if label.action == "CopyImage")
    world.fresh(bucket=True)
    world.build_until(copy, "after")  # here and now: leases last a minute of S3's clock, which is the machine's
    (build_id,) = world.builds
    with pytest.raises(Busy, match="process"):
        world.resume(build_id)
    with pytest.raises(Busy, match="process"):
        world.clean(build_id)
    world.leases_run_out()
    assert world.resume(build_id).status == "released"
    check(world, frozenset(), released=True)
