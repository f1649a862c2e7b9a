"""Users and groups of an image, written into its files.

The programs of an image are untrusted, and the host runs none of them. The files get what ``useradd`` and ``usermod``
would write (passwd(5), shadow(5), group(5), gshadow(5), login.defs(5), subuid(5)).
"""

from __future__ import annotations

import os
import re
import stat
import time
from collections.abc import Collection
from pathlib import Path
from typing import Final

from goldenami_sandbox.errors import SandboxError
from goldenami_sandbox.node.rootfs import Rootfs
from goldenami_sandbox.node.userdata import User

_NAME: Final = re.compile(r"[a-z_][a-z0-9_.-]{0,31}")
_DAY: Final = 86400
_SUBORDINATE_IDS: Final = 65536
# What login.defs(5) gives for a key that the file does not have.
_DEFAULTS: Final = {
    "UID_MIN": 1000,
    "UID_MAX": 60000,
    "SYS_UID_MIN": 101,
    "SYS_UID_MAX": 999,
    "SUB_UID_MIN": 100000,
    "PASS_MIN_DAYS": 0,
    "PASS_MAX_DAYS": 99999,
    "PASS_WARN_AGE": 7,
    "UMASK": 0o022,
}
_OCTAL: Final = frozenset({"UMASK", "HOME_MODE"})
_USERS_GROUP: Final = 100  # the default group of useradd, if the user gets no group of its own


def ensure_user(root: Rootfs, user: User) -> None:
    """Create a user with its group and home directory, if there is none of this name, and add it to those of its groups
    that exist. A second call changes nothing. Raises SandboxError for a name or path that passwd(5) cannot hold."""
    if root.user(user.name) is None:
        _create(root, user)
    _join(root, user.name, user.groups)


def _create(root: Rootfs, user: User) -> None:
    home = user.home or f"/home/{user.name}"
    if not _NAME.fullmatch(user.name):
        raise SandboxError(f"{user.name!r} is not a valid user name")
    for what, text in (("home directory", home), ("shell", user.shell)):
        if not re.fullmatch(r"/[^:\n\0]*", text):
            raise SandboxError(f"{text!r} is not a valid {what} of the user {user.name}")
    settings = _login_definitions(root)
    uid = _free_id(root, "/etc/passwd", settings, system=user.system)
    own_group = user.name not in _column(root, "/etc/group", 0)
    gid = _free_id(root, "/etc/group", settings, system=user.system, best=uid) if own_group else _USERS_GROUP
    _append(root, "/etc/passwd", f"{user.name}:x:{uid}:{gid}::{home}:{user.shell}")
    ages = ("", "", "") if user.system else ("PASS_MIN_DAYS", "PASS_MAX_DAYS", "PASS_WARN_AGE")
    days = ":".join(str(settings[key]) if key else "" for key in ages)
    _append(root, "/etc/shadow", f"{user.name}:!:{int(time.time() // _DAY)}:{days}:::")
    if own_group:
        _append(root, "/etc/group", f"{user.name}:x:{gid}:")
        _append(root, "/etc/gshadow", f"{user.name}:!::")
    if not user.system:
        for file in ("/etc/subuid", "/etc/subgid"):
            if root.exists(file):
                _append(root, file, f"{user.name}:{_free_range(root, file, settings)}:{_SUBORDINATE_IDS}")
    if not root.exists(home):
        root.mkdir(home, settings["HOME_MODE"], (uid, gid))
        _copy_skeleton(root, home, (uid, gid))


def _join(root: Rootfs, name: str, groups: Collection[str]) -> None:
    """Add a user to the groups that exist."""
    members = 3  # the field with the members, in both files
    for file in ("/etc/group", "/etc/gshadow"):
        lines = [line.split(":") for line in root.read(file).splitlines()]
        changed = False
        for fields in lines:
            if fields[0] in groups and len(fields) > members:
                listed = [one for one in fields[members].split(",") if one]
                if name not in listed:
                    fields[members], changed = ",".join([*listed, name]), True
        if changed:
            _replace(root, file, "".join(":".join(fields) + "\n" for fields in lines))


def _login_definitions(root: Rootfs) -> dict[str, int]:
    """Return the numbers of login.defs(5). Masks and modes are octal."""
    found = dict(_DEFAULTS)
    for line in root.read("/etc/login.defs").splitlines():
        words = line.split()
        if len(words) < 2:
            continue
        digits, base = (r"[0-7]{1,4}", 8) if words[0] in _OCTAL else (r"-?[0-9]{1,9}", 10)
        if re.fullmatch(digits, words[1]):
            found[words[0]] = int(words[1], base)
    return {"HOME_MODE": 0o777 & ~found["UMASK"], **found}


def _free_id(root: Rootfs, file: str, settings: dict[str, int], *, system: bool, best: int | None = None) -> int:
    """Return an id that nothing in the file has: ``best`` if it is free. As with useradd, those of users count upwards,
    and those of system users downwards."""
    used = {int(text) for text in _column(root, file, 2) if text.isdecimal()}
    if best is not None and best not in used:
        return best
    first, last = ("SYS_UID_MIN", "SYS_UID_MAX") if system else ("UID_MIN", "UID_MAX")
    every = range(settings[first], settings[last] + 1)
    free = next((id for id in (reversed(every) if system else every) if id not in used), None)
    if free is None:
        raise SandboxError(f"{file} of the image has no free id from {settings[first]} to {settings[last]}")
    return free


def _free_range(root: Rootfs, file: str, settings: dict[str, int]) -> int:
    """Return the first id after all ranges of the file."""
    ends = [settings["SUB_UID_MIN"]]
    for line in root.read(file).splitlines():
        fields = line.split(":")
        if len(fields) == 3 and fields[1].isdecimal() and fields[2].isdecimal():
            ends.append(int(fields[1]) + int(fields[2]))
    return max(ends)


def _column(root: Rootfs, file: str, number: int) -> set[str]:
    rows = (line.split(":") for line in root.read(file).splitlines())
    return {fields[number] for fields in rows if len(fields) > number}


def _append(root: Rootfs, file: str, line: str) -> None:
    text = root.read(file)
    ending = "" if not text or text.endswith("\n") else "\n"
    _replace(root, file, f"{text}{ending}{line}\n")


def _replace(root: Rootfs, file: str, text: str) -> None:
    """Write a file with its mode and owner. A new one gets those of Debian."""
    try:
        known = root.path(file).stat()
    except FileNotFoundError:
        secret = file.endswith("shadow")
        root.write(file, text, 0o640 if secret else 0o644)
    else:
        root.write(file, text, stat.S_IMODE(known.st_mode), (known.st_uid, known.st_gid))


def _copy_skeleton(root: Rootfs, home: str, owner: tuple[int, int]) -> None:
    """Copy the regular files, directories and links of /etc/skel into a new home directory."""
    top = root.path("/etc/skel")
    for folder, folders, files in os.walk(top):
        inside = f"{home}/{Path(folder).relative_to(top)}"
        for name in folders:
            if not Path(folder, name).is_symlink():
                root.mkdir(f"{inside}/{name}", stat.S_IMODE(Path(folder, name).lstat().st_mode), owner)
        for name in (*files, *(one for one in folders if Path(folder, one).is_symlink())):
            source = Path(folder, name)
            if source.is_symlink():
                copy = root.path(inside) / name
                copy.symlink_to(source.readlink())
                os.lchown(copy, *owner)
            elif source.is_file():
                text = root.read_bytes(f"/etc/skel/{source.relative_to(top)}")
                root.write(f"{inside}/{name}", text, stat.S_IMODE(source.lstat().st_mode), owner)
