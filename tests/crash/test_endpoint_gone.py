"""An endpoint that vanishes in mid-build: the build ends within a minute, and is cleaned or resumed later."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Callable, Iterator

import pytest
from goldenami_sandbox.http import Response, Server
from goldenami_sandbox.protocol import Call

from goldenami.errors import PlaceUnreachable, TargetsFailed
from tests.worlds import events, inventory
from tests.worlds.builds import PLACES, TIMEOUT, Label, World
from tests.worlds.cases import check


@pytest.fixture(scope="module")
def wire(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with events.timed_world(tmp_path_factory.mktemp("gone"), wire=True) as world:
        yield world


@contextlib.contextmanager
def gone_at(world: World, action: str, *, silent: bool) -> Iterator[None]:
    """The endpoint stops listening before the first call of an action, for as long as the block lasts. ``silent``: the
    port accepts connections and answers nothing."""
    port = world.server.port
    listener = contextlib.ExitStack()
    came: list[Label] = []

    def disturb(label: Label, call: Call, serve: Callable[[], Response]) -> Response:
        if call.action != action or came:
            return serve()
        came.append(label)
        world.server.close()
        if silent:
            listener.enter_context(socket.create_server(("127.0.0.1", port), backlog=128))
        return Response(0, drop=True)

    world.gate.start(disturb)
    try:
        with listener:
            yield
            assert came, f"the build made no call of {action}"
    finally:
        world.gate.stop()
        world.server = Server(world.gate, port)
        world.server.serve_in_thread()


@pytest.mark.parametrize(
    ("action", "silent", "then"),
    [("RunInstances", False, "clean"), ("CopyImage", False, "resume"), ("CreateImage", True, "clean")],
)
@pytest.mark.sample(2)
def test_a_build_ends_within_a_minute(wire: World, action: str, silent: bool, then: str) -> None:
    wire.fresh(new_process=True)
    decoys = inventory.place_decoys(wire)
    with gone_at(wire, action, silent=silent):
        began = wire.clock.offset
        with pytest.raises((PlaceUnreachable, TargetsFailed)) as caught:
            wire.build()
        assert wire.clock.offset - began < 60 + TIMEOUT
        told = [e.fields["message"] for e in wire.events if e.kind == "note" and e.fields.get("level") == "warning"]
        assert len(told) <= len(PLACES), "a place is told once"
    if action == "RunInstances":
        assert "ec2 in 111111111111/eu-central-1 has not answered for" in caught.value.message
    (left,) = wire.journals.unfinished()
    assert left.can_resume
    assert left.resources
    if then == "resume":
        wire.resume(left.build_id)
    else:
        assert wire.clean(left.build_id).complete
    check(wire, decoys, released=then == "resume")


def test_one_lost_answer_is_no_verdict(wire: World) -> None:
    """The next call is made, however long the lost one took."""
    wire.fresh(new_process=True)
    lost: list[Label] = []

    def disturb(label: Label, call: Call, serve: Callable[[], Response]) -> Response:
        if call.action == "DescribeSubnets" and not lost:
            lost.append(label)
            wire.clock.sleep(120)
            return Response(0, drop=True)
        return serve()

    wire.gate.start(disturb)
    wire.build()
    assert lost
