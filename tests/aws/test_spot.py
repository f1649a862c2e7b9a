"""Spot instances that cannot be had: the next type, zone or market is tried, and the reason is printed."""

from __future__ import annotations

import json
import threading
from dataclasses import replace
from typing import Any

import pytest

from goldenami.aws import images, instances, network
from goldenami.aws.instances import Instance, LaunchSpec
from goldenami.errors import AccessError, BuilderError, HostLost
from goldenami.model import Network, Place
from tests.worlds.ledgers import HOME, HOME_PLACE, World

ZONES = ("eu-central-1a", "eu-central-1b", "eu-central-1c")
DEBIAN = "136693071363"
TYPES = ("t3.small", "t3a.small")


@pytest.fixture
def spec(world: World) -> LaunchSpec:
    base = images.find_base(
        world.cloud, HOME_PLACE, architecture="x86_64", filters={"name": ["debian-12-*"]}, owners=[DEBIAN]
    )
    ec2 = world.raw("ec2")
    ec2.create_key_pair(KeyName="k")
    group = ec2.describe_security_groups()["SecurityGroups"][0]["GroupId"]
    found = network.subnets(world.cloud, HOME_PLACE, Network())
    subnets = tuple(sorted(found, key=lambda subnet: subnet.zone))
    assert tuple(s.zone for s in subnets) == ZONES
    return LaunchSpec(base.image_id, TYPES, subnets, group, "k", spot=True)


def tried(world: World) -> int:
    return len([c for c in world.paper.calls if c["action"] == "RunInstances"])


def launched(world: World, spec: LaunchSpec) -> tuple[Instance, list[str]]:
    warnings: list[str] = []
    instance = instances.launch_running(world.ledger, "builder", HOME_PLACE, spec, warn=warnings.append)
    return instance, warnings


def encrypted(world: World, spec: LaunchSpec) -> LaunchSpec:
    key = world.raw("kms").describe_key(KeyId="alias/golden-ami")["KeyMetadata"]["Arn"]
    root = instances.RootVolume("/dev/xvda", 8)
    return replace(spec, root_volume=root, volume_key=key)


def test_every_zone_and_type_of_the_spot_market_comes_before_on_demand(world: World, spec: LaunchSpec) -> None:
    world.paper.set(no_capacity=["spot/t3.small/*", "spot/t3a.small/eu-central-1a", "spot/t3a.small/eu-central-1b"])
    instance, warnings = launched(world, spec)
    assert (instance.market, instance.instance_type, instance.zone) == ("spot", "t3a.small", "eu-central-1c")
    assert tried(world) == 6
    assert warnings == []


def test_without_spot_capacity_an_on_demand_instance_is_launched(world: World, spec: LaunchSpec) -> None:
    world.paper.set(no_capacity=["spot/*"])
    instance, (warning,) = launched(world, spec)
    assert (instance.market, instance.instance_type, instance.zone) == ("on-demand", "t3.small", "eu-central-1a")
    assert tried(world) == 7
    assert "spot t3.small in eu-central-1a" in warning
    assert "InsufficientInstanceCapacity" in warning


def test_a_used_up_quota_of_spot_is_no_obstacle(world: World, spec: LaunchSpec) -> None:
    world.paper.set(vcpu_quotas={"L-34B43A08": 0})
    instance, (warning,) = launched(world, spec)
    assert instance.market == "on-demand"
    assert "MaxSpotInstanceCountExceeded" in warning


def test_a_price_that_is_too_low_is_no_obstacle(world: World, spec: LaunchSpec) -> None:
    fault = {"action": "ec2:RunInstances", "code": "SpotMaxPriceTooLow", "status": 400, "times": 6}
    world.paper.set(faults=[fault])
    assert launched(world, spec)[0].market == "on-demand"


def test_without_capacity_in_any_market_the_error_names_all(world: World, spec: LaunchSpec) -> None:
    world.paper.set(no_capacity=["*"])
    with pytest.raises(BuilderError, match=r"spot t3\.small in eu-central-1a") as caught:
        launched(world, spec)
    assert "on-demand t3a.small in eu-central-1c" in caught.value.message
    assert "builder.instance_types" in str(caught.value.hint)
    assert tried(world) == 12


def test_another_subnet_is_tried_if_one_was_deleted(world: World, spec: LaunchSpec) -> None:
    """The subnets may have been read an hour before."""
    world.raw("ec2").delete_subnet(SubnetId=spec.subnets[0].id)
    instance, warnings = launched(world, replace(spec, spot=False))
    assert (instance.market, instance.zone) == ("on-demand", "eu-central-1b")
    assert (tried(world), warnings) == (2, [])


