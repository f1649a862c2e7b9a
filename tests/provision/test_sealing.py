"""Sealing, on a host without systemd: secrets that were declared, logins, dumps, mail, and the login key."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import pytest

from goldenami import provision, ssh
from goldenami.errors import OperationFailed
from goldenami.events import Event
from goldenami.provision.program import Fact
from goldenami.provision.shell import Script
from tests.provision.container import as_root, container

pytestmark = pytest.mark.root

SECRET = "s3cret/Wort+1"


@pytest.fixture
def connection(tmp_path: Path) -> Iterator[ssh.Connection]:
    # The machine-id of a builder is as old as its first boot; here it is that of this machine.
    with (
        container(tmp_path, setup="touch -d '+1 day' /etc/machine-id") as endpoint,
        ssh.connect(endpoint, timeout=60) as connection,
    ):
        yield connection


def seal(connection: ssh.Connection, secrets: dict[str, str] | None = None) -> tuple[provision.SealReport, list[Event]]:
    events: list[Event] = []
    key = "\n".join(ssh.KeyPair.from_private(text).public_key for text in connection.endpoint.private_keys)
    report = provision.seal(
        connection, login_key=key, emit=events.append, secrets=secrets, masked=(secrets or {}).values()
    )
    return report, events


@pytest.mark.parametrize(
    "written",
    [
        f"index-url = https://ci:{SECRET}@pypi.example/simple",
        f"url: https://ci:{quote(SECRET, safe='')}@git.example",
        base64.b64encode(f"ci:{SECRET}".encode()).decode(),
    ],
    ids=["plain", "url", "base64"],
)
def test_a_secret_on_the_disk_is_found_before_the_capture(connection: ssh.Connection, written: str) -> None:
    as_root(connection, f"sleep 1.1; mkdir -p /etc/pip /srv/app; echo '{written}' | tee /etc/pip/pip.conf >/srv/app/x")
    with pytest.raises(OperationFailed) as caught:
        seal(connection, {"token": SECRET})
    text = str(caught.value) + caught.value.output
    assert "the value of the secret token is in /etc/pip/pip.conf" in text
    assert "the value of the secret token is in /srv/app/x" in text
    assert SECRET not in text
    assert "in_image: true" in (caught.value.hint or "")


def test_a_host_that_rebooted_since_is_left_as_it_is(connection: ssh.Connection) -> None:
    as_root(connection, "echo x >/root/mbox")
    key = ssh.KeyPair.from_private(connection.endpoint.private_keys[0]).public_key
    events: list[Event] = []
    report = provision.seal(connection, login_key=key, emit=events.append, since="another boot")
    assert (report.begun, report.removed, events) == (False, (), [])
    assert as_root(connection, "ls /root/mbox") == "/root/mbox"
    assert "mail" in provision.seal(connection, login_key=key, since=connection.boot_id()).removed


def test_what_sealing_removes_is_no_secret_on_the_disk(connection: ssh.Connection) -> None:
    places = "/root/.netrc /tmp/x /var/log/app.log /root/.bash_history /var/mail/root"
    as_root(connection, f"sleep 1.1; for f in {places}; do echo 'password {SECRET}' >$f; done")
    report, _ = seal(connection, {"token": SECRET, "pin": "1234"})
    assert {"logins", "mail", "logs", "shell-history", "temporary-files"} <= set(report.removed)
    assert as_root(connection, f"ls {places} 2>/dev/null || :") == "/var/log/app.log"
    assert seal(connection, {"token": SECRET})[0].removed == ()


def test_logins_of_programs_are_removed_and_settings_are_kept(connection: ssh.Connection) -> None:
    as_root(
        connection,
        """cd /root; mkdir -p .docker .aws .config/containers /home/admin/.docker
echo '{"auths": {"registry.example": {"auth": "eDp5"}}}' >.docker/config.json
echo '{"detachKeys": "ctrl-e"}' >/home/admin/.docker/config.json
echo x | tee .git-credentials .aws/credentials >.config/containers/auth.json
printf 'registry=https://npm.example/\\n//npm.example/:_authToken=abc\\n' >.npmrc; chmod 600 .npmrc
printf '//npm.example/:_authToken=abc\\n' >/home/admin/.npmrc""",
    )
    report, _ = seal(connection)
    assert {"logins", "npm-logins"} <= set(report.removed)
    own = "! -path '*/.ssh/*' ! -name '.bash*' ! -name .profile"
    left = as_root(connection, f"cat /root/.npmrc; stat -c %a /root/.npmrc; find /root /home -type f {own} | sort")
    assert left.splitlines() == [
        "registry=https://npm.example/",
        "600",
        "/home/admin/.docker/config.json",
        "/root/.npmrc",
    ]


def test_dumps_and_mail_are_removed(connection: ssh.Connection) -> None:
    as_root(
        connection,
        r"""mkdir -p /var/crash /var/lib/systemd/coredump /var/spool/postfix/deferred/A /var/spool/exim4/input
echo x | tee /var/crash/a.crash /var/spool/postfix/deferred/A/1 /var/spool/exim4/input/2 /root/mbox >/var/mail/admin
echo x >/var/lib/systemd/coredump/core.app.zst
head -c 4 /bin/sh >/root/core; head -c 4 /bin/sh >/core.123; echo 'a text' >/home/admin/core""",
    )
    look = Script("ls /root/mbox 2>/dev/null || echo gone")
    read: dict[str, str] = {}
    key = ssh.KeyPair.from_private(connection.endpoint.private_keys[0]).public_key
    report = provision.seal(
        connection,
        login_key=key,
        facts=[Fact("before", look)],
        facts_after=[Fact("after", look)],
        on_fact=read.__setitem__,
    )
    assert (read["before"], read["after"]) == ("/root/mbox", "gone"), "facts are read where they are true"
    assert {"memory-dumps", "mail"} <= set(report.removed)
    places = "/var/crash /var/lib/systemd/coredump /var/spool /var/mail /root /home/admin/core /core.123"
    found = as_root(connection, f"find {places} -type f ! -name '.*' ! -path '*/.ssh/*' 2>/dev/null || :")
    assert found == "/home/admin/core"


def test_the_login_key_is_removed_wherever_sshd_looks(tmp_path: Path) -> None:
    setup = """mkdir -p /var/keys
cp /etc/ssh/keys /var/keys/root.pub; cp /etc/ssh/keys /var/keys/admin.match
echo 'AuthorizedKeysFile /var/keys/%u.pub' >>/etc/ssh/sshd_config
printf 'Match User admin\\nAuthorizedKeysFile "/var/keys/%%u.match"\\n' >>/etc/ssh/sshd_config
echo 'ssh-ed25519 AAAA other' >>/var/keys/root.pub
touch -d '+1 day' /etc/machine-id"""
    with container(tmp_path, setup=setup) as endpoint, ssh.connect(endpoint, timeout=60) as connection:
        report, _ = seal(connection)
        assert "login-key" in report.removed
        assert as_root(connection, "cat /var/keys/*") == "ssh-ed25519 AAAA other"
        assert as_root(connection, "ls /root/.ssh") == ""
