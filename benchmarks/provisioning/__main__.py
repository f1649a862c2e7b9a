"""Measure provisioning: `python -m benchmarks.provisioning [--runs N] [--delays 0,20,60] [--without pyinfra]`.

One instance of the sandbox, which is made to forget everything before each first run; after each it is in the same
state, whoever did it. The runs of all tools are taken in turns, so that what else the machine does meets all of them.
Needs root. Ratios against the goals are printed at the end.
"""

from __future__ import annotations

import argparse
import signal
import statistics
import sys
import tempfile
import time
from collections import defaultdict
from dataclasses import dataclass, replace
from pathlib import Path

from goldenami_sandbox import control

from benchmarks.figures import note
from benchmarks.host import launched
from benchmarks.provisioning import spec
from benchmarks.provisioning.contestants import ALL, Contestant, Run
from benchmarks.provisioning.relay import Delayed, delayed
from goldenami import ssh
from goldenami.model import SshEndpoint

BOUND, OURS = "one shell script (the bound)", "goldenami"
SLOW_PEERS = ("pyinfra", "mitogen", "ansible-core, pipelining")
# Contestant, delay, "first" or "second" -> seconds; with " turns": how often one side waited for the other, connecting
# included. That is at least the number of round trips, since some of what is sent nobody waits for.
Figures = dict[tuple[str, float, str], list[float]]


def main() -> int:
    parser = argparse.ArgumentParser(prog="benchmarks.provisioning", description=__doc__)
    parser.add_argument("--runs", type=int, default=3, help="first and second runs of each tool at each delay")
    parser.add_argument("--peer-runs", type=int, default=1, help="the same, for tools that take many seconds")
    parser.add_argument("--delays", default="0,20,60", help="round trip times in milliseconds")
    parser.add_argument("--without", action="append", default=[], help="a tool to leave out, by how its name begins")
    arguments = parser.parse_args()
    chosen = [c for c in ALL if not c.name.startswith(tuple(arguments.without))]
    delays = [float(d) for d in arguments.delays.split(",")]
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # what was started is ended then, too
    with tempfile.TemporaryDirectory(prefix="goldenami-bench-") as folder:
        home = Path(folder)
        info = control.up("bench", home=home / "sandbox", die_with_parent=True)
        try:
            with launched(info) as host, delayed(host.address, host.port) as wire:
                figures = Bench(host, wire, home, chosen).measure(delays, arguments.runs, arguments.peer_runs)
        finally:
            control.down("bench", home=home / "sandbox")
    table(figures, delays)
    return goals(figures, delays)


@dataclass
class Bench:
    host: SshEndpoint
    wire: Delayed
    home: Path
    chosen: list[Contestant]

    def measure(self, delays: list[float], runs: int, peer_runs: int) -> Figures:
        figures: Figures = defaultdict(list)
        ready = self._ready()
        self._root(spec.PYTHON)
        state = ""
        for delay in delays:
            for number in range(max(runs, peer_runs)):
                for name, run in list(ready.items()):
                    if number >= (peer_runs if name in SLOW_PEERS else runs):
                        continue
                    self._root(spec.RESET)
                    try:
                        for which in ("first", "second"):
                            self.wire.set(delay / 1000)
                            started = time.monotonic()
                            run()
                            figures[name, delay, which].append(time.monotonic() - started)
                            figures[name, delay, f"{which} turns"].append(self.wire.set(delay / 1000))
                    except RuntimeError as error:  # a peer that does not work here is no reason not to measure the rest
                        if name in (OURS, BOUND):
                            raise
                        del ready[name]
                        print(f"left out: {name}: {error}", file=sys.stderr)
                        continue
                    found = self._root(spec.STATE)
                    state = state or found
                    if found != state:
                        raise SystemExit(f"{name} left another state behind:\n{differences(state, found)}")
                    shown = " / ".join(f"{figures[name, delay, w][-1]:.2f}" for w in ("first", "second"))
                    print(f"  {delay:3.0f} ms  {name:<36} {shown} s", file=sys.stderr, flush=True)
        return figures

    def _ready(self) -> dict[str, Run]:
        endpoint = replace(self.host, address="127.0.0.1", port=self.wire.port)
        ready = {}
        for contestant in self.chosen:
            folder = self.home / contestant.make.__name__
            folder.mkdir()
            try:
                ready[contestant.name] = contestant.make(endpoint, folder)
            except LookupError as error:
                print(f"left out: {contestant.name}: {error}", file=sys.stderr)
        return ready

    def _root(self, script: str) -> str:
        with ssh.connect(self.host, timeout=60) as connection:
            return connection.run("sudo -n sh", f"{script}\n".encode()).text


def differences(wanted: str, found: str) -> str:
    import difflib

    return "\n".join(difflib.unified_diff(wanted.splitlines(), found.splitlines(), lineterm="", n=0))


def table(figures: Figures, delays: list[float]) -> None:
    names = [c.name for c in ALL if all(figures.get((c.name, delay, "second")) for delay in delays)]
    head = "".join(f"{f'{d:.0f} ms':>18}" for d in delays)
    print(f"\n40 operations, first / second run, seconds (median) at a round trip of\n{'':<38}{head}   turns")
    for name in names:
        cells = ""
        for delay in delays:
            first, second = (statistics.median(figures[name, delay, w]) for w in ("first", "second"))
            cells += f"{f'{first:.2f} / {second:.2f}':>18}"
        turns = (statistics.median(figures[name, max(delays), f"{which} turns"]) for which in ("first", "second"))
        print(f"{name:<38}{cells}   " + " / ".join(f"{t:.0f}" for t in turns))


def goals(figures: Figures, delays: list[float]) -> int:
    """The ratios that are promised, at delays that are no loopback's. 1 if one is missed."""
    print("\nratios")
    missed = 0
    for delay in (d for d in delays if d > 0):
        rows = [
            ("first run to the bound", OURS, BOUND, "first", "≤", 1.2),
            ("second run to the bound", OURS, BOUND, "second", "≤", 1.25),
            ("second run, pyinfra to ours", "pyinfra", OURS, "second", "≥", 10),
            ("second run, mitogen to ours", "mitogen", OURS, "second", "≥", 10),
            ("second run, ansible-core to ours", "ansible-core, pipelining", OURS, "second", "≥", 20),
        ]
        for what, upper, lower, which, sign, goal in rows:
            if not figures.get((upper, delay, which)) or not figures.get((lower, delay, which)):
                print(f"  {delay:3.0f} ms  {what:<36} not measured")
                continue
            ratio = statistics.median(figures[upper, delay, which]) / statistics.median(figures[lower, delay, which])
            good = ratio <= goal if sign == "≤" else ratio >= goal
            missed += not good
            bound = {"most" if sign == "≤" else "least": float(goal)}
            note(f"40 operations at {delay:.0f} ms, {what}", ratio, "", **bound)
            print(f"  {delay:3.0f} ms  {what:<36} {ratio:6.2f}  goal {sign} {goal:g}  {'' if good else 'MISSED'}")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
