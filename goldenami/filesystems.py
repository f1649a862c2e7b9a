"""The file systems of a host that can be frozen (fsfreeze(8)), for programs that freeze them."""

from __future__ import annotations

from typing import Final

from goldenami.shell import Script

_FIELDS: Final = r"""
  for (i = 7; i <= NF && $i != "-"; i++);
  type = $(i + 1)
  split($3, number, ":")
  of_disk = number[1] != 0 || type ~ /^(btrfs|bcachefs|zfs)$/
  whole = $4 == "/" || type == "btrfs"
  writable = (","  $(i + 3) ",") ~ /,rw,/"""

LISTED: Final = Script(
    "\n{"
    + _FIELDS
    + r"""
  if (!of_disk || !whole || !writable || seen[$3]++) next
  what = type ~ /^(ext[234]|xfs|btrfs|f2fs|jfs|reiserfs|nilfs2)$/ ? "freeze" : "release"
  if ($5 == "/") root = what " " $5; else found[++count] = what " " $5
}
END {
  while (count) print found[count--]
  if (root) print root
}"""
)
"""A program of awk. It reads /proc/self/mountinfo, and prints a line for each file system of a disk that can be written
to: "freeze" or, if the kernel cannot freeze it, "release", and a mount point.

The last one that was mounted comes first, because it can be on a loop device whose file an earlier one has. The root
is last. Each file system is listed once, by a mount of its root: a bind mount of a subdirectory could belong to a
container.
mountinfo escapes spaces as ``\\040``, which ``printf %b`` decodes."""

ELSEWHERE: Final = Script(
    "\nNF == 0 { others = 1; next }\n{"
    + _FIELDS
    + r"""
  if (!others) { if (whole) here[$3] = 1 }
  else if (of_disk && writable && ("," $6 ",") ~ /,rw,/ && $5 !~ "^/run/host/" && !here[$3]++) print $5
}"""
)
"""A program of awk. It reads a mountinfo, an empty line, and those of other processes. It prints a mount point of each
file system of a disk that can be written to there, and of whose root the first mountinfo has no mount.
What a container has of its host's own files (/run/host, of systemd's container interface) is left out."""
