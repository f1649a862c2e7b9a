"""A recipe with a data volume: its contents arrive in an instance of the released image, in another region."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.worlds.machines import Workspace

pytestmark = pytest.mark.root

RECIPE = """\
name: data
version: "1.0"
base: {filter: debian-12-amd64-*, owners: ["136693071363"]}
patches: {level: none}
software:
  - file: {dest: /srv/data/contents, content: "written by the recipe\\n", mode: "0644"}
tests: [base, tests/data_test.py]
image:
  volumes:
    - {device: /dev/sdf, size_gib: 1, filesystem: {type: ext4, label: data, mount: /srv/data, options: [noatime]}}
distribution: {targets: [home/eu-central-1, home/eu-west-1], channel: stable}
"""
TEST = """\
def test_the_volume_is_mounted(host):
    mounted = host.mount_point("/srv/data")
    assert mounted.filesystem == "ext4"
    assert "noatime" in mounted.options
    assert host.file("/srv/data/contents").content_string == "written by the recipe\\n"


def test_the_entry_does_not_stop_a_boot(host):
    with host.sudo():
        uuid = host.check_output("blkid -p -o value -s UUID /dev/nvme1n1")
    (entry,) = [line.split() for line in host.file("/etc/fstab").content_string.splitlines() if "/srv/data" in line]
    assert entry == [f"UUID={uuid}", "/srv/data", "ext4", "nofail,noatime", "0", "2"]
"""


@pytest.mark.nightly
def test_the_contents_of_a_data_volume_arrive_in_another_region(workspace: Workspace) -> None:
    from tests.worlds.machines import until

    workspace.write("recipes/data.yaml", RECIPE)
    workspace.write("recipes/tests/data_test.py", TEST)
    done = workspace.run("build", "data", "--json")
    assert done.status == 0, done.stderr
    cloud = workspace.cloud
    for row in done.manifest["images"]:
        assert [(s["device_name"], s["volume_size_gib"], s["encrypted"]) for s in row["snapshots"]] == [
            ("/dev/sdf", 1, True),
            ("/dev/xvda", 8, True),
        ]
    (row,) = [row for row in done.manifest["images"] if row["region"] == "eu-west-1"]
    place = (row["account"], row["region"])
    (instance,) = cloud.launch(place, row["image_id"])
    cloud.address(place, instance)
    until(lambda: "ext4" in cloud.inside(instance, "sh", "-c", "findmnt -no FSTYPE /srv/data || true"))
    assert cloud.inside(instance, "cat", "/srv/data/contents") == "written by the recipe\n"
    cloud.client("ec2", place).terminate_instances(InstanceIds=[instance])
