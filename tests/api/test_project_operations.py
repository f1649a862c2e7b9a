"""A project's own operations: read with consent only, checked, documented, and part of the digest."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import goldenami
from goldenami import errors, planning
from goldenami import recipe as recipes
from goldenami.model import BaseImage
from goldenami.planning import BuildPlan, Facts
from goldenami.recipe.consent import EVERYTHING, Consent
from goldenami.recipe.extensions import operations_of
from goldenami.stages.filling import fill_stage

if TYPE_CHECKING:
    from goldenami_sandbox.testing import PaperCloud

RECIPE = """\
name: tiny
version: "1.0"
base: {filter: debian-12-amd64-*, owners: ["136693071363"]}
vars: {owner: platform}
software:
  - company_info: "{{ vars.owner }}"
"""
OPERATION = '''\
"""The file by which our inventory recognizes a host."""

from __future__ import annotations

from typing import ClassVar

from goldenami.extend import Compilation, Field, Operation, Steps, sh

from .paths import PATH


class CompanyInfo(Operation):
    """The file that our inventory reads."""

    kind: ClassVar[str] = "company_info"
    shorthand: ClassVar[str | None] = "team"

    team: str = Field(description="The team that owns the image.")

    def title(self) -> str:
        return f"company info of {self.team}"

    def compile(self, to: Compilation) -> Steps:
        wanted = to.place(f"team={self.team}\\n".encode())
        check = sh("cmp -s -- @wanted @path || return 1", wanted=wanted, path=PATH)
        return Steps(check, sh("install -m 0644 -- @wanted @path", wanted=wanted, path=PATH))
'''
FACTS = Facts(
    {"x86_64": BaseImage("ami-1", "debian", "1" * 12, "x86_64", "/dev/xvda", 8, "2026-11-01T00:00:00Z", "filter")},
    dict.fromkeys(
        ("home/eu-central-1", "home/eu-west-1", "home/us-east-1", "apps/eu-central-1", "apps/eu-west-1"), "key"
    ),
)


@dataclass
class Workspace:
    root: Path

    def write(self, name: str, text: str) -> None:
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    def project(self, consent: Consent = EVERYTHING) -> recipes.Project:
        return recipes.load_project(self.root, consent)

    def plan(self, consent: Consent = EVERYTHING, **variables: str) -> BuildPlan:
        project = self.project(consent)
        environment = recipes.environment(project)
        return planning.make(recipes.load(project, "tiny", environment, variables), environment, FACTS)

    def problems(self, consent: Consent = EVERYTHING) -> list[str]:
        project = self.project(consent)
        found = recipes.check(project, ["tiny"], all_agents=True)
        return [str(problem) for problem in found]

    def goldenami(self, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "goldenami.cli.main", *arguments]
        kept = {k: v for k, v in os.environ.items() if not k.startswith("GOLDENAMI_")}
        return subprocess.run(command, cwd=self.root, env=kept | variables, capture_output=True, text=True)


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workspace:
    made = Workspace(tmp_path)
    made.write("goldenami.yaml", "environments:\n  sandbox: {sandbox: true}\n")
    made.write("recipes/tiny.yaml", RECIPE)
    made.write("operations/company.py", OPERATION)
    made.write("operations/paths.py", 'PATH = "/etc/company-info"\n')
    monkeypatch.chdir(tmp_path)
    return made


# --- what it is good for ----------------------------------------------------------------------------------------------


def test_it_validates_and_is_planned(workspace: Workspace) -> None:
    assert workspace.problems() == []
    [bound] = workspace.plan().recipe.provisioning["x86_64"][0].operations
    assert bound.label == "company info of platform"
    assert str(bound.mark) == "recipes/tiny.yaml:6:5"
    assert not list(workspace.root.rglob("__pycache__"))


def test_its_fields_are_checked_like_those_of_any_operation(workspace: Workspace) -> None:
    workspace.write("recipes/tiny.yaml", RECIPE.replace('"{{ vars.owner }}"', "{taem: platform}"))
    assert workspace.problems() == ["recipes/tiny.yaml:6:20: unknown key 'taem' of company_info"]


def test_it_is_in_the_schemas(workspace: Workspace) -> None:
    schema = json.loads(workspace.goldenami("--allow-project-code", "schema").stdout)
    kinds = schema["$defs"]["Operation"]["properties"]
    assert kinds["company_info"]["description"] == "The file that our inventory reads."
    fields = schema["$defs"]["company_info.CompanyInfo"]["properties"]
    assert fields["team"]["description"] == "The team that owns the image."
    reference = workspace.goldenami("schema", "operations", GOLDENAMI_ALLOW_PROJECT_CODE="1").stdout
    assert "| `team` | text | **required** | The team that owns the image. |" in reference
    left_out = workspace.goldenami("schema")
    assert "company_info" not in json.loads(left_out.stdout)["$defs"]["Operation"]["properties"]
    assert left_out.stderr.startswith("left out: operations/company.py:1:1")


@pytest.mark.parametrize(
    ("name", "text", "changes"),
    [
        ("operations/company.py", OPERATION.replace("0644", "0600"), True),
        ("operations/paths.py", 'PATH = "/etc/company"\n', True),
        ("operations/data/list.txt", "any code may read it", True),
        ("operations/other.py", "# nobody imports it\n", False),
        ("operations/__pycache__/company.cpython-311.pyc", "x", False),
    ],
)
def test_what_it_is_made_of_is_in_the_digest(workspace: Workspace, name: str, text: str, changes: bool) -> None:
    before = workspace.plan()
    workspace.write(name, text)
    after = workspace.plan()
    assert (after.digest != before.digest) is changes
    assert planning.changes(after, before.inputs) == (["operation:company_info"] if changes else [])


def test_dependencies_are_followed_through_packages(workspace: Workspace) -> None:
    workspace.write(
        "operations/paths.py", "from .lib import base as b\nfrom .lib.names import *\nPATH = b.ROOT + NAME\n"
    )
    workspace.write("operations/lib/__init__.py", "")
    workspace.write("operations/lib/base.py", 'from .. import _top\nROOT = _top.TOP + "etc/"\n')
    workspace.write("operations/lib/names.py", 'NAME = "info"\n')
    workspace.write("operations/_top.py", 'TOP = "/"\n')
    digests = [workspace.plan().digest]
    for name in ("lib/__init__.py", "lib/base.py", "lib/names.py", "_top.py"):
        path = workspace.root / "operations" / name
        path.write_text(path.read_text() + "# changed\n")
        digests.append(workspace.plan().digest)
    assert len(set(digests)) == len(digests)


def test_a_recipe_that_does_not_use_it_does_not_depend_on_it(workspace: Workspace) -> None:
    workspace.write("recipes/tiny.yaml", RECIPE.replace('company_info: "{{ vars.owner }}"', "package: curl"))
    before = workspace.plan(Consent())
    workspace.write("operations/company.py", "this is not Python")
    assert workspace.plan().digest == before.digest


def test_secrets_are_filled_in(workspace: Workspace) -> None:
    workspace.write("recipes/tiny.yaml", RECIPE.replace("owner: platform", "owner: {secret: {env: OWNER}}"))
    [stage] = workspace.plan().recipe.provisioning["x86_64"]
    [bound] = fill_stage(stage, {"owner": "nobody"}).operations
    assert bound.operation.title() == "company info of nobody"


def test_two_projects_have_different_operations_of_one_name(workspace: Workspace, tmp_path: Path) -> None:
    first = workspace.project()
    assert "company_info" in operations_of(first).kinds
    workspace.write("operations/company.py", OPERATION.replace("company info of", "info about"))
    second = workspace.project()
    titles = [operations_of(p).kinds["company_info"](team="x").title() for p in (first, second)]  # type: ignore[call-arg]
    assert titles == ["company info of x", "info about x"]


# --- consent ----------------------------------------------------------------------------------------------------------

TRAP = 'import pathlib\npathlib.Path("executed").touch()\n'


def test_nothing_is_executed_without_consent(workspace: Workspace) -> None:
    workspace.write("operations/company.py", OPERATION + TRAP)
    commands: tuple[tuple[str, ...], ...] = (
        ("validate",),
        ("validate", "tiny"),
        ("plan", "tiny"),
        ("schema",),
        ("schema", "operations"),
    )
    for command in commands:
        done = workspace.goldenami(*command)
        assert "is not executed without your consent" in done.stderr
        assert done.returncode == (0 if command[0] == "schema" else 2)
    with pytest.raises(errors.InvalidInput):
        goldenami.plan(goldenami.Project(workspace.root), "tiny")
    assert not (workspace.root / "executed").exists()
    assert workspace.goldenami("--allow-project-code", "validate").returncode == 0
    assert (workspace.root / "executed").exists()


def test_the_only_problem_is_the_missing_consent(workspace: Workspace) -> None:
    workspace.write("recipes/tiny.yaml", RECIPE + "  - pakage: curl\n")
    assert workspace.problems(Consent()) == [
        "operations/company.py:1:1: this file has Python code that is not executed without your consent",
        "recipes/tiny.yaml:7:5: unknown operation 'pakage'",
    ]


def test_a_digest_allows_exactly_these_files(workspace: Workspace) -> None:
    hint = recipes.check(workspace.project(Consent()), ["tiny"])[0].hint or ""
    digest = hint.rpartition("=")[2]
    assert workspace.goldenami("validate", GOLDENAMI_ALLOW_PROJECT_CODE=digest).returncode == 0
    workspace.write("operations/paths.py", TRAP + 'PATH = "/etc/company-info"\n')
    assert workspace.goldenami("validate", GOLDENAMI_ALLOW_PROJECT_CODE=digest).returncode == 2
    assert not (workspace.root / "executed").exists()


def test_a_compiled_file_is_never_loaded(workspace: Workspace) -> None:
    """The digest covers what is imported: a .pyc beside the files would be a way around it."""
    cache = workspace.root / "operations" / "__pycache__"
    workspace.write("trap.py", 'raise SystemExit("executed")\n')
    subprocess.run([sys.executable, "-m", "py_compile", "trap.py"], cwd=workspace.root, check=True)
    [compiled] = (workspace.root / "__pycache__").iterdir()
    cache.mkdir()
    data = bytearray(compiled.read_bytes())
    data[4:8] = (1).to_bytes(4, "little")  # an unchecked hash: Python would load it whatever the source is
    (cache / compiled.name.replace("trap", "company")).write_bytes(data)
    assert workspace.problems() == []


def test_a_wrong_value_of_the_variable_is_an_error(workspace: Workspace) -> None:
    done = workspace.goldenami("validate", GOLDENAMI_ALLOW_PROJECT_CODE="maybe")
    assert done.returncode == 2
    assert "GOLDENAMI_ALLOW_PROJECT_CODE is 'maybe': expected 0, 1, or SHA-256 digests" in done.stderr


def test_a_link_out_of_the_project_is_refused(workspace: Workspace, tmp_path_factory: pytest.TempPathFactory) -> None:
    outside = tmp_path_factory.mktemp("outside") / "secret.py"
    outside.write_text("x = 1\n")
    (workspace.root / "operations" / "link.py").symlink_to(outside)
    assert f"operations/link.py: the file leads to {outside}, which is outside the project" in workspace.problems()


# --- mistakes in the files --------------------------------------------------------------------------------------------


def without(text: str, line: str) -> str:
    assert line in text
    return text.replace(line, "")


MISTAKES: dict[str, tuple[str, list[str]]] = {
    "syntax": (
        OPERATION + "class\n",
        ["operations/company.py:27:6: not valid Python: invalid syntax"],
    ),
    "exception": (
        OPERATION + "1 / 0\n",
        ["operations/company.py:27:1: cannot be imported: ZeroDivisionError: division by zero"],
    ),
    "exit": (OPERATION + "raise SystemExit(3)\n", ["operations/company.py:27:1: cannot be imported: SystemExit: 3"]),
    "no such import": (
        OPERATION.replace("from .paths", "from paths"),
        ["operations/company.py:9:1: cannot be imported: ModuleNotFoundError: No module named 'paths'"],
    ),
    "clash": (
        OPERATION.replace('"company_info"', '"file"'),
        [
            "operations/company.py:15:5: CompanyInfo: the kind 'file' is already used (built in)",
            "recipes/tiny.yaml:6:5: unknown operation 'company_info'",
        ],
    ),
    "no description": (
        OPERATION.replace('Field(description="The team that owns the image.")', '"nobody"'),
        ["operations/company.py:18:5: the field team of CompanyInfo has no description"],
    ),
    "no docstring": (
        without(OPERATION, '    """The file that our inventory reads."""\n'),
        ["operations/company.py:12:1: CompanyInfo has no docstring"],
    ),
    "no title": (
        OPERATION.replace("def title", "def label"),
        ["operations/company.py:12:1: CompanyInfo has no method title()"],
    ),
    "kind": (
        OPERATION.replace('"company_info"', '"Company Info"'),
        [
            "operations/company.py:15:5: CompanyInfo: the kind 'Company Info' is not allowed",
            "recipes/tiny.yaml:6:5: unknown operation 'company_info'",
        ],
    ),
    "compile": (
        OPERATION.replace("to.place(", "to.plase("),
        ["recipes/tiny.yaml:6:5: company_info: cannot be compiled: AttributeError: "],
    ),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_is_a_problem_with_its_place(workspace: Workspace, name: str) -> None:
    text, expected = MISTAKES[name]
    workspace.write("operations/company.py", text)
    found = workspace.problems()
    places = [problem for problem in found if "unknown operation" not in problem]
    wanted = [problem for problem in expected if "unknown operation" not in problem]
    assert len(places) == len(wanted), found
    for problem, start in zip(places, wanted, strict=True):
        assert problem.startswith(start)
    if name == "compile":
        assert "(in operations/company.py:24)" in found[0]


def test_a_mistake_in_a_file_that_it_imports_has_the_place_there(workspace: Workspace) -> None:
    workspace.write("operations/paths.py", "\n\nPATH = UNKNOWN\n")
    first, *_ = workspace.problems()
    assert first == "operations/paths.py:3:1: cannot be imported: NameError: name 'UNKNOWN' is not defined"


def test_a_folder_of_something_else_is_left_alone(workspace: Workspace) -> None:
    workspace.write("recipes/tiny.yaml", RECIPE.replace('company_info: "{{ vars.owner }}"', "package: curl"))
    (workspace.root / "operations" / "company.py").unlink()
    workspace.write("operations/paths.py", TRAP)
    assert workspace.problems() == []
    assert not (workspace.root / "executed").exists()


def test_it_is_planned_over_a_cloud(workspace: Workspace, paper_cloud: Callable[..., PaperCloud]) -> None:
    connection = goldenami.Connection.from_variables(paper_cloud().variables())
    project = goldenami.Project(workspace.root, connection=connection, allow_project_code=True)
    plan: dict[str, Any] = goldenami.plan(project, "tiny").to_json()
    assert "operation:company_info" in plan["inputs"]
