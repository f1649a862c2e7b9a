"""Journals in a bucket: what was written is there on another machine, two never write the same record, a lease is taken
over after its holder's death and not before, and secrets are never readable in the bucket."""

from __future__ import annotations

import base64
import json
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import pytest

from goldenami.aws import journals, lease
from goldenami.aws.envelope import Envelopes
from goldenami.aws.guard import bookkeeping
from goldenami.aws.lease import Terms
from goldenami.aws.ledger import Call, Ledger
from goldenami.aws.s3 import Bucket
from goldenami.aws.session import Cloud
from goldenami.errors import AccessError, Busy, JournalError, NotFound, UnjournaledMutation
from goldenami.journal import Header, Intent, Journal, Journals, Secret, Wait, token
from goldenami.model import Environment, Network, Place, Target
from tests.worlds.ledgers import APPS, HOME, HOME_PLACE, PROOFS, have_only, make_cloud, new_session

if TYPE_CHECKING:
    from goldenami_sandbox.testing import PaperCloud

BUILD = "20261124-030000-abcd"
URL = "s3://journals/team"
HOUR = 3600.0
LASTING = Terms()  # a busy machine renews it in time


class Bench:
    """One bucket, and machines that have nothing in common but it."""

    def __init__(self, paper: PaperCloud, path: Path) -> None:
        self.paper = paper
        self.path = path
        self.s3 = cast(Any, new_session().create_client("s3", **paper.client()))
        self.s3.create_bucket(Bucket="journals", CreateBucketConfiguration={"LocationConstraint": "eu-central-1"})
        self._machines = 0

    def machine(self, terms: Terms = LASTING, **options: Any) -> Journals:
        """The journals, as another machine opens them."""
        self._machines += 1
        environment = Environment(
            name="test",
            home=HOME,
            home_region="eu-central-1",
            accounts={a.name: a for a in (HOME, APPS)},
            targets=(Target(HOME, "eu-central-1", "alias/golden-ami"),),
            network=Network(),
            catalog="s3://journals/catalog",
            builds=URL,
            local=str(self.path / f"machine-{self._machines}"),
        )
        return journals.open_journals(environment, make_cloud(**options), terms=terms)

    def bucket(self, cloud: Cloud | None = None) -> Bucket:
        return Bucket(cloud or make_cloud(), HOME_PLACE, URL, HOME_PLACE.account)

    def objects(self) -> dict[str, bytes]:
        """What somebody sees who may read the bucket."""
        found = self.s3.list_objects_v2(Bucket="journals").get("Contents", [])
        return {o["Key"]: self.s3.get_object(Bucket="journals", Key=o["Key"])["Body"].read() for o in found}

    def age_of(self, key: str) -> float:
        """The seconds since an object was written, by S3's clock."""
        head = self.s3.head_object(Bucket="journals", Key=key)
        return float((datetime.now(UTC) - head["LastModified"]).total_seconds())

    def age(self, seconds: float) -> None:
        """All that time passes in S3, and nothing is written."""
        from datetime import timedelta

        with self.paper.cloud.surface.active():
            for backend in _s3_buckets(self.paper):
                for key in backend.keys.values():
                    key.last_modified -= timedelta(seconds=seconds)


def _s3_buckets(paper: PaperCloud) -> list[Any]:
    from moto.s3.models import s3_backends

    return [b for account in s3_backends.values() for s3 in account.values() for b in s3.buckets.values()]


@pytest.fixture
def bench(paper_cloud: Callable[..., PaperCloud], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bench]:
    paper = paper_cloud()
    have_only(paper.variables(), monkeypatch)
    yield Bench(paper, tmp_path)
    names = [t.name for t in threading.enumerate() if t.name.startswith("lease")]
    assert not names, f"leases that nobody gave back: {names}"


def header(build_id: str = BUILD) -> Header:
    return Header(
        build_id,
        "web",
        "d" * 64,
        "test",
        datetime(2026, 11, 24, 3, tzinfo=UTC),
        {"version": "1.0", "catalog": "0123456789abcdef"},
    )


def intent(key: str, attempt: int = 1, **more: Any) -> Intent:
    mark = token(BUILD, key, attempt)
    request = {"Name": "é", "ClientToken": mark} | more
    return Intent(key, "create", "image", HOME_PLACE, mark, "ec2", "CopyImage", request, attempt)


