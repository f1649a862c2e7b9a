"""How the host key of an instance is known: never accepted blindly."""

from __future__ import annotations

import base64
import hashlib
import hmac
from pathlib import Path

import pytest

from goldenami import ssh
from goldenami.errors import NotFound, UsageError
from goldenami.model import Network
from goldenami.snapshots import access
from goldenami.ssh import Access
from tests.worlds.volumes import HOME_PLACE, Estate

KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIPlanted"


def hashed(address: str) -> str:
    salt = b"01234567890123456789"
    digest = hmac.new(salt, address.encode(), hashlib.sha1).digest()
    return f"|1|{base64.b64encode(salt).decode()}|{base64.b64encode(digest).decode()}"


@pytest.fixture
def public() -> bool:
    return True


@pytest.fixture
def known(tmp_path: Path) -> Path:
    return tmp_path / "known_hosts"


@pytest.fixture
def login(tmp_path: Path) -> Path:
    path = tmp_path / "id"
    path.write_text(ssh.generate_keypair().private_key)
    path.chmod(0o600)
    return path


def endpoint(estate: Estate, options: Access) -> str:
    cloud = estate.world.cloud
    return access.endpoint_of(cloud, HOME_PLACE, estate.describe(), Network(), options).host_key


@pytest.mark.parametrize("form", ["{address}", "other,{address}", "hashed", "[{address}]:2222"])
def test_known_hosts(estate: Estate, known: Path, login: Path, form: str) -> None:
    address = estate.describe()["PublicIpAddress"]
    name = hashed(address) if form == "hashed" else form.format(address=address)
    known.write_text(f"# a comment\n@revoked {address} ssh-rsa AAAA\n{name} ssh-rsa AAAAB3\n{name} {KEY} me@here\n")
    port = 2222 if "2222" in form else None
    assert endpoint(estate, Access("admin", port, login, known_hosts=known)) == KEY


def test_the_one_that_was_given_wins(estate: Estate, known: Path, login: Path) -> None:
    assert endpoint(estate, Access(key_file=login, host_key="ssh-rsa B", known_hosts=known)) == "ssh-rsa B"


def test_unknown_is_refused(estate: Estate, known: Path, login: Path) -> None:
    known.write_text(f"{hashed('192.0.2.1')} {KEY}\n192.0.2.2 {KEY}\n")
    with pytest.raises(NotFound, match="host key"):
        endpoint(estate, Access(key_file=login, known_hosts=known))
    with pytest.raises(UsageError, match="--ssh-key: cannot read"):
        endpoint(estate, Access(key_file=Path("/nowhere"), known_hosts=known))
