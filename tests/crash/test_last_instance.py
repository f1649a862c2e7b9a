"""A build does not wait for the end of its last instance: EC2 has accepted it, and nothing else depends on it."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from goldenami_sandbox.http import Response
from goldenami_sandbox.protocol import Call

from goldenami.model import TestReport
from goldenami.stages.build import BuildContext, Candidate, Host
from tests.worlds.builds import PLACES, Label, World
from tests.worlds.cases import check

NEVER = 1e7  # virtual seconds: far more than all threads of a build sleep together


@pytest.fixture
def slow(world: World) -> World:
    """The instance of gate 2 does not end by itself. The builder has ended before."""
    world.fresh()
    prove = world.host_work.prove

    def then_for_ever(build: BuildContext, made: Candidate, host: Host) -> TestReport:
        report = prove(build, made, host)
        world.settled()
        world.paper.set(pending={"stop": NEVER})
        return report

    world.host_work.prove = then_for_ever  # type: ignore[method-assign]
    return world


def end_it(world: World) -> None:
    ec2 = world.settled().ec2._cloud
    (proved,) = world.host_work.proved
    ending = ec2.store.instances[proved].transition
    assert ending is not None
    ending.until = ec2.now()


def states(world: World) -> list[str]:
    """The states of the instance of gate 2."""
    found = world.client("ec2", PLACES[0]).describe_instances(InstanceIds=world.host_work.proved)["Reservations"]
    return [instance["State"]["Name"] for reservation in found for instance in reservation["Instances"]]


def actions(world: World) -> list[str]:
    return [str(call["action"]) for call in world.paper.calls]


def test_the_last_instance_leaves_the_group_before_its_end(slow: World) -> None:
    assert slow.build().exit_code == 0
    assert states(slow) == ["shutting-down"]
    made = actions(slow)
    assert made.count("DeleteSecurityGroup") == 1, "it is not in use any more"
    assert made.index("ModifyInstanceAttribute") < len(made) - made[::-1].index("TerminateInstances")
    check(slow, frozenset(), released=True)


@pytest.mark.parametrize("refused", ["ModifyInstanceAttribute", "DescribeSecurityGroups"])
def test_a_role_that_may_not_do_that_waits(slow: World, refused: str) -> None:
    def deny(label: Label, call: Call, serve: Callable[[], Response]) -> Response:
        if label.action == refused:
            return call.error("UnauthorizedOperation", "You are not authorized to perform this operation.", 403)
        answer = serve()
        if label.action == "DeleteSecurityGroup" and answer.status != 200:
            end_it(slow)
        return answer

    slow.gate.start(deny)
    assert slow.build().exit_code == 0
    slow.gate.stop()
    assert states(slow) == ["terminated"]
    assert actions(slow).count("DeleteSecurityGroup") == 2, "it was in use until the end of the instance"
    check(slow, frozenset(), released=True)