# --- what it remembers ------------------------------------------------------------------------------------------------


def test_another_machine_goes_on_where_one_ended(bench: Bench) -> None:
    with bench.machine().create(header()) as journal:
        journal.intend(intent("a"))
        journal.record_success(intent("a").token, id="ami-1")
        journal.intend(intent("b", UserData=Secret("PRIVATE KEY")))
        assert journal.secret("login", lambda: b"LOGIN KEY") == b"LOGIN KEY"
    other = bench.machine()
    assert [s.build_id for s in other.list()] == [BUILD]
    assert [s.build_id for s in other.unfinished()] == [BUILD]
    with other.open(BUILD) as journal:
        assert journal.header == header()
        assert [r.id for r in journal.resources()] == ["ami-1"]
        again, result = journal.latest("b") or pytest.fail("it is there")
        assert result is None
        assert again.request["UserData"] == Secret("PRIVATE KEY"), "the request can be sent again"
        assert journal.secret("login", lambda: b"another") == b"LOGIN KEY"
        assert str(journal.directory).startswith(str(bench.path / "machine-2"))
        journal.record_success(again.token, id="ami-2")
        journal.finish("released")
    summary = bench.machine().read(BUILD)
    assert summary.ending == "released"
    assert bench.machine().storage.names(unfinished=True) == ()
    assert [r.id for r in summary.resources] == ["ami-1", "ami-2"]
    assert not any("/secrets/" in key for key in bench.objects()), "removed at the end"


def test_a_journal_that_was_never_closed_is_read_record_by_record(bench: Bench) -> None:
    """A killed process leaves single records, thousands of them on more than one page of the list."""
    bucket = bench.bucket()
    with bench.machine().create(header()) as journal:
        for number in range(3):
            journal.intend(intent(str(number)))
    assert any("/upto/00000004" in key for key in bench.objects())
    first = bench.machine().open(BUILD)
    for number in range(3, 6):
        first.intend(intent(str(number)))
    summary = bench.machine().read(BUILD)
    assert summary.unresolved == 6, "what was put together, and what came after it"
    first.close()
    with bench.machine().open(BUILD) as journal:
        assert [i.key for i in journal.unresolved()] == [str(n) for n in range(6)]
    assert bucket.read(f"builds/{BUILD}/records/00000000.jsonl") is not None, "records stay, or their numbers were free"


def test_the_list_has_pages(bench: Bench) -> None:
    with bench.paper.cloud.surface.active():
        (bucket,) = _s3_buckets(bench.paper)
        from moto.s3.models import FakeKey

        for number in range(2100):
            name = f"team/many/{number:05}"
            bucket.keys[name] = FakeKey(
                name=name, bucket_name="journals", value=b"x", account_id=HOME.id, region_name="eu-central-1"
            )
    assert len(list(bench.bucket().keys("many"))) == 2100
    assert len(list(bench.bucket().keys("many", after="many/01999"))) == 100
    assert len(bench.bucket().names("many")) == 2100
    assert bench.bucket().names() == ("many",)


def test_a_build_exists_once_and_what_is_not_there_is_not_found(bench: Bench) -> None:
    bench.machine().create(header()).close()
    with pytest.raises(JournalError, match="already exists in s3://journals/team"):
        bench.machine().create(header())
    with pytest.raises(NotFound):
        bench.machine().open("20260101-000000-0000")
    with pytest.raises(NotFound):
        bench.machine().read("../elsewhere")
    with pytest.raises(JournalError, match="cannot be the name"):
        bench.machine().create(replace(header(), build_id="../x"))


def test_a_bucket_that_is_not_there_is_told(bench: Bench) -> None:
    bench.s3.delete_bucket(Bucket="journals")
    with pytest.raises(NotFound, match="bucket journals does not exist") as caught:
        bench.machine().list()
    assert "goldenami.yaml" in (caught.value.hint or "")
    with pytest.raises(NotFound, match="bucket journals does not exist"):
        bench.machine().create(header())


