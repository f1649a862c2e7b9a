"""The pipeline of this project, for its own recipes."""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path

import pytest

from tests.ci.gitlab_api import serving
from tests.ci.runner import ROOT, Repository, own_variables
from tests.ci.schema import check, jobs_of, parse
from tests.ci.shells import Answering, Shells, wanted

PUSH = {"CI_PIPELINE_SOURCE": "push", "CI_COMMIT_BRANCH": "main", "CI_DEFAULT_BRANCH": "main"}
NIGHTLY = PUSH | {"CI_PIPELINE_SOURCE": "schedule", "GOLDENAMI_SCHEDULE": "nightly"}
WEEKLY = NIGHTLY | {"GOLDENAMI_SCHEDULE": "weekly"}


def test_a_merge_request_shows_what_changes(tmp_path: Path) -> None:
    repository = Repository(tmp_path / "clone")
    for folder in ("recipes", "hardening", ".gitlab"):
        shutil.copytree(ROOT / folder, repository.path / folder, ignore=shutil.ignore_patterns("__pycache__"))
    for file in (".gitlab-ci.yml", "goldenami.yaml"):
        shutil.copy(ROOT / file, repository.path)
    (repository.path / ".gitignore").write_text(".venv/\n")
    repository.commit("First")
    base = repository.path / "recipes/debian-12-base.yaml"
    base.write_text(base.read_text().replace("level: all", "level: security"))
    commit = repository.commit("Change the base")

    programs = tmp_path / "bin"
    for program in (programs / "make", programs / "apt-get"):  # they install what this environment has
        program.parent.mkdir(exist_ok=True)
        program.write_text("#!/bin/sh\n")
        program.chmod(0o755)
    installed = repository.path / ".venv/bin/goldenami"
    installed.parent.mkdir(parents=True)
    installed.symlink_to(programs / "goldenami")
    with serving() as gitlab, Answering(programs / "goldenami").listening() as answering:
        shells = Shells(repository.path, answering, own_variables(os.environ))
        shells.run_alone("recipes", {**gitlab.variables, "CI_MERGE_REQUEST_DIFF_BASE_SHA": commit})
    (note,) = (one["body"] for one in gitlab.notes)
    assert note.startswith("<!-- goldenami:changes:sandbox -->\n")
    assert re.search(r"^\| debian-12-base \| .* changed \|", note, re.MULTILINE)
    jobs = jobs_of(check((shells.artifacts["recipes"] / "images.yml").read_text()))
    assert {"build debian-12-base", "build debian-12-web", "promote debian-12-web"} <= jobs.keys()
    assert "build debian-13-base" not in jobs
    assert jobs["promote debian-12-web"]["environment"]["name"] == "sandbox/debian-12-web"


@pytest.mark.parametrize(
    ("variables", "jobs"),
    [
        ({"CI_PIPELINE_SOURCE": "merge_request_event", "CI_DEFAULT_BRANCH": "main"}, {"recipes"}),
        (PUSH, {"recipes:generate", "recipes:build"}),
        (NIGHTLY, {"recipes:generate", "recipes:build", "recipes:upkeep", "clean", "drift", "nightly"}),
        (WEEKLY, {"recipes:upkeep", "retire"}),
    ],
    ids=["merge request", "push", "nightly", "weekly"],
)
def test_which_jobs_a_pipeline_has(variables: dict[str, str], jobs: set[str]) -> None:
    own = jobs_of(parse((ROOT / ".gitlab-ci.yml").read_text()))
    named = {name: job for name, job in own.items() if name.startswith("recipes") or name == "nightly"}
    found = {name for name, job in named.items() if wanted(job["rules"], variables)}
    if "recipes:upkeep" in found:
        (source,) = own["recipes:upkeep"]["trigger"]["include"]
        upkeep = jobs_of(parse((ROOT / source["local"]).read_text()))
        found |= {name for name, job in upkeep.items() if wanted(job["rules"], variables)}
    assert found == jobs
