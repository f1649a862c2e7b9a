"""What is shipped, from a project that has nothing of it: lookup, copies, and the commands that show and copy."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path

import pytest
from rich.console import Console

from goldenami import planning, recipe
from goldenami.cli.main import main
from goldenami.errors import NotFound, Problem, UsageError
from goldenami.model import BaseImage
from goldenami.recipe import lookup
from goldenami.recipe.copying import copy_agent, copy_profile, copy_recipe
from goldenami.recipe.problems import Problems
from goldenami.recipe.project import shown
from goldenami.report.problems import render_problems
from goldenami.shipped import ROOT, path_of

Write = Callable[[dict[str, str]], Path]

WEB = """\
name: web
version: "1.0"
base: {id: ami-0123456789abcdef0}
os: debian
agents: [chrony, node-exporter]
hardening: {profiles: [debian-12-level-2]}
"""
CHRONY = "recipes/agents/chrony/chrony.conf.j2"
SSH = "hardening/controls/ssh.yaml"


@pytest.fixture
def root(write_project: Write) -> Path:
    return write_project({"recipes/web.yaml": WEB})


def found(root: Path) -> dict[str, str]:
    """Where the recipe's agents, profiles and files of controls come from."""
    project = recipe.load_project(root)
    loaded = recipe.load(project, "web", recipe.environment(project))
    return {one.name: one.origin for one in loaded.lookups}


def plan(root: Path) -> planning.BuildPlan:
    project = recipe.load_project(root)
    environment = recipe.environment(project)
    loaded = recipe.load(project, "web", environment)
    base = BaseImage("ami-1", "debian-12", "136693071363", "x86_64", "/dev/xvda", 8, "2026-11-10T00:00:00.000Z", "test")
    keys = {t.label: f"arn:aws:kms:{t.region}:{t.account.id}:key/1" for t in loaded.distribution.targets}
    return planning.make(loaded, environment, planning.Facts(base={"x86_64": base}, kms_keys=keys))


def change(path: Path) -> None:
    path.write_text(path.read_text() + "\n# changed\n")


def test_shipped_ones_are_found_without_a_copy(root: Path) -> None:
    origins = found(root)
    assert {origins[name] for name in origins} == {"shipped"}
    assert set(origins) >= {"chrony", "node-exporter", "debian-12-level-1", "debian-12-level-2", "ssh", "audit"}


def test_a_copy_is_used_and_gives_the_same_digest_until_it_is_changed(root: Path) -> None:
    shipped = plan(root)
    project = recipe.load_project(root)
    copy_agent(project, "chrony")
    copy_profile(project, "debian-12-level-2")
    origins = found(root)
    assert origins["chrony"] == origins["ssh"] == origins["debian-12-level-1"] == "project, same as the shipped one"
    assert origins["node-exporter"] == "shipped"
    assert plan(root).digest == shipped.digest

    change(root / CHRONY)
    assert found(root)["chrony"] == "project, differs from the shipped one"
    own = plan(root)
    assert planning.changes(own, shipped.inputs) == ["agents:x86_64"]
    assert any(
        b"# changed" in p.contents()
        for b in own.recipe.provisioning["x86_64"][0].operations
        for p in b.payloads.values()
    )
    text = "\n".join(planning.describe(own))
    assert "agents: chrony (project, differs from the shipped one); node-exporter (shipped)" in text
    agents = {one["name"]: one for one in planning.to_json(own)["lookups"] if one["kind"] == "agent"}
    assert (agents["chrony"]["from"], agents["chrony"]["shipped_one"]) == ("project", "different")
    assert (agents["node-exporter"]["from"], agents["node-exporter"]["shipped_one"]) == ("shipped", None)


def test_one_file_of_controls_is_replaced_in_a_shipped_profile(root: Path) -> None:
    before = plan(root)
    (root / SSH).parent.mkdir(parents=True)
    (root / SSH).write_text((ROOT / SSH).read_text().replace("ssh_max_auth_tries: ", "ssh_max_auth_tries: 1 # was "))
    origins = found(root)
    assert origins["ssh"] == "project, differs from the shipped one"
    assert origins["debian-12-level-2"] == origins["audit"] == "shipped"
    assert set(planning.changes(plan(root), before.inputs)) == {"hardening:x86_64", "controls:x86_64"}


@pytest.mark.parametrize("name", lookup.names(ROOT, "recipe"))
def test_a_copied_recipe_is_complete(name: str, write_project: Write) -> None:
    project = recipe.load_project(write_project({}))
    copied = copy_recipe(project, name)
    assert {one.outcome for one in copied} == {"written"}
    assert recipe.check(recipe.load_project(project.root), [name]) == []


@pytest.mark.parametrize("name", lookup.names(ROOT, "agent"))
def test_a_copied_agent_is_complete(name: str, write_project: Write) -> None:
    project = recipe.load_project(write_project({"recipes/web.yaml": WEB}))
    copied = copy_agent(project, name)
    assert all(one.path.is_relative_to(project.root / "recipes/agents" / name) for one in copied)
    assert recipe.check(recipe.load_project(project.root), ["web"], all_agents=True) == []


