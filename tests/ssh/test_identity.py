"""Private keys of users: every usual type logs in to a real sshd; what cannot be used is told before that."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from goldenami import ssh
from goldenami.cli.main import main
from goldenami.errors import NotFound, UsageError
from goldenami.model import SshEndpoint

Made = Callable[..., Path]
ED25519 = ("-t", "ed25519")
ECDSA = ("-t", "ecdsa", "-b", "521")
RSA = ("-t", "rsa", "-b", "2048")


@pytest.fixture
def make(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Made:
    """Make a key that the server accepts. There is no agent."""
    monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)

    def made(*options: str, passphrase: str = "", name: str = "key") -> Path:
        path = tmp_path / name
        subprocess.run(["ssh-keygen", "-q", *options, "-N", passphrase, "-f", str(path)], check=True)
        with (home / "authorized_keys").open("a") as keys:
            keys.write(Path(f"{path}.pub").read_text())
        return path

    return made


def logs_in(endpoint: SshEndpoint, identity: ssh.Identity) -> bool:
    mine = replace(endpoint, private_key=identity.private_key, agent_keys=identity.agent_keys)
    with ssh.connect(mine, timeout=60) as connection:
        return connection.run("echo in").text == "in"


@pytest.mark.parametrize(
    "options",
    [ED25519, ECDSA, RSA, (*RSA, "-m", "PEM"), (*ECDSA, "-m", "PEM"), (*RSA, "-m", "PKCS8"), (*ECDSA, "-m", "PKCS8")],
    ids=" ".join,
)
@pytest.mark.parametrize("passphrase", ["", "with a passphrase"])
def test_every_usual_key_logs_in(endpoint: SshEndpoint, make: Made, options: tuple[str, ...], passphrase: str) -> None:
    asked: list[str] = []
    answers = iter(["wrong", passphrase])

    def ask(prompt: str) -> str:
        asked.append(prompt)
        return next(answers)

    path = make(*options, passphrase=passphrase)
    assert logs_in(endpoint, ssh.read_identity(path, "-i", ask=ask))
    assert asked == ([f"Passphrase for -i: {path}: "] * 2 if passphrase else [])


def test_a_passphrase_without_a_terminal(make: Made) -> None:
    path = make(*ED25519, passphrase="secret")
    with pytest.raises(UsageError, match="has a passphrase, and there is no terminal to ask for it") as raised:
        ssh.read_identity(path, "-i")
    assert raised.value.hint == f"Run `ssh-add {path}` first."
    with pytest.raises(UsageError, match="the passphrase is wrong"):
        ssh.read_identity(path, "-i", ask=lambda _: "wrong")


@pytest.mark.parametrize("options", [ED25519, (*RSA, "-m", "PEM")], ids=" ".join)
def test_a_key_of_the_agent_needs_no_passphrase(
    endpoint: SshEndpoint, make: Made, agent: Path, options: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = make(*options, passphrase="secret")
    helper = path.parent / "askpass"
    helper.write_text("#!/bin/sh\necho secret\n")
    helper.chmod(0o700)
    monkeypatch.setenv("SSH_AUTH_SOCK", str(agent))
    with pytest.raises(UsageError, match="has a passphrase"):
        ssh.read_identity(path, "-i")
    for name, value in (("SSH_ASKPASS", str(helper)), ("SSH_ASKPASS_REQUIRE", "force")):
        monkeypatch.setenv(name, value)
    subprocess.run(["ssh-add", "-q", str(path)], check=True)
    identity = ssh.read_identity(path, "-i")
    assert identity.private_key == ""
    assert logs_in(endpoint, identity)
    assert logs_in(endpoint, ssh.read_identity(Path(f"{path}.pub"), "-i")), "the public key names it as well"
    path.unlink()
    assert logs_in(endpoint, ssh.default_identity("-i", home=path.parent)), "the agent's keys need no file"


def test_what_cannot_be_used_is_told(make: Made, tmp_path: Path) -> None:
    path = make(*ED25519)
    (tmp_path / "nonsense").write_text("nonsense\n")
    (tmp_path / "cut").write_text(path.read_text()[:120])
    (tmp_path / "putty").write_text("PuTTY-User-Key-File-3: ssh-ed25519\nEncryption: none\n")
    (tmp_path / "cut").chmod(0o600)
    for name, message in {
        "key.pub": "is a public key, expected the private key",
        "nonsense": "is not a private key of type ed25519, ECDSA or RSA",
        "cut": "is not a private key of type ed25519, ECDSA or RSA",
        "putty": "is a key of PuTTY, expected a key of OpenSSH or PEM",
        "missing": "No such file or directory",
        ".": "is not a regular file",
    }.items():
        with pytest.raises(UsageError, match=message) as raised:
            ssh.read_identity(tmp_path / name, "--ssh-key")
        assert raised.value.message.startswith("--ssh-key: "), name
        assert raised.value.hint
    path.chmod(0o644)
    with pytest.raises(UsageError, match=r"other users may use .*key \(mode 0644\), so it is refused") as raised:
        ssh.read_identity(path, "-i")
    assert (raised.value.hint or "").startswith(f"Run `chmod 600 {path}`.")


def test_the_default_keys(endpoint: SshEndpoint, make: Made, tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="no SSH agent has one"):
        ssh.default_identity("-i", home=tmp_path)
    (tmp_path / ".ssh").mkdir()
    make(*RSA, name=".ssh/id_rsa")
    assert logs_in(endpoint, ssh.default_identity("-i", home=tmp_path))


def test_harden_check_refuses_a_key_before_it_connects(make: Made, capsys: pytest.CaptureFixture[str]) -> None:
    path = make(*RSA, passphrase="secret")
    host_key = Path(f"{path}.pub").read_text().rsplit(" ", 1)[0]
    host = ["harden", "check", "admin@192.0.2.1", "--profile", "debian-12-level-1", "--host-key", host_key]
    for file, message in ((path, "has a passphrase, and there is no terminal"), (f"{path}.pub", "is a public key")):
        began = time.monotonic()
        assert main([*host, "-i", str(file)]) == 2
        assert message in capsys.readouterr().err
        assert time.monotonic() - began < 25, "no connection was tried: its timeout is 30 s"
