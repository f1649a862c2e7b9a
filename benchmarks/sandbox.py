"""Measure the sandbox and a whole build, in a sandbox of their own: `python -m benchmarks.sandbox [--runs N]`.

Figures stand beside their goals. Needs root.
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
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from goldenami_sandbox import control

from benchmarks import figures
from benchmarks.host import launched

ROOT = Path(__file__).resolve().parent.parent
PROGRAM = [sys.executable, "-m", "goldenami.cli.main"]


def main() -> int:
    parser = argparse.ArgumentParser(prog="benchmarks.sandbox", description=__doc__)
    parser.add_argument("--runs", type=int, default=5, help="launches to measure (default 5)")
    runs = parser.parse_args().runs
    with tempfile.TemporaryDirectory(prefix="goldenami-bench-") as folder:
        home = Path(folder)
        control.up("bench", home=home, die_with_parent=True)  # the base is in the cache from here on
        control.down("bench", home=home)
        figure("sandbox up, base cached", [timed(lambda: control.up("bench", home=home, die_with_parent=True))], 5)
        try:
            info = control.require("bench", home=home)
            figure("launch to SSH login", [launch(info) for _ in range(runs)], 2.5)
            build(info, home)
        finally:
            control.down("bench", home=home)
    return 0


def timed(work: Callable[[], object]) -> float:
    started = time.monotonic()
    work()
    return time.monotonic() - started


def figure(name: str, seconds: list[float], most: float | None = None) -> None:
    """One line: the median, the range where there are several, and the goal."""
    goal = "" if most is None else f"goal < {most:g} s"
    figures.note(name, statistics.median(seconds), "s", most=most)
    spread = f"  ({min(seconds):.2f} to {max(seconds):.2f}, {len(seconds)} runs)" if len(seconds) > 1 else ""
    print(f"{name:<44} {statistics.median(seconds):7.2f} s{spread}  {goal}", flush=True)


def launch(info: control.SandboxInfo) -> float:
    """Seconds from RunInstances to the answer of a command over SSH."""
    started = time.monotonic()
    with launched(info):
        return time.monotonic() - started


def build(info: control.SandboxInfo, home: Path) -> None:
    """A whole build of debian-12-web over a released base, and the same again with nothing changed."""
    with project(home) as folder:
        variables = {**os.environ, **info.variables()}

        def run(recipe: str) -> list[dict[str, object]]:
            events = folder / f"{recipe}-{time.monotonic_ns()}.jsonl"
            command = [*PROGRAM, "build", recipe, "--json", "--events", str(events)]
            subprocess.run(command, cwd=folder, env=variables, check=True, stdout=subprocess.DEVNULL)
            return [json.loads(line) for line in events.read_text().splitlines()]

        figure("build debian-12-base", [timed(lambda: run("debian-12-base"))])
        told: list[dict[str, object]] = []
        figure("build debian-12-web, base released", [timed(lambda: told.extend(run("debian-12-web")))], 60)
        for event in told:
            fields = event.get("fields", event)
            if event.get("kind") == "stage.finished" and isinstance(fields, dict):
                print(f"    {fields['stage']:<40} {fields['seconds']:7.2f} s")
        figure("build debian-12-web, nothing changed", [timed(lambda: run("debian-12-web"))])


@contextmanager
def project(home: Path) -> Iterator[Path]:
    """A copy of the project's recipes, with a catalog of its own."""
    folder = home / "project"
    folder.mkdir()
    shutil.copy(ROOT / "goldenami.yaml", folder)
    shutil.copytree(ROOT / "recipes", folder / "recipes")
    yield folder
    shutil.rmtree(folder)


if __name__ == "__main__":
    sys.exit(main())
