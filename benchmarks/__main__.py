"""Measure everything: `make bench`, or `python -m benchmarks [--only PART]… [--without PART]… [--json FILE]`.

Each part is a program of its own and prints its details. At the end, the figures of all parts stand beside their goals
and beside the last run, as a table and as JSON; all runs are kept in the history. A part that fails does not stop the
others. The parts with instances need root.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from benchmarks import figures

ROOT: Final = Path(__file__).resolve().parent.parent
PARTS: Final[Mapping[str, list[str]]] = {
    "commands": ["benchmarks.catalog"],
    "many": ["benchmarks.many"],
    "site": ["benchmarks.site"],
    "calls": ["benchmarks.distribution"],
    "scale": ["benchmarks.distribution", "--scale", "10,100,1000,6000"],
    "sandbox": ["benchmarks.sandbox"],
    "packer": ["benchmarks.packer"],
    "validation": ["benchmarks.validation"],
    "provisioning": ["benchmarks.provisioning"],  # the other tools only where they are installed: make bench-provision
}


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="benchmarks", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", action="append", choices=PARTS, default=[], help="measure this part; can be repeated")
    parser.add_argument("--without", action="append", choices=PARTS, default=[], help="leave out this part")
    parser.add_argument(
        "--json", type=Path, default=ROOT / "build/bench/last.json", help="write the figures to this file"
    )
    parser.add_argument(
        "--history", type=Path, default=ROOT / "build/bench/history.jsonl", help="add them to this file, one run a line"
    )
    given = parser.parse_args()
    chosen = [name for name in given.only or PARTS if name not in given.without]
    past = figures.history(given.history)
    at = datetime.now(UTC).isoformat(timespec="seconds")
    parts = {}
    with tempfile.TemporaryDirectory(prefix="goldenami-bench-") as folder:
        noted = Path(folder) / "figures"
        for name in chosen:
            print(f"\n--- {name} ---", flush=True)
            began = time.monotonic()
            done = subprocess.run(
                [sys.executable, "-m", *PARTS[name]], cwd=ROOT, env=figures.variables(noted), check=False
            )
            parts[name] = {"seconds": round(time.monotonic() - began, 1), "exit_status": done.returncode}
        found = figures.noted(noted, past)
    print(f"\n{figures.table(found)}")
    for name, part in parts.items():
        failed = f", exit status {part['exit_status']}" if part["exit_status"] else ""
        print(f"part {name}: {part['seconds']:.0f} s{failed}")
    machine = f"{platform.machine()}, {os.cpu_count()} processors, Python {platform.python_version()}"
    document = json.dumps(figures.to_json(found, parts, at=at, commit=commit(), machine=machine))
    for path, mode in (given.json, "w"), (given.history, "a"):
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open(mode, encoding="utf-8") as file:
            file.write(document + "\n")
    print(f"The figures are in {given.json}, and those of all runs in {given.history}")
    return int(any(part["exit_status"] for part in parts.values()))


def commit() -> str:
    """Return the commit that is measured, or nothing outside of a checkout."""
    command = ["git", "-C", str(ROOT), "describe", "--always", "--dirty", "--abbrev=12"]
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()


if __name__ == "__main__":
    sys.exit(main())
