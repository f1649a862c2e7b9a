"""Measure a build beside Packer's: `python -m benchmarks.packer [--turns N] [--json FILE] [--history FILE]`.

Both make the same image on the same sandbox, with the same delays: nginx on Debian, encrypted in three regions, for two
more accounts. The runs are taken in turns, so that what else the machine does meets all of them; the median of the
ratios of each turn counts. Goldenami tests the image twice and publishes it in nine places; Packer does neither.

The limit is the longest chain of waits: launches until somebody can log in, the package manager, the image and the
copy. Its parts are measured in the same run: the seconds of calls from the log of the sandbox, those of a login by
launching an instance, those of the package manager from the events of the build.

The setting with the delays of AWS is on paper, in virtual time: our build against its own limit. Needs root, and
Debian's packer.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

import boto3
from goldenami_sandbox import control
from goldenami_sandbox.accounts import HOME, REGIONS

from benchmarks import distribution, figures, process
from benchmarks.host import launched

SHARES: Final = {"apps": "222222222222", "shop": "333333333333"}  # accounts that may launch the images
KEY: Final = "alias/golden-ami"
DELAYS: Final = {
    "pending": {"instance": 1.5, "stop": 2, "image": 6, "copy": 12},
    "latency": {"*": 0.05, "ec2:RunInstances": 0.5, "ec2:CreateImage": 0.3, "ec2:CopyImage": 0.3},
}
TUNED, USUAL = "Packer, polling every second", "Packer as it comes"
BY_COPY, AT_LAUNCH = "goldenami, encrypted by the copy", "goldenami, encrypted at launch"
GOALS: Final = {BY_COPY: 0.95, AT_LAUNCH: 0.90}  # of Packer's time, tuned
OF_LIMIT: Final = 1.10
# The name of the recipe, and lines of its environment.
_RECIPES: Final = {BY_COPY: ("copy", ""), AT_LAUNCH: ("launch", "    encryption: launch\n")}
_PROGRAM: Final = (sys.executable, "-m", "goldenami.cli.main")
_SHELL: Final = [
    "sudo apt-get update -q",
    "sudo DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends nginx-light",
]
_RECIPE: Final = """\
name: bench-{name}
version: "1.0"
base: {{filter: debian-12-amd64-*, owners: ["136693071363"]}}
builder: {{instance_types: [t3.small], ssh_user: admin}}
patches: {{level: none}}
software:
  - package: {{name: nginx-light}}
  - service: {{name: nginx, enabled: true, state: started}}
