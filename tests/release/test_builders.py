"""What a recipe and an environment can say about the temporary instances of a build, seen in the cloud."""

from __future__ import annotations

import base64
import datetime
import os
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
from goldenami_sandbox.node import userdata

from goldenami import lifetime
from goldenami import recipe as recipes
from goldenami.errors import InvalidInput, NotFound, UsageError
from goldenami.model import SshEndpoint
from goldenami.recipe.userdata import LIMIT, OWN
from goldenami.ssh import KeyPair, generate_keypair
from goldenami.stages.userdata import KEY_KINDS, user_data
from tests.worlds.builds import PLACES, PaperHostWork, World

HOME = PLACES[0]


class Seen(PaperHostWork):
    """Looks at the cloud while the hosts are there."""

    def __init__(self, world: World) -> None:
        super().__init__()
        self.ec2 = world.client("ec2", HOME)
        self.endpoints: dict[str, SshEndpoint] = {}
        self.instances: dict[str, dict[str, Any]] = {}
        self.groups: dict[str, list[dict[str, Any]]] = {}

    def _look(self, purpose: str, host: Any) -> None:
        self.endpoints[purpose] = host.endpoint
        [found] = self.ec2.describe_instances(InstanceIds=[host.instance_id])["Reservations"]
        self.instances[purpose] = found["Instances"][0]
        ids = [group["GroupId"] for group in found["Instances"][0]["SecurityGroups"]]
        self.groups[purpose] = self.ec2.describe_security_groups(GroupIds=ids)["SecurityGroups"]

    def prepare(self, build: Any, architecture: Any, host: Any) -> Any:
        self._look("builder", host)
        return super().prepare(build, architecture, host)

    def prove(self, build: Any, made: Any, host: Any) -> Any:
        self._look("proof", host)
        return super().prove(build, made, host)


@pytest.fixture
def world(build_world: World) -> World:
    build_world.fresh()
    return build_world


def built(world: World, recipe: str = "", *, environment: tuple[str, str] = ("", "")) -> Seen:
    """Build with these lines more in the recipe, and a text of goldenami.yaml replaced."""
    file, settings = world.path / "recipes" / "web.yaml", world.path / "goldenami.yaml"
    file.write_text(file.read_text() + recipe)
    settings.write_text(settings.read_text().replace(*environment) if environment[0] else settings.read_text())
    world.project = recipes.load_project(world.path)
    world.environment = recipes.environment(world.project, "test")
    seen = Seen(world)
    world.host_work = seen
    world.build()
    return seen


def test_a_builder_has_keys_of_two_types(world: World) -> None:
    """A host in FIPS mode has no Ed25519, and some policies allow nothing else."""
    endpoint = built(world).endpoints["builder"]
    login = [KeyPair.from_private(text).public_key for text in endpoint.private_keys]
    for keys in (login, endpoint.host_keys):
        assert [key.split()[0] for key in keys] == ["ssh-ed25519", "ecdsa-sha2-nistp256"]


def test_the_ssh_server_may_have_another_port(world: World) -> None:
    seen = built(world, "builder: {ssh_port: 2222}\n")
    assert {purpose: endpoint.port for purpose, endpoint in seen.endpoints.items()} == {"builder": 2222, "proof": 2222}
    [rule] = seen.groups["builder"][0]["IpPermissions"]
    assert (rule["FromPort"], rule["ToPort"]) == (2222, 2222)


def test_a_recipe_may_change_the_port(world: World) -> None:
    file = world.path / "recipes" / "web.yaml"
    file.write_text(file.read_text().replace("{size_gib: 8}}", "{size_gib: 8}, ssh_port: 2022}"))
    seen = built(world)
    assert {purpose: endpoint.port for purpose, endpoint in seen.endpoints.items()} == {"builder": 22, "proof": 2022}
    assert sorted(rule["FromPort"] for rule in seen.groups["proof"][0]["IpPermissions"]) == [22, 2022]


# --- network ----------------------------------------------------------------------------------------------------------


CIDR = "source_cidr: 192.0.2.7/32"


def test_several_networks_may_connect(world: World) -> None:
    seen = built(world, environment=(CIDR, 'source_cidr: [192.0.2.7/32, 198.51.100.0/24, "2001:db8::/64"]'))
    [rule] = seen.groups["builder"][0]["IpPermissions"]
    assert [entry["CidrIp"] for entry in rule["IpRanges"]] == ["192.0.2.7/32", "198.51.100.0/24"]
    assert [entry["CidrIpv6"] for entry in rule["Ipv6Ranges"]] == ["2001:db8::/64"]


