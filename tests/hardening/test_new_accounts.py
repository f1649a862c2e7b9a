"""Accounts that are added to a running instance: with the control's own files, and the useradd of this machine, in a
mount namespace whose /etc is a copy."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from goldenami import recipe as recipes
from goldenami.provision import BoundOperation
from tests.provision.local import run_here

RECIPE = """
name: web
version: "1.0"
base: {id: ami-0123456789abcdef0}
os: debian
hardening: {profiles: [debian-12-level-1]}
"""
IN_NAMESPACE = """#!/bin/sh
exec unshare --mount --propagation private sh -ec '
mount --bind {etc} /etc
mount --bind {sbin} /usr/local/sbin
exec sh "$@"' sh "$@"
"""
NEEDED = (
    "passwd",
    "group",
    "shadow",
    "gshadow",
    "login.defs",
    "nsswitch.conf",
    "ld.so.cache",
    "alternatives",
    "pam.d",
    "security",
)


@pytest.fixture
def shell(tmp_path: Path) -> str:
    if os.geteuid() != 0 or not all(map(shutil.which, ("unshare", "useradd", "chage", "chpasswd"))):
        pytest.skip("NOT PROVEN: mount namespaces need root, unshare, useradd and chage")
    etc, sbin = tmp_path / "etc", tmp_path / "sbin"
    (etc / "default").mkdir(parents=True)
    sbin.mkdir()
    for name in NEEDED:
        source = Path("/etc", name)
        if source.is_dir():
            shutil.copytree(source, etc / name, symlinks=True)
        elif source.exists():
            shutil.copy2(source, etc / name)
    file = tmp_path / "sh"
    file.write_text(IN_NAMESPACE.format(etc=etc, sbin=sbin))
    file.chmod(0o755)
    return str(file)


def operations(folder: Path) -> list[BoundOperation]:
    """What the profile writes for the age of passwords, without the units' states: here is no systemd."""
    (folder / "goldenami.yaml").write_text("environments: {sandbox: {sandbox: true}}\n")
    (folder / "recipes").mkdir()
    (folder / "recipes/web.yaml").write_text(RECIPE)
    project = recipes.load_project(folder)
    found = recipes.load(project, "web", recipes.environment(project)).hardening["x86_64"].controls
    ids = ("password-age", "keys-do-not-expire", "password-inactive")
    bound = [operation for control in found if control.id in ids for operation in control.operations]
    return [one for one in bound if one.operation.kind in ("setting", "file")]


def ages(etc: Path) -> dict[str, tuple[str, ...]]:
    """The most days and the days after them, and the day on which the account ends, by name."""
    entries = [line.split(":") for line in (etc / "shadow").read_text().splitlines()]
    return {entry[0]: (entry[4], entry[6], entry[7]) for entry in entries}


def test_an_account_that_is_added_later_does_not_expire_like_a_password(shell: str, tmp_path: Path) -> None:
    def run(command: str) -> None:
        done = subprocess.run([shell, "-ec", command], capture_output=True, text=True, timeout=120, check=False)
        assert done.returncode == 0, done.stderr

    written = run_here(*operations(tmp_path), shell=shell)
    assert "failed" not in written.statuses, written.output
    run("useradd -M late; useradd -M typed; echo typed:Correct-Horse-7 | chpasswd -c SHA512; useradd -M -r service")
    etc = tmp_path / "etc"
    assert ages(etc)["late"] == ("365", "45", ""), "useradd gives every account the age of passwords"
    # The unit that starts it watches this file, in which useradd, usermod and cloud-init write.
    assert "\nPathChanged=/etc/shadow\n" in (etc / "systemd/system/golden-ageing.path").read_text()
    assert "\nExecStart=/usr/local/sbin/golden-ageing\n" in (etc / "systemd/system/golden-ageing.service").read_text()
    for _ in range(2):
        run("/usr/local/sbin/golden-ageing")
        found = ages(etc)
        assert found["late"] in {("-1", "-1", ""), ("", "", "")}, "a key is accepted for ever"
        assert found["typed"] == ("365", "45", ""), "a password has the age that the profile says"
    run("passwd --quiet --lock typed; /usr/local/sbin/golden-ageing")
    assert ages(etc)["typed"] in {("-1", "-1", ""), ("", "", "")}, "from then on it has no password that could expire"
