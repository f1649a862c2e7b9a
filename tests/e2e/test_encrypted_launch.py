"""`encryption: launch` on real instances: the builder's disk is encrypted from the first block, and the builder's own
image is the release in the home region."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.worlds.machines import Done, Workspace

pytestmark = pytest.mark.root

ENVIRONMENTS = """\
environments:
  sandbox: {sandbox: true, encryption: launch}
"""
RECIPE = """\
name: encrypted
version: "1.0"
base: {filter: debian-12-amd64-*, owners: ["136693071363"]}
patches: {level: none}
software:
  - file: {dest: /srv/contents, content: "written by the recipe\\n", mode: "0644"}
tests: [base]
distribution: {targets: [home/eu-central-1, home/eu-west-1, apps/eu-central-1], channel: stable}
"""


@pytest.mark.nightly
def test_the_builders_image_is_the_release_of_the_home_region(workspace: Workspace) -> None:
    workspace.write("goldenami.yaml", ENVIRONMENTS)
    workspace.write("recipes/encrypted.yaml", RECIPE)
    cloud = workspace.cloud
    made: list[Done] = []
    calls = cloud.calls_of(lambda: made.append(workspace.run("build", "encrypted", "--json")))
    (done,) = made
    assert done.status == 0, done.stderr
    rows = {(row["account"], row["region"]): row for row in done.manifest["images"]}
    home = next(iter(rows.values()))
    assert len({row["image_id"] for row in rows.values()}) == 3

    worked = [call for call in calls if call["result"] == "ok"]
    captured = [call["ids"] for call in worked if call["action"] == "CreateImage"]
    launched = [call["ids"] for call in worked if call["action"] == "RunInstances"]
    copied = [call["ids"] for call in worked if call["action"] == "CopyImage"]
    assert len(captured) == 1
    assert home["image_id"] in captured[0]
    assert len(launched) == 2
    assert home["image_id"] in launched[1], "gate 2 boots the released image"
    assert len(copied) == 2
    assert all(home["image_id"] in ids for ids in copied)

    for place, row in rows.items():
        (snapshot,) = row["snapshots"]
        ec2 = cloud.client("ec2", place)
        (found,) = ec2.describe_snapshots(SnapshotIds=[snapshot["snapshot_id"]])["Snapshots"]
        assert (found["Encrypted"], found["KmsKeyId"], found["OwnerId"]) == (True, cloud.key(place), place[0])
        (instance,) = cloud.launch(place, row["image_id"])
        try:
            cloud.address(place, instance)
            assert cloud.inside(instance, "cat", "/srv/contents") == "written by the recipe\n"
        finally:
            ec2.terminate_instances(InstanceIds=[instance])
