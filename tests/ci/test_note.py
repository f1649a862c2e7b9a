"""The note with the plan in a merge request: written once, then updated, on a server that answers as GitLab does."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from goldenami.ci import note
from goldenami.cli.main import main
from tests.ci.gitlab_api import ME, OTHER, TOKEN, GitLab, serving

PLAN = "<!-- goldenami:plan:production -->"


@pytest.fixture
def gitlab(monkeypatch: pytest.MonkeyPatch) -> Iterator[GitLab]:
    with serving() as fake:
        for name, value in fake.variables.items():
            monkeypatch.setenv(name, value)
        yield fake


@pytest.fixture
def plan(tmp_path: Path) -> Path:
    file = tmp_path / "plan.md"
    file.write_text(f"{PLAN}\n### Plan\n")
    return file


def test_the_note_is_written_once_and_then_updated(
    gitlab: GitLab, plan: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for number in range(130):
        gitlab.add(f"a word of another person, {number}", OTHER)
    assert main(["ci", "note", str(plan)]) == 0
    assert "note of merge request !12: created" in capsys.readouterr().err
    assert gitlab.notes[-1]["body"] == f"{PLAN}\n### Plan\n"
    assert main(["ci", "note", str(plan)]) == 0
    assert "unchanged" in capsys.readouterr().err
    plan.write_text(f"{PLAN}\n### Another plan\n")
    assert main(["ci", "note", str(plan)]) == 0
    assert "updated" in capsys.readouterr().err
    assert len(gitlab.notes) == 131
    assert "Another plan" in gitlab.notes[-1]["body"]
    assert main(["ci", "note", str(plan), "--mark", "plan eu"]) == 0
    assert len(gitlab.notes) == 132
    assert gitlab.notes[-1]["body"].startswith("<!-- goldenami:plan eu -->\n")


def test_a_note_of_another_author_is_not_changed(gitlab: GitLab, plan: Path) -> None:
    gitlab.add(f"{PLAN}\nforged", OTHER)
    assert main(["ci", "note", str(plan)]) == 0
    assert [one["author"]["id"] for one in gitlab.notes] == [OTHER, ME]
    assert "forged" in gitlab.notes[0]["body"]


def test_a_plan_that_is_too_long_is_shortened(gitlab: GitLab, plan: Path) -> None:
    plan.write_text(f"{PLAN}\n" + "a line of a plan\n" * 100_000)
    assert main(["ci", "note", str(plan)]) == 0
    body = gitlab.notes[0]["body"]
    assert len(body) < 1_000_000
    assert body.endswith("a line of a plan\n\nThe rest is in the artifacts of the job.\n")


@pytest.mark.parametrize("missing", [note.TOKEN, "CI_MERGE_REQUEST_IID"])
def test_nothing_is_written_without_a_token_or_a_merge_request(
    gitlab: GitLab, plan: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], missing: str
) -> None:
    monkeypatch.delenv(missing)
    assert main(["ci", "note", str(plan)]) == 0
    assert "no note is written" in capsys.readouterr().err
    assert gitlab.asked == []


def test_a_refused_token_is_not_printed(
    gitlab: GitLab, plan: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(note.TOKEN, "glpat-expired")
    assert main(["ci", "note", str(plan)]) == 4
    told = capsys.readouterr().err
    assert "HTTP status 401" in told
    assert "scope api" in told
    assert "glpat-expired" not in told


@pytest.mark.parametrize("token", [f"{TOKEN}\n", f"{TOKEN}\rX-More: 1", f"{TOKEN}\u20ac"])
def test_a_token_that_no_header_can_have_is_neither_sent_nor_printed(
    gitlab: GitLab, plan: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], token: str
) -> None:
    monkeypatch.setenv(note.TOKEN, token)
    assert main(["ci", "note", str(plan)]) == 2
    told = capsys.readouterr().err
    assert f"{note.TOKEN} has a line break" in told
    assert TOKEN[6:] not in told
    assert gitlab.asked == []


def test_a_note_has_one_mark(gitlab: GitLab, plan: Path) -> None:
    """Also one that has two, as notes had that were written with --mark before."""
    older = gitlab.add(f"<!-- goldenami:mine -->\n{PLAN}\n### Older plan\n", ME)
    assert main(["ci", "note", str(plan)]) == 0
    assert older["body"] == f"{PLAN}\n### Plan\n"
    assert main(["ci", "note", str(plan), "--mark", "mine"]) == 0
    assert [one["body"] for one in gitlab.notes] == [older["body"], "<!-- goldenami:mine -->\n### Plan\n"]
    assert main(["ci", "note", str(plan), "--mark", "plan:production"]) == 0
    assert len(gitlab.notes) == 2


def test_the_token_does_not_follow_a_redirect(gitlab: GitLab, plan: Path) -> None:
    gitlab.redirect = "/api/v4/elsewhere"
    assert main(["ci", "note", str(plan)]) == 1
    assert gitlab.asked == ["GET /api/v4/user"]


def test_mistakes_are_errors(
    gitlab: GitLab, plan: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["ci", "note", "missing.md"]) == 2
    assert main(["ci", "note", str(plan), "--mark", "-->"]) == 2
    assert "expected 1 to 200 letters" in capsys.readouterr().err
    plan.write_text("### Plan\n")
    assert main(["ci", "note", str(plan)]) == 2
    assert "--mark NAME" in capsys.readouterr().err
    plan.write_text(f"{PLAN}\n")
    monkeypatch.setenv("CI_PROJECT_ID", "35")
    assert main(["ci", "note", str(plan)]) == 3
    monkeypatch.setenv("CI_API_V4_URL", "file:///etc")
    assert main(["ci", "note", str(plan)]) == 2
    monkeypatch.setenv("CI_API_V4_URL", "http://127.0.0.1:1/api/v4")
    assert main(["ci", "note", str(plan)]) == 1
    assert "GitLab did not answer" in capsys.readouterr().err
    monkeypatch.delenv("CI_API_V4_URL")
    assert main(["ci", "note", str(plan)]) == 2
    assert "expected a job of GitLab" in capsys.readouterr().err
