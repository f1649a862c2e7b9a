"""Measure a build with many targets: `python -m benchmarks.distribution [--regions N] [--copies N] [--shares N]`.

`python -m benchmarks.distribution --scale 10,100,1000` prints a row for each number of targets with images of their
own, and a build that is killed in the midst of its copies and resumed.

One recipe of one architecture is built into a grid of places: in each region an image of the home account, an image of
each of ``--copies`` other accounts, and the use of the home account's image by each of ``--shares`` accounts. The
control plane is the sandbox's, instances have no contents, and time is virtual (`tests/worlds/events.py`), so all
figures but those of this machine are the same on a busy machine. EC2 throttles as AWS does by default.

The figures are calls (by stage and action), throttled calls, virtual seconds beside what the quotas allow at best,
threads, processor time and memory. The cloud is a process of its own, so the last two are those of goldenami, with what
the benchmark itself loads (the code of the sandbox and of the tests: about 20 MiB). Needs no credentials and no root.
With ``--json`` the figures are one line of JSON.

Beside the goal is what the reads and changes of a build need at least, if each wait takes one look: see ``OWNED``,
``SHARED`` and ``Grid.needed_calls``.
"""

from __future__ import annotations

import argparse
import gc
import json
import re
import resource
import tempfile
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary, WeakSet

import pytest
from goldenami_sandbox.calllog import result_code
from goldenami_sandbox.cloud import Cloud as SandboxCloud
from goldenami_sandbox.ec2.paper import PaperNode
from goldenami_sandbox.http import Response
from goldenami_sandbox.optin import DEFAULT
from goldenami_sandbox.protocol import Call, regions
from goldenami_sandbox.seed import KEY_ALIAS, key_policy
from goldenami_sandbox.settings import EC2_THROTTLE

from benchmarks.apart import Apart
from benchmarks.figures import note
from goldenami import pipeline, recipe
from goldenami.aws import descriptions, session
from goldenami.aws.errors import THROTTLE_CODES
from goldenami.events import Event
from goldenami.model import SshEndpoint
from goldenami.reconcile import Leftovers
from goldenami.release.verify import Readings
from goldenami.stages import learnt
from goldenami.stages.build import BuildContext
from tests.worlds import events
from tests.worlds.builds import HOME, RECIPE, REGIONS, SECRET, Label, MortalCloud, World
from tests.worlds.paper import PaperHostWork

START, STOP, CAPTURE, COPY = 20.0, 30.0, 90.0, 240.0  # seconds of EC2
PER_TARGET, FIXED = 12, 60  # calls of a build, at most
# Calls that a target takes at least, by stage. One that owns an image is in a place of its own, so none is for several.
OWNED = {
    "plan": 3,  # free names of images, and of parameters; whether the key may be used
    "copy": 4,  # CopyImage, its progress, its end, the deprecation
    "verify": 2,  # who may use the image and its snapshot: the end of its copy has told the rest
    "publish": 7,  # 1 + 3 parameters, two reads of them, the expiry tag of the image and its snapshots
}
SHARED = {
    "plan": 2,  # free names of parameters, Allowed AMIs
    "copy": 1,  # the grant
    "verify": 1,  # whether the account sees the image
    "publish": 5,  # 1 + 3 parameters, a read of them
}
ACCOUNT = 4  # its role, and three simulations of its policies
LENDER = 2  # for each image that is shared: its launch permissions and those of its snapshot are changed
CHANNEL = 2  # for each target, if the channel exists: whether its parameters are ours, and their values
FORMER = 1  # for each image, if there is a former release: whether it has fast restores
BUILD = 41  # of any build: its facts, the builder, the candidate, the tests, the clean-up
SETTINGS: dict[str, Any] = {
    "pending": {"instance": START, "stop": STOP, "image": CAPTURE, "copy": COPY},
    "throttle": EC2_THROTTLE,
}


