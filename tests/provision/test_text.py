"""Operations that edit files: the text before, what is asked, the text after. Each runs twice, and in check mode."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.provision.examples import ODD, bind
from tests.provision.local import run_here

pytestmark = pytest.mark.root

DEFS = "# comment\n#UMASK 077\nUMASK\t\t022\nPASS_MAX_DAYS\t99999\n\nUMASK 002\n"
SSHD = "Include x\n#Port 22\n#X11Forwarding yes\nport 2222\n\n# last\nMatch User git\n    X11Forwarding yes\n"
JOURNAL = "[Journal]\n#Storage=auto\n#Compress=yes\n\n[Other]\nStorage=none\n"
BLOCK = "a\n# BEGIN goldenami\nold\n# END goldenami\nb\n"

CASES: list[tuple[str, str, dict[str, Any], str, str, str | None]] = [
    # kind, what it shows, fields, before, after, detail of the check
    ("setting", "first changed, others go", {"format": "words", "key": "UMASK", "value": "027"}, DEFS,
     "# comment\n#UMASK 077\nUMASK 027\nPASS_MAX_DAYS\t99999\n\n", "is 022"),
    ("setting", "right value keeps its spacing", {"format": "words", "key": "PASS_MAX_DAYS", "value": "99999"}, DEFS,
     DEFS, ""),
    ("setting", "right, but twice", {"format": "words", "key": "UMASK", "value": "022"}, DEFS,
     "# comment\n#UMASK 077\nUMASK\t\t022\nPASS_MAX_DAYS\t99999\n\n", "is set 2 times"),
    ("setting", "after its example", {"format": "words", "key": "A", "value": "1"}, "x 1\n# A 2\ny 1\n",
     "x 1\n# A 2\nA 1\ny 1\n", "is not set"),
    ("setting", "a longer key is another one", {"format": "words", "key": "UMASK", "value": "1"}, "UMASKED 2\n",
     "UMASKED 2\nUMASK 1\n", "is not set"),
    ("setting", "into an empty file", {"format": "words", "key": "A", "value": "1"}, "", "A 1\n", "is not set"),
    ("setting", "a last line without an end", {"format": "words", "key": "A", "value": "1"}, "A 2", "A 1\n", "is 2"),
    ("setting", "removed", {"format": "words", "key": "UMASK", "state": "absent"}, DEFS,
     "# comment\n#UMASK 077\nPASS_MAX_DAYS\t99999\n\n", "is 022"),
    ("setting", "ssh: any case, before the first match", {"format": "ssh", "key": "Port", "value": "22"}, SSHD,
     SSHD.replace("port 2222", "Port 22"), "is 2222"),
    ("setting", "ssh: not in the match", {"format": "ssh", "key": "X11Forwarding", "value": "no"}, SSHD,
     SSHD.replace("X11Forwarding yes\nport", "X11Forwarding yes\nX11Forwarding no\nport", 1), "is not set"),
    ("setting", "ssh: no example", {"format": "ssh", "key": "MaxAuthTries", "value": "3"}, SSHD,
     SSHD.replace("# last\n", "# last\nMaxAuthTries 3\n"), "is not set"),
    ("setting", "ssh: in a match",
     {"format": "ssh", "section": "match  user git", "key": "x11forwarding", "value": "no"}, SSHD,
     SSHD.replace("    X11Forwarding yes", "    x11forwarding no"), "is yes"),
    ("setting", "ssh: a new match", {"format": "ssh", "section": "Match Group ops", "key": "A", "value": "1"}, SSHD,
     SSHD + "\nMatch Group ops\n    A 1\n", "is not set"),
    ("setting", "ssh: only a match there", {"format": "ssh", "key": "A", "value": "1"}, "Match all\n    B 1\n",
     "A 1\nMatch all\n    B 1\n", "is not set"),
    ("setting", "ssh: two words", {"format": "ssh", "key": "Subsystem sftp", "value": "internal-sftp"},
     "Subsystem\tsftp\t/usr/lib/x\nSubsystem other y\n", "Subsystem sftp internal-sftp\nSubsystem other y\n",
     "is /usr/lib/x"),
    ("setting", "ssh: with an equals sign", {"format": "ssh", "key": "Port", "value": "22"}, "Port=22\n", "Port=22\n",
     ""),
    ("setting", "ini: of its section", {"format": "ini", "section": "Journal", "key": "Storage", "value": "persistent"},
     JOURNAL, JOURNAL.replace("#Storage=auto\n", "#Storage=auto\nStorage=persistent\n"), "is not set"),
    ("setting", "ini: at the section's end", {"format": "ini", "section": "Journal", "key": "New", "value": "1"},
     JOURNAL, JOURNAL.replace("#Compress=yes\n", "#Compress=yes\nNew=1\n"), "is not set"),
    ("setting", "ini: a new section", {"format": "ini", "section": "Third", "key": "New", "value": "1"},
     JOURNAL, JOURNAL + "\n[Third]\nNew=1\n", "is not set"),
    ("setting", "equals", {"format": "equals", "key": "minlen", "value": "14"}, "# minlen = 8\nminlenx=1\nminlen=9\n",
     "# minlen = 8\nminlenx=1\nminlen = 14\n", "is 9"),
    ("setting", "equals: a bare word", {"format": "equals", "key": "even_deny_root"}, "# even_deny_root\ndeny = 3\n",
     "# even_deny_root\neven_deny_root\ndeny = 3\n", "is not set"),
    ("setting", "shell: quoted", {"format": "shell", "key": "OPTIONS", "value": 'a "$b" `c` \\d'},
     "export OPTIONS=x # old\n", 'OPTIONS="a \\"\\$b\\" \\`c\\` \\\\d"\n', "is x # old"),
    ("setting", "shell: other quotes are as good", {"format": "shell", "key": "A", "value": "b c"}, "A='b c'\n",
     "A='b c'\n", ""),
    ("setting", "odd values", {"format": "equals", "key": "k", "value": ODD}, "k = 1\n", f"k = {ODD}\n", "is 1"),
    ("line", "replaces the first, drops others", {"regexp": "^a", "line": "A"}, "x\na1\na2\n", "x\nA\n", "has a1"),
    ("line", "added at the end", {"line": ODD}, "x\n", f"x\n{ODD}\n", "no such line"),
    ("line", "added before", {"line": "new", "insert_before": "^b"}, "a\nb\nb\n", "a\nnew\nb\nb\n", "no such line"),
    ("line", "added after the last", {"line": "new", "insert_after": "^b"}, "b\nb\na\n", "b\nb\nnew\na\n", None),
    ("line", "added at the start", {"line": "new", "insert_at": "start"}, "a\n", "new\na\n", None),
    ("line", "no such place", {"line": "new", "insert_before": "^z"}, "a\n", "a\nnew\n", None),
    ("line", "removed", {"regexp": "^a", "state": "absent"}, "a1\nb\na2\n", "b\n", "has a1"),
    ("line", "nothing to remove", {"line": "q", "state": "absent"}, "a1\n", "a1\n", ""),
    ("block", "added", {"content": f"one\n{ODD}"}, "a\n", f"a\n# BEGIN goldenami\none\n{ODD}\n# END goldenami\n",
     "is there 0 times"),
    ("block", "changed where it is", {"content": "new\n"}, BLOCK, BLOCK.replace("\nold", "\nnew"), "its lines differ"),
    ("block", "before a line", {"content": "new", "insert_before": "^b", "marker": "a/b.*", "comment": ";"}, "a\nb\n",
     "a\n; BEGIN a/b.*\nnew\n; END a/b.*\nb\n", "is there 0 times"),
    ("block", "at the start", {"content": "new", "insert_at": "start"}, "a\n",
     "# BEGIN goldenami\nnew\n# END goldenami\na\n", "is there 0 times"),
    ("block", "removed", {"state": "absent"}, BLOCK, "a\nb\n", "the block is there"),
    ("block", "comments with an end", {"content": "x", "comment": "<!--", "comment_end": "-->"}, "",
     "<!-- BEGIN goldenami -->\nx\n<!-- END goldenami -->\n", None),
]  # fmt: skip


@pytest.mark.parametrize(
    ("kind", "fields", "before", "after", "detail"),
    [pytest.param(k, f, b, a, d, id=f"{k}: {name}") for k, name, f, b, a, d in CASES],
)
def test_edits(tmp_path: Path, kind: str, fields: dict[str, Any], before: str, after: str, detail: str | None) -> None:
    path = tmp_path / "a file"
    path.write_text(before)
    path.chmod(0o640)
    operation = bind(kind, path=str(path), **fields)
    same = before == after
    would = run_here(operation, mode="check")
    assert would.statuses == ["ok" if same else "changed"], would
    assert path.read_text() == before, "a check changes nothing"
    if detail is not None:
        assert would.details == [detail]
    first = run_here(operation)
    assert first.statuses == ["ok" if same else "changed"], first
    assert path.read_text() == after
    assert run_here(operation).statuses == ["ok"]
    assert path.read_text() == after
    assert path.stat().st_mode & 0o777 == 0o640, "its attributes stay"
    assert [p.name for p in tmp_path.iterdir()] == ["a file"], "nothing is left beside it"


@pytest.mark.parametrize(
    ("kind", "fields"),
    [
        ("setting", {"format": "words", "key": "A", "value": "2"}),
        ("line", {"regexp": "^A", "line": "A 2"}),
        ("block", {"content": "A 2"}),
    ],
    ids=lambda v: v if isinstance(v, str) else "",
)
@pytest.mark.parametrize("command", ["grep -q never %s", "grep -q never --file=/dev/null {path}", "no-such-program %s"])
def test_a_file_that_its_validation_refuses_is_untouched(
    tmp_path: Path, kind: str, fields: dict[str, Any], command: str
) -> None:
    path = tmp_path / "file"
    path.write_text("A 1\n")
    before = path.stat()
    ran = run_here(bind(kind, path=str(path), validate=command.format(path=path), **fields))
    assert ran.statuses == ["failed"]
    assert ran.output[-1] == f"the validation of the new file failed: {command.format(path=path)}"
    assert path.read_text() == "A 1\n"
    assert (path.stat().st_mode, path.stat().st_mtime) == (before.st_mode, before.st_mtime)
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


def test_a_validation_without_the_path_sees_the_file_in_its_place(tmp_path: Path) -> None:
    path = tmp_path / "new"
    good = bind("file", dest=str(path), content="right\n", validate=f"grep -q right {path}")
    assert run_here(good).statuses == ["changed"]
    refused = bind("file", dest=str(tmp_path / "other"), content="wrong\n", validate=f"grep -q right {tmp_path}/other")
    assert run_here(refused).statuses == ["failed"]
    part = bind("file", dest=str(path), content="whole\n", validate="grep -q whole --regexp=whole -- %s")
    assert run_here(part).statuses == ["changed"]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["new"]


@pytest.mark.parametrize("kind", ["setting", "line", "block"])
def test_a_missing_file(tmp_path: Path, kind: str) -> None:
    fields: dict[str, dict[str, Any]] = {
        "setting": {"format": "words", "key": "A", "value": "2"},
        "line": {"line": "A 2"},
        "block": {"content": "A 2"},
    }
    path = tmp_path / "deep" / "file"
    ran = run_here(bind(kind, path=str(path), **fields[kind]))
    assert (ran.statuses, ran.output[-1]) == (["failed"], f"{path}: no such file")
    made = bind(kind, path=str(path), create=True, **fields[kind])
    assert run_here(made, mode="check").statuses == ["changed"]
    assert run_here(made).statuses == ["changed"]
    assert "A 2\n" in path.read_text()
    assert path.stat().st_mode & 0o777 == 0o644
    assert run_here(made).statuses == ["ok"]


def test_a_link_is_followed(tmp_path: Path) -> None:
    (tmp_path / "real").write_text("A 1\n")
    (tmp_path / "link").symlink_to("real")
    run_here(bind("setting", path=str(tmp_path / "link"), format="words", key="A", value="2"))
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "real").read_text() == "A 2\n"


@pytest.mark.parametrize("shell", ["sh", "bash"])
def test_an_apply_ends_with_the_first_command_that_fails(tmp_path: Path, shell: str) -> None:
    path = tmp_path / "file"
    path.write_text("# BEGIN goldenami\nx\n")
    ran = run_here(bind("block", path=str(path), content="y"), shell=shell)
    assert ran.statuses == ["failed"]
    assert "has no # END goldenami after it" in ran.output[-1]
    assert path.read_text() == "# BEGIN goldenami\nx\n"


# --- permissions ------------------------------------------------------------------------------------------------------


def tree(root: Path) -> None:
    for name, mode in (("a", 0o777), ("a/b", 0o2770), ("a/skip", 0o700)):
        (root / name).mkdir()
        (root / name).chmod(mode)
    for name, mode in (("a/one.log", 0o666), ("a/b/two", 0o4755), ("a/skip/3.log", 0o666)):
        (root / name).write_text("")
        (root / name).chmod(mode)
    (root / "a/link").symlink_to("/etc/passwd")


def modes(root: Path) -> dict[str, str]:
    return {
        str(p.relative_to(root)): f"{p.lstat().st_mode & 0o7777:04o}"
        for p in sorted(root.rglob("*"))
        if not p.is_symlink()
    }


PERMISSIONS: list[tuple[str, dict[str, Any], dict[str, str]]] = [
    ("exact", {"files": "0640", "directories": "0750", "recursive": True},
     {"a": "0750", "a/b": "0750", "a/b/two": "0640", "a/one.log": "0640", "a/skip": "0750", "a/skip/3.log": "0640"}),
    ("bounds", {"files": "0640", "directories": "2750", "recursive": True, "at_most": True},
     {"a": "0750", "a/b": "2750", "a/b/two": "0640", "a/one.log": "0640", "a/skip": "0700", "a/skip/3.log": "0640"}),
    ("some left out", {"files": "0600", "recursive": True, "exclude": ["skip"]},
     {"a": "0777", "a/b": "2770", "a/b/two": "0600", "a/one.log": "0600", "a/skip": "0700", "a/skip/3.log": "0666"}),
    ("only some", {"files": "0600", "recursive": True, "match": ["*.log"]},
     {"a": "0777", "a/b": "2770", "a/b/two": "4755", "a/one.log": "0600", "a/skip": "0700", "a/skip/3.log": "0600"}),
    ("only itself", {"directories": "0700"},
     {"a": "0700", "a/b": "2770", "a/b/two": "4755", "a/one.log": "0666", "a/skip": "0700", "a/skip/3.log": "0666"}),
    ("not itself", {"directories": "0755", "recursive": True, "itself": False},
     {"a": "0777", "a/b": "0755", "a/b/two": "4755", "a/one.log": "0666", "a/skip": "0755", "a/skip/3.log": "0666"}),
]  # fmt: skip


@pytest.mark.parametrize(("fields", "after"), [pytest.param(f, a, id=name) for name, f, a in PERMISSIONS])
def test_permissions(tmp_path: Path, fields: dict[str, Any], after: dict[str, str]) -> None:
    tree(tmp_path)
    before = modes(tmp_path)
    operation = bind("permissions", path=str(tmp_path / "a"), at_boot=False, **fields)
    would = run_here(operation, mode="check")
    assert would.statuses == ["changed"]
    assert would.details[0].startswith(str(tmp_path / "a"))
    assert modes(tmp_path) == before
    assert run_here(operation).statuses == ["changed"]
    assert modes(tmp_path) == after
    assert run_here(operation).statuses == ["ok"]


def test_unknown_owners_are_reported(tmp_path: Path) -> None:
    operation = bind("permissions", path=str(tmp_path), owner="no-such-user", at_boot=False)
    assert run_here(operation, mode="check").statuses == ["changed"]
    assert run_here(operation).statuses == ["failed"]
    number = bind("permissions", path=str(tmp_path), owner="4711", group="4712", at_boot=False)
    assert run_here(number).statuses == ["changed"]
    assert (tmp_path.stat().st_uid, tmp_path.stat().st_gid) == (4711, 4712)
    assert run_here(number).statuses == ["ok"]


def test_missing_paths(tmp_path: Path) -> None:
    gone = str(tmp_path / "gone")
    assert run_here(bind("permissions", path=gone, files="0600")).statuses == ["failed"]
    ran = run_here(bind("permissions", path=gone, files="0600", at_boot=False, optional=True))
    assert (ran.statuses, ran.details) == (["skipped"], ["is not there"])
    here = tmp_path / "here"
    here.write_text("")
    both = bind("permissions", path=[gone, str(here)], files="0600", at_boot=False, optional=True)
    assert run_here(both).statuses == ["changed"]
    assert run_here(both).statuses == ["ok"]


def test_hard_links_and_absence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    hard = bind("link", path=str(tmp_path / "other"), target=str(tmp_path / "file"), hard=True)
    assert [run_here(hard).statuses, run_here(hard).statuses] == [["changed"], ["ok"]]
    assert (tmp_path / "other").samefile(tmp_path / "file")
    gone = bind("absent", path=[str(tmp_path / "other"), str(tmp_path / "none")])
    assert [run_here(gone).statuses, run_here(gone).statuses] == [["changed"], ["ok"]]
    assert [p.name for p in tmp_path.iterdir()] == ["file"]
