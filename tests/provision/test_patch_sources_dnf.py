"""Patches of dnf find their repositories or fail: with programs in a folder that answer as dnf and rpm do."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from goldenami.model import Mark
from goldenami.os.managers.dnf import DNF
from goldenami.provision import BoundOperation
from goldenami.provision.hints import find_hint
from goldenami.provision.patches import Patches
from goldenami.provision.shell import Compilation, Script, Steps
from tests.provision.local import Here, run_here

# ``repositories``: the ids of those that are enabled. ``updates.json``: what each update is, by package.
PROGRAM = """#!/usr/bin/env python3
import fnmatch, json, sys
from pathlib import Path

here = Path(__file__).parent
ids = (here / "repositories").read_text().split()
updates = json.loads((here / "updates.json").read_text())
installed = json.loads((here / "installed.json").read_text())
if Path(__file__).name == "rpm":
    print(*(f"{name}.noarch\\t{version}" for name, version in installed.items()), sep="\\n")
    sys.exit()
words = [word for word in sys.argv[1:] if word not in ("-q", "-y", "--refresh")]
left_out = [word.removeprefix("--exclude=") for word in words if word.startswith("--exclude=")]
due = {
    name: update["version"]
    for name, update in updates.items()
    if ids
    and installed[name] != update["version"]
    and not any(fnmatch.fnmatch(name, pattern) for pattern in left_out)
    and (update["security"] or "--security" not in words)
}
if words[0] == "repolist" and ids:
    print("repo id          repo name")
    for id in ids:
        print(f"{id:16} Packages of {id}")
elif words[0] == "check-update" and due:
    print()
    for name, version in due.items():
        print(f"{name}.noarch    {version}    {ids[0]}")
    print("Obsoleting Packages")
    print("other.noarch    1    base")
    sys.exit(100)
elif words[0] == "upgrade":
    (here / "installed.json").write_text(json.dumps(installed | due))
"""
UPDATES = {"gold": {"version": "1.1-1", "security": False}, "safe": {"version": "1.2-1", "security": True}}


class InFolder(Patches):
    """Patches of a host whose caches are in a folder. The system of the tests may have another package manager."""

    caches: str

    def compile(self, to: Compilation) -> Steps:
        code = DNF.upgrades(self.level, self.exclude)
        assert "/var/cache/dnf" in code.check.text or self.level == "all"
        return Steps(Script(code.check.text.replace("/var/cache/dnf", self.caches)), code.apply, Script(":"))


class Machine:
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.caches = folder / "cache"
        for name in ("dnf", "rpm"):
            (folder / name).write_text(PROGRAM)
            (folder / name).chmod(0o755)
        (folder / "updates.json").write_text(json.dumps(UPDATES))
        (folder / "installed.json").write_text(json.dumps(dict.fromkeys(UPDATES, "1.0-1")))
        self.enable("base", "extras")

    def enable(self, *ids: str) -> None:
        (self.folder / "repositories").write_text("\n".join(ids))

    def cache(self, name: str) -> None:
        """The cache of a repository with advisories."""
        lists = self.caches / name / "repodata"
        lists.mkdir(parents=True)
        (lists / "0a1b-updateinfo.xml.gz").touch()

    def patch(self, level: str, *exclude: str) -> Here:
        fields = {"level": level, "exclude": exclude, "family": "dnf", "caches": str(self.caches)}
        return run_here(
            BoundOperation(InFolder.model_validate(fields), Mark("recipe.yaml", 1, 1)), path=str(self.folder)
        )

    def versions(self) -> dict[str, str]:
        found: dict[str, str] = json.loads((self.folder / "installed.json").read_text())
        return found


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


@pytest.mark.parametrize("level", ["all", "security"])
def test_no_repository_is_an_error(machine: Machine, level: str) -> None:
    machine.enable()
    machine.cache("base-0123456789abcdef")
    here = machine.patch(level)
    assert here.statuses == ["failed"]
    assert here.output[-1] == "this host has no enabled package repository, so no update can be found"
    assert "patches.level" in (find_hint("\n".join(here.output)) or "")


def test_security_updates_without_advisories_are_an_error(machine: Machine) -> None:
    (machine.caches / "base-0123456789abcdef/repodata").mkdir(parents=True)
    here = machine.patch("security")
    assert here.statuses == ["failed"]
    assert here.output[-1] == "no repository of this host has security advisories (updateinfo): base, extras"
    assert "updateinfo" in (find_hint(here.output[-1]) or "")
    assert machine.versions() == {"gold": "1.0-1", "safe": "1.0-1"}


@pytest.mark.parametrize("name", ["old-0123456789abcdef", "base-old-0123456789abcdef", "ol-0123456789abcdef"])
def test_advisories_of_a_repository_that_is_not_enabled_do_not_count(machine: Machine, name: str) -> None:
    machine.cache(name)
    assert machine.patch("security").statuses == ["failed"]
    machine.enable("base", name.removesuffix("-0123456789abcdef"))
    assert machine.patch("security").statuses == ["changed"]


def test_security_updates_are_counted_with_their_repositories(machine: Machine) -> None:
    machine.cache("extras-0123456789abcdef")
    here = machine.patch("security")
    assert here.details == ["1 of 2 updates installed, from base, extras"], list(here.output)
    assert "safe.noarch: 1.0-1 -> 1.2-1" in here.output
    assert machine.versions() == {"gold": "1.0-1", "safe": "1.2-1"}
    here = machine.patch("security")
    assert (here.statuses, here.details) == (["ok"], ["0 of 1 updates, from base, extras"])


def test_all_updates_are_counted_without_those_that_are_left_out(machine: Machine) -> None:
    assert machine.patch("all", "go*").details == ["1 of 2 updates installed, from base, extras"]
    assert machine.patch("all").details == ["1 of 1 updates installed, from base, extras"]
    here = machine.patch("all")
    assert (here.statuses, here.details) == (["ok"], ["0 of 0 updates, from base, extras"])
    assert machine.versions() == {"gold": "1.1-1", "safe": "1.2-1"}
