"""Targets that fail: a required one holds the release up and is resumed alone, a best-effort one is told of."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from goldenami_sandbox.http import Response
from goldenami_sandbox.protocol import Call

from goldenami import recipe as recipes
from goldenami.errors import TargetsFailed
from goldenami.model import Place
from tests.worlds import inventory
from tests.worlds.builds import HOME, RECIPE, Label, World
from tests.worlds.cases import check, points_to

IRELAND = Place(HOME, "eu-west-1")


class Key:
    """The key of a target stops working when the copy begins: EC2 accepts it, and it fails later."""

    def __init__(self, world: World) -> None:
        self._kms = world.client("kms", IRELAND)
        self._arn = self._kms.describe_key(KeyId=inventory.KEY)["KeyMetadata"]["Arn"]

    def __call__(self, label: Label, call: Call, serve: Callable[[], Response]) -> Response:
        if (label.action, label.account, label.region) == ("CopyImage", IRELAND.account, IRELAND.region):
            self._kms.disable_key(KeyId=self._arn)
        return serve()

    def mend(self) -> None:
        self._kms.enable_key(KeyId=self._arn)


def copies(world: World, since: int = 0) -> list[tuple[str, str]]:
    made = [c for c in world.paper.calls[since:] if c["action"] == "CopyImage"]
    return [(c["account"], c["region"]) for c in made]


def test_a_required_target_that_fails_is_resumed_alone(world: World) -> None:
    world.fresh()
    decoys = inventory.place_decoys(world)
    key = Key(world)
    world.gate.start(key)
    with pytest.raises(TargetsFailed) as caught:
        world.build()
    world.gate.stop()
    assert caught.value.exit_code == 6
    assert sorted(caught.value.failures) == ["apps/eu-west-1", "home/eu-west-1"], "the second shares the first's image"
    assert "not enabled" in caught.value.failures["home/eu-west-1"]
    assert copies(world).count((HOME, "eu-west-1")) == 3, "it was tried again"
    assert world.catalog.versions(RECIPE) == ()
    assert points_to(world) is None
    left = {line.partition(": ")[2].split(" ")[0] for line in inventory.take(world) - decoys}
    assert left == {"image", "snapshot"}, "what a resume needs is kept, and nothing else; nothing is published"

    key.mend()
    mark = len(world.paper.calls)
    assert world.resume().status == "released"
    assert copies(world, mark) == [(HOME, "eu-west-1")]
    assert len(world.host_work.prepared) == 1
    check(world, decoys, released=True)


def test_a_best_effort_target_that_fails_is_told_of(world: World) -> None:
    world.fresh()
    file = world.path / "goldenami.yaml"
    text = file.read_text()
    file.write_text(
        text.replace(
            "regions: [eu-central-1, eu-west-1], kms_key: alias/golden-ami}",
            "regions: [eu-central-1], kms_key: alias/golden-ami}\n"
            "      - {account: home, regions: [eu-west-1], kms_key: alias/golden-ami, required: false}",
        ).replace("mode: share}", "mode: share, required: false}")
    )
    world.project = recipes.load_project(world.path)
    world.environment = recipes.environment(world.project, "test")
    decoys = inventory.place_decoys(world)
    world.gate.start(Key(world))
    outcome = world.build()
    world.gate.stop()
    assert outcome.status == "released"
    assert sorted(outcome.failures) == ["apps/eu-west-1", "home/eu-west-1"]
    assert outcome.manifest is not None
    assert {i.region for i in outcome.manifest.images} == {"eu-central-1"}
    check(world, decoys, released=True)