def test_secrets_are_unreadable_in_the_bucket_and_bound_to_their_place(bench: Bench) -> None:
    with bench.machine().create(header()) as journal:
        journal.intend(intent("a", UserData=Secret("PRIVATE KEY")))
        journal.secret("login", lambda: b"LOGIN KEY")
        everything = b"".join(bench.objects().values())
        assert b"KEY" not in everything.replace(b'"key"', b"").replace(b"$secret", b"")
        names = [k for k in bench.objects() if "/secrets/" in k]
        assert len(names) == 2
        login = next(k for k in names if k.endswith("/login"))
        bench.s3.put_object(Bucket="journals", Key=login.replace("login", "host"), Body=bench.objects()[login])
        with pytest.raises((JournalError, AccessError, Exception), match=r"damaged|InvalidCiphertext") as caught:
            journal.secret("host", lambda: b"")
        assert b"LOGIN" not in str(caught.value).encode()


def test_a_missing_secret_is_told(bench: Bench) -> None:
    with bench.machine().create(header()) as journal:
        journal.intend(intent("a", UserData=Secret("PRIVATE KEY")))
        journal.remove_secrets()
        with pytest.raises(JournalError, match=r"secret .* is missing: s3://journals/team/"):
            journal.latest("a")


def test_damage_in_the_middle_is_refused(bench: Bench) -> None:
    journal = bench.machine().create(header())
    for number in range(3):
        journal.intend(intent(str(number)))
    bench.s3.delete_object(Bucket="journals", Key=f"team/builds/{BUILD}/records/00000002.jsonl")
    (summary,) = bench.machine().list()
    assert "record 2 of build" in str(summary.problem)
    journal.close()


# --- who may write ----------------------------------------------------------------------------------------------------


def test_only_one_works_on_a_build(bench: Bench) -> None:
    with bench.machine().create(header()):
        other = bench.machine()
        with pytest.raises(Busy, match=r"process .* on ") as caught:
            other.open(BUILD)
        assert "its lease expires in" in (caught.value.hint or "")
        found = other.holder(BUILD)
        assert found is not None
        assert other.read(BUILD).ending is None, "reading needs no lock"
    assert bench.machine().holder(BUILD) is None
    bench.machine().open(BUILD).close()


