"""What operations accept, and what they say of the rest."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from goldenami.provision import OPERATIONS
from goldenami.provision.kernel import Sysctl

KEY = "ssh-ed25519 " + "A" * 68

REFUSED: list[tuple[str, dict[str, Any], str]] = [
    ("package", {"name": "-nginx"}, "name of a package"),
    ("package", {"name": "nginx; reboot"}, "name of a package"),
    ("package", {"name": []}, "at least one"),
    ("package", {"name": ["a1", "b1"], "version": "1"}, "exactly one package"),
    ("package", {"name": "nginx", "version": "latest!"}, "expected a version"),
    ("package", {"name": "nginx", "state": "absent", "version": "1"}, "no effect with state absent"),
    ("package", {"nmae": "nginx"}, "Extra inputs"),
    ("file", {"dest": "etc/x", "content": ""}, "absolute path"),
    ("file", {"dest": "/etc/../x", "content": ""}, r"without \.\."),
    ("file", {"dest": "/etc/x"}, "either content or src"),
    ("file", {"dest": "/etc/x", "content": "", "src": "x"}, "either content or src"),
    ("file", {"dest": "/etc/x", "state": "absent", "content": ""}, "no contents"),
    ("file", {"dest": "/etc/x", "content": "", "mode": "rw-r--r--"}, "octal"),
    ("file", {"dest": "/etc/x", "content": "", "mode": 420}, "string"),
    ("file", {"dest": "/etc/x", "content": "", "owner": "a b"}, "name or number of a user or group"),
    ("template", {"dest": "/etc/x"}, "either content or src"),
    ("directory", {"path": "/etc", "state": "absent"}, "belongs to the system"),
    ("tree", {"src": "x", "dest": "/etc", "delete": True}, "belongs to the system"),
    ("tree", {"src": "x", "dest": "/", "directories": "0750"}, "those of the system"),
    ("tree", {"src": "x", "dest": "/srv", "modes": {"*.key": "600x"}}, "octal"),
    ("line", {"path": "/etc/x", "line": "a\nb"}, "one line"),
    ("line", {"path": "/etc/x"}, "expected line with state present"),
    ("line", {"path": "/etc/x", "line": ""}, "line is empty"),
    ("line", {"path": "/etc/x", "state": "absent"}, "with state absent"),
    ("user", {"name": "a", "comment": "a:b"}, "colon"),
    ("user", {"name": "a", "authorized_keys": ["nonsense"]}, "authorized_keys"),
    ("user", {"name": "root", "state": "absent"}, "root cannot be removed"),
    ("sudoers", {"name": "a.b", "content": "x"}, "pattern"),
    ("sudoers", {"name": "a"}, "expected either content or src"),
    ("service", {"name": "nginx"}, "expected at least one of enabled, state and masked"),
    ("service", {"name": "nginx", "masked": True, "enabled": True}, "masked unit"),
    ("sysctl", {"name": "somaxconn", "value": "1"}, "kernel setting"),
    ("setting", {"path": "/etc/x", "key": "A", "value": "1"}, "expected format"),
    ("setting", {"path": "/etc/login.defs", "key": "A=B", "value": "1"}, "not a valid key"),
    ("setting", {"path": "/etc/login.defs", "key": "A"}, "expected a value"),
    ("setting", {"path": "/etc/login.defs", "key": "A", "value": "1", "section": "x"}, "no sections"),
    ("setting", {"path": "/etc/systemd/journald.conf", "key": "A", "value": "1"}, "expected section"),
    ("setting", {"path": "/etc/ssh/sshd_config", "key": "A", "value": "1", "section": "git"}, "Match User git"),
    ("line", {"path": "/etc/x", "line": "a", "insert_after": "b", "insert_at": "start"}, "expected at most one of"),
    ("block", {"path": "/etc/x"}, "expected content"),
    ("permissions", {"path": "/etc/x"}, "at least one of files, directories"),
    ("permissions", {"path": "/usr", "files": "0644", "recursive": True}, "cannot be changed recursively"),
    ("permissions", {"path": "/etc/x", "files": "0644", "match": ["*"]}, "need recursive"),
    ("permissions", {"path": "/var/log", "files": "0640", "recursive": True}, "give both"),
    ("permissions", {"path": "/run/x", "files": "0640", "recursive": True, "exclude": ["y"]}, "does not support match"),
    ("absent", {"path": "/etc/passwd"}, "belongs to the system"),
    ("link", {"path": "/etc/x", "target": "y", "hard": True}, "absolute path"),
    ("kernel_module", {"name": "a b", "state": "loaded"}, "pattern"),
    ("kernel_module", {"name": "a", "state": "disabled", "parameters": "x=1"}, "no parameters"),
    ("kernel_argument", {"name": "a", "state": "absent", "value": "1"}, "no value"),
    ("mount", {"path": "/tmp"}, "options to add"),
    ("mount", {"path": "/tmp", "source": "tmpfs"}, "both source and fstype"),
    ("mount", {"path": "/", "options": ["nodev"]}, "expected boot"),
    ("mount", {"path": "/tmp", "options": ["nodev,noexec"]}, "one mount option"),
    ("mount", {"path": "/var", "state": "absent"}, "needs it"),
    ("swap", {}, "size_mib"),
    ("limit", {"domain": "*", "item": "cores", "value": "0"}, "limits.conf"),
    ("limit", {"domain": "*", "item": "core", "value": "none"}, "pattern"),
    ("pam_profile", {"name": "x", "content": "Name: x\n"}, "the field Default is missing"),
    ("pam_profile", {"name": "unix", "state": "absent"}, "logins need it"),
    ("authselect", {"profile": "minimal", "features": ["a b"]}, "name of a feature"),
    ("password_ageing", {}, "max_days"),
    ("user", {"name": "a", "expires": "2026-02-30"}, "day is out of range"),
    ("user", {"name": "a", "password_hash": "secret"}, "pattern"),
    ("unit", {"name": "x"}, "either content or src"),
    ("timer", {"name": "x", "on_calendar": "daily", "command": ["true"]}, "absolute path"),
    ("systemd_config", {"daemon": "sshd", "settings": {"A": "b"}}, "expected one of"),
    ("locale", {"lang": "en US"}, "pattern"),
    ("timezone", {"name": "../etc"}, "pattern"),
    ("hostname", {"source": "fixed"}, "expected a name"),
    ("environment_variable", {"name": "A", "value": 'a"b'}, "PAM cannot read"),
    ("ca_certificate", {"name": "x", "content": "x"}, "expected a certificate"),
    (
        "ca_certificate",
        {"name": "x", "content": "-----BEGIN CERTIFICATE-----\n!\n-----END CERTIFICATE-----"},
        "damaged",
    ),
    (
        "ca_certificate",
        {"name": "x", "content": "-----BEGIN PRIVATE KEY-----\nA\n-----END PRIVATE KEY-----"},
        "private",
    ),
    ("cron", {"name": "x", "schedule": "61 * * * *", "command": "true"}, "minute: found 61, expected 0 to 59"),
    ("cron", {"name": "x", "schedule": "* * * *", "command": "true"}, "five fields"),
    ("cron", {"name": "x", "schedule": "0 0 * * fri-mon", "command": "true"}, "a range that begins before its end"),
    ("cron", {"name": "x", "schedule": "@often", "command": "true"}, "@daily"),
    ("cron", {"name": "x.y", "schedule": "@daily", "command": "true"}, "pattern"),
    ("alternative", {"name": "a b", "path": "/x"}, "pattern"),
    ("command", {}, "either argv or shell"),
    ("script", {}, "either src or content"),
    ("script", {"content": "x", "outputs": {"a-b": "x"}}, "name of an output"),
    ("command", {"argv": ["a"], "shell": "a"}, "either argv or shell"),
    ("command", {"argv": ["a"], "environment": {"A-B": "x"}}, "environment variable"),
    ("archive", {"url": "nowhere", "sha256": "0" * 64, "dest": "/opt"}, "URL"),
    ("archive", {"url": "https://x/y", "sha256": "abc", "dest": "/opt"}, "pattern"),
    ("repository", {"name": "x", "uris": ["https://x"], "suites": ["y"]}, "one of key"),
    ("repository", {"name": "x", "key": "k"}, r"expected uris \(and suites"),
]


@pytest.mark.parametrize(("kind", "fields", "message"), REFUSED, ids=lambda v: v if isinstance(v, str) else "")
def test_refused(kind: str, fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        OPERATIONS[kind].model_validate(fields)


@pytest.mark.parametrize(
    ("kind", "fields", "title"),
    [
        ("package", {"name": "nginx", "version": ">=1.22"}, "package nginx >=1.22"),
        ("package", {"name": ["a1", "b1"], "state": "absent"}, "package a1, b1 absent"),
        ("file", {"dest": "/etc/x", "content": "hunter2"}, "file /etc/x"),
        ("service", {"name": "nginx", "enabled": True, "state": "started"}, "service nginx enabled started"),
        ("command", {"shell": "\n  echo hello\n  exit 1\n"}, "command echo hello"),
        ("user", {"name": "x", "authorized_keys": [KEY]}, "user x"),
    ],
)
def test_titles(kind: str, fields: dict[str, Any], title: str) -> None:
    assert OPERATIONS[kind].model_validate(fields).title() == title


def test_operations_keep_what_was_asked_for() -> None:
    operation = OPERATIONS["file"].model_validate({"dest": "/etc/x/", "content": "", "mode": "644"})
    assert operation.model_dump()["mode"] == "0644"
    assert operation.model_dump()["dest"] == "/etc/x"
    again = type(operation).model_validate(operation.model_dump())
    assert again == operation


@pytest.mark.parametrize(
    ("name", "path"),
    [
        ("net.core.somaxconn", "/proc/sys/net/core/somaxconn"),
        ("net/ipv4/conf/eth0.100/forwarding", "/proc/sys/net/ipv4/conf/eth0.100/forwarding"),
        ("net.ipv4.conf.eth0/100.forwarding", "/proc/sys/net/ipv4/conf/eth0.100/forwarding"),
    ],
)
def test_names_of_kernel_settings_are_read_as_sysctl_does(name: str, path: str) -> None:
    assert Sysctl(name=name, value="1").path == path
