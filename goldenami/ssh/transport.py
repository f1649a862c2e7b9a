"""Opens one authenticated SSH transport, and translates paramiko's errors into goldenami's errors.

The host key is pinned: only the types of the expected keys are negotiated, and the connection is closed if the host
proves another key. No file of the user is read here (known_hosts, config, keys), and the SSH agent is used only
where the endpoint or the options of a bastion request it.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import io
import logging
import socket
from collections.abc import Iterator, Sequence

from goldenami.errors import BuilderError, ConnectionLost
from goldenami.model import SshEndpoint
from goldenami.os import SYSTEMS, described
from goldenami.ssh.library import paramiko
from goldenami.ssh.tunnel import TunnelSocket

# Bytes in flight on one channel: 4 MiB allow 70 MB/s at a round trip of 60 ms. OpenSSH's packets have at most 32 KiB.
WINDOW = 4 << 20
PACKET = 32 << 10

ATTEMPT_SECONDS = 10.0  # limit for TCP, and again for the handshake; a host that answers needs much less
_KNOCK_SECONDS = 0.3
_KEEPALIVE_SECONDS = 15
_DEAD_AFTER_SECONDS = 60

# paramiko also logs the errors that it raises. Without a handler the logging module would print them to stderr.
_LOG = "goldenami.ssh.paramiko"
logging.getLogger(_LOG).addHandler(logging.NullHandler())


class NotReachable(BuilderError):
    """No SSH server answers yet. Another attempt can succeed."""


class Refused(BuilderError):
    """An SSH server answers, but it is not the expected host, or it does not accept the key. Another attempt rarely
    succeeds.
    """


def open_transport(endpoint: SshEndpoint, patience: float = ATTEMPT_SECONDS) -> paramiko.Transport:
    """Connect and authenticate once. ``patience``: seconds for TCP, and again for each step of the handshake, because
    another program may listen on the port and send nothing. Raises NotReachable or Refused.
    """
    name = f"{endpoint.user}@{endpoint.address}:{endpoint.port}"
    keys = [key for key in agent_keys() if f"{key.get_name()} {key.get_base64()}" in endpoint.agent_keys]
    keys += [parse_key(text, f"the private key for {name}") for text in endpoint.private_keys]
    if not keys:
        raise Refused(f"{name}: the SSH agent does not have the key any more", hint="Run `ssh-add` again.")
    return log_in(endpoint, keys, patience, name)


def log_in(endpoint: SshEndpoint, keys: Sequence[paramiko.PKey], patience: float, name: str) -> paramiko.Transport:
    """Connect once, check the host key, and log in with the first of ``keys`` that the server accepts.

    The private key of the endpoint is not used. ``name``: the server, for messages. Raises NotReachable or Refused.
    """
    connection = open_socket(endpoint, name, patience)
    transport: paramiko.Transport | None = None
    try:
        with translated(name, NotReachable):
            expected = [expected_key(line) for line in endpoint.host_keys]
            transport = paramiko.Transport(connection, default_window_size=WINDOW, default_max_packet_size=PACKET)
            transport.set_log_channel(_LOG)
            transport.banner_timeout = patience
            transport.auth_timeout = 3 * patience  # sshd may query DNS during authentication
            _pin(transport, expected)
            transport.start_client(timeout=patience)
            if transport.get_remote_server_key().asbytes() not in [key.asbytes() for key in expected]:
                raise Refused(
                    f"{name} proved another host key than the expected one, so it may be another host",
                    hint="No data was sent to it. Find out which host answers at this address before you build again.",
                )
            _authenticate(transport, endpoint.user, keys)
            transport.set_keepalive(_KEEPALIVE_SECONDS)
            return transport
    except BaseException as error:
        reason = ""
        if isinstance(error, NotReachable) and isinstance(connection, TunnelSocket):
            reason = connection.explain()
        if transport is not None:
            transport.close()
        connection.close()
        if reason:
            raise NotReachable(f"{name}: {reason}") from error
        raise


def _authenticate(transport: paramiko.Transport, user: str, keys: Sequence[paramiko.PKey]) -> None:
    """Log in with the first key that the server accepts. Raises paramiko's error for the last one."""
    for number, key in enumerate(keys, 1):
        try:
            transport.auth_publickey(user, key)
            return
        except paramiko.BadAuthenticationType:
            raise
        except paramiko.AuthenticationException:
            if number == len(keys):
                raise


