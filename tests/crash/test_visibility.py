"""Whole builds in a cloud that does not know for minutes what was made a moment ago. Time is virtual."""

from __future__ import annotations

import pytest

from goldenami.model import Place
from tests.worlds import inventory
from tests.worlds.builds import APPS, PLACES, World
from tests.worlds.cases import check

HOME_PLACE = PLACES[0]
DELAY = 50.0  # seconds; a parameter without effect after a minute is an error


def test_a_build_and_its_successor(world: World) -> None:
    """Every call that names something new is refused at first; no attempt is made twice."""
    world.fresh()
    decoys = inventory.place_decoys(world)
    world.paper.set(visibility_delay=DELAY, grant_delay=2 * DELAY)
    first = world.build().manifest
    world.change_recipe("second")
    world.cloud.start_process()
    second = world.build().manifest
    world.clock.sleep(DELAY)
    assert first.version != second.version
    check(world, decoys, earlier=first, released=True)
    refused = {c["action"] for c in world.paper.calls if c["result"].endswith("NotFound")}
    assert refused >= {"AuthorizeSecurityGroupIngress"}
    assert {c["result"] for c in world.paper.calls if c["action"] == "CopyImage"} >= {"AuthFailure", "ok"}
    assert len(world.host_work.prepared) == 2


@pytest.mark.parametrize("grant_delay", [0.0, 200.0])
def test_an_encrypted_candidate_is_copied_when_its_grant_has_an_effect(world: World, grant_delay: float) -> None:
    """EC2 accepts the copies of the other account and fails them: they are made again, as long as the grant is new."""
    world.fresh()
    encrypt_by_default(world, HOME_PLACE)
    world.paper.set(visibility_delay=2.0, grant_delay=grant_delay)
    outcome = world.build()
    world.clock.sleep(grant_delay)
    check(world, frozenset(), released=True)
    retried = [e.fields for e in world.events if e.kind == "target.progress" and e.fields.get("state") == "retrying"]
    assert {f["target"] for f in retried} == ({"apps/eu-central-1"} if grant_delay else set())
    assert all("Given key ID is not accessible" in str(f["detail"]) for f in retried)
    assert outcome.status == "released"


def test_a_copy_that_never_gets_its_key_fails_when_the_grant_is_old(timed: World) -> None:
    timed.fresh()
    encrypt_by_default(timed, HOME_PLACE)
    timed.paper.set(grant_delay=100_000.0)
    before = timed.clock.now()
    with pytest.raises(Exception, match="targets failed: apps/eu-central-1"):
        timed.build()
    assert 300 < timed.clock.now() - before < 1200


def encrypt_by_default(world: World, place: Place) -> None:
    """The candidate's snapshots are encrypted under a key that can be lent."""
    ec2 = world.client("ec2", place)
    ec2.enable_ebs_encryption_by_default()
    ec2.modify_ebs_default_kms_key_id(KmsKeyId="alias/golden-ami")
    assert place.account != APPS
