"""One attempt at an authenticated SSH transport, with paramiko's errors translated into ours.

The host key is pinned: only the type of the expected key is negotiated, and a host that proves another key is not
talked to. Neither an agent, nor known_hosts, nor any other file of the user is read.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import io
import logging
import socket
from collections.abc import Iterator

import paramiko
from paramiko.pkey import UnknownKeyType
from paramiko.ssh_exception import IncompatiblePeer

from goldenami import extensions
from goldenami.errors import BuilderError, ConnectionLost
from goldenami.model import DIRECT, SshEndpoint, Transport
from goldenami.os import SYSTEMS, described

# Bytes that may be under way on one channel: at 60 ms round trip this allows 70 MB/s. OpenSSH's packets carry 32 KiB at
# most.
WINDOW = 4 << 20
PACKET = 32 << 10

ATTEMPT_SECONDS = 10.0  # for TCP, and again for the handshake; a host that answers does so in far less
_KEEPALIVE_SECONDS = 15
_DEAD_AFTER_SECONDS = 60

# paramiko reports what it raises as well; without a handler the logging module would print that to stderr.
_LOG = "goldenami.ssh.paramiko"
logging.getLogger(_LOG).addHandler(logging.NullHandler())


class NotReachable(BuilderError):
    """Nothing answers yet as an SSH server does. Worth another attempt."""


class Refused(BuilderError):
    """An SSH server answers, but is not the host that is expected, or does not accept our key. Rarely worth another
    attempt.
    """


def open_transport(endpoint: SshEndpoint, patience: float = ATTEMPT_SECONDS) -> paramiko.Transport:
    """Connect and authenticate, once. ``patience``: seconds for TCP, and again for each step of the handshake:
    something may listen there and never say a word. Raises NotReachable or Refused.
    """
    name = f"{endpoint.user}@{endpoint.address}:{endpoint.port}"
    connection = _socket(endpoint, name, patience)
    transport: paramiko.Transport | None = None
    try:
        with translated(name, NotReachable):
            key = paramiko.Ed25519Key.from_private_key(io.StringIO(endpoint.private_key))
            expected = expected_key(endpoint.host_key)
            transport = paramiko.Transport(connection, default_window_size=WINDOW, default_max_packet_size=PACKET)
            transport.set_log_channel(_LOG)
            transport.banner_timeout = patience
            transport.auth_timeout = 3 * patience  # sshd may look up names while it authenticates
            _pin(transport, expected)
            transport.start_client(timeout=patience)
            if transport.get_remote_server_key().asbytes() != expected.asbytes():
                raise Refused(
                    f"{name} proved another host key than the one it was given: it may not be the host it should be",
                    hint="Nothing was sent to it. Find out what answers at this address before building again.",
                )
            transport.auth_publickey(endpoint.user, key)
            transport.set_keepalive(_KEEPALIVE_SECONDS)
            return transport
    except BaseException:
        if transport is not None:
            transport.close()
        connection.close()
        raise


def expected_key(line: str) -> paramiko.PKey:
    """The public key of an OpenSSH line. Raises ValueError."""
    words = line.split()
    try:
        return paramiko.PKey.from_type_string(words[0], base64.b64decode(words[1], validate=True))
    except (IndexError, binascii.Error, paramiko.SSHException, UnknownKeyType) as error:
        raise ValueError(f"not an OpenSSH public key: {line!r}") from error


@contextlib.contextmanager
def translated(name: str, otherwise: type[BuilderError] = ConnectionLost) -> Iterator[None]:
    """The one place where paramiko's errors become ours: ``otherwise`` for all that says no more than that SSH did not
    work.
    """
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
            f"{name} does not accept the key that was given to the instance",
            hint=f"Check that ssh_user is the base image's: {_login_users()}.",
        ) from error
    except IncompatiblePeer as error:
        raise Refused(
            f"{name} has no host key of the expected type, or shares no algorithm with this client: {error}",
            hint="Check that user-data is applied by the base image (cloud-init), since it brings the host key.",
        ) from error
    except (paramiko.SSHException, EOFError, OSError) as error:
        raise otherwise(f"{name}: {str(error) or 'the SSH connection ended'}") from error


def _login_users() -> str:
    return described((system.login_user, system) for system in SYSTEMS.values())


def direct(endpoint: SshEndpoint, patience: float) -> socket.socket:
    """The transport ``direct``: TCP to the address of the instance."""
    return socket.create_connection((endpoint.address, endpoint.port), timeout=patience)


def _socket(endpoint: SshEndpoint, name: str, patience: float) -> socket.socket:
    opener: Transport = direct
    if endpoint.transport != DIRECT:
        opener = extensions.load(extensions.TRANSPORTS, endpoint.transport)
    with translated(name, NotReachable):
        connection = opener(endpoint, patience)
    if connection.family not in (socket.AF_INET, socket.AF_INET6):  # one end of a tunnel in this process
        return connection
    # Without it each of SSH's small packets may wait for the acknowledgement of the one before: 45 to 100 ms a command.
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    if hasattr(socket, "TCP_USER_TIMEOUT"):  # Linux: together with the keepalive, this notices a host that went away
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, _DEAD_AFTER_SECONDS * 1000)
    return connection


def _pin(transport: paramiko.Transport, key: paramiko.PKey) -> None:
    kind = key.get_name()
    transport.get_security_options().key_types = ("rsa-sha2-512", "rsa-sha2-256") if kind == "ssh-rsa" else (kind,)
