"""The main job: one recipe, and its base, become tested, encrypted images in three regions and two accounts.

The image is built once, by the program as a person calls it; then plain boto3 confirms each fact of the manifest, and
instances of the images are asked what they are.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import urllib.request
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from tests.worlds.machines import Cloud, Done, Place, Workspace

pytestmark = pytest.mark.root


@dataclass
class MainJob:
    """The build, and what the cloud held before and after it."""

    workspace: Workspace
    done: Done
    before: set[tuple[str, Place, str]]
    after: set[tuple[str, Place, str]]
    calls: list[dict[str, Any]]

    @property
    def manifest(self) -> dict[str, Any]:
        return dict(self.done.manifest)


@pytest.fixture(scope="module")
def job(cloud: Cloud, tmp_path_factory: pytest.TempPathFactory) -> MainJob:
    """`goldenami build recipes/debian-12-web.yaml --json` in a copy of this project that has no releases yet."""
    from tests.worlds.machines import PROJECT, Workspace

    root = tmp_path_factory.mktemp("project")
    shutil.copytree(PROJECT / "recipes", root / "recipes")
    shutil.copy(PROJECT / "goldenami.yaml", root)
    workspace = Workspace(root, cloud)
    before = cloud.inventory()
    made: list[Done] = []
    calls = cloud.calls_of(lambda: made.append(workspace.run("build", "recipes/debian-12-web.yaml", "--json")))
    assert made[0].status == 0, made[0].stderr
    return MainJob(workspace, made[0], before, cloud.inventory(), calls)


def tags_of(item: dict[str, Any]) -> dict[str, str]:
    return {tag["Key"]: tag["Value"] for tag in item.get("Tags", ())}


def owner_of(row: dict[str, Any]) -> Place:
    """A shared image is the home account's."""
    from tests.worlds.machines import HOME

    return (HOME if row["mode"] == "share" else row["account"], row["region"])


# --- the manifest and the cloud ---------------------------------------------------------------------------------------


def test_stdout_is_the_result(job: MainJob) -> None:
    from tests.worlds.machines import APPS, HOME, REGIONS

    manifest = job.manifest
    assert manifest["schema"] == "goldenami.manifest/1"
    assert manifest["recipe"] == "debian-12-web"
    assert manifest["version"].startswith("1.4.20")
    assert len(manifest["digest"]) == 64
    assert manifest["build_id"]
    assert manifest["base"]["x86_64"]["release"].startswith("debian-12-base 1.0.20")
    rows = manifest["images"]
    assert [(r["account"], r["region"]) for r in rows] == [(a, r) for a in (HOME, APPS) for r in REGIONS]
    assert {r["architecture"] for r in rows} == {"x86_64"}
    assert all(r["encrypted"] and r["snapshots"] and all(s["encrypted"] for s in r["snapshots"]) for r in rows)
    assert len({r["image_id"] for r in rows}) == 5, "two of the six rows are one image, used by two accounts"
    assert [t["gate"] for t in manifest["tests"]] == ["builder", "image"]
    assert all(t["passed"] > 20 and t["failed"] == 0 for t in manifest["tests"])
    assert "nginx-light" in {p["name"] for p in manifest["packages"]["x86_64"]}
    assert "nginx-light" in {c["name"] for c in manifest["changes"]["x86_64"]}


def test_every_image_is_what_the_manifest_says(job: MainJob, cloud: Cloud) -> None:
    manifest = job.manifest
    for row in manifest["images"]:
        owner, user = owner_of(row), (row["account"], row["region"])
        image = cloud.image(owner, row["image_id"])
        assert image["State"] == "available"
        assert image["OwnerId"] == owner[0]
        assert image["Architecture"] == row["architecture"]
        assert image["Name"] == row["name"] == f"debian-12-web-{manifest['version']}-x86_64"
        assert image["Description"] == "Debian 12 with nginx, patched"
        assert image["ImdsSupport"] == "v2.0"
        assert image["DeprecationTime"] > image["CreationDate"]
        assert not image["Public"]
        tags = tags_of(image)
        assert tags["goldenami:recipe"] == "debian-12-web"
        assert tags["goldenami:version"] == manifest["version"]
        assert tags["goldenami:build-id"] == manifest["build_id"]
        assert tags["goldenami:base-ami"] == manifest["base"]["x86_64"]["image_id"]
        assert tags["Name"] == image["Name"]
        assert cloud.image(user, row["image_id"])["State"] == "available", "who is to use it sees it"
        devices = [m["Ebs"] for m in image["BlockDeviceMappings"] if "Ebs" in m]
        assert [d["SnapshotId"] for d in devices] == [s["snapshot_id"] for s in row["snapshots"]]
        assert all(d["Encrypted"] and d["VolumeType"] == "gp3" and d["VolumeSize"] == 8 for d in devices)


