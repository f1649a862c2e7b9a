"""SSH to instances: key pairs, and connections whose host key is known beforehand. The only room that knows paramiko.

    with connect(endpoint, timeout=120) as connection:
        connection.run("uname -r").text

Errors: BuilderError (no connection), ConnectionLost (it ended during a command). Nothing of paramiko's comes through.
"""

from goldenami.ssh.connection import Completed, Connection, connect
from goldenami.ssh.keys import KeyPair, generate_keypair
from goldenami.ssh.knownhosts import known_host_key

__all__ = ["Completed", "Connection", "KeyPair", "connect", "generate_keypair", "known_host_key"]