def test_a_lease_is_kept_for_as_long_as_its_holder_lives(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is renewed, again and again, also after the time for which it was taken."""
    monkeypatch.setattr("goldenami.aws.lease._RENEWALS", 600)  # one each 0.1 s
    with bench.machine().create(header()) as journal:
        (key,) = [key for key in bench.objects() if "lease" in key]
        for _ in range(3):
            bench.age(LASTING.seconds)
            deadline = time.monotonic() + 120
            while bench.age_of(key) > 10:
                assert time.monotonic() < deadline, "nobody renewed it"
                time.sleep(0.05)
            with pytest.raises(Busy):
                bench.machine().open(BUILD)
        journal.intend(intent("a"))


def test_a_dead_holders_build_is_taken_over_when_its_lease_ran_out(bench: Bench) -> None:
    journal = bench.machine(Terms(seconds=HOUR)).create(header())
    journal.intend(intent("a"))
    with pytest.raises(Busy):
        bench.machine().open(BUILD)
    bench.age(HOUR - 60)
    with pytest.raises(Busy):
        bench.machine().open(BUILD)
    bench.age(120)
    with bench.machine().open(BUILD) as other:
        assert [i.key for i in other.unresolved()] == ["a"]
        assert [n["name"] for n in other.notes] == ["taken over"]
        # The holder was not dead, but asleep. It wakes up: nothing that it wants to do is done.
        with pytest.raises(JournalError, match="taken over") as caught:
            journal.intend(intent("b"))
        assert "builds show" in (caught.value.hint or "")
        other.intend(intent("c"))
        with pytest.raises(JournalError, match="taken over"):
            journal.intend(intent("b"))
    journal.close()
    with bench.machine().open(BUILD) as again:
        assert [i.key for i in again.unresolved()] == ["a", "c"]


def test_the_clocks_of_the_machines_do_not_matter(bench: Bench) -> None:
    """The one is a day ahead, the other a day behind; S3's clock decides."""
    ahead = Terms(HOUR, now=lambda: datetime(2036, 1, 1, tzinfo=UTC))
    behind = Terms(HOUR, now=lambda: datetime(2016, 1, 1, tzinfo=UTC))
    for one, other in ((ahead, behind), (behind, ahead)):
        journal = bench.machine(one).create(header(f"b-{one.now().year}"))
        with pytest.raises(Busy):
            bench.machine(other).open(journal.build_id)
        bench.age(HOUR + 60)
        bench.machine(other).open(journal.build_id).close()
        with pytest.raises(JournalError):
            journal.note("late")
        journal.close()


def test_a_holder_that_cannot_renew_stops_before_its_next_call(bench: Bench) -> None:
    """It cannot know whether it was taken over; its own clock, which counts suspended time too, says when to stop."""
    moment = [1000.0]
    journal = bench.machine(Terms(seconds=60.0, clock=lambda: moment[0])).create(header())
    ledger = Ledger(make_cloud(), journal, proofs=PROOFS)
    bench.paper.set(faults=[fault("PutObject", "before", times=1000)])
    moment[0] += 30
    journal.check()
    moment[0] += 31
    with pytest.raises(JournalError, match="its lease expired"):
        ledger.create("sg", "security-group", HOME_PLACE, Call("ec2", "CreateSecurityGroup", {"GroupName": "x"}))
    assert not any(c["action"] == "CreateSecurityGroup" for c in bench.paper.calls)
    bench.paper.set(faults=[])
    journal.check()
    journal.intend(intent("a"))
    journal.close()


@pytest.mark.parametrize("taken", [True, False])
def test_a_freeze_between_intent_and_call_is_noticed(bench: Bench, taken: bool) -> None:
    """The intent is written; then the process sleeps through its lease. If it was taken over, the call is not sent."""
    moment = [1000.0]
    journal = bench.machine(Terms(seconds=60.0, clock=lambda: moment[0])).create(header())
    ledger = Ledger(make_cloud(), journal, proofs=PROOFS)
    plain = journal.intend

    def intend_and_freeze(intent: Intent) -> None:
        plain(intent)
        moment[0] += 100
        bench.age(100)
        if taken:
            bench.machine().open(BUILD).close()

    journal.intend = intend_and_freeze  # type: ignore[method-assign]
    call = Call("ec2", "CreateSecurityGroup", {"GroupName": "x", "Description": "x"})
    if taken:
        with pytest.raises(JournalError, match="taken over"):
            ledger.create("sg", "security-group", HOME_PLACE, call)
    else:
        ledger.create("sg", "security-group", HOME_PLACE, call)
    assert any(c["action"] == "CreateSecurityGroup" for c in bench.paper.calls) != taken
    journal.close()


def test_of_many_that_take_a_dead_holders_lease_one_gets_it(bench: Bench) -> None:
    journal = bench.machine(Terms(seconds=HOUR)).create(header())
    bench.age(HOUR + 60)
    machines = [bench.machine() for _ in range(6)]
    got: list[Journal] = []
    refused: list[Busy] = []
    barrier = threading.Barrier(len(machines))

    def take(machine: Journals) -> None:
        barrier.wait()
        try:
            got.append(machine.open(BUILD))
        except Busy as error:
            refused.append(error)

    threads = [threading.Thread(target=take, args=(m,)) for m in machines]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (len(got), len(refused)) == (1, 5)
    for one in (*got, journal):
        one.close()


def test_one_builds_a_recipe_at_a_time(bench: Bench) -> None:
    with bench.machine().exclusive("web"):
        with pytest.raises(Busy, match="web is locked by process") as caught, bench.machine().exclusive("web"):
            pass
        assert "--wait" in (caught.value.hint or "")
        with bench.machine().exclusive("other"):
            pass
    told: list[Busy] = []
    holder = bench.machine(Terms(seconds=HOUR)).exclusive("web")
    holder.__enter__()

    def waiting(busy: Busy) -> None:
        told.append(busy)
        holder.__exit__(None, None, None)

    with bench.machine().exclusive("web", Wait(600, waiting=waiting)):
        pass
    assert len(told) == 1


# --- replies that are lost --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("effect", ["before", "after"])
def test_a_write_whose_reply_is_lost_is_known_to_be_our_own(bench: Bench, effect: str) -> None:
    with bench.machine().create(header()) as journal:
        bench.paper.set(faults=[fault("PutObject", effect, times=1)])
        journal.intend(intent("a"))
        bench.paper.set(faults=[])
        journal.intend(intent("b"))
    with bench.machine().open(BUILD) as journal:
        assert [i.key for i in journal.unresolved()] == ["a", "b"]


@pytest.mark.parametrize("effect", ["before", "after"])
def test_a_write_that_never_gets_an_answer_is_looked_up_before_the_next(bench: Bench, effect: str) -> None:
    journal = bench.machine(Terms(HOUR)).create(header())
    ledger = Ledger(make_cloud(), journal, proofs=PROOFS)
    bench.paper.set(faults=[fault("PutObject", effect, times=1000)])
    with pytest.raises(JournalError, match="cannot write the journal") as caught:
        ledger.create("sg", "security-group", HOME_PLACE, Call("ec2", "CreateSecurityGroup", {"GroupName": "x"}))
    assert "bucket" in (caught.value.hint or "")
    assert not any(c["action"] == "CreateSecurityGroup" for c in bench.paper.calls), "no intent, no call"
    bench.paper.set(faults=[])
    journal.intend(intent("b"))
    journal.close()
    with bench.machine().open(BUILD) as again:
        assert [i.key for i in again.unresolved()] == (["sg", "b"] if effect == "after" else ["b"])


def test_a_lease_whose_renewals_lost_their_replies_is_still_held(bench: Bench) -> None:
    cloud = make_cloud()
    held = lease.take(bench.bucket(cloud), "locks/x", "x", Terms(HOUR), "")
    bench.paper.set(faults=[fault("PutObject", "after", times=1)])
    held.renew()
    held.renew()
    bench.paper.set(faults=[])
    held.check()
    held.give_back()
    held.give_back()
    assert lease.holder(bench.bucket(), "locks/x") is None


def test_reads_are_patient(bench: Bench) -> None:
    with bench.machine().create(header()) as journal:
        journal.intend(intent("a"))
    bench.paper.set(faults=[fault(a, "before", times=2) for a in ("GetObject", "ListObjectsV2")])
    assert bench.machine().read(BUILD).unresolved == 1


def fault(action: str, effect: str, *, times: int) -> dict[str, Any]:
    """The sandbox's settings for replies that never come."""
    return {"action": action, "when": effect, "how": "drop", "times": times}


# --- the guard --------------------------------------------------------------------------------------------------------


def test_the_permit_for_bookkeeping_is_for_one_object(bench: Bench) -> None:
    cloud = make_cloud()
    put = {"Bucket": "journals", "Key": "team/a", "Body": b""}
    with pytest.raises(UnjournaledMutation):
        cloud.send(HOME_PLACE, "s3", "PutObject", put)
    with bookkeeping("PutObject", "team/a"):
        cloud.send(HOME_PLACE, "s3", "PutObject", put)
        for key in ("team/b", "a", "other/team/a/b", "team/a2"):
            with pytest.raises(UnjournaledMutation):
                cloud.send(HOME_PLACE, "s3", "PutObject", {**put, "Key": key})
        with pytest.raises(UnjournaledMutation):
            cloud.send(HOME_PLACE, "s3", "DeleteObject", {"Bucket": "journals", "Key": "team/a"})
        with pytest.raises(UnjournaledMutation):
            cloud.send(HOME_PLACE, "ec2", "DeleteVolume", {"VolumeId": "vol-1"})
    with pytest.raises(UnjournaledMutation):
        cloud.send(HOME_PLACE, "s3", "PutObject", put)
    for operation in ("DeleteBucket", "PutBucketPolicy", "CreateBucket"):
        with pytest.raises(UnjournaledMutation), bookkeeping(operation, "team/a"):
            pass


def test_a_record_is_one_line_of_json(bench: Bench) -> None:
    """What is in the bucket can be read with any tool."""
    with bench.machine().create(header()) as journal:
        journal.note("hello", who="é")
    found = {k: v for k, v in bench.objects().items() if "/records/" in k}
    assert [json.loads(found[k])["n"] for k in sorted(found)] == [0, 1]
    assert Place(HOME.id, "eu-central-1") == HOME_PLACE


def test_a_bucket_of_another_account_is_refused(bench: Bench) -> None:
    """The name of a deleted bucket can be taken by anybody."""
    other = Bucket(make_cloud(), HOME_PLACE, URL, "999999999999")
    for attempt in (lambda: other.read("x"), lambda: other.create("x", b"1"), lambda: list(other.keys("x"))):
        with pytest.raises(AccessError, match="Access Denied"):
            attempt()
    assert bench.bucket().read("x") is None


# --- authenticity -----------------------------------------------------------------------------------------------------


def write_journal(journals: Journals, build_id: str) -> None:
    with journals.create(header(build_id)) as journal:
        for key in ("image/a", "image/b"):
            journal.intend(replace(intent(key), token=token(build_id, key, 1)))


def record(build_id: str, number: int) -> str:
    return f"team/builds/{build_id}/records/{number:08}.jsonl"


def forged(bench: Bench, other: str) -> dict[str, Callable[[dict[str, bytes]], dict[str, bytes]]]:
    """What somebody writes who may write into the bucket, by what they have read there."""
    last, first = record(BUILD, 2), record(BUILD, 1)

    def note(number: int) -> bytes:
        fields = {"n": number, "at": "2026-11-24T03:00:00.000Z", "record": "stage", "name": "x", "status": "done"}
        return json.dumps({**fields, "data": {}}).encode() + b"\n"

    return {
        "forged": lambda found: {record(BUILD, 3): note(3)},
        "forged with a MAC": lambda found: {record(BUILD, 3): note(3)[:-2] + b',"mac":"' + b"0" * 64 + b'"}\n'},
        "changed": lambda found: {last: found[last].replace(b"CopyImage", b"OtherCall")},
        "of another build": lambda found: {last: found[record(other, 2)]},
        "repeated": lambda found: {record(BUILD, 3): found[last].replace(b'"n":2', b'"n":3')},
        "in another order": lambda found: {
            first: found[last].replace(b'"n":2', b'"n":1'),
            last: found[first].replace(b'"n":1', b'"n":2'),
        },
        "in the copy": lambda found: {f"team/builds/{BUILD}/upto/00000004.jsonl": found[record(other, 0)] + note(1)},
    }


def test_a_record_that_is_not_authentic_is_refused(bench: Bench) -> None:
    other = "20261124-030000-ffff"
    write_journal(bench.machine(), BUILD)
    write_journal(bench.machine(), other)
    found = bench.objects()
    assert all(b'"mac":"' in text for key, text in found.items() if "/records/" in key)
    assert bench.machine().read(BUILD).problem is None
    for name, make in forged(bench, other).items():
        written = make(found)
        if name != "in the copy":  # it is read instead of the records
            for key in found:
                if "/upto/" in key:
                    bench.s3.delete_object(Bucket="journals", Key=key)
        for key, text in written.items():
            bench.s3.put_object(Bucket="journals", Key=key, Body=text)
        journals = bench.machine()
        assert f"of build {BUILD} is not authentic" in str(journals.read(BUILD).problem), name
        with pytest.raises(JournalError, match=r"record \d of build .* is not authentic") as caught:
            journals.open(BUILD)
        assert "access log of the bucket" in (caught.value.hint or "")
        assert journals.read(other).problem is None
        for key in written:
            bench.s3.delete_object(Bucket="journals", Key=key)
        for key, text in found.items():
            if "/records/" in key or "/upto/" in key:
                bench.s3.put_object(Bucket="journals", Key=key, Body=text)
    with bench.machine().open(BUILD) as journal:
        assert journal.attempts("image/b") == 1
        journal.note("authentic", really=True)
    assert bench.machine().read(BUILD).problem is None


def test_a_key_of_somebody_else_is_refused(bench: Bench) -> None:
    """Who can write into the bucket replaces the key, under a key of KMS that the builder may use as well."""
    write_journal(bench.machine(), BUILD)
    kms = cast(Any, new_session().create_client("kms", **bench.paper.client()))
    mine = kms.create_key()["KeyMetadata"]["KeyId"]
    context = {"goldenami:environment": "test", "goldenami:purpose": "journals"}
    envelopes = Envelopes(make_cloud(), HOME_PLACE, mine, environment="test", purpose="journals", error=JournalError)
    forged = envelopes.close("keys/test", b"0" * 64)
    assert kms.decrypt(
        CiphertextBlob=base64.b64decode(json.loads(forged)["key"]),
        EncryptionContext={**context, "goldenami:secret": "keys/test"},
    )
    bench.s3.put_object(Bucket="journals", Key="team/keys/test", Body=forged)
    with pytest.raises(JournalError, match="under another key than alias/golden-ami"):
        bench.machine().open(BUILD)


def test_values_of_variables_are_not_in_the_bucket(bench: Bench) -> None:
    secrets = {"variables": b'{"title": "my title"}'}
    with bench.machine().create(header(), secrets=secrets):
        pass
    assert not [key for key, text in bench.objects().items() if b"my title" in text]
    with bench.machine().open(BUILD) as journal:
        assert journal.secret("variables", lambda: b"") == secrets["variables"]