tests: [base]
distribution: {{channel: stable}}
"""


@dataclass
class Run:
    """What a build took. ``stages``: the chain of its stages, each with the seconds that it alone took. ``waits``: the
    parts of its limit."""

    seconds: float
    calls: Counter[str]
    cpu: float
    memory: int  # MiB
    stages: list[tuple[str, float]] = field(default_factory=list)
    waits: dict[str, float] = field(default_factory=dict)

    @property
    def limit(self) -> float:
        return sum(self.waits.values())

    def to_json(self) -> dict[str, Any]:
        return {
            "seconds": round(self.seconds, 2),
            "calls": self.calls.total(),
            "cpu_seconds": round(self.cpu, 2),
            "memory_mib": self.memory,
            "stages": [[name, round(seconds, 2)] for name, seconds in self.stages],
            "waits": {name: round(seconds, 2) for name, seconds in self.waits.items()},
        }


class Bench:
    """The sandbox, and a folder for what is built there."""

    def __init__(self, info: control.SandboxInfo, folder: Path, names: Sequence[str]) -> None:
        self.info = info
        self.folder = folder
        self.login = 0.0  # seconds from RunInstances until somebody is logged in
        self._ours = [_RECIPES[name][0] for name in names if name in _RECIPES]
        (folder / "recipes").mkdir(parents=True)
        (folder / "goldenami.yaml").write_text(environments([name for name in names if name in _RECIPES]))
        for name, _ in _RECIPES.values():
            (folder / "recipes" / f"bench-{name}.yaml").write_text(_RECIPE.format(name=name))

    def warm_up(self) -> None:
        """Let everything that is kept between builds be there: the contents of the base, the compiled modules, and what
        the sandbox loads at the first call of a service. Otherwise the first run would wait for it, and no other."""
        for recipe in self._ours:
            for arguments in (["doctor"], ["plan", f"bench-{recipe}"]):
                self._run([*_PROGRAM, *arguments, "-e", recipe], {})
        boto3.client("ssm", **self.info.client()).describe_parameters()  # which neither of them calls
        times = []
        for _ in range(3):
            began = time.monotonic()
            with launched(self.info):
                times.append(time.monotonic() - began)
        self.login = statistics.median(times)

    def run(self, name: str, turn: int) -> Run:
        began = datetime.now(UTC)
        if name in _RECIPES:
            recipe = _RECIPES[name][0]
            events = self.folder / f"{recipe}-{turn}.jsonl"
            command = [*_PROGRAM, "build", f"bench-{recipe}", "-e", recipe, "--force"]
            run = self._run([*command, "--json", "--events", str(events)], {})
            told = [json.loads(line) for line in events.read_text().splitlines()]
            run.stages = chain(told)
            run.waits = self.limit(name, told, began)
        else:
            run = self._run(["packer", "build", "-color=false", self._template(turn)], self._packer(name))
        calls = self._calls(began)
        run.calls = Counter(f"{call['service']}:{call['action']}" for call in calls)
        log = self.folder / f"{name.replace(', ', '-').replace(' ', '-')}-{turn}.calls.jsonl"
        log.write_text("".join(json.dumps(call) + "\n" for call in calls))
        return run

    def _run(self, command: Sequence[str], more: Mapping[str, str]) -> Run:
        log = self.folder / "last.log"
        with log.open("w") as output:
            began = time.monotonic()
            child = subprocess.Popen(
                command,
                cwd=self.folder,
                env=more or process.variables(self.info.variables()),
                stdout=output,
                stderr=output,
            )
            _, status, used = os.wait4(child.pid, 0)
            seconds = time.monotonic() - began
        child.returncode = os.waitstatus_to_exitcode(status)
        if child.returncode:
            raise SystemExit(f"{' '.join(command)} failed with {child.returncode}:\n{log.read_text()[-4000:]}")
        return Run(seconds, Counter(), used.ru_utime + used.ru_stime, used.ru_maxrss >> 10)

    def _packer(self, name: str) -> dict[str, str]:
        polling = {"AWS_POLL_DELAY_SECONDS": "1"} if name == TUNED else {}
        return {
            **self.info.variables(),
            **polling,
            "CHECKPOINT_DISABLE": "1",  # it would ask its maker for news
            "PACKER_CONFIG_DIR": str(self.folder),
        }

    def _template(self, turn: int) -> str:
        path = self.folder / "template.json"
        path.write_text(json.dumps(template(f"packer-{turn}-{time.time_ns()}")))
        return str(path)

    def _calls(self, began: datetime) -> list[dict[str, Any]]:
        return [call for call in self.info.calls() if datetime.fromisoformat(call["time"]) >= began]

    def limit(self, name: str, told: Iterable[Mapping[str, Any]], began: datetime) -> dict[str, float]:
        """Return the parts of the longest chain of waits of a build."""
        pending, told = DELAYS["pending"], list(told)
        calls = self._calls(began)
        # EC2 shuts a builder down that is not frozen.
        frozen = any(event["kind"] == "stage.finished" and event["stage"] == "freeze" for event in told)
        stop = (
            0.0
            if frozen and not any("cannot be frozen" in event.get("message", "") for event in told)
            else pending["stop"]
        )

        def took(action: str) -> float:
            return min(float(call["ms"]) for call in calls if call["action"] == action) / 1000

        waits = {
            "the builder, until somebody is logged in": self.login,
            "the package manager": sum(
                event["seconds"] for event in told if event["kind"] == "operation.finished" and _installs(event)
            ),
            "the image": took("CreateImage") + stop + pending["image"],
            "the copy": took("CopyImage") + pending["copy"],
        }
        if name == BY_COPY:
            waits["the instance of the copy, until somebody is logged in"] = self.login
        return waits


def _installs(event: Mapping[str, Any]) -> bool:
    """Whether an operation waits for the package manager: the boot ends when the package lists are fetched."""
    title = str(event["title"]).lower()
    return title == "wait for the end of the boot" or (event["status"] == "changed" and "package" in title)


def environments(ways: Sequence[str]) -> str:
    """Return a goldenami.yaml with an environment for each way to encrypt."""
    every = ", ".join(REGIONS)
    lines = ["environments:"]
    for name, more in (_RECIPES[way] for way in ways):
        lines += [f"  {name}:", f'    home: {{account: "{HOME}", region: {REGIONS[0]}}}', *more.splitlines()]
        lines += [f"    catalog: catalog-{name}", f"    parameter_prefix: /bench/{name}", "    accounts:"]
        lines += [
            f'      {account}: {{id: "{id}", role: "arn:aws:iam::{id}:role/goldenami-publisher"}}'
            for account, id in SHARES.items()
        ]
        lines += ["    targets:", f"      - {{account: home, regions: [{every}], kms_key: {KEY}}}"]
        lines += [f"      - {{account: {account}, regions: [{every}], mode: share}}" for account in SHARES]
    return "\n".join(lines) + "\n"


def template(name: str) -> dict[str, Any]:
    """Return Packer's template for the same image in the same places."""
    accounts = list(SHARES.values())
    return {
        "variables": {"endpoint": "{{env `AWS_ENDPOINT_URL`}}"},
        "builders": [
            {
                "type": "amazon-ebs",
                "custom_endpoint_ec2": "{{user `endpoint`}}",
                "region": REGIONS[0],
                "ami_name": name,
                "ami_regions": list(REGIONS),
                "ami_users": accounts,
                "snapshot_users": accounts,
                "encrypt_boot": True,
                "kms_key_id": KEY,
                "region_kms_key_ids": dict.fromkeys(REGIONS, KEY),
                "instance_type": "t3.small",
                "source_ami_filter": {
                    "filters": {"name": "debian-12-amd64-*", "root-device-type": "ebs"},
                    "owners": ["136693071363"],
                    "most_recent": True,
                },
                "ssh_username": "admin",
            }
        ],
        "provisioners": [{"type": "shell", "inline": _SHELL}],
    }


