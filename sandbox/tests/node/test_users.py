"""Users and groups of an image, against what the machine's own useradd writes; and files that are traps."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
from pathlib import Path

import pytest
from goldenami_sandbox.errors import SandboxError
from goldenami_sandbox.node import seed, users
from goldenami_sandbox.node.api import InstanceSpec
from goldenami_sandbox.node.rootfs import Rootfs
from goldenami_sandbox.node.userdata import User

DEFINITIONS = """\
UID_MIN 1000
UID_MAX 60000
SYS_UID_MIN 101
SYS_UID_MAX 999
HOME_MODE 0700
PASS_MAX_DAYS 99999
PASS_MIN_DAYS 0
PASS_WARN_AGE 7
USERGROUPS_ENAB yes
SUB_UID_MIN 100000
SUB_UID_COUNT 65536
SUB_GID_MIN 100000
SUB_GID_COUNT 65536
"""
FILES = {
    "passwd": (0o644, "root:x:0:0:root:/root:/bin/bash\ndaemon:x:1:1::/usr/sbin:/usr/sbin/nologin\n"),
    "shadow": (0o640, "root:*:19000:0:99999:7:::\ndaemon:*:19000:0:99999:7:::\n"),
    "group": (0o644, "root:x:0:\ndaemon:x:1:\nadm:x:4:daemon\nsudo:x:27:\nusers:x:100:\ntaken:x:1000:\n"),
    "gshadow": (0o640, "root:*::\ndaemon:*::\nadm:*::daemon\nsudo:*::\nusers:*::\ntaken:!::\n"),
    "subuid": (0o644, ""),
    "subgid": (0o644, ""),
    "login.defs": (0o644, DEFINITIONS),
}


def make(path: Path) -> Rootfs:
    etc = path / "etc"
    etc.mkdir(parents=True)
    for name, (mode, text) in FILES.items():
        (etc / name).write_text(text)
        (etc / name).chmod(mode)
    skeleton = etc / "skel"
    (skeleton / ".config").mkdir(parents=True)
    (skeleton / ".bashrc").write_text("# rc\n")
    (skeleton / ".config/one").write_text("1\n")
    (skeleton / ".link").symlink_to(".bashrc")
    (path / "home").mkdir()
    (path / "sbin").mkdir()
    (path / "sbin/init").write_text("")
    return Rootfs(path)


def picture(root: Path) -> dict[str, object]:
    """Everything that a user's creation changes. Backups of the files and the lock file are left out."""
    found: dict[str, object] = {}
    for file in sorted([*(root / "etc").iterdir(), *(root / "home").rglob("*")]):
        kind = file.lstat()
        if file.name.endswith("-") or file.name == ".pwd.lock" or file.name == "skel":
            continue
        content = str(file.readlink()) if file.is_symlink() else file.read_bytes() if file.is_file() else ""
        found[str(file.relative_to(root))] = (stat.filemode(kind.st_mode), kind.st_uid, kind.st_gid, content)
    return found


CASES = {
    "the default user": User("admin", groups=("adm", "sudo", "nothing")),
    "no groups": User("deploy", shell="/bin/sh"),
    "a group of that name": User("taken"),
    "a system user": User("agent", shell="/usr/sbin/nologin", home="/var/lib/agent", system=True),
}