def test_every_snapshot_is_encrypted_under_the_key_of_its_place(job: MainJob, cloud: Cloud) -> None:
    for row in job.manifest["images"]:
        owner = owner_of(row)
        key = cloud.key(owner)
        assert key.startswith(f"arn:aws:kms:{owner[1]}:{owner[0]}:key/")
        for recorded in row["snapshots"]:
            ec2 = cloud.client("ec2", owner)
            [snapshot] = ec2.describe_snapshots(SnapshotIds=[recorded["snapshot_id"]])["Snapshots"]
            assert snapshot["State"] == "completed"
            assert snapshot["Encrypted"]
            assert snapshot["KmsKeyId"] == recorded["kms_key_id"] == key
            assert snapshot["OwnerId"] == owner[0]
            assert tags_of(snapshot)["goldenami:build-id"] == job.manifest["build_id"]


def test_only_the_shared_image_can_be_used_by_another_account(job: MainJob, cloud: Cloud) -> None:
    from tests.worlds.machines import APPS, HOME

    for row in job.manifest["images"]:
        owner = owner_of(row)
        ec2 = cloud.client("ec2", owner)
        expected = [APPS] if owner == (HOME, "us-east-1") else []
        permissions = ec2.describe_image_attribute(ImageId=row["image_id"], Attribute="launchPermission")
        assert [p.get("UserId") for p in permissions["LaunchPermissions"]] == expected
        for recorded in row["snapshots"]:
            attribute = {"SnapshotId": recorded["snapshot_id"], "Attribute": "createVolumePermission"}
            allowed = ec2.describe_snapshot_attribute(**attribute)["CreateVolumePermissions"]
            assert [p.get("UserId") for p in allowed] == expected


def test_parameters_name_the_images_in_every_target(job: MainJob, cloud: Cloud) -> None:
    for row in job.manifest["images"]:
        ssm = cloud.client("ssm", (row["account"], row["region"]))
        for which in (job.manifest["version"], "candidate"):
            name = f"/golden-ami/debian-12-web/x86_64/{which}/image-id"
            parameter = ssm.get_parameter(Name=name)["Parameter"]
            assert (parameter["Value"], parameter["DataType"]) == (row["image_id"], "aws:ec2:image")


def test_nothing_else_is_left(job: MainJob, cloud: Cloud) -> None:
    """No unencrypted candidate, builder, volume, key pair or group; only what the two releases consist of."""
    from tests.worlds.machines import APPS

    base = job.workspace.run("images", "show", "debian-12-base", "--json").json
    released = {
        entry
        for manifest in (base, job.manifest)
        for row in manifest["images"]
        for entry in [
            ("image", owner_of(row), row["image_id"]),
            *(("snapshot", owner_of(row), s["snapshot_id"]) for s in row["snapshots"]),
        ]
    }
    new = job.after - job.before
    assert {entry for entry in new if entry[0] in ("image", "snapshot")} == released
    assert {entry[0] for entry in new} == {"image", "snapshot", "parameter", "grant"}
    assert (
        len({entry for entry in new if entry[0] == "parameter"}) == 2 * 4 * 6
    )  # of the version; image-id, version and manifest of the channel
    assert {place for kind, place, _ in new if kind == "grant"} <= {("111111111111", "us-east-1"), (APPS, "us-east-1")}
    assert job.before - job.after == set()
    bases = {manifest["base"]["x86_64"]["image_id"] for manifest in (base, job.manifest)}  # these are in tags
    named = {id for c in job.calls if c["action"] == "CreateImage" for id in c["ids"] if id.startswith("ami-")}
    candidates = named - bases
    assert len(candidates) == 2
    assert not candidates & {entry[2] for entry in job.after}


# --- instances --------------------------------------------------------------------------------------------------------


def test_instances_serve_the_page_and_are_not_twins(job: MainJob, cloud: Cloud) -> None:
    """Two of home's image, one of the other account's own copy, and one of the image that is shared with it."""
    from tests.worlds.machines import APPS, HOME, until

    ids = {(row["account"], row["region"]): row["image_id"] for row in job.manifest["images"]}
    wanted = {(HOME, "eu-central-1"): 2, (APPS, "eu-west-1"): 1, (APPS, "us-east-1"): 1}
    launched = [(place, i) for place, n in wanted.items() for i in cloud.launch(place, ids[place], n)]
    try:
        host_keys, machine_ids = set(), set()
        for place, instance in launched:
            address = cloud.address(place, instance)
            page = until(partial(fetch, f"http://{address}/"))
            assert "<h1>Golden image</h1>" in page
            assert "<p>debian-12-web 1.4 on x86_64</p>" in page
            assert fetch(f"http://{address}/healthz") == "ok\n"
            host_keys.add(until(partial(host_key, address)))
            machine_ids.add(cloud.inside(instance, "cat", "/etc/machine-id").strip())
            metrics = cloud.inside(instance, "curl", "-fsS", "http://127.0.0.1:9100/metrics")
            assert "\nnode_memory_MemTotal_bytes " in metrics
            assert cloud.inside(instance, "systemctl", "is-system-running", "--wait").strip() == "running"
            units = cloud.inside(instance, "systemctl", "list-units", "--all", "--plain", "--no-legend", "goldenami-*")
            assert units == "", "nothing of a builder ends an instance of the image"
        assert_in_sbom(job, cloud, launched[0][1])
        assert len(host_keys) == len(machine_ids) == len(launched)
        [instances] = cloud.client("ec2", (APPS, "us-east-1")).describe_instances(InstanceIds=[launched[-1][1]])[
            "Reservations"
        ]
        assert instances["Instances"][0]["MetadataOptions"]["HttpTokens"] == "required"
    finally:
        for place, instance in launched:
            cloud.client("ec2", place).terminate_instances(InstanceIds=[instance])


