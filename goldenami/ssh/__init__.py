"""SSH to hosts: key pairs, and connections with a pinned host key. Only this package imports paramiko.

    with connect(endpoint, timeout=120) as connection:
        connection.run("uname -r").text

All errors are BuilderErrors: NotReachable and Refused (no connection), ConnectionLost (the connection ended during a
command), CommandTimeout, NotBack. Errors of paramiko are translated into them.

paramiko loads slowly, and plans need no connection. So a name is loaded when it is first used. ``preload`` loads what a
connection needs while there is something to wait for.
"""

from typing import TYPE_CHECKING

from goldenami.ondemand import load_names

if TYPE_CHECKING:
    from goldenami.ssh.access import Access
    from goldenami.ssh.bastion import Bastion, BastionLogin
    from goldenami.ssh.connection import CommandTimeout, Completed, Connection, Deadline, NotBack, connect, log_in_once
    from goldenami.ssh.handover import ConnectionClient, ConnectionServer
    from goldenami.ssh.identity import Identity, ask_on_terminal, default_identity, plain_key, read_identity
    from goldenami.ssh.keys import KeyPair, generate_keypair
    from goldenami.ssh.knownhosts import key_with_fingerprint, known_host_key
    from goldenami.ssh.loginshell import with_terminal
    from goldenami.ssh.relaying import relay
    from goldenami.ssh.shells import ShellAnswer, Shells
    from goldenami.ssh.transport import NotReachable, Refused, listens
    from goldenami.ssh.tunnel import TunnelSocket, open_process

__all__ = [
    "Access",
    "Bastion",
    "BastionLogin",
    "CommandTimeout",
    "Completed",
    "Connection",
    "ConnectionClient",
    "ConnectionServer",
    "Deadline",
    "Identity",
    "KeyPair",
    "NotBack",
    "NotReachable",
    "Refused",
    "ShellAnswer",
    "Shells",
    "TunnelSocket",
    "ask_on_terminal",
    "connect",
    "default_identity",
    "generate_keypair",
    "key_with_fingerprint",
    "known_host_key",
    "listens",
    "log_in_once",
    "open_process",
    "plain_key",
    "preload",
    "preload_keys",
    "read_identity",
    "relay",
    "with_terminal",
]


def preload_keys() -> None:
    """Load the modules of key pairs."""
    import goldenami.ssh.keys  # noqa: F401


def preload() -> None:
    """Load the modules of a connection."""
    import goldenami.ssh.connection  # noqa: F401


if not TYPE_CHECKING:  # a type checker reads the imports above
    __getattr__ = load_names(
        __name__,
        {
            "access": ("Access",),
            "bastion": (
                "Bastion",
                "BastionLogin",
            ),
            "connection": (
                "CommandTimeout",
                "Completed",
                "Connection",
                "Deadline",
                "NotBack",
                "connect",
                "log_in_once",
            ),
            "handover": (
                "ConnectionClient",
                "ConnectionServer",
            ),
            "identity": (
                "Identity",
                "ask_on_terminal",
                "default_identity",
                "plain_key",
                "read_identity",
            ),
            "keys": (
                "KeyPair",
                "generate_keypair",
            ),
            "knownhosts": (
                "key_with_fingerprint",
                "known_host_key",
            ),
            "loginshell": ("with_terminal",),
            "relaying": ("relay",),
            "shells": (
                "ShellAnswer",
                "Shells",
            ),
            "transport": (
                "NotReachable",
                "Refused",
                "listens",
            ),
            "tunnel": (
                "TunnelSocket",
                "open_process",
            ),
        },
    )
