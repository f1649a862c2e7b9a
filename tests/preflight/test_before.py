"""What a build finds out before it creates anything: its checks run beside the plan if it is surely built."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Callable
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from goldenami import many, preflight
from goldenami import recipe as recipes
from goldenami.errors import AccessError, CredentialsRefused, TargetsFailed, UsageError
from goldenami.events import ignore_events
from goldenami.model import Place
from goldenami.stages import before
from goldenami.stages.tools import open_tools
from tests.errors.test_accounts import no_role
from tests.worlds.builds import APPS

if TYPE_CHECKING:
    from goldenami_sandbox.http import Response
    from goldenami_sandbox.protocol import Call

    from tests.worlds.builds import Disturb, Label, World

OF_THE_PLAN, OF_THE_CHECKS, OF_THE_NAMES = "GenerateDataKeyWithoutPlaintext", "DescribeInstanceTypes", "GetParameters"


def test_the_checks_and_the_plan_wait_for_each_other_only_at_the_end(build_world: World) -> None:
    world = build_world
    world.fresh()
    meeting = threading.Barrier(3)

    def meet(label: Label, call: Call, serve: Callable[[], Response]) -> Response:
        if label.action in every and first.setdefault(label.action, label) is label:
            meeting.wait(120)
        return serve()

    every = {OF_THE_PLAN, OF_THE_CHECKS, OF_THE_NAMES}
    first: dict[str, Label] = {}
    recipe = recipes.load(world.project, "web", world.environment)
    with open_tools(world.environment, None, world.cloud, "clean", ignore_events) as tools:
        world.gate.start(meet)
        plan, looked = before.plan(recipe, world.environment, tools, surely_built=True)
        assert first.keys() == every
        assert looked is not None
        asked = record(world, lambda: before.require(plan, looked, tools))
    assert asked == set(), "what was read is not read again, also of the keys"


def warnings(world: World, answer: Disturb) -> str:
    """Return the warnings of a build with these answers whose publisher lacks what only the undoing calls."""
    world.fresh()
    deny = {"Effect": "Deny", "Action": "ssm:DeleteParameter", "Resource": "*"}
    document = json.dumps({"Version": "2012-10-17", "Statement": [deny]})
    world.client("iam", Place(APPS, world.environment.home_region)).put_role_policy(
        RoleName="goldenami-publisher", PolicyName="no-deletions", PolicyDocument=document
    )
    world.gate.start(answer)
    try:
        world.build()
    finally:
        world.gate.stop()
    return "\n".join(event.fields["message"] for event in world.events if event.fields.get("level") == "warning")


LACKS = "goldenami-publisher lacks ssm:DeleteParameter"


def test_no_build_waits_for_what_only_warns(build_world: World) -> None:
    """The simulations of policies are answered when the builder is launched, and what a role lacks is still told."""
    launched = threading.Event()

    def answer(label: Label, call: Call, serve: Callable[[], Response]) -> Response:
        if label.action == "RunInstances":
            launched.set()
        elif label.action == "SimulatePrincipalPolicy":
            assert launched.wait(120)
        return serve()

    assert LACKS in warnings(build_world, answer)


def test_a_build_that_launches_nothing_tells_what_a_role_lacks(build_world: World) -> None:
    def answer(label: Label, call: Call, serve: Callable[[], Response]) -> Response:
        if label.action == "ImportKeyPair":
            return call.error("UnauthorizedOperation", "You are not authorized", 403)
        return serve()

    with pytest.raises(AccessError):
        warnings(build_world, answer)
    assert any(LACKS in str(event.fields.get("message")) for event in build_world.events)


def simulations(world: World, do: Callable[[], object]) -> int:
    """Return how many simulations a function asks for."""
    world.gate.start(record=True)
    do()
    found = sum(label.action == "SimulatePrincipalPolicy" for label in world.gate.recording or ())
    world.gate.stop()
    return found


def test_builds_of_a_day_ask_the_simulator_once(build_world: World) -> None:
    world = build_world
    world.fresh()
    asked = simulations(world, world.build)
    assert asked
    world.change_recipe("again")
    assert simulations(world, world.build) == 0
    assert simulations(world, lambda: preflight.find(world.cloud, world.environment, world.catalog)), "doctor asks"


def test_a_build_of_the_next_day_asks_the_simulator_again(build_world: World) -> None:
    world = build_world
    world.fresh()
    asked = simulations(world, world.build)
    world.cloud.ahead = timedelta(hours=25)
    world.change_recipe("again")
    try:
        assert simulations(world, world.build) == asked
    finally:
        world.cloud.ahead = timedelta()


def test_a_role_that_lacks_something_is_simulated_by_each_build(build_world: World) -> None:
    world = build_world
    assert LACKS in warnings(world, lambda _label, _call, serve: serve())
    world.events.clear()
    world.change_recipe("again")
    assert simulations(world, world.build) == 1, "the others allowed all"
    assert any(LACKS in str(event.fields.get("message")) for event in world.events)


def test_after_a_build_that_failed_the_simulator_is_asked_again(build_world: World) -> None:
    """A permission that was there in the morning may be missing now."""
    world = build_world
    world.fresh()
    asked = simulations(world, world.build)
    world.change_recipe("again")

    late: list[Label] = []  # the failed build itself may ask after its failure

    def deny(label: Label, call: Call, serve: Callable[[], Response]) -> Response:
        if label.action == "CreateImage":
            return call.error("UnauthorizedOperation", "You are not authorized", 403)
        if label.action == "SimulatePrincipalPolicy":
            late.append(label)
        return serve()

    world.gate.start(deny)
    with pytest.raises(AccessError):
        world.build()
    world.gate.stop()
    assert simulations(world, world.build) + len(late) == asked


def test_a_recipe_that_may_be_unchanged_is_planned_alone(build_world: World) -> None:
    world = build_world
    world.fresh()
    recipe = recipes.load(world.project, "web", world.environment)
    with open_tools(world.environment, None, world.cloud, "clean", ignore_events) as tools:
        asked = record(world, lambda: before.plan(recipe, world.environment, tools, surely_built=False))
    assert OF_THE_PLAN in asked
    assert not asked & {OF_THE_CHECKS, OF_THE_NAMES}


def record(world: World, do: Callable[[], object]) -> set[str]:
    """Return the actions that a function calls."""
    world.gate.start(record=True)
    do()
    recorded = {label.action for label in world.gate.recording or ()}
    world.gate.stop()
    return recorded


def built(world: World, answer: Disturb) -> many.Result:
    """Return the result of a build of web whose calls get these answers."""
    work = many.choose(world.project, world.environment, ["web"], {})
    world.gate.start(answer)
    (done,) = many.build(world.project, world.environment, work, many.Options(cloud=world.cloud))
    world.gate.stop()
    return done


def test_a_refused_caller_is_asked_for_once(build_world: World) -> None:
    """Its error is that of the build, which was loading its stages meanwhile."""
    world = build_world
    world.fresh(new_process=True)

    def refuse(label: Label, call: Call, serve: Callable[[], Response]) -> Response:
        asked.append(label.action)
        return call.error("InvalidClientTokenId", "no such key", 403)

    asked: list[str] = []
    done = built(world, refuse)
    assert isinstance(done.error, CredentialsRefused)
    assert asked.count("GetCallerIdentity") == 1
    assert not set(asked) - {"GetCallerIdentity", "AssumeRole"}


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        pytest.param(
            "region: eu-central-1}\n    network",
            'region: eu-central-1, role: "arn:aws-cn:iam::111111111111:role/builder"}\n    network',
            "the role arn:aws-cn:iam::111111111111:role/builder .* is in the partition aws-cn, expected aws",
            id="role",
        ),
        pytest.param(
            "regions: [eu-central-1, eu-west-1]",
            "regions: [eu-central-1, eu-west-1, cn-north-1]",
            "region cn-north-1 is in the partition aws-cn, expected aws",
            id="target",
        ),
    ],
)
def test_another_partition_is_told_before_any_call(build_world: World, old: str, new: str, message: str) -> None:
    """The credentials are not valid there: a call would be refused for a reason that does not help."""
    world, results = build_world, list[many.Result]()
    world.fresh(new_process=True)
    world.rewrite(old, new)
    work = many.choose(world.project, world.environment, ["web"], {})
    asked = record(world, lambda: results.extend(many.build(world.project, world.environment, work, many.Options())))
    assert isinstance(results[0].error, UsageError)
    assert re.search(message, results[0].error.message)
    assert asked == set()


def test_a_refused_role_is_asked_for_once_before_a_build(build_world: World) -> None:
    """Later, it is asked for again: what is refused now may be allowed then."""
    world = build_world
    world.fresh(new_process=True)
    asked: list[str] = []

    def refuse(label: Label, call: Call, serve: Callable[[], Response]) -> Response:
        asked.append(call.action)
        return no_role(label, call, serve)

    done = built(world, refuse)
    assert isinstance(done.error, TargetsFailed)
    assert asked.count("AssumeRole") == 1
    world.clock.sleep(11.0)
    world.cloud.check_account(APPS)
