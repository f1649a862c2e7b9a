"""What the files of a project change since a commit of Git: `goldenami plan --diff`."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from goldenami.cli.main import main
from goldenami.git import Repository
from goldenami.reading import TEXT_BYTES
from goldenami.stages.facts import git_commit

Write = Callable[[dict[str, str]], Path]

SETTINGS = """\
environments:
  test:
    home: {account: "111111111111", region: eu-central-1}
    vars: {workers: 4, other: 1}
    targets:
      - {account: home, regions: [eu-central-1], kms_key: alias/golden-ami}
    catalog: catalog
environment: test
"""
BASE = """\
name: base
version: "1.0"
base: {filter: debian-12-amd64-*, owners: ["136693071363"]}
software:
  - package: {name: curl}
  - file: {src: files/motd, dest: /etc/motd}
tests: [base]
distribution: {channel: stable}
"""
WEB = """\
name: web
version: "1.0"
description: the web
base: {recipe: base}
vars: {workers: 2, port: 80}
agents: [probe]
software:
  - package: {name: nginx}
  - template: {src: site.j2, dest: /etc/site, mode: "0644"}
tests: [base, tests/web_test.py]
distribution: {channel: candidate}
"""
APP = 'name: app\nversion: "1.0"\nbase: {recipe: web}\ntests: [base]\n'
AGENT = """\
name: probe
description: A probe
operations:
  debian:
    - package: {name: probe}
