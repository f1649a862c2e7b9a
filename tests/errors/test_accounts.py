"""One account whose role cannot be assumed: it stops what needs it, and nothing else."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from goldenami_sandbox.http import Response
from goldenami_sandbox.protocol import Call

from goldenami import pipeline, planning
from goldenami import recipe as recipes
from goldenami.errors import AccessError, TargetsFailed
from goldenami.pipeline import Request
from tests.worlds.builds import APPS, HOME, RECIPE, Label, World

APPS_TARGETS = (
    "      - {account: apps, regions: [eu-central-1], kms_key: alias/golden-ami}\n"
    "      - {account: apps, regions: [eu-west-1], mode: share}\n"
)


def no_role(label: Label, call: Call, serve: Callable[[], Response]) -> Response:
    if call.action == "AssumeRole":
        return call.error("AccessDenied", "not authorized to perform: sts:AssumeRole", 403)
    return serve()


@pytest.fixture
def world(build_world: World) -> World:
    build_world.fresh(new_process=True)  # no session of another case
    return build_world


def plan(world: World) -> planning.BuildPlan:
    return pipeline.make_plan(Request(world.project, world.environment, RECIPE))


def test_a_best_effort_account_holds_nothing_up(world: World) -> None:
    world.rewrite(APPS_TARGETS, APPS_TARGETS.replace("golden-ami}", "golden-ami, required: false}").replace(
        "share}", "share, required: false}"
    ))  # fmt: skip
    whole = plan(world).digest
    world.gate.start(no_role)
    made = plan(world)
    assert sorted(made.facts.unavailable) == ["apps/eu-central-1", "apps/eu-west-1"]
    (line,) = [line for line in planning.describe(made) if line.startswith("  apps/eu-central-1  unavailable: ")]
    assert "goldenami.yaml:7:34: cannot assume" in line
    assert made.digest == whole, "an account that comes back is no reason to build again"
    outcome = world.build()
    assert outcome.status == "released"
    assert {(image.account, image.region) for image in outcome.images} == {(HOME, "eu-central-1"), (HOME, "eu-west-1")}
    assert sorted(outcome.failures) == ["apps/eu-central-1", "apps/eu-west-1"]
    (build,) = world.journals.list()
    assert build.ending == "released", "nothing was made in that account, so nothing is left there"
    assert world.build().status == "unchanged"


def test_an_account_that_cannot_be_asked_is_no_reason_to_build_again(world: World) -> None:
    world.rewrite(APPS_TARGETS, APPS_TARGETS.replace("golden-ami}", "golden-ami, required: false}").replace(
        "share}", "share, required: false}"
    ))  # fmt: skip
    assert len(world.build().images) == 4

    def refuse(label: Label, call: Call, serve: Callable[[], Response]) -> Response:
        if label.account == APPS:
            return call.error("AccessDenied", "the session was revoked", 403)
        return serve()

    world.gate.start(refuse)
    world.cloud.start_process()
    outcome = world.build()
    assert outcome.status == "unchanged"
    assert "in the places that answered" in outcome.reason
    assert any("222222222222/eu-west-1 were not checked" in str(e) for e in world.events)


def test_an_account_that_goes_away_later_holds_nothing_up(world: World) -> None:
    """It was there for the plan. Then the role is taken away, before the first call for the copy."""
    world.rewrite(APPS_TARGETS, APPS_TARGETS.replace("golden-ami}", "golden-ami, required: false}").replace(
        "share}", "share, required: false}"
    ))  # fmt: skip
    gone = False

    def refuse(label: Label, call: Call, serve: Callable[[], Response]) -> Response:
        nonlocal gone
        gone = gone or call.action == "RunInstances"
        if gone and label.account == APPS:
            return call.error("AccessDenied", "the session was revoked", 403)
        return serve()

    world.gate.start(refuse)
    outcome = world.build()
    assert outcome.status == "released"
    assert "apps/eu-central-1" in outcome.failures


def test_an_account_that_the_recipe_does_not_use_is_not_asked(world: World) -> None:
    file = world.path / "recipes/web.yaml"
    file.write_text(file.read_text().replace("channel: stable}", "channel: stable, targets: [home]}"))
    world.project = recipes.load_project(world.path)
    world.gate.start(no_role)
    assert world.build().status == "released"
    assert [c["action"] for c in world.paper.calls].count("AssumeRole") == 0


def test_a_required_account_is_named_with_its_targets(world: World) -> None:
    world.gate.start(no_role)
    with pytest.raises(TargetsFailed) as caught:
        world.build()
    assert sorted(caught.value.failures) == ["apps/eu-central-1", "apps/eu-west-1"]
    assert all("cannot assume" in reason for reason in caught.value.failures.values())
    assert not world.builds


def test_the_home_account_is_needed(world: World) -> None:
    world.rewrite(
        "region: eu-central-1}\n    network",
        'region: eu-central-1, role: "arn:aws:iam::111111111111:role/no"}\n    network',
    )
    with pytest.raises(AccessError, match="cannot assume"):
        plan(world)
