"""Random estates with hundreds of images: what is protected stays, what goes leaves nothing, whatever happens.

A few estates, and a few of the cases of each; with GOLDENAMI_WHOLE_MATRIX=1 many estates, and every case.
"""

from __future__ import annotations

import random
from typing import Any

import pytest

from goldenami.journal import Journals
from goldenami.release.retire import Retired, failed, retire
from tests.worlds import estates
from tests.worlds.builds import PLACES, Death, Label, World
from tests.worlds.estates import Estate, label_of

_DELETING = {"DeregisterImage", "DeleteSnapshot", "RevokeGrant", "DeleteParameter"}
_REFUSAL = {"code": "AccessDenied", "message": "not for you", "status": 403, "nth": 0}


@pytest.fixture
def world(build_world: World) -> World:
    return build_world


def build(world: World, seed: int, *, releases: int, uses: int) -> Estate:
    world.fresh()
    return estates.Builder(world, seed, releases=releases, uses=uses).build()


def large(world: World, seed: int) -> Estate:
    return build(world, seed, releases=64, uses=5)


def small(world: World, seed: int) -> Estate:
    return build(world, seed, releases=24, uses=1)


def go(world: World, estate: Estate) -> Retired:
    world.cloud.start_process()
    return run(world, estate)


def run(world: World, estate: Estate) -> Retired:
    """In the process that is there."""
    return retire(world.environment, world.catalog, estate.rules, estate.now, cloud=world.cloud)


def retirements(world: World, estate: Estate) -> dict[str, str]:
    found = {label_of(m): world.catalog.marks.retirement(m.recipe, m.version) for m in estate.releases}
    return {label: one.status for label, one in found.items() if one is not None}


def state(world: World, estate: Estate) -> Any:
    """All that a run may change."""
    return (
        estates.inventory(world),
        [estates.condition(world, m) for m in estate.releases],
        retirements(world, estate),
        Journals(world.path / ".goldenami/test/builds").unfinished(),
    )


def numbers(whole: bool, few: int, many: int) -> range:
    return range(1, (many if whole else few) + 1)


def test_protected_ones_stay_and_the_others_leave_nothing(world: World, whole: bool) -> None:
    sizes = []
    for seed in numbers(whole, 1, 30):
        estate = large(world, seed)
        why = estates.protected(world, estate)
        going = estates.to_be_deleted(estate, why)
        before = estates.inventory(world)
        conditions = {label_of(m): estates.condition(world, m) for m in estate.releases}
        retired = go(world, estate)
        assert failed(retired) is None
        gone = {label_of(v.release.manifest) for v in retired.with_fate("delete")}
        assert not gone & why.keys(), f"seed {seed}: {[(label, why[label]) for label in sorted(gone & why.keys())]}"
        assert gone == going, f"seed {seed}"
        expected = before
        for manifest in estate.releases:
            if label_of(manifest) in gone:
                expected -= estates.owned(manifest, before)
        after = estates.inventory(world)
        assert after == expected, f"seed {seed}: {sorted(after ^ expected)}"
        kept = {v.release.label for v in retired.with_fate("keep")}
        for manifest in estate.releases:
            if label_of(manifest) in kept:
                assert estates.condition(world, manifest) == conditions[label_of(manifest)], f"seed {seed}"
        assert retirements(world, estate) == dict.fromkeys(going, "retired")
        again = go(world, estate)
        assert again.deleted == ()
        assert world.cloud.mutations == [], f"seed {seed}: the second run"
        sizes.append((estate.images, len(why), len(gone)))
    # An estate where nothing is kept, or nothing goes, would show nothing.
    assert all(images >= 200 and kept >= 10 for images, kept, _ in sizes), sizes
    assert sum(gone for _, _, gone in sizes) >= 4 * len(sizes), sizes


