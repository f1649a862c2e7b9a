"""Two builds of the same recipe on real instances have the same packages and files, and a changed file is seen."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.worlds.machines import Workspace

pytestmark = pytest.mark.root

RECIPE = """\
name: same
version: "1.0"
base: {filter: debian-12-amd64-*, owners: ["136693071363"]}
patches: {level: none}
refresh: {skip_same: true, max_age: 1s}
software:
  - user: {name: app}
  - file: {dest: /etc/app.conf, content: "port = 80\\n"}
  - command: {shell: "echo made >/srv/made", creates: /srv/made}
tests: [base]
distribution: {targets: [home/eu-central-1], channel: stable}
"""


@pytest.mark.nightly
def test_a_second_build_of_the_same_recipe_finds_nothing_new(workspace: Workspace) -> None:
    workspace.write("recipes/same.yaml", RECIPE)
    first = workspace.run("build", "same", "--json")
    assert first.status == 0, first.stderr
    assert len(first.manifest["contents"]["x86_64"]) == 64
    there = workspace.cloud.inventory()
    second = workspace.run("build", "same", "--json")
    assert second.status == 0, second.stderr
    (built,) = second.json["builds"]
    assert built["status"] == "unchanged", built
    assert built["reason"].startswith("nothing new: the packages and files are those of same 1.0.")
    assert workspace.cloud.inventory() == there
