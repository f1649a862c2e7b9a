"""Instances that are lost, on paper: what counts as lost, how often one is replaced, and what is told of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import pytest
from goldenami_sandbox.http import Response

from goldenami import pipeline
from goldenami import recipe as recipes
from goldenami.aws import images
from goldenami.errors import (
    BuilderError,
    CloudError,
    ConnectionLost,
    GoldenAmiError,
    HostLost,
    Interrupted,
    OperationDoubtful,
    OperationFailed,
    PlaceUnreachable,
    TestsFailed,
)
from goldenami.model import Architecture, TestReport
from goldenami.ssh import NotBack, NotReachable, Refused
from goldenami.stages.build import BuildContext, Candidate, Host, Prepared
from goldenami.stages.replacing import freezing
from goldenami.stages.watch import Watch, watched
from tests.worlds import inventory
from tests.worlds.builds import RECIPE, Death, Label, PaperHostWork, World
from tests.worlds.cases import check

Accident = Callable[[World, Host, Watch], None]


class Unlucky(PaperHostWork):
    """A host_work whose first builders and proofs meet accidents, one each."""

    def __init__(
        self, world: World, builders: Sequence[Accident] = (), proofs: Sequence[Accident] = (), reached: bool = True
    ) -> None:
        super().__init__()
        self._world = world
        self._builders, self._proofs = iter(builders), iter(proofs)
        self._reached = reached

    def prepare(self, build: BuildContext, architecture: Architecture, host: Host) -> Prepared:
        self._meet(self._builders, build, host)
        return super().prepare(build, architecture, host)

    def prove(self, build: BuildContext, made: Candidate, host: Host) -> TestReport:
        self._meet(self._proofs, build, host)
        return super().prove(build, made, host)

    def _meet(self, accidents: Iterator[Accident], build: BuildContext, host: Host) -> None:
        accident = next(accidents, None)
        if accident is not None:
            with watched(build, host) as watch:
                watch.reached = self._reached
                accident(self._world, host, watch)


def reclaimed(world: World, host: Host, watch: Watch) -> None:
    """The connection ends because EC2 takes the instance back."""
    world.behind.ec2.reclaim(host.instance_id, 0)
    raise ConnectionLost("the connection was lost during a command")


def terminated(error: GoldenAmiError) -> Accident:
    """Somebody terminates the instance; what is noticed first is ``error``."""

    def happen(world: World, host: Host, watch: Watch) -> None:
        world.client("ec2", world.environment.home_place).terminate_instances(InstanceIds=[host.instance_id])
        raise error

    return happen


def noticed_by_the_watch(world: World, host: Host, watch: Watch) -> None:
    """The tests end because the watch has seen that the instance is gone."""
    world.client("ec2", world.environment.home_place).terminate_instances(InstanceIds=[host.instance_id])
    assert watch.wait(120)
    raise Interrupted("The tests were interrupted.")


def failing(error: GoldenAmiError) -> Accident:
    """The instance runs all the while."""

    def happen(world: World, host: Host, watch: Watch) -> None:
        raise error

    return happen


def lost_by_freezing(error: GoldenAmiError) -> Accident:
    """The last stage of the builder does not end."""

    def happen(world: World, host: Host, watch: Watch) -> None:
        with freezing(host.instance_id, ["seal", "freeze"]):
            raise error

    return happen


def unlucky(world: World, *, spot: bool = True, **accidents: Any) -> Unlucky:
    world.fresh()
    if spot:
        file = world.path / "recipes" / "web.yaml"
        file.write_text(file.read_text() + "builder: {spot: true}\n")
    host_work = world.host_work = Unlucky(world, **accidents)
    return host_work


def markets(world: World) -> list[str]:
    """How the instances of the build were paid for, in the order of their launch."""
    found = world.client("ec2", world.environment.home_place).describe_instances()["Reservations"]
    # Launch times have whole seconds on AWS; the sandbox keeps its instances in the order of their launch.
    order = list(world.paper.cloud.ec2._cloud.store.instances)
    instances = sorted((i for r in found for i in r["Instances"]), key=lambda i: order.index(i["InstanceId"]))
    return [i.get("InstanceLifecycle", "on-demand") for i in instances]


def test_reclaimed_instances_are_replaced_and_then_paid_for(world: World) -> None:
    host_work = unlucky(world, builders=[reclaimed], proofs=[reclaimed])
    outcome = world.build()
    assert [(r.purpose, r.reclaimed) for r in outcome.manifest.replacements] == [("builder", True), ("proof", True)]
    assert {r.reason for r in outcome.manifest.replacements} == {"EC2 reclaimed the spot instance"}
    assert len(host_work.prepared) == len(host_work.proved) == 1
    assert markets(world) == ["spot", "spot", "spot", "on-demand"]
    told = [e.fields for e in world.events if e.kind == "host.replaced"]
    assert [(f["purpose"], f["number"], f["limit"]) for f in told] == [("builder", 1, 2), ("proof", 1, 2)]
    assert [r.instance_id for r in outcome.manifest.replacements] == [f["instance_id"] for f in told]


def test_replacing_has_an_end_and_resume_begins_anew(world: World) -> None:
    host_work = unlucky(world, proofs=[reclaimed, reclaimed, terminated(ConnectionLost("lost"))])
    with pytest.raises(HostLost, match=r"was lost: it is (shutting-down|terminated)") as caught:
        world.build()
    assert "builder.spot" in (caught.value.hint or "")
    outcome = world.resume()
    assert [r.reclaimed for r in outcome.manifest.replacements] == [True, True]
    assert markets(world) == ["spot", "spot", "spot", "on-demand", "on-demand"]
    assert len(host_work.prepared) == 1, "what was captured is not made again"


def test_builders_without_end(world: World) -> None:
    unlucky(world, builders=[reclaimed, reclaimed, terminated(ConnectionLost("lost"))])
    with pytest.raises(HostLost):
        world.build()
    assert markets(world) == ["spot", "spot", "on-demand"]
    assert inventory.take(world) == frozenset(), "nothing is left behind"


@pytest.mark.parametrize(
    "error",
    [
        OperationFailed("package nginx failed with exit status 100"),
        TestsFailed("3 of 4 tests failed"),
        BuilderError("the packages cannot be read from the host"),
    ],
    ids=lambda e: type(e).__name__,
)
def test_what_fails_on_an_instance_that_is_gone_has_not_failed(world: World, error: GoldenAmiError) -> None:
    unlucky(world, spot=False, builders=[terminated(error)], proofs=[terminated(error)])
    assert [r.purpose for r in world.build().manifest.replacements] == ["builder", "proof"]


def test_tests_that_the_watch_ended_are_not_interrupted(world: World) -> None:
    unlucky(world, spot=False, proofs=[noticed_by_the_watch])
    assert [r.purpose for r in world.build().manifest.replacements] == ["proof"]


@pytest.mark.parametrize(
    ("error", "reached", "replaced"),
    [
        (ConnectionLost("lost again and again"), True, True),
        (NotReachable("no SSH connection within 180 s"), True, True),
        (NotReachable("no SSH connection within 600 s"), False, False),
        (OperationDoubtful("it is unknown whether it ended"), True, True),
        (OperationFailed("exit status 1"), True, False),
        (TestsFailed("1 of 4 tests failed"), True, False),
        (NotBack("did not come back from its reboot within 600 s"), True, False),
        (Refused("accepts the login, and refuses a session for a command: Administratively prohibited"), True, False),
    ],
    ids=lambda v: type(v).__name__ if isinstance(v, Exception) else str(v),
)
def test_an_instance_that_runs(world: World, error: GoldenAmiError, reached: bool, replaced: bool) -> None:
    """It is replaced if it was there and is not any more; not for what another one would do as well."""
    unlucky(world, spot=False, builders=[failing(error)], reached=reached)
    if replaced:
        assert len(world.build().manifest.replacements) == 1
        return
    with pytest.raises(type(error)) as caught:
        world.build()
    assert caught.value is error
    if isinstance(error, BuilderError):
        assert "The last lines of its console:" in error.message or "console" not in error.message


def test_neither_ec2_nor_the_instance_answers(timed: World) -> None:
    """The error is that of the place: another instance would not answer either. A resume continues later."""

    def gone(world: World, host: Host, watch: Watch) -> None:
        world.gate.start(lambda label, call, serve: Response(0, drop=True))
        raise ConnectionLost("the connection was lost during a command")

    unlucky(timed, spot=False, builders=[gone])
    began = timed.clock.offset
    with pytest.raises(PlaceUnreachable, match=r"ec2 in 111111111111/eu-central-1 has not answered for \d+ s"):
        timed.build()
    assert timed.clock.offset - began < 60
    timed.gate.stop()
    assert inventory.take(timed), "nothing could be deleted"
    assert timed.resume().manifest.replacements == ()


class EndedAfterSealing(PaperHostWork):
    """Somebody terminates each builder between its sealing and its capture."""

    def __init__(self, world: World) -> None:
        super().__init__()
        self._world = world

    def prepare(self, build: BuildContext, architecture: Architecture, host: Host) -> Prepared:
        made = super().prepare(build, architecture, host)
        ec2 = self._world.client("ec2", self._world.environment.home_place)
        ec2.terminate_instances(InstanceIds=[host.instance_id])
        return made


def test_a_builder_that_is_gone_before_its_capture_is_told(world: World) -> None:
    world.fresh()
    world.host_work = EndedAfterSealing(world)
    with pytest.raises(BuilderError, match="before its capture, expected running or stopped") as caught:
        world.build()
    assert "CloudTrail" in (caught.value.hint or "")


def test_a_builder_that_runs_only_after_a_refusal_is_captured(world: World) -> None:
    """EC2 refused the capture of a pending builder, and says that it runs when it is asked about it."""
    world.fresh()
    world.paper.set(faults=[{"action": "CreateImage", "code": "IncorrectState", "status": 400, "times": 1}])
    assert world.build().status == "released"


def test_a_builder_that_was_captured_is_not_captured_again(world: World) -> None:
    """Unless it is frozen, EC2 starts it again after the snapshots, so it has host keys and a machine-id again, which
    must not be in an image."""
    world.fresh()
    decoys = inventory.place_decoys(world)
    world.paper.node.failures["store_snapshot"] = "the disk is broken"
    request = pipeline.Request(world.project, world.environment, RECIPE)
    with pytest.raises(CloudError, match=r"image ami-\w+ in .* failed"):
        pipeline.build(
            request, emit_to=world.events.append, host_work=world.host_work, cloud=world.cloud, on_failure="keep"
        )
    first = len(launched(world))
    world.paper.node.failures.clear()
    assert world.resume().status == "released"
    assert len(launched(world)) - first == 2, "a new builder, and the instance of gate 2"
    check(world, decoys, released=True)


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_builder_that_may_have_been_captured_is_not_captured_again(world: World, when: str) -> None:
    """The process dies at CreateImage, and the image is not found: somebody may have deleted it."""
    world.fresh()
    decoys = inventory.place_decoys(world)
    here = world.environment.home_place
    ec2 = world.client("ec2", here)
    others = {image["ImageId"] for image in ec2.describe_images(Owners=["self"])["Images"]}
    world.build_until(Label("ec2", "CreateImage", here.account, here.region, 1), when)
    assert world.behind.settle()
    made = [image for image in ec2.describe_images(Owners=["self"])["Images"] if image["ImageId"] not in others]
    assert len(made) == (when == "after")
    for image in made:
        ec2.deregister_image(ImageId=image["ImageId"])
        ec2.delete_snapshot(SnapshotId=image["BlockDeviceMappings"][0]["Ebs"]["SnapshotId"])
    assert world.resume().status == "released"
    first, second = world.host_work.prepared
    captured = [c["ids"] for c in world.paper.calls if c["action"] == "CreateImage" and c["status"] == 200]
    assert [(first in ids, second in ids) for ids in captured] == [(True, False)] * len(made) + [(False, True)]
    check(world, decoys, released=True)


class Deadly(PaperHostWork):
    """The process dies when a builder is sealed, before its next call."""

    def __init__(self, world: World) -> None:
        super().__init__()
        self._world = world
        self.deadly = True

    def prepare(self, build: BuildContext, architecture: Architecture, host: Host) -> Prepared:
        if self.deadly:
            self._world.cloud.die()
        return super().prepare(build, architecture, host)


def test_a_new_builder_is_kept_while_the_failed_image_is_still_there(world: World) -> None:
    """The image of the first builder failed, and the process dies before it deletes it for the second builder's."""
    world.fresh()
    decoys = inventory.place_decoys(world)
    world.paper.node.failures["store_snapshot"] = "the disk is broken"
    request = pipeline.Request(world.project, world.environment, RECIPE)
    with pytest.raises(CloudError, match=r"image ami-\w+ in .* failed"):
        pipeline.build(request, host_work=world.host_work, cloud=world.cloud, on_failure="keep")
    world.paper.node.failures.clear()
    host_work = world.host_work = Deadly(world)
    with pytest.raises(Death):
        world.resume()
    host_work.deadly = False
    assert len(host_work.prepared) == 1
    assert world.resume().status == "released"
    assert len(host_work.prepared) == 1, "the second builder was sealed, and not captured"
    check(world, decoys, released=True)


