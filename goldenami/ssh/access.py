"""How to log in to a host or an instance that goldenami did not launch: by the options that all commands share.

An unknown host key is never accepted. It is the one that the user gives, or one of known_hosts, or one of another
source that can be trusted, such as the console output of an instance.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

from goldenami.errors import NotFound
from goldenami.model import SshEndpoint, Transport

if TYPE_CHECKING:
    from goldenami.ssh.identity import Identity

_KNOWN_HOSTS: Final = Path("~/.ssh/known_hosts")
_TIMEOUT: Final = 60.0


@dataclass(frozen=True, slots=True)
class Access:
    """The options for a login. None: the option is not given.

    ``host_key``: "ssh-ed25519 AAAA…", or a fingerprint "SHA256:…". ``timeout``: seconds for the connection.
    ``identity``: the keys, if they were read already (see :meth:`with_keys`).
    """

    user: str | None = None
    port: int | None = None
    key_file: Path | None = None
    host_key: str | None = None
    known_hosts: Path | None = None
    timeout: float = _TIMEOUT
    identity: Identity | None = None

    def with_keys(self) -> Access:
        """Return the access with its private keys, so that a key that cannot be used is an error before other work.
        Asks for a passphrase on the terminal. Raises UsageError, or NotFound without any key."""
        return replace(self, identity=self._keys())

    def _keys(self) -> Identity:
        from goldenami.ssh import identity  # here, because paramiko loads slowly

        ask = identity.ask_on_terminal()
        if self.identity is not None:
            return self.identity
        if self.key_file is not None:
            return identity.read_identity(self.key_file, "--ssh-key", ask=ask)
        return identity.default_identity("--ssh-key", ask=ask)

    def endpoint(
        self,
        address: str,
        *,
        user: str,
        port: int = 22,
        transport: Transport | None = None,
        instance_id: str = "",
        region: str = "",
        otherwise: Callable[[], str | None] = lambda: None,
    ) -> SshEndpoint:
        """Return the endpoint of a host. The user and the port of the options are used instead of these, if given.

        ``otherwise``: returns a host key from another source, or None. Raises NotFound or Refused without a trusted
        host key, and the errors of ``with_keys``.
        """
        login = self._keys()
        unproven = SshEndpoint(
            address,
            self.user or user,
            login.private_key,
            "",
            self.port or port,
            login.agent_keys,
            transport=transport,
            instance_id=instance_id,
            region=region,
        )
        return replace(unproven, host_key=self._host_key(unproven, otherwise))

    def _host_key(self, endpoint: SshEndpoint, otherwise: Callable[[], str | None]) -> str:
        from goldenami.ssh import knownhosts

        if self.host_key is not None:
            if self.host_key.startswith("SHA256:"):
                return knownhosts.key_with_fingerprint(endpoint, self.host_key)
            return self.host_key
        file = (self.known_hosts or _KNOWN_HOSTS).expanduser()
        found = None
        if self.known_hosts is not None or file.exists():
            found = knownhosts.known_host_key(file, endpoint.address, endpoint.port)
        found = found or otherwise()
        if found is None:
            raise NotFound(
                f"the host key of {knownhosts.name_of(endpoint.address, endpoint.port)} is unknown: {file} has none",
                hint="Give --ssh-host-key with the public host key, from a source that you trust. Unverified keys are "
                "refused.",
            )
        return found
