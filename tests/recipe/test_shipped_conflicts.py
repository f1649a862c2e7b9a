"""Software that the shipped profiles would remove or change: told when the recipe is loaded, with what solves it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from goldenami import recipe
from goldenami.errors import InvalidInput

Write = Callable[[dict[str, str]], Path]
HEAD = 'name: web\nversion: "1.0"\nbase: {id: ami-0123456789abcdef0}\nos: debian\n'


def load(write_project: Write, profile: str, software: str, more: str = "") -> recipe.Recipe:
    text = f"{HEAD}software:\n  - {software}\nhardening:\n  profiles: [{profile}]\n{more}"
    project = recipe.load_project(write_project({"recipes/web.yaml": text}))
    return recipe.load(project, "web", recipe.environment(project))


@pytest.mark.parametrize("profile", ["debian-12-level-1", "debian-13-level-2"])
@pytest.mark.parametrize(
    ("software", "control", "reason"),
    [
        ("package: rsync", "no-unneeded-services", "package rsync: present here, absent there"),
        ("package: nginx", "no-unneeded-services", "package nginx: present here, absent there"),
        ("absent: [/etc/cron.allow]", "cron-users", "/etc/cron.allow: absent here, contents there"),
        (
            'permissions: {path: /etc/crontab, files: "0644"}',
            "cron-directories",
            "the mode of the file /etc/crontab: 0644 here, 0600 there",
        ),
        (
            'file: {dest: /etc/crontab, content: "x", mode: "0640"}',
            "cron-directories",
            "the mode of the file /etc/crontab: 0640 here, 0600 there",
        ),
    ],
)
def test_what_a_shipped_control_undoes_is_an_error_with_both_places(
    write_project: Write, profile: str, software: str, control: str, reason: str
) -> None:
    with pytest.raises(InvalidInput) as caught:
        load(write_project, profile, software)
    (problem,) = caught.value.problems
    assert f"the control {control} (shipped:hardening/controls/" in problem.message
    assert reason in problem.message
    assert (problem.line, f"{control}: {{reason:" in (problem.hint or "")) == (6, True)


@pytest.mark.parametrize(
    "solution",
    [
        '  waivers: {no-unneeded-services: {reason: "mirrors files", expires: 2099-01-01}}\n',
        "  variables: {unwanted_services: [telnetd]}\n",
    ],
    ids=["waiver", "variable"],
)
def test_the_solutions_that_are_told_work(write_project: Write, solution: str) -> None:
    loaded = load(write_project, "debian-12-level-1", "package: rsync", solution)
    assert "package rsync" in [b.label for stage in loaded.provisioning["x86_64"] for b in stage.operations]


@pytest.mark.parametrize("software", ["package: nginx-light", 'permissions: {path: /etc/crontab, files: "0600"}'])
def test_what_fits_is_no_conflict(write_project: Write, software: str) -> None:
    assert load(write_project, "debian-12-level-2", software).name == "web"
