"""The manifest codec: what is written is what is read, the same bytes each time, and refusals say where."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from goldenami import manifest as codec
from goldenami.errors import ManifestError
from goldenami.model import (
    BaseImage,
    ImageManifest,
    ManifestImage,
    ManifestSnapshot,
    Package,
    PackageChange,
    TestFailure,
    TestReport,
)

text = st.text(max_size=20)
architectures = st.sampled_from(["x86_64", "arm64"])
counts = st.integers(0, 10_000)


def rows(element: st.SearchStrategy[Any], size: int = 4) -> st.SearchStrategy[tuple[Any, ...]]:
    return st.lists(element, max_size=size).map(tuple)


snapshots = st.builds(
    ManifestSnapshot,
    snapshot_id=text,
    device_name=text,
    volume_size_gib=counts,
    encrypted=st.booleans(),
    kms_key_id=st.none() | text,
)
images = st.builds(
    ManifestImage,
    architecture=architectures,
    account=text,
    region=text,
    image_id=text,
    name=text,
    mode=st.sampled_from(["copy", "share"]),
    encrypted=st.booleans(),
    snapshots=rows(snapshots),
)
reports = st.builds(
    TestReport,
    gate=text,
    architecture=architectures,
    passed=counts,
    failed=counts,
    skipped=counts,
    flaky=counts,
    seconds=st.floats(0, 1e6),
    failures=rows(st.builds(TestFailure, name=text, message=text, place=text)),
    junit=st.none() | text,
)
bases = st.builds(
    BaseImage,
    image_id=text,
    name=text,
    owner=text,
    architecture=architectures,
    root_device_name=text,
    root_volume_gib=counts,
    creation_date=text,
    source=text,
    release=st.none() | text,
    boot_mode=st.none() | text,
)
manifests = st.builds(
    ImageManifest,
    schema=st.just("goldenami.manifest/1"),
    recipe=text,
    version=text,
    build_id=text,
    digest=text,
    environment=text,
    created=text,
    base=st.dictionaries(architectures, bases),
    images=rows(images),
    tests=rows(reports),
    packages=st.dictionaries(
        architectures, rows(st.builds(Package, name=text, version=text, architecture=text)), max_size=2
    ),
    changes=st.dictionaries(
        architectures,
        rows(st.builds(PackageChange, name=text, before=st.none() | text, after=st.none() | text)),
        max_size=2,
    ),
    git_commit=st.none() | text,
    description=text,
    owner=text,
    inputs=st.dictionaries(text, text, max_size=3),
    variables=st.dictionaries(text, text | st.booleans() | counts | st.lists(text, max_size=2), max_size=3),
)


@given(manifests)
def test_what_is_written_is_what_is_read(manifest: ImageManifest) -> None:
    written = codec.dumps(manifest)
    read = codec.loads(written)
    assert read == codec.canonical(manifest)
    assert codec.loads(written.encode()) == read
    assert codec.from_json(codec.to_json(manifest)) == read
    assert codec.dumps(read) == written, "reading and writing again changes nothing"
    assert written.endswith("}\n")


@given(manifests, st.randoms(use_true_random=False))
def test_the_order_in_which_rows_arrive_does_not_show(manifest: ImageManifest, random: Any) -> None:
    shuffled = list(manifest.images)
    random.shuffle(shuffled)
    keys = [(i.architecture, i.account, i.region, i.image_id) for i in shuffled]
    if len(set(keys)) == len(keys):  # rows that differ in nothing that sorts them keep their order
        assert codec.dumps(replace(manifest, images=tuple(shuffled))) == codec.dumps(manifest)


def example() -> ImageManifest:
    snapshot = ManifestSnapshot("snap-1", "/dev/xvda", 8, True, "arn:aws:kms:eu-west-1:111111111111:key/1")
    return ImageManifest(
        schema="goldenami.manifest/1",
        recipe="debian-12-web",
        version="1.4.20261124.1",
        build_id="b-1",
        digest="0" * 64,
        environment="sandbox",
        created="2026-11-24T03:00:00Z",
        base={},
        images=(ManifestImage("x86_64", "111111111111", "eu-west-1", "ami-1", "web", "copy", True, (snapshot,)),),
        tests=(),
        packages={"x86_64": (Package("nginx-light", "1.22.1-9", "amd64"),)},
        changes={},
    )


def test_the_promised_keys() -> None:
    form = codec.to_json(example())
    assert next(iter(form)) == "schema"
    assert {"schema", "recipe", "version", "build_id", "digest", "base", "images", "tests", "packages"} <= form.keys()
    (image,) = form["images"]
    assert {"architecture", "account", "region", "image_id", "encrypted", "snapshots"} <= image.keys()
    assert {"snapshot_id", "kms_key_id", "encrypted"} <= image["snapshots"][0].keys()


def changed(path: str, value: object) -> dict[str, Any]:
    form = codec.to_json(example())
    *steps, last = path.split(".")
    place: Any = form
    for step in steps:
        place = place[int(step) if step.isdigit() else step]
    place[last] = value
    return form


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("schema", "goldenami.manifest/2", "newer"),
        ("schema", "goldenami.plan/1", "goldenami.plan/1"),
        ("schema", None, "no schema"),
        ("recipe", 7, "recipe: "),
        ("images.0.encrypted", "yes", "images[0].encrypted: "),
        ("images.0.architecture", "mips", "images[0].architecture: "),
        ("images.0.snapshots.0.volume_size_gib", "8", "images[0].snapshots[0].volume_size_gib: "),
        ("packages.mips", [], "packages.mips"),
    ],
)
def test_what_is_wrong_is_named_with_its_place(path: str, value: object, message: str) -> None:
    with pytest.raises(ManifestError) as caught:
        codec.from_json(changed(path, value), source="web.json")
    assert caught.value.message.startswith("web.json: ")
    assert message in caught.value.message
    assert caught.value.hint


@pytest.mark.parametrize("damaged", ["", "{", "[]", "null", b"\xff\xfe", codec.dumps(example())[:-10]])
def test_damaged_text_is_a_manifest_error(damaged: str | bytes) -> None:
    with pytest.raises(ManifestError):
        codec.loads(damaged)


def test_a_key_added_later_within_the_same_schema_is_ignored() -> None:
    assert codec.from_json(changed("images.0.uefi_data", "x")) == codec.canonical(example())


def test_a_wrong_type_is_not_written() -> None:
    wrong: Any = 7
    with pytest.raises(ManifestError):
        codec.to_json(replace(example(), recipe=wrong))
    with pytest.raises(ManifestError):
        codec.to_json(replace(example(), schema="goldenami.manifest/2"))


def test_other_alphabets_stay_readable() -> None:
    assert "Überprüft" in codec.dumps(replace(example(), description="Überprüft"))
    assert json.loads(codec.dumps(example())) == codec.to_json(example())
