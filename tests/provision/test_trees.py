"""Directories as sources: what is read of them, and what a host has afterwards."""

from __future__ import annotations

import os
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from goldenami.provision import BoundOperation, trees
from goldenami.provision.trees import read_files, read_tree
from goldenami.reading import ANYWHERE, Files, Refused
from tests.provision.examples import ODD, bind
from tests.provision.local import run_here

ME = str(os.getuid()), str(os.getgid())


@pytest.fixture
def source(tmp_path: Path) -> Path:
    top = tmp_path / "source"
    (top / "conf/empty").mkdir(parents=True)
    (top / "conf/odd").mkdir()
    (top / f"conf/odd/{ODD.replace('/', '')}").write_text("odd")
    (top / "conf/dev\\x2d.mount").write_text("unit")
    (top / "run.sh").write_text("#!/bin/sh\n")
    (top / "run.sh").chmod(0o700)
    (top / "key.pem").write_text("key")
    (top / "to").symlink_to("/etc/shadow")
    return top


def copy(source: Path, dest: Path, **fields: Any) -> BoundOperation:
    select = {name: fields[name] for name in ("match", "exclude") if name in fields}
    payload = read_tree(source, ANYWHERE, **select)
    return bind("tree", payload=payload, src="source", dest=str(dest), owner=ME[0], group=ME[1], **fields)


def listed(top: Path) -> dict[str, str]:
    """Every path below a directory, with its mode, or the target of a link."""
    return {
        str(path.relative_to(top)): str(path.readlink()) if path.is_symlink() else f"{path.stat().st_mode & 0o7777:04o}"
        for path in sorted(top.rglob("*"))
    }


@pytest.mark.parametrize("shell", ["sh", "bash"])
def test_a_directory_is_copied_once_and_stays_so(source: Path, tmp_path: Path, shell: str) -> None:
    dest = tmp_path / "new/dest [a]*"
    operation = copy(source, dest, modes={"*.pem": "0600", "conf/odd/*": "0444"})
    assert run_here(operation, mode="check", shell=shell).statuses == ["changed"]
    assert not dest.exists()
    first, second = (run_here(operation, shell=shell) for _ in range(2))
    assert (first.statuses, second.statuses, second.details) == (["changed"], ["ok"], [""])
    assert first.details == ["files that were written: 4"]
    assert listed(dest) == {
        "conf": "0755",
        "conf/dev\\x2d.mount": "0644",
        "conf/empty": "0755",
        "conf/odd": "0755",
        f"conf/odd/{ODD.replace('/', '')}": "0444",
        "key.pem": "0600",
        "run.sh": "0755",
        "to": "/etc/shadow",
    }
    assert (dest / "conf/dev\\x2d.mount").read_text() == "unit"


@pytest.mark.parametrize(
    ("harm", "detail"),
    [
        (lambda d: (d / "key.pem").write_text("KEY"), "key.pem differs"),
        (lambda d: (d / "conf/dev\\x2d.mount").write_text("Unit"), "dev"),
        (lambda d: (d / "run.sh").chmod(0o644), "run.sh is 644"),
        (lambda d: (d / "key.pem").unlink(), "key.pem is not there"),
        (lambda d: (d / "key.pem").rename(d / "x") and (d / "key.pem").symlink_to("x"), "no regular file"),
        (lambda d: (d / "conf/empty").rmdir(), "empty is not there"),
        (lambda d: (d / "to").unlink(), "does not link to /etc/shadow"),
        (lambda d: (d / "to").unlink() or (d / "to").symlink_to("/etc"), "does not link to /etc/shadow"),
    ],
)
def test_what_differs_is_found_and_mended(source: Path, tmp_path: Path, harm: Any, detail: str) -> None:
    dest = tmp_path / "dest"
    run_here(copy(source, dest))
    before = listed(dest)
    harm(dest)
    found = run_here(copy(source, dest), mode="check")
    assert found.statuses == ["changed"]
    assert detail in found.details[0]
    assert run_here(copy(source, dest)).statuses == ["changed"]
    assert {path: mode for path, mode in listed(dest).items() if path != "x"} == before


