"""goldenami as it is installed: the wheels in a virtual environment, an empty directory, and what is promised to work.

Both wheels are built and installed with pip into a virtual environment of their own. The libraries that they need are
those of the running environment: a ``.pth`` file adds its site-packages, where an editable install does not count. So
nothing is downloaded, which would take a minute more. Whether the dependencies are declared is for a real
``pip install`` to prove.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import sysconfig
import venv
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

REPOSITORY = Path(__file__).parents[2]

# What the controls of the profile install and do that takes long; the others are brought about and proven.
_SLOW = (
    *("aide", "apparmor", "log-rsyslog", "package-overview", "package-verification"),
    *("password-quality", "security-updates", "cron-directories", "cron-users", "journal-upload"),
)
ONE_TARGET = (
    "distribution: {targets: all, channel: candidate}",
    "distribution: {targets: [home/eu-central-1], channel: stable}",
)
CHILD = """\
name: child
version: "1.0"
base: {recipe: first-image, channel: stable}
patches: {level: none, reboot: never}
software:
  - file: {dest: /etc/child, content: "it is\\n"}
distribution: {targets: [home/eu-central-1], channel: stable}
"""


def built(source: Path, kind: str, into: Path) -> Path:
    """A wheel or sdist of the distribution in a directory."""
    command = [sys.executable, "-m", "hatchling", "build", "--target", kind, "--directory", str(into)]
    done = subprocess.run(command, cwd=source, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    [file] = into.glob("*.whl" if kind == "wheel" else "*.tar.gz")
    return file


def members(wheel: Path) -> dict[str, int]:
    """The checksum of every file in a wheel, by name."""
    with zipfile.ZipFile(wheel) as archive:
        return {entry.filename: entry.CRC for entry in archive.infolist()}


@dataclass(frozen=True)
class Installed:
    """The environment with the wheels, and a directory to work in."""

    environment: Path
    folder: Path
    variables: dict[str, str]

    def run(self, *arguments: str, status: int = 0, seconds: float = 600.0) -> subprocess.CompletedProcess[str]:
        command = [str(self.environment / "bin/goldenami"), *arguments]
        done = subprocess.run(
            command, cwd=self.folder, env=self.variables, capture_output=True, text=True, timeout=seconds
        )
        assert done.returncode == status, f"{' '.join(arguments)}\n{done.stdout}{done.stderr}"
        return done

    def json(self, *arguments: str) -> Any:
        return json.loads(self.run(*arguments, "--json").stdout)


@pytest.fixture(scope="module")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    return [
        built(REPOSITORY, "wheel", tmp_path_factory.mktemp("wheel")),
        built(REPOSITORY / "sandbox", "wheel", tmp_path_factory.mktemp("wheel")),
    ]


@pytest.fixture(scope="module")
def environment(wheels: list[Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A virtual environment with the wheels; the libraries are the running environment's."""
    made = tmp_path_factory.mktemp("environment")
    venv.create(made, symlinks=True)
    command = [sys.executable, "-m", "pip", "--python", str(made), "install", "--quiet", "--no-index", "--no-deps"]
    done = subprocess.run([*command, *map(str, wheels)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    python = made / "bin/python"
    packages = subprocess.check_output(
        [python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"], text=True
    )
    paths = {sysconfig.get_path("purelib"), sysconfig.get_path("platlib")}
    (Path(packages.strip()) / "libraries.pth").write_text("\n".join(sorted(paths)) + "\n")
    return made


@pytest.fixture
def installed(environment: Path, tmp_path: Path) -> Installed:
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("AWS_", "GOLDENAMI_", "PYTHON", "PYTEST_"))}
    (tmp_path / "empty").mkdir()
    variables = {**kept, "GOLDENAMI_SANDBOX_HOME": str(tmp_path / "sandbox"), "PYTHONDONTWRITEBYTECODE": "1"}
    return Installed(environment, tmp_path / "empty", variables)


def shipped(pattern: str) -> list[str]:
    """The names of what the repository ships."""
    return sorted(path.parent.name if path.name == "agent.yaml" else path.stem for path in REPOSITORY.glob(pattern))


@pytest.mark.nightly
def test_a_source_distribution_gives_the_same_wheels(wheels: list[Path], tmp_path: Path) -> None:
    for number, (source, wheel) in enumerate(zip((REPOSITORY, REPOSITORY / "sandbox"), wheels, strict=True)):
        (packed := tmp_path / f"sdist-{number}").mkdir()
        (again := tmp_path / f"wheel-{number}").mkdir()
        sdist = built(source, "sdist", packed)
        subprocess.run(["tar", "--extract", "--file", sdist, "--directory", packed], check=True)
        assert members(built(packed / sdist.name.removesuffix(".tar.gz"), "wheel", again)) == members(wheel)


def test_the_wheel_has_every_shipped_file(wheels: list[Path]) -> None:
    files = {
        path.relative_to(REPOSITORY).as_posix()
        for folder in ("recipes", "hardening")
        for path in (REPOSITORY / folder).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    found = {name.removeprefix("goldenami/shipped/") for name in members(wheels[0]) if "/shipped/" in name}
    assert found == {*files, "__init__.py"}


def test_the_wheels_are_what_runs(installed: Installed) -> None:
    code = "import goldenami, goldenami_sandbox; print(goldenami.__file__); print(goldenami_sandbox.__file__)"
    python = installed.environment / "bin/python"
    files = subprocess.check_output([python, "-c", code], cwd=installed.folder, env=installed.variables, text=True)
    assert all(Path(file).is_relative_to(installed.environment) for file in files.split())


def test_all_that_is_shipped_is_listed_without_a_project(installed: Installed) -> None:
    agents = [one["name"] for one in installed.json("agents", "list")["agents"]]
    profiles = [one["name"] for one in installed.json("harden", "list")["profiles"]]
    recipes = [one["name"] for one in installed.json("recipes", "list")["recipes"]]
    assert agents == shipped("recipes/agents/*/agent.yaml")
    assert profiles == shipped("hardening/profiles/*.yaml")
    assert recipes == shipped("recipes/*.yaml")
    assert len(installed.run("harden", "list", "debian-12-level-1").stdout.splitlines()) > 90


def test_a_new_project_uses_what_is_shipped_and_changes_it(installed: Installed) -> None:
    installed.run("init", "--from", "debian-12-hardened")
    said = installed.run("validate").stderr
    assert "profiles: debian-12-level-1, debian-12-level-2 (shipped)" in said
    for profile in ("debian-12-level-2", "debian-13-level-1"):
        installed.run("harden", "copy", profile)
    installed.run("agents", "copy", "chrony")
    said = installed.run("validate").stderr
    assert (
        "profiles: debian-12-level-1, debian-12-level-2, debian-13-level-1 (project, same as the shipped one)" in said
    )
    assert "chrony (project, same as the shipped one)" in said
    ssh = installed.folder / "hardening/controls/ssh.yaml"
    ssh.write_text(ssh.read_text().replace("ssh_max_auth_tries", "ssh_max_attempts"))
    assert "ssh (project, differs from the shipped one)" in installed.run("validate").stderr


@pytest.mark.root
def test_from_nothing_to_two_images(installed: Installed) -> None:
    """init, an agent, a profile, a child recipe, build: as a person does it who has just installed goldenami."""
    installed.run("init")
    recipe = installed.folder / "recipes/first-image.yaml"
    waivers = ", ".join(f"{id}: {{reason: takes long, expires: 2999-12-31}}" for id in _SLOW)
    hardening = f"hardening: {{profiles: [debian-12-level-1], waivers: {{{waivers}}}}}"
    edits = {
        "# agents: [chrony] ": "agents: [chrony] ",
        "# hardening: {profiles: [debian-12-level-1]}": hardening,
        "patches: {level: security}": "patches: {level: none, reboot: never}",
        ONE_TARGET[0]: ONE_TARGET[1],
    }
    text = recipe.read_text()
    for old, new in edits.items():
        assert old in text
        text = text.replace(old, new)
    recipe.write_text(text)
    (installed.folder / "recipes/child.yaml").write_text(CHILD)
    said = installed.run("validate").stderr
    assert said.splitlines()[-1] == "2 recipes valid"
    assert "agents: chrony (shipped)" in said

    installed.run("sandbox", "up")
    try:
        [planned] = installed.json("plan", "first-image")["plans"]
        places = [o["place"] for stage in planned["images"][0]["stages"] for o in stage["operations"]]
        assert any(place.startswith("shipped:recipes/agents/chrony/agent.yaml:") for place in places)
        assert not any("site-packages" in place for place in places)
        _, child = installed.json("build", "child")["builds"]  # its base was never built, so that is built first
        assert [image["architecture"] for image in child["manifest"]["images"]] == ["x86_64"]
        releases = installed.json("images", "list")["releases"]
        assert {release["name"] for release in releases} == {"first-image", "child"}

        installed.run("agents", "copy", "chrony")
        template = installed.folder / "recipes/agents/chrony/chrony.conf.j2"
        template.write_text(template.read_text() + "# ours\n")
        [changed] = installed.json("plan", "first-image")["plans"]
        assert changed["digest"] != planned["digest"]
        [used] = [one for one in changed["lookups"] if one["kind"] == "agent"]
        assert (used["from"], used["shipped_one"]) == ("project", "different")
        assert "chrony (project, differs from the shipped one)" in installed.run("validate").stderr
    finally:
        installed.run("sandbox", "reset", "--yes")
