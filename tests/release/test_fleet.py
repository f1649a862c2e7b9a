"""The fleet: instances of all accounts, by the release that they run."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from goldenami.model import Place
from goldenami.release.fleet import read_fleet
from tests.worlds.builds import APPS, CHANNEL, HOME, PLACES, World
from tests.worlds.retiring import releases


def test_instances_are_counted_by_release_and_place(build_world: World) -> None:
    build_world.fresh()
    first, second = releases(build_world, 2)
    of_first = {row.place: row.image_id for row in first.images}
    of_second = {row.place: row.image_id for row in second.images}
    home, shared = PLACES[0], next(place for place in PLACES if place.account == APPS)

    def launch(place: Place, image_id: str, count: int) -> list[str]:
        made = build_world.client("ec2", place).run_instances(
            ImageId=image_id, InstanceType="t3.micro", MinCount=count, MaxCount=count
        )
        return [instance["InstanceId"] for instance in made["Instances"]]

    old = launch(home, of_first[home], 3)
    launch(shared, of_first[shared], 1)
    launch(home, of_second[home], 1)
    build_world.behind.ec2.settle()
    ec2 = build_world.client("ec2", home)
    ec2.terminate_instances(InstanceIds=old[:1])
    ec2.stop_instances(InstanceIds=old[1:2])
    build_world.behind.ec2.settle()
    now = datetime.fromisoformat(first.created).astimezone(UTC) + timedelta(days=3, hours=1)
    fleet = read_fleet(build_world.cloud, build_world.environment, build_world.catalog.indexed(), now)
    assert fleet.unreachable == {}
    rows = {row.release.entry.version: row for row in fleet.releases}
    assert rows[first.version].instances == {home: 2, shared: 1}
    assert (rows[first.version].count, rows[first.version].running) == (3, 2)
    assert (rows[first.version].age_days, rows[first.version].newer) == (3, 1)
    assert rows[second.version].instances == {home: 1}
    assert rows[second.version].release.channels == (CHANNEL,)
    of_none = read_fleet(build_world.cloud, build_world.environment, build_world.catalog.indexed(), now, "other-*")
    assert of_none.releases == ()
    assert of_none.others == fleet.others + 4
    assert {place.account for place in rows[first.version].instances} == {HOME, APPS}