@dataclass(frozen=True)
class Grid:
    """The places of a release. ``copies``, ``shares``: accounts beside the home account, in each region.
    ``more``: lines of the environment."""

    regions: int = 3
    copies: int = 0
    shares: int = 2
    more: str = ""

    @property
    def targets(self) -> int:
        return self.regions * (1 + self.copies + self.shares)

    @property
    def owned(self) -> int:
        return self.regions * (1 + self.copies)

    @property
    def places(self) -> tuple[str, ...]:
        """The regions: the home region first."""
        others = [region for region in (*sorted(DEFAULT), *sorted(regions() - DEFAULT)) if region != REGIONS[0]]
        return (REGIONS[0], *others)[: self.regions]

    @property
    def accounts(self) -> dict[str, str]:
        """Name -> id of all accounts."""
        found = {"home": HOME}
        found |= {f"copy-{n}": f"{200_000_000_000 + n}" for n in range(self.copies)}
        return found | {f"share-{n}": f"{300_000_000_000 + n}" for n in range(self.shares)}

    @property
    def environment(self) -> str:
        listed = ", ".join(self.places)
        lines = [
            "environments:",
            "  test:",
            f'    home: {{account: "{HOME}", region: {self.places[0]}}}',
            "    network: {source_cidr: 192.0.2.7/32}",
            "    catalog: catalog",
            *self.more.splitlines(),
            "    accounts:" if self.copies or self.shares else "",
        ]
        targets = [f"      - {{account: home, regions: [{listed}], kms_key: alias/golden-ami}}"]
        for name, id in self.accounts.items():
            if name == "home":
                continue
            role = f"arn:aws:iam::{id}:role/goldenami-publisher"
            lines.append(f'      {name}: {{id: "{id}", role: "{role}"}}')
            how = "mode: share" if name.startswith("share-") else "kms_key: alias/golden-ami"
            targets.append(f"      - {{account: {name}, regions: [{listed}], {how}}}")
        return "\n".join([*filter(None, lines), "    targets:", *targets, ""])

    @property
    def bound(self) -> float:
        """What EC2's delays allow at best, in seconds: no place gets more copies than may be under way at once. The
        builder is frozen for its capture, so EC2 does not shut it down. Nothing waits for the end of the instance of
        gate 2."""
        return START + CAPTURE + (max(COPY, START) if "encryption: launch" in self.more else COPY + START)

    @property
    def needed_calls(self) -> int:
        """The calls that all this takes at least."""
        shares = self.regions * self.shares
        owned = sum(OWNED.values()) * self.owned + sum(SHARED.values()) * shares
        lenders = (LENDER if shares else 0) * self.regions
        return owned + ACCOUNT * (self.copies + self.shares) + lenders + BUILD

    @property
    def most_calls(self) -> int:
        return PER_TARGET * self.targets + FIXED


