"""What the commands load that run often: the start of a process is most of their time."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import pytest

from goldenami.cli.main import main
from goldenami.release.catalog import Catalog
from tests.release.conftest import make_manifest

AWS = {"boto3", "botocore", "moto", "paramiko"}
# What only recipes, templates and builds need.
RECIPES = {"jinja2", "goldenami.recipe.loader", "goldenami.provision", "goldenami.os", "goldenami.schedules"}
BUILDS = {"goldenami.journal", "goldenami.aws.tags", "goldenami.aws.ownership", "goldenami.notify.document", "rich"}
# What works on hosts, or asks package repositories, or checks environments: a plan does none of it.
HOSTS = {
    *(f"goldenami.provision.{name}" for name in ("accounts", "users", "units", "git", "runner", "results", "sealing")),
    *("goldenami.stages.host_work", "goldenami.stages.build", "goldenami.hardening.batch", "goldenami.validate"),
    *("goldenami.preflight.checks", "goldenami.updates.sources", "goldenami.aws.blocks"),
}
RECIPE = 'name: web\nversion: "1.0"\nos: debian\nbase: {id: ami-0123456789abcdef0}\n'
PRODUCTION = """\
environments:
  production:
    home: {account: "111111111111", region: eu-west-1}
    targets: [{account: home, regions: [eu-west-1], kms_key: alias/golden-ami}]
    catalog: ../catalog
"""
RESOLVE = ["resolve", "debian-12-web@stable", "--region", "eu-west-1"]
WEB = {"urllib.request", "http.client"}
CHECKED = {"pydantic", "yaml", "goldenami.recipe"}  # what reads goldenami.yaml


@pytest.fixture
def project(tmp_path: Path) -> Path:
    (tmp_path / "goldenami.yaml").write_text("environments:\n  sandbox: {sandbox: true, catalog: catalog}\n")
    (tmp_path / "without-sandbox").mkdir()
    (tmp_path / "without-sandbox/goldenami.yaml").write_text(PRODUCTION)
    (tmp_path / "recipes").mkdir()
    (tmp_path / "recipes/web.yaml").write_text(RECIPE)
    catalog = Catalog(tmp_path / "catalog")
    catalog.add(make_manifest())
    catalog.move("debian-12-web", "stable", "1.4.20261124.1", now=datetime(2026, 11, 24, tzinfo=UTC))
    return tmp_path


@pytest.mark.parametrize(
    ("arguments", "without"),
    [
        (["--help"], AWS | RECIPES | BUILDS | CHECKED | {"goldenami.model", "json", "tempfile", "difflib"}),
        ([*RESOLVE, "--account", "111111111111", "--catalog", "catalog"], AWS | RECIPES | BUILDS | CHECKED),
        (RESOLVE, AWS | RECIPES | BUILDS | WEB),
        (["-C", "without-sandbox", *RESOLVE], AWS | RECIPES | BUILDS | WEB | {"importlib.metadata", "importlib.abc"}),
        (["images", "list", "--no-check"], AWS | RECIPES | BUILDS | WEB),
        (["history", "debian-12-web"], AWS | RECIPES | BUILDS | WEB),
        (
            ["plan", "web", "--offline"],
            {"moto", "paramiko", "invoke", "cryptography", "rich", "asyncio", "unittest"} | HOSTS,
        ),
    ],
)
def test_a_command_loads_only_what_it_uses(project: Path, arguments: Sequence[str], without: set[str]) -> None:
    program = (
        "import sys; from goldenami.cli.main import main; code = main(); "
        "print(*sys.modules, file=sys.stderr); sys.exit(code)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, *arguments],
        cwd=project,
        env={name: value for name, value in os.environ.items() if not name.startswith("COVERAGE")},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout, done.stderr
    assert without & {*done.stderr.split()} == set()


def test_a_plan_loads_no_work_on_hosts() -> None:
    done = subprocess.run(
        [sys.executable, "-c", "import goldenami.plans, sys; print(*sys.modules)"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert HOSTS & {*done.stdout.split()} == set()


def test_a_command_in_a_process_that_goes_on_leaves_nothing_out_of_sight_of_the_collector(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(project)
    assert main(["plan", "web", "--offline"]) == 0
    assert gc.get_freeze_count() == 0
