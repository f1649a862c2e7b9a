"""PID 1 of guests without systemd: what it shows of the machine, and what ends it."""

from __future__ import annotations

import struct
import subprocess
import sys
from pathlib import Path

import pytest
from goldenami_sandbox.node import guestinit

_LOOK = """\
import errno, os, sys
sys.path.insert(0, sys.argv[1])
import guestinit
guestinit.make_root(sys.argv[2])
print(sorted(os.listdir("/")), os.listdir("/sys/fs/cgroup"), os.path.isdir("/sys/class/net"))
for path in ("/sys/fs/cgroup/group", "/sys/kernel/group"):
    try:
        os.mkdir(path)
    except OSError as error:
        print(errno.errorcode[error.errno])
"""


@pytest.mark.root
def test_a_guest_sees_no_cgroups_and_cannot_write_to_sys(tmp_path: Path) -> None:
    (tmp_path / "root").mkdir()
    argv = ["unshare", "--mount", "--pid", "--fork", "--kill-child", sys.executable, "-I", "-S", "-c", _LOOK]
    folder = str(Path(guestinit.__file__).parent)
    done = subprocess.run([*argv, folder, str(tmp_path / "root")], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    seen, *refused = done.stdout.splitlines()
    assert seen == "['dev', 'proc', 'run', 'sys'] [] True"
    assert refused == ["EROFS", "EROFS"]


def request(level: str, *, magic: int = 0x03091969, command: int = 1) -> bytes:
    return struct.pack("=iiii368x", magic, command, ord(level), 0)


def test_only_whole_requests_end_a_guest() -> None:
    assert guestinit.wish(request("0")) == guestinit.POWER_OFF
    assert guestinit.wish(request("6")) == guestinit.REBOOT
    for other in (request("1"), request("0", magic=1), request("0", command=3), request("0")[:-1], b"0\n", b""):
        assert guestinit.wish(other) is None