def test_existing_security_groups_are_used_and_stay(world: World) -> None:
    ec2 = world.client("ec2", HOME)
    vpc = ec2.describe_vpcs()["Vpcs"][0]["VpcId"]
    groups = [ec2.create_security_group(GroupName=n, Description=n, VpcId=vpc)["GroupId"] for n in ("a", "b")]
    seen = built(world, environment=(CIDR, f"security_groups: [{', '.join(groups)}]"))
    for instance in seen.instances.values():
        assert {group["GroupId"] for group in instance["SecurityGroups"]} == set(groups)
    made = [call for call in world.paper.calls if call["action"] == "CreateSecurityGroup"]
    assert len(made) == len(groups), "the build makes none"
    assert {g["GroupId"] for g in ec2.describe_security_groups(GroupIds=groups)["SecurityGroups"]} == set(groups)


def test_a_source_is_for_the_temporary_group_only(world: World) -> None:
    with pytest.raises(InvalidInput) as caught:
        built(world, environment=(CIDR, f"{CIDR}, security_groups: [sg-0123456789abcdef0]"))
    assert "source_cidr is for the temporary security group" in caught.value.problems[0].message


# --- the instance -----------------------------------------------------------------------------------------------------


def test_hops_and_tags_of_the_builder_alone(world: World) -> None:
    seen = built(world, "builder: {hop_limit: 2, tags: {cost-center: builds}}\n")
    for instance in seen.instances.values():
        assert instance["MetadataOptions"]["HttpPutResponseHopLimit"] == 2
        assert {"Key": "cost-center", "Value": "builds"} in instance["Tags"]
    for image in seen.ec2.describe_images(Owners=["self"])["Images"]:
        assert "cost-center" not in {tag["Key"] for tag in image["Tags"]}


# --- user data --------------------------------------------------------------------------------------------------------


def sent(world: World) -> dict[str, str]:
    """The user data of the instances of a build, by purpose, as EC2 got it."""
    seen = Seen(world)
    world.host_work = seen
    world.build()
    found = {}
    for purpose, instance in seen.instances.items():
        call = seen.ec2.describe_instance_attribute(InstanceId=instance["InstanceId"], Attribute="userData")
        found[purpose] = base64.b64decode(call["UserData"]["Value"]).decode()
    return found


def with_user_data(world: World, text: str) -> World:
    file = world.path / "recipes" / "web.yaml"
    file.write_text(f"{file.read_text()}vars: {{token: {{secret: {{env: TOKEN}}}}}}\nbuilder: {{user_data: {text}}}\n")
    world.project = recipes.load_project(world.path)
    world.environment = recipes.environment(world.project, "test")
    return world


CONFIG = '"#cloud-config\\nruncmd: [touch /made]\\nwrite_files: [{path: /etc/t, content: \\"{{ vars.token }}\\"}]\\n"'