def assert_in_sbom(job: MainJob, cloud: Cloud, instance: str) -> None:
    """The bill of materials has exactly the packages of an instance, and a file that the recipe wrote."""
    done = job.workspace.run("sbom", "debian-12-web@candidate")
    assert done.status == 0, done.stderr
    components = json.loads(done.stdout)["components"]
    more = {c["bom-ref"]: {p["name"]: p["value"] for p in c.get("properties", ())} for c in components}
    found = {
        (
            c["name"],
            c["version"],
            more[c["bom-ref"]]["goldenami:architecture"],
            more[c["bom-ref"]]["goldenami:source"],
            more[c["bom-ref"]]["goldenami:source-version"],
        )
        for c in components
        if c.get("purl", "").startswith("pkg:deb/debian/")
    }
    fields = "${db:Status-Abbrev}|${Package}|${Version}|${Architecture}|${source:Package}|${source:Version}\n"
    lines = cloud.inside(instance, "dpkg-query", "-W", "-f", fields).splitlines()
    assert found == {tuple(line.split("|")[1:]) for line in lines if line[1] == "i"}
    assert len(found) > 150
    digests = {c["name"]: c["hashes"][0]["content"] for c in components if c["type"] == "file" and "hashes" in c}
    assert "/etc/nginx/nginx.conf" not in digests, "its package owns it, also where a recipe changed it"
    page = "/srv/www/index.html"
    assert digests[page] == cloud.inside(instance, "sha256sum", page).split()[0]


def fetch(url: str) -> str | None:
    try:
        with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(url, timeout=5) as answer:
            return str(answer.read().decode())
    except OSError:
        return None


def host_key(address: str) -> str:
    scan = ["ssh-keyscan", "-T", "5", "-t", "ed25519", address]
    return subprocess.run(scan, capture_output=True, text=True).stdout.partition(" ")[2].strip()


# --- what one asks afterwards -----------------------------------------------------------------------------------------


def test_commands_about_images_agree(job: MainJob) -> None:
    from tests.worlds.machines import APPS

    run = job.workspace.run
    listed = run("images", "list", "--json").json["releases"]
    assert {(r["name"], tuple(r["channels"]), r["images"]) for r in listed} == {
        ("debian-12-base", ("stable",), 6),
        ("debian-12-web", ("candidate",), 6),
    }
    assert run("images", "show", "debian-12-web@candidate", "--json").json == job.manifest
    text = run("images", "show", "debian-12-web").stdout
    for row in job.manifest["images"]:
        assert row["image_id"] in text
    resolved = run("resolve", "debian-12-web@candidate", "--region", "eu-west-1", "--account", "apps")
    rows = {(r["account"], r["region"]): r["image_id"] for r in job.manifest["images"]}
    assert resolved.stdout == rows[APPS, "eu-west-1"] + "\n"
    nothing = run("resolve", "debian-12-web@stable", "--region", "eu-west-1", "--account", "apps")
    assert (nothing.status, nothing.stdout) == (3, "")
    assert "candidate" in nothing.stderr


def test_a_second_build_launches_nothing(job: MainJob, cloud: Cloud) -> None:
    from tests.worlds.machines import READING

    made: list[Done] = []
    calls = cloud.calls_of(lambda: made.append(job.workspace.run("build", "debian-12-web", "--json")))
    [done] = made
    assert done.status == 0, done.stderr
    (unchanged,) = done.json["builds"]
    assert (unchanged["status"], unchanged["manifest"]) == ("unchanged", job.manifest)
    assert f"debian-12-web {job.manifest['version']} was built from the same inputs" in done.stderr
    assert [c["action"] for c in calls if not c["action"].startswith(READING)] == []
    assert cloud.inventory() == job.after


def test_plan_afterwards(job: MainJob, cloud: Cloud) -> None:
    plan = job.workspace.run("plan", "debian-12-web", "--json")
    assert plan.status == 0, plan.stderr
    (planned,) = json.loads(plan.stdout)["plans"]
    assert planned["action"] == "unchanged"
    assert planned["digest"] == job.manifest["digest"]
    # The builder has installed all updates, by the judgement of the archive's indices too.
    fresh = planned["freshness"]
    assert (fresh["changed"], fresh["updates"], fresh["notes"]) == (False, {}, [])
    assert fresh["repositories_read"] == len(job.manifest["sources"]["x86_64"]["repositories"]) >= 3
