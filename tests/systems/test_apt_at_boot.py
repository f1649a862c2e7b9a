"""A builder fetches package lists while it boots, and the program uses them if a fetch would give the same."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from goldenami.os.managers.apt import APT

# A unit of systemd that ends at once. apt-get leaves a list, and notes its arguments.
SYSTEMD_RUN = '#!/bin/sh\nwhile [ "$1" != /bin/sh ]; do shift; done\nexec "$@"\n'
APT_GET = '#!/bin/sh\necho "$@" >>{0}/calls\n[ ! -e {0}/offline ] || exit 100\n: >{0}/var/lib/apt/lists/a_Packages\n'


class Host:
    """A folder with the files of apt, and programs that take the places of systemd-run and apt-get."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        for name in ("etc/apt", "etc/cloud/cloud.cfg.d", "var/lib/apt/lists", "run", "work", "bin"):
            (folder / name).mkdir(parents=True)
        (folder / "etc/apt/sources.list").write_text("deb https://first.example suite main\n")
        for name, text in (("systemd-run", SYSTEMD_RUN), ("apt-get", APT_GET.format(folder))):
            (folder / "bin" / name).write_text(text)
            (folder / "bin" / name).chmod(0o755)

    def run(self, script: str) -> None:
        for path in ("/etc/apt", "/etc/cloud", "/var/lib/apt", "/run/goldenami"):
            script = script.replace(path, f"{self.folder}{path}")
        start = f"PATH={self.folder}/bin:$PATH work={self.folder}/work flags={self.folder}/run/goldenami\n"
        subprocess.run(["sh", "-c", start + script], check=True)

    def boot(self) -> None:
        self.run(APT.at_boot.text)

    def refresh(self) -> None:
        self.run(f"{APT.functions}\napt_refresh")

    @property
    def calls(self) -> list[str]:
        calls = self.folder / "calls"
        return calls.read_text().splitlines() if calls.exists() else []


@pytest.fixture
def host(tmp_path: Path) -> Host:
    return Host(tmp_path)


def test_the_lists_of_the_boot_are_used(host: Host) -> None:
    host.boot()
    host.refresh()
    host.refresh()
    assert len(host.calls) == 1


@pytest.mark.parametrize("change", ["sources", "key", "flag", "lists", "offline", "old"])
def test_they_are_fetched_again_if_that_may_give_others(host: Host, change: str) -> None:
    if change == "offline":
        (host.folder / "offline").touch()
    host.boot()
    if change == "sources":  # cloud-init writes them during the boot
        (host.folder / "etc/apt/sources.list").write_text("deb https://second.example suite main\n")
    elif change == "key":
        (host.folder / "etc/apt/trusted.gpg").touch()
    elif change == "flag":
        (host.folder / "run/goldenami/stale-lists").touch()
    elif change == "lists":
        (host.folder / "var/lib/apt/lists/a_Packages").unlink()
    elif change == "offline":
        (host.folder / "offline").unlink()
    else:
        subprocess.run(["touch", "-d", "2 hours ago", host.folder / "run/goldenami/boot/fetched"], check=True)
    host.refresh()
    assert len(host.calls) == 2
    host.refresh()
    assert len(host.calls) == 2, "once a stage"


def test_dpkg_waits_for_the_disk_on_a_builder_too(host: Host) -> None:
    """A builder that crashes boots again and goes on: what dpkg says is installed must be on its disk."""
    host.boot()
    host.run(f"{APT.functions}\napt_get install x")
    assert ["unsafe-io" in call for call in host.calls if " install " in call] == [False]


@pytest.mark.parametrize(
    ("file", "text", "fetched"),
    [
        ("cloud.cfg", "package_update: true\n", False),
        ("cloud.cfg.d/90_own.cfg", "packages:\n - nginx\n", False),
        ("cloud.cfg.d/90_own.cfg", "apt_upgrade: 1  # at each first boot\n", False),
        ("cloud.cfg.d/90_own.cfg", '"packages": [nginx]\n', False),
        ("cloud.cfg", "package_update: false  # not here\npackages: []\n", True),
        ("cloud.cfg", "system_info:\n  package_mirrors: []\n", True),
    ],
)
def test_nothing_is_fetched_beside_what_the_base_installs_at_its_boot(
    host: Host, file: str, text: str, fetched: bool
) -> None:
    (host.folder / "etc/cloud" / file).write_text(text)
    host.boot()
    assert len(host.calls) == int(fetched)
    host.refresh()
    assert len(host.calls) == 1
