"""The index of a catalog: few reads, many writers, and never the truth."""

from __future__ import annotations

import json
import random
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from goldenami.aws.bucketstore import BucketStore
from goldenami.aws.s3 import Bucket
from goldenami.cli.main import main
from goldenami.errors import CatalogError, NotFound
from goldenami.model import Place
from goldenami.release import index as indexes
from goldenami.release.catalog import Catalog
from goldenami.release.history import history_of
from goldenami.release.index import KEY, PENDING
from goldenami.release.listing import Filter, descent, list_releases, newer
from goldenami.release.versions import Reference
from goldenami.store import DirectoryStore, Store
from tests.worlds.ledgers import HOME_PLACE, have_only, make_cloud, new_session

from .conftest import ManifestFactory

if TYPE_CHECKING:
    from goldenami_sandbox.testing import PaperCloud

NOW = datetime(2026, 11, 24, 3, tzinfo=UTC)
URL = "s3://releases/golden/catalog"
BY = "arn:aws:iam::111111111111:user/ann"
PLACE = Place("111111111111", "eu-west-1")


@dataclass
class Shop:
    """Opens the same catalog again and again, as machines do that have nothing else in common."""

    open_store: Callable[[], Store]
    reads: Callable[[], int] = field(default=lambda: 0)
    paper: PaperCloud | None = None

    def catalog(self) -> Catalog:
        return Catalog("", store=self.open_store(), sleep=lambda _: None)

    def labels(self) -> list[str]:
        return [one.entry.label for one in list_releases(self.catalog().indexed(), Filter())]


@pytest.fixture
def bucket(paper_cloud: Callable[..., PaperCloud], monkeypatch: pytest.MonkeyPatch) -> Iterator[Shop]:
    paper = paper_cloud()
    have_only(paper.variables(), monkeypatch)
    s3: Any = new_session().create_client("s3", **paper.client())
    s3.create_bucket(Bucket="releases", CreateBucketConfiguration={"LocationConstraint": "eu-central-1"})
    cloud = make_cloud()

    def reads() -> int:
        return sum(call["action"] in ("GetObject", "HeadObject", "ListObjectsV2") for call in paper.calls)

    yield Shop(lambda: BucketStore(Bucket(cloud, HOME_PLACE, URL, HOME_PLACE.account)), reads, paper)
    paper.set(enforce_policies=False)


@pytest.fixture
def directory(tmp_path: Path) -> Shop:
    return Shop(lambda: DirectoryStore(tmp_path / "catalog", error=CatalogError, sync=lambda _: None))


@pytest.fixture(params=["directory", "bucket"])
def shop(request: pytest.FixtureRequest) -> Shop:
    found: Shop = request.getfixturevalue(request.param)
    return found


def fill(shop: Shop, manifest: ManifestFactory) -> Catalog:
    catalog = shop.catalog()
    for number in range(1, 5):
        catalog.add(manifest(f"1.4.20261124.{number}"))
        catalog.move("debian-12-web", "stable", f"1.4.20261124.{number}", now=NOW + timedelta(hours=number), by=BY)
    catalog.add(manifest("1.0.20261101.1", name="debian-12-base", architectures=("arm64",)))
    catalog.move("debian-12-base", "stable", "1.0.20261101.1", now=NOW)
    catalog.marks.revoke("debian-12-web", "1.4.20261124.4", "it leaks", BY, NOW)
    catalog.marks.pin("debian-12-web", "1.4.20261124.1", "in court", NOW)
    return catalog


def test_the_index_answers_as_the_catalog_does(shop: Shop, manifest: ManifestFactory) -> None:
    catalog = fill(shop, manifest)
    indexed = shop.catalog().indexed()
    assert indexed.names() == catalog.names()
    for name in catalog.names():
        assert indexed.versions(name) == catalog.versions(name)
        with_images = catalog.channels(name)
        assert indexed.channels(name) == tuple(replace(one, images=()) for one in with_images)
        assert history_of(indexed, Reference(name)) == history_of(catalog, Reference(name))
        for version in catalog.versions(name):
            assert indexed.marks.why_unusable(name, version) == catalog.marks.why_unusable(name, version)
            assert indexed.marks.pinned(name, version) == catalog.marks.pinned(name, version)
            entry, images = indexed.entry(name, version), catalog.get(name, version).images
            assert [(i.place, i.architecture, i.image_id) for i in entry.images] == [
                (i.place, i.architecture, i.image_id) for i in images
            ]
    assert newer(indexed, "debian-12-web", "1.4.20261124.2") == ("1.4.20261124.3",)
    with pytest.raises(NotFound, match="revoked"):
        indexed.resolve_entry(Reference("debian-12-web", channel="stable"), PLACE)


