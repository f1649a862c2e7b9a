"""What version 0.1.0 wrote is read, and continued: journals and catalogs, in a directory and in a bucket.

Version 0.1.0 wrote the files below ``fixtures/0.1.0``: one build that was released, one that was killed, and a catalog
with two releases, three reservations, a channel that moved twice, pins and a retired release. In the bucket, the killed
build has records that were copied into ``upto``, and one after them.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import boto3
import pytest

from goldenami.aws import journals as journals_of
from goldenami.aws.session import Cloud
from goldenami.errors import Busy, JournalError, NotFound
from goldenami.journal import Intent, Journals, Secret, token
from goldenami.model import Account, Environment, Network, Place, Target
from goldenami.release.catalog import Catalog
from goldenami.release.versions import Reference

if TYPE_CHECKING:
    from goldenami_sandbox.testing import PaperCloud

FIXTURES = Path(__file__).with_name("fixtures") / "0.1.0"
HOME = Account("home", "111111111111")
PLACE = Place(HOME.id, "eu-central-1")
RELEASED, KILLED = "20261124-030000-aaaa", "20261124-040000-bbbb"
NOW = datetime(2026, 11, 25, 3, tzinfo=UTC)


def check_journals(journals: Journals) -> None:
    assert [(s.build_id, s.ending, s.problem) for s in journals.list()] == [
        (RELEASED, "released", None),
        (KILLED, None, None),
    ]
    assert [s.build_id for s in journals.unfinished()] == [KILLED]
    done = journals.read(RELEASED)
    assert done.header is not None
    assert done.header.data == {"version": "1.0.20261124.1"}
    assert [(r.kind, r.place, r.id) for r in done.resources] == [("image", PLACE, "ami-1")]
    with journals.open(KILLED) as journal:
        assert [i.key for i in journal.unresolved()] == ["b", "c"]
        assert journal.is_gone(PLACE, "ami-2")
        assert journal.secret("login", lambda: b"another") == b"LOGIN KEY"
        again, result = journal.latest("b") or pytest.fail("it is there")
        assert (again.request["UserData"], result) == (Secret("PRIVATE KEY"), None)
        mark = token(KILLED, "d", 1)
        journal.intend(Intent("d", "create", "image", PLACE, mark, "ec2", "CopyImage", {}, 1))
        journal.record_success(mark, id="ami-4")
        journal.finish("failed")
    after = journals.read(KILLED)
    assert ([r.id for r in after.resources], after.unresolved, after.ending) == (["ami-4"], 2, "failed")
    with journals.exclusive("web"), pytest.raises(Busy), journals.exclusive("web"):
        pass


def check_catalog(catalog: Catalog) -> None:
    assert catalog.names() == ("web",)
    assert catalog.versions("web") == ("1.0.20261124.2", "1.0.20261124.1")
    manifest = catalog.get("web", "1.0.20261124.2")
    assert [(i.account, i.mode) for i in manifest.images] == [(HOME.id, "copy"), ("222222222222", "share")]
    assert catalog.resolve(Reference("web", channel="stable"), PLACE).image_id == "ami-2-1-eu-central-1"
    with pytest.raises(NotFound, match="is retired"):
        catalog.resolve(Reference("web", version="1.0.20261124.1"), PLACE)
    pointer = catalog.channel("web", "stable")
    assert pointer is not None
    assert [move.version for move in pointer.history] == ["1.0.20261124.1", "1.0.20261124.2"]
    assert [r.build_id for r in catalog.reservations("web")] == ["b-1", "b-2", "b-3"]
    pin = catalog.marks.pinned("web", "1.0.20261124.1")
    assert pin is not None
    assert pin.reason == "in court"
    assert catalog.marks.pinned("web", "1.0.20261124.2") is None
    # And on.
    assert catalog.reserve("web", "1.0", date(2026, 11, 24), build_id="b-3", now=NOW) == "1.0.20261124.3"
    assert catalog.reserve("web", "1.0", date(2026, 11, 24), build_id="b-4", now=NOW) == "1.0.20261124.4"
    assert catalog.move("web", "stable", "1.0.20261124.1", now=NOW).previous == "1.0.20261124.2"
    assert catalog.marks.unpin("web", "1.0.20261124.1")
    assert catalog.marks.pinned("web", "1.0.20261124.1") is None


def test_a_directory_of_0_1_0(tmp_path: Path) -> None:
    shutil.copytree(FIXTURES, tmp_path, dirs_exist_ok=True)
    before = (tmp_path / "builds" / KILLED / "journal.jsonl").read_bytes()
    check_journals(Journals(tmp_path / "builds"))
    check_catalog(Catalog(tmp_path / "catalog"))
    after = (tmp_path / "builds" / KILLED / "journal.jsonl").read_bytes()
    assert after.startswith(before), "a journal is appended, never rewritten"
    assert sorted(p.name for p in (tmp_path / "builds" / KILLED).iterdir()) == ["journal.jsonl", "lock", "secrets"]


def test_a_bucket_of_0_1_0(
    paper_cloud: Callable[..., PaperCloud], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paper = paper_cloud()
    for name, value in paper.variables().items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("AWS_CONFIG_FILE", os.devnull)
    s3: Any = boto3.client("s3", **paper.client())
    s3.create_bucket(Bucket="team", CreateBucketConfiguration={"LocationConstraint": PLACE.region})
    objects: dict[str, str] = json.loads((FIXTURES / "bucket.json").read_text(encoding="utf-8"))
    environment = Environment(
        name="test",
        home=HOME,
        home_region=PLACE.region,
        accounts={HOME.name: HOME},
        targets=(Target(HOME, PLACE.region, "alias/golden-ami"),),
        network=Network(),
        catalog="s3://team/golden/catalog",
        builds="s3://team/golden",
        local=str(tmp_path),
    )
    cloud = Cloud.of(environment)
    for key, text in objects.items():
        s3.put_object(Bucket="team", Key=key, Body=text.encode())
    journals = journals_of.open_journals(environment, cloud)
    # Records of that version have no MAC, so nobody knows who wrote them.
    assert "record 0 of build " in str(journals.read(KILLED).problem)
    with paper.cloud.surface.active():
        for stored in paper.cloud.surface.backend("s3", HOME.id, "aws").buckets["team"].keys.values():
            stored.last_modified -= timedelta(hours=1)
    with pytest.raises(JournalError, match="is not authentic: it has no MAC"):
        journals.open(KILLED)
    check_catalog(Catalog.of(environment, cloud))
    now = {o["Key"] for o in s3.list_objects_v2(Bucket="team")["Contents"]}
    assert now > set(objects), "nothing that was there is gone"
    assert all(
        s3.get_object(Bucket="team", Key=k)["Body"].read().decode() == v for k, v in objects.items() if "/re" in k
    )
