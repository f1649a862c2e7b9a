"""Credentials that end at any call: the build stops where it is, with exit code 4, nothing is half deleted, and a
process with good ones makes the release."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable

import pytest
from goldenami_sandbox.http import Response
from goldenami_sandbox.protocol import Call

from goldenami.errors import CredentialsRefused, GoldenAmiError
from tests.worlds import inventory
from tests.worlds.builds import PLACES, Label, World
from tests.worlds.cases import check
from tests.worlds.matrix import matrix
from tests.worlds.recordings import recorded


class Expiry:
    """From the nth call on, every call of every service is refused, each in its service's words."""

    def __init__(self, nth: int, code: str) -> None:
        self.nth, self.code = nth, code
        self.seen = 0

    def __call__(self, label: Label, call: Call, serve: Callable[[], Response]) -> Response:
        self.seen += 1
        if self.seen < self.nth:
            return serve()
        return call.error(self.words(call), "The security token included in the request is expired", 403)

    def words(self, call: Call) -> str:
        if self.code != "expired":
            return "UnrecognizedClientException" if call.protocol == "json" else self.code
        return {"ec2": "RequestExpired", "ssm": "ExpiredTokenException", "kms": "ExpiredTokenException"}.get(
            call.service, "ExpiredToken"
        )


# How many calls a build takes, journal and catalog in a directory and in a bucket. Polling may take a few more or less.
CALLS = {"directory": 113, "bucket": 442}
CODES = ("expired", "InvalidClientTokenId")


@pytest.mark.parametrize("where", CALLS)
def test_that_is_how_many_calls_a_build_takes(world: World, where: str) -> None:
    world.fresh(bucket=where == "bucket")
    assert abs(len(recorded(world, world.build)) - CALLS[where]) <= CALLS[where] // 10


def cases(where: str) -> itertools.product[tuple[int, str, str]]:
    return itertools.product(range(1, CALLS[where] + 1), CODES, ("resume", "clean"))


@matrix("nth, code, then", cases("directory"), every=401)
def test_credentials_may_end_at_any_call(world: World, nth: int, code: str, then: str) -> None:
    expired(world, Expiry(nth, code), then, bucket=False)


@matrix("nth, code, then", cases("bucket"), every=997)
def test_credentials_may_end_at_any_call_with_a_bucket(world: World, nth: int, code: str, then: str) -> None:
    expired(world, Expiry(nth, code), then, bucket=True)


def expired(world: World, expiry: Expiry, then: str, bucket: bool) -> None:
    world.fresh(bucket=bucket)
    decoys = inventory.place_decoys(world)
    error: GoldenAmiError | None = None
    world.gate.start(expiry)
    try:
        world.build()
    except GoldenAmiError as caught:
        error = caught
    finally:
        world.gate.stop()
    if error is None:  # polling took fewer calls this time, or what was left is only tidying up
        assert release_is_there(world)
    else:
        assert isinstance(error, CredentialsRefused), f"{type(error).__name__}: {error.message}"
        assert error.exit_code == 4
    if bucket:
        world.leases_run_out()
    if not world.builds:
        check(world, decoys, released=False)
        return
    (build_id,) = world.builds
    if error is not None and world.journals.read(build_id).ending != "released":
        assert f"goldenami resume {build_id}" in (error.hint or "") or not world.journals.read(build_id).calls
    deletions = [c for c in world.journals.read(build_id).calls if c[0].action == "delete"]
    assert len({c[0].key for c in deletions if c[1] is None or not c[1].ok}) <= 8, "it went on deleting in vain"
    if world.journals.read(build_id).ending == "released":
        check(world, decoys, released=True)
    elif then == "resume":
        assert world.resume(build_id).status == "released"
        check(world, decoys, released=True)
    else:
        assert world.clean(build_id).complete
        check(world, decoys, released=None)


def test_credentials_may_end_when_the_home_image_is_there_already(world: World) -> None:
    """It is no failure of the targets that were not done: the exit code says what to renew."""
    place = PLACES[1]
    over = threading.Event()

    def ended(label: Label, call: Call, serve: Callable[[], Response]) -> Response:
        if (label.account, label.region) == (place.account, place.region):
            if label.action == "EnableImageDeprecation":
                over.set()
            if over.is_set():
                return call.error("RequestExpired", "Request has expired.", 400)
        return serve()

    world.fresh()
    decoys = inventory.place_decoys(world)
    world.gate.start(ended)
    with pytest.raises(CredentialsRefused) as caught:
        world.build()
    world.gate.stop()
    (build_id,) = world.builds
    assert f"goldenami resume {build_id}" in (caught.value.hint or "")
    assert len(world.host_work.proved) == 1
    world.resume()
    check(world, decoys, released=True)


def release_is_there(world: World) -> bool:
    return bool(world.catalog.versions("web"))
