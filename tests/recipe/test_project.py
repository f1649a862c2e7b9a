"""Environments, agents, what ships with the product, and the commands."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import jsonschema
import pytest
import yaml
from click.testing import CliRunner

from goldenami import recipe
from goldenami.cli.options import parse_variables
from goldenami.cli.recipes import init, schema, validate
from goldenami.errors import GoldenAmiError, InvalidInput, NotFound, UsageError
from goldenami.provision import OPERATIONS
from goldenami.recipe.jsonschema import KINDS, json_schema

Write = Callable[[dict[str, str]], Path]
REPOSITORY = Path(__file__).parents[2]
SHIPPED = recipe.load_project(REPOSITORY)

PLAIN = 'name: {name}\nversion: "1.0"\nbase: {{id: ami-0123456789abcdef0}}\nos: debian\n'

PRODUCTION = """\
environments:
  production:
    home: {account: "111111111111", region: eu-central-1, role: "arn:aws:iam::111111111111:role/builder"}
    network: {subnet: {tags: {tier: build}}, address: private}
    accounts: {apps: {id: "222222222222"}}
    targets:
      - {account: home, regions: [eu-central-1, us-east-1], kms_key: alias/home}
      - {account: apps, regions: [eu-central-1], kms_key: alias/apps, required: false}
      - {account: apps, regions: [us-east-1], mode: share}
    catalog: ../catalog
    tags: {owner: platform}
"""


def test_an_environment_as_it_is_read(write_project: Write) -> None:
    root = write_project({"goldenami.yaml": PRODUCTION})
    project = recipe.load_project(root / ".")
    found = recipe.environment(project)  # the only one needs no name
    assert (found.name, found.home.id, found.home_region) == ("production", "111111111111", "eu-central-1")
    assert [(t.label, t.kms_key, t.mode, t.required) for t in found.targets] == [
        ("home/eu-central-1", "alias/home", "copy", True),
        ("home/us-east-1", "alias/home", "copy", True),
        ("apps/eu-central-1", "alias/apps", "copy", False),
        ("apps/us-east-1", "alias/home", "share", True),
    ]
    assert found.network.subnet_tags == {"tier": "build"}
    assert found.catalog == str(root.parent / "catalog")
    assert found.builds == str(root / ".goldenami/production/builds")


def test_which_environment(write_project: Write) -> None:
    two = PRODUCTION + "  other: {sandbox: true}\n"
    project = recipe.load_project(write_project({"goldenami.yaml": two}))
    with pytest.raises(UsageError, match="production, other"):
        recipe.environment(project)
    with pytest.raises(NotFound) as caught:
        recipe.environment(project, "prodction")
    assert caught.value.hint == "Did you mean production?"
    assert recipe.environment(project, "other").sandbox


def test_each_of_two_environments_can_have_its_name_in_prefix_and_image_names(write_project: Write) -> None:
    names = (
        "    parameter_prefix: '/golden/{{ environment.name }}'\n"
        "    image_name: '{{ recipe.name }}-{{environment.name}}-{{ version }}-{{ architecture }}'\n"
    )
    text = PRODUCTION + names + (PRODUCTION + names).replace("environments:\n", "").replace("production", "staging")
    every = recipe.environments(recipe.load_project(write_project({"goldenami.yaml": text})))
    assert [e.parameter_prefix for e in every.values()] == ["/golden/production", "/golden/staging"]
    assert every["staging"].image_name == "{{ recipe.name }}-staging-{{ version }}-{{ architecture }}"


def test_two_clones_share_the_catalog_and_the_journals_of_the_sandbox(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GOLDENAMI_SANDBOX_HOME", str(tmp_path / "sandboxes"))
    monkeypatch.delenv("AWS_ENDPOINT_URL", raising=False)
    for name, port in (("default", 4001), ("other", 4002)):
        (tmp_path / "sandboxes" / name).mkdir(parents=True)
        (tmp_path / "sandboxes" / name / "port").write_text(str(port))

    def stores(clone: str, endpoint: str | None = None) -> tuple[str, str]:
        (tmp_path / clone).mkdir(exist_ok=True)
        (tmp_path / clone / "goldenami.yaml").write_text("environments: {sandbox: {sandbox: true}}\n")
        found = recipe.environment(recipe.load_project(tmp_path / clone), endpoint=endpoint)
        return found.catalog, found.builds

    of_default, of_other = (tmp_path / "sandboxes" / name / "clients" / "sandbox" for name in ("default", "other"))
    assert stores("one") == stores("two") == (f"{of_default}/catalog", f"{of_default}/builds")
    assert stores("one", "http://127.0.0.1:4001") == stores("two")
    assert stores("one", "http://localhost:4002/") == (f"{of_other}/catalog", f"{of_other}/builds")
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:4002")
    assert stores("one") == (f"{of_other}/catalog", f"{of_other}/builds")
    # An endpoint of another machine: its files cannot be here.
    local = tmp_path / "one" / ".goldenami" / "sandbox"
    assert stores("one", "http://192.0.2.7:4002") == (f"{local}/catalog", f"{local}/builds")
    assert not of_default.exists()


def test_project_is_found_upwards(write_project: Write) -> None:
    root = write_project({"recipes/web.yaml": PLAIN.format(name="web")})
    assert recipe.load_project(root / "recipes").root == root
    with pytest.raises(NotFound):
        recipe.load_project(Path("/proc"))


def test_recipes_are_found_by_name_and_by_path(write_project: Write) -> None:
    root = write_project({"recipes/web.yaml": PLAIN.format(name="web")})
    project = recipe.load_project(root)
    assert project.recipe_path("web") == project.recipe_path("recipes/web.yaml") == root / "recipes/web.yaml"
    with pytest.raises(NotFound) as caught:
        project.recipe_path("wbe")
    assert caught.value.hint == "Did you mean web?"


AGENT = """\
name: exporter
params: {port: 9100, label: "{{ recipe.name }}"}
operations:
  debian:
    - package: {name: exporter}
    - template: {src: exporter.j2, dest: /etc/exporter, mode: "0644"}
      notify: [restart]
