"""One look at every file of a host's disks, which the state and the inventory share.

The list is ``$work/walk``, with a line for each file: kind, mode, owner, size, target of a link and path, with tabs
between them. The first who needs it makes it, or waits for who is to make it (``WALKING``); if ``$stamps`` names a
file, it gets the time of the last change, the inode and the path of each file. What is mounted by the kernel, /tmp, and
a file that is mounted through a loop device are left out: they are in no image, or in it as one file. A file with a
line end in its name, or in the target of its link, or with a carriage return at the end of its name, has the kind and
the name ``?``, and what is in such a folder is left out: any user of the host could make it look like other files.
"""

from __future__ import annotations

from typing import Final

from goldenami.shell import Script, sh

WALKING: Final = Script(': >"$work/walking"')
"""Code that says, before others begin, that who has ``$stamps`` makes the list."""


def walk_below(top: str, *, mounts: bool = True) -> Script:
    """Return code that makes the list of what is below a folder; empty for the root folder. ``mounts``: also on the
    disks that are mounted there."""
    return sh(
        """_tries=0
[ -n "${stamps:-}" ] || while [ -e "$work/walking" ] && [ "$_tries" -lt 30000 ]; do
sleep 0.02
_tries=$((_tries + 1))
done
[ -e "$work/walk" ] || {
_mounts=''
[ @mounts = 0 ] || _mounts=$(awk -v top=@top/ \\
'$1 ~ "^/dev/" && $1 !~ "^/dev/loop" && $2 != "/" && index($2, top) == 1 { print $2 }' /proc/mounts)
_line_end='
' _return=$(printf '\\r')
_said=$(LC_ALL=C find @top/ $_mounts -xdev \\( -path @top/proc -o -path @top/sys -o -path @top/dev -o -path @top/run \\
-o -path @top/tmp -o -path @top/var/tmp \\) -prune -o \\( -name "*$_line_end*" -o -name "*$_return" \\
-o -lname "*$_line_end*" \\) -prune \\
-printf '?\\t%m\\t%U:%G\\t%s\\t\\t%h/?\\n' -o -printf '%y\\t%m\\t%U:%G\\t%s\\t%l\\t%p\\n' \\
${stamps:+-fprintf "$stamps" '%C@\\t%i\\t%p\\n'} 2>&1 >"$work/walk-part")
# It ends with 1 for what vanished or cannot be read, and also on a disk without space.
_ended=$?
case $_said in *'No space left'*) _ended=128 ;; esac
if [ "$_ended" -lt 128 ] && [ -z "$(tail -c 1 "$work/walk-part" 2>/dev/null)" ]; then
mv -f "$work/walk-part" "$work/walk"
else rm -f "$work/walk-part"; fi
} || :
rm -f "$work/walking"
""",
        top=Script(top),
        mounts=int(mounts),
    )