@pytest.mark.parametrize("name", lookup.names(ROOT, "profile"))
def test_a_copied_profile_needs_nothing_that_is_shipped(name: str, write_project: Write) -> None:
    project = recipe.load_project(write_project({"recipes/web.yaml": WEB}))
    copy_profile(project, name)
    inspection = recipe.inspect(recipe.load_project(project.root), ["web"], all_agents=True)
    assert inspection.problems == []
    own = {one.name for one in inspection.lookups if not one.shipped}
    assert {path.stem for path in (project.root / "hardening").rglob("*.yaml")} == own >= {name}


def test_nothing_is_overwritten_without_force(root: Path) -> None:
    project = recipe.load_project(root)
    copy_agent(project, "chrony")
    assert {one.outcome for one in copy_agent(project, "chrony")} == {"unchanged"}
    change(root / CHRONY)
    (root / "recipes/agents/chrony/agent.yaml").unlink()
    with pytest.raises(UsageError, match=r"recipes/agents/chrony/chrony\.conf\.j2"):
        copy_agent(project, "chrony")
    assert not (root / "recipes/agents/chrony/agent.yaml").exists(), "all or nothing"
    outcomes = {one.path.name: one.outcome for one in copy_agent(project, "chrony", force=True)}
    assert outcomes == {"agent.yaml": "written", "chrony.conf.j2": "replaced", "chrony_test.py": "unchanged"}
    assert (root / CHRONY).read_bytes() == (ROOT / CHRONY).read_bytes()


def test_what_a_copy_only_needs_stays_as_the_project_has_it(write_project: Write) -> None:
    root = write_project({})
    project = recipe.load_project(root)
    copy_recipe(project, "debian-12-base")
    change(root / "recipes/debian-12-base.yaml")
    change(root / "recipes/files/journald.conf")
    assert {one.path.name for one in copy_recipe(project, "debian-12-web")} == {
        "debian-12-web.yaml",
        "index.html.j2",
        "nginx.conf.j2",
        "web_test.py",
    }, "its base is in the project already"
    outcomes = {one.path.name: one.outcome for one in copy_recipe(project, "debian-13-base")}
    assert outcomes["journald.conf"] == "kept"
    assert outcomes["debian-13-base.yaml"] == "written"
    with pytest.raises(UsageError, match=r"recipes/debian-12-base\.yaml"):
        copy_recipe(project, "debian-12-base")


def test_a_base_recipe_that_is_shipped_names_the_command_that_copies_it(write_project: Write) -> None:
    child = 'name: web\nversion: "1.0"\nbase: {recipe: debian-12-base}\n'
    root = write_project({"recipes/web.yaml": child})
    [problem] = recipe.check(recipe.load_project(root), ["web"])
    assert problem.message == "base: there is no recipe 'debian-12-base'"
    assert problem.hint is not None
    assert problem.hint.endswith(": goldenami recipes copy debian-12-base")
    with pytest.raises(NotFound) as caught:
        recipe.load_project(root).recipe_path("debian-12-base")
    assert caught.value.hint == problem.hint
    copy_recipe(recipe.load_project(root), "debian-12-base")
    assert recipe.check(recipe.load_project(root), ["web"]) == []


def test_an_agent_in_both_forms_is_a_mistake(root: Path) -> None:
    project = recipe.load_project(root)
    copy_agent(project, "chrony")
    (root / "recipes/agents/chrony.yaml").write_text("name: chrony\noperations: {}\n")
    [problem] = recipe.check(recipe.load_project(root), ["web"], all_agents=True)
    assert problem.file == "recipes/agents/chrony.yaml"
    with pytest.raises(UsageError, match=r"recipes/agents/chrony\.yaml"):
        copy_agent(project, "chrony")


def test_names_reach_no_other_directory(root: Path) -> None:
    project = recipe.load_project(root)
    assert project.find("agent", "../debian-12-base") is None
    with pytest.raises(NotFound):
        copy_agent(project, "../debian-12-base")


def test_a_shipped_file_has_a_short_name_that_is_shown_with_its_lines(root: Path) -> None:
    agent = ROOT / "recipes/agents/chrony/agent.yaml"
    name = shown(agent)
    assert name == "shipped:recipes/agents/chrony/agent.yaml"
    assert path_of(name) == agent
    assert path_of("recipes/web.yaml") == Path("recipes/web.yaml")
    assert shown(root / "recipes/web.yaml") == "recipes/web.yaml"
    console = Console(width=100, record=True, file=io.StringIO())
    assert recipe.load_project(root).document(agent, Problems()) is not None
    render_problems([Problem(name, 3, 1, "a mistake")], console)
    text = console.export_text()
    assert f"{name}:3:1: error: a mistake" in text
    assert "    3 | name: chrony" in text


