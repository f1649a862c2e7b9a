"""The accounts and regions of a new sandbox, and the keys of their administrators.

Clients need only this of the sandbox, so it imports nothing else of it.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
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


def admin_key(account: str, secret: str) -> AccessKey:
    """Return the key of the account's administrator in the sandbox that has this secret. Its id is the same in every
    sandbox; who does not know the secret cannot sign with it."""
    digest = hashlib.sha256(f"goldenami sandbox administrator of {account}".encode()).digest()
    key = hmac.digest(secret.encode(), account.encode(), "sha256")
    return AccessKey(
        "AKIA" + base64.b32encode(digest)[:16].decode(), base64.b64encode(key)[:40].decode().replace("/", "+")
    )