def test_a_bucket_needs_three_reads(bucket: Shop, manifest: ManifestFactory) -> None:
    fill(bucket, manifest)

    def count(work: Callable[[Catalog], object]) -> int:
        before = bucket.reads()
        work(bucket.catalog())
        return bucket.reads() - before

    assert count(lambda c: list(list_releases(c.indexed(), Filter()))) == 3
    assert count(lambda c: history_of(c.indexed("debian-12-web"), Reference("debian-12-web"))) == 3
    base, web = Reference("debian-12-base", channel="stable"), Reference("debian-12-web", line="1.4")
    arm = Place("111111111111", "eu-west-1")
    assert count(lambda c: c.resolve(base, arm)) == 3
    assert count(lambda c: c.resolve(Reference("debian-12-base", version="1.0.20261101.1"), arm)) == 3
    assert count(lambda c: c.indexed("debian-12-web").resolve_entry(web, PLACE)) == 3
    assert count(lambda c: c.indexed("debian-12-base").resolve_entry(base, arm)) == 3
    assert count(lambda c: c.indexed().entry_with_image("ami-111-eu-west-1-x86_64")) == 3


def test_a_directory_opens_few_files(directory: Shop, manifest: ManifestFactory, tmp_path: Path) -> None:
    catalog = directory.catalog()
    with catalog.writing_many():
        for number in range(1, 501):
            name = f"web-{number % 5}"
            catalog.add(manifest(f"1.4.20261124.{number}", name=name))
            catalog.marks.begin(name, f"1.4.20261124.{number}", "a rule", NOW)
    opened: list[str] = []

    class Counting(DirectoryStore):
        def read(self, key: str) -> Any:
            opened.append(key)
            return super().read(key)

    store = Counting(tmp_path / "catalog", error=CatalogError)
    assert len(list(list_releases(Catalog("", store=store).indexed(), Filter()))) == 500
    assert opened == [KEY]


def test_the_release_of_a_killed_writer_is_found(shop: Shop, manifest: ManifestFactory) -> None:
    fill(shop, manifest)
    before = shop.open_store().read(KEY)
    catalog = shop.catalog()

    class Killed(BaseException):
        pass

    def killed(name: str) -> bool:
        raise Killed

    catalog._index.update = killed  # type: ignore[method-assign]
    with pytest.raises(Killed):
        catalog.add(manifest("1.4.20261124.9"))
    with pytest.raises(Killed):
        catalog.marks.revoke("debian-12-base", "1.0.20261101.1", "it leaks", BY, NOW)
    with pytest.raises(Killed):
        catalog.move("debian-12-web", "candidate", "1.4.20261124.9", now=NOW)
    assert shop.open_store().read(KEY) == before, "the index has none of these"
    found = {one.entry.label: one for one in list_releases(shop.catalog().indexed(), Filter())}
    assert found["debian-12-web 1.4.20261124.9"].channels == ("candidate",)
    assert found["debian-12-base 1.0.20261101.1"].revoked == "it leaks"
    shop.catalog().add(manifest("1.4.20261124.10"))
    after = json.loads((shop.open_store().read(KEY) or pytest.fail("no index")).data)
    assert "debian-12-web/1.4.20261124.9.json" in after["releases"], "the next writer adds what it finds"


def test_a_pending_object_of_a_dead_writer_is_removed_after_a_day(bucket: Shop, manifest: ManifestFactory) -> None:
    fill(bucket, manifest)
    store = bucket.open_store()
    old = "releases@web@1.4.20261124.1@20200101T000000Z-abc"
    young = f"releases@web@1.4.20261124.1@{datetime.now(UTC):%Y%m%dT%H%M%SZ}-abc"
    for name in (old, young, "something else"):
        store.create(f"{PENDING}/{name}", b"")
    bucket.catalog().add(manifest("1.4.20261124.9"))
    assert store.names(PENDING) == tuple(sorted((young, "something else")))
    assert "web 1.4.20261124.1" not in bucket.labels(), "it was never written"