@dataclass
class Figures:
    """What a build took. ``calls``: (stage, service:Action) -> number. ``refused``: service:Action and code -> number.
    ``cpu``: stage -> processor seconds of this process. ``cloud``: those of them that the cloud took. ``seconds``:
    virtual ones. ``memory``: the largest, in MiB. ``threads``: the most at any call, which a slow machine has more of:
    ``pools``: those by their names without numbers. ``widest``: such a name -> how many have had numbers so far, in one
    pool."""

    calls: Counter[tuple[str, str]] = field(default_factory=Counter)
    refused: Counter[str] = field(default_factory=Counter)
    seconds: float = 0.0
    cpu: dict[str, float] = field(default_factory=lambda: defaultdict(float))
    cloud: dict[str, float] = field(default_factory=lambda: defaultdict(float))
    threads: int = 0
    pools: Counter[str] = field(default_factory=Counter)
    widest: Counter[str] = field(default_factory=Counter)
    clients: int = 0
    kinds: int = 0  # of clients, each with methods of its own
    memory: int = 0

    @property
    def throttled(self) -> int:
        return sum(number for what, number in self.refused.items() if what.split()[1] in THROTTLE_CODES)

    @property
    def count(self) -> int:
        return sum(self.calls.values())

    def count_threads(self, names: Sequence[str], others: int = 0) -> None:
        """Take the names of the threads that there are at a moment. ``others``: how many more there are, of what the
        process did before."""
        self.threads = max(self.threads, len(names) + others)
        counted: Counter[str] = Counter()
        for name in names:
            part = re.fullmatch(r"(.*?)[ _-](\d+).*", name)
            pool, number = (part[1], int(part[2]) + 1) if part else (name, 1)
            counted[pool] += 1
            self.widest[pool] = max(self.widest[pool], number)
        self.pools |= counted

    def own_cpu(self, stage: str) -> float:
        """Return the processor seconds of a stage without those of the cloud."""
        return max(0.0, self.cpu[stage] - self.cloud[stage])

    def by(self, part: int) -> dict[str, int]:
        """Return the numbers of calls by stage (0) or by action (1), the largest first."""
        found: Counter[str] = Counter()
        for key, number in self.calls.items():
            found[key[part]] += number
        return dict(found.most_common())

    def to_json(self, grid: Grid) -> dict[str, Any]:
        return {
            "schema": "goldenami.benchmark.distribution/1",
            "grid": {"regions": grid.regions, "copies": grid.copies, "shares": grid.shares},
            "targets": grid.targets,
            "owned": grid.owned,
            "calls": {
                "number": self.count,
                "at_most": grid.most_calls,
                "needed": grid.needed_calls,
                "by_stage": self.by(0),
                "by_action": self.by(1),
            },
            "throttled": self.throttled,
            "refused": dict(self.refused),
            "virtual_seconds": round(self.seconds, 1),
            "bound_seconds": grid.bound,
            "threads": self.threads,
            "clients": self.clients,
            "memory_mib": self.memory,
            "cpu_seconds": {stage: round(seconds, 3) for stage, seconds in self.cpu.items()},
            "own_cpu_seconds": {stage: round(self.own_cpu(stage), 3) for stage in self.cpu},
        }


class Meter:
    """Counts what a build does, while it runs."""

    def __init__(self, clock: events.EventClock) -> None:
        self.figures = Figures()
        self._earlier = frozenset(threading.enumerate())  # of the process, and of what else it did before
        self._clock = clock
        self._used = clock.used
        self._stage = "plan"
        self._beside: WeakKeyDictionary[threading.Thread, str] = WeakKeyDictionary()  # whose stage is known
        self._copying: WeakSet[threading.Thread] = WeakSet()
        self._began = time.process_time()
        self._apart = 0.0  # seconds since then that are those of stages beside others
        self._runs_from = 0.0  # by the clock: the instance that was launched last
        self._since = threading.local()  # when a thread began with such a stage, by its own processor time
        self._mutex = threading.Lock()

    @property
    def is_running(self) -> bool:
        """Whether the instance that was launched last runs."""
        return self._clock.now() >= self._runs_from

    def told(self, event: Event) -> None:
        """Take an event of the build: whose stage it is that works now. The verification is beside others, so its
        processor time is that of its threads; so is that of the clean-up."""
        stage = event.fields.get("stage", "")
        if stage == "verify":
            if event.kind == "stage.started":
                self._begin(stage)
            elif event.kind == "stage.finished":
                self._end(stage)
        elif event.kind == "stage.started" and not event.fields.get("beside"):
            with self._mutex:
                now = time.process_time()
                self.figures.cpu[self._stage] += now - self._began - self._apart
                # The clock of the benchmark is no part of goldenami either.
                self.figures.cloud[self._stage] += self._clock.used - self._used
                self._used = self._clock.used
                self._stage, self._began, self._apart = stage, now, 0.0

    def _begin(self, stage: str) -> None:
        with self._mutex:
            self._beside[threading.current_thread()] = stage
        self._since.value = time.thread_time()

    def _end(self, stage: str) -> None:
        seconds = time.thread_time() - self._since.value
        with self._mutex:
            del self._beside[threading.current_thread()]
            self.figures.cpu[stage] += seconds
            self._apart += seconds

    def _part_of(self, stage: str, work: Callable[..., object]) -> Callable[..., object]:
        """Return a function that is a part of a stage beside others, with all threads that it starts."""

        def one(*arguments: Any) -> object:
            self._begin(stage)
            try:
                return work(*arguments)
            finally:
                self._end(stage)

        return one

    @contextmanager
    def following(self) -> Iterator[None]:
        """Inside, a thread that another one starts is in the stage of that one. What reads the images back while others
        are copied is a part of the verification, and what deletes the rest beside the publication of the clean-up."""
        start = threading.Thread.start

        def follow(thread: threading.Thread) -> None:
            with self._mutex:
                current = threading.current_thread()
                if current in self._beside:
                    work = self._part_of(self._beside[current], thread.run)
                    thread.run = work  # type: ignore[assignment, method-assign]
                elif current in self._copying or current.name.startswith("distribute"):
                    self._copying.add(thread)
            start(thread)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(threading.Thread, "start", follow)
            for kind, part, stage in (
                (Readings, "take", "verify"),
                (Readings, "read_back", "verify"),
                (Leftovers, "delete", "clean up"),
            ):
                patch.setattr(kind, part, self._part_of(stage, getattr(kind, part)))
            yield

    def call(self, _: Label, call: Call, serve: Callable[[], Response]) -> Response:
        """Count a call of the gate. The copies are a stage beside others, whose threads have its name or are started by
        those."""
        began = time.thread_time()
        answer = serve()
        code = result_code(answer)
        thread = threading.current_thread()
        with self._mutex:
            figures = self.figures
            stage = "copy" if thread in self._copying or thread.name.startswith("distribute") else self._stage
            stage = self._beside.get(thread, stage)
            figures.calls[stage, f"{call.service}:{call.action}"] += 1
            if call.action == "RunInstances":
                self._runs_from = self._clock.now() + START
            every = threading.enumerate()
            names = [one.name for one in every if one not in self._earlier]
            figures.count_threads(names, len(every) - len(names))
            if code != "ok":
                figures.refused[f"{call.service}:{call.action} {code}"] += 1
            # And what counting takes. The processor time of other stages is not told apart by threads.
            figures.cloud[self._beside.get(thread, self._stage)] += time.thread_time() - began
        return answer