def parse_key(text: str, what: str) -> paramiko.PKey:
    """Parse a private key without a passphrase, in OpenSSH's format. Raises Refused. ``what``: for messages."""
    kinds: tuple[type[paramiko.PKey], ...] = (paramiko.Ed25519Key, paramiko.ECDSAKey, paramiko.RSAKey)
    for kind in kinds:
        try:
            return kind.from_private_key(io.StringIO(text))
        except (paramiko.SSHException, ValueError, TypeError, IndexError):
            continue
    raise Refused(f"{what} is not a private key of type ed25519, ECDSA or RSA")


def agent_keys() -> list[paramiko.PKey]:
    """Return the keys of the user's SSH agent (SSH_AUTH_SOCK); none if there is no agent."""
    try:
        return list(paramiko.Agent().get_keys())
    except paramiko.SSHException:
        return []


def expected_key(line: str) -> paramiko.PKey:
    """Parse an OpenSSH line, "TYPE BASE64", into a public key. Raises ValueError if it is not one."""
    words = line.split()
    try:
        return paramiko.PKey.from_type_string(words[0], base64.b64decode(words[1], validate=True))
    except (IndexError, binascii.Error, paramiko.SSHException, paramiko.pkey.UnknownKeyType) as error:
        raise ValueError(f"not an OpenSSH public key: {line!r}") from error


@contextlib.contextmanager
def translated(name: str, otherwise: type[BuilderError] = ConnectionLost) -> Iterator[None]:
    """Translate paramiko's errors into goldenami's errors. Errors without a specific cause become ``otherwise``."""
    try:
        yield
    except BuilderError:
        raise
    except paramiko.BadAuthenticationType as error:
        raise Refused(
            f"{name} does not accept public keys (it offers: {', '.join(error.allowed_types)})",
            hint="Check ssh_user and the SSH server's configuration in the base image.",
        ) from error
    except paramiko.AuthenticationException as error:
        raise Refused(
            f"{name} does not accept the key",
            hint="Check the key, PubkeyAcceptedAlgorithms of sshd, and the login user. Login users of base images "
            f"(ssh_user): {_login_users()}.",
        ) from error
    except paramiko.ssh_exception.IncompatiblePeer as error:
        raise Refused(
            f"{name} has no host key of the expected type, or shares no algorithm with this client: {error}",
            hint="Check that cloud-init in the base image applies user-data, which installs host keys (Ed25519 and "
            "ECDSA), and that HostKeyAlgorithms of its sshd has one of these types.",
        ) from error
    except (paramiko.SSHException, EOFError, OSError) as error:
        raise otherwise(f"{name}: {str(error) or 'the SSH connection ended'}") from error


def _login_users() -> str:
    return described((system.login_user, system) for system in SYSTEMS.values())


def direct(endpoint: SshEndpoint, patience: float) -> socket.socket:
    """Open a TCP connection to the address of the endpoint: the transport ``direct``."""
    return socket.create_connection((endpoint.address, endpoint.port), timeout=patience)


def listens(address: str, port: int) -> bool:
    """Return whether a server accepts TCP connections there, within a fraction of a second."""
    try:
        socket.create_connection((address, port), timeout=_KNOCK_SECONDS).close()
    except OSError:
        return False
    return True


def open_socket(endpoint: SshEndpoint, name: str, patience: float) -> socket.socket:
    """Connect to the address of an endpoint by its transport. ``name``: for messages. Raises NotReachable."""
    opener = endpoint.transport or direct
    with translated(name, NotReachable):
        connection = opener(endpoint, patience)
    if connection.family not in (socket.AF_INET, socket.AF_INET6):  # one end of a tunnel that this process opened
        return connection
    # Without TCP_NODELAY a small packet may wait for the acknowledgement of the previous one: 45 to 100 ms a command.
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    if hasattr(socket, "TCP_USER_TIMEOUT"):  # Linux: with the keepalive, this detects a host that is unreachable
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, _DEAD_AFTER_SECONDS * 1000)
    return connection


def _pin(transport: paramiko.Transport, keys: Sequence[paramiko.PKey]) -> None:
    kinds = [key.get_name() for key in keys]
    algorithms = [("rsa-sha2-512", "rsa-sha2-256") if kind == "ssh-rsa" else (kind,) for kind in kinds]
    transport.get_security_options().key_types = tuple(name for names in algorithms for name in names)
