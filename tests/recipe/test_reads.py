"""A merge request can change every file and link of a project. No file outside the project is read because of it."""

from __future__ import annotations

import io
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from rich.console import Console

import goldenami
from goldenami import recipe
from goldenami.cli.main import main
from goldenami.errors import InvalidInput
from goldenami.reading import FILE_BYTES, TEXT_BYTES, Files, Refused, read_again
from goldenami.recipe import Project
from goldenami.recipe.copying import copy_agent
from goldenami.recipe.prices import prices
from goldenami.recipe.secrets import read as read_secrets
from goldenami.report import render_error

SECRET = "root:hunter2:19000"
RECIPE = """\
name: web
version: "1.0"
os: debian
base: {id: ami-0123456789abcdef0}
"""

Write = Callable[[dict[str, str]], Path]


@pytest.fixture
def outside(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder beside the project with a file whose lines no user of the project may see."""
    folder = tmp_path_factory.mktemp("outside").resolve()
    (folder / "shadow").write_text(f"{SECRET}\n: [not, yaml\n")
    (folder / "x_test.py").write_text(f"def test_x(:\n    {SECRET!r}\n")
    return folder


def printed(root: Path) -> str:
    """Return what ``goldenami validate`` prints about the project."""
    project = recipe.load_project(root)
    problems = recipe.inspect(project, project.recipe_names(), all_agents=True).problems
    page = Console(width=400, record=True, file=io.StringIO())
    if problems:
        render_error(InvalidInput(problems), page)
    return page.export_text()


# The text of a recipe after RECIPE, and the place of the problem. OUT is the folder outside.
NAMED = {
    "absolute path": ("software: [{file: {src: OUT/shadow, dest: /etc/x}}]", "recipes/web.yaml:5:25: error: src:"),
    "dots": ("software: [{file: {src: ../../OUT/shadow, dest: /etc/x}}]", "recipes/web.yaml:5:25: error: src:"),
    "link": ("software: [{file: {src: link/shadow, dest: /etc/x}}]", "recipes/web.yaml:5:25: error: src:"),
    "template": ("software: [{template: {src: link/shadow, dest: /x}}]", "recipes/web.yaml:5:29: error: src:"),
    "handler": ("handlers: {h: {script: {src: OUT/shadow}}}", "recipes/web.yaml:5:30: error: src:"),
    "test": ("tests: [base, link/x_test.py]", "recipes/web.yaml:5:15: error: tests:"),
    "absent file": ("software: [{file: {src: OUT/absent, dest: /etc/x}}]", "recipes/web.yaml:5:25: error: src:"),
    "secret": ("vars: {t: {secret: {file: OUT/shadow}}}", "recipes/web.yaml:5:27: error: file:"),
    "device": ("software: [{template: {src: /dev/zero, dest: /x}}]", "recipes/web.yaml:5:29: error: src:"),
}


@pytest.mark.parametrize("name", NAMED)
def test_a_recipe_names_no_file_outside(name: str, write_project: Write, outside: Path) -> None:
    text, place = NAMED[name]
    relative = os.path.relpath(outside, "/")
    text = text.replace("../../OUT", f"{'../' * 12}{relative}").replace("OUT", str(outside))
    root = write_project({"recipes/web.yaml": f"{RECIPE}{text}\n"})
    (root / "recipes/link").symlink_to(outside)
    found = printed(root)
    assert place in found
    assert "which is outside the project" in found
    assert "allow_outside in goldenami.yaml" in found
    assert SECRET not in found


def test_allow_outside_allows_a_folder(write_project: Write, outside: Path) -> None:
    (outside / "motd").write_text("hello\n")
    (outside / "good_test.py").write_text("def test_x(host):\n    pass\n")
    used = f"software: [{{file: {{src: {outside}/motd, dest: /etc/motd}}}}]\ntests: [{outside}/good_test.py]\n"
    root = write_project({"recipes/web.yaml": RECIPE + used})
    assert printed(root).count("which is outside the project") == 2
    for allowed in (str(outside), os.path.relpath(outside, root)):
        (root / "goldenami.yaml").write_text(
            f"environments: {{sandbox: {{sandbox: true}}}}\nallow_outside: [{allowed}]\n"
        )
        assert printed(root) == ""


def test_a_recipe_that_the_command_line_names_is_in_the_project(
    write_project: Write, outside: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = write_project({"recipes/web.yaml": RECIPE})
    (outside / "web.yaml").write_text(RECIPE)
    assert main(["validate", str(outside / "web.yaml")]) == 2
    assert "hint: Copy the file into the project, or add its folder to allow_outside" in capsys.readouterr().err
    assert main(["validate", str(root / "recipes/web.yaml")]) == 0


def test_links_inside_the_project_are_followed(write_project: Write) -> None:
    used = "software: [{template: {src: here/motd.j2, dest: /etc/motd}}]\n"
    root = write_project({"recipes/web.yaml": RECIPE + used, "shared/motd.j2": "hello {{ recipe.name }}\n"})
    (root / "recipes/here").symlink_to("../shared")
    assert printed(root) == ""


# Files that goldenami finds by their names. Each becomes a link to the file outside.
FOUND = [
    "recipes/web.yaml",
    "recipes/agents/mine/agent.yaml",
    "recipes/agents/mine.yaml",
    "hardening/profiles/mine.yaml",
    "hardening/controls/mine.yaml",
    "operations/mine.py",
    "goldenami.yaml",
]


@pytest.mark.parametrize("target", ["shadow", "environ"])
@pytest.mark.parametrize("name", FOUND)
def test_a_file_of_the_project_is_no_link_to_a_file_outside(
    name: str, target: str, write_project: Write, outside: Path
) -> None:
    root = write_project({"recipes/other.yaml": RECIPE.replace("web", "other")})
    link = root / name
    link.parent.mkdir(parents=True, exist_ok=True)
    link.unlink(missing_ok=True)
    link.symlink_to(outside / "shadow" if target == "shadow" else "/proc/self/environ")
    found = printed(root)
    assert f"{name}: error: the file leads to " in found
    assert "which is outside the project" in found
    assert SECRET not in found
    assert "PATH=" not in found


@pytest.mark.parametrize("name", [name for name in FOUND if "operations" not in name and name != "goldenami.yaml"])
def test_a_fifo_is_reported_and_does_not_block(name: str, write_project: Write) -> None:
    root = write_project({"recipes/other.yaml": RECIPE.replace("web", "other")})
    (root / name).parent.mkdir(parents=True, exist_ok=True)
    os.mkfifo(root / name)
    used = f"software: [{{file: {{src: ../{name}, dest: /x}}}}]\ntests: [../{name}]\n"
    (root / "recipes/user.yaml").write_text(RECIPE.replace("web", "user") + used)
    found = printed(root)
    assert f"src: ../{name} is a FIFO" in found
    assert f"tests: ../{name} is a FIFO" in found
    if "agent" not in name and "hardening" not in name:
        assert f"{name}: error: the file is a FIFO" in found


@pytest.mark.parametrize("name", ["operations", "recipes/agents/chrony"])
def test_a_folder_that_leads_outside_is_not_searched(
    name: str, write_project: Write, outside: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = write_project({"recipes/web.yaml": RECIPE})
    (outside / "agent.yaml").write_text(SECRET)
    (root / name).parent.mkdir(parents=True, exist_ok=True)
    (root / name).symlink_to(outside)
    monkeypatch.setattr(Path, "rglob", lambda path, pattern: pytest.fail(f"{path} was searched"))
    found = printed(root)
    assert f"leads to {outside}" in found
    assert SECRET not in found


def test_credentials_of_the_checkout_are_no_files_of_the_project(write_project: Write) -> None:
    used = "software: [{file: {src: ../.git/config, dest: /etc/x}}]\n"
    root = write_project({"recipes/web.yaml": RECIPE + used, ".git/config": SECRET})
    found = printed(root)
    assert "src: ../.git/config leads into the folder .git" in found
    assert SECRET not in found


def test_a_file_has_a_size_limit_that_the_error_names(write_project: Write) -> None:
    used = "software: [{file: {src: big, dest: /x}}, {template: {src: large, dest: /x}}]\ntests: [large]\n"
    root = write_project({"recipes/web.yaml": RECIPE + used, "recipes/big": "", "recipes/large": ""})
    os.truncate(root / "recipes/big", FILE_BYTES + 1)  # sparse
    os.truncate(root / "recipes/large", TEXT_BYTES + 1)
    found = printed(root)
    assert "src: big is too large: expected at most 1024 MiB" in found
    assert "src: large is too large: expected at most 8 MiB" in found
    assert "tests: large is too large: expected at most 8 MiB" in found


def test_a_file_without_a_size_is_limited_too() -> None:
    with pytest.raises(Refused, match="too large"):
        Files([Path("/proc")]).read_bytes(Path("/proc/self/status"), limit=10)


def test_a_file_that_is_replaced_while_it_is_opened_is_not_read(
    tmp_path: Path, outside: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The path is a file of the project when it is checked, and a link when it is opened."""
    (tmp_path / "motd").write_text("hello\n")
    files = Files([tmp_path])
    check = Files.check

    def replaced(self: Files, path: Path) -> None:
        check(self, path)
        path.unlink()
        path.symlink_to(outside / "shadow")

    monkeypatch.setattr(Files, "check", replaced)
    with pytest.raises(Refused, match="outside the project"):
        files.read_bytes(tmp_path / "motd")


@pytest.mark.parametrize("name", ["a\0b", "\ud800", "x" * 5000, "loop"])
def test_a_name_that_no_file_has_is_an_error_of_the_file(name: str, tmp_path: Path) -> None:
    (tmp_path / "loop").symlink_to("loop")
    with pytest.raises(OSError):
        Files([tmp_path]).read_bytes(tmp_path / name)


def test_an_excerpt_is_of_a_file_that_was_read(write_project: Write, outside: Path) -> None:
    root = write_project({"recipes/web.yaml": f"{RECIPE}sofware: []\n"})
    assert "    5 | sofware: []" in printed(root)
    assert read_again(outside / "shadow") is None
    (root / "recipes/web.yaml").unlink()
    (root / "recipes/web.yaml").symlink_to(outside / "shadow")
    assert read_again(root / "recipes/web.yaml") is None


def test_a_payload_is_checked_again_when_it_is_sent(write_project: Write, outside: Path) -> None:
    root = write_project(
        {"recipes/web.yaml": f"{RECIPE}software: [{{file: {{src: motd, dest: /x}}}}]\n", "recipes/motd": "hello\n"}
    )
    project = recipe.load_project(root)
    loaded = recipe.load(project, "web", recipe.environment(project))
    payload = loaded.provisioning["x86_64"][0].operations[0].payloads["src"]
    assert payload.contents() == b"hello\n"
    (root / "recipes/motd").unlink()
    (root / "recipes/motd").symlink_to(outside / "shadow")
    with pytest.raises(Refused):
        payload.contents()


def test_a_secret_file_is_read_only_inside_or_where_it_is_allowed(write_project: Write, outside: Path) -> None:
    root = write_project({"recipes/web.yaml": f"{RECIPE}vars: {{t: {{secret: {{file: token}}}}}}\n"})
    project = recipe.load_project(root)
    refs = recipe.load(project, "web", recipe.environment(project)).secrets
    (root / "recipes/token").symlink_to(outside / "shadow")
    with pytest.raises(InvalidInput) as caught:
        read_secrets(refs, lambda name: "")
    assert "which is outside the project" in caught.value.problems[0].message
    (root / "recipes/token").unlink()
    (root / "recipes/token").write_text("s3cret\n")
    assert read_secrets(refs, lambda name: "") == {"t": "s3cret"}


def test_prices_and_copies_are_of_the_project(write_project: Write, outside: Path) -> None:
    root = write_project({})
    (root / "prices.yaml").symlink_to(outside / "shadow")
    project: Project = recipe.load_project(root)
    with pytest.raises(InvalidInput) as caught:
        prices(project)
    assert "which is outside the project" in caught.value.problems[0].message
    (root / "recipes/agents/chrony").mkdir(parents=True)
    (root / "recipes/agents/chrony/agent.yaml").symlink_to(outside / "shadow")
    with pytest.raises(goldenami.errors.UsageError, match="outside the project"):
        copy_agent(project, "chrony", force=True)
    assert SECRET in (outside / "shadow").read_text()
