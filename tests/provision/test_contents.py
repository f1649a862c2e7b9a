"""The digest of the files of an image: the same for the same files, another one for any change that matters."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from goldenami import provision

FILES = {
    "etc/app/app.conf": "port = 80\n",
    "etc/shadow": "root:*:19000:0:99999:7:::\napp:!:20000:0:99999:7:::\n",
    "usr/bin/app": "#!/bin/sh\n",
    "var/lib/app/data with spaces": "1\n",
    "var/log/app.log": "started\n",
}


def digest(top: Path) -> str:
    code = f"work={top}/run\n{provision.contents_below(str(top)).text}"
    (top / "run").mkdir(exist_ok=True)
    return subprocess.run(["sh", "-euc", code], check=True, capture_output=True, text=True).stdout.strip()


@pytest.fixture
def top(tmp_path: Path) -> Path:
    for name, text in FILES.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    (tmp_path / "usr/bin/link").symlink_to("app")
    return tmp_path


def write(name: str, text: str) -> Callable[[Path], object]:
    def change(top: Path) -> None:
        (top / name).parent.mkdir(parents=True, exist_ok=True)
        (top / name).write_text(text)

    return change


def relink(top: Path) -> None:
    (top / "usr/bin/link").unlink()
    (top / "usr/bin/link").symlink_to("other")


@pytest.mark.parametrize(
    "change",
    [
        write("var/log/app.log", "started again\n"),
        write("var/lib/dpkg/status", "another order\n"),
        write("boot/../etc/hostname", "ip-10-0-0-7\n"),
        write("etc/shadow", "root:*:19500:0:99999:7:::\napp:!:20500:0:99999:7:::\n"),
        write("usr/lib/python3/__pycache__/x.pyc", "compiled at another time\n"),
        lambda top: os.utime(top / "etc/app/app.conf", (1, 1)),
    ],
    ids=["log", "packages", "hostname", "days", "bytecode", "time"],
)
def test_what_differs_between_equal_hosts_is_left_out(top: Path, change: Callable[[Path], object]) -> None:
    for folder in ("var/lib/dpkg", "usr/lib/python3", "boot"):
        (top / folder).mkdir(parents=True)
    before = digest(top)
    assert len(before) == 64
    change(top)
    assert digest(top) == before


@pytest.mark.parametrize(
    "change",
    [
        write("etc/app/app.conf", "port = 81\n"),
        write("var/lib/app/data with spaces", "2\n"),
        write("etc/app/new.conf", ""),
        write("etc/shadow", "root:*:19000:0:99999:7:::\napp:$6$x:20000:0:99999:7:::\n"),
        lambda top: (top / "usr/bin/app").chmod(0o755),
        relink,
        lambda top: (top / "usr/bin/app").unlink(),
    ],
    ids=["contents", "data", "new", "password", "mode", "link", "gone"],
)
def test_every_change_that_matters_is_seen(top: Path, change: Callable[[Path], object]) -> None:
    before = digest(top)
    change(top)
    assert digest(top) != before


@pytest.mark.parametrize("killed", ["find", "sort", "sort -z", "xargs", "cut -d:"])
def test_files_that_were_not_read_as_a_whole_have_no_digest(top: Path, killed: str) -> None:
    """The text of a fact has what its program says of errors."""
    code = provision.contents_below(str(top)).text
    name, _, option = killed.partition(" ")
    kill = "sh -c 'kill -s TERM $$'"
    code = f"""work={top}
{name}() {{ case " $* " in *" {option}"*) {kill} ;; *) command {name} "$@" ;; esac; }}
{code}"""
    done = subprocess.run(["sh", "-c", code], check=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert done.stdout.strip() == ""
