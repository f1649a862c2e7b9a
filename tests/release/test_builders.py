"""What a recipe and an environment can say about the temporary instances of a build, seen in the cloud."""

from __future__ import annotations

from typing import Any

import pytest

from goldenami import recipe as recipes
from goldenami.model import SshEndpoint
from goldenami.ssh import KeyPair
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
