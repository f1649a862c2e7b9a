"""Measure the commands that read a project with many recipes: `python -m benchmarks.many [--recipes N] [--runs N]`.

It writes a project (``project``) into a temporary directory, starts a cloud on paper with its accounts and regions in a
process of its own, and runs `validate` and `plan --all` as a user does. It prints the CPU time (user and system) and
the largest memory of each command, and how often it asked the cloud. The user's cache is empty before the first run of
all, and a command takes most in its own first run. Needs no root.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks import figures, process, project

ROOT = Path(__file__).resolve().parent.parent
PROGRAM = [sys.executable, "-m", "goldenami.cli.main"]


def main() -> int:
    parser = argparse.ArgumentParser(prog="benchmarks.many", description=__doc__)
    parser.add_argument("--recipes", type=int, default=1000, help="recipes of the project (default 1000)")
    parser.add_argument("--regions", type=int, default=30, help="regions with an image of their own (default 30)")
    parser.add_argument("--accounts", type=int, default=50, help="accounts that may use the images (default 50)")
    parser.add_argument("--runs", type=int, default=3, help="runs of each command (default 3)")
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.serve:
        return serve(chosen.accounts, chosen.regions)
    with tempfile.TemporaryDirectory(prefix="goldenami-bench-") as folder:
        root = Path(folder) / "many"
        project.write(root, chosen.recipes)
        places = ["--regions", str(chosen.regions), "--accounts", str(chosen.accounts)]
        with Served(places) as cloud:
            (root / "goldenami.yaml").write_text(environment(cloud.accounts, cloud.regions), encoding="utf-8")
            print(f"{chosen.recipes} recipes, {len(cloud.regions)} regions, {len(cloud.accounts)} accounts:")
            for command, most in (["validate"], 2.0), (["plan", "--all"], None), (["plan", "--all", "--json"], None):
                measure(root, cloud, command, chosen.runs, most, f" of {chosen.recipes} recipes")
            single = Path(folder) / "single"
            project.write(single, len(project.SYSTEMS))
            few = {name: cloud.accounts[name] for name in list(cloud.accounts)[:3]}
            (single / "goldenami.yaml").write_text(environment(few, cloud.regions[:3]), encoding="utf-8")
            print(f"a project with a recipe for each system, 3 regions, {len(few)} accounts:")
            measure(single, cloud, ["plan", f"{next(iter(project.SYSTEMS))}-base"], chosen.runs, 0.7, "")
    return 0


class Served:
    """A cloud on paper in a process of its own, so that its CPU time and memory are not those of a command."""

    def __init__(self, options: list[str]) -> None:
        command = [sys.executable, "-m", "benchmarks.many", "--serve", *options]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT)
        told = self._told()
        self.variables: Mapping[str, str] = told["variables"]
        self.accounts: Mapping[str, str] = told["accounts"]
        self.regions: list[str] = told["regions"]

    def __enter__(self) -> Served:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.communicate()

    def calls(self) -> Mapping[str, int]:
        """Return the calls since the last question, by action."""
        assert self._process.stdin is not None
        self._process.stdin.write("calls\n")
        self._process.stdin.flush()
        found: Mapping[str, int] = self._told()
        return found

    def _told(self) -> Any:
        assert self._process.stdout is not None
        return json.loads(self._process.stdout.readline())


def serve(accounts: int, count: int) -> int:
    """Serve a cloud until stdin ends, and print its variables, and its calls for each line of stdin."""
    from goldenami_sandbox.accounts import ACCOUNTS, REGIONS
    from goldenami_sandbox.optin import DEFAULT
    from goldenami_sandbox.protocol import regions
    from goldenami_sandbox.testing import paper_cloud

    ids = {**ACCOUNTS, **{f"team-{n}": f"{300_000_000_000 + n}" for n in range(accounts - len(ACCOUNTS))}}
    places = [*REGIONS, *sorted(DEFAULT - {*REGIONS}), *sorted(regions() - DEFAULT)][:count]
    with paper_cloud(accounts=ids) as cloud:
        prepare(cloud, places)
        told = {"variables": cloud.variables(), "accounts": ids, "regions": places}
        print(json.dumps(told), flush=True)
        before = len(cloud.calls)
        for _ in sys.stdin:
            calls = cloud.calls
            print(json.dumps(Counter(call["action"] for call in calls[before:])), flush=True)
            before = len(calls)
    return 0


def prepare(cloud: Any, places: list[str]) -> None:
    """Enable the regions in all accounts, and make the key of the home account where the sandbox has none."""
    import boto3
    from goldenami_sandbox.accounts import REGIONS
    from goldenami_sandbox.optin import DEFAULT

    for id in cloud.accounts.values():
        account = boto3.client("account", **cloud.client("us-east-1", id))
        for region in places:
            if region not in DEFAULT:
                account.enable_region(RegionName=region)
    for region in places:
        if region not in REGIONS:
            kms = boto3.client("kms", **cloud.client(region))
            kms.create_alias(AliasName="alias/golden-ami", TargetKeyId=kms.create_key()["KeyMetadata"]["KeyId"])


def environment(ids: Mapping[str, str], places: list[str]) -> str:
    """Return goldenami.yaml: an image in each region of the home account, which the other accounts may use there."""
    others = {name: id for name, id in ids.items() if name != "home"}
    listed = ", ".join(places)
    return "\n".join(
        [
            "environments:",
            "  bench:",
            f'    home: {{account: "{ids["home"]}", region: {places[0]}}}',
            "    network: {source_cidr: 192.0.2.7/32}",
            "    catalog: catalog",
            "    accounts:",
            *(
                f'      {name}: {{id: "{id}", role: "arn:aws:iam::{id}:role/goldenami-publisher"}}'
                for name, id in others.items()
            ),
            "    targets:",
            f"      - {{account: home, regions: [{listed}], kms_key: alias/golden-ami}}",
            *(f"      - {{account: {name}, regions: [{listed}], mode: share}}" for name in others),
            "",
        ]
    )


def measure(root: Path, cloud: Served, command: list[str], runs: int, most: float | None, what: str) -> None:
    """Print the median of the CPU seconds of a command, its memory, and its calls of the cloud in one run.

    ``most``: the goal. ``what``: what the command works on.
    """
    seconds, memory = [], 0
    calls: Mapping[str, int] = {}
    cloud.calls()
    for _ in range(runs):
        used, peak = run(root, cloud, command)
        seconds.append(used)
        memory = max(memory, peak)
        calls = cloud.calls()
    spread = f"{min(seconds):.2f} to {max(seconds):.2f}, {runs} runs"
    goal = "" if most is None else f"; goal < {most:g} s"
    name = " ".join(command)
    print(f"  {name:<20} {statistics.median(seconds):6.2f} s of CPU ({spread}), {memory >> 20} MiB{goal}")
    figures.note(f"{name}{what}", statistics.median(seconds), "s of CPU", most=most)
    figures.note(f"{name}{what}, memory", memory >> 20, "MiB")
    for name, count in sorted(calls.items()):
        print(f"    {count:6} {name}")
    sys.stdout.flush()


def run(root: Path, cloud: Served, command: list[str]) -> tuple[float, int]:
    """Run a command. Return the CPU seconds of its process and of its children, and its memory in bytes."""
    cache = root.with_name("cache")  # beside the project: goldenami uses none inside, because commits may write there
    running = subprocess.Popen(
        [*PROGRAM, *command, "-e", "bench"],
        cwd=root,
        env=process.variables({**cloud.variables, "XDG_CACHE_HOME": str(cache)}),
        stdout=subprocess.DEVNULL,
    )
    _, status, used = os.wait4(running.pid, 0)
    running.returncode = os.waitstatus_to_exitcode(status)
    if running.returncode:
        raise SystemExit(f"{' '.join(command)} failed: exit code {running.returncode}")
    return used.ru_utime + used.ru_stime, used.ru_maxrss << 10


if __name__ == "__main__":
    sys.exit(main())
