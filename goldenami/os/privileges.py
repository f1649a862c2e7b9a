"""Which files of a host give rights to other accounts."""

from __future__ import annotations

DISKS = """$(awk '$1 ~ "^/dev/" && $2 != "/" && $2 !~ "^/(dev|proc|run|sys)(/|$)" { print $2 }' /proc/mounts)"""
"""Shell code for the mount points of all disks but the root's."""

WALK = rf"""find / {DISKS} -xdev \( -path /proc -o -path /sys -o -path /run -o -path /snap \
-o -path /var/lib/docker -o -path /var/lib/containers -o -path /var/lib/containerd -o -path /var/lib/snapd \) \
-prune -o"""
"""The begin of a search of all disks, without the files of containers. It runs as root."""

SET_ID = rf"{WALK} -type f -perm /6000 -printf '%m %u:%g %p\n'"
"""Shell code that prints mode, owner, group and path of all files with the set-user-ID or set-group-ID bit."""
