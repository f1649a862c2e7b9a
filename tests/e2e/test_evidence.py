"""Two builds of one plan on real instances: what differs is listed and explained; and a real release is verified."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.worlds.keys import new_signing_key

if TYPE_CHECKING:
    from tests.worlds.machines import Workspace

pytestmark = [pytest.mark.root, pytest.mark.nightly]

RECIPE = """\
name: again
version: "1.0"
base: {filter: debian-12-amd64-*, owners: ["136693071363"]}
patches: {level: none}
software:
  - package: {name: less}
  - user: {name: app}
  - file: {dest: /etc/app.conf, content: "port = 80\\n"}
  - command: {shell: "echo made >/srv/made", creates: /srv/made}
tests: [base]
distribution: {targets: [home/eu-central-1, home/eu-west-1], channel: stable}
"""
SETTINGS = """\
environments:
  sandbox:
    sandbox: true
    signing: {key: {file: signing.pem}}
"""
MOST = 10  # files that differ between two builds of one plan; each of them has a reason


def test_two_builds_of_one_plan_differ_in_few_files_and_all_are_explained(workspace: Workspace) -> None:
    workspace.write("signing.pem", new_signing_key()[0])
    workspace.write("goldenami.yaml", SETTINGS)
    workspace.write("recipes/again.yaml", RECIPE)
    for _ in range(2):
        done = workspace.run("build", "again", "--force", "--json")
        assert done.status == 0, done.stderr
    found = workspace.run("images", "diff", "again", "--json").json
    files = found["files"]["x86_64"]
    assert [one for one in files if not one["why"]] == []
    assert len(files) <= MOST
    for part in ("services", "users", "sysctls"):
        assert found[part] == [], part
    assert not any(found["packages"].values())
    verified = workspace.run("verify", "again@stable", "--json")
    assert verified.status == 0, verified.stdout
    assert [one["contents"] for one in verified.json["images"]] == ["equal", "equal"]
