"""Builders in a subnet without public addresses: this machine cannot reach them, and a bastion or a command can."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from goldenami import ssh
from goldenami.model import SshEndpoint

if TYPE_CHECKING:
    from tests.worlds.machines import Cloud, Workspace

pytestmark = pytest.mark.root


@dataclass
class Site:
    """A private subnet, and a bastion with a public address beside it."""

    cloud: Cloud
    subnet: str
    bastion: str  # its address
    login: ssh.KeyPair
    host_key: ssh.KeyPair
    key_name: str

    def bastion_login(self) -> ssh.BastionLogin:
        return ssh.BastionLogin(self.bastion, 22, "admin", self.host_key.public_key, self.login.private_key)


@pytest.fixture(scope="module")
def site(cloud: Cloud) -> Iterator[Site]:
    from tests.worlds.machines import HOME, until

    place = (HOME, "eu-central-1")
    ec2 = cloud.client("ec2", place)
    [vpc] = ec2.describe_vpcs(Filters=[{"Name": "is-default", "Values": ["true"]}])["Vpcs"]
    tags = [{"ResourceType": "subnet", "Tags": [{"Key": "tier", "Value": "private"}]}]
    made = ec2.create_subnet(VpcId=vpc["VpcId"], CidrBlock="172.31.224.0/20", TagSpecifications=tags)["Subnet"]
    login, host_key = ssh.generate_keypair(), ssh.generate_keypair()
    ec2.import_key_pair(KeyName="bastion", PublicKeyMaterial=login.public_key.encode())
    [image] = ec2.describe_images(Owners=["136693071363"], Filters=[{"Name": "name", "Values": ["debian-12-amd64-*"]}])[
        "Images"
    ]
    options = {"KeyName": "bastion", "UserData": with_host_key(host_key), "InstanceType": "t3.small"}
    answer = ec2.run_instances(ImageId=image["ImageId"], MinCount=1, MaxCount=1, **options)
    instance = answer["Instances"][0]["InstanceId"]
    site = Site(cloud, made["SubnetId"], cloud.address(place, instance), login, host_key, "bastion")
    bastion = ssh.Bastion(site.bastion_login())

    def answers() -> bool:
        try:
            return bastion.connect(5).is_authenticated()
        except (ssh.NotReachable, ssh.Refused):
            return False

    until(answers, 300)
    bastion.close()
    yield site
    ec2.terminate_instances(InstanceIds=[instance])
    until(lambda: not instances_of(ec2, made["SubnetId"]))
    ec2.delete_subnet(SubnetId=made["SubnetId"])
    ec2.delete_key_pair(KeyName="bastion")


def with_host_key(host_key: ssh.KeyPair) -> str:
    keys = {"ed25519_private": host_key.private_key, "ed25519_public": host_key.public_key}
    return "#cloud-config\n" + json.dumps({"ssh_deletekeys": True, "ssh_keys": keys})


def instances_of(ec2: Any, subnet: str) -> list[str]:
    filters = [{"Name": "subnet-id", "Values": [subnet]}]
    return [
        i["InstanceId"]
        for r in ec2.describe_instances(Filters=filters)["Reservations"]
        for i in r["Instances"]
        if i["State"]["Name"] != "terminated"
    ]


def requests_of(root: Path, operation: str) -> list[dict[str, Any]]:
    """The requests of an operation in the journals of a project."""
    lines = [json.loads(line) for path in root.glob(".goldenami/*/builds/*/journal.jsonl") for line in path.open("rb")]
    return [line["request"] for line in lines if line.get("operation") == operation]


def test_the_network_has_no_way_in_but_the_bastion(site: Site) -> None:
    from tests.worlds.machines import HOME

    place = (HOME, "eu-central-1")
    ec2 = site.cloud.client("ec2", place)
    host_key = ssh.generate_keypair()
    [image] = ec2.describe_images(Owners=["136693071363"], Filters=[{"Name": "name", "Values": ["debian-12-amd64-*"]}])[
        "Images"
    ]
    options = {"KeyName": site.key_name, "UserData": with_host_key(host_key), "InstanceType": "t3.small"}
    answer = ec2.run_instances(ImageId=image["ImageId"], MinCount=1, MaxCount=1, SubnetId=site.subnet, **options)
    instance = answer["Instances"][0]["InstanceId"]
    bastion = ssh.Bastion(site.bastion_login())
    try:
        address = site.cloud.address(place, instance)
        endpoint = SshEndpoint(
            address, "admin", site.login.private_key, host_key.public_key, transport=bastion.open, instance_id=instance
        )
        with ssh.connect(endpoint, timeout=120) as connection:
            assert connection.run("echo $SSH_CONNECTION").text.split()[0] == site.bastion
            assert bastion.own_address() == site.bastion
            with pytest.raises(TimeoutError):
                socket.create_connection((address, 22), timeout=3)
            # The instance itself reaches other networks: here, this machine's side of the network.
            assert connection.run("ip route get 192.0.2.1 >/dev/null && echo out").text == "out"
    finally:
        bastion.close()
        ec2.terminate_instances(InstanceIds=[instance])


def build(workspace: Workspace, name: str, transport: object, **network: object) -> Path:
    """Build a recipe in the private subnet, and return the folder of the project."""
    settings = {"subnet": {"tags": {"tier": "private"}}, "transport": transport, **network}
    workspace.write("goldenami.yaml", json.dumps({"environments": {"sandbox": {"sandbox": True, "network": settings}}}))
    workspace.recipe(name)
    done = workspace.run("build", name)
    assert done.status == 0, done.stderr
    return workspace.root


def test_a_build_through_a_bastion(workspace: Workspace, site: Site) -> None:
    key = workspace.write("keys/bastion", site.login.private_key)
    options = {"host": site.bastion, "user": "admin", "host_key": site.host_key.public_key}
    root = build(workspace, "by-bastion", {"bastion": {**options, "private_key": {"file": "keys/bastion"}}})
    launches = requests_of(root, "RunInstances")
    assert [launch["NetworkInterfaces"][0]["AssociatePublicIpAddress"] for launch in launches] == [False, False]
    rules = requests_of(root, "AuthorizeSecurityGroupIngress")
    sources = {r["CidrIp"] for rule in rules for p in rule["IpPermissions"] for r in p["IpRanges"]}
    assert sources == {f"{site.bastion}/32"}
    text = key.read_text()
    written = [path for path in root.rglob("*") if path.is_file() and path != key and text in path.read_text("latin-1")]
    assert written == [], "the bastion's private key was written to a file"


@pytest.mark.nightly
def test_a_build_through_a_command(workspace: Workspace, site: Site) -> None:
    key = workspace.write("keys/bastion", site.login.private_key)
    key.chmod(0o600)
    known = workspace.write("keys/known", f"{site.bastion} {site.host_key.public_key}\n")
    command = (
        f"ssh -i {key} -o UserKnownHostsFile={known} -o BatchMode=yes -W {{address}}:{{port}} admin@{site.bastion}"
    )
    root = build(workspace, "by-command", {"command": command}, address="private", source_cidr=f"{site.bastion}/32")
    assert len(requests_of(root, "RunInstances")) == 2
