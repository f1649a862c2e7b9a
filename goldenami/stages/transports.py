"""Transports of builds: what opens the connections to temporary instances, and the addresses they come from.

One object exists for each build. It is opened before anything is launched, so that a bastion that refuses the login or
a missing program is an error that costs nothing.
"""

from __future__ import annotations

import ipaddress
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING

from goldenami import extensions, plugins
from goldenami.aws import instance_connect, network, parameters, session_manager
from goldenami.aws.network import Subnet
from goldenami.aws.security_groups import Source
from goldenami.aws.session import Cloud
from goldenami.errors import BuilderError
from goldenami.model import DIRECT, Environment, Mark, Place, SshEndpoint, Transport
from goldenami.reading import ANYWHERE
from goldenami.recipe.secrets import SecretRef
from goldenami.recipe.secrets import read as read_secrets
from goldenami.recipe.secretspec import SecretSource
from goldenami.recipe.transports import (
    BastionOptions,
    CommandOptions,
    InstanceConnectOptions,
    SsmOptions,
    TransportOptions,
    options_model,
)

if TYPE_CHECKING:
    import socket


class HostTransport:
    """The transport ``direct``, and the base class of the others. ``opener``: opens a connection; None: TCP."""

    opener: Transport | None = None
    reach = plugins.Reach()

    def __init__(self, environment: Environment, cloud: Cloud, place: Place) -> None:
        """``place``: the account and region of the instances."""
        self.environment = environment
        self.cloud = cloud
        self.place = place

    def start(self) -> None:
        """Check what the transport needs. Called once, before an instance is launched."""

    def source(self, subnet: Subnet) -> Source:
        """Return the source of the connections that an instance in this subnet gets."""
        return Source(network.source_cidrs(self.cloud, self.place, self.environment.network, subnet))

    def close(self) -> None:
        """End what the transport opened. A second call does nothing."""

    def _given_source(self) -> Source | None:
        given = self.environment.network.source_cidrs
        return Source(given) if given else None


class SandboxTransport(HostTransport):
    """To instances of a sandbox of this machine that have no address: through a program of the sandbox."""

    def __init__(self, environment: Environment, cloud: Cloud, place: Place, reach: plugins.Reach) -> None:
        super().__init__(environment, cloud, place)
        self.reach = reach
        self.opener = self._open

    def _open(self, endpoint: SshEndpoint, patience: float) -> socket.socket:
        from goldenami import ssh

        return ssh.open_process([*self.reach.program, endpoint.instance_id])


class PackageTransport(HostTransport):
    """A transport of an installed package."""

    def __init__(self, environment: Environment, cloud: Cloud, place: Place, options: TransportOptions) -> None:
        super().__init__(environment, cloud, place)
        added = extensions.load(extensions.TRANSPORTS, environment.network.transport)
        self.opener = getattr(options, "open") if isinstance(added, type) else added  # noqa: B009  of a subclass


class BastionTransport(HostTransport):
    """Through channels of one SSH connection to a bastion."""

    def __init__(self, environment: Environment, cloud: Cloud, place: Place, options: BastionOptions) -> None:
        super().__init__(environment, cloud, place)
        from goldenami import ssh  # here, because paramiko loads slowly

        key = None
        if options.private_key is not None:
            key = _secret("private key of the bastion", options.private_key, environment, cloud)
        login = ssh.BastionLogin(options.host, options.port, options.user, options.host_key, key)
        self._bastion = ssh.Bastion(login)
        self.opener = self._bastion.open

    def start(self) -> None:
        self._bastion.connect()
        self._given_source() or self._bastion.own_address()

    def source(self, subnet: Subnet) -> Source:
        return self._given_source() or Source((str(ipaddress.ip_network(self._bastion.own_address())),))

    def close(self) -> None:
        self._bastion.close()


class CommandTransport(HostTransport):
    """Through the standard input and output of a program."""

    def __init__(self, environment: Environment, cloud: Cloud, place: Place, options: CommandOptions) -> None:
        super().__init__(environment, cloud, place)
        self._options = options
        self.opener = self._open

    def start(self) -> None:
        program = self._options.words[0]
        if shutil.which(program) is None:
            raise BuilderError(
                f"network.transport command: the program {program} is not on the PATH of this machine",
                hint="Install it, or correct the command in goldenami.yaml.",
            )

    def _open(self, endpoint: SshEndpoint, patience: float) -> socket.socket:
        from goldenami import ssh

        return ssh.open_process(self._options.command(placeholders(endpoint)))


