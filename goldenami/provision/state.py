"""The state of a host: files, services, users, listening ports, kernel settings, and the size of its disk.

The text is parsed by ``evidence.state``. It is read in the program that seals a builder, after the sealing, so it costs
no round trip and tells what is captured. systemd takes a while to list its units, of which the sealing removes one: it
does so beside the sealing (``UNITS_AHEAD``). Most of the time would be the digests of files that the sealing does not
touch. So they are read before it, while the recipe's stages run and gate 1 tests the host (``READ_AHEAD``). A digest
that was read ahead counts only for a file that is the same since: its inode, and the time of its last change. No
program can set that time, but on vfat, which has none and shows the time of the last write instead. The partition of
EFI, the only one that is usual, is mounted so that others cannot read its files, and these have no digest.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from goldenami.provision.program import Fact
from goldenami.provision.walk import WALKING, walk_below
from goldenami.shell import Script, lines, sh

# In memory, so it is in no image. The sealing uses and removes it: the suite base does not take it for something that
# was left behind, which it finds by the name of the program.
_AHEAD: Final = "/run/digests-ahead"
# With --root the same list is made without the first process, which would answer nobody else meanwhile.
_READ_UNITS: Final = Script(
    """read_units() {
set -- list-unit-files --no-legend --no-pager --plain
systemctl --root=/ "$@" >"$work/units-list" 2>/dev/null || systemctl "$@" >"$work/units-list" 2>/dev/null
mv "$work/units-list" "$work/units"
}
"""
)
# Code for xargs, which writes digests of files into the folder $0. A line is the digest, two characters and the path.
# openssl uses the processor's instructions for SHA-256, so it takes a third of the time of Debian's sha256sum, which is
# for hosts where openssl gives no right answer for a known file in time. sha256sum begins the line of a path that has a
# backslash or a carriage return with a backslash, and escapes both in it. sed undoes that, so that both give the same;
# line ends stand for the backslashes of the path meanwhile, because no line has one.
# The known file is also the last of each call: if its line is there, the others are whole. The exit status tells less:
# some versions of openssl end with the number of files that they could not read. A part that is not whole is left out
# and ends the reading (255): its last line could name another file.
_SUMS: Final = Script(
    r"""none=e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855
sums='openssl dgst -sha256 -r'
[ "$(timeout -k 1 10 $sums /dev/null 2>/dev/null)" = "$none */dev/null" ] || sums='sha256sum --'
plain='$ d; /^\\/ { s///; s/\\\\/\n/g; s/\\r/\r/g; s/\n/\\/g; }'
read_sums='made=$($sums "$@" /dev/null 2>/dev/null)
case "
$made" in *"
$none "?/dev/null) printf "%s\n" "$made" | sed "$plain" >"$0/part.$$" && mv "$0/part.$$" "$0/of.$$" && exit ;; esac
rm -f "$0/part.$$"
exit 255'
export none sums plain
"""
)
# The walk's lines of files that get a digest, for awk: others may read them, and they are smaller than 64 MiB.
_DIGESTED: Final = Script("""NF == 6 && $1 == "f" && $2 ~ /[4567]$/ && $4 < 67107840 { print $6 }""")


def state_below(top: str, ahead: str = "") -> Script:
    """Return code that prints the state of what is below a folder; empty for the root folder. ``$work`` must be a
    directory. ``ahead``: the folder of :func:`read_ahead_below`, if that was run. The code removes it."""
    text = Path(__file__).with_suffix(".sh").read_text(encoding="utf-8")
    # A reader that has not ended is ended: what it has not read is read now, by all processors.
    first = """export LC_ALL=C
_ahead=@ahead stamps=$work/stamps
[ -z "$_ahead" ] || [ ! -s "$_ahead/pid" ] || kill -s KILL -- "-$(cat "$_ahead/pid")" 2>/dev/null || :
"""
    functions = _READ_UNITS + _SUMS + walk_below(top)
    return sh(first, ahead=ahead) + functions + sh(text, top=Script(top), digested=_DIGESTED)


def read_ahead_below(top: str, ahead: str) -> Script:
    """Return code that reads the digests of files below a folder into a folder of its own, in the background and with
    the lowest priority, and ends at once. Without ``setsid`` it reads nothing. A second call begins again only if what
    the first one read is lost, as by a reboot. It begins when the boot is over. Other disks are left out: a stage can
    unmount them."""
    # First everything is written to the disk: a change of a page that is not yet written would set no time. A page that
    # is changed while that goes on has a time after the beginning.
    # The sealing needs several times as much of this memory, and other programs need some. So each list may take a
    # sixteenth of what is free (ulimit counts 512 bytes); if it needs more, nothing is read ahead. A part that cannot
    # be written as a whole is left out: its last line could name another file.
    reader = sh(
        """export LC_ALL=C
echo $$ >pid
trap 'rm -f pid' EXIT
work=. stamps=stamps
# The boot may still install or fetch. Its services have as large a share of the processors as all that a login starts.
tries=0
while [ "$tries" -lt 240 ]; do
case $(systemctl is-system-running 2>/dev/null) in initializing | starting) sleep 0.5 ;; *) break ;; esac
tries=$((tries + 1))
done
date +%s >began
sync
most=$(df -P -k . | awk 'NR == 2 { printf "%.0f", $4 / 8 }')
ulimit -f "$most" && {
@walk
}
for list in walk stamps; do
[ "$(wc -c <$list)" -lt $((most * 512)) ] || { rm -f began walk stamps; exit; }
done
@sums
awk -F '\\t' '@digested' walk | xargs -d '\\n' -r -P 8 -n 300 sh -c "$read_sums" . 2>/dev/null
""",
        sums=_SUMS,
        walk=walk_below(top, mounts=False),
        digested=_DIGESTED,
    )
    return sh(
        """if command -v setsid >/dev/null && [ ! -d @ahead ] && mkdir -m 0700 @ahead; then
(cd @ahead && exec setsid nice -n 19 sh -c @reader) </dev/null >/dev/null 2>&1 3>&- &
fi
exit 0
""",
        ahead=ahead,
        reader=reader.text,
    )


# What is done beside it stops the services that listen. The inventory waits for the list of files.
_FIRST: Final = lines(WALKING, Script("""ss -H -l -n -t -u >"$work/ports" 2>/dev/null"""))

STATE: Final = Fact("state", state_below("", _AHEAD), _FIRST)
"""The state of a host, as text for ``evidence.state.parse``."""
UNITS_AHEAD: Final = Fact("units-ahead", _READ_UNITS + Script("read_units"), Script(': >"$work/units-begun"'))
"""Reads ahead, in the same program, the list of systemd's units for ``STATE``; its text is empty."""
READ_AHEAD: Final = Fact("read-ahead", read_ahead_below("", _AHEAD))
"""Reads ahead the digests that ``STATE`` needs; its text is empty. It goes on after the program."""