"""
FILES = {
    "goldenami.yaml": SETTINGS,
    "recipes/base.yaml": BASE,
    "recipes/web.yaml": WEB,
    "recipes/app.yaml": APP,
    "recipes/files/motd": "hello\nworld\n",
    "recipes/site.j2": "listen {{ vars.port }}\nworkers {{ vars.workers }}\n# end\n",
    "recipes/tests/web_test.py": "def test_it(host):\n    assert host\n",
    "recipes/agents/probe/agent.yaml": AGENT,
}


def git(*arguments: str, at: Path) -> str:
    variables = {"PATH": os.environ["PATH"], "HOME": str(at), "GIT_CONFIG_NOSYSTEM": "1"}
    names = {f"GIT_{who}_{what}": "x@x" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
    done = subprocess.run(
        ["git", *arguments], cwd=at, env=variables | names, check=True, capture_output=True, text=True
    )
    return done.stdout.strip()


@pytest.fixture
def project(write_project: Write) -> Path:
    root = write_project(FILES)
    git("init", "-q", "-b", "main", at=root)
    git("add", ".", at=root)
    git("commit", "-q", "-m", "first", at=root)
    return root


def change(root: Path, name: str, old: str, new: str) -> None:
    path = root / name
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, new))


def diff(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, dict[str, object]]:
    capsys.readouterr()
    assert main(["plan", "--diff", "main", "--json", *arguments]) == 0
    return {one["recipe"]: one for one in json.loads(capsys.readouterr().out)["recipes"]}


def places(one: dict[str, object]) -> list[str]:
    found = one["places"]
    assert isinstance(found, list)
    return [f"{p['sign']} {p['file']}:{p['line']} {p['what']}".strip() for p in found]


def test_nothing_changes(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (project / "recipes/web.yaml").write_text("# a comment\n" + WEB.replace("{name: nginx}", "{ name: 'nginx' }"))
    found = diff(capsys)
    assert {name: one["change"] for name, one in found.items()} == dict.fromkeys(["base", "web", "app"], "unchanged")
    assert main(["plan", "--diff", "HEAD", "--detailed-exitcode"]) == 0
    assert capsys.readouterr().out.endswith("3 unchanged; 0 to build\n")


@pytest.mark.parametrize(
    ("file", "old", "new", "inputs", "expected"),
    [
        (
            "recipes/web.yaml",
            "name: nginx}",
            "name: nginx-light}",
            ["software:x86_64"],
            ["~ recipes/web.yaml:8 software[0].package.name"],
        ),
        (
            "recipes/web.yaml",
            '"0644"',
            '"0600"',
            ["software:x86_64"],
            ["~ recipes/web.yaml:9 software[1].template.mode"],
        ),
        ("recipes/web.yaml", "port: 80", "port: 81", ["software:x86_64", "vars"], ["~ recipes/web.yaml:5 vars.port"]),
        ("recipes/web.yaml", "base, tests/web_test.py", "base", None, None),
        (
            "recipes/site.j2",
            "listen ",
            "port ",
            ["software:x86_64"],
            ["~ recipes/site.j2:1"],
        ),
        ("recipes/site.j2", "# end\n", "# end\n# more\n# lines\n", ["software:x86_64"], ["+ recipes/site.j2:4"]),
        ("recipes/site.j2", "# end\n", "", ["software:x86_64"], ["- main:recipes/site.j2:3"]),
        (
            "recipes/tests/web_test.py",
            "assert host",
            "assert host.run",
            ["test:tests/web_test.py"],
            ["~ recipes/tests/web_test.py:2"],
        ),
        (
            "recipes/agents/probe/agent.yaml",
            "- package: {name: probe}",
            "- package: {name: probe}\n    - service: {name: probe, enabled: true}",
            ["agents:x86_64"],
            ["+ recipes/agents/probe/agent.yaml:6 operations.debian[1]"],
        ),
        (
            "goldenami.yaml",
            "workers: 4, other: 1",
            "workers: 5, other: 2",
            ["software:x86_64", "vars"],
            ["~ goldenami.yaml:4 environments.test.vars.workers"],
        ),
    ],
)
def test_the_places_of_a_change(
    project: Path,
    capsys: pytest.CaptureFixture[str],
    file: str,
    old: str,
    new: str,
    inputs: list[str] | None,
    expected: list[str] | None,
) -> None:
    change(project, file, old, new)
    found = diff(capsys)
    assert found["base"]["change"] == "unchanged"
    assert found["web"]["change"] == "changed"
    if inputs is not None:
        assert found["web"]["changed_inputs"] == inputs
        assert places(found["web"]) == expected
    assert found["app"]["change"] == "unchanged"  # its base's channel moves by a promotion
    hints = found["app"]["hints"]
    assert hints == [
        "it is built on web@stable, and a build of web moves candidate: it follows after a promotion",
    ]


def test_children_follow_their_base(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    change(project, "recipes/files/motd", "world", "there")
    found = diff(capsys)
    assert {name: one["change"] for name, one in found.items()} == {
        "base": "changed",
        "web": "follows",
        "app": "unchanged",
    }
    assert places(found["base"]) == ["~ recipes/files/motd:2"]
    assert found["web"]["reasons"] == ["its base base is built first"]
    only = diff(capsys, "web")
    assert (only["base"]["why"], only["web"]["change"]) == ("web is built on it", "follows")
    assert list(diff(capsys, "base")) == ["base"]
    assert main(["plan", "--diff", "main", "--detailed-exitcode"]) == 8
    said = capsys.readouterr().out
    assert "~ base  changed\n    inputs differ: software:x86_64\n    ~ recipes/files/motd:2\n" in said
    assert said.endswith("1 changed, 1 follows, 1 unchanged; 2 to build\n")


def test_new_removed_and_distributed(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (project / "recipes/new.yaml").write_text(APP.replace("app", "new"))
    (project / "recipes/app.yaml").unlink()
    change(project, "goldenami.yaml", "[eu-central-1], kms", "[eu-central-1, eu-west-1], kms")
    found = diff(capsys)
    assert {name: one["change"] for name, one in found.items()} == {
        "base": "distributed",
        "web": "distributed",
        "new": "added",
        "app": "removed",
    }
    assert found["web"]["changed_inputs"] == ["target:home/eu-west-1"]
    assert places(found["web"]) == ["+ goldenami.yaml:6 environments.test.targets[0].regions[1]"]
    assert "goldenami distribute web@candidate" in str(found["web"]["reasons"])
    assert main(["plan", "--diff", "main", "--markdown"]) == 0
    note = capsys.readouterr().out
    assert note.startswith("<!-- goldenami:changes:test -->\n")
    assert main(["plan", "--diff", "main", "--markdown"]) == 0
    assert capsys.readouterr().out == note


def test_changes_that_are_no_input(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    change(project, "recipes/web.yaml", "the web", "the new web")
    found = diff(capsys)
    assert found["web"]["change"] == "unchanged"
    assert found["web"]["no_inputs"] == [
        {"sign": "~", "file": "recipes/web.yaml", "line": 3, "column": 14, "end_line": 3, "what": "description"}
    ]


def test_a_recipe_that_was_wrong(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    change(project, "recipes/web.yaml", "agents:", "agnets:")
    git("commit", "-q", "-am", "wrong", at=project)
    change(project, "recipes/web.yaml", "agnets:", "agents:")
    found = diff(capsys)
    assert found["web"]["change"] == "changed"
    assert found["web"]["reasons"] == [
        "it cannot be compared: main:recipes/web.yaml:6:1: unknown key 'agnets'",
    ]
    change(project, "recipes/app.yaml", "tests:", "tetss:")
    assert main(["plan", "--diff", "main"]) == 2  # a recipe that is wrong now
    assert "recipes/app.yaml:4:1" in capsys.readouterr().err


def test_a_project_in_a_folder_with_files_outside(
    write_project: Write, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    moved = {f"images/{name}": text for name, text in FILES.items()}
    moved["images/recipes/base.yaml"] = BASE.replace("files/motd", "../../shared/motd")
    moved["shared/motd"] = "hello\n"
    moved["images/goldenami.yaml"] = f"allow_outside: [../shared]\n{SETTINGS}"
    root = write_project(moved)
    git("init", "-q", "-b", "main", at=root)
    git("add", ".", at=root)
    git("commit", "-q", "-m", "first", at=root)
    monkeypatch.chdir(root / "images")
    assert {one["change"] for one in diff(capsys).values()} == {"unchanged"}
    (root / "shared/motd").write_text("hello\nyou\n")
    assert places(diff(capsys)["base"]) == ["+ ../shared/motd:2"]


# --- refs and repositories --------------------------------------------------------------------------------------------


def refused(capsys: pytest.CaptureFixture[str], ref: str, code: int) -> str:
    capsys.readouterr()
    assert main(["plan", "--diff", ref]) == code
    return capsys.readouterr().err


def test_refs_that_do_not_exist(
    project: Path, capsys: pytest.CaptureFixture[str], tmp_path_factory: pytest.TempPathFactory
) -> None:
    assert "has no commit 'nothing'" in refused(capsys, "nothing", 3)
    git("branch", "feature/a", at=project)
    assert "Did you mean feature/a?" in refused(capsys, "a", 3)
    assert "is not a ref" in refused(capsys, "--output=x", 2)
    first = git("rev-parse", "HEAD", at=project)
    git("commit", "-q", "--allow-empty", "-m", "second", at=project)
    clone = tmp_path_factory.mktemp("clone")
    git("clone", "-q", "--depth=1", f"file://{project}", str(clone / "c"), at=clone)
    os.chdir(clone / "c")  # monkeypatch of the fixture goes back
    said = refused(capsys, first, 3)
    assert "shallow clone" in said
    assert f"git fetch --depth=1 origin {first}" in said
    assert "GIT_DEPTH: 0" in said
    git("fetch", "-q", "--depth=1", "origin", "feature/a", at=clone / "c")
    assert main(["plan", "--diff", "FETCH_HEAD"]) == 0
    assert main(["plan", "base", "--all", "--diff", "HEAD"]) == 2
    capsys.readouterr()
    assert main(["plan", "--diff", "nothing", "--json"]) == 3
    found = json.loads(capsys.readouterr().out)
    assert (found["schema"], found["error"]["exit_code"]) == ("goldenami.changes/1", 3)


def test_no_repository_and_that_of_another_user(
    project: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    # Git of any version refuses a repository whose owner it does not trust; this variable of Git's own tests says so.
    before = Repository._environment
    monkeypatch.setattr(Repository, "_environment", lambda one: {**before(one), "GIT_TEST_ASSUME_DIFFERENT_OWNER": "1"})
    said = refused(capsys, "main", 2)
    assert f"git config --global --add safe.directory {project}" in said
    monkeypatch.undo()
    os.chdir(project)
    (project / ".git").rename(project / "elsewhere")
    assert "is not in a Git repository" in refused(capsys, "main", 2)


# --- repositories of strangers ----------------------------------------------------------------------------------------


@pytest.fixture
def trap(tmp_path: Path) -> Path:
    """A program that leaves a trace."""
    program = tmp_path / "trap.sh"
    program.write_text(f"#!/bin/sh\ntouch {tmp_path}/sprung\ncat\n")
    program.chmod(0o755)
    return program


def sprung(trap: Path) -> bool:
    return (trap.parent / "sprung").exists()


def test_git_starts_nothing(
    project: Path, trap: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (project / ".gitattributes").write_text("* diff=x filter=x merge=x\n")
    git("add", ".gitattributes", at=project)
    git("commit", "-q", "-m", "attributes", at=project)
    for name in (
        "core.fsmonitor",
        "core.pager",
        "core.sshCommand",
        "diff.external",
        "diff.x.command",
        "diff.x.textconv",
        "credential.helper",
        "alias.ls-tree",
        "alias.rev-parse",
    ):
        git("config", name, str(trap), at=project)
    hooks = project / ".git/hooks"
    for name in ("post-index-change", "post-checkout", "reference-transaction", "pre-auto-gc"):
        (hooks / name).write_text(f"#!/bin/sh\n{trap}\n")
        (hooks / name).chmod(0o755)
    for name in ("GIT_EXTERNAL_DIFF", "GIT_SSH_COMMAND", "GIT_PAGER", "GIT_ASKPASS", "GIT_PROXY_COMMAND"):
        monkeypatch.setenv(name, str(trap))
    monkeypatch.setenv("GIT_DIR", "/nowhere")
    change(project, "recipes/web.yaml", "port: 80", "port: 81")
    assert diff(capsys)["web"]["change"] == "changed"
    assert str(git_commit(project / "recipes")).endswith("-dirty")
    assert not sprung(trap)


def test_a_repository_in_the_files_of_a_commit_is_not_used(
    project: Path, trap: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A bare repository is ordinary files, which a merge request can bring."""
    git("clone", "-q", "--bare", str(project), str(project / "bare"), at=project)
    for file in sorted((project / "bare").iterdir()):
        file.rename(project / "recipes" / file.name)
    with (project / "recipes/config").open("a") as config:
        config.write(f'[core]\n\tbare = false\n\tworktree = "{project}"\n\tfsmonitor = {trap}\n')
    change(project, "recipes/base.yaml", "curl", "wget")
    assert diff(capsys)["base"]["change"] == "changed"
    assert str(git_commit(project / "recipes")).endswith("-dirty")
    assert not sprung(trap)


