"""Answers that are kept for the very same objects, and what the plans of many recipes share."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from goldenami import planning
from goldenami import recipe as recipes
from goldenami.model import Account, BaseImage, Target
from goldenami.planning import Facts
from goldenami.recipe import Recipe
from goldenami.release import targets as modes
from goldenami.same import for_the_same

RECIPE = """
name: {name}
version: "1.0"
base: {{filter: debian-12-amd64-*, owners: ["136693071363"]}}
distribution: {{targets: {targets}}}
"""
BASE = BaseImage("ami-1", "debian-12", "136693071363", "x86_64", "/dev/xvda", 8, "2026-11-10T00:00:00.000Z", "test")

Write = Callable[[dict[str, str]], Path]


def test_an_answer_is_kept_for_the_same_objects_only() -> None:
    asked: list[tuple[str, ...]] = []

    @for_the_same
    def joined(words: tuple[str, ...], end: str) -> str:
        asked.append(words)
        return " ".join(words) + end

    first, end = tuple("ab"), "."
    assert [joined(first, end) for _ in range(3)] == ["a b."] * 3
    assert len(asked) == 1
    assert joined(tuple("ab"), end) == "a b."  # equal, but another object
    assert joined(first, "!") == "a b!"
    for number in range(10):
        joined((str(number),), end)
    assert len(asked) == 13
    assert joined(first, end) == "a b."
    assert len(asked) == 14, "the first answer was dropped long ago"


def test_the_targets_that_own_an_image() -> None:
    account = Account("home", "1" * 12)
    copies = Target(account, "eu-central-1", "alias/x"), Target(account, "eu-west-1", "alias/x")
    shared = Target(Account("apps", "2" * 12), "eu-west-1", "", "share")
    assert modes.owners((copies[0], shared, copies[1])) == copies


@pytest.mark.parametrize("targets", ["all", "[eu-west-1, home]"])
def test_recipes_share_what_is_known_about_their_targets(
    write_project: Write, targets: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The number of hashes depends on the number of targets and of recipes, and not on their product."""
    names = [f"image-{number}" for number in range(20)]
    root = write_project({f"recipes/{name}.yaml": RECIPE.format(name=name, targets=targets) for name in names})
    project = recipes.load_project(root)
    environment = recipes.environment(project, "sandbox")
    loaded: list[Recipe] = [recipes.load(project, name, environment) for name in names]
    chosen = loaded[0].distribution.targets
    assert all(one.distribution.targets is chosen for one in loaded)
    keys: Mapping[str, str] = {target.label: f"arn:{target.label}" for target in chosen}
    hashed: Counter[str] = Counter()
    sha256 = planning._sha256

    def counted(value: object) -> str:
        hashed["all"] += 1
        hashed["targets"] += isinstance(value, list) and len(value) == 4 and value[1] in modes.names()
        return sha256(value)

    monkeypatch.setattr(planning, "_sha256", counted)
    plans = [planning.make(one, environment, Facts({"x86_64": BASE}, keys)) for one in loaded]
    assert hashed["targets"] == len(chosen)
    assert len({plan.digest for plan in plans}) == len(plans)
    assert all({f"target:{label}" for label in keys} < plan.inputs.keys() for plan in plans)
    inputs = plans[0].inputs
    assert list(inputs) == list(inputs.keys()) == sorted(inputs)
    assert inputs == dict(inputs) == dict(zip(inputs, inputs.values(), strict=True))
    assert planning.to_json(plans[0])["inputs"] == inputs
    assert len(inputs) == len(set(inputs))
    with pytest.raises(KeyError):
        inputs["target:nowhere"]