handlers: {restart: {service: {name: exporter, state: restarted}}}
tests: [exporter_test.py]
"""


def test_an_agent_brings_operations_handlers_and_tests(write_project: Write) -> None:
    root = write_project(
        {
            "recipes/web.yaml": PLAIN.format(name="web") + "agents: [{name: exporter, params: {port: 9200}}]\n",
            "recipes/agents/exporter.yaml": AGENT,
            "recipes/agents/exporter.j2": "{{ params.port }} {{ params.label }}\n",
            "recipes/agents/exporter_test.py": "def test_it(host):\n    pass\n",
        }
    )
    project = recipe.load_project(root)
    loaded = recipe.load(project, "web", recipe.environment(project))
    (stage,) = loaded.provisioning["x86_64"]
    assert stage.name == "agents"
    assert stage.operations[1].payloads["src"].contents() == b"9200 web\n"
    assert stage.operations[1].notify == ("exporter/restart",)
    assert [handler.name for handler in stage.handlers] == ["exporter/restart"]
    assert [(test.name, test.origin) for test in loaded.tests] == [
        ("base", ""),
        ("agents/exporter_test.py", "exporter"),
    ]
    assert loaded.agents == {"exporter": {"port": 9200, "label": "web"}}


def test_an_agent_is_left_out_where_its_condition_is_false(write_project: Write) -> None:
    use = "agents: [{name: exporter, when: \"{{ environment.name != 'sandbox' }}\"}]\n"
    root = write_project(
        {
            "recipes/web.yaml": PLAIN.format(name="web") + use,
            "recipes/agents/exporter.yaml": "name: exporter\noperations: {}\n",
        }
    )
    project = recipe.load_project(root)
    assert recipe.load(project, "web", recipe.environment(project)).agents == {}


@pytest.mark.parametrize("name", SHIPPED.recipe_names())
def test_shipped_recipes_are_valid(name: str) -> None:
    loaded = recipe.load(SHIPPED, name, recipe.environment(SHIPPED))
    assert loaded.name == name


def test_shipped_agents_are_valid() -> None:
    assert recipe.check(SHIPPED, SHIPPED.recipe_names(), all_agents=True) == []


def test_shipped_graph_has_no_cycle() -> None:
    edges = recipe.graph(SHIPPED)
    assert edges["debian-12-web"] == "debian-12-base"
    assert all(recipe.cycle(edges, name) is None for name in edges)


@pytest.mark.parametrize("kind", KINDS)
def test_schemas_are_schemas(kind: str) -> None:
    document = json_schema(next(k for k in KINDS if k == kind))
    jsonschema.Draft202012Validator.check_schema(document)
    assert document["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    assert json.loads(CliRunner().invoke(schema, [kind]).output) == document


def test_every_field_of_every_schema_is_described() -> None:
    missing = []

    def walk(place: str, node: object) -> None:
        if isinstance(node, dict):
            for name, field in node.get("properties", {}).items():
                if not {"description", "$ref"} & field.keys():  # a reference has its own
                    missing.append(f"{place}.{name}")
            for key, value in node.items():
                walk(f"{place}.{key}", value)
        elif isinstance(node, list):
            for item in node:
                walk(place, item)

    for kind in KINDS:
        document = json_schema(kind)
        if kind == "agent":
            document["properties"]["operations"].pop("properties")  # debian, ubuntu, amzn: described by the field
        walk(kind, document)
    assert missing == []


def test_schema_accepts_what_ships_and_knows_every_operation() -> None:
    recipes, agents, environments = (
        jsonschema.Draft202012Validator(json_schema(kind)) for kind in ("recipe", "agent", "environment")
    )
    for name in SHIPPED.recipe_names():
        recipes.validate(yaml.safe_load((SHIPPED.recipes / f"{name}.yaml").read_text()))
    for name in SHIPPED.agent_names():
        agents.validate(yaml.safe_load((SHIPPED.agents / name / "agent.yaml").read_text()))
    environments.validate(yaml.safe_load(SHIPPED.file.read_text()))
    environments.validate(yaml.safe_load(PRODUCTION))
    assert set(OPERATIONS) <= set(json_schema("recipe")["$defs"]["Operation"]["properties"])
    with pytest.raises(jsonschema.ValidationError):
        recipes.validate({"name": "x", "version": "1.0", "base": {"id": "ami-12345678"}, "software": [{"pakage": {}}]})


def test_init_makes_a_project_that_is_valid_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    done = CliRunner().invoke(init, [str(tmp_path / "new")])
    assert done.exit_code == 0, done.output
    monkeypatch.chdir(tmp_path / "new")
    project = recipe.load_project(Path.cwd())
    assert recipe.check(project, project.recipe_names(), all_agents=True) == []
    assert json.loads((tmp_path / "new/.goldenami/schema/recipe.json").read_text()) == json_schema("recipe")
    (tmp_path / "new/goldenami.yaml").write_text("mine")
    again = CliRunner().invoke(init, ["."])
    assert isinstance(again.exception, UsageError)
    assert (tmp_path / "new/goldenami.yaml").read_text() == "mine"


def test_validate_prints_problems_as_json(write_project: Write) -> None:
    write_project({"recipes/web.yaml": PLAIN.format(name="web") + "patchs: {}\n"})
    done = CliRunner().invoke(validate, ["--json"], standalone_mode=False)
    assert done.return_value == 2
    value = json.loads(done.stdout)
    assert value["schema"] == "goldenami.problems/1"
    assert value["problems"] == [
        {
            "file": "recipes/web.yaml",
            "line": 5,
            "column": 1,
            "message": "unknown key 'patchs'",
            "hint": "Did you mean patches?",
        }
    ]


def test_validate_gives_a_variable_to_the_recipes_that_declare_it(write_project: Write) -> None:
    root = write_project(
        {
            "recipes/a.yaml": PLAIN.format(name="a") + "vars: {size: 1}\n",
            "recipes/b.yaml": PLAIN.format(name="b"),
        }
    )
    project = recipe.load_project(root)
    assert recipe.check(project, ["a", "b"], variables={"size": "2"}) == []
    assert [str(p) for p in recipe.check(project, ["a", "b"], variables={"sise": "2"})] == [
        "--var: sise is not a variable of this recipe"
    ]


def test_validate_is_a_light_process() -> None:
    code = (
        "import sys; from goldenami.cli.main import main; status = main(['validate']);"
        "print(status, sorted({'boto3', 'botocore', 'moto', 'paramiko', 'pytest'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True, check=True)
    assert done.stdout == "0 []\n", done.stderr


@pytest.mark.parametrize("arguments", [["x"], ["=x"], ["a=1", "a=2"]])
def test_variables_of_the_command_line_have_a_form(arguments: list[str]) -> None:
    with pytest.raises(GoldenAmiError):
        parse_variables(arguments)
    assert parse_variables(["a=b=c", "d="]) == {"a": "b=c", "d": ""}


def test_a_wrong_environment_does_not_hide_the_mistakes_of_recipes(write_project: Write) -> None:
    broken = "environments: {sandbox: {sandbox: true}, other: {hom: x}}\n"
    root = write_project({"goldenami.yaml": broken, "recipes/web.yaml": PLAIN.format(name="web") + "patchs: {}\n"})
    found = recipe.check(recipe.load_project(root), ["web"])
    assert {p.file for p in found} == {"goldenami.yaml", "recipes/web.yaml"}
    with pytest.raises(InvalidInput):
        recipe.environment(recipe.load_project(root))
