"""User data of the builder, as a recipe gives it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from goldenami import planning, recipe
from goldenami.recipe.userdata import LIMIT, OWN
from tests.recipe.test_plan import RECIPE, make

Write = Callable[[dict[str, str]], Path]


def project(write: Write, user_data: object) -> Path:
    document = {key: value for key, value in RECIPE.items() if key not in ("software", "tests")}
    document["builder"] = {"instance_types": ["t3.small"], **({"user_data": user_data} if user_data else {})}
    return write({"recipes/web.yaml": yaml.safe_dump(document, sort_keys=False), "recipes/first.sh": "#!/bin/sh\n"})


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("touch /x", "user_data: the form is unknown"),
        ("#cloud-config\n- a list\n", "user_data: expected a mapping after #cloud-config"),
        ("#cloud-config\na: [\n", "user_data: not valid YAML"),
        ("#cloud-config\nmerge_how: dict(no_replace)\n", "user_data: merge_how: goldenami sets it"),
        ("#!" + "x" * (LIMIT - OWN - 1), f"user_data: it has {LIMIT - OWN + 1} bytes, expected at most {LIMIT - OWN}"),
        ({"src": "nothing.sh"}, "src: nothing.sh: No such file"),
        ({"src": "/etc/passwd"}, "outside the project"),
        ({"content": "#!", "src": "first.sh"}, "expected either content or src"),
        ("#cloud-config\nruncmd: ['{{ vars.nothing }}']\n", "nothing"),
    ],
)
def test_what_cannot_work_is_an_error_of_the_recipe(write_project: Write, given: object, message: str) -> None:
    problems = recipe.check(recipe.load_project(project(write_project, given)), ["web"])
    assert [one for one in problems if message not in one.message] == []
    assert problems


@pytest.mark.parametrize(
    "given",
    [
        "#!/bin/sh\n",
        "#include\nhttps://a.example\n",
        "#cloud-boothook\nx",
        {"src": "first.sh"},
        "#cloud-config\nfqdn: a\n",
    ],
)
def test_user_data_is_an_input_of_the_image(write_project: Write, given: object) -> None:
    before = make(project(write_project, None))
    after = make(project(write_project, given))
    assert planning.changes(after, before.inputs) == ["user_data:x86_64"]
