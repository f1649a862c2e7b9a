"""A build does not wait for the end of its last instance: EC2 has accepted it, and nothing else depends on it."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from goldenami_sandbox.http import Response
from goldenami_sandbox.protocol import Call

from tests.worlds.builds import PLACES, Label, World
from tests.worlds.cases import check

DELAYS = {"stop": 40, "copy": 100}  # virtual seconds: the builder has ended before the last test begins


def states(world: World) -> list[str]:
    """The states of the instance of gate 2."""
    found = world.client("ec2", PLACES[0]).describe_instances(InstanceIds=world.host_work.proved)["Reservations"]
    return [instance["State"]["Name"] for reservation in found for instance in reservation["Instances"]]


def actions(world: World) -> list[str]:
    return [str(call["action"]) for call in world.paper.calls]


def test_the_last_instance_leaves_the_group_before_its_end(world: World) -> None:
    world.fresh()
    world.paper.set(pending=DELAYS)
    assert world.build().exit_code == 0
    assert states(world) == ["shutting-down"]
    made = actions(world)
    assert made.count("DeleteSecurityGroup") == 1, "it is not in use any more"
    assert made.index("ModifyInstanceAttribute") < len(made) - made[::-1].index("TerminateInstances")
    check(world, frozenset(), released=True)


@pytest.mark.parametrize("refused", ["ModifyInstanceAttribute", "DescribeSecurityGroups"])
def test_a_role_that_may_not_do_that_waits(world: World, refused: str) -> None:
    def deny(label: Label, call: Call, serve: Callable[[], Response]) -> Response:
        if label.action == refused:
            return call.error("UnauthorizedOperation", "You are not authorized to perform this operation.", 403)
        return serve()

    world.fresh()
    world.paper.set(pending=DELAYS)
    world.gate.start(deny)
    assert world.build().exit_code == 0
    world.gate.stop()
    assert states(world) == ["terminated"]
    check(world, frozenset(), released=True)