def prepare(world: World, grid: Grid) -> None:
    """Begin a case in ``world`` with the places of a grid: its accounts and keys, and an environment with them."""
    world.accounts = grid.accounts
    world.fresh()
    furnish(world.behind, grid)
    open_project(world, grid)


class _Login:
    """A connection to a host that does nothing."""

    def close(self) -> None:
        pass


class _AnsweringHosts(PaperHostWork):
    """Hosts that let somebody in as soon as they run. The wait for a real instance ends with that, and not with a look
    at EC2."""

    def __init__(self, meter: Meter) -> None:
        super().__init__()
        self._meter = meter

    def answers(self, address: str, port: int) -> bool:
        return self._meter.is_running

    def log_in(self, build: BuildContext, endpoint: SshEndpoint) -> Any:
        return _Login()


class ApartWorld(World):
    """A world whose clouds are processes of their own, each with the places of a grid."""

    grid = Grid()

    def _open(self, node: PaperNode) -> None:
        clock = self.clock
        assert isinstance(clock, events.EventClock)
        node.start()
        cloud = Apart(self.accounts, SECRET, clock.now, furnish, [self.grid])
        self._node, self.gate.target = node, cloud  # type: ignore[assignment]
        clock.busy = cloud.busy

    def _changes(self) -> int:
        return 0  # nothing of such a world is remembered


class Unkept(list[Label]):
    """A list of the calls of a world that stays empty: its memory would count as that of goldenami."""

    def append(self, _: Label) -> None:
        pass

    def remove(self, _: Label) -> None:
        pass


def prepare_apart(world: ApartWorld, grid: Grid) -> None:
    """Begin a case with a cloud in a process of its own. It ends with the world."""
    world.grid, world.accounts = grid, grid.accounts
    world.fresh()
    open_project(world, grid)
    world.cloud.mutations = Unkept()
    # As a process of the command line makes its session: else each client looks for the names of its events anew.
    descriptions.install()
    descriptions.use(world.cloud._caller)
    session.EventNames.use(world.cloud._caller)


