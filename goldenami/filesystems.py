"""The file systems of a host that can be frozen (fsfreeze(8)), for programs that freeze them."""

from __future__ import annotations

from typing import Final

from goldenami.shell import Script

LISTED: Final = Script(r"""
{
  for (i = 7; $i != "-"; i++);
  type = $(i + 1)
  split($3, number, ":")
  of_disk = number[1] != 0 || type ~ /^(btrfs|bcachefs|zfs)$/
  whole = $4 == "/" || type == "btrfs"
  if (!of_disk || !whole || (","  $(i + 3) ",") !~ /,rw,/ || seen[$3]++) next
  what = type ~ /^(ext[234]|xfs|btrfs|f2fs|jfs|reiserfs|nilfs2)$/ ? "freeze" : "release"
  if ($5 == "/") root = what " " $5; else found[++count] = what " " $5
}
END {
  while (count) print found[count--]
  if (root) print root
}""")
"""A program of awk. It reads /proc/self/mountinfo, and prints a line for each file system of a disk that can be written
to: "freeze" or, if the kernel cannot freeze it, "release", and a mount point.

The last one that was mounted comes first, because it can be on a loop device whose file an earlier one has. The root
is last. Each file system is listed once, by a mount of its root: a bind mount of a subdirectory could belong to a
container.
mountinfo escapes spaces as ``\\040``, which ``printf %b`` decodes."""
