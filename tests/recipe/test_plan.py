"""Recipes as they are loaded, and the digest of their plans: what changes it, and what does not."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from goldenami import planning, recipe
from goldenami.aws import tags
from goldenami.errors import GoldenAmiError, InvalidInput, UsageError
from goldenami.model import BaseImage
from goldenami.recipe import limits
from goldenami.recipe.secrets import display
from goldenami.stages import attesting

Write = Callable[[dict[str, str]], Path]

RECIPE: dict[str, Any] = {
    "name": "web",
    "version": "1.0",
    "description": "A web server",
    "owner": "me",
    "base": {"filter": "debian-12-amd64-*", "owners": ["136693071363"]},
    "vars": {"title": "Hello", "workers": 4, "debug": False},
    "builder": {"instance_types": ["t3.small"]},
    "patches": {"level": "security"},
    "software": [
        {"package": {"name": "curl"}},
        {"file": {"src": "files/a.conf", "dest": "/etc/a.conf", "mode": "0644"}},
        {"template": {"src": "b.j2", "dest": "/etc/b.conf", "mode": "0644"}, "notify": ["nginx"]},
        {"sysctl": {"name": "kernel.dmesg_restrict", "value": "1"}, "name": "quiet"},
    ],
    "handlers": {"nginx": {"service": {"name": "nginx", "state": "reloaded"}}},
    "tests": ["base", "tests/web_test.py"],
    "image": {"root_volume": {"size_gib": 8}, "tags": {"tier": "web"}},
    "distribution": {"targets": ["home", "apps/eu-west-1"], "channel": "candidate"},
    "retention": {"keep": 5},
}
FILES = {
    "recipes/files/a.conf": "a = 1\n",
    "recipes/b.j2": "{{ vars.title }} {{ vars.workers }} {{ vars.debug }} {{ architecture }}\n",
    "recipes/tests/web_test.py": "def test_it(host):\n    assert host\n",
}


def facts(loaded: recipe.Recipe, **changes: Any) -> planning.Facts:
    return planning.Facts(
        base={
            a: replace(
                BaseImage("ami-1", "debian-12", "136693071363", a, "/dev/xvda", 8, "2026-11-10T00:00:00.000Z", "test"),
                **changes,
            )
            for a in loaded.architectures
        },
        kms_keys={t.label: f"arn:aws:kms:{t.region}:{t.account.id}:key/1" for t in loaded.distribution.targets},
        caller_arn="arn:aws:iam::111111111111:user/me",
    )


def make(root: Path, variables: dict[str, str] | None = None) -> planning.BuildPlan:
    project = recipe.load_project(root)
    environment = recipe.environment(project)
    loaded = recipe.load(project, "web", environment, variables)
    return planning.make(loaded, environment, facts(loaded))


def make_of_base(root: Path, boot_mode: str | None) -> planning.BuildPlan:
    """The plan with a base of this boot mode."""
    project = recipe.load_project(root)
    environment = recipe.environment(project)
    loaded = recipe.load(project, "web", environment)
    return planning.make(loaded, environment, facts(loaded, boot_mode=boot_mode))


def changed(path: tuple[str | int, ...], value: Any) -> dict[str, Any]:
    document = json.loads(json.dumps(RECIPE))
    target = document
    for entry in path[:-1]:
        target = target[entry]
    if value is None:
        del target[path[-1]]
    else:
        target[path[-1]] = value
    return document  # type: ignore[no-any-return]


def project_of(write: Write, document: dict[str, Any], files: dict[str, str] | None = None) -> Path:
    text = yaml.safe_dump(document, sort_keys=False)
    return write({"recipes/web.yaml": text, **FILES, **(files or {})})


def test_the_signed_statement_has_every_file_of_directories_and_of_scripts(write_project: Write) -> None:
    operations = [
        {"tree": {"src": "app", "dest": "/srv/app"}},
        {"script": {"src": "run.sh", "files": ["tools", "single"], "creates": "/srv/done"}},
    ]
    names = ["app/conf/a.conf", "app/index.html", "run.sh", "tools/lib/x.sh", "single"]
    root = project_of(
        write_project,
        changed(("software",), operations) | {"handlers": {}},
        {f"recipes/{name}": f"{name}\n" for name in names},
    )
    project = recipe.load_project(root)
    found = attesting.read_files(project, recipe.load(project, "web", recipe.environment(project)))
    for name in names:
        assert found[f"recipes/{name}"] == hashlib.sha256(f"{name}\n".encode()).hexdigest()


def test_a_recipe_as_it_is_loaded(write_project: Write) -> None:
    plan = make(project_of(write_project, RECIPE))
    loaded = plan.recipe
    (stage,) = loaded.provisioning["x86_64"]
    assert stage.name == "software"
    assert [bound.operation.kind for bound in stage.operations] == ["package", "file", "template", "sysctl"]
    assert stage.operations[3].label == "quiet"
    assert stage.operations[2].notify == ("nginx",)
    assert stage.operations[2].payloads["src"].contents() == b"Hello 4 False x86_64\n"
    assert stage.operations[1].payloads["src"].contents() == b"a = 1\n"
    assert [handler.name for handler in stage.handlers] == ["nginx"]
    assert str(stage.operations[0].mark).startswith("recipes/web.yaml:")
    assert [t.label for t in plan.targets] == [
        "home/eu-central-1",
        "home/eu-west-1",
        "home/us-east-1",
        "apps/eu-west-1",
    ]
    assert loaded.builder["x86_64"].ssh_user == "admin"
    assert loaded.os == "debian"
    assert str(loaded.base["x86_64"]) == "filter debian-12-amd64-*"


SAME: list[tuple[tuple[str | int, ...], Any]] = [
    (("description",), "Something else"),
    (("owner",), "you"),
    (("builder",), {"instance_types": ["m7i.large"], "spot": True}),
    (("retention", "keep"), 7),
    (("software", 3, "name"), "another title"),
    (("software", 3, "name"), None),
    (("software", 0), {"package": "curl"}),
    (("handlers", "nginx"), [{"service": {"name": "nginx", "state": "reloaded"}}]),
    (("distribution", "targets"), ["apps/eu-west-1", "home/us-east-1", "home"]),
]

DIFFERENT: list[tuple[tuple[str | int, ...], Any, list[str]]] = [
    (("version",), "1.1", ["recipe"]),
    (("patches", "level"), "all", ["patches:x86_64"]),
    (("software", 0, "package", "name"), "wget", ["software:x86_64"]),
    (("software", 0), None, ["software:x86_64"]),
    (("software", 1, "file", "mode"), "0600", ["software:x86_64"]),
    (("software", 2, "notify"), None, ["software:x86_64"]),
    (("handlers", "nginx", "service", "state"), "restarted", ["software:x86_64"]),
    (("vars", "title"), "Bye", ["software:x86_64", "vars"]),
    (("vars", "unused"), 1, ["vars"]),  # tests read all variables
    (("tests",), ["base"], ["test:tests/web_test.py"]),
    (("image", "root_volume", "size_gib"), 9, ["image"]),
    (("image", "tags", "tier"), "app", ["image"]),
    (("distribution", "targets"), ["home"], ["target:apps/eu-west-1"]),
    (("distribution", "share"), {"accounts": ["333333333333"]}, ["share"]),
]


@pytest.mark.parametrize(("path", "value"), SAME, ids=[".".join(map(str, p)) for p, _ in SAME])
def test_what_does_not_make_another_image(write_project: Write, path: tuple[str | int, ...], value: Any) -> None:
    before = make(project_of(write_project, RECIPE))
    assert make(project_of(write_project, changed(path, value))).digest == before.digest


@pytest.mark.parametrize(("path", "value", "labels"), DIFFERENT, ids=[".".join(map(str, p)) for p, *_ in DIFFERENT])
def test_what_makes_another_image(
    write_project: Write, path: tuple[str | int, ...], value: Any, labels: list[str]
) -> None:
    before = make(project_of(write_project, RECIPE))
    after = make(project_of(write_project, changed(path, value)))
    assert after.digest != before.digest
    assert planning.changes(after, before.inputs) == labels


@pytest.mark.parametrize("name", FILES)
def test_contents_of_files_make_another_image(write_project: Write, name: str) -> None:
    before = make(project_of(write_project, RECIPE))
    after = make(project_of(write_project, RECIPE, {name: FILES[name] + "\n# more\n"}))
    assert after.digest != before.digest


def test_contents_of_directories_make_another_image(write_project: Write) -> None:
    document = RECIPE | {
        "software": [
            {"tree": {"src": "files", "dest": "/etc/app", "exclude": ["*.pyc"]}},
            {"script": {"content": "true", "files": ["files/a.conf", "parts"]}},
        ]
    }
    root = project_of(write_project, document, {"recipes/parts/one": "1", "recipes/files/x.pyc": "x"})

    def digest() -> str:
        return make(root).digest

    digests = [digest()]
    (root / "recipes/files/x.pyc").write_text("y")
    assert digest() == digests[0]
    for name in ("parts/one", "files/a.conf", "parts/new/two"):
        path = root / "recipes" / name
        path.parent.mkdir(exist_ok=True)
        path.write_text("other")
        digests.append(digest())
    assert len(set(digests)) == 4


def test_facts_make_another_image(write_project: Write) -> None:
    plan = make(project_of(write_project, RECIPE))
    other = planning.make(plan.recipe, plan.environment, facts(plan.recipe, image_id="ami-2"))
    assert planning.changes(other, plan.inputs) == ["base:x86_64"]
    keys = replace(plan.facts, kms_keys={**plan.facts.kms_keys, "home/eu-west-1": "arn:aws:kms:eu-west-1:1:key/2"})
    assert planning.changes(planning.make(plan.recipe, plan.environment, keys), plan.inputs) == [
        "target:home/eu-west-1"
    ]
    again = planning.make(plan.recipe, plan.environment, replace(plan.facts, caller_arn="x", git_commit="y"))
    assert again.digest == plan.digest


def test_variables_override_what_is_declared(write_project: Write) -> None:
    root = project_of(write_project, RECIPE)
    plan = make(root, {"title": "Hi", "workers": "8", "debug": "yes"})
    (stage,) = plan.recipe.provisioning["x86_64"]
    assert stage.operations[2].payloads["src"].contents() == b"Hi 8 True x86_64\n"
    with pytest.raises(InvalidInput) as caught:
        make(root, {"titel": "x", "workers": "many", "debug": "perhaps"})
    assert [(p.message, p.hint) for p in caught.value.problems] == [
        ("debug: expected true or false, not 'perhaps'", None),
        ("titel is not a variable of this recipe", "Did you mean title?"),
        ("workers: expected a whole number, not 'many'", None),
    ]


def shuffled(value: Any, order: Callable[[list[Any]], list[Any]]) -> Any:
    if isinstance(value, dict):
        return {key: shuffled(value[key], order) for key in order(list(value))}
    if isinstance(value, list):
        return [shuffled(item, order) for item in value]
    return value


def test_a_description_can_be_a_block(write_project: Write) -> None:
    text = yaml.safe_dump(RECIPE | {"description": "WAITS"}).replace("WAITS", ">\n  a web server,\n  patched\n")
    project = recipe.load_project(write_project({"recipes/web.yaml": text, **FILES}))
    assert recipe.load(project, "web", recipe.environment(project)).description == "a web server, patched"


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data(), flow=st.booleans(), width=st.integers(20, 200), indent=st.integers(2, 6))
def test_form_does_not_make_another_image(write_project: Write, data: Any, flow: bool, width: int, indent: int) -> None:
    before = make(project_of(write_project, RECIPE))

    def order(keys: list[Any]) -> list[Any]:
        return data.draw(st.permutations(keys))  # type: ignore[no-any-return]

    # The order of variables has a meaning: a default can use those above it. Here none does.
    text = yaml.safe_dump(shuffled(RECIPE, order), sort_keys=False, default_flow_style=flow, width=width, indent=indent)
    text = f"# a comment\n\n{text}\n# another\n"
    after = make(write_project({"recipes/web.yaml": text, **FILES}))
    assert after.inputs == before.inputs
    assert after.digest == before.digest


WORD = st.text("abcdefghijklmnopqrstuvwxyz", min_size=2, max_size=12)  # as long as Debian wants names to be


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(first=st.lists(WORD, min_size=1, max_size=4), second=st.lists(WORD, min_size=1, max_size=4))
def test_two_lists_of_packages_are_the_same_image_only_if_they_are_equal(
    write_project: Write, first: list[str], second: list[str]
) -> None:
    plans = [
        make(project_of(write_project, changed(("software",), [{"package": {"name": name}} for name in names])))
        for names in (first, second)
    ]
    assert (plans[0].digest == plans[1].digest) == (first == second)


def test_a_secret_is_not_in_the_plan(write_project: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PASSWORD", "hunter2")
    document = changed(("vars", "title"), {"secret": {"env": "PASSWORD"}})
    plan = make(project_of(write_project, document))
    (stage,) = plan.recipe.provisioning["x86_64"]
    contents = stage.operations[2].payloads["src"].contents().decode()
    assert display(contents) == "(secret) 4 False x86_64\n"
    everything = json.dumps(planning.to_json(plan)) + "\n".join(planning.describe(plan)) + repr(plan)
    assert "hunter2" not in everything
    elsewhere = make(project_of(write_project, changed(("vars", "title"), {"secret": {"ssm": "/password"}})))
    assert planning.changes(elsewhere, plan.inputs) == ["secrets"]


def test_facts_that_do_not_fit_are_refused(write_project: Write) -> None:
    plan = make(project_of(write_project, RECIPE))
    for wrong, words in [
        (facts(plan.recipe, architecture="arm64"), "is arm64, expected x86_64"),
        (facts(plan.recipe, root_volume_gib=20), "has 20 GiB"),
        (replace(plan.facts, base={}), "no base image"),
        (replace(plan.facts, kms_keys={}), "no key was found for alias/golden-ami"),
    ]:
        with pytest.raises(GoldenAmiError) as caught:
            planning.make(plan.recipe, plan.environment, wrong)
        assert words in caught.value.message


@pytest.mark.parametrize(
    ("wanted", "base", "override"),
    [
        (None, "uefi-preferred", None),
        ("uefi-preferred", "uefi-preferred", None),
        ("legacy-bios", "legacy-bios", None),
        ("uefi", "uefi", None),
        ("uefi", "uefi-preferred", "uefi"),
    ],
)
def test_a_boot_mode_that_the_image_can_get(
    write_project: Write, wanted: str | None, base: str, override: str | None
) -> None:
    image = {"boot_mode": wanted} if wanted else {}
    plan = make_of_base(project_of(write_project, changed(("image",), image)), base)
    assert planning.boot_mode_override(plan.recipe, plan.facts.base["x86_64"]) == override


@pytest.mark.parametrize(
    ("wanted", "base", "words"),
    [
        ("uefi", None, "has no boot mode. Expected no value."),
        ("uefi", "legacy-bios", "has legacy-bios. Expected legacy-bios."),
        ("legacy-bios", "uefi-preferred", "has uefi-preferred. Expected uefi-preferred, or uefi."),
        ("uefi-preferred", "uefi", "has uefi. Expected uefi."),
    ],
)
def test_a_boot_mode_that_the_image_cannot_get_is_refused(
    write_project: Write, wanted: str, base: str | None, words: str
) -> None:
    with pytest.raises(UsageError) as caught:
        make_of_base(project_of(write_project, changed(("image",), {"boot_mode": wanted})), base)
    assert f"image.boot_mode is {wanted}" in caught.value.message
    assert words in caught.value.message


def test_graviton_boots_by_uefi_without_a_boot_mode(write_project: Write) -> None:
    plan = make(project_of(write_project, RECIPE))
    graviton = replace(plan.facts.base["x86_64"], architecture="arm64", boot_mode=None)
    loaded = replace(plan.recipe, image=plan.recipe.image.model_copy(update={"boot_mode": "uefi"}))
    assert planning.boot_mode_override(loaded, graviton) == "uefi"


def test_the_number_of_own_tags_is_that_of_the_constants() -> None:
    names = {name for name, value in vars(tags).items() if name.isupper() and str(value).startswith("goldenami:")}
    # Two are beginnings of names; the last is on exchanged volumes only, which have no tags of a recipe.
    own = names - {"PREFIX", "KEPT_TAG", "REPLACES"}
    assert len(own | {"NAME"}) == limits.OWN_TAGS


def test_what_a_plan_says(write_project: Write) -> None:
    plan = make(project_of(write_project, RECIPE))
    text = "\n".join(planning.describe(plan))
    for words in (
        "web 1.0 in the environment sandbox",
        "ami-1  debian-12",
        "4 operations",
        "- quiet",
        "tests/web_test.py",
        plan.digest,
    ):
        assert words in text
    value = planning.to_json(plan)
    assert value["schema"] == "goldenami.plan/1"
    assert json.loads(json.dumps(value)) == value
    assert [t["label"] for t in value["targets"]] == [t.label for t in plan.targets]


def test_architectures_differ_where_the_recipe_says_so(write_project: Write) -> None:
    document = changed(("architectures",), ["x86_64", "arm64"])
    document["base"] = {"ssm": "/debian/{{ architecture }}"}
    document["software"].append({"package": {"name": "only"}, "when": "architecture == 'arm64'"})
    plan = make(project_of(write_project, document))
    counts = {a: len(stages[0].operations) for a, stages in plan.recipe.provisioning.items()}
    assert counts == {"x86_64": 4, "arm64": 5}
    assert [ref.value for ref in plan.recipe.base.values()] == ["/debian/x86_64", "/debian/arm64"]
    assert plan.recipe.builder["arm64"].instance_types == ("t3.small",)


def test_session_manager_needs_an_instance_profile(write_project: Write) -> None:
    settings = "environments: {sandbox: {sandbox: true, network: {transport: ssm}%s}}\n"
    with pytest.raises(UsageError, match=r"builder\.instance_profile is missing for x86_64") as refused:
        make(project_of(write_project, RECIPE, {"goldenami.yaml": settings % ""}))
    assert "in the environment" in (refused.value.hint or "")
    for document, builder in (
        (changed(("builder", "instance_profile"), "managed"), ""),
        (RECIPE, ", builder: {instance_profile: managed}"),
    ):
        plan = make(project_of(write_project, document, {"goldenami.yaml": settings % builder}))
        assert plan.environment.network.address == "private"