def test_user_data_goes_to_the_builder_alone(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOKEN", "long enough to find")
    texts = sent(with_user_data(world, CONFIG))
    assert "runcmd" not in texts["proof"]
    read = userdata.parse(texts["builder"].encode())
    assert read.warnings == []
    assert read.run_commands == ["touch /made"]
    assert read.files[0].content == b"long enough to find"
    assert len(read.host_keys) == 4
    assert ["goldenami-builder-lifetime" in command for command in read.boot_commands] == [True]
    assert "goldenami-package-lists" not in texts["builder"], "it may use the package manager at the same time"
    assert len(read.authorized_keys) == 1
    kept = b"".join(
        file.read_bytes() for file in world.path.rglob("*") if file.is_file() and "recipes" not in file.parts
    )
    assert b"RunInstances" in kept
    assert b"long enough to find" not in kept, "neither a journal nor a log has it"


def test_a_builder_fetches_package_lists_while_it_boots(world: World, tmp_path: Path) -> None:
    """Not the instance of the image, on which nothing is installed."""
    file = world.path / "recipes" / "web.yaml"
    file.write_text(file.read_text().replace("{level: none}", "{level: all}"))
    world.project = recipes.load_project(world.path)
    texts = sent(world)
    assert {purpose: "goldenami-package-lists" in text for purpose, text in texts.items()} == {
        "builder": True,
        "proof": False,
    }
    read = userdata.parse(texts["builder"].encode())
    assert read.warnings == []
    # The host has its end before it fetches, and cloud-init tells whether it has.
    tools, log = tmp_path / "bin", tmp_path / "log"
    tools.mkdir()
    for name, status in (("systemctl", 5), ("systemd-run", 0)):
        (tools / name).write_text(f'#!/bin/sh\necho {name} "$@" >>{log}\nexit {status}\n')
        (tools / name).chmod(0o755)
    command = read.boot_commands[-1].replace("/etc/", f"{tmp_path}/etc/").replace("/run/", f"{tmp_path}/run/")
    environment = {**os.environ, "PATH": f"{tools}:{os.environ['PATH']}"}
    assert subprocess.run(["sh", "-c", command], env=environment).returncode == 5
    called = log.read_text().splitlines()
    assert {line.split()[0] for line in called[:-1]} == {"systemctl"}
    assert "goldenami-package-lists" in called[-1]


def test_a_script_is_user_data_too(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOKEN", "x")
    (world.path / "recipes" / "first.sh").write_text("#!/bin/sh\necho {{ architecture }}\n")
    texts = sent(with_user_data(world, "{src: first.sh}"))
    read = userdata.parse(texts["builder"].encode())
    assert read.scripts == [b"#!/bin/sh\necho x86_64\n"]
    assert len(read.host_keys) == 4


def test_user_data_that_is_too_large_with_its_secrets_makes_no_instance(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """EC2 has one limit for all of it, and refuses it when the key pair and the security group are there already."""
    monkeypatch.setenv("TOKEN", "x" * LIMIT)
    with pytest.raises(UsageError, match=rf"bytes, expected at most {LIMIT}"):
        sent(with_user_data(world, CONFIG))
    assert not [call for call in world.paper.calls if call["action"] in ("RunInstances", "CreateSecurityGroup")]


def test_the_reserve_is_enough_for_the_own_part() -> None:
    pairs = [generate_keypair(kind) for kind in KEY_KINDS]
    now = datetime.datetime(2026, 11, 1, tzinfo=datetime.UTC)
    command = lifetime.boot_command("builder", now, datetime.timedelta(days=30))
    own = user_data(pairs, command, login_keys=[pairs[1].public_key])
    most = "#!" + "x" * (LIMIT - OWN - 2)
    assert len(user_data(pairs, command, login_keys=[pairs[1].public_key], more=most)) <= LIMIT
    assert len(own) < OWN - 500


# --- the base ---------------------------------------------------------------------------------------------------------


def test_a_deprecated_base_is_found_if_the_recipe_says_so(world: World) -> None:
    """EC2 leaves out the deprecated images of others."""
    apps = world.client("ec2", PLACES[2])
    volume = apps.create_volume(Size=8, AvailabilityZone="eu-central-1a")["VolumeId"]
    world.behind.settle()
    world.clock.sleep(600)
    snapshot = apps.create_snapshot(VolumeId=volume)
    world.behind.settle()
    world.clock.sleep(600)
    made = apps.register_image(
        Name="corporate-base",
        Architecture="x86_64",
        VirtualizationType="hvm",
        EnaSupport=True,
        RootDeviceName="/dev/xvda",
        BlockDeviceMappings=[{"DeviceName": "/dev/xvda", "Ebs": {"SnapshotId": snapshot["SnapshotId"]}}],
    )["ImageId"]
    world.behind.settle()
    world.clock.sleep(600)
    apps.modify_image_attribute(ImageId=made, LaunchPermission={"Add": [{"UserId": HOME.account}]})
    soon = datetime.datetime.fromtimestamp(world.clock.now() + 120, datetime.UTC)
    apps.enable_image_deprecation(ImageId=made, DeprecateAt=soon)
    world.clock.sleep(600)
    file = world.path / "recipes" / "web.yaml"
    base = 'base: {filter: corporate-base, owners: ["222222222222"]}\nos: debian'
    file.write_text(re.sub("base: .*", base, file.read_text()))
    with pytest.raises(NotFound, match="matches name corporate-base"):
        built(world)
    file.write_text(file.read_text().replace('["222222222222"]}', '["222222222222"], include_deprecated: true}'))
    assert built(world).instances["builder"]["ImageId"] == made


@pytest.mark.parametrize(
    ("old", "unknown", "calls"),
    [
        (None, False, ["start"]),
        ("another deadline", False, ["daemon-reload", "start"]),
        (None, True, ["start", "daemon-reload", "start"]),
        ("same", False, ["start"]),
    ],
    ids=["new", "of the image", "not found without a reload", "a later boot"],
)
def test_systemd_reads_all_its_units_again_only_where_it_must(
    tmp_path: Path, old: str | None, unknown: bool, calls: list[str]
) -> None:
    """That takes nearly half a second, before the SSH server starts."""
    units, log, tools = tmp_path / "units", tmp_path / "log", tmp_path / "bin"
    tools.mkdir()
    refuse = f"[ $1 != start ] || [ -e {tmp_path}/read ] || {{ : >{tmp_path}/read; exit 5; }}" if unknown else ":"
    (tools / "systemctl").write_text(f"#!/bin/sh\necho $1 >>{log}\n{refuse}\n")
    (tools / "systemctl").chmod(0o755)
    now = datetime.datetime(2026, 5, 1, tzinfo=datetime.UTC)
    command = lifetime.boot_command("builder", now, datetime.timedelta(days=1)).replace(
        "/etc/systemd/system", str(units)
    )
    unit = units / lifetime.service("builder")
    environment = {**os.environ, "PATH": f"{tools}:{os.environ['PATH']}"}
    if old == "same":
        subprocess.run(["sh", "-c", command], env=environment, check=True)
        log.unlink()
    elif old is not None:
        units.mkdir()
        unit.write_text(old)
    subprocess.run(["sh", "-c", command], env=environment, check=True)
    assert log.read_text().split() == calls
    assert "systemd-run" in unit.read_text()
    assert (units / "multi-user.target.wants" / unit.name).resolve() == unit
