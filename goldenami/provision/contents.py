"""A digest of the files of a host that become an image, to see whether two images have the same.

It covers the names, types, permissions, owners and targets of links of all files, and the contents of regular files.
Left out is what differs between two hosts with the same packages: what a boot, the network, a package manager or a log
writes, caches, and the initial RAM disk, which is made of other files. The packages are compared by their own list.
A file that is not left out, and differs at each build, is no danger: the build then makes a release.
"""

from __future__ import annotations

from typing import Final

from goldenami.provision.program import Fact
from goldenami.shell import Script, lines, sh

_STATE: Final = "amazon apt chrony cloud dhclient dhcp dnf dpkg initramfs-tools logrotate NetworkManager rpm systemd"
LEFT_OUT: Final = (
    *("/proc", "/sys", "/dev", "/run", "/tmp", "/var/tmp", "/lost+found", "/var/log", "/var/cache", "/var/backups"),
    *(f"/var/lib/{name}" for name in (*_STATE.split(), "ubuntu-advantage", "update-notifier")),
    *("/usr/lib/sysimage", "/boot/initrd*", "/boot/initramfs*", "/etc/ld.so.cache"),
    *(
        "/etc/hostname",
        "/etc/resolv.conf",
        "/etc/netplan/50-cloud-init.yaml",
        "/etc/network/interfaces.d/50-cloud-init*",
    ),
    *("/etc/passwd-", "/etc/group-", "/etc/subuid-", "/etc/subgid-", "/etc/gshadow-"),
    "/etc/shadow*",  # has the days of the last changes; the rest of it is below
)


def contents_below(top: str) -> Script:
    """Return code that prints the digest of the files below a folder, and of all disks that are mounted there; empty
    for the root folder. It prints nothing if a list was cut, as by the end of a program: that is no digest of the
    files. Nor does it print errors: a fact has them in its text. ``$work`` must be a directory."""
    # With what is below: a disk can be mounted there, at which a search begins.
    paths = [f"{top}{path}{end}" for path in LEFT_OUT for end in ("", "/*")]
    left_out = lines(*(sh('set -- "$@" -o -path @path', path=path) for path in paths))
    return sh(
        """exec 2>/dev/null
export LC_ALL=C
set -- -name __pycache__
@left_out
_mounts=$(awk -v top=@top/ '$1 ~ "^/dev/" && $2 != "/" && index($2, top) == 1 { print $2 }' /proc/mounts)
_files() { find @top/ $_mounts -xdev \\( "$@" \\) -prune -o -type f -print0; _known $?; }
_list() { find @top/ $_mounts -xdev \\( "$@" \\) -prune -o -printf '%y %m %U:%G %l %p\\n'; _known $?; }
# A directory or a file may have vanished, or be one that cannot be read: then find ends with 1, and xargs with 123.
_known() { [ "$1" -le 1 ] || : >"$work/contents-cut"; }
_sum=$({
{ _list "$@" | sort &&
_files "$@" | { sort -z || _known 2; } | { xargs -0 -r sha256sum -- || [ $? = 123 ]; }; } || _known 2
[ ! -r @top/etc/shadow ] || cut -d: -f1,2,4- @top/etc/shadow || _known 2
} | sha256sum | cut -d' ' -f1)
if [ ! -e "$work/contents-cut" ]; then printf '%s\\n' "$_sum"; fi""",
        left_out=left_out,
        top=top,
    )


CONTENTS = Fact("contents", contents_below(""))
"""The digest of the files of a host."""