def test_links_and_names_of_a_commit_stay_in_its_folder(
    project: Path, tmp_path_factory: pytest.TempPathFactory, capsys: pytest.CaptureFixture[str]
) -> None:
    outside = tmp_path_factory.mktemp("outside")
    (outside / "secret").write_text("secret\n")
    (project / "recipes/files/motd").unlink()
    (project / "recipes/files/motd").symlink_to(outside / "secret")
    git("commit", "-q", "-am", "a link", at=project)
    (project / "recipes/files/motd").unlink()
    (project / "recipes/files/motd").write_text("hello\n")
    reason = str(diff(capsys)["base"]["reasons"])
    assert "motd leads to" in reason
    assert "outside the project" in reason
    # A tree that is made by hand: a link, and a file below it.
    blob = git("hash-object", "-w", "recipes/site.j2", at=project)
    (project / "target").write_text(str(outside))
    link = git("hash-object", "-w", "target", at=project)
    below = (
        subprocess.run(
            ["git", "mktree", "--missing"],
            input=f"100644 blob {blob}\tfile\n".encode(),
            cwd=project,
            check=True,
            capture_output=True,
        )
        .stdout.decode()
        .strip()
    )
    for entries in (
        f"120000 blob {link}\ta\n040000 tree {below}\ta\n",
        f"040000 tree {below}\t..\n",
        f"100644 blob {blob}\t.git\n",
    ):
        made = subprocess.run(
            ["git", "mktree"], input=entries.encode(), cwd=project, check=True, capture_output=True
        ).stdout.decode()
        commit = git("commit-tree", "-m", "x", made.strip(), at=project)
        assert "git fsck" in refused(capsys, commit, 1)
    assert sorted(path.name for path in outside.iterdir()) == ["secret"]


