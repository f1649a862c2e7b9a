"""What is shipped in hardening/, and the commands that show it."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

from goldenami import recipe as recipes
from goldenami.cli.harden import told
from goldenami.cli.main import main
from goldenami.hardening import CheckResult, Hardening
from goldenami.hardening.batch import Batch
from goldenami.recipe.controls import Library
from goldenami.recipe.hardening import of_profile
from goldenami.recipe.problems import Problems

ROOT = Path(__file__).parents[2]
PROJECT = recipes.load_project(ROOT)
NAMES = Library(PROJECT, Problems()).profile_names()


@cache
def profile(name: str, *, choices: bool = False) -> Hardening:
    problems = Problems()
    found = of_profile(PROJECT, name, problems, choices=choices)
    assert problems.found == []
    return found


@pytest.fixture(autouse=True)
def in_the_project(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str]:
    status = main(arguments)
    out, err = capsys.readouterr()
    sys.stderr.write(err)  # pytest shows it if the test fails
    return status, out


def test_all_systems_are_served() -> None:
    assert set(NAMES) >= {
        "al2023-level-1",
        *(f"{system}-level-{level}" for system in ("debian-12", "debian-13", "ubuntu-24.04") for level in (1, 2)),
    }


@pytest.mark.parametrize("name", [n for n in NAMES if n.endswith("-2")])
def test_level_2_includes_level_1(name: str) -> None:
    lower, higher = profile(name[:-1] + "1"), profile(name)
    assert {c.id for c in lower.controls} < {c.id for c in higher.controls}
    assert {c.level for c in lower.controls} == {1}
    assert {c.level for c in higher.controls} == {1, 2}


@pytest.mark.parametrize("name", NAMES)
def test_every_control_does_something_and_proves_it(name: str) -> None:
    found = profile(name, choices=True)
    assert len(found.controls) > 80
    for control in found.controls:
        assert control.operations, control.id
        assert control.checks, control.id
        assert not control.title.endswith("."), control.id
        assert control.why.endswith("."), control.id
    groups = [control.exclusive for control in profile(name).controls if control.exclusive]
    assert sorted(groups) == ["firewall", "log", "time"]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("shell", ["sh", "bash"])
def test_the_checks_are_shell(name: str, shell: str) -> None:
    """All of them together, as they are sent."""
    program = Batch.of(profile(name, choices=True).controls).program
    done = subprocess.run([shell, "-n"], input=program, capture_output=True, check=False)
    assert (done.returncode, done.stderr) == (0, b"")


def test_references_name_a_benchmark_and_a_section() -> None:
    for control in profile("debian-12-level-2", choices=True).controls:
        for reference in control.references:
            assert re.fullmatch(r"CIS Debian 12 \d+(\.\d+)+", reference), (control.id, reference)


def test_list(capsys: pytest.CaptureFixture[str]) -> None:
    status, output = run(capsys, "harden", "list", "--json")
    assert status == 0
    assert {row["name"]: row["controls"] for row in json.loads(output)["profiles"]} == {
        name: len(profile(name).controls) for name in NAMES
    }
    status, output = run(capsys, "harden", "list", "debian-12-level-1", "--json")
    ids = [control["id"] for control in json.loads(output)["controls"]]
    assert ids == [control.id for control in profile("debian-12-level-1").controls]
    status, output = run(capsys, "harden", "list", "debian-12-level-1")
    assert [line.split()[0] for line in output.splitlines()] == ids


def test_explain(capsys: pytest.CaptureFixture[str]) -> None:
    status, output = run(capsys, "harden", "explain", "ssh-no-root-login")
    assert status == 0
    assert output.startswith("ssh-no-root-login: Root cannot log in over SSH\n")
    assert "sshd_value permitrootlogin\n      expects 'no'" in output
    assert "CIS Debian 12 5.1.20" in output
    status, output = run(capsys, "harden", "explain", "firewall-ufw", "--json")
    [control] = json.loads(output)["controls"]
    assert control["exclusive"] == "firewall"
    status, output = run(capsys, "harden", "explain", "time-chrony")
    assert "not beside  systemd-timesyncd, ntp, ntpsec, openntpd\n" in output


def test_unknown_names_have_a_suggestion(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["harden", "explain", "ssh-no-rot-login"]) == 3
    assert "ssh-no-root-login" in capsys.readouterr().err
    assert main(["harden", "list", "debian-12-level-3"]) == 3
    assert "debian-12-level-" in capsys.readouterr().err
    assert main(["harden", "check", "192.0.2.1"]) == 2


def test_coverage(capsys: pytest.CaptureFixture[str]) -> None:
    status, output = run(capsys, "harden", "coverage", "debian-12-hardened", "--json")
    assert status == 0
    rows = {row["profile"]: row for row in json.loads(output)["profiles"]}
    assert set(rows) == {n for n in NAMES if n.startswith("debian")}
    assert rows["debian-12-level-2"]["chosen"]
    assert not rows["debian-12-level-1"]["chosen"]
    for name in ("debian-12-level-1", "debian-12-level-2"):
        assert rows[name]["applied"] == rows[name]["controls"] == len(profile(name).controls)
        assert rows[name]["lacking"] == []
    status, output = run(capsys, "harden", "coverage", "debian-12-web")
    assert status == 0
    assert "  0 of" in output


def test_the_modules_that_a_system_needs_stay() -> None:
    """The EFI system partition is vfat with names in a code page; snapd decides about squashfs."""
    needed = {"vfat", "fat", "nls_cp437", "nls_iso8859_1", "nls_ascii", "ext4", "xfs", "nvme", "ena"}
    for name in NAMES:
        controls = profile(name, choices=True).controls
        disabled = {
            o.operation.inner.model_dump()["name"].replace("-", "_"): control
            for control in controls
            for o in control.operations
            if o.operation.inner.kind == "kernel_module"
        }
        assert len(disabled) > 5
        assert not needed & set(disabled)
        assert "squashfs" not in disabled or "snapd" in disabled["squashfs"].otherwise


def test_a_full_disk_does_not_stop_the_machine() -> None:
    """Unless the site says so: no action of the audit daemon halts it, or leaves it in single user mode."""
    for name in (n for n in NAMES if n.endswith("-2")):
        [control] = [c for c in profile(name).controls if c.id == "audit-log"]
        values = {(d := o.operation.model_dump())["key"]: d["value"] for o in control.operations}
        assert values["space_left_action"] == "email"
        assert values["admin_space_left_action"] == values["disk_full_action"] == "rotate"
        assert values["disk_error_action"] == "syslog"
        assert set(control.site) == {
            f"audit_{when}" for when in ("space_left", "admin_space_left", "disk_full", "disk_error")
        }


def test_check_tells_level_and_title_and_the_reason_below() -> None:
    controls = {control.id: control for control in profile("debian-12-level-2").controls}
    verdicts = {
        "ssh-few-attempts": CheckResult("failed", "ssh-few-attempts: the host's value is '6'; expected: at most 3"),
        "module-squashfs": CheckResult("not-applicable", "snapd is installed"),
        "audit-log": CheckResult("passed"),
    }
    assert list(told(controls, verdicts)) == [
        f"ssh-few-attempts (level 1): {controls['ssh-few-attempts'].title}",
        "    the host's value is '6'; expected: at most 3",
        "not applicable: module-squashfs (level 2): The kernel cannot mount squashfs filesystems",
        "    snapd is installed",
        f"holds: audit-log (level 2): {controls['audit-log'].title}",
    ]
