"""The list of all files of a host is there as a whole, or not at all."""

from __future__ import annotations

import subprocess
from pathlib import Path

from goldenami.provision.walk import walk_below


def walked(tmp_path: Path, before: str = "") -> Path:
    """Make the list of a folder with a file; return where it is."""
    work, top = tmp_path / "work", tmp_path / "top"
    work.mkdir(exist_ok=True)
    top.mkdir()
    (top / "file").write_text("x\n")
    code = f"work={work} stamps=''\n{before}\n{walk_below(str(top)).text}"
    subprocess.run(["sh", "-uc", code], check=True, capture_output=True)
    return work / "walk"


def test_what_vanishes_meanwhile_is_no_reason_to_have_no_list(tmp_path: Path) -> None:
    walk = walked(tmp_path, "find() { command find \"$@\"; echo 'find: x: No such file or directory' >&2; return 1; }")
    assert f"{tmp_path}/top/file\n" in walk.read_text()


def test_a_list_that_a_full_disk_cut_is_none(tmp_path: Path) -> None:
    (tmp_path / "work").mkdir()
    (tmp_path / "work/walk-part").symlink_to("/dev/full")
    assert not walked(tmp_path).is_symlink()


def test_a_list_without_its_last_line_end_is_none(tmp_path: Path) -> None:
    assert not walked(tmp_path, "find() { printf 'f\\n/a'; return 1; }").exists()
