"""The programs that edit files of which a system has just one, where a test cannot have its own: fstab and GRUB's."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from goldenami import provision

FOLDER = Path(provision.__file__).parent / "awk"


def run(program: str, *files: Path, **values: str) -> tuple[int, str]:
    environment = {"PATH": "/usr/bin:/bin", **{f"_{name}": value for name, value in values.items()}}
    command = ["awk", "-f", str(FOLDER / f"{program}.awk"), *map(str, files)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    return done.returncode, done.stdout or done.stderr


# --- kernel arguments -------------------------------------------------------------------------------------------------

ARGUMENTS = [
    ('GRUB_CMDLINE_LINUX=""\n', "present", 'GRUB_CMDLINE_LINUX="audit=1"\n', "is not set"),
    ("GRUB_CMDLINE_LINUX=\n", "present", 'GRUB_CMDLINE_LINUX="audit=1"\n', "is not set"),
    ("# nothing\n", "present", '# nothing\nGRUB_CMDLINE_LINUX="audit=1"\n', "is not set"),
    ('GRUB_CMDLINE_LINUX="a b=c" # why\n', "present", 'GRUB_CMDLINE_LINUX="a b=c audit=1" # why\n', "is not set"),
    ("GRUB_CMDLINE_LINUX='audit=0 x'\n", "present", "GRUB_CMDLINE_LINUX='x audit=1'\n", "is audit=0"),
    ('GRUB_CMDLINE_LINUX="x audit=1"\n', "present", 'GRUB_CMDLINE_LINUX="x audit=1"\n', ""),
    (
        'GRUB_CMDLINE_LINUX_DEFAULT="quiet audit=0"\nGRUB_CMDLINE_LINUX="audit=1"\n',
        "present",
        'GRUB_CMDLINE_LINUX_DEFAULT="quiet"\nGRUB_CMDLINE_LINUX="audit=1"\n',
        "is audit=0",
    ),
    ('GRUB_CMDLINE_LINUX="auditing audit x"\n', "absent", 'GRUB_CMDLINE_LINUX="auditing x"\n', "is audit"),
    ('GRUB_CMDLINE_LINUX="auditing"\n', "absent", 'GRUB_CMDLINE_LINUX="auditing"\n', ""),
]


@pytest.mark.parametrize(("before", "state", "after", "found"), ARGUMENTS)
def test_arguments_of_the_kernel(tmp_path: Path, before: str, state: str, after: str, found: str) -> None:
    file = tmp_path / "grub"
    file.write_text(before)
    values = {"name": "audit", "word": "audit=1", "state": state}
    assert run("arguments", file, mode="check", **values) == (1 if found else 0, f"{found}\n" if found else "")
    assert run("arguments", file, mode="edit", **values) == (0, after)
    file.write_text(after)
    assert run("arguments", file, mode="check", **values) == (0, "")
    assert run("arguments", file, mode="edit", **values) == (0, after)


@pytest.mark.parametrize(
    ("mode", "text", "found"),
    [
        ("menu", "menuentry x {\n\tlinux /boot/vmlinuz root=UUID=1 ro audit=1 quiet\n}\n", ""),
        ("menu", "\tlinux /vmlinuz audit=1\n\tlinux /vmlinuz single\n", "is not set\n"),
        ("menu", "\tlinux\t/vmlinuz audit=0\n", "is audit=0\n"),
        ("grubby", 'index=0\nargs="ro audit=1"\nindex=1\nargs="ro audit=1"\n', ""),
        ("grubby", 'index=0\nargs="ro audit=1"\nindex=1\nargs="ro"\n', "is not set\n"),
    ],
)
def test_arguments_that_a_boot_loader_has(tmp_path: Path, mode: str, text: str, found: str) -> None:
    file = tmp_path / "menu"
    file.write_text(text)
    status, output = run("arguments", file, mode=mode, name="audit", word="audit=1", state="present")
    assert (status, output) == (1 if found else 0, found)


# --- mounts -----------------------------------------------------------------------------------------------------------

FSTAB = "# fstab\nUUID=1 / ext4 rw,discard 0 1\ntmpfs\t/tmp tmpfs defaults,exec,size=1G 0 0\n"
LIVE = (
    "/dev/root / ext4 rw,relatime 0 0\ntmpfs /dev/shm tmpfs rw,nosuid,size=10k 0 0\ntmpfs /tmp tmpfs rw,relatime 0 0\n"
)
KEEP = {"source": "", "type": ""}
NEW = {"source": "/dev/x y", "type": "ext4", "pass": "2"}

MOUNTS: list[tuple[dict[str, str], str, str]] = [
    # values; what the check says; the last line of the new fstab, or "" if it is as before
    ({"point": "/tmp", "options": "nodev,noexec", **KEEP}, "its options are defaults,exec,size=1G",
     "tmpfs /tmp tmpfs defaults,size=1G,nodev,noexec 0 0"),
    ({"point": "/tmp", "options": "size=2G", **KEEP}, "its options are defaults,exec,size=1G",
     "tmpfs /tmp tmpfs defaults,exec,size=2G 0 0"),
    ({"point": "/tmp", "options": "size=1G", "state": "boot", **KEEP}, "", ""),
    ({"point": "/tmp", "options": "exec", "state": "mounted", **KEEP}, "its options are defaults,exec,size=1G",
     "tmpfs /tmp tmpfs defaults,size=1G,exec 0 0"),
    ({"point": "/dev/shm", "options": "nodev", **KEEP}, "is not in /etc/fstab",
     "tmpfs /dev/shm tmpfs defaults,nodev 0 0"),
    ({"point": "/srv/a b", "options": "", **NEW}, "is not in /etc/fstab",
     "/dev/x\\040y /srv/a\\040b ext4 defaults 0 2"),
    ({"point": "/tmp", "options": "mode=1777", "source": "tmpfs", "type": "tmpfs"},
     "its options are defaults,exec,size=1G",
     "tmpfs /tmp tmpfs mode=1777 0 0"),
]  # fmt: skip


@pytest.mark.parametrize(("values", "found", "last"), MOUNTS)
def test_mounts(tmp_path: Path, values: dict[str, str], found: str, last: str) -> None:
    values = {"dump": "0", "pass": "0", "state": "boot", **values}
    fstab = tmp_path / "fstab"
    fstab.write_text(FSTAB)
    live = tmp_path / "mounts"
    live.write_text(LIVE)
    # awk tells the files apart by name.
    program = tmp_path / "mounts.awk"
    program.write_text((FOLDER / "mounts.awk").read_text().replace("/proc/self/mounts", str(live)))

    def step(mode: str) -> tuple[int, str]:
        environment = {"PATH": "/usr/bin:/bin", "_mode": mode, **{f"_{k}": v for k, v in values.items()}}
        command = ["awk", "-f", str(program), str(fstab), str(live)]
        done = subprocess.run(command, env=environment, capture_output=True, text=True)
        return done.returncode, done.stdout or done.stderr

    assert step("check") == (1 if found else 0, f"{found}\n" if found else "")
    status, after = step("edit")
    assert status == 0
    assert after.startswith("# fstab\nUUID=1 / ext4 rw,discard 0 1\n"), "what is not meant stays"
    assert after == FSTAB if not last else after.splitlines()[-1] == last
    fstab.write_text(after)
    assert step("edit") == (0, after)
    if values["state"] == "boot":
        assert step("check") == (0, "")


def test_a_mount_with_other_options_is_reported(tmp_path: Path) -> None:
    fstab = tmp_path / "fstab"
    fstab.write_text("tmpfs /proc tmpfs nosuid,noatime 0 0\n")
    values = {"point": "/proc", "options": "noatime", "source": "", "type": "", "dump": "0", "pass": "0"}
    status, output = run("mounts", fstab, Path("/proc/self/mounts"), mode="check", state="mounted", **values)
    assert status == 1
    assert output.startswith("is mounted rw,")
    status, output = run("mounts", fstab, Path("/proc/self/mounts"), mode="check", state="boot", **values)
    assert (status, output) == (0, "")


def test_an_unknown_mount_point_is_refused(tmp_path: Path) -> None:
    fstab = tmp_path / "fstab"
    fstab.write_text(FSTAB)
    values = {"point": "/no where", "options": "nodev", "source": "", "type": "", "state": "boot"}
    status, output = run("mounts", fstab, Path("/proc/self/mounts"), mode="check", **values)
    assert (status, output.strip()) == (
        2,
        "/no where is not a mount point and not in /etc/fstab: give its source and fstype",
    )