def test_directories_of_the_host_stay_as_they_are(source: Path, tmp_path: Path) -> None:
    """As /lib, which is a link on most hosts, and /root, which is closed."""
    real, dest = tmp_path / "usr-conf", tmp_path / "dest"
    real.mkdir(mode=0o700)
    dest.mkdir(mode=0o711)
    (dest / "conf").symlink_to(real)
    assert run_here(copy(source, dest)).statuses == ["changed"]
    assert (dest / "conf").is_symlink()
    assert (real / "empty").is_dir()
    assert [path.stat().st_mode & 0o777 for path in (real, dest)] == [0o700, 0o711]
    assert run_here(copy(source, dest, directories="0750")).statuses == ["changed"]
    assert [path.stat().st_mode & 0o777 for path in (real, dest, dest / "conf/odd")] == [0o750] * 3


def test_what_is_in_the_way_ends_the_operation(source: Path, tmp_path: Path) -> None:
    dest = tmp_path / "dest"
    (dest / "key.pem").mkdir(parents=True)
    ran = run_here(copy(source, dest))
    assert ran.statuses == ["failed"]
    assert any("key.pem is a directory" in line for line in ran.output)
    (dest / "key.pem").rmdir()
    (dest / "conf").rename(dest / "old")
    (dest / "conf").write_text("")
    ran = run_here(copy(source, dest))
    assert any("conf is there, and no directory" in line for line in ran.output)


def test_delete_removes_what_the_source_does_not_have_and_spares_what_is_excluded(source: Path, tmp_path: Path) -> None:
    dest, outside = tmp_path / "dest", tmp_path / "outside"
    run_here(copy(source, dest))
    outside.mkdir()
    (outside / "mine").write_text("")
    for name in ("old/deep/er", "new\nline", "logs/a.log", "keep/x"):
        (dest / name).parent.mkdir(parents=True, exist_ok=True)
        (dest / name).write_text("")
    (dest / "link").symlink_to(outside)
    assert run_here(copy(source, dest)).statuses == ["ok"], "nothing is deleted without delete"
    operation = copy(source, dest, delete=True, exclude=["*.log", "/keep/x"])
    assert [run_here(operation).statuses for _ in range(2)] == [["changed"], ["ok"]]
    more = set(listed(dest)) - {str(path.relative_to(source)) for path in source.rglob("*")}
    assert more == {"logs", "logs/a.log", "keep", "keep/x"}
    assert (outside / "mine").exists()


def test_delete_removes_names_that_are_not_utf_8(source: Path, tmp_path: Path) -> None:
    dest = tmp_path / "dest"
    run_here(copy(source, dest))
    odd = os.fsencode(dest) + b"/caf\xe9"
    Path(os.fsdecode(odd)).write_text("")
    operation = copy(source, dest, delete=True)
    assert run_here(operation, mode="check").statuses == ["changed"]
    assert [run_here(operation).statuses for _ in range(2)] == [["changed"], ["ok"]]
    assert not os.path.lexists(odd)


def test_only_what_matches_is_read(source: Path) -> None:
    def paths(**select: list[str]) -> set[str]:
        return {entry.path for entry in read_tree(source, ANYWHERE, **select).tree or ()}

    assert paths(match=["*.sh"]) == {"run.sh"}
    assert paths(match=["conf/*.mount"]) == {"conf", "conf/dev\\x2d.mount"}
    assert paths(exclude=["conf", "to"]) == {"run.sh", "key.pem"}
    assert paths(exclude=["/conf/*"]) == {"conf", "run.sh", "key.pem", "to"}


def test_the_digest_covers_names_contents_and_the_mode_that_the_host_gets(source: Path) -> None:
    def digest() -> str:
        return read_tree(source, ANYWHERE).sha256

    first = digest()
    (source / "run.sh").chmod(0o755)
    (source / "key.pem").chmod(0o600)
    os.utime(source / "key.pem", (1, 1))
    assert digest() == first, "another umask or another time is no other input"
    seen = {first}
    for change in (
        lambda: (source / "key.pem").chmod(0o700),
        lambda: (source / "key.pem").write_text("other"),
        lambda: (source / "key.pem").rename(source / "key"),
        lambda: (source / "conf/empty").rmdir(),
        lambda: (source / "to").rename(source / "other"),
    ):
        change()
        assert digest() not in seen
        seen.add(digest())


