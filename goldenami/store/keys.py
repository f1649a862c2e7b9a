"""The secret key of an environment in a store: 32 random bytes, created once and never changed.

::

    keys/<environment>     in a directory: 64 hexadecimal digits, mode 0600 in a folder of mode 0700
                           in a bucket: the same in an envelope (``aws.envelope``)

Whoever has the key can forge what it authenticates. So it is in no log, tag or message.
"""

from __future__ import annotations

import re
import secrets
from typing import Final

from goldenami.errors import GoldenAmiError
from goldenami.store.protocol import Seal, Store, Stored

_BYTES: Final = 32
_FORM: Final = re.compile(rb"[0-9a-f]{64}\n?")


class SecretKey:
    """The key of an environment. ``seal``: encrypts it; None if the store's permissions protect it. ``error``: the
    class of the error for a damaged key."""

    def __init__(self, store: Store, environment: str, seal: Seal | None, error: type[GoldenAmiError]) -> None:
        self._store = store
        self._name = environment
        self._seal = seal
        self._error = error

    @property
    def _where(self) -> str:
        return f"keys/{self._name}"

    def read(self) -> bytes | None:
        """Return the key; None if it does not exist yet."""
        found = self._store.read(self._where)
        return None if found is None else self._opened(found)

    def ensure(self) -> bytes:
        """Return the key, and create it if it does not exist. Several processes get the same key."""
        found = self._store.read(self._where)
        if found is None:
            text = secrets.token_bytes(_BYTES).hex().encode() + b"\n"
            data = text if self._seal is None else self._seal.close(self._where, text)
            if self._store.create(self._where, data, private=True) is not None:
                return bytes.fromhex(text.decode())
            found = self._store.read(self._where)  # another process has created it meanwhile
        if found is None:
            raise self._error(f"{self._store.where(self._where)} was deleted while it was read")
        return self._opened(found)

    def _opened(self, found: Stored) -> bytes:
        text = found.data if self._seal is None else self._seal.open(self._where, found.data)
        if not _FORM.fullmatch(text):
            raise self._error(
                f"{self._store.where(self._where)} is damaged: expected {2 * _BYTES} hexadecimal digits",
                hint="Restore the file from a backup. If you delete it, a new key is created, and goldenami keeps what "
                "it created under the lost one.",
            )
        return bytes.fromhex(text.decode())
