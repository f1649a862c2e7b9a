"""The wait for an instance ends when its SSH server answers: a build does not wait for the next look at EC2."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import pytest

from goldenami import ssh
from goldenami.aws import instances
from goldenami.errors import AccessError, BuilderError
from goldenami.events import Event
from goldenami.model import SshEndpoint
from goldenami.stages import hosts
from goldenami.stages.build import BuildContext, Host
from tests.crash.test_data_volumes import with_volumes
from tests.worlds import events, inventory
from tests.worlds.builds import Label, World
from tests.worlds.cases import check

if TYPE_CHECKING:
    from goldenami_sandbox.http import Response
    from goldenami_sandbox.protocol import Call

RUNS_AFTER = 33.0  # virtual seconds; the looks at EC2 that no answer causes come every ten seconds


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with events.timed_world(tmp_path_factory.mktemp("answer")) as made:
        yield made


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


class LoggedIn:
    """A connection to an instance."""

    def __init__(self, instance_id: str) -> None:
        self.instance_id, self.is_closed = instance_id, False

    def close(self) -> None:
        self.is_closed = True


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


def test_a_login_proves_that_an_instance_runs(world: World) -> None:
    """EC2 is not asked again, although it would say that the instance is pending. A builder keeps the connection."""
    world.fresh()
    logins, kept = list[LoggedIn](), list[tuple[object, bool]]()

    def log_in(build: object, endpoint: SshEndpoint) -> LoggedIn:
        assert endpoint.private_key
        assert endpoint.host_key
        logins.append(LoggedIn(endpoint.instance_id))
        return logins[-1]

    prepare = world.host_work.prepare

    def note(build: BuildContext, architecture: Any, host: Host) -> object:
        kept.append((host.connection, logins[0].is_closed))
        return prepare(build, architecture, host)

    world.host_work.log_in = log_in  # type: ignore[assignment, method-assign]
    world.host_work.prepare = note  # type: ignore[assignment, method-assign]
    answers = Answering(world, early=True)
    seconds, looks = launched(world, answers)
    assert seconds < 5.0
    assert looks <= 2
    builder, proof = logins
    assert [builder.instance_id] == world.host_work.prepared
    assert [proof.instance_id] == world.host_work.proved
    assert kept == [(builder, False)]
    assert proof.is_closed
    assert builder.is_closed


@pytest.mark.parametrize("where", ["launch", "event", "work"])
def test_a_connection_is_closed_if_the_build_ends_before_it_is_used(
    world: World, where: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.fresh()
    logins = list[LoggedIn]()

    def log_in(build: object, endpoint: SshEndpoint) -> LoggedIn:
        logins.append(LoggedIn(endpoint.instance_id))
        return logins[-1]

    def end(*_: object) -> None:
        raise BuilderError("the end")

    class Events(list[Event]):
        def append(self, event: Event) -> None:
            if event.kind == "host.launched" and where == "event":
                end()

    launch = instances.launch_running
    if where == "launch":
        monkeypatch.setattr(instances, "launch_running", lambda *given, **more: end(launch(*given, **more)))

    world.events = Events()
    world.paper.set(pending={"instance": RUNS_AFTER})
    world.host_work.log_in = log_in  # type: ignore[assignment, method-assign]
    world.host_work.prepare = end  # type: ignore[assignment, method-assign]
    world.host_work.answers = Answering(world, early=True)  # type: ignore[method-assign]
    with pytest.raises(BuilderError, match="the end"):
        world.build()
    assert [one.is_closed for one in logins] == [True]


def test_nobody_logs_in_before_data_volumes_are_described(world: World) -> None:
    """EC2 describes all of them when it says that the instance runs."""
    with_volumes(world)
    tried: list[str] = []
    world.host_work.log_in = lambda build, endpoint: tried.append(endpoint.address)  # type: ignore[method-assign]
    seconds, _ = launched(world, Answering(world, early=True))
    assert seconds >= RUNS_AFTER
    assert not tried


def test_a_refused_rule_ends_a_build_and_what_is_launched_beside_it(world: World) -> None:
    """Nobody can log in without the rule. It is made while the builder is launched."""
    world.fresh()
    decoys = inventory.place_decoys(world)
    refusal = {"action": "AuthorizeSecurityGroupIngress", "code": "UnauthorizedOperation", "status": 403}
    world.paper.set(faults=[refusal], pending={"instance": RUNS_AFTER})
    launched = threading.Event()

    def disturb(label: Label, call: Call, serve: Callable[[], Response]) -> Response:
        if call.action == "AuthorizeSecurityGroupIngress":
            assert launched.wait(120)
        answer = serve()
        if call.action == "RunInstances" and answer.status == 200:
            launched.set()
        return answer

    world.gate.start(disturb)
    began = world.clock.offset
    with pytest.raises(AccessError, match="AuthorizeSecurityGroupIngress"):
        world.build()
    assert world.clock.offset - began < RUNS_AFTER, "nobody waits for the instance"
    check(world, decoys, released=False)


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
