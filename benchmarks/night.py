"""Measure a night of many recipes: `python -m benchmarks.night [--recipes N] [--vcpus N] [--copies N]`.

It builds a project of bases, their children and theirs in one run of `goldenami build --all`, on paper: the control
plane is the sandbox's, instances have no contents, and the work on hosts takes the time that is set below. Time is
virtual and stands still while anything works (`tests/worlds/events.py`), so the figure is the same on a busy machine.
EC2 throttles as AWS does by default. Needs no credentials.

The bound is what no scheduler can beat: the longest chain of bases and children, and for each depth of the graph the
work at that depth and below, at the quota of vCPUs and of concurrent copies.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from goldenami_sandbox.settings import EC2_THROTTLE

from goldenami import many
from goldenami.model import Architecture, TestReport
from goldenami.stages.build import BuildContext, Candidate, Host, Prepared
from tests.worlds import events
from tests.worlds.builds import Clock, PaperHostWork, World
from tests.worlds.graph import write_graph

START, STOP, CAPTURE, COPY = 30.0, 20.0, 180.0, 420.0  # seconds of EC2
PREPARE, PROVE = 240.0, 60.0  # seconds of work on a host
BUILD = START + PREPARE + CAPTURE + COPY + START + PROVE
VCPUS = 2  # of t3.small


@dataclass(frozen=True)
class Night:
    """The recipes and the quotas. ``vcpus`` and ``copies``: at the same time."""

    recipes: int = 200
    vcpus: int = 128
    copies: int = 100

    @property
    def graph(self) -> dict[str, str | None]:
        """Recipe -> base: a base for every 25 recipes, four children of each, and the rest built on these. The first
        base is the recipe of the world."""
        bases = max(1, self.recipes // 25)
        found: dict[str, str | None] = {"web" if n == 0 else f"base-{n}": None for n in range(bases)}
        roots = list(found)
        children = [f"child-{n}" for n in range(4 * bases)]
        found |= {name: roots[n % bases] for n, name in enumerate(children)}
        found |= {f"app-{n}": children[n % len(children)] for n in range(self.recipes - len(found))}
        return found

    def bounds(self) -> dict[str, float]:
        """What limits the night -> seconds, at least."""
        depth = Counter(_depth(self.graph, name) for name in self.graph)
        found = {"the longest chain": BUILD * (max(depth) + 1)}
        for level in depth:
            below = sum(count for other, count in depth.items() if other >= level)
            on_builders = below * (START + PREPARE) * VCPUS / self.vcpus
            on_hosts = below * (START + PREPARE + START + PROVE) * VCPUS / self.vcpus
            copying = below * COPY / self.copies
            before = level * BUILD
            found[f"builders from depth {level} on"] = before + on_builders + BUILD - START - PREPARE
            found[f"instances from depth {level} on"] = before + on_hosts
            found[f"copies from depth {level} on"] = before + BUILD - COPY - START - PROVE + copying + START + PROVE
        return found


def _depth(graph: Mapping[str, str | None], name: str) -> int:
    base = graph[name]
    return 0 if base is None else 1 + _depth(graph, base)


class _Hosts(PaperHostWork):
    """Work on hosts takes its time."""

    def __init__(self, clock: Clock) -> None:
        super().__init__()
        self._clock = clock

    def prepare(self, build: BuildContext, architecture: Architecture, host: Host) -> Prepared:
        self._clock.sleep(PREPARE)
        return super().prepare(build, architecture, host)

    def prove(self, build: BuildContext, made: Candidate, host: Host) -> TestReport:
        self._clock.sleep(PROVE)
        return super().prove(build, made, host)


def run(world: World, night: Night) -> tuple[float, tuple[many.Result, ...]]:
    """Build all recipes. Returns the virtual seconds, and the results."""
    world.fresh()
    write_graph(world, night.graph)
    for name in ("app", "shop", "cart", "other"):
        (world.path / f"recipes/{name}.yaml").unlink(missing_ok=True)
    world.paper.set(
        pending={"instance": START, "stop": STOP, "image": CAPTURE, "copy": COPY},
        vcpu_quotas={"L-1216C47A": night.vcpus},
        concurrent_image_copies=night.copies,
        throttle=EC2_THROTTLE,
    )
    work = many.choose(world.project, world.environment, (), {})
    options = many.Options(host_work=_Hosts(world.clock), cloud=world.cloud)
    began = world.clock.now()
    results = many.build(world.project, world.environment, work, options, at_once=night.recipes)
    return world.clock.now() - began, results


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--recipes", type=int, default=Night.recipes)
    parser.add_argument("--vcpus", type=int, default=Night.vcpus, help="the quota")
    parser.add_argument("--copies", type=int, default=Night.copies, help="images that are copied at the same time")
    given = parser.parse_args()
    night = Night(given.recipes, given.vcpus, given.copies)
    wall, cpu = time.monotonic(), time.process_time()
    with tempfile.TemporaryDirectory() as folder, events.timed_world(Path(folder)) as world:
        took, results = run(world, night)
        calls = Counter((c["action"], c["result"]) for c in world.paper.calls)
    print(f"{len(results)} recipes: {dict(Counter(one.status for one in results))}")
    for result in results:
        if result.error is not None:
            print(f"    {result.recipe}: {result.error.message[:200]}")
    for why, seconds in sorted(night.bounds().items(), key=lambda one: -one[1])[:4]:
        print(f"    {seconds:8.0f} s  {why}")
    bound = max(night.bounds().values())
    print(f"the night takes {took:.0f} s, {took / bound:.3f} of the bound of {bound:.0f} s (at most 1.1)")
    refused = {f"{action} {result}": n for (action, result), n in calls.items() if result != "ok" and n > 2}
    print(f"{sum(calls.values())} calls, {refused} refused")
    print(f"this machine: {time.monotonic() - wall:.0f} s, {time.process_time() - cpu:.0f} s of processor time")


if __name__ == "__main__":
    main()
