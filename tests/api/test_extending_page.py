"""The examples of docs/extending.md are a project and a package: both are made of them, checked and built."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.docs.examples import Example, examples

if TYPE_CHECKING:
    from goldenami_sandbox.control import SandboxInfo

PAGE = "extending.md"
PACKAGE = "acme-goldenami"
COMMANDS = examples(PAGE, "bash")
# In place of the ssh of the page's transport, which would need a bastion: it connects directly, and says so.
SSH = """\
#!{python}
import os, select, socket, sys
open({log!r}, "a").write(" ".join(sys.argv[1:]) + "\\n")
address, port = sys.argv[sys.argv.index("-W") + 1].rsplit(":", 1)
with socket.create_connection((address, int(port)), timeout=10) as host:
    while True:
        for ready in select.select([0, host], [], [])[0]:
            data = os.read(0, 65536) if ready == 0 else host.recv(65536)
            if not data:
                sys.exit()
            while data:
                sent = os.write(1, data) if ready is host else host.send(data)
                data = data[sent:]
"""


@dataclass
class Company:
    """Its repository with goldenami.yaml, and the folder in which its package is installed."""

    project: Path
    site: Path

    def run(self, command: str, **variables: str) -> subprocess.CompletedProcess[str]:
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("AWS_", "GOLDENAMI_"))}
        path = os.pathsep.join((str(self.site / "bin"), str(Path(sys.executable).parent), kept["PATH"]))
        environment = {**kept, "PATH": path, "PYTHONPATH": str(self.site), "PYTHONDONTWRITEBYTECODE": "1", **variables}
        return subprocess.run(
            ["sh", "-ec", command], cwd=self.project, env=environment, capture_output=True, text=True, timeout=500
        )


@pytest.fixture
def company(tmp_path: Path) -> Company:
    made = Company(tmp_path / "project", tmp_path / "site")
    for example in examples(PAGE):
        if example.title.startswith(f"{PACKAGE}/"):
            write(made.site / example.title.removeprefix(f"{PACKAGE}/"), example.text)
        elif example.title:
            write(made.project / example.title, example.text)
    install(made.site)
    ssh = made.site / "bin" / "ssh"
    write(ssh, SSH.format(python=sys.executable, log=str(tmp_path / "ssh.log")))
    ssh.chmod(0o755)
    return made


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def install(site: Path) -> None:
    """What pip writes for the package: its metadata, with the entry points of its pyproject.toml."""
    project = tomllib.loads((site / "pyproject.toml").read_text())["project"]
    folder = site / f"{project['name'].replace('-', '_')}-{project['version']}.dist-info"
    write(folder / "METADATA", f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n")
    groups = [
        f"[{group}]\n" + "".join(f"{name} = {value}\n" for name, value in entries.items())
        for group, entries in project["entry-points"].items()
    ]
    write(folder / "entry_points.txt", "\n".join(groups))


@pytest.mark.parametrize("example", COMMANDS, ids=str)
def test_the_commands_that_need_no_cloud(company: Company, example: Example) -> None:
    for command in example.text.splitlines():
        if not command.startswith("goldenami build"):
            done = company.run(command)
            assert done.returncode == 0, done.stderr
            assert "grep" not in command or done.stdout, command


def test_without_consent_the_project_is_not_valid(company: Company) -> None:
    done = company.run("goldenami validate")
    assert done.returncode == 2
    assert (
        "operations/company.py:1:1: error: this file has Python code that is not executed without your consent"
        in done.stderr
    )
    assert "1 problem found" in done.stderr


def test_what_is_not_installed_is_named(company: Company) -> None:
    for name in ("METADATA", "entry_points.txt"):
        (company.site / "acme_goldenami-1.0.dist-info" / name).unlink()
    done = company.run("goldenami validate acme")
    assert done.returncode == 2
    assert "transport: 'acme-bastion' is not installed: expected direct, bastion" in done.stderr
    write(company.project / "goldenami.yaml", "environments:\n  sandbox: {sandbox: true}\n")
    done = company.run("goldenami validate acme")
    assert done.returncode == 2
    assert "there is no agent 'acme-motd'" in done.stderr
    assert "tests: acme-baseline: No such file or directory" in done.stderr


def test_the_options_of_the_transport_are_checked(company: Company) -> None:
    settings = company.project / "goldenami.yaml"
    written = settings.read_text()
    assert "host: bastion" in written
    write(settings, written.replace("host: bastion", "hots: bastion"))
    done = company.run("goldenami validate acme")
    assert done.returncode == 2
    assert "goldenami.yaml:4:42: error: unknown key 'hots' of transport acme-bastion" in done.stderr
    assert "hint: Did you mean host?" in done.stderr


def test_what_is_broken_is_a_problem(company: Company) -> None:
    write(company.site / "acme_goldenami" / "operations.py", "import nowhere\n")
    done = company.run("goldenami validate acme")
    assert done.returncode == 2
    assert (
        "acme-goldenami 1.0: the entry point acme = 'acme_goldenami.operations' of goldenami.operations" in done.stderr
    )
    assert "ModuleNotFoundError: No module named 'nowhere'" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.root
@pytest.mark.nightly
def test_the_builds(company: Company, real_sandbox: SandboxInfo) -> None:
    """Over the page's transport, with its suite at both gates, and both operations on the hosts."""
    builds = [line for example in COMMANDS for line in example.text.splitlines() if line.startswith("goldenami build")]
    assert builds == ["goldenami build example", "goldenami build acme"]
    for command in builds:
        done = company.run(command, **real_sandbox.variables())
        assert done.returncode == 0, done.stderr
    release = json.loads(company.run("goldenami images show acme --json", **real_sandbox.variables()).stdout)
    assert {"operation:acme_motd", "test:acme-baseline"} <= set(release["inputs"])
    reports = [path for path in company.project.rglob("tests-*.xml") if "test_motd_names" in path.read_text()]
    assert sorted(path.name for path in reports) == ["tests-builder-x86_64.xml", "tests-image-x86_64.xml"]
    assert "-W" in (company.project.parent / "ssh.log").read_text()