def furnish(cloud: SandboxCloud, grid: Grid) -> None:
    """Enable the regions of a grid in its accounts, make its keys, and set the delays and limits of EC2."""
    owners = [id for name, id in grid.accounts.items() if not name.startswith("share-")]
    for id in grid.accounts.values():
        for region in grid.places:
            cloud._optins.enable(id, region)
    surface = cloud.surface
    with surface.active():
        for id in owners:
            for region in grid.places:
                kms = surface.backend("kms", id, region)
                if not kms.alias_exists(KEY_ALIAS):
                    key = kms.create_key(key_policy(id), "ENCRYPT_DECRYPT", "SYMMETRIC_DEFAULT", "", None)
                    kms.create_alias(key.id, KEY_ALIAS)
    cloud.change(SETTINGS)


def open_project(world: World, grid: Grid) -> None:
    (world.path / "goldenami.yaml").write_text(grid.environment, encoding="utf-8")
    world.project = recipe.load_project(world.path)
    world.environment = recipe.environment(world.project, "test")
    direct = world.cloud._direct
    world.cloud = MortalCloud(world.clock, world.environment.accounts, world.environment.home_place, direct)
    world.cloud.start_process()


def run(world: World, grid: Grid) -> Figures:
    """Build the recipe into all places of a grid."""
    if isinstance(world, ApartWorld):
        prepare_apart(world, grid)
    else:
        prepare(world, grid)
    return measured(world)


def run_again(world: World) -> Figures:
    """Change the recipe and build it once more, in a new process: the channel and its parameters exist."""
    world.change_recipe("again")
    world.cloud.start_process()
    return measured(world)


def measured(world: World) -> Figures:
    """Build the recipe of a world, and count what that takes. As on a user's machine, a build knows what the last one
    learnt: how long waits took, and what roles may do."""
    gc.set_threshold(50_000, 20, 50)  # as goldenami.cli.main does
    clock = world.clock
    assert isinstance(clock, events.EventClock)
    meter = Meter(clock)
    world.gate.start(meter.call)
    began = world.clock.now()
    try:
        request = pipeline.Request(world.project, world.environment, RECIPE)
        with meter.following(), learnt.kept(world.environment, world.cloud):
            pipeline.build(request, emit_to=meter.told, host_work=_AnsweringHosts(meter), cloud=world.cloud)
    finally:
        world.gate.stop()
    meter.figures.seconds = world.clock.now() - began
    clients = world.cloud._clients.values()
    meter.figures.clients = len(clients)
    every = {kind for client in clients for kind in type(client).__mro__ if "_PY_TO_OP_NAME" in vars(kind)}
    meter.figures.kinds = len(every)
    meter.figures.memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10
    return meter.figures


