"""Red Hat Enterprise Linux 9, Rocky Linux 9 and AlmaLinux 9: validated, planned and compiled.

The sandbox has no instances of them. What dnf does on a host is proven in tests/provision, on one with rpm's database.
"""

from __future__ import annotations

import datetime
import subprocess
from pathlib import Path

import pytest

from goldenami import recipe
from goldenami.hardening import stages as hardening_stages
from goldenami.os import SYSTEMS, of_reference, of_release
from goldenami.provision import OPERATIONS, TRACES, PatchSpec, closing_stage, hints, patch_stage
from goldenami.provision.program import compile_program
from goldenami.recipe.hardening import of_profile
from goldenami.recipe.problems import Problems

ROOT = Path(__file__).parents[2]
PROJECT = recipe.load_project(ROOT)
FAMILY = ("rhel", "rocky", "almalinux")


@pytest.mark.parametrize(
    ("reference", "id", "user"),
    [
        ("RHEL-9.7.0_HVM-20261103-x86_64-0-Hourly2-GP3", "rhel", "ec2-user"),
        ("Rocky-9-EC2-Base-9.*.x86_64", "rocky", "rocky"),
        ("AlmaLinux OS 9.* x86_64", "almalinux", "ec2-user"),
    ],
)
def test_a_base_is_known_by_its_name(reference: str, id: str, user: str) -> None:
    found = of_reference(reference)
    assert found is SYSTEMS[id]
    assert found.login_user == user


def test_a_host_of_another_rebuild_is_known_by_what_it_is_like() -> None:
    assert of_release("rocky", "rhel centos fedora") is SYSTEMS["rocky"]
    assert of_release("eurolinux", "rhel fedora centos rocky") is SYSTEMS["rhel"]


def test_the_shipped_recipe_is_resolved_for_both_architectures() -> None:
    found = recipe.load(PROJECT, "rocky-9-base", recipe.environment(PROJECT, "sandbox"))
    assert found.os == "rocky"
    assert {a: base.value for a, base in found.base.items()} == {
        "x86_64": "Rocky-9-EC2-Base-9.*.x86_64",
        "arm64": "Rocky-9-EC2-Base-9.*.aarch64",
    }
    assert {builder.ssh_user for builder in found.builder.values()} == {"rocky"}
    labels = [bound.label for stage in found.provisioning["x86_64"] for bound in stage.operations]
    assert "package chrony" in labels
    for stages in found.provisioning.values():
        assert "chronyd" in compile_program(stages).text


@pytest.mark.parametrize("id", FAMILY)
def test_patches_are_dnfs(id: str) -> None:
    spec = PatchSpec.model_validate(
        {"level": "security", "releasever": "9.6", "exclude": ["kernel*"], "unattended": {"level": "security"}}
    )
    first, last = patch_stage(spec, os=id), closing_stage(spec, os=id)
    assert [o.label for o in first.operations] == [
        "wait for the end of the boot",
        "packages of release 9.6",
        "security updates",
        "reboot if one is needed",
    ]
    assert "package dnf-automatic" in [o.label for o in last.operations]
    program = compile_program([first, last]).text
    assert "dnf_do upgrade '--exclude=kernel*' --security" in program
    for shell in ("sh", "bash"):
        done = subprocess.run([shell, "-n"], input=program.encode(), capture_output=True, check=False)
        assert (done.returncode, done.stderr) == (0, b"")


@pytest.mark.parametrize("id", FAMILY)
def test_what_does_not_work_there_is_refused(id: str) -> None:
    name = SYSTEMS[id].name
    deb = OPERATIONS["deb"].model_validate({"name": "x", "url": "https://x.test/x.deb", "sha256": "1" * 64})
    assert deb.unfit(id) == f"{name} has no .deb packages: use package with url"
    suites = {"name": "x", "uris": ["https://x.test"], "suites": ["s"], "trusted": True}
    refused = OPERATIONS["repository"].model_validate(suites).unfit(id)
    assert refused == f"{name} uses dnf: a repository for dnf has no suites"
    profile = OPERATIONS["pam_profile"].model_validate({"name": "unix"})
    assert profile.unfit(id) == f"{name} has no pam-auth-update: use authselect"
    assert OPERATIONS["authselect"].model_validate({"profile": "sssd"}).unfit(id) is None


@pytest.mark.parametrize("id", FAMILY)
def test_the_profile_compiles_for_each_system(id: str) -> None:
    problems = Problems()
    found = of_profile(PROJECT, "rhel-9-level-1", problems, os=id)
    assert problems.found == []
    ids = {control.id for control in found.controls}
    assert {"selinux", "ssh-own-settings-first", "no-firewalld"} <= ids
    assert {"apparmor", "aide", "security-updates"} & ids == set()
    program = compile_program(hardening_stages(found.controls)).text
    # The crypto policy's drop-in would win over anything in sshd_config.
    assert "/etc/ssh/sshd_config.d/00-golden.conf" in program
    assert "/etc/sysconfig/nftables.conf" in program
    assert "authselect select sssd" in program
    assert "pam-auth-update" not in program.partition("check_0()")[2]
    done = subprocess.run(["sh", "-n"], input=program.encode(), capture_output=True, check=False)
    assert (done.returncode, done.stderr) == (0, b"")


def test_a_recipe_of_any_of_them_takes_the_profile(tmp_path: Path) -> None:
    (tmp_path / "goldenami.yaml").write_text("environments:\n  sandbox: {sandbox: true}\n")
    (tmp_path / "recipes").mkdir()
    for id in FAMILY:
        (tmp_path / f"recipes/{id}-9.yaml").write_text(
            f'name: {id}-9\nversion: "1.0"\nos: {id}\nbase: {{id: ami-0123456789abcdef0}}\n'
            "hardening: {profiles: [rhel-9-level-1]}\n"
        )
    project = recipe.load_project(tmp_path)
    environment = recipe.environment(project, "sandbox")
    for id in FAMILY:
        today = datetime.date(2026, 11, 28)
        found = recipe.load(project, f"{id}-9", environment, today=today).hardening["x86_64"]
        assert len(found.controls) > 80
        assert found.systems == FAMILY


def test_a_subscription_is_sealed_away_and_found_again(tmp_path: Path) -> None:
    trace = next(t for t in TRACES if t.name == "subscription")
    assert "/etc/pki/consumer/*.pem" in trace.find.text
    assert "/etc/pki/consumer/*.pem" in trace.remove.text
    moved = [str(tmp_path), "/etc/pki/consumer"]
    (tmp_path / "key.pem").write_text("x")
    find, remove = (code.text.replace(moved[1], moved[0]) for code in (trace.find, trace.remove))
    remove = remove.replace("/etc/", f"{tmp_path}/etc/").replace("/var/", f"{tmp_path}/var/")
    assert subprocess.check_output(["sh", "-c", find], text=True).split() == [str(tmp_path / "key.pem")]
    subprocess.run(["sh", "-c", remove], check=True)
    assert list(tmp_path.iterdir()) == []


def test_hints() -> None:
    said = "This system is not registered with an entitlement server. You can use subscription-manager to register."
    assert "change the base" in (hints.find_hint(said) or "")