@pytest.mark.root
@pytest.mark.parametrize("user", CASES.values(), ids=CASES.keys())
@pytest.mark.parametrize("mode", ["HOME_MODE 0750", "UMASK 027", "#HOME_MODE 0700"])
def test_it_is_what_useradd_writes(tmp_path: Path, user: User, mode: str) -> None:
    ours, theirs = make(tmp_path / "ours"), make(tmp_path / "theirs")
    for root in (ours, theirs):
        (root.root / "var/lib").mkdir(parents=True)
        (root.root / "etc/login.defs").write_text(DEFINITIONS.replace("HOME_MODE 0700", mode))
    users.ensure_user(ours, user)
    argv = ["useradd", "--prefix", str(theirs.root), "--shell", user.shell, "--create-home"]
    argv += ["--skel", str(theirs.root / "etc/skel")]
    argv += ["--home-dir", user.home] if user.home else []
    argv += ["--system"] if user.system else []
    argv += ["--no-user-group", "--gid", "100"] if user.name == "taken" else []
    known = [group for group in user.groups if group in ("adm", "sudo")]
    argv += ["--groups", ",".join(known)] if known else []
    subprocess.run([*argv, user.name], check=True, capture_output=True)
    assert picture(ours.root) == picture(theirs.root)
    before = picture(ours.root)
    users.ensure_user(ours, user)
    assert picture(ours.root) == before, "a second call changes nothing"


@pytest.mark.root
def test_no_program_of_the_image_is_run(tmp_path: Path) -> None:
    """A recipe can replace /usr/sbin/useradd by anything."""
    root = make(tmp_path / "image")
    for name in ("usr/sbin/useradd", "usr/sbin/usermod", "usr/bin/useradd", "bin/sh"):
        program = root.root / name
        program.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(shutil.which("touch") or "", program)
    spec = InstanceSpec("i-1", "10.0.0.2", "vol-1", hostname="web", ssh_public_key="ssh-ed25519 AAAA me")
    said = seed.seed(root, spec, seed.Surroundings("10.0.0.2", (), lambda _: {}))
    assert "error" not in said
    assert root.user("admin") == (1000, 1001, "/home/admin")
    assert root.read("/home/admin/.ssh/authorized_keys") == "ssh-ed25519 AAAA me\n"
    assert "sudo:x:27:admin\n" in root.read("/etc/group")


@pytest.mark.parametrize(
    ("user", "message"),
    [
        (User("a:b"), "'a:b' is not a valid user name"),
        (User("a\nroot2:x:0:0::/:/bin/sh"), "is not a valid user name"),
        (User("deploy", shell="/bin/sh\nroot2:x:0:0::/:/bin/sh"), "is not a valid shell"),
        (User("deploy", home="/home/x:y"), "is not a valid home directory"),
    ],
)
def test_what_passwd_cannot_hold(tmp_path: Path, user: User, message: str) -> None:
    root = make(tmp_path / "image")
    with pytest.raises(SandboxError, match=message):
        users.ensure_user(root, user)
    assert root.read("/etc/passwd") == FILES["passwd"][1]


# --- files that are traps ---------------------------------------------------------------------------------------------


@pytest.mark.root
def test_a_device_of_the_image_is_neither_read_nor_written(tmp_path: Path) -> None:
    """A device node is the host's. Here it is a loop device that is nobody's, with the number of the null device."""
    root = make(tmp_path / "image")
    node = root.root / "etc/hostname"
    os.mknod(node, 0o666 | stat.S_IFCHR, os.makedev(1, 3))
    with pytest.raises(SandboxError, match="/etc/hostname of the image is not a regular file"):
        root.read("/etc/hostname")
    root.write("/etc/hostname", "web\n")
    assert node.is_file()
    assert node.read_text() == "web\n"


def test_a_pipe_does_not_stop_the_sandbox(tmp_path: Path) -> None:
    root = make(tmp_path / "image")
    os.mkfifo(root.root / "etc/resolv.conf")
    with pytest.raises(SandboxError, match="not a regular file"):
        root.read("/etc/resolv.conf")
    root.write("/etc/resolv.conf", "nameserver 10.0.0.1\n")
    assert root.read("/etc/resolv.conf") == "nameserver 10.0.0.1\n"


def test_a_file_without_end_is_not_read(tmp_path: Path) -> None:
    root = make(tmp_path / "image")
    with (root.root / "etc/big").open("wb") as file:
        file.truncate(1 << 40)
    with pytest.raises(SandboxError, match="/etc/big of the image has more than 16 MiB"):
        root.read("/etc/big")
