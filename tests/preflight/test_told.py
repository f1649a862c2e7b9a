"""The permissions that roles lack are told beside a build: that never changes how it ends, and nothing waits long."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import pytest
from goldenami_sandbox.http import Response
from goldenami_sandbox.protocol import Call

from goldenami import pipeline
from goldenami.aws.session import REPEATS
from goldenami.events import Event
from goldenami.pipeline import Outcome, Request
from goldenami.preflight import permissions
from tests.errors.test_accounts import APPS_TARGETS, no_role
from tests.worlds.builds import HOME, RECIPE, Label, World
from tests.worlds.faults import denied, throttled

ASKS, LACKS, UNCHECKED = "SimulatePrincipalPolicy", "lacks ssm:DeleteParameter", "could not be checked: "
CREATES_NOTHING = Label("ec2", "ImportKeyPair", HOME, "eu-central-1", 1)

Disturb = Callable[[Label, Call, Callable[[], Response]], Response]


@pytest.fixture
def world(build_world: World) -> World:
    build_world.fresh(new_process=True)
    return build_world


def lack(world: World) -> None:
    """Let the publisher lack what only the undoing of a build calls."""
    deny = {"Effect": "Deny", "Action": "ssm:DeleteParameter", "Resource": "*"}
    world.client("iam", world.environment.targets[2].place).put_role_policy(
        RoleName="goldenami-publisher",
        PolicyName="no-deletions",
        PolicyDocument=json.dumps({"Version": "2012-10-17", "Statement": [deny]}),
    )


def told(world: World, text: str) -> list[str]:
    """Return the warnings with a text."""
    warnings = [e.fields["message"] for e in world.events if e.kind == "note" and e.fields.get("level") == "warning"]
    return [message for message in warnings if text in message]


@contextmanager
def answering(world: World, answer: Disturb) -> Iterator[list[Label]]:
    """Give the simulations these answers. Yields their calls."""
    asked: list[Label] = []

    def disturb(label: Label, call: Call, serve: Callable[[], Response]) -> Response:
        if label.action != ASKS:
            return serve()
        asked.append(label)
        return answer(label, call, serve)

    world.gate.start(disturb)
    try:
        yield asked
    finally:
        world.gate.stop()


def served(_label: Label, _call: Call, serve: Callable[[], Response]) -> Response:
    return serve()


def refused(code: str) -> Disturb:
    return lambda _label, call, _serve: call.error(code, "no", 403)


def without(name: str) -> Disturb:
    """Leave a member out of each result."""

    def odd(_label: Label, _call: Call, serve: Callable[[], Response]) -> Response:
        answer: Mapping[str, Any] = serve().answer or {}
        results = [{key: value for key, value in one.items() if key != name} for one in answer["EvaluationResults"]]
        return Response(200, answer={**answer, "EvaluationResults": results})

    return odd


def empty(_label: Label, _call: Call, _serve: Callable[[], Response]) -> Response:
    return Response(200, answer={"IsTruncated": False})


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param(refused("ExpiredToken"), id="expired"),
        pytest.param(refused("InvalidClientTokenId"), id="unknown"),
        pytest.param(lambda label, call, serve: denied(call, serve), id="denied"),
        pytest.param(lambda label, call, serve: throttled(call, serve), id="throttled"),
        pytest.param(without("EvalActionName"), id="no-action"),
        pytest.param(without("EvalDecision"), id="no-decision"),
        pytest.param(empty, id="no-results"),
    ],
)
def test_what_iam_answers_does_not_change_how_a_build_ends(world: World, answer: Disturb) -> None:
    with answering(world, answer) as asked:
        outcome = world.build()
    assert (outcome.status, outcome.exit_code) == ("released", 0)
    assert asked
    assert told(world, UNCHECKED)
    assert not told(world, " lacks "), "nobody knows"


def test_what_one_account_refuses_does_not_hide_what_another_lacks(world: World) -> None:
    lack(world)
    deny: Disturb = lambda label, call, serve: denied(call, serve) if label.account == HOME else serve()  # noqa: E731
    with answering(world, deny):
        assert world.build().status == "released"
    assert len(told(world, UNCHECKED)) == len(told(world, LACKS)) == 1


def test_a_role_that_nobody_can_assume_is_told_once(world: World) -> None:
    best_effort = APPS_TARGETS.replace("golden-ami}", "golden-ami, required: false}")
    world.rewrite(APPS_TARGETS, best_effort.replace("share}", "share, required: false}"))
    world.gate.start(no_role)
    try:
        assert world.build().status == "released"
    finally:
        world.gate.stop()
    messages = told(world, "cannot assume")
    assert messages
    assert sorted(set(messages)) == sorted(messages)


def test_a_retry_does_not_ask_again(world: World) -> None:
    lack(world)
    failures: list[Exception] = []

    def again(error: Exception) -> Any:
        failures.append(error)
        return "retry"

    def fail_once(label: Label, call: Call, serve: Callable[[], Response]) -> Response:
        if label.action == ASKS:
            asked.append(label)
        if label.action == "CreateImage" and label.ordinal == 1:
            return denied(call, serve)
        return serve()

    asked: list[Label] = []
    world.gate.start(fail_once)
    try:
        outcome = pipeline.build(
            Request(world.project, world.environment, RECIPE),
            on_failure=again,
            emit_to=world.events.append,
            host_work=world.host_work,
            cloud=world.cloud,
        )
    finally:
        world.gate.stop()
    assert outcome.status == "released"
    assert len(failures) == 1
    assert len(told(world, LACKS)) == 1
    assert len(asked) == simulations(world)


def simulations(world: World) -> int:
    """Return how many simulations another build makes."""
    world.fresh(new_process=True)
    with answering(world, served) as asked:
        world.build()
    return len(asked)


def test_a_throttled_simulation_is_repeated_a_few_times(world: World) -> None:
    with answering(world, lambda label, call, serve: throttled(call, serve)) as asked:
        assert world.build().status == "released"
    assert len(asked) == (1 + REPEATS) * simulations(world)


def test_the_clean_up_beside_the_publication_waits_for_no_simulation(world: World) -> None:
    """The simulations are answered when the candidate is deregistered."""
    deregistered, waited = threading.Event(), list[bool]()

    def disturb(label: Label, call: Call, serve: Callable[[], Response]) -> Response:
        if label.action == ASKS:
            waited.append(deregistered.wait(60))
        answer = serve()
        if label.action == "DeregisterImage":
            deregistered.set()
        return answer

    world.gate.start(disturb)
    try:
        assert world.build().status == "released"
    finally:
        world.gate.stop()
    assert waited
    assert all(waited)


def test_the_end_of_a_build_waits_only_for_the_account_that_is_asked(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One account is asked after the other here, and the first one answers when the rest of the build is done."""
    ends = threading.Event()

    def note(event: Event) -> None:
        world.events.append(event)
        if event.kind == "stage.started" and event.fields["stage"] == "clean up":
            ends.set()

    def late(_label: Label, _call: Call, serve: Callable[[], Response]) -> Response:
        assert ends.wait(60)
        return serve()

    monkeypatch.setattr(permissions, "_ACCOUNTS", 1)
    with answering(world, late) as asked:
        outcome = pipeline.build(
            Request(world.project, world.environment, RECIPE),
            emit_to=note,
            host_work=world.host_work,
            cloud=world.cloud,
        )
    assert outcome.status == "released"
    assert {label.account for label in asked} == {HOME}


def test_a_resume_that_launches_first_tells_what_a_role_lacks(world: World) -> None:
    lack(world)
    with answering(world, lambda label, call, serve: denied(call, serve)):
        world.build_until(CREATES_NOTHING, "before")
    assert not told(world, LACKS)
    assert resumed(world).status == "released"
    assert len(told(world, LACKS)) == 1


def test_a_resume_of_a_build_that_launched_does_not_ask_again(world: World) -> None:
    lack(world)
    world.build_until(CREATES_NOTHING._replace(action="CreateImage"), "before")
    before = len(told(world, LACKS))
    with answering(world, served) as asked:
        assert resumed(world).status == "released"
    assert asked == []
    assert len(told(world, LACKS)) == before


def resumed(world: World) -> Outcome:
    (build_id,) = world.builds
    return world.resume(build_id)
