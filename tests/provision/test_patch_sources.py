"""Patches find their sources or fail: with the apt of this machine, whose lists and packages are in a folder."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from goldenami.model import Mark
from goldenami.provision import BoundOperation
from goldenami.provision.boot import BootEnded
from goldenami.provision.hints import find_hint
from goldenami.provision.patches import Patches
from tests.provision.archives import AptSuite, Key, build_deb, run
from tests.provision.local import Here, run_here

pytestmark = [
    pytest.mark.root,
    pytest.mark.skipif(shutil.which("apt-get") is None, reason="this machine has no apt"),
]


@pytest.fixture(scope="module")
def key(tmp_path_factory: pytest.TempPathFactory) -> Key:
    return Key.generate(tmp_path_factory.mktemp("key") / "gpg")


class Machine:
    """A folder with the state of apt and dpkg. ``main`` and ``security`` are archives."""

    def __init__(self, folder: Path, key: Key, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder = folder
        self.sources = folder / "etc/apt/sources.list"
        for name in ("etc/apt/sources.list.d", "etc/apt/preferences.d", "var/lib/dpkg/info", "var/lib/dpkg/updates"):
            (folder / name).mkdir(parents=True)
        for name in ("var/lib/apt/lists/partial", "var/cache/apt/archives/partial", "var/log"):
            (folder / name).mkdir(parents=True)
        (folder / "var/lib/dpkg/status").touch()
        (folder / "var/lib/dpkg/available").touch()
        config = folder / "apt.conf"
        config.write_text(
            f'Dir "{folder}";\nDir::State::status "{folder}/var/lib/dpkg/status";\nDir::Etc::Trusted "/none";\n'
            'Dir::Bin::methods "/usr/lib/apt/methods";\nAPT::Sandbox::User "root";\nAPT::Architecture "amd64";\n'
            f'DPkg::Options {{ "--root={folder}"; "--force-script-chrootless"; "--force-not-root"; }};\n'
            'Dir::Log "/dev/null";\n'
        )
        monkeypatch.setenv("APT_CONFIG", str(config))
        monkeypatch.setenv("DPKG_ADMINDIR", str(folder / "var/lib/dpkg"))
        self.key = key
        (folder / "key.asc").write_text(key.armored)
        self.main = AptSuite(folder / "main", key, "bookworm", label="Debian", origin="Debian")
        self.security = AptSuite(
            folder / "security", key, "bookworm-security", label="Debian-Security", origin="Debian"
        )
        for name in ("gold", "safe"):
            run("dpkg", f"--root={folder}", "-i", build_deb(folder / "base", name, "1.0"))
        # The program would believe that the lists of this machine, which may be fresh, are those of the folder.
        lists = "/var/lib/apt/lists"
        (folder / "bin").mkdir()
        (folder / "bin/find").write_text(
            f'#!/bin/sh\n[ "$1" != {lists} ] || {{ shift; set -- "{folder}{lists}" "$@"; }}\n'
            f'exec {shutil.which("find")} "$@"\n'
        )
        (folder / "bin/find").chmod(0o755)

    def use(self, *suites: AptSuite) -> None:
        lines = (f"deb [signed-by={self.folder}/key.asc] file://{s.root} {s.suite} main\n" for s in suites)
        self.sources.write_text("".join(lines))

    def patch(self, level: str, *exclude: str) -> Here:
        operation = Patches.model_validate({"level": level, "exclude": exclude, "family": "apt"})
        return run_here(BoundOperation(operation, Mark("recipe.yaml", 1, 1)), path=str(self.folder / "bin"))

    def versions(self) -> dict[str, str]:
        lines = run("dpkg-query", "-W", "-f", "${Package} ${Version}\n").splitlines()
        return dict(line.split() for line in lines)


@pytest.fixture
def machine(tmp_path: Path, key: Key, monkeypatch: pytest.MonkeyPatch) -> Machine:
    machine = Machine(tmp_path, key, monkeypatch)
    machine.main.add("gold", "1.1")
    machine.main.add("safe", "1.1")
    machine.security.add("safe", "1.2")
    machine.main.publish()
    machine.security.publish()
    return machine


@pytest.mark.parametrize("level", ["all", "security"])
def test_no_source_is_an_error(machine: Machine, level: str) -> None:
    machine.use()
    here = machine.patch(level)
    assert here.statuses == ["failed"]
    assert "this host has no package source" in here.output[-1]
    assert "patches.level" in (find_hint("\n".join(here.output)) or "")


def test_security_updates_without_a_security_archive_are_an_error(machine: Machine) -> None:
    machine.use(machine.main)
    here = machine.patch("security")
    assert here.statuses == ["failed"]
    assert here.output[-1] == "this host has no source of security updates: its package sources are Debian bookworm"
    assert "security archive" in (find_hint(here.output[-1]) or "")
    assert machine.versions() == {"gold": "1.0", "safe": "1.0"}


def test_security_updates_are_counted_with_their_sources(machine: Machine) -> None:
    machine.use(machine.main, machine.security)
    here = machine.patch("security")
    both = "Debian bookworm, Debian-Security bookworm-security"
    assert here.details == [f"1 of 2 updates installed, from {both}"], list(here.output)
    assert machine.versions() == {"gold": "1.0", "safe": "1.2"}
    here = machine.patch("security")
    assert (here.statuses, here.details) == (["ok"], [f"0 of 1 updates, from {both}"])


def test_all_updates_are_counted_without_those_that_are_left_out(machine: Machine) -> None:
    machine.use(machine.main, machine.security)
    assert machine.patch("all", "go*").details[0].startswith("1 of 2 updates installed")
    run("apt-mark", "hold", "gold")
    here = machine.patch("all")
    assert (here.statuses, here.details[0][:14]) == (["ok"], "0 of 1 updates")
    run("apt-mark", "unhold", "gold")
    assert machine.patch("all").details[0].startswith("1 of 1 updates installed")
    assert machine.versions() == {"gold": "1.1", "safe": "1.2"}


# --- the end of the boot ----------------------------------------------------------------------------------------------

SYSTEMCTL = """#!/bin/sh
state=$(dirname "$0")/state
read -r answers <"$state"
case $1 in
is-system-running) echo "${answers%% *}"; [ "$answers" = "${answers#* }" ] || echo "${answers#* }" >"$state" ;;
list-jobs) echo '12 cloud-final.service start running'; echo '13 multi-user.target start waiting' ;;
list-units) cat "$state.failed" 2>/dev/null ;;
esac
"""


def boot(folder: Path, answers: str, **limits: int) -> Here:
    (folder / "systemctl").write_text(SYSTEMCTL)
    (folder / "systemctl").chmod(0o755)
    (folder / "sleep").write_text("#!/bin/sh\n")
    (folder / "sleep").chmod(0o755)
    (folder / "state").write_text(answers + "\n")
    operation = BootEnded.model_validate(limits)
    return run_here(BoundOperation(operation, Mark("", 0, 0)), path=str(folder))


def test_the_first_stage_waits_for_the_boot(tmp_path: Path) -> None:
    here = boot(tmp_path, "initializing " + "starting " * 71 + "degraded")
    assert here.statuses == ["ok"]
    assert list(here.output) == ["15 s: the host is booting: cloud-final.service "]


def test_a_cloud_init_that_does_not_end_is_an_error(tmp_path: Path) -> None:
    here = boot(tmp_path, "starting", cloud_seconds=2)
    assert here.statuses == ["failed"]
    assert here.output[-1].strip() == "cloud-init did not end within 2 s: cloud-final.service"


def test_a_failure_of_cloud_init_is_told(tmp_path: Path) -> None:
    (tmp_path / "state.failed").write_text("cloud-config.service loaded failed failed Apply settings\n")
    here = boot(tmp_path, "degraded")
    assert (here.statuses, here.details) == (["ok"], ["cloud-init failed: cloud-config.service"])
    assert list(here.output) == ["cloud-init failed: cloud-config.service"]