def killed(world: ApartWorld, grid: Grid) -> tuple[int, int]:
    """Kill a build after half of its copies, and resume it. Return how many copies the first process sent, and how many
    both did."""
    prepare_apart(world, grid)
    owners = [id for name, id in grid.accounts.items() if not name.startswith("share-")]
    every = [(account, region) for account in owners for region in grid.places]
    account, region = every[len(every) // 2]
    world.gate.start(record=True)
    world.build_until(Label("ec2", "CopyImage", account, region, 1), "after")
    sent = [label for label in world.gate.recording or () if label.action == "CopyImage"]
    before = len(sent)
    world.resume()
    sent = [label for label in world.gate.recording or () if label.action == "CopyImage"]
    world.gate.stop()
    return before, len(sent)


def grid_of(number: int) -> Grid:
    """Return a grid in which so many targets own images: 10 regions, or 30 for thousands."""
    regions_ = 30 if number >= 3000 else min(10, number)
    return Grid(regions_, max(0, -(-number // regions_) - 1), 0)


def scale(numbers: Sequence[int], *, as_json: bool) -> None:
    """Print a row for each number of targets."""
    if not as_json:
        print(
            "targets   calls  a target  needed  throttled  virtual s  of the bound  threads  clients     MiB"
            "  ms of own CPU a target: verify  publish"
        )
    for number in numbers:
        grid = grid_of(number)
        with fresh_world() as world:
            figures = run(world, grid)
        if as_json:
            print(json.dumps(figures.to_json(grid)), flush=True)
            continue
        verify, publish = (1000 * figures.own_cpu(stage) / grid.targets for stage in ("verify", "publish"))
        note(f"{grid.targets} targets, calls a target", figures.count / grid.targets, "")
        note(f"{grid.targets} targets, throttled calls", 100 * figures.throttled / figures.count, "%", most=1)
        note(f"{grid.targets} targets, virtual time to the bound", figures.seconds / grid.bound, "", most=1.05)
        note(f"{grid.targets} targets, threads", figures.threads, "", most=100)
        note(f"{grid.targets} targets, memory", figures.memory, "MiB", most=400)
        note(f"{grid.targets} targets, verify", verify, "ms/target", most=5)
        note(f"{grid.targets} targets, publish", publish, "ms/target", most=5)
        print(
            f"{grid.targets:7} {figures.count:7} {figures.count / grid.targets:9.1f} {grid.needed_calls:7} "
            f"{figures.throttled:10} {figures.seconds:10.0f} {figures.seconds / grid.bound:13.2f} {figures.threads:8} "
            f"{figures.clients:8} {figures.memory:7} {verify:31.1f} {publish:8.1f}",
            flush=True,
        )
    grid = grid_of(max((number for number in numbers if number <= 1000), default=min(numbers)))
    with fresh_world() as world:
        before, after = killed(world, grid)
    if as_json:
        print(json.dumps({"killed": {"owned": grid.owned, "before": before, "copies": after}}))
    else:
        print(f"{grid.owned} targets, killed after {before} copies and resumed: {after} copies in all")


@contextmanager
def fresh_world() -> Iterator[ApartWorld]:
    with tempfile.TemporaryDirectory() as folder, events.timed_world(Path(folder), kind=ApartWorld) as world:
        assert isinstance(world, ApartWorld)
        yield world


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--regions", type=int, default=Grid.regions)
    parser.add_argument("--copies", type=int, default=Grid.copies, help="accounts with images of their own")
    parser.add_argument("--shares", type=int, default=Grid.shares, help="accounts that use the home account's images")
    parser.add_argument("--again", action="store_true", help="show the second build, over the channel of the first")
    parser.add_argument("--json", action="store_true", help="print the figures as one line of JSON")
    parser.add_argument("--scale", metavar="N,N", help="print a row for each of these numbers of targets")
    given = parser.parse_args()
    if given.scale:
        scale([int(number) for number in given.scale.split(",")], as_json=given.json)
        return
    grid = Grid(given.regions, given.copies, given.shares)
    with fresh_world() as world:
        first, following = run(world, grid), run_again(world)
    shown = following if given.again else first
    if given.json:
        print(json.dumps(shown.to_json(grid)))
        return
    print(f"{grid.targets} targets, {grid.owned} of them own an image:")
    for build, what in (("a build", first), ("the next build", following)):
        note(f"{build} for {grid.targets} targets, calls", what.count, "", most=grid.most_calls)
        note(f"{build} for {grid.targets} targets, throttled calls", what.throttled, "", most=0)
    show(shown, grid)
    if not given.again:
        again = f"{following.count} calls, {following.throttled} throttled"
        print(f"  The next build, over the channel of this one: {again}")


def show(figures: Figures, grid: Grid) -> None:
    """Print the figures of a build: its calls by stage and action, times and memory."""
    print(
        f"  {figures.count} calls (at most {grid.most_calls}; needed with one look a wait: {grid.needed_calls}), "
        f"{figures.throttled} throttled"
    )
    for stage, number in figures.by(0).items():
        print(f"  {number:8} {stage}, {figures.own_cpu(stage):.2f} s of CPU without the cloud")
        for action, count in figures.calls.most_common():
            if action[0] == stage:
                print(f"      {count:8} {action[1]}")
    print(f"  {figures.seconds:.0f} s of virtual time (EC2 alone: {grid.bound:.0f} s)")
    print(f"  {figures.threads} threads, {figures.clients} clients, {figures.memory} MiB")


if __name__ == "__main__":
    main()
