"""The report of code quality that `validate` writes for GitLab."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from goldenami.cli.main import main

SEVERITIES = {"info", "minor", "major", "critical", "blocker"}  # "Code Quality report format" (GitLab)


@pytest.fixture
def recipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A recipe with two mistakes, in a project in a folder of its repository."""
    (tmp_path / ".git").mkdir()
    project = tmp_path / "images"
    assert main(["init", str(project)]) == 0
    monkeypatch.chdir(project)
    file = project / "recipes/first-image.yaml"
    file.write_text(file.read_text().replace("description:", "descripton:").replace("level: security", "level: some"))
    return file


def report(capsys: pytest.CaptureFixture[str], code: int = 2) -> list[dict[str, Any]]:
    capsys.readouterr()
    assert main(["validate", "--format", "codeclimate"]) == code
    return list(json.loads(capsys.readouterr().out))


def test_each_problem_is_a_finding_at_its_place(recipe: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = report(capsys)
    lines = recipe.read_text().splitlines()
    assert [lines[one["location"]["lines"]["begin"] - 1].split(":")[0] for one in found] == ["descripton", "patches"]
    for one in found:
        assert set(one) == {"description", "check_name", "fingerprint", "severity", "location"}
        assert one["severity"] in SEVERITIES
        assert one["location"]["path"] == "images/recipes/first-image.yaml"
    assert "unknown key 'descripton'" in found[0]["description"]
    assert len({one["fingerprint"] for one in found}) == 2


def test_a_problem_that_moved_keeps_its_fingerprint(recipe: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = report(capsys)
    recipe.write_text(f"# one more line\n{recipe.read_text()}")
    after = report(capsys)
    assert [one["fingerprint"] for one in after] == [one["fingerprint"] for one in before]
    assert after[0]["location"]["lines"]["begin"] == before[0]["location"]["lines"]["begin"] + 1


def test_without_problems_the_report_is_empty(recipe: Path, capsys: pytest.CaptureFixture[str]) -> None:
    recipe.write_text(recipe.read_text().replace("descripton:", "description:").replace("level: some", "level: all"))
    assert report(capsys, code=0) == []


def test_the_other_forms(recipe: Path, capsys: pytest.CaptureFixture[str]) -> None:
    capsys.readouterr()
    assert main(["validate", "--format", "json"]) == main(["validate", "--json", "--format", "json"]) == 2
    assert '"schema": "goldenami.problems/1"' in capsys.readouterr().out
    assert main(["validate", "--json", "--format", "codeclimate"]) == 2
    assert "cannot be combined" in capsys.readouterr().err