def test_what_fails_beside_a_launch_ends_the_search(
    world: World, spec: LaunchSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Such as a rule of the security group that is refused: nobody could log in."""
    world.paper.set(no_capacity=["*"])
    began, failed, or_set, waited = threading.Event(), threading.Event(), instances._or_set, list[bool]()

    def told(*given: Any) -> None:
        try:
            or_set(*given)
        finally:
            failed.set()

    def warn(_: str) -> None:
        began.set()
        waited.append(failed.wait(120))

    def beside() -> None:
        waited.append(began.wait(120))
        raise AccessError("the rule is refused")

    monkeypatch.setattr(instances, "_or_set", told)
    with pytest.raises(AccessError, match="the rule is refused"):
        instances.launch(world.ledger, "builder", HOME_PLACE, spec, warn=warn, beside=beside)
    assert waited == [True, True]
    assert tried(world) == 7, "the second market is left after its first type and zone"


# --- the service-linked role ------------------------------------------------------------------------------------------


def without_role(world: World, *, may_create: bool) -> None:
    """Delete Spot's role, and let the caller do everything but (perhaps) create it."""
    iam = world.raw("iam")
    iam.delete_role(RoleName=instances.SPOT_ROLE)
    if not may_create:
        denied = {"Effect": "Deny", "Action": "iam:CreateServiceLinkedRole", "Resource": "*"}
        document = json.dumps({"Version": "2012-10-17", "Statement": [denied]})
        iam.put_user_policy(UserName="admin", PolicyName="no-roles", PolicyDocument=document)
    world.paper.set(enforce_policies=True)


def test_a_missing_role_ends_the_spot_market_at_once(world: World, spec: LaunchSpec) -> None:
    without_role(world, may_create=False)
    instance, (warning,) = launched(world, spec)
    assert instance.market == "on-demand"
    assert tried(world) == 2
    assert instances.SPOT_ROLE in warning
    assert "aws iam create-service-linked-role --aws-service-name spot.amazonaws.com" in warning


def test_a_missing_role_is_created_if_the_caller_may_do_that(world: World, spec: LaunchSpec) -> None:
    without_role(world, may_create=True)
    assert launched(world, spec)[0].market == "spot"
    assert world.raw("iam").get_role(RoleName=instances.SPOT_ROLE)["Role"]["Path"].endswith("/spot.amazonaws.com/")


# --- the key ----------------------------------------------------------------------------------------------------------


def without_right(world: World, key: str) -> None:
    """The key's policy admits the account only, as a new key's does."""
    statement = {"Effect": "Allow", "Principal": {"AWS": f"arn:aws:iam::{HOME.id}:root"}, "Action": "kms:*"}
    document = json.dumps({"Version": "2012-10-17", "Statement": [{**statement, "Resource": "*"}]})
    world.raw("kms").put_key_policy(KeyId=key, PolicyName="default", Policy=document)


def test_spot_without_a_right_to_the_key_is_replaced_by_on_demand(world: World, spec: LaunchSpec) -> None:
    spec = encrypted(world, spec)
    without_right(world, str(spec.volume_key))
    instance, (warning,) = launched(world, spec)
    assert instance.market == "on-demand"
    assert "Client.InternalError" in warning
    assert "aws kms create-grant" in warning
    assert str(spec.volume_key) in warning
    assert f"arn:aws:iam::{HOME.id}:role/aws-service-role/spot.amazonaws.com/{instances.SPOT_ROLE}" in warning
    found = world.raw("ec2").describe_instances(Filters=[{"Name": "instance-state-name", "Values": ["running"]}])
    assert [i["InstanceId"] for r in found["Reservations"] for i in r["Instances"]] == [instance.id]


def test_the_grant_of_the_hint_lets_spot_use_the_key(world: World, spec: LaunchSpec) -> None:
    spec = encrypted(world, spec)
    without_right(world, str(spec.volume_key))
    words = launched(world, spec)[1][0].split("aws kms create-grant ")[1].split()
    options = {words[n]: words[n + 1] for n in (0, 2, 4)}
    operations = words[words.index("--operations") + 1 :]
    world.raw("kms", Place(HOME.id, options["--region"])).create_grant(
        KeyId=options["--key-id"], GranteePrincipal=options["--grantee-principal"], Operations=operations
    )
    world.ledger.delete_key("builder")
    instance, warnings = launched(world, spec)
    assert (instance.market, warnings) == ("spot", [])


def test_a_disabled_key_is_named(world: World, spec: LaunchSpec) -> None:
    spec = encrypted(world, spec)
    world.raw("kms").disable_key(KeyId=spec.volume_key)
    with pytest.raises(BuilderError) as caught:
        launched(world, spec)
    assert str(spec.volume_key) in str(caught.value.hint)


def test_an_internal_error_of_ec2_is_a_lost_host(world: World, spec: LaunchSpec) -> None:
    """The caller replaces it. A spot instance is replaced by an on-demand instance first."""
    world.paper.node.failures["launch"] = "no power"
    with pytest.raises(HostLost):
        launched(world, spec)
    assert tried(world) == 2
