"""SSH to instances: key pairs, and connections whose host key is known beforehand. The only room that knows paramiko.

    with connect(endpoint, timeout=120) as connection:
        connection.run("uname -r").text

Errors, all of them BuilderErrors: NotReachable and Refused (no connection), ConnectionLost (it ended during a command),
CommandTimeout, NotBack. Nothing of paramiko's comes through.
"""

from goldenami.ssh.connection import CommandTimeout, Completed, Connection, Deadline, NotBack, connect
from goldenami.ssh.keys import KeyPair, generate_keypair
from goldenami.ssh.knownhosts import known_host_key
from goldenami.ssh.transport import NotReachable, Refused

__all__ = [
    "CommandTimeout",
    "Completed",
    "Connection",
    "Deadline",
    "KeyPair",
    "NotBack",
    "NotReachable",
    "Refused",
    "connect",
    "generate_keypair",
    "known_host_key",
]
