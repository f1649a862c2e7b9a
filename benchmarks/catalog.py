"""Measure the commands that read a large catalog: `python -m benchmarks.catalog [--releases N] [--names N]`.

It writes a catalog into a temporary directory, runs `images list`, `resolve` and `history` on it as a user does, and
prints the CPU time of each process, user and system together, and what it is above the time of the same command on a
catalog with one release: the rest is the start of Python and the imports. Needs no sandbox and no credentials.
"""

from __future__ import annotations

import argparse
import resource
import statistics
import subprocess
import sys
import tempfile
from datetime import UTC, datetime, timedelta
from pathlib import Path

from benchmarks import figures, process
from goldenami.errors import CatalogError
from goldenami.model import MANIFEST_SCHEMA, ImageManifest, ManifestImage, ManifestSnapshot, Package
from goldenami.release.catalog import Catalog
from goldenami.store import DirectoryStore

PROGRAM = [sys.executable, "-m", "goldenami.cli.main"]
PROJECT = """\
environments:
  bench:
    home: {account: "111111111111", region: eu-central-1}
    targets:
      - {account: home, regions: [eu-central-1, eu-west-1], kms_key: alias/golden-ami}
    catalog: catalog
  small:
    home: {account: "111111111111", region: eu-central-1}
    targets:
      - {account: home, regions: [eu-central-1, eu-west-1], kms_key: alias/golden-ami}
    catalog: small
    parameter_prefix: /small
"""
GOALS: list[tuple[list[str], float]] = [  # each command, and the CPU seconds that it may take
    (["images", "list", "--no-check"], 0.5),
    (["images", "list", "--no-check", "--json"], 0.5),
    (["resolve", "image-0@stable", "--region", "eu-west-1"], 0.25),
    (["resolve", "image-0", "--region", "eu-west-1", "--json"], 0.25),
    (["history", "image-0"], 0.5),
    (["resolve", "image-0@stable", "--region", "eu-west-1", "--catalog", "CATALOG"], 0.25),
    (["--help"], 0.1),
]
FIRST_DAY = datetime(2025, 1, 1, tzinfo=UTC)


def main() -> int:
    parser = argparse.ArgumentParser(prog="benchmarks.catalog", description=__doc__)
    parser.add_argument("--releases", type=int, default=10_000, help="releases in the catalog (default 10000)")
    parser.add_argument("--names", type=int, default=100, help="recipes that they belong to (default 100)")
    parser.add_argument("--runs", type=int, default=3, help="runs of each command (default 3)")
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="goldenami-bench-") as folder:
        project = Path(folder)
        (project / "goldenami.yaml").write_text(PROJECT, encoding="utf-8")
        fill(project / "catalog", chosen.releases, chosen.names)
        fill(project / "small", 1, 1)
        print(f"{chosen.releases} releases of {chosen.names} recipes, in a directory:")
        for command, goal in GOALS:
            measure(project, command, chosen.runs, goal)
    return 0


def fill(path: Path, releases: int, names: int) -> None:
    """Write a catalog: the releases of each recipe, the last one in `stable` (of the first recipe, each one was there),
    and every tenth one revoked."""
    catalog = Catalog(path, store=DirectoryStore(path, error=CatalogError, sync=lambda _: None))
    with catalog.writing_many():
        for number in range(releases):
            name, day = f"image-{number % names}", FIRST_DAY + timedelta(days=number // names)
            release = manifest(name, f"1.0.{day:%Y%m%d}.1", day, number)
            catalog.add(release)
            if number % names == 0 or number >= releases - names:
                catalog.move(name, "stable", release.version, now=day, build_id=release.build_id)
            if number // names % 10 == 5:
                catalog.marks.revoke(name, release.version, "a test", "arn:aws:iam::111111111111:user/x", day)


def manifest(name: str, version: str, created: datetime, number: int) -> ImageManifest:
    """Return a release with images in two regions, and some packages."""
    snapshot = ManifestSnapshot(f"snap-{number:017x}", "/dev/xvda", 8, True, "arn:aws:kms:eu-central-1:1:key/1")
    images = tuple(
        ManifestImage("x86_64", "111111111111", region, f"ami-{number:015x}{at:02x}", name, "copy", True, (snapshot,))
        for at, region in enumerate(("eu-central-1", "eu-west-1"))
    )
    packages = tuple(Package(f"package-{n}", "1.2.3-4", "amd64") for n in range(10))
    return ImageManifest(
        MANIFEST_SCHEMA,
        name,
        version,
        f"{created:%Y%m%d-%H%M%S}-{number:04x}",
        f"{number:064x}",
        "bench",
        created.isoformat().replace("+00:00", "Z"),
        {},
        images,
        (),
        {"x86_64": packages},
        {},
    )


def measure(project: Path, command: list[str], runs: int, goal: float) -> None:
    """Print the CPU seconds of a command: the median of some runs, what is above those for a small catalog, and the
    goal."""
    large, small = (
        [cpu_seconds(project, command, environment, catalog) for _ in range(runs)]
        for environment, catalog in (("bench", "catalog"), ("small", "small"))
    )
    spread = f"{min(large):.2f} to {max(large):.2f}, {runs} runs"
    above = statistics.median(large) - statistics.median(small)
    line = f"  {' '.join(command):<66} {statistics.median(large):6.2f} s ({spread}), {above:5.2f} s above"
    print(f"{line}; goal < {goal} s", flush=True)
    figures.note(" ".join(command), statistics.median(large), "s of CPU", most=goal)


def cpu_seconds(project: Path, command: list[str], environment: str, catalog: str) -> float:
    """Run a command, and return the CPU seconds of its process."""
    words = [catalog if word == "CATALOG" else word for word in command]
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(
        [*PROGRAM, *words, *([] if {"--catalog", "--help"} & {*words} else ["-e", environment])],
        cwd=project,
        env=process.variables(),
        check=True,
        stdout=subprocess.DEVNULL,
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


if __name__ == "__main__":
    sys.exit(main())
