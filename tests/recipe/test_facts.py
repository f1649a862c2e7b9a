"""Facts of the base image and of its builder in expressions: placeholders in a plan, values on the host."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml

from goldenami import planning, recipe
from goldenami.errors import BuilderError, UsageError
from goldenami.recipe.context import HOST_FACTS
from goldenami.recipe.secrets import names_in
from goldenami.stages import hostfacts
from goldenami.stages.filling import fill_stage
from tests.recipe.test_plan import RECIPE, facts, make

Write = Callable[[dict[str, str]], Path]

SOFTWARE: list[dict[str, Any]] = [
    {"package": {"name": "linux-headers-{{ facts.kernel }}"}},
    {"template": {"src": "built.j2", "dest": "/etc/built"}},
    {"command": {"shell": "echo {{ facts.root_device | quote }}"}, "name": "on {{ facts.os_version }}"},
]
BUILT = "{{ facts.image_id }} {{ facts.image_owner }} {{ facts.os_name | upper }} {{ environment.account }}\n"


def project(write: Write, software: list[dict[str, Any]]) -> Path:
    document = {**RECIPE, "software": software, "vars": {"token": {"secret": {"env": "TOKEN"}}}}
    del document["tests"], document["handlers"]
    return write({"recipes/web.yaml": yaml.safe_dump(document, sort_keys=False), "recipes/built.j2": BUILT})


class Host:
    """A host that answers by running the command here, as its shell would."""

    def __init__(self, answers: dict[str, str]) -> None:
        self.answers, self.endpoint, self.commands = answers, SimpleNamespace(address="192.0.2.1"), 0

    def run(self, script: str, timeout: float) -> Any:
        self.commands += 1
        lines = [value for name, value in self.answers.items() if HOST_FACTS[name] in script]
        return SimpleNamespace(stdout="".join(f"{line}\n" for line in lines).encode())


KNOWN = {"kernel": "6.1.0-26-cloud-amd64", "os_version": "12", "os_name": "Debian 12", "root_device": "/dev/x y"}


def test_a_plan_names_facts_and_a_host_gets_their_values(write_project: Write) -> None:
    plan = make(project(write_project, SOFTWARE))
    assert "- package linux-headers-(facts.kernel)" in "\n".join(planning.describe(plan))
    [stage] = plan.recipe.provisioning["x86_64"]
    host: Any = Host(KNOWN)
    values = hostfacts.of_image(plan.facts.base["x86_64"])
    values |= hostfacts.read(host, [stage], values)
    package, template, command = fill_stage(stage, values).operations
    assert package.operation.model_dump()["name"] == "linux-headers-6.1.0-26-cloud-amd64"
    account = plan.environment.home.id
    assert template.payloads["src"].contents().decode() == f"ami-1 136693071363 DEBIAN 12 {account}\n"
    assert command.operation.model_dump()["shell"] == "echo '/dev/x y'"
    assert command.label == "on 12"
    assert host.commands == 1, "one round trip for all facts"


def test_a_host_is_not_asked_for_facts_that_nobody_uses(write_project: Write) -> None:
    plan = make(project(write_project, [{"package": "curl"}]))
    host: Any = Host(KNOWN)
    assert hostfacts.read(host, plan.recipe.provisioning["x86_64"], {}) == {}
    assert host.commands == 0


def test_facts_do_not_change_the_digest_and_what_is_made_of_them_does(write_project: Write) -> None:
    one, other = (make(project(write_project, SOFTWARE)).digest for _ in range(2))
    changed = [{"package": {"name": "linux-image-{{ facts.kernel }}"}}, *SOFTWARE[1:]]
    assert one == other != make(project(write_project, changed)).digest


def test_what_has_no_value_is_told(write_project: Write) -> None:
    stages = make(project(write_project, SOFTWARE)).recipe.provisioning["x86_64"]
    host: Any = Host(KNOWN | {"root_device": ""})
    with pytest.raises(UsageError, match=r"facts\.image_id, which only a build knows"):
        hostfacts.read(host, stages, {})
    values = hostfacts.of_image(facts(make(project(write_project, SOFTWARE)).recipe).base["x86_64"])
    with pytest.raises(BuilderError, match=r"192\.0\.2\.1 has no value for facts\.root_device"):
        hostfacts.read(host, stages, values)


@pytest.mark.parametrize(
    ("software", "message"),
    [
        ({"package": "curl", "when": "{{ facts.kernel > '6' }}"}, "facts.kernel cannot be compared or calculated with"),
        ({"package": "curl", "when": "facts.kernel"}, "facts.kernel cannot be a condition"),
        ({"package": "curl", "when": "{{ vars.token }}"}, "a secret cannot be a condition"),
        ({"package": "curl +{{ facts.kernel }}"}, "name of a package"),
        ({"package": "{{ facts.nothing }}"}, "nothing"),
    ],
)
def test_facts_decide_nothing_in_a_plan(write_project: Write, software: dict[str, Any], message: str) -> None:
    [problem] = recipe.check(recipe.load_project(project(write_project, [software])), ["web"])
    assert message in problem.message


def test_every_fact_is_at_most_one_line() -> None:
    for code in HOST_FACTS.values():
        assert subprocess.run(["sh", "-c", code], capture_output=True, check=False).stdout.count(b"\n") <= 1


def test_placeholders_of_facts_are_not_names_of_secrets(write_project: Write) -> None:
    [stage] = make(project(write_project, SOFTWARE)).recipe.provisioning["x86_64"]
    assert names_in(stage.operations[0].operation.model_dump_json()) == {"facts.kernel"}
