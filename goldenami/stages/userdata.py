"""User data of temporary instances: their host keys, their lifetime, and for a builder what the recipe adds."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, Final, Literal

from goldenami import ssh
from goldenami.errors import UsageError
from goldenami.recipe.userdata import LIMIT

KeyKind = Literal["ed25519", "ecdsa"]
# Hosts in FIPS mode have no Ed25519, and some policies allow nothing else.
KEY_KINDS: Final[tuple[KeyKind, ...]] = ("ed25519", "ecdsa")
_MERGE: Final = "dict(replace)+list()+str()"
_BOUNDARY: Final = "==goldenami-part=="


def user_data(
    host_keys: Sequence[ssh.KeyPair], boot_command: str, *, login_keys: Sequence[str] = (), more: str = ""
) -> str:
    """Return the user data that gives an instance these host keys only, and runs a shell program early at each boot,
    before sshd starts. ``login_keys``: further public keys of the login user. ``more``: user data of a recipe.

    Raises UsageError if it is larger than EC2 allows.
    """
    keys: dict[str, str] = {}
    for kind, pair in zip(KEY_KINDS, host_keys, strict=True):
        keys |= {f"{kind}_private": pair.private_key, f"{kind}_public": pair.public_key}
    config: dict[str, Any] = {"bootcmd": [boot_command], "ssh_deletekeys": True, "ssh_keys": keys}
    if login_keys:
        config["ssh_authorized_keys"] = list(login_keys)
    if not more:
        return _cloud_config(config)
    # cloud-init reads the last part last, and merges as that part says: what is ours replaces what the other sets.
    made = _message(more, _cloud_config({**config, "merge_how": _MERGE}))
    size = len(made.encode())
    if size > LIMIT:
        raise UsageError(
            f"builder.user_data: with goldenami's own part it has {size} bytes, expected at most {LIMIT}",
            hint="Shorten it, or the secrets in it. Let it download what is large, or use software.",
        )
    return made


def _cloud_config(config: dict[str, Any]) -> str:
    """Return a cloud-config. It is JSON, which is valid YAML."""
    return "#cloud-config\n" + json.dumps(config) + "\n"


def _message(*parts: str) -> str:
    """Return a MIME message. cloud-init finds the form of a plain part by its first line."""
    boundary = _BOUNDARY
    while any(boundary in part for part in parts):
        boundary += "="
    head = f'MIME-Version: 1.0\nContent-Type: multipart/mixed; boundary="{boundary}"\n\n'
    kind = 'Content-Type: text/plain; charset="utf-8"\nContent-Transfer-Encoding: 8bit\n\n'
    return head + "".join(f"--{boundary}\n{kind}{part}\n" for part in parts) + f"--{boundary}--\n"
