"""A kind of resource that is defined here alone is created, adopted, found by its tag and deleted like the others."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from goldenami import reconcile
from goldenami.aws import kinds, tags
from goldenami.aws.kinds import KINDS, Ec2Kind, kind_of
from goldenami.aws.ledger import Call
from goldenami.aws.session import Cloud
from goldenami.model import Place
from tests.worlds.ledgers import HOME_PLACE, PROOFS, Crash, World

CALL = Call(
    "ec2",
    "CreateLaunchTemplate",
    {"LaunchTemplateName": "web", "LaunchTemplateData": {"InstanceType": "t3.micro"}},
)


class LaunchTemplate(Ec2Kind):
    """Nothing uses it, and it uses an image: it goes first."""

    name = "launch-template"
    id_field = "LaunchTemplateId"
    delete_operation = "DeleteLaunchTemplate"
    delete_parameter = "LaunchTemplateId"
    duplicate_codes = frozenset({"InvalidLaunchTemplateName.AlreadyExistsException"})
    missing_codes = frozenset({"InvalidLaunchTemplateId.NotFound", "InvalidLaunchTemplateName.NotFoundException"})
    tag_types = ("launch-template",)
    describe = "DescribeLaunchTemplates"
    result = "LaunchTemplates"
    name_field = "LaunchTemplateName"
    repeat_safe = True
    order = 1

    def id_of(self, operation: str, answer: Mapping[str, Any], request: Mapping[str, Any]) -> str:
        return str(answer["LaunchTemplate"]["LaunchTemplateId"])

    def by_id(self, cloud: Cloud, place: Place, id: str) -> list[Mapping[str, Any]]:
        """DescribeLaunchTemplates has no filter by id."""
        return [one for one in self.items(cloud, place, {}) if one[self.id_field] == id]


@pytest.fixture(autouse=True)
def one_kind_more() -> Iterator[None]:
    """In place of the product's own kind of that name, which only one command makes."""
    own = KINDS.pop(LaunchTemplate.name)
    kinds.register(LaunchTemplate)
    yield
    KINDS[LaunchTemplate.name] = own


def templates(world: World) -> list[str]:
    return [t["LaunchTemplateId"] for t in world.raw("ec2").describe_launch_templates()["LaunchTemplates"]]


def make(world: World) -> str:
    return world.ledger.create("template", "launch-template", HOME_PLACE, CALL)


def clean(world: World) -> reconcile.CleanUp:
    return reconcile.delete_all(world.cloud, world.journal, PROOFS)


def test_it_is_created_once_and_marked(world: World) -> None:
    id = make(world)
    assert make(world) == id
    world.restart()
    assert make(world) == id
    (found,) = world.raw("ec2").describe_launch_templates()["LaunchTemplates"]
    assert {t["Key"] for t in found["Tags"]} >= {tags.BUILD_ID, tags.TOKEN, tags.KEY}


@pytest.mark.parametrize("lost", [True, False], ids=["result lost", "result kept"])
def test_it_is_adopted_after_a_crash(world: World, lost: bool) -> None:
    world.trap.record, world.trap.lost = "result", lost
    with pytest.raises(Crash):
        make(world)
    world.restart()
    assert make(world) == templates(world)[0]
    assert len(templates(world)) == 1


def test_a_clean_up_finds_it_by_its_tag_and_deletes_it(world: World) -> None:
    other = world.raw("ec2").create_launch_template(
        LaunchTemplateName="somebody-elses", LaunchTemplateData={"InstanceType": "t3.micro"}
    )["LaunchTemplate"]["LaunchTemplateId"]
    id = make(world)
    assert [str(one) for one in reconcile.find_all(world.cloud, world.journal, PROOFS).deleted] == [
        f"launch-template {id} in {HOME_PLACE}"
    ]
    done = clean(world)
    assert done.complete, done.left
    assert templates(world) == [other]
    assert world.journal.resources() == ()


def test_one_that_is_gone_already_counts_as_deleted(world: World) -> None:
    id = make(world)
    world.raw("ec2").delete_launch_template(LaunchTemplateId=id)
    assert clean(world).complete
    assert world.journal.resources() == ()


def test_the_order_of_deletion() -> None:
    order = [kind.name for kind in kinds.in_order()]
    assert order == [
        "grant", "auto-scaling-group", "parameter", "lifecycle-policy", "launch-template", "instance", "image",
        "snapshot", "volume", "security-group", "key-pair",
    ]  # fmt: skip


def test_names_that_are_unknown_or_taken() -> None:
    with pytest.raises(ValueError, match="unknown kind of resource: 'balloon'"):
        kind_of("balloon")
    with pytest.raises(ValueError, match="two kinds 'launch-template'"):
        kinds.register(LaunchTemplate)
