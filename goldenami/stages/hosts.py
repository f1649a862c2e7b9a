"""Temporary instances: launched, reached, disposed of.

The host key is made here and handed over in user-data, so that it is known before the first connection: nobody in
between can pretend to be the builder. cloud-init installs it (``ssh_keys``) and deletes those of the image; sealing
removes it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager

from goldenami import ssh
from goldenami.aws import instances, keypairs, network, security_groups
from goldenami.aws.instances import LaunchSpec, RootVolume
from goldenami.model import Architecture, SshEndpoint
from goldenami.stages.build import BuildContext, Host
from goldenami.stages.watch import watched

SECURITY_GROUP = "security-group"


def launch(
    build: BuildContext,
    architecture: Architecture,
    purpose: str,
    image_id: str,
    root_volume: RootVolume | None,
    *,
    spot: bool = True,
) -> Host:
    """Launch a temporary instance and wait until EC2 says that it runs; ``purpose`` is "builder" or "proof".

    One that is in the journal already is replaced: what it was in the middle of is unknown. ``spot``: whether the
    recipe's wish for a spot instance counts.
    """
    key = key_of(purpose, architecture)
    ledger, home = build.ledger, build.home
    ledger.delete_key(key)
    wanted = build.recipe.builder[architecture]
    login = _key_pair(build, f"{purpose}-login-key")  # a proof that the builder's key opens nothing needs another one
    host_key = _key_pair(build, f"{purpose}-{architecture}-host-key")
    subnets = network.subnets(build.cloud, home, build.environment.network)
    cidr = network.source_cidr(build.cloud, home, build.environment.network, subnets[0])
    group = security_groups.create(ledger, SECURITY_GROUP, home, vpc_id=subnets[0].vpc_id, source_cidr=cidr)
    spec = LaunchSpec(
        image_id=image_id,
        instance_types=wanted.instance_types,
        subnets=subnets,
        security_group_id=group,
        key_name=keypairs.create(ledger, f"key-pair/{purpose}", home, public_key=login.public_key),
        user_data=user_data(host_key),
        root_volume=root_volume,
        spot=wanted.spot and spot,
        name=f"goldenami {purpose} {build.label}",
    )
    instance_id = instances.launch(ledger, key, home, spec)
    instance = instances.wait_running(ledger, home, [instance_id])[instance_id]
    endpoint = SshEndpoint(
        address=instances.address(instance, build.environment.network),
        user=wanted.ssh_user,
        private_key=login.private_key,
        host_key=host_key.public_key,
        transport=build.environment.network.transport,
        instance_id=instance_id,
        region=home.region,
    )
    return Host(key, instance_id, endpoint, login.public_key)


@contextmanager
def connected(build: BuildContext, host: Host, architecture: Architecture) -> Iterator[ssh.Connection]:
    """A connection to the host, which is watched; see ``watched`` for what is raised."""
    timeout = build.recipe.builder[architecture].ssh_timeout
    with watched(build, host) as watch:
        connection = ssh.connect(host.endpoint, timeout=timeout, sleep=build.cloud.sleep, check=watch.check)
        watch.reached = True
        watch.on_loss.append(connection.close)
        with connection:
            yield connection


def key_of(purpose: str, architecture: Architecture) -> str:
    """A temporary instance's key in the ledger."""
    return f"{purpose}/{architecture}"


def dispose(build: BuildContext, host: Host) -> None:
    """Terminate a temporary instance, without waiting for its end."""
    build.ledger.delete_key(host.key)


def user_data(host_key: ssh.KeyPair) -> str:
    """The cloud-config that gives an instance this host key and no other. JSON is YAML that needs no quoting rules."""
    config = {
        "ssh_deletekeys": True,
        "ssh_keys": {"ed25519_private": host_key.private_key, "ed25519_public": host_key.public_key},
    }
    return "#cloud-config\n" + json.dumps(config) + "\n"


def _key_pair(build: BuildContext, name: str) -> ssh.KeyPair:
    """A key pair that outlives this process, but not the build: a resume finds the same one."""
    made = build.journal.secret(name, lambda: ssh.generate_keypair().private_key.encode())
    return ssh.KeyPair.from_private(made.decode())