def test_validate_says_what_was_used(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    copy_agent(recipe.load_project(root), "chrony")
    copy_agent(recipe.load_project(root), "osquery")  # the recipe does not use it
    change(root / CHRONY)
    assert main(["validate"]) == 0
    said = capsys.readouterr().err
    assert "chrony (project, differs from the shipped one)" in said
    assert "osquery (project, same as the shipped one)" in said
    assert "node-exporter (shipped)" in said
    assert main(["validate", "web", "--json"]) == 0
    lookups = {one["name"]: one for one in json.loads(capsys.readouterr().out)["lookups"]}
    assert lookups["chrony"]["shipped_one"] == "different"
    assert lookups["debian-12-level-1"]["from"] == "shipped"
    assert "osquery" not in lookups


def test_a_checkout_hides_nothing_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    project = recipe.load_project(ROOT)
    inspection = recipe.inspect(project, project.recipe_names(), all_agents=True)
    assert {one.origin for one in inspection.lookups} == {"project"}
    with pytest.raises(UsageError, match="the directory of the shipped files"):
        copy_agent(project, "chrony")


@pytest.mark.parametrize("with_project", [True, False], ids=["in an empty project", "without a project"])
def test_all_that_is_shipped_is_listed(
    with_project: bool, write_project: Write, capsys: pytest.CaptureFixture[str]
) -> None:
    root = write_project({})
    if not with_project:
        (root / "goldenami.yaml").unlink()
    lists: tuple[tuple[list[str], str, lookup.Kind], ...] = (
        (["agents", "list"], "agents", "agent"),
        (["harden", "list"], "profiles", "profile"),
        (["recipes", "list"], "recipes", "recipe"),
    )
    for command, key, kind in lists:
        assert main([*command, "--json"]) == 0
        rows = json.loads(capsys.readouterr().out)[key]
        names = sorted(path.stem for path in (ROOT / lookup.FOLDERS[kind]).glob("*.yaml")) or sorted(
            path.name for path in (ROOT / "recipes/agents").iterdir()
        )
        assert [row["name"] for row in rows] == names
        assert {row["from"] for row in rows} == {"shipped"}
        assert main(command) == 0
        assert [line.split()[0] for line in capsys.readouterr().out.splitlines()[1:]] == names


def test_a_profile_without_controls_is_not_an_empty_list(
    write_project: Write, capsys: pytest.CaptureFixture[str]
) -> None:
    write_project({"hardening/profiles/bare.yaml": "name: bare\ntitle: Bare\nos: debian\nlevel: 1\n"})
    assert main(["harden", "list", "bare"]) == 0
    printed = capsys.readouterr()
    assert printed.out == ""
    assert "bare has no controls" in printed.err


def test_an_agent_is_shown(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["agents", "show", "chrony"]) == 0
    text = capsys.readouterr().out
    assert text.startswith("chrony: Synchronizes the clock\n")
    assert "parameter makestep: string; default: 1.0 3\n" in text
    assert main(["agents", "show", "chrony", "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert [Path(file).name for file in shown["files"]] == ["agent.yaml", "chrony.conf.j2", "chrony_test.py"]
    assert shown["params"]["servers"]["default"] == ["169.254.169.123"]
    assert main(["agents", "show", "chrny"]) == 3
    assert "Did you mean chrony?" in capsys.readouterr().err


def test_copying_by_command_prints_what_was_written(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for command in (
        ["agents", "copy", "chrony"],
        ["harden", "copy", "debian-12-level-2"],
        ["recipes", "copy", "debian-12-web"],
    ):
        assert main(command) == 0
        written = capsys.readouterr().out.splitlines()
        assert len(written) > 2
        assert all((root / path).is_file() for path in written)
        assert main(command) == 0
        again = capsys.readouterr()
        assert again.out == ""
        assert all(
            path in again.err
            for path in written
            if "12-base" not in path and "/files/" not in path and "base_test" not in path
        )
    change(root / CHRONY)
    assert main(["agents", "copy", "chrony"]) == 2
    assert main(["agents", "copy", "chrony", "--force"]) == 0
    assert capsys.readouterr().out == f"{CHRONY}\n"


def test_init_can_start_with_a_shipped_recipe(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["init", "new", "--from", "debian-12-hardned"]) == 3
    assert not (tmp_path / "new").exists()
    assert main(["init", "new", "--from", "debian-12-hardened"]) == 0
    said = capsys.readouterr()
    assert "new/recipes/debian-12-hardened.yaml" in said.out.splitlines()
    for command in ("goldenami agents list", "goldenami harden list", "goldenami recipes list"):
        assert command in said.err
    project = recipe.load_project(tmp_path / "new")
    assert project.recipe_names() == ["debian-12-base", "debian-12-hardened"]
    assert recipe.check(project, project.recipe_names(), all_agents=True) == []
