"""The accounts and regions of a new sandbox, and the keys of their administrators.

Clients need only this of the sandbox, so it imports nothing else of it.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass

HOME = "111111111111"
ACCOUNTS: Mapping[str, str] = {"home": HOME, "apps": "222222222222"}
REGIONS = ("eu-central-1", "eu-west-1", "us-east-1")  # those with KMS keys; the first is home


@dataclass(frozen=True, slots=True)
class AccessKey:
    access_key_id: str
    secret_access_key: str
    session_token: str | None = None


def admin_key(account: str) -> AccessKey:
    """Return the key of the account's administrator. It is the same on every machine, and only a sandbox accepts it."""
    digest = hashlib.sha256(f"goldenami sandbox administrator of {account}".encode()).digest()
    return AccessKey(
        "AKIA" + base64.b32encode(digest)[:16].decode(), base64.b64encode(digest)[:40].decode().replace("/", "+")
    )
