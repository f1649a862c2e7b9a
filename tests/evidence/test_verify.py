"""`goldenami verify` of a release that was built, signed, and then changed in one way."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from goldenami import recipe
from goldenami.aws.guard import reads_only
from goldenami.aws.session import Cloud
from goldenami.cli.main import main
from goldenami.errors import ConditionsUnmet, NotFound, UsageError
from goldenami.events import Event
from goldenami.evidence import contents, signing, signing_keys, statement
from goldenami.evidence.state import File, State
from goldenami.model import ImageManifest, KmsSigningKey, ManifestImage, Place, Revision, Signing
from goldenami.preflight import PreflightFailed
from goldenami.release import channels
from goldenami.release.attest import PROVENANCE, attest, attest_revision
from goldenami.release.catalog import Catalog
from goldenami.release.versions import Reference
from tests.worlds import distributing
from tests.worlds.builds import HOME, PLACES, RECIPE, Saved, World, logged_in
from tests.worlds.faults import denied
from tests.worlds.keys import new_signing_key

WEST = PLACES[1]
SECTION = """    signing: {key: {file: keys/signing.pem}, trusted: [keys/signing.pub]}
    channels: {live: {signature: true}}
"""
BLOCKS = {0: "boot", 1: "root", 5000: "more"}


def add_signing(world: World, section: str = SECTION) -> None:
    """Give the environment a key, and the section ``signing``."""
    private, public = new_signing_key()
    (world.path / "keys").mkdir(exist_ok=True)
    (world.path / "keys" / "signing.pem").write_text(private)
    (world.path / "keys" / "signing.pub").write_text(public)
    settings = world.path / "goldenami.yaml"
    settings.write_text(settings.read_text() + section)
    world.project = recipe.load_project(world.path)
    world.environment = recipe.environment(world.project, "test")


@pytest.fixture(scope="module")
def signed(build_world: World) -> Saved:
    build_world.fresh()
    build_world.put_on_volumes(BLOCKS)
    add_signing(build_world)
    build_world.host_work.inventory = {"x86_64": '{"components": ["nginx"]}'}
    build_world.host_work.state = {"x86_64": State({"/etc/motd": File("f", "644", "0:0", 5, "", "1" * 16)})}
    assert build_world.build().status == "released"
    return build_world.save()


@pytest.fixture
def world(build_world: World, signed: Saved, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    build_world.fresh(saved=signed)
    build_world.environment = recipe.environment(build_world.project, "test")
    monkeypatch.chdir(build_world.path)
    monkeypatch.setattr(Cloud, "of", logged_in)
    yield build_world
    build_world.gate.stop()


def released(world: World) -> ImageManifest:
    return world.catalog.find(Reference(RECIPE))


def row_at(world: World, place: Place) -> ManifestImage:
    return next(row for row in released(world).images if row.place == place)


def file_of(world: World, folder: str) -> Path:
    (found,) = Path(world.environment.catalog, folder, RECIPE).rglob("*.json")
    return found


def verify(capsys: pytest.CaptureFixture[str], *options: str) -> tuple[int, dict[str, Any]]:
    capsys.readouterr()
    code = main(["verify", f"{RECIPE}@stable", "-e", "test", "--json", *options])
    return code, json.loads(capsys.readouterr().out)


def test_a_release_is_as_it_was_signed(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    code, found = verify(capsys)
    assert (code, found["deviations"], found["notes"], found["unreachable"]) == (0, [], [], {})
    assert {path.name for path in file_of(world, "evidence").parent.iterdir()} == {PROVENANCE, "state-x86_64.json.gz"}
    assert [one["key"] for one in found["signed_by"]] == ["keys/signing.pub"]
    owned = {row.image_id for row in released(world).images if row.mode == "copy"}
    assert {one["image_id"]: one["contents"] for one in found["images"]} == dict.fromkeys(owned, "equal")
    assert main(["verify", f"{RECIPE}@stable", "-e", "test"]) == 0
    assert "its documents are as signed" in capsys.readouterr().out


def test_the_statement_says_what_the_image_is_made_of(world: World) -> None:
    manifest = released(world)
    envelope = signing.read_envelope(file_of(world, "evidence").read_bytes())
    form = json.loads(envelope.payload)
    definition, run = form["predicate"]["buildDefinition"], form["predicate"]["runDetails"]
    dependencies = {one["name"]: one for one in definition["resolvedDependencies"]}
    assert (form["_type"], form["predicateType"]) == (statement.STATEMENT, statement.PREDICATE)
    assert {"file/goldenami.yaml", "file/recipes/web.yaml", "base/x86_64", "packages/x86_64"} <= dependencies.keys()
    text = (world.path / "recipes/web.yaml").read_bytes()
    assert dependencies["file/recipes/web.yaml"]["digest"] == {"sha256": hashlib.sha256(text).hexdigest()}
    assert dependencies["base/x86_64"]["uri"] == f"urn:aws:ami:{manifest.base['x86_64'].image_id}"
    assert run["metadata"]["invocationId"] == manifest.build_id
    assert run["builder"]["id"].startswith("arn:aws:")
    tests = {one["name"]: one["annotations"]["result"] for one in run["byproducts"] if one["name"].startswith("tests")}
    assert tests == {"tests builder x86_64": "passed", "tests image x86_64": "passed"}
    expected = contents.digest({n: hashlib.sha256(block(token)).hexdigest() for n, token in BLOCKS.items()})
    assert statement.read(envelope.payload).volumes == {"x86_64": {"/dev/xvda": expected}}
    assert "PRIVATE KEY" not in envelope.payload.decode()


def block(token: str) -> bytes:
    return hashlib.sha256(token.encode()).digest() * (512 * 1024 // 32)


def change_manifest(world: World) -> None:
    file = file_of(world, "releases")
    file.write_text(file.read_text().replace('"12.4"', '"12.5"'))  # the version of a package


def break_manifest(world: World) -> None:
    file = file_of(world, "releases")
    file.write_text(file.read_text().replace("{", "[", 1))


def change_inventory(world: World) -> None:
    (file,) = Path(world.environment.catalog, "inventories").iterdir()
    file.write_text(file.read_text().replace("nginx", "nginz"))


def change_state(world: World) -> None:
    (file,) = Path(world.environment.catalog, "evidence").rglob("state-*")
    file.write_bytes(file.read_bytes()[:-1] + b"x")


def delete_state(world: World) -> None:
    (file,) = Path(world.environment.catalog, "evidence").rglob("state-*")
    file.unlink()


def change_statement(world: World) -> None:
    file = file_of(world, "evidence")
    form = json.loads(file.read_text())
    payload = base64.b64decode(form["payload"]).replace(b'"result":"passed"', b'"result":"passes"', 1)
    file.write_text(json.dumps({**form, "payload": base64.b64encode(payload).decode()}))


def sign_with_another_key(world: World) -> None:
    file = file_of(world, "evidence")
    payload = signing.read_envelope(file.read_bytes()).payload
    another = signing.read_private_key(new_signing_key()[0], None, "another")
    file.write_text(json.dumps(signing.sign(payload, another).to_json()))


def delete_statement(world: World) -> None:
    file_of(world, "evidence").unlink()


def change_contents(world: World) -> None:
    """One block of the copy in the west is another one than that of the tested image."""
    world.blocks_of(WEST, row_at(world, WEST).snapshots[0].snapshot_id)[1] = "backdoor"


def tag(world: World) -> None:
    row = row_at(world, WEST)
    tags = [{"Key": "goldenami:version", "Value": "1.0.20200101.1"}]
    world.client("ec2", WEST).create_tags(Resources=[row.image_id], Tags=tags)


def share(world: World) -> None:
    row = row_at(world, WEST)
    add = {"Add": [{"UserId": "999999999999"}]}
    world.client("ec2", WEST).modify_image_attribute(ImageId=row.image_id, LaunchPermission=add)


def deregister(world: World) -> None:
    world.client("ec2", WEST).deregister_image(ImageId=row_at(world, WEST).image_id)


Breaks = Callable[[World], None]


@pytest.mark.parametrize(
    ("change", "what", "detail"),
    [
        (change_manifest, "manifest", "the manifest was changed after it was signed"),
        (break_manifest, "manifest", "cannot be read"),
        (change_inventory, "evidence", "the inventory behind the SBOM (x86_64)"),
        (change_state, "evidence", "state-x86_64.json.gz was changed after it was signed"),
        (delete_state, "evidence", "state-x86_64.json.gz is missing"),
        (change_statement, "signature", "was changed after it was signed with keys/signing.pub"),
        (sign_with_another_key, "signature", "expected one of the trusted keys: keys/signing.pub"),
        (delete_statement, "signature", "the release has no signed statement"),
        (change_contents, "contents", "is not the one that was tested"),
        (tag, "tag", "goldenami:version is 1.0.20200101.1"),
        (share, "permission", "999999999999 may launch it"),
        (deregister, "image", "it does not exist"),
    ],
)
def test_each_change_is_named(
    world: World, capsys: pytest.CaptureFixture[str], change: Breaks, what: str, detail: str
) -> None:
    change(world)
    code, found = verify(capsys)
    assert code == ConditionsUnmet.exit_code
    assert found["verified"] is False
    assert [one["what"] for one in found["deviations"] if detail in one["detail"]] == [what], found["deviations"]
    if change in (change_contents, tag, share, deregister):
        assert [one["where"] for one in found["deviations"]] == [f"{row_of_deviation(found)} in {WEST}"]


def row_of_deviation(found: dict[str, Any]) -> str:
    return str(found["deviations"][0]["where"].split(" in ")[0])


def test_an_image_that_is_not_the_releases_is_named(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    right = row_at(world, WEST).image_id
    code, found = verify(capsys, "--image-id", right, "--region", WEST.region, "--account", "home")
    assert (code, [one["image_id"] for one in found["images"]]) == (0, [right])
    wrong = "ami-0123456789abcdef0"
    code, found = verify(capsys, "--image-id", wrong, "--region", WEST.region)
    (deviation,) = found["deviations"]
    assert (code, deviation["where"]) == (5, wrong)
    assert f"it is no image of {RECIPE}" in deviation["detail"]
    assert right in deviation["detail"]
    # the image of another region, too
    code, found = verify(capsys, "--image-id", row_at(world, PLACES[0]).image_id, "--region", WEST.region)
    assert (code, [one["what"] for one in found["deviations"]]) == (5, ["image"])


def test_a_key_can_be_named(world: World, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    other = tmp_path / "other.pub"
    other.write_text(new_signing_key()[1])
    assert verify(capsys, "--key", "keys/signing.pub", "--no-images")[0] == 0
    code, found = verify(capsys, "--key", str(other), "--no-images")
    assert (code, [one["what"] for one in found["deviations"]]) == (5, ["signature"])
    assert main(["verify", f"{RECIPE}@stable", "-e", "test", "--key", "recipes/web.yaml"]) == 2


def test_contents_that_cannot_be_read_are_told(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    def refused(label: Any, call: Any, proceed: Any) -> Any:
        if call.action == "ListSnapshotBlocks" and label.region == WEST.region:
            return denied(call, proceed)
        return proceed()

    world.gate.start(refused)
    code, found = verify(capsys)
    assert (code, found["deviations"]) == (0, [])
    states = {(one["account"], one["region"]): one["contents"] for one in found["images"]}
    assert states[HOME, WEST.region] == "unknown"
    assert states[HOME, PLACES[0].region] == "equal"
    (row,) = [one for one in found["images"] if one["contents"] == "unknown"]
    assert "cannot be read" in row["why"]
    capsys.readouterr()
    main(["verify", f"{RECIPE}@stable", "-e", "test"])
    assert "its contents were not compared" in capsys.readouterr().err


def test_a_place_that_does_not_answer_is_told(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    def refused(label: Any, call: Any, proceed: Any) -> Any:
        return denied(call, proceed) if call.service == "ec2" and label.region == WEST.region else proceed()

    world.gate.start(refused)
    code, found = verify(capsys)
    assert (code, found["verified"], list(found["unreachable"])) == (6, False, [str(WEST)])
    assert str(WEST) not in {f"{one['account']}/{one['region']}" for one in found["images"]}
    world.gate.stop()
    share(world)  # a deviation elsewhere counts more
    there = PLACES[0].region
    world.gate.start(
        lambda label, call, go: denied(call, go) if (call.service, label.region) == ("ec2", there) else go()
    )
    code, found = verify(capsys)
    assert (code, [one["what"] for one in found["deviations"]]) == (5, ["permission"])


def test_without_contents_no_block_is_read(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    before = len(world.paper.calls)
    code, found = verify(capsys, "--no-contents")
    assert (code, {one["contents"] for one in found["images"]}) == (0, {"unknown"})
    assert not [c for c in world.paper.calls[before:] if c["service"] == "ebs"]


def add_region(world: World) -> None:
    """Declare one more place of all images."""
    settings = world.path / "goldenami.yaml"
    more = "{account: home, regions: [eu-central-1, eu-west-1, us-east-1]"
    settings.write_text(settings.read_text().replace("{account: home, regions: [eu-central-1, eu-west-1]", more))
    world.project = recipe.load_project(world.path)
    world.environment = recipe.environment(world.project, "test")


def test_an_image_that_was_added_later_is_proven_by_its_contents(
    world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    add_region(world)
    done = distributing.distribute(world, released(world))
    assert done.failures == {}
    code, found = verify(capsys)
    assert (code, found["deviations"]) == (0, [])
    assert ({one["contents"] for one in found["images"]}, found["notes"]) == ({"equal"}, [])
    assert "us-east-1" in {one["region"] for one in found["images"]}
    assert promote(world).changed
    (statement_file,) = Path(world.environment.catalog, "evidence").rglob("revision-1.json")
    signed_text = statement_file.read_text()
    for text in ("{}", json.dumps({**json.loads(signed_text), "signatures": []}), None):
        statement_file.write_text(text or "") if text is not None else statement_file.unlink()
        assert verify(capsys, "--no-images")[0] == 5
    statement_file.write_text(signed_text)
    assert verify(capsys, "--no-images")[0] == 0


def test_without_a_key_a_signed_release_is_changed_only_if_no_signature_is_required(world: World) -> None:
    add_region(world)
    rules = world.environment.signing
    assert rules is not None
    world.environment = replace(world.environment, signing=replace(rules, key=None, required=True))
    before = len(world.paper.calls)
    with pytest.raises(UsageError, match="has no key to sign a change of it"):
        distributing.distribute(world, released(world))
    assert all(reads_only(c["service"], c["action"]) for c in world.paper.calls[before:])
    assert released(world).revisions == ()
    assert distributing.distribute(world, released(world), dry_run=True).difference.changes
    world.environment = replace(world.environment, signing=replace(rules, key=None))
    told: list[Event] = []
    done = distributing.distribute(world, released(world), emit_to=told.append)
    assert (done.failures, len(done.manifest.revisions)) == ({}, 1)
    warnings = [one.fields["message"] for one in told if one.fields.get("level") == "warning"]
    assert any("is not signed, because the environment has no key" in text for text in warnings)


def test_a_revision_that_nobody_signed_is_refused(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    """Who can write the catalog adds an image as if `goldenami distribute` had done it."""
    manifest, catalog = released(world), Catalog(world.environment.catalog)
    row = replace(row_at(world, WEST), image_id="ami-0123456789abcdef0", region="us-east-1")
    added = f"{row.place} {row.architecture} {row.image_id}"
    entry = Revision("2026-11-25T00:00:00Z", "t-1", "arn:aws:iam::111111111111:user/a", (added,))
    catalog.revise(replace(manifest, images=(*manifest.images, row), revisions=(entry,)))
    code, found = verify(capsys, "--no-images")
    assert (code, [one["detail"] for one in found["deviations"]]) == (5, ["its revision 1 has no signed statement"])
    with pytest.raises(ConditionsUnmet, match="cannot move into live"):
        promote(world)
    # A later change by `goldenami distribute` does not make it look signed.
    world.environment = recipe.environment(world.project, "test")
    revised = replace(catalog.get(RECIPE, manifest.version), revisions=(entry, entry))
    signing_rules = world.environment.signing
    why = attest_revision(catalog, signing_rules, world.cloud, catalog.get(RECIPE, manifest.version), revised)
    assert "is not as it was signed" in why


# --- the gate of promotion --------------------------------------------------------------------------------------------


def promote(world: World) -> channels.Moved:
    return channels.promote(
        world.environment, Reference(RECIPE, channel="stable"), "live", catalog=world.catalog, cloud=world.cloud
    )


def test_a_channel_takes_only_signed_releases(world: World) -> None:
    assert promote(world).channel.current == released(world).version


@pytest.mark.parametrize("change", [change_manifest, sign_with_another_key, delete_statement])
def test_a_channel_refuses_what_nobody_trusted_signed(world: World, change: Breaks) -> None:
    change(world)
    with pytest.raises(ConditionsUnmet) as caught:
        promote(world)
    assert any("a trusted signature is required" in reason for reason in caught.value.reasons)
    assert world.catalog.channel(RECIPE, "live") is None


def test_a_second_build_that_signs_reads_the_contents_once(world: World) -> None:
    """Only the tested image in the home region is read, and not its copies."""
    world.change_recipe("other")
    world.environment = recipe.environment(world.project, "test")
    assert world.build().status == "released"
    reads = [c for c in world.paper.calls if c["action"] == "ListSnapshotBlocks"]
    assert len(reads) == 1


@pytest.mark.parametrize(("number", "when"), [(0, "before"), (0, "after"), (-1, "before"), (-1, "after")])
@pytest.mark.sample(2)
def test_a_killed_build_that_is_resumed_is_signed_once(
    world: World, capsys: pytest.CaptureFixture[str], number: int, when: str
) -> None:
    """Killed at the first and at the last parameter: before the statement, and after it."""
    world.change_recipe("second")
    world.environment = recipe.environment(world.project, "test")
    assert world.build().status == "released"
    puts = [label for label in world.cloud.mutations if label.action == "PutParameter"]
    file = world.path / "recipes/web.yaml"
    file.write_text(file.read_text().replace("content: second", "content: third"))
    world.project = recipe.load_project(world.path)
    world.environment = recipe.environment(world.project, "test")
    world.build_until(puts[number], when)
    version = world.catalog.next_version(RECIPE, "1.0", world.cloud.now().date())
    before = max(set(Path(world.environment.catalog, "evidence", RECIPE).iterdir()))
    kept = (before / PROVENANCE).read_bytes() if (before / PROVENANCE).exists() else None
    done = world.resume()
    assert done.manifest.version < version
    if number == -1:  # the release was made by the killed process
        assert before.name == done.manifest.version
        assert (before / PROVENANCE).read_bytes() == kept
    code, found = verify(capsys)
    assert (code, found["version"], found["deviations"]) == (0, done.manifest.version, [])


def test_a_key_that_is_missing_is_found_before_anything_is_made(world: World) -> None:
    Path("keys/signing.pem").unlink()
    world.change_recipe("other")
    world.environment = recipe.environment(world.project, "test")
    world.cloud.start_process()
    with pytest.raises(PreflightFailed, match=r"the file .*signing\.pem is missing or empty") as caught:
        world.build()
    assert caught.value.exit_code == 3
    assert world.cloud.mutations == []


def test_documents_of_a_release_do_not_change(world: World) -> None:
    manifest, catalog = released(world), Catalog(world.environment.catalog)
    signer = signing.read_private_key(Path("keys/signing.pem").read_text(), None, "key")
    before = catalog.document(RECIPE, manifest.version, PROVENANCE)
    made = statement.Made("recipes/web.yaml", {}, "stable", "arn:aws:iam::1:role/a", "", "2026-11-24T03:00:00Z")
    attest(catalog, manifest, made, signer)
    assert catalog.document(RECIPE, manifest.version, PROVENANCE) == before


def test_a_key_of_kms_that_cannot_sign_is_named(world: World) -> None:
    kms = world.client("kms", PLACES[0])
    kms.create_alias(AliasName="alias/symmetric", TargetKeyId=kms.create_key()["KeyMetadata"]["KeyId"])
    rsa = kms.create_key(KeySpec="RSA_2048", KeyUsage="SIGN_VERIFY")["KeyMetadata"]["Arn"]
    disabled = kms.create_key(KeySpec="ECC_NIST_P256", KeyUsage="SIGN_VERIFY")["KeyMetadata"]["Arn"]
    kms.disable_key(KeyId=disabled)
    for key in ("alias/symmetric", "alias/nothing", rsa, disabled):
        signing_key = KmsSigningKey(key, PLACES[0].region)
        with pytest.raises(NotFound) as caught:
            signing_keys.open_signer(Signing(signing_key), world.cloud)
        assert key in caught.value.message
        assert caught.value.hint