def test_the_release_of_an_earlier_goldenami_is_found(shop: Shop, manifest: ManifestFactory) -> None:
    fill(shop, manifest)
    earlier = shop.catalog()
    earlier._index.suspend = lambda: None  # type: ignore[method-assign]
    earlier._index._suspended = True
    earlier.add(manifest("1.4.20261125.1"))
    earlier.move("debian-12-web", "stable", "1.4.20261125.1", now=NOW)
    earlier.add(manifest("1.0.20261125.1", name="new"))
    earlier.move("new", "stable", "1.0.20261125.1", now=NOW)
    found = {one.entry.label: one.channels for one in list_releases(shop.catalog().indexed(), Filter())}
    assert found["debian-12-web 1.4.20261125.1"] == ("stable",)
    assert found["new 1.0.20261125.1"] == ("stable",)
    assert shop.catalog().resolve(Reference("new", channel="stable"), PLACE).image_id == "ami-111-eu-west-1-x86_64"
    assert shop.catalog().resolve(Reference("debian-12-web"), PLACE).image_id == "ami-111-eu-west-1-x86_64"


def test_a_consumer_may_read_one_object(
    bucket: Shop,
    manifest: ManifestFactory,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    catalog = fill(bucket, manifest)
    catalog.move("debian-12-web", "candidate", "1.4.20261124.2", now=NOW)
    assert bucket.paper is not None
    iam: Any = new_session().create_client("iam", **bucket.paper.client())
    iam.create_user(UserName="consumer")
    key = iam.create_access_key(UserName="consumer")["AccessKey"]
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", key["AccessKeyId"])
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", key["SecretAccessKey"])
    bucket.paper.set(enforce_policies=True)
    monkeypatch.chdir(tmp_path)  # there is no goldenami.yaml
    prefix = "arn:aws:s3:::releases/golden/catalog"

    def allow(*keys: str) -> None:
        statement = {"Effect": "Allow", "Action": "s3:GetObject", "Resource": [f"{prefix}/{key}" for key in keys]}
        document = json.dumps({"Version": "2012-10-17", "Statement": [statement]})
        iam.put_user_policy(UserName="consumer", PolicyName="only", PolicyDocument=document)

    def resolve(reference: str, *more: str) -> tuple[int, str, str]:
        before = bucket.reads()
        code = main(["resolve", reference, "--catalog", URL, "--region", "eu-west-1", *more])
        assert bucket.reads() - before <= 1
        return code, *capsys.readouterr()

    allow("channels/debian-12-web/candidate.json")
    assert resolve("debian-12-web@candidate") == (0, "ami-111-eu-west-1-x86_64\n", "")
    assert resolve("debian-12-web@candidate", "--account", "222222222222")[1] == "ami-222-eu-west-1-x86_64\n"
    form = json.loads(resolve("debian-12-web@candidate", "--json")[1])
    assert (form["version"], form["channels"]) == ("1.4.20261124.2", ["candidate"])
    code, _, err = resolve("debian-12-web@stable")
    assert code == 4
    assert "s3:GetObject" in err
    assert f"{URL}/channels/debian-12-web/stable.json" in err
    assert resolve("debian-12-web@1.4.x")[0] == 4
    allow("index/catalog.json")
    assert resolve("debian-12-web@1.4.x")[1] == "ami-111-eu-west-1-x86_64\n"
    assert resolve("debian-12-web@1.4.20261124.1")[1] == "ami-111-eu-west-1-x86_64\n"
    code, _, err = resolve("debian-12-web@1.4.20261124.4")
    assert (code, "it leaks" in err) == (3, True)
    assert resolve("debian-12-web@1.4.20261124.8")[0] == 3
    assert resolve("debian-12-web@1.4.x", "--account", "apps")[0] == 2


def test_a_consumer_is_refused_a_revoked_release(
    directory: Shop, manifest: ManifestFactory, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    catalog = fill(directory, manifest)
    catalog.refresh_channels("debian-12-web", "1.4.20261124.4")
    arguments = ["--catalog", str(tmp_path / "catalog"), "--region", "eu-west-1", "--account", "222222222222"]
    assert main(["resolve", "debian-12-web@stable", *arguments]) == 3
    assert "it leaks" in capsys.readouterr().err
    catalog.marks.restore("debian-12-web", "1.4.20261124.4", BY, NOW)
    catalog.refresh_channels("debian-12-web", "1.4.20261124.4")
    assert main(["resolve", "debian-12-web@stable", *arguments]) == 0
    assert main(["resolve", "debian-12-web", *arguments]) == 0
    assert main(["resolve", "debian-12-web@missing", *arguments]) == 3
    assert main(["resolve", "debian-12-web", "--catalog", str(tmp_path / "none"), "--region", "eu-west-1"]) == 3


@pytest.mark.parametrize("damage", [None, b"{", b"[]", b'{"schema": "goldenami.index/9"}'])
def test_without_an_index_everything_is_found(shop: Shop, manifest: ManifestFactory, damage: bytes | None) -> None:
    fill(shop, manifest)
    labels, store = shop.labels(), shop.open_store()
    if damage is None:
        store.delete(KEY)
    else:
        store.replace(KEY, damage, store.read(KEY))
    assert shop.labels() == labels
    if damage == b'{"schema": "goldenami.index/9"}':
        with pytest.raises(CatalogError, match="was changed by other processes"):
            shop.catalog().reindex()
    else:
        assert shop.catalog().reindex() == len(labels)
    shop.catalog().add(manifest("1.4.20261124.9"))
    assert "debian-12-web 1.4.20261124.9" in shop.labels()
    assert len(shop.labels()) == len(labels) + 1


def test_many_writers_at_once(shop: Shop, manifest: ManifestFactory) -> None:
    fill(shop, manifest)

    def write(number: int) -> None:
        # Writers that do not pause at all refuse each other again and again, which costs seconds of processor time.
        catalog = Catalog("", store=shop.open_store(), sleep=lambda seconds: time.sleep(seconds / 10))
        name = random.Random(number).choice(("debian-12-web", "other", f"own-{number}"))
        version = f"2.0.20261124.{number + 1}"
        catalog.add(manifest(version, name=name))
        catalog.marks.pin(name, version, f"number {number}", NOW)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(write, range(16)))
    store, before = shop.open_store(), shop.labels()
    assert len(before) == 5 + 16
    assert store.names(PENDING) == () or not store.lists_freely
    stored = store.read(KEY)
    shop.catalog().reindex()
    assert len(shop.labels()) == len(before)
    if not store.names(PENDING):
        found = store.read(KEY)
        assert found is not None
        assert stored is not None
        form = json.loads(stored.data)
        assert form.keys() == json.loads(found.data).keys()
        assert form["releases"].keys() == json.loads(found.data)["releases"].keys()


def test_a_filter_chooses(directory: Shop, manifest: ManifestFactory) -> None:
    fill(directory, manifest)
    catalog = directory.catalog().indexed()

    def chosen(**wanted: Any) -> list[str]:
        return [one.entry.version for one in list_releases(catalog, Filter(**wanted))]

    assert chosen(name="*-base") == ["1.0.20261101.1"]
    assert chosen(channel="stable") == ["1.0.20261101.1", "1.4.20261124.4"]
    assert chosen(architecture="arm64") == ["1.0.20261101.1"]
    assert chosen(region="eu-west-9") == []
    assert len(chosen(region="us-east-1", account="222222222222")) == 5
    assert chosen(state="revoked") == ["1.4.20261124.4"]
    assert chosen(state="pinned") == ["1.4.20261124.1"]
    assert len(chosen(state="usable")) == 4
    assert chosen(since=NOW + timedelta(days=1)) == []
    assert len(chosen(since=NOW, before=NOW + timedelta(seconds=1))) == 5


def test_the_descent_of_a_release(directory: Shop, manifest: ManifestFactory) -> None:
    catalog = directory.catalog()
    catalog.add(replace(manifest("1.0.20261101.1", name="base", places=(PLACE,)), base={}))
    base = indexes.IndexedRelease.of(catalog.get("base", "1.0.20261101.1"))
    assert base.parents == ()
    assert [one.release.entry.label for one in descent(catalog.indexed(), "base", "1.0.20261101.1")] == [base.label]