def test_links_are_not_followed(source: Path, tmp_path: Path) -> None:
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside/secret").write_text("secret")
    (source / "folder").symlink_to(tmp_path / "outside")
    entries = {entry.path: entry for entry in read_tree(source, Files([source])).tree or ()}
    assert entries["folder"] == replace(entries["folder"], kind="link", target=str(tmp_path / "outside"))
    assert not any("secret" in path for path in entries)
    (tmp_path / "inner").symlink_to(tmp_path / "outside")
    with pytest.raises(Refused, match="outside the project"):
        read_tree(tmp_path / "inner", Files([source]))


def test_what_cannot_be_copied_is_refused(source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refusal(name: str) -> str:
        with pytest.raises(Refused) as caught:
            read_tree(source, ANYWHERE)
        assert read_tree(source, ANYWHERE, exclude=[name]).tree, "what is excluded is not looked at"
        return str(caught.value.strerror)

    os.mkfifo(source / "fifo")
    assert refusal("fifo") == "has fifo, which is a FIFO"
    (source / "fifo").unlink()
    (source / ".git").mkdir()
    assert "can have credentials" in refusal(".git")
    (source / ".git").rmdir()
    (source / "two\nlines").write_text("")
    assert "not one line" in refusal("two*")
    (source / "two\nlines").unlink()
    (source / "/".join(["deep"] * 100)).mkdir(parents=True)
    assert len([one for one in read_tree(source, ANYWHERE).tree or () if one.path.startswith("deep")]) == 100
    (source / "/".join(["deep"] * 101)).mkdir()
    assert refusal("deep") == "has more than 100 levels of directories, below deep"
    shutil.rmtree(source / "deep")
    monkeypatch.setattr(trees, "MOST_ENTRIES", 8)
    assert len(read_tree(source, ANYWHERE).tree or ()) == 8
    (source / "one more").write_text("")
    assert "more than 8" in refusal("one more")
    monkeypatch.setattr(trees, "FILE_BYTES", 20)
    (source / "one more").write_bytes(b"x" * 10)
    monkeypatch.setattr(trees, "MOST_ENTRIES", 100)
    assert "too large" in refusal("one more")


def test_a_file_whose_source_is_a_directory_is_copied_as_a_tree(source: Path, tmp_path: Path) -> None:
    dest = tmp_path / "dest"
    payload = read_tree(source, ANYWHERE)
    fields: dict[str, Any] = {"src": "source", "dest": str(dest), "owner": ME[0], "group": ME[1]}
    operation = bind("file", payload=payload, mode="0600", **fields)
    assert [run_here(operation).statuses for _ in range(2)] == [["changed"], ["ok"]]
    assert listed(dest)["run.sh"] == "0600"
    assert set(operation.claims) == {f"{dest}/{path}" for path in listed(dest)}


def test_files_go_with_a_script(source: Path, tmp_path: Path) -> None:
    (tmp_path / "single").write_text("one")
    payload = read_files([source, tmp_path / "single"], ANYWHERE)
    out = tmp_path / "out"
    text = f'cd "$GOLDENAMI_FILES"; pwd >{out}; find . | sort >>{out}; cat single source/key.pem; source/run.sh; exit 3'
    script = bind("script", content=text, files=["source", "single"], statuses=[3])
    ran = run_here(replace(script, payloads={"files": payload}))
    assert ran.statuses == ["changed"]
    assert "onekey" in "".join(ran.output)
    place, *found = out.read_text().splitlines()
    assert {"./single", "./source", "./source/conf/empty", "./source/to", "./source/run.sh"} <= set(found)
    assert not Path(place).exists(), "nothing is left"


def test_two_files_of_a_script_have_two_names(tmp_path: Path) -> None:
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "same").write_text(folder)
    with pytest.raises(Refused, match="has the name same"):
        read_files([tmp_path / "a/same", tmp_path / "b/same"], ANYWHERE)
