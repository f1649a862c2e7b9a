"""Random histories of whole commands: a restore to a time gives the contents that the instance had then, or is refused.

The commands are those of the command line, on the cloud of paper. Contents are block lists beside it: a test writes
them, and follows what plain boto3 shows of volumes and snapshots. tests/snapshots/test_history.py has many more
histories, of the functions alone.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import pytest

from goldenami import recipe
from goldenami.aws.session import Cloud
from goldenami.schedules.run import error_of, run
from tests.worlds.volumes import Estate, tags_of

Blocks = tuple[int, ...]
DEVICE = "/dev/sdf"
SCHEDULE = """
    schedules:
      often:
        what: {volumes: {tags: {backup: often}}}
        when: "*/10 * * * *"
        retention: {keep: 100}
"""
EVENTS = ("write", "write", "create", "schedule", "schedule", "foreign", "encrypt", "restore", "undo")
LENGTH = 9  # events of a history
# The two of a sample find it if a restore takes the last snapshot of any volume.
SEEDS = (14, *range(14), *range(15, 20), 37, *range(20, 37), 38, 39)


@dataclass
class Life:
    """The life of one device. ``known``: what the last snapshot of a volume's contents has while it was attached; an
    encryption goes on with it, and a restore begins with its snapshot. ``then``: that, at each time of a change."""

    estate: Estate
    blocks: dict[str, Blocks] = field(default_factory=dict)  # of volumes
    saved: dict[str, Blocks] = field(default_factory=dict)  # of snapshots
    known: dict[str, Blocks | None] = field(default_factory=dict)
    then: list[tuple[datetime, Blocks | None]] = field(default_factory=list)
    events: list[tuple[datetime, datetime, bool]] = field(default_factory=list)  # whether volumes were exchanged
    told: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.blocks[self.volume], self.known[self.volume] = (0,), None
        self.note(self.now())

    @property
    def volume(self) -> str:
        return self.estate.attached()[DEVICE]

    def now(self) -> datetime:
        """A moment after everything so far. The times of EC2's attachments have whole seconds."""
        self.estate.settle()
        self.estate.world.clock.sleep(3)
        moment = datetime.fromtimestamp(int(self.estate.world.clock.now()), UTC)
        self.estate.world.clock.sleep(3)
        return moment

    def note(self, moment: datetime) -> None:
        self.then.append((moment, self.known[self.volume]))

    # --- what happens -------------------------------------------------------------------------------------------------

    def happen(self, name: str, chance: random.Random) -> None:
        before, start = self.volume, self.now()
        there = set(self.estate.snapshots())
        self.told.append(getattr(self, name)(chance) or name)
        after, end = self.volume, self.now()
        self.events.append((start, end, after != before))
        if after not in self.blocks:
            source = self.estate.volumes()[after].get("SnapshotId", "")
            # An encryption deletes its snapshot at the end, and has the contents of the volume.
            self.blocks[after] = self.saved.get(source, self.blocks[before])
            self.known[after] = self.saved.get(source, self.known[before])
        for id, snapshot in self.estate.snapshots().items():
            of = snapshot["VolumeId"]
            if id not in there and of in self.blocks:
                self.saved[id] = self.blocks[of]
                if of == before:
                    self.known[of] = self.saved[id]
        self.note(end)

    def write(self, chance: random.Random) -> None:
        self.blocks[self.volume] = (*self.blocks[self.volume], chance.randrange(1 << 30))

    def create(self, chance: random.Random) -> None:
        self.estate.run("snapshot", "create", "web-1", "--exclude-root", "--name", f"p{len(self.told)}")

    def schedule(self, chance: random.Random) -> None:
        world = self.estate.world
        world.clock.sleep(600)
        every = recipe.schedules(world.project, world.environment)
        done = run(world.environment, every, datetime.fromtimestamp(world.clock.now(), UTC), cloud=world.cloud)
        assert error_of(done) is None

    def foreign(self, chance: random.Random) -> None:
        """Another program takes a snapshot of any volume, also of a kept one."""
        self.estate.snapshot(chance.choice(sorted(self.blocks)))

    def encrypt(self, chance: random.Random) -> None:
        self.estate.run("volume", "encrypt", "web-1", "--device", DEVICE, "--yes")

    def restore(self, chance: random.Random) -> str:
        """To any moment of the past; a command that refuses changes nothing."""
        moment = self.moment(chance)
        before, to = self.volume, f"{moment:%FT%TZ}"
        code, _, said = self.estate.try_("snapshot", "restore", "web-1", "--device", DEVICE, "--to", to, "--yes")
        if code == 0:
            source = self.estate.volumes()[self.volume]["SnapshotId"]
            self.compare(moment, self.saved[source])
        else:
            assert (code, self.volume) == (3, before), said
            self.compare(moment, None)
        return f"restore to {to}: {code}"

    def undo(self, chance: random.Random) -> None:
        command = ("snapshot", "restore", "web-1", "--undo", "--unencrypted", "--yes")
        code, _, said = self.estate.try_(*command)
        assert code in (0, 3), said

    # --- asked --------------------------------------------------------------------------------------------------------

    def moment(self, chance: random.Random) -> datetime:
        first, last = self.then[0][0], self.then[-1][0]
        return first + timedelta(seconds=chance.randrange(int((last - first).total_seconds()) + 1))

    def planned(self, moment: datetime) -> Blocks | None:
        """What a restore to a moment would give; None if it is refused."""
        to = ("--to", f"{moment:%FT%TZ}", "--device", DEVICE, "--dry-run")
        code, out, said = self.estate.try_("snapshot", "restore", "web-1", *to)
        if code != 0:
            assert code == 3, (out, said)
            return None
        found = [id for id in self.saved if id in out]
        assert len(found) == 1, out
        return self.saved[found[0]]

    def compare(self, moment: datetime, found: Blocks | None) -> None:
        """Of a moment within an event, what was before it and what was after it are both right."""
        expected = {next(known for time, known in reversed(self.then) if time <= moment)}
        for number, (start, end, exchanged) in enumerate(self.events):
            if start <= moment <= end:
                expected |= {self.then[number][1], self.then[number + 1][1], *([None] if exchanged else [])}
        assert found in expected, (f"{moment:%T}", self.told, [(f"{time:%T}", known) for time, known in self.then])


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.sample(20)
def test_a_restore_to_any_time_gives_what_the_instance_had_or_is_refused(
    seed: int, estate: Estate, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Cloud, "now", lambda _: datetime.fromtimestamp(estate.world.clock.now(), UTC))
    file = estate.world.path / "goldenami.yaml"
    file.write_text(file.read_text() + SCHEDULE.lstrip("\n"))
    estate.world.project = recipe.load_project(estate.world.path)
    estate.world.environment = recipe.environment(estate.world.project, "test")
    estate.ec2().create_tags(Resources=[estate.data], Tags=[{"Key": "backup", "Value": "often"}])
    chance, life = random.Random(seed), Life(estate)
    for _ in range(LENGTH):
        life.happen(chance.choice(EVENTS), chance)
    for moment in [life.moment(chance), life.then[-1][0]]:
        life.compare(moment, life.planned(moment))
    assert not set(life.blocks) - set(estate.volumes()), "nothing is deleted"
    kept = [one for id, one in estate.volumes().items() if id in life.blocks and id != life.volume]
    assert all("backup" not in tags_of(one) for one in kept), "no schedule has a kept volume"
