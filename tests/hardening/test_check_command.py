"""``harden check`` on a real host: what differs, with level and title; with --all also what holds or does not apply."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from goldenami.cli.main import main
from goldenami.model import SshEndpoint
from tests.provision.container import container

pytestmark = pytest.mark.root

CONTROLS = """
controls:
  - id: mode-of-motd
    title: Nobody changes the message of the day
    why: People believe it.
    level: 2
    operations: [{permissions: {path: /etc/motd.test, files: "0644"}}]
    check: {reads: attributes /etc/motd.test, expected: 0644 root root}
  - id: no-hello
    title: There is no file hello
    why: Nobody needs it.
    operations: [{absent: [/etc/hello]}]
    check: {reads: attributes /etc/hello, expected: absent}
"""
PROFILE = "name: few\ntitle: Few controls for Debian 12\nos: debian\nlevel: 2\nfiles: [few]\n"


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[SshEndpoint]:
    project = tmp_path / "project"
    for name, text in {"hardening/controls/few.yaml": CONTROLS, "hardening/profiles/few.yaml": PROFILE}.items():
        (project / name).parent.mkdir(parents=True, exist_ok=True)
        (project / name).write_text(text)
    (project / "goldenami.yaml").write_text("environments: {sandbox: {sandbox: true}}\n")
    (project / "recipes").mkdir()
    monkeypatch.chdir(project)
    setup = "echo hello >/etc/motd.test; chmod 666 /etc/motd.test"
    with container(tmp_path, setup=setup) as endpoint:
        yield endpoint


def test_only_what_differs_unless_all_is_asked_for(
    host: SshEndpoint, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    key, known = tmp_path / "id", tmp_path / "known"
    key.write_text(host.private_key)
    key.chmod(0o600)
    lines = [f"[{host.address}]:{host.port} {line}\n" for line in host.host_key.splitlines()]
    known.write_text("".join(lines))
    common = ["harden", "check", "--profile", "few", "-i", str(key), "--ssh-known-hosts", str(known)]
    for place in ([f"root@{host.address}:{host.port}"], [host.address, "--ssh-port", str(host.port)]):
        assert main([*common, *place]) == 5
        printed = capsys.readouterr()
        assert printed.out.splitlines() == [
            "mode-of-motd (level 2): Nobody changes the message of the day",
            "    the host's value is '0666 root root'; expected: '0644 root root'",
        ]
        assert f"{place[0]}: 1 of 2 controls do not hold; 1 do" in printed.err
    assert main([*common, f"{host.address}:{host.port}", "--all"]) == 5
    assert "holds: no-hello (level 1): There is no file hello" in capsys.readouterr().out.splitlines()
    assert main([*common, f"{host.address}:{host.port}", "--json"]) == 5
    document = json.loads(capsys.readouterr().out)
    rows = {row["control"]: (row["level"], row["title"], row["outcome"]) for row in document["controls"]}
    assert rows == {
        "mode-of-motd": (2, "Nobody changes the message of the day", "failed"),
        "no-hello": (1, "There is no file hello", "passed"),
    }
    known.write_text("".join(lines).replace(f"[{host.address}]:{host.port}", host.address))
    assert main([*common, f"{host.address}:{host.port}"]) == 3
    assert f"the host key of [{host.address}]:{host.port} is unknown" in capsys.readouterr().err