def capture_by(world: World, how: str) -> None:
    """Change the recipe: "freeze" or "shutdown"."""
    file = world.path / "recipes" / "web.yaml"
    file.write_text(f"{file.read_text()}builder: {{capture: {how}}}\n")
    world.project = recipes.load_project(world.path)


def build_until_capture(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Build, and die with a sealed builder, before the call that captures it."""

    def die(*_: object, **__: object) -> str:
        world.cloud.die()
        raise Death

    with monkeypatch.context() as patch:
        patch.setattr(images, "create", die)
        with pytest.raises(Death):
            world.build()


@pytest.mark.parametrize("how", ["freeze", "shutdown"])
def test_a_sealed_builder_is_captured_after_a_crash_as_it_was_to_be(
    world: World, how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was frozen, and stays so: EC2 need not shut it down, and nobody logs in again."""
    world.fresh()
    decoys = inventory.place_decoys(world)
    capture_by(world, how)
    build_until_capture(world, monkeypatch)
    assert world.resume().status == "released"
    [builder] = world.host_work.prepared
    assert (("stop", builder) in world.paper.node.calls) == (how == "shutdown")
    check(world, decoys, released=True)


@pytest.mark.parametrize(
    "error", [ConnectionLost("the VPN was stopped"), BuilderError("the stage freeze did not end within 600 s")]
)
def test_a_builder_that_is_lost_by_freezing_is_replaced_by_one_that_is_shut_down(
    world: World, error: GoldenAmiError
) -> None:
    host_work = unlucky(world, spot=False, builders=[lost_by_freezing(error)])
    outcome = world.build()
    [replaced], [builder] = outcome.manifest.replacements, host_work.prepared
    assert "was not frozen in ten minutes" in replaced.reason
    assert ("stop", builder) in world.paper.node.calls
    told = [e.fields["message"] for e in world.events if e.kind == "note"]
    assert any(error.message in text and "the next one is not" in text for text in told)


@pytest.mark.parametrize(
    ("stages", "error"),
    [
        (["seal"], ConnectionLost("lost")),
        (["seal", "freeze"], HostLost("lost", instance_id="i-1", reason="EC2 reclaimed the spot instance")),
        (["seal", "freeze"], Interrupted("interrupted")),
    ],
)
def test_what_is_not_lost_by_freezing_stays_what_it_is(stages: list[str], error: GoldenAmiError) -> None:
    with pytest.raises(type(error)) as caught, freezing("i-1", stages):
        raise error
    assert caught.value is error


def test_a_builder_that_is_lost_by_freezing_is_replaced_once_more_than_others(world: World) -> None:
    by_freezing = lost_by_freezing(ConnectionLost("the VPN was stopped"))
    host_work = unlucky(world, builders=[reclaimed, reclaimed, by_freezing])
    assert [r.reclaimed for r in world.build().manifest.replacements] == [True, True, False]
    [builder] = host_work.prepared
    assert ("stop", builder) in world.paper.node.calls
    told = [e.fields for e in world.events if e.kind == "host.replaced"]
    assert [(f["number"], f["limit"]) for f in told] == [(1, 2), (2, 2), (3, 3)]

    unlucky(world, spot=False, builders=[by_freezing] * 5)
    with pytest.raises(HostLost, match="was not frozen"):
        world.build()
    assert len(markets(world)) == 4


class StoppedWhileFreezing(PaperHostWork):
    """The first builder is lost by freezing while the build is being stopped."""

    stops = True

    def prepare(self, build: BuildContext, architecture: Architecture, host: Host) -> Prepared:
        if self.stops:
            build.stop.set()
            with freezing(host.instance_id, ["seal", "freeze"]):
                raise ConnectionLost("the VPN was stopped")
        return super().prepare(build, architecture, host)


def test_a_resume_does_not_freeze_after_a_loss_by_freezing(world: World) -> None:
    world.fresh()
    host_work = world.host_work = StoppedWhileFreezing()
    request = pipeline.Request(world.project, world.environment, RECIPE)
    with pytest.raises(GoldenAmiError):
        pipeline.build(request, host_work=host_work, cloud=world.cloud, on_failure="keep")
    host_work.stops = False
    assert world.resume().status == "released"
    [builder] = host_work.prepared
    assert ("stop", builder) in world.paper.node.calls


class Forgetful(PaperHostWork):
    """It does not say when a builder was started, as journals of older versions."""

    def prepare(self, build: BuildContext, architecture: Architecture, host: Host) -> Prepared:
        return replace(super().prepare(build, architecture, host), launched="")


@pytest.mark.parametrize(
    ("how", "known", "replaced"),
    [
        ("freeze", True, "was stopped and started"),
        ("shutdown", True, "was stopped and started"),
        ("freeze", False, "may have been stopped and started"),
        ("shutdown", False, ""),
    ],
)
def test_a_sealed_builder_that_was_started_again_is_replaced(
    world: World, how: str, known: bool, replaced: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.fresh()
    decoys = inventory.place_decoys(world)
    capture_by(world, how)
    if not known:
        world.host_work = Forgetful()
    build_until_capture(world, monkeypatch)
    [first] = world.host_work.prepared
    world.paper.cloud.ec2._cloud.store.instances[first].launched += 60
    assert world.resume().status == "released"
    told = [e.fields["message"] for e in world.events if e.kind == "note"]
    assert any(f"{first} {replaced}, so" in text for text in told) == bool(replaced)
    assert len(world.host_work.prepared) == (2 if replaced else 1)
    check(world, decoys, released=True)


def launched(world: World) -> list[str]:
    """The launches that EC2 accepted, as ids of their requests."""
    return [c["request_id"] for c in world.paper.calls if c["action"] == "RunInstances" and c["status"] == 200]
