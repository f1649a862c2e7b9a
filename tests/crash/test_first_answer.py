"""The wait for an instance ends when its SSH server answers: a build does not wait for the next look at EC2."""

from __future__ import annotations

import socket
from typing import Any

import pytest

from goldenami import ssh
from goldenami.stages import hosts
from goldenami.stages.build import Host
from tests.worlds.builds import World

RUNS_AFTER = 33.0  # virtual seconds; the looks at EC2 that no answer causes come every five seconds


class Answering:
    """An SSH server that answers as soon as EC2 says that the instance runs, or ``early``."""

    def __init__(self, world: World, *, early: bool = False) -> None:
        self.world, self.early = world, early
        self.asked: list[tuple[str, int]] = []
        self.answered: list[float] = []

    def __call__(self, address: str, port: int) -> bool:
        self.asked.append((address, port))
        ec2 = self.world.paper.cloud.ec2._cloud
        if not self.early and not any(i.state(ec2.now()) == "running" for i in ec2.store.instances.values()):
            return False
        self.answered.append(self.world.clock.offset)
        return True


def launched(world: World, answers: Answering) -> tuple[float, int]:
    """Build; return after how many seconds the builder was launched, and with how many looks."""
    world.paper.set(pending={"instance": RUNS_AFTER})
    world.host_work.answers = answers  # type: ignore[method-assign]
    began, seconds = world.clock.offset, list[float]()
    prepare = world.host_work.prepare

    def note(build: object, architecture: object, host: object) -> object:
        seconds.append(world.clock.offset - began)
        return prepare(build, architecture, host)  # type: ignore[arg-type]

    world.host_work.prepare = note  # type: ignore[assignment, method-assign]
    mark = len(world.paper.calls)
    assert world.build().exit_code == 0
    made = [str(call["action"]) for call in world.paper.calls[mark:]]
    first = made.index("RunInstances")
    return seconds[0], made[first : made.index("CreateImage")].count("DescribeInstances")


def test_an_answer_ends_the_pause(world: World) -> None:
    world.fresh()
    answers = Answering(world)
    seconds, looks = launched(world, answers)
    assert seconds <= RUNS_AFTER + 1.5
    assert looks <= 10, "EC2 is asked less often while the server is"
    assert {port for _, port in answers.asked} == {22}
    assert len(answers.answered) <= 2, "nobody knocks at the builder or the instance of gate 2 after that"


def test_an_answer_before_ec2_says_so_costs_one_look(world: World) -> None:
    world.fresh()
    answers = Answering(world, early=True)
    _, looks = launched(world, answers)
    assert looks <= 17
    assert 1 <= len(answers.answered) <= 2


@pytest.mark.parametrize(("early", "late"), [(False, 1.5), (True, 4.0)])
def test_an_answer_counts_although_the_last_instance_took_long(
    world: World, monkeypatch: pytest.MonkeyPatch, early: bool, late: float
) -> None:
    """It would be looked at again when that one was running, and nobody knows its address at first."""
    world.fresh()
    world.paper.set(pending={"instance": 40.0})
    world.host_work.answers = Answering(world)  # type: ignore[method-assign]
    launch, seconds = hosts.launch, list[float]()

    def timed(*given: Any, **options: Any) -> Host:
        if seconds:  # the instance of gate 2
            world.paper.set(pending={"instance": 12.0})
            world.host_work.answers = Answering(world, early=early)  # type: ignore[method-assign]
        began = world.clock.offset
        host = launch(*given, **options)
        seconds.append(world.clock.offset - began)
        return host

    monkeypatch.setattr(hosts, "launch", timed)
    assert world.build().exit_code == 0
    builder, proof = seconds
    assert builder >= 39.0
    assert 11.0 <= proof <= 12.0 + late


def test_a_server_is_found_and_none_is_not() -> None:
    with socket.socket() as silent, socket.create_server(("127.0.0.1", 0)) as server:
        silent.bind(("127.0.0.1", 0))  # it does not listen
        assert ssh.listens("127.0.0.1", server.getsockname()[1])
        assert not ssh.listens("127.0.0.1", silent.getsockname()[1])