def test_code_of_a_commit_is_not_executed(project: Path, trap: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (project / "operations").mkdir()
    (project / "operations/own.py").write_text(f"import os\nos.system({str(trap)!r})\nclass A:\n    kind = 'a_b'\n")
    git("add", "operations", at=project)
    git("commit", "-q", "-m", "code", at=project)
    change(project, "recipes/base.yaml", "- package", "- a_b: {}\n  - package")
    git("commit", "-q", "-am", "its use", at=project)
    change(project, "recipes/base.yaml", "- a_b: {}\n  - package", "- package")
    assert "not executed without your consent" in str(diff(capsys)["base"]["reasons"])
    assert not sprung(trap)


def test_a_large_file_that_differs_is_named(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    large = project / "recipes/files/motd"
    large.write_bytes(b"a" * (TEXT_BYTES + 1))
    git("commit", "-q", "-a", "-m", "large", at=project)
    assert diff(capsys)["base"]["change"] == "unchanged"
    large.write_bytes(b"a" * TEXT_BYTES + b"b")
    assert places(diff(capsys)["base"]) == ["~ recipes/files/motd:None"]
    large.write_text("small\n")
    assert places(diff(capsys)["base"]) == ["~ recipes/files/motd:None"]


@pytest.mark.parametrize("ref", ["v1", "release"])
def test_the_commit_is_told_whatever_names_it(project: Path, capsys: pytest.CaptureFixture[str], ref: str) -> None:
    git("tag", "-a", "v1", "-m", "one", at=project)
    git("symbolic-ref", "refs/heads/release", "refs/heads/main", at=project)
    commit = git("rev-parse", "main", at=project)
    assert main(["plan", "--diff", ref]) == 0
    assert f"since {ref} ({commit[:12]})" in capsys.readouterr().out


def test_comparing_makes_no_connection_with_and_without_offline(
    project: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    change(project, "recipes/web.yaml", "nginx", "nginx-light")
    found = diff(capsys)

    def refuse(*_: object) -> None:
        raise AssertionError("a connection")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    assert diff(capsys, "--offline") == diff(capsys) == found
    assert found["web"]["change"] == "changed"


def test_git_that_hangs_is_an_error(
    project: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    real = shutil.which("git")
    (tmp_path / "bin").mkdir()
    hanging = tmp_path / "bin/git"
    hanging.write_text(f'#!/bin/sh\ncase "$*" in *cat-file*) exec sleep 60;; esac\nexec {real} "$@"\n')
    hanging.chmod(0o755)
    monkeypatch.setenv("PATH", f"{hanging.parent}:{os.environ['PATH']}")
    monkeypatch.setattr("goldenami.git._TIMEOUT", 0.5)
    assert main(["plan", "--diff", "main"]) == 1
    assert "git does not answer" in capsys.readouterr().err
