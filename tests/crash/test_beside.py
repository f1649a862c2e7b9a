"""What a release does not need any more is deleted while it is published; what a resume needs is not."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest
from goldenami_sandbox.http import Response
from goldenami_sandbox.protocol import Call

from goldenami.errors import TargetsFailed
from goldenami.stages import notices
from tests.worlds import inventory
from tests.worlds.builds import Label, World
from tests.worlds.cases import check
from tests.worlds.faults import denied

ENDS = {"TerminateInstances", "DeleteKeyPair", "DeleteSecurityGroup", "DeregisterImage", "DeleteSnapshot"}


def name_of(call: Call) -> str:
    return str((call.params or call.json).get("Name", "")) if call.action == "PutParameter" else ""


def is_of_channel(name: str) -> bool:
    return "/stable/" in name


def test_what_a_release_does_not_need_is_deleted_beside_the_move_of_the_channel(world: World) -> None:
    """The channel waits here until all of it is deleted, which ends only if nothing of it waits for the channel."""
    world.fresh()
    ended: list[str] = []
    all_ended = threading.Event()
    waited: list[bool] = []

    def disturb(label: Label, call: Call, serve: Callable[[], Response]) -> Response:
        if is_of_channel(name_of(call)):
            waited.append(all_ended.wait(60))
        answer = serve()
        if call.action in ENDS and answer.status == 200:
            ended.append(call.action)
            if len(ended) == 7:  # two instances and their key pairs
                all_ended.set()
        return answer

    world.gate.start(disturb)
    try:
        world.build()
    finally:
        world.gate.stop()
    assert waited, "the channel moved"
    assert all(waited), ended
    assert len(ended) == 7, "the clean-up deletes none of it again"
    check(world, frozenset(), released=True)


def test_a_release_is_told_before_the_last_of_it_is_deleted(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """EC2 may keep a security group busy for minutes: who interrupts that wait has a release that is told."""
    world.fresh()
    told, waited, tell = threading.Event(), list[bool](), notices.released

    def released(*given: Any) -> None:
        tell(*given)
        told.set()

    def disturb(label: Label, call: Call, serve: Callable[[], Response]) -> Response:
        if call.action == "DeregisterImage":
            waited.append(told.wait(120))
        return serve()

    monkeypatch.setattr(notices, "released", released)
    world.gate.start(disturb)
    try:
        world.build()
    finally:
        world.gate.stop()
    assert waited == [True]
    check(world, frozenset(), released=True)


@pytest.mark.parametrize("of_channel", [True, False], ids=["channel", "version"])
def test_the_candidate_is_kept_until_there_is_a_release(world: World, of_channel: bool) -> None:
    """A build that published nothing goes on from its candidate, and one that only lacks the channel without it."""
    world.fresh()
    decoys = inventory.place_decoys(world)

    def disturb(label: Label, call: Call, serve: Callable[[], Response]) -> Response:
        name = name_of(call)
        return denied(call, serve) if name and is_of_channel(name) == of_channel else serve()

    world.gate.start(disturb)
    try:
        with pytest.raises(TargetsFailed):
            world.build()
    finally:
        world.gate.stop()
    (build_id,) = world.builds
    journal = world.journals.read(build_id)
    kept = [one for one in journal.resources if one.key.startswith("candidate/") and one.kind == "image"]
    assert bool(kept) != of_channel
    assert world.resume(build_id).status == "released"
    assert len(world.host_work.prepared) == 1, "nothing was built again"
    check(world, decoys, released=True)
