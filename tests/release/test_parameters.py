"""Parameters that have as many versions as SSM keeps, and versions with labels."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from botocore.exceptions import ClientError

from goldenami.cli.main import main
from goldenami.errors import NotFound, TargetsFailed, UsageError
from goldenami.release.published import read_published
from goldenami.release.versions import Reference
from tests.release.test_publish import CHANNEL, go, ids, make_shared, values

if TYPE_CHECKING:
    from goldenami.aws.ledger import Ledger
    from goldenami.model import ImageManifest
    from tests.worlds.releases import World


def two(world: World) -> list[tuple[Ledger, ImageManifest]]:
    """Two releases in one region, of which the channel has the second."""
    from tests.worlds.releases import TARGETS

    order = world.order(targets=TARGETS[:1])
    made = [make_shared(world, order, f"1.4.20261124.{number}") for number in (1, 2)]
    for ledger, manifest in made:
        go(world, ledger, manifest)
    return made


def fill(world: World, manifest: ImageManifest, number: int, name: str = CHANNEL) -> None:
    """Put a parameter until SSM has counted that many versions of it."""
    ssm = world.client("ssm", manifest.images[0].place)
    value = ssm.get_parameter(Name=name)["Parameter"]
    for _ in range(value["Version"], number):
        ssm.put_parameter(Name=name, Value=value["Value"], Type="String", Overwrite=True)


def test_a_channel_moves_more_often_than_ssm_keeps_versions(world: World) -> None:
    made = two(world)
    fill(world, made[1][1], 198)
    ledger, manifest = made[0]
    for number in range(4):
        ledger, manifest = made[number % 2]
        go(world, ledger, manifest)
        assert values(world, manifest, "stable") == ids(manifest)
    ssm = world.client("ssm", manifest.images[0].place)
    assert ssm.get_parameter(Name=CHANNEL)["Parameter"]["Version"] == 202


@pytest.mark.parametrize("versions", [99, 100], ids=["no room to undo", "full"])
@pytest.mark.parametrize("name", [CHANNEL, CHANNEL.replace("image-id", "version")], ids=["image", "text"])
def test_a_version_that_must_go_and_has_a_label_stops_all(world: World, versions: int, name: str) -> None:
    """SSM keeps a version with a label, and then refuses a new one. That is found before anything moves."""
    made = two(world)
    ledger, manifest = made[0]
    place = manifest.images[0].place
    ssm = world.client("ssm", place)
    fill(world, manifest, versions, name)
    ssm.label_parameter_version(Name=name, ParameterVersion=1, Labels=["blessed"])
    before = len(world.paper.calls)
    with pytest.raises(TargetsFailed, match="was not moved") as caught:
        go(world, ledger, manifest)
    (reason,) = caught.value.failures.values()
    assert "has the label blessed" in reason
    assert f"unlabel-parameter-version --region {place.region} --name {name} --parameter-version 1" in reason
    assert world.mutations(before) == []
    # The label of a version that stays is nobody's concern; nor is the one that its owner took away.
    ssm.unlabel_parameter_version(Name=name, ParameterVersion=1, Labels=["blessed"])
    ssm.label_parameter_version(Name=name, ParameterVersion=50, Labels=["blessed"])
    go(world, ledger, manifest)
    assert values(world, manifest, "stable") == ids(manifest)
    assert ssm.get_parameter(Name=f"{name}:blessed")["Parameter"]["Version"] == 50


def test_ssm_refuses_the_version_after_the_hundredth(world: World) -> None:
    made = two(world)
    manifest = made[1][1]
    ssm = world.client("ssm", manifest.images[0].place)
    fill(world, manifest, 100)
    ssm.label_parameter_version(Name=CHANNEL, ParameterVersion=1, Labels=["blessed"])
    world.paper.set(pending={"parameter": 5})  # it answers before it validates, and refuses before that
    with pytest.raises(ClientError, match="ParameterMaxVersionLimitExceeded"):
        ssm.put_parameter(Name=CHANNEL, Value=manifest.images[0].image_id, Type="String", Overwrite=True)


def test_a_consumer_reads_a_release_from_its_parameters_alone(world: World) -> None:
    _, manifest = two(world)[1]
    row = manifest.images[0]
    found = read_published(world.cloud, Reference.parse("debian-12-web@stable"))
    assert (found.image_id, found.version, found.created) == (row.image_id, manifest.version, manifest.created)
    version = read_published(world.cloud, Reference.parse("debian-12-web@1.4.20261124.1"))
    assert (version.version, version.place) == ("1.4.20261124.1", row.place)
    # While a channel moves, the texts are of the next release.
    ssm = world.client("ssm", row.place)
    ssm.put_parameter(Name=CHANNEL, Value=version.image_id, Type="String", Overwrite=True)
    torn = read_published(world.cloud, Reference.parse("debian-12-web@stable"), architecture="x86_64")
    assert (torn.image_id, torn.version, torn.created) == (version.image_id, None, None)
    with pytest.raises(
        NotFound, match="/golden-ami/debian-12-web/x86_64/other/image-id does not exist in 111111111111"
    ):
        read_published(world.cloud, Reference.parse("debian-12-web@other"))
    with pytest.raises(UsageError, match="has no parameter"):
        read_published(world.cloud, Reference.parse("debian-12-web"))


def test_resolve_needs_no_goldenami_yaml(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    _, manifest = two(world)[1]
    (row,) = manifest.images
    options = world.paper.client(row.region, row.account)
    monkeypatch.setenv("AWS_ENDPOINT_URL", options["endpoint_url"])
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", options["aws_access_key_id"])
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", options["aws_secret_access_key"])
    monkeypatch.chdir(tmp_path)
    command = ["resolve", "debian-12-web@stable", "--parameter", "--region", row.region]
    assert main(command) == 0
    assert capsys.readouterr() == (f"{row.image_id}\n", "")
    assert main([*command, "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {
        "schema": "goldenami.resolve/1",
        "image_id": row.image_id,
        "name": "debian-12-web",
        "version": manifest.version,
        "created": manifest.created,
        "architecture": "x86_64",
        "account": row.account,
        "region": row.region,
        "channels": ["stable"],
    }
    assert main([*command, "--prefix", "/other"]) == 3
    assert main([*command, "--account", "home"]) == 2