def chain(told: Iterable[Mapping[str, Any]]) -> list[tuple[str, float]]:
    """Return where the seconds of a build went: its stages in order, and what passed between them. Stages that run
    beside others are left out."""
    marks: list[tuple[datetime, str]] = []
    open_stages: list[str] = []
    beside: set[str] = set()
    for event in told:
        at = datetime.fromisoformat(event["time"])
        if not marks:
            marks.append((at, "before the first stage"))
        if event["kind"] == "stage.started":
            if event.get("beside"):
                beside.add(event["stage"])
                continue
            open_stages.append(event["stage"])
        elif event["kind"] == "stage.finished" and event["stage"] in open_stages and event["stage"] not in beside:
            open_stages.remove(event["stage"])
        elif event["kind"] != "build.finished":
            continue
        marks.append((at, open_stages[-1] if open_stages else "between stages"))
    found: dict[str, float] = {}
    for (begin, name), (end, _) in pairwise(marks):
        found[name] = found.get(name, 0.0) + (end - begin).total_seconds()
    return list(found.items())


# --- the figures ------------------------------------------------------------------------------------------------------


def report(runs: Mapping[str, list[Run]], paper: Mapping[str, Mapping[str, float]]) -> dict[str, Any]:
    """Print the figures beside their goals, and return them."""
    tuned = [run.seconds for run in runs[TUNED]] if TUNED in runs else []
    found: dict[str, Any] = {"schema": "goldenami.benchmark.packer/1", "at": datetime.now(UTC).isoformat(), "runs": {}}
    goals: list[tuple[str, float, float]] = []
    print(
        f"\n{'build, median of ' + str(len(next(iter(runs.values())))):<40} seconds  of Packer tuned  calls    CPU  MiB"
    )
    for name, every in runs.items():
        seconds = statistics.median(run.seconds for run in every)
        ratio = statistics.median(run.seconds / other for run, other in zip(every, tuned, strict=True)) if tuned else 0
        middle = min(every, key=lambda run: abs(run.seconds - seconds))
        print(
            f"{name:<40} {seconds:7.1f} {ratio:16.2f} {middle.calls.total():6} {middle.cpu:6.1f} {middle.memory:4}",
            flush=True,
        )
        found["runs"][name] = {
            "median": seconds,
            "of_packer_tuned": ratio,
            "turns": [run.to_json() for run in every],
        }
        figures.note(name, seconds, "s")
        figures.note(f"{name}, calls", middle.calls.total(), "")
        figures.note(f"{name}, processor", middle.cpu, "s of CPU")
        figures.note(f"{name}, memory", middle.memory, "MiB")
        if name not in GOALS:
            continue
        of_limit = statistics.median(run.seconds / run.limit for run in every)
        found["runs"][name] |= {"limit": middle.limit, "of_limit": of_limit}
        if tuned:
            goals.append((f"{name}, of Packer tuned", ratio, GOALS[name]))
        goals.append((f"{name}, of its limit", of_limit, OF_LIMIT))
        for title, parts in (("its limit", middle.waits.items()), ("its stages", middle.stages)):
            print(f"    {title}: {sum(seconds for _, seconds in parts):.1f} s")
            for what, took in parts:
                print(f"    {took:7.2f}  {what}")
    found["paper"] = {name: dict(one) for name, one in paper.items()}
    goals += [(f"{name}, delays of AWS on paper, of its limit", f["ratio"], OF_LIMIT) for name, f in paper.items()]
    found["goals"] = [{"what": what, "ratio": ratio, "goal": goal} for what, ratio, goal in goals]
    for what, ratio, goal in goals:
        print(f"{what:<72} {ratio:5.2f}  (goal {goal:.2f}){'' if ratio <= goal else '  MISSED'}", flush=True)
        figures.note(what, ratio, "", most=goal)
    return found


