"""The forms of user data."""

from __future__ import annotations

import base64
import gzip
from collections.abc import Callable
from email.mime.multipart import MIMEMultipart
from email.mime.text import MIMEText

import pytest
from goldenami_sandbox.node import imds, userdata
from goldenami_sandbox.node.api import DataKey, InstanceSpec

CONFIG = b"""#cloud-config
ssh_keys: {ed25519_private: PRIVATE, ed25519_public: PUBLIC}
ssh_authorized_keys: [ssh-ed25519 AAAA one]
users:
  - default
  - {name: deploy, groups: "adm, www-data", sudo: "ALL=(ALL) ALL", ssh_authorized_keys: [ssh-ed25519 BBBB two]}
write_files: [{path: /etc/a, content: aGk=, encoding: b64, permissions: '0600'}]
runcmd: [echo one, [echo, "two words"]]
packages: [nginx, [curl, "1.0"]]
"""


@pytest.mark.parametrize("wrap", [bytes, gzip.compress, base64.b64encode, lambda d: base64.b64encode(gzip.compress(d))])
def test_cloud_config(wrap: Callable[[bytes], bytes]) -> None:
    data = userdata.parse(wrap(CONFIG))
    assert data.warnings == []
    assert data.host_keys == {"ssh_host_ed25519_key": "PRIVATE\n", "ssh_host_ed25519_key.pub": "PUBLIC\n"}
    assert data.authorized_keys == ["ssh-ed25519 AAAA one"]
    assert data.default_user
    assert data.users == [
        userdata.User("deploy", ("ssh-ed25519 BBBB two",), ("ALL=(ALL) ALL",), ("adm", "www-data")),
    ]
    assert data.files == [userdata.WriteFile("/etc/a", b"hi", mode=0o600)]
    assert data.run_commands == ["echo one", "echo 'two words'"]
    assert data.packages == ["nginx", "curl=1.0"]


def test_a_later_part_replaces_keys_of_an_earlier_one() -> None:
    """As cloud-init merges parts by default: what a part says wins over the parts before it, key by key."""
    message = MIMEMultipart()
    message.attach(MIMEText("#cloud-config\nbootcmd: [one]\nruncmd: [kept]\nssh_keys: {rsa_private: A}\n"))
    message.attach(MIMEText("#cloud-config\nbootcmd: [two]\nssh_keys: {ed25519_private: B}\n"))
    data = userdata.parse(message.as_bytes())
    assert (data.boot_commands, data.run_commands) == (["two"], ["kept"])
    assert data.host_keys == {"ssh_host_ed25519_key": "B\n"}


def test_multipart() -> None:
    message = MIMEMultipart()
    message.attach(MIMEText("#cloud-config\nhostname: web\n", "cloud-config"))
    message.attach(MIMEText("#!/bin/sh\necho hi\n", "x-shellscript"))
    data = userdata.parse(message.as_bytes())
    assert (data.hostname, data.scripts, data.warnings) == ("web", [b"#!/bin/sh\necho hi\n"], [])


@pytest.mark.parametrize(
    ("raw", "warning"),
    [
        (b"#cloud-config\nswap: {}\n", "'swap' is not supported"),
        (b"#cloud-config\na: [\n", "not valid YAML"),
        (b"#cloud-config\nruncmd: nothing\n", "'runcmd' has a value that cannot be read"),
        (b"#include https://example.com/\n", "unknown form"),
    ],
)
def test_unreadable_parts_become_warnings(raw: bytes, warning: str) -> None:
    (said,) = userdata.parse(raw).warnings
    assert warning in said


def test_metadata_is_a_tree() -> None:
    spec = InstanceSpec(
        "i-1", "198.18.0.4", "vol-1", "host", metadata={"placement/region": "eu-central-1", "ami-id": "ami-1"}
    )
    paths = imds.tree(spec, spec.address)
    assert imds.look_up(paths, "meta-data/placement/", "key") == b"region"
    assert b"placement/" in (imds.look_up(paths, "meta-data", "key") or b"").splitlines()
    assert imds.look_up(paths, "meta-data/local-ipv4", "key") == b"198.18.0.4"
    assert imds.look_up(paths, "meta-data/none", "key") is None


def test_the_repr_of_a_data_key_hides_it() -> None:
    key = DataKey(b"s" * 32)
    assert "sss" not in repr(key) + str(key) + f"{key}"
    with pytest.raises(ValueError, match="32 bytes"):
        DataKey(b"short")