class SsmTransport(HostTransport):
    """Through AWS Systems Manager: goldenami starts each session, and session-manager-plugin carries its data."""

    def __init__(self, environment: Environment, cloud: Cloud, place: Place, options: SsmOptions) -> None:
        super().__init__(environment, cloud, place)
        self._document = options.document
        self.opener = self._open

    def start(self) -> None:
        session_manager.require_plugin()

    def source(self, subnet: Subnet) -> Source:
        return self._given_source() or Source()

    def _open(self, endpoint: SshEndpoint, patience: float) -> socket.socket:
        from goldenami import ssh

        place = self.place
        session = session_manager.start(self.cloud, place, endpoint.instance_id, endpoint.port, self._document)
        end: Callable[[], None] = lambda: session_manager.terminate(self.cloud, place, session.id)  # noqa: E731
        try:
            shown = session_manager.PLUGIN  # its arguments may have the session's token
            return ssh.open_process(session.command, variables=session.variables, ended=end, shown=shown)
        except BaseException:
            end()
            raise


class InstanceConnectTransport(HostTransport):
    """Through an EC2 Instance Connect Endpoint, with the AWS CLI."""

    def __init__(self, environment: Environment, cloud: Cloud, place: Place, options: InstanceConnectOptions) -> None:
        super().__init__(environment, cloud, place)
        self._wanted = options.endpoint
        self._endpoint: instance_connect.ConnectEndpoint | None = None
        self.opener = self._open

    def start(self) -> None:
        instance_connect.require_cli()
        self._find(network.subnets(self.cloud, self.place, self.environment.network)[0])

    def source(self, subnet: Subnet) -> Source:
        found = self._find(subnet)
        if given := self._given_source():
            return given
        if found.preserves_client_address:
            # The instance sees this machine's address, with which it reaches the endpoint.
            return Source((network.public_source(self.cloud, self.place),))
        return Source(groups=found.security_groups)

    def _find(self, subnet: Subnet) -> instance_connect.ConnectEndpoint:
        if self._endpoint is None:
            self._endpoint = instance_connect.find(self.cloud, self.place, subnet, self._wanted)
        return self._endpoint

    def _open(self, endpoint: SshEndpoint, patience: float) -> socket.socket:
        from goldenami import ssh

        if self._endpoint is None:  # a resume that launches nothing
            self.start()
        assert self._endpoint is not None
        command = instance_connect.command(self._endpoint.id, endpoint, self.place.region)
        return ssh.open_process(command, variables=self.cloud.variables(self.place))


_KINDS: Mapping[type[TransportOptions], type[HostTransport]] = {
    BastionOptions: BastionTransport,
    CommandOptions: CommandTransport,
    SsmOptions: SsmTransport,
    InstanceConnectOptions: InstanceConnectTransport,
}


def make_transport(environment: Environment, cloud: Cloud, place: Place | None = None) -> HostTransport:
    """Return the transport of an environment, to instances in a place; by default the home region. Connects to nothing.

    Raises InvalidInput or NotFound for a secret that is missing, SandboxError for a sandbox without instances.
    """
    reach = plugins.reach(environment.connection.endpoint_url or os.environ.get("AWS_ENDPOINT_URL"))
    name, place = environment.network.transport, place or environment.home_place
    if name == DIRECT:
        return (
            SandboxTransport(environment, cloud, place, reach)
            if reach.program
            else HostTransport(environment, cloud, place)
        )
    model = options_model(name)
    options = model.model_validate(environment.network.options)
    kind = _KINDS.get(model, PackageTransport)
    return kind(environment, cloud, place, options)  # type: ignore[call-arg]  # each takes the options of its model


@contextmanager
def opened(environment: Environment, cloud: Cloud, place: Place | None = None) -> Iterator[HostTransport]:
    """Make the transport of an environment and close it at the end of the block. ``start`` is left to the caller."""
    transport = make_transport(environment, cloud, place)
    try:
        yield transport
    finally:
        transport.close()


def placeholders(endpoint: SshEndpoint) -> dict[str, str]:
    """Return the value of each placeholder of the transport ``command``."""
    return {
        "instance_id": endpoint.instance_id,
        "region": endpoint.region,
        "address": endpoint.address,
        "port": str(endpoint.port),
    }


def _secret(what: str, source: SecretSource, environment: Environment, cloud: Cloud) -> str:
    kind, key = source.place
    ref = SecretRef(what, kind, key, Mark(f"environment {environment.name}", 0, 0), ANYWHERE)
    return read_secrets([ref], lambda name: parameters.get(cloud, cloud.home, name, decrypt=True))[what]