def on_paper() -> dict[str, dict[str, float]]:
    """Return the virtual seconds of a build with the delays of AWS, for each way to encrypt."""
    found: dict[str, dict[str, float]] = {}
    for name, (_, more) in _RECIPES.items():
        grid = distribution.Grid(more=more)
        with distribution.fresh_world() as world:
            seconds = distribution.run(world, grid).seconds
        found[name] = {"seconds": seconds, "limit": grid.bound, "ratio": seconds / grid.bound}
        print(f"{name}: {seconds:.0f} virtual s on paper, its limit is {grid.bound:.0f} s", flush=True)
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--only", action="append", help="measure what begins with this, such as goldenami")
    parser.add_argument("--json", type=Path, help="write the figures to this file; events and calls beside it")
    parser.add_argument("--history", type=Path, default=Path("build/bench/packer.jsonl"), help="add them to this file")
    parser.add_argument("--without-paper", action="store_true", help="leave out the delays of AWS")
    given = parser.parse_args()
    names = [n for n in (TUNED, *_RECIPES, USUAL) if not given.only or n.startswith(tuple(given.only))]
    if shutil.which("packer") is None:
        names = [name for name in names if name in _RECIPES]
        print("Packer is not installed and is left out: apt-get install packer")
    runs: dict[str, list[Run]] = {name: [] for name in names}
    with tempfile.TemporaryDirectory(prefix="goldenami-bench-") as folder:
        home = Path(folder)
        accounts = {"home": HOME, **SHARES}
        info = control.up("bench", home=home / "sandbox", settings=DELAYS, accounts=accounts, die_with_parent=True)
        try:
            bench = Bench(info, home / "project", names)
            bench.warm_up()
            for turn in range(given.turns):
                for name in names if turn % 2 == 0 else reversed(names):
                    run = bench.run(name, turn)
                    runs[name].append(run)
                    print(f"turn {turn + 1}: {name:<40} {run.seconds:6.1f} s", flush=True)
            if given.json is not None:
                for log in bench.folder.glob("*.jsonl"):
                    shutil.copy(log, given.json.parent)
        finally:
            control.down("bench", home=home / "sandbox")
    # Last: the largest memory of a process that is started is at least that of the one that starts it.
    found = report(runs, {} if given.without_paper else on_paper())
    text = json.dumps(found)
    if given.json is not None:
        given.json.write_text(text + "\n", encoding="utf-8")
    given.history.parent.mkdir(parents=True, exist_ok=True)
    with given.history.open("a", encoding="utf-8") as history:
        history.write(text + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