def test_who_refuses_to_answer_is_told_and_nothing_is_deleted(world: World, whole: bool) -> None:
    """Each question that a run asks, refused in one place."""
    estate = small(world, 100)
    world.gate.start(record=True)
    retire(world.environment, world.catalog, estate.rules, estate.now, dry_run=True, cloud=world.cloud)
    asked = sorted({(c.service, c.action, c.account, c.region) for c in world.gate.recording or () if c.ordinal})
    world.gate.stop()
    # Whom an image is shared with is asked of those that would go: then only these are in doubt.
    asked = [one for one in asked if one[1] not in ("GetCallerIdentity", "AssumeRole", "DescribeImageAttribute")]
    # And the Recycle Bin decides nothing.
    asked = [one for one in asked if one[1] != "DescribeImageUsageReports" and one[0] != "rbin"]
    cases = asked if whole else random.Random(1).sample(asked, 3)
    before = state(world, estate)
    for service, action, account, region in cases:
        fault = {"action": f"{service}:{action}", "account": account, "region": region, **_REFUSAL}
        world.paper.set(faults=[fault])
        retired = go(world, estate)
        where = f"{service}:{action} in {account}/{region}"
        assert [(p.account, p.region) for p in retired.unreachable] == [(account, region)], where
        assert retired.with_fate("delete") == (), where
        assert world.cloud.mutations == [], where
        assert state(world, estate) == before, where


def test_who_ceases_to_answer_after_the_decision(world: World, whole: bool) -> None:
    """The images are disabled then; nothing is deleted, and the next run that is answered goes on."""
    count = 0
    for seed in numbers(whole, 1, 10):
        estate = small(world, seed)
        if not go(world, estate).with_fate("delete"):
            continue
        count += 1
        expected = state(world, estate)
        estate = small(world, seed)
        before = estates.inventory(world)
        place = random.Random(seed).choice(PLACES)
        refusing: list[Label] = []

        def disturb(label: Label, call: Any, serve: Any, *, place: Any = place, refusing: Any = refusing) -> Any:
            if label.action == "DisableImage":
                refusing.append(label)
            if refusing and label.action == "DescribeInstances" and (label.account, label.region) == place_of(place):
                return call.error("UnauthorizedOperation", "You are not authorized to perform this operation.", 403)
            return serve()

        world.gate.start(disturb)
        retired = go(world, estate)
        world.gate.stop()
        assert refusing
        assert list(retired.unreachable) == [place]
        assert retired.with_fate("delete") == ()
        assert not {label.action for label in world.cloud.mutations} & _DELETING
        assert estates.inventory(world) == before
        assert failed(go(world, estate)) is None
        assert state(world, estate) == expected, f"seed {seed}"
    assert count >= (5 if whole else 1)


def place_of(place: Any) -> tuple[str, str]:
    return place.account, place.region


def test_what_fails_is_done_by_the_next_run(world: World, whole: bool) -> None:
    """One kind of change is refused in one place."""
    estate = small(world, 1)
    go(world, estate)
    expected = state(world, estate)
    changes = sorted({(c.service, c.action, c.account, c.region) for c in world.cloud.mutations})
    cases = changes if whole else random.Random(2).sample(changes, 2)
    for service, action, account, region in cases:
        estate = small(world, 1)
        fault = {"action": f"{service}:{action}", "account": account, "region": region, **_REFUSAL}
        world.paper.set(faults=[fault])
        where = f"{service}:{action} in {account}/{region}"
        assert failed(go(world, estate)) is not None, where
        world.paper.set(faults=[])
        assert failed(go(world, estate)) is None, where
        assert state(world, estate) == expected, where


def test_killed_at_any_call_the_next_run_ends_in_the_same_state(world: World, whole: bool) -> None:
    count, estates_left = 0, 2 if whole else 1
    for seed in range(1, 30):
        estate = small(world, seed)
        go(world, estate)
        labels = sorted(world.cloud.mutations)
        expected = state(world, estate)
        if not {label.action for label in labels} >= _DELETING:
            continue  # nothing goes, or nothing that was shared
        cases = [(label, when) for label in labels for when in ("before", "after")]
        for label, when in cases if whole else random.Random(seed).sample(cases, 5):
            estate = small(world, seed)
            world.cloud.start_process(label, when)
            with pytest.raises(Death):
                run(world, estate)
            assert failed(go(world, estate)) is None
            assert state(world, estate) == expected, f"seed {seed}, killed {when} {label}"
            count += 1
        estates_left -= 1
        if not estates_left:
            break
    assert not estates_left
