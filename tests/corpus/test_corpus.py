"""Every input of ``cases`` ends in time, within its memory, without a traceback, and with an error at its place."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.corpus.cases import HEAD, SANDBOX, Case, cases

ROOT = Path(__file__).parents[2]
CASES = cases()
SECONDS, MEGABYTES = 5, 300  # seconds of processor time: tests beside this one do not count
WALL = 120  # seconds until a case ends in any way

_VARIABLES = {
    "PATH": os.environ["PATH"],
    "PYTHONPATH": str(ROOT),
    "PYTHONDONTWRITEBYTECODE": "1",
    "LANG": "C.UTF-8",
    "AWS_EC2_METADATA_DISABLED": "true",
}


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, dict[str, Any]]:
    """What each case did, by its name. All run in one process; after a case that ends it, another one runs the rest."""
    place = tmp_path_factory.mktemp("corpus")
    home = place / "home"
    home.mkdir()
    found: dict[str, dict[str, Any]] = {}
    rest = CASES
    while rest:
        done = subprocess.run(
            [sys.executable, "-m", "tests.corpus.worker", place],
            input="".join(json.dumps(case.to_json()) + "\n" for case in rest),
            capture_output=True,
            text=True,
            cwd=ROOT,
            env={**_VARIABLES, "HOME": str(home), "TMPDIR": str(place)},
            timeout=1800,
            check=False,
        )
        lines = [json.loads(line) for line in done.stdout.splitlines()]
        found.update((line["name"], line) for line in lines)
        if len(lines) < len(rest):
            name = rest[len(lines)].name
            found[name] = {"name": name, "ended": f"status {done.returncode}\n{done.stderr[-3000:]}"}
        rest = rest[len(lines) + 1 :]
    return found


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_bad_input_is_refused(case: Case, results: Mapping[str, dict[str, Any]]) -> None:
    result = results[case.name]
    assert "ended" not in result, result["ended"]
    output = result["out"] + result["err"]
    assert result["status"] == case.status, output[:2000]
    assert "Traceback" not in output
    assert "because of a bug" not in output
    assert result["cpu"] <= SECONDS
    assert result["seconds"] <= WALL
    assert result["megabytes"] <= MEGABYTES
    assert [place for place in case.places if place not in output] == [], output[:2000]
    assert case.says in output, output[:2000]
    if "FORCE_COLOR" not in case.variables:
        assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202e]", output)


def test_there_are_cases() -> None:
    assert len({case.name for case in CASES}) == len(CASES) > 300


@pytest.fixture
def project(tmp_path: Path) -> Path:
    (tmp_path / "recipes").mkdir()
    (tmp_path / "goldenami.yaml").write_text(SANDBOX)
    (tmp_path / "recipes/web.yaml").write_text(HEAD + '"own\xe9r": 1\n', encoding="utf-8")
    return tmp_path


def goldenami(arguments: Sequence[str | bytes], cwd: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "goldenami.cli.main", *arguments],
        capture_output=True,
        cwd=cwd,
        env={**_VARIABLES, "HOME": str(cwd), **variables},
        errors="surrogateescape",
        check=False,
        timeout=300,
    )


def test_the_working_directory_is_gone(tmp_path: Path) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    command = f'rmdir "$PWD"; exec "{sys.executable}" -m goldenami.cli.main validate'
    done = subprocess.run(["sh", "-c", command], capture_output=True, text=True, cwd=gone, env=_VARIABLES, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith("error: the working directory does not exist any more\n")


def test_a_locale_without_unicode(project: Path) -> None:
    ascii_only = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "PYTHONIOENCODING": "ascii:strict"}
    done = goldenami(["validate"], project, **ascii_only)
    assert done.returncode == 2
    assert "recipes/web.yaml:5:1: error: unknown key 'own\\xe9r'" in done.stderr


def test_arguments_that_are_not_utf8(project: Path) -> None:
    done = goldenami(["validate", b"\xff\xfe"], project)
    assert done.returncode == 3
    assert "there is no recipe '\\udcff\\udcfe' in recipes" in done.stderr


def test_output_of_texts_of_others_is_escaped(project: Path) -> None:
    control = (
        'controls:\n  - id: x\n    title: "\\ax"\n    why: x\n    operations: [package: x]\n'
        "    check: {reads: x, expected: x}\n"
    )
    profile = "name: x\ntitle: x\nos: debian\nlevel: 1\nfiles: [x]\n"
    for name, text in (("controls", control), ("profiles", profile)):
        path = project / "hardening" / name / "x.yaml"
        path.parent.mkdir(parents=True)
        path.write_text(text)
    done = goldenami(["harden", "list", "x"], project)
    assert (done.returncode, done.stdout) == (0, "x  1  \\x07x\n")


def test_the_details_of_a_bug_are_in_a_private_file(
    project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """No input is known to raise one, so this test makes one."""
    from goldenami import recipe
    from goldenami.cli.main import main

    def broken(*_: object) -> None:
        raise KeyError("a \x1b[31msecret")

    monkeypatch.chdir(project)
    monkeypatch.setenv("TMPDIR", str(project))
    monkeypatch.setattr("tempfile.tempdir", str(project))
    monkeypatch.setattr(recipe, "load_project", broken)
    assert main(["validate"]) == 1
    said = capsys.readouterr().err
    assert said.startswith("error: goldenami failed because of a bug: KeyError\nhint: The details are in ")
    (details,) = project.glob("goldenami-*.txt")
    assert str(details) in said
    assert "Traceback" in details.read_text()
    assert details.stat().st_mode & 0o777 == 0o600
    assert main(["--debug", "validate"]) == 1
    assert "Traceback" in capsys.readouterr().err


def test_debug_changes_no_exit_code(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from goldenami.cli.main import main

    monkeypatch.chdir(project)
    for arguments in (["validate", "nothing"], ["validate", "--nothing"], ["plan", "web"]):
        assert main(["--debug", *arguments]) == main(arguments) != 0
