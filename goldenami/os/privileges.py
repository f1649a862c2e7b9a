"""Which files of a host give rights to other accounts."""

from __future__ import annotations

DISKS = """$(awk '$1 ~ "^/dev/" && $2 != "/" && $2 !~ "^/(dev|proc|run|sys)(/|$)" { print $2 }' /proc/mounts)"""
"""Shell code for the mount points of all disks but the root's."""

WALK = rf"""find / {DISKS} -xdev \( -path /proc -o -path /sys -o -path /run -o -path /snap \
-o -path /var/lib/docker -o -path /var/lib/containers -o -path /var/lib/containerd -o -path /var/lib/snapd \) \
-prune -o"""
"""The begin of a search of all disks, without the files of containers. It runs as root."""

_SET_ID = "-type f -perm /6000 -printf"
_FIELDS = r"%m %u:%g %p\n"

SET_ID = f"{WALK} {_SET_ID} '{_FIELDS}'"
"""Shell code that prints mode, owner, group and path of all files with the set-user-ID or set-group-ID bit."""

RIGHTS = rf"""{WALK} \( {_SET_ID} 'set-id {_FIELDS}' , -perm -0002 \( -type f -o -type d ! -perm -1000 \) \
! -path /tmp ! -path '/tmp/*' ! -path /var/tmp ! -path '/var/tmp/*' -printf 'writable %p\n' \)"""
"""Shell code that prints the same after the word set-id, and after the word writable the files to which every account
may write, and such directories without the sticky bit, outside of the temporary ones. It walks the disks once."""
