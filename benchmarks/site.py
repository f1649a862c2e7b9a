"""Measure `goldenami site build` with a large catalog: `python -m benchmarks.site [--names N] [--releases N]`.

It writes a catalog into a temporary directory: each release has 500 packages, some of which are newer than those of
the release before, and a bill of materials. Then it builds the site as a user does, and prints the CPU time of the
process, user and system together, and the size of the first page with its style sheet and script. Needs no sandbox and
no credentials.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

from benchmarks import figures, process
from benchmarks.catalog import FIRST_DAY, PROGRAM, PROJECT, manifest
from goldenami.errors import CatalogError
from goldenami.evidence.packages import Component, Inventory, dumps
from goldenami.model import Package
from goldenami.release.catalog import Catalog
from goldenami.store import DirectoryStore

SECONDS, FIRST_PAGE = 20.0, 150_000  # the goals
PACKAGES = 500


def main() -> int:
    parser = argparse.ArgumentParser(prog="benchmarks.site", description=__doc__)
    parser.add_argument("--names", type=int, default=100, help="recipes in the catalog (default 100)")
    parser.add_argument("--releases", type=int, default=50, help="releases of each recipe (default 50)")
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="goldenami-bench-") as folder:
        project = Path(folder)
        (project / "goldenami.yaml").write_text(PROJECT, encoding="utf-8")
        fill(project / "catalog", chosen.names, chosen.releases)
        before, started = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
        done = subprocess.run(
            [*PROGRAM, "site", "build", "--json", "-e", "bench"],
            cwd=project,
            env=process.variables(),
            check=True,
            capture_output=True,
        )
        after, elapsed = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic() - started
    seconds = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    written = json.loads(done.stdout)
    print(f"site build of {chosen.names} recipes with {chosen.releases} releases each, {PACKAGES} packages in each:")
    print(f"  {written['pages']} pages, {written['bytes'] / 1e6:.0f} MB")
    print(f"  {seconds:6.1f} s of CPU, {elapsed:.1f} s in all; goal < {SECONDS:g} s")
    print(f"  {written['first_page_bytes'] / 1e3:6.0f} kB for the first page; goal < {FIRST_PAGE / 1e3:g} kB")
    figures.note("site build", seconds, "s of CPU", most=SECONDS)
    figures.note("site build, first page", written["first_page_bytes"] / 1e3, "kB", most=FIRST_PAGE / 1e3)
    return 0


def fill(path: Path, names: int, releases: int) -> None:
    """Write a catalog: each recipe has its newest release in `candidate`, and the one before in `stable`."""
    catalog = Catalog(path, store=DirectoryStore(path, error=CatalogError, sync=lambda _: None))
    with catalog.writing_many():
        for at in range(names):
            for number in range(releases):
                day = FIRST_DAY + timedelta(days=number)
                release = manifest(f"image-{at}", f"1.0.{day:%Y%m%d}.1", day, number * names + at)
                versions = {f"package-{n}": f"1.2.{number if n % 50 == number % 50 else n}" for n in range(PACKAGES)}
                packages = tuple(Package(name, version, "amd64") for name, version in versions.items())
                components = tuple(
                    Component("deb", name, version, "amd64", source=name, source_version=version, licences=("MIT",))
                    for name, version in versions.items()
                )
                text = dumps(Inventory("debian", "12", "bookworm", components))
                digest = catalog.keep_inventory(text)
                catalog.add(replace(release, packages={"x86_64": packages}, inventories={"x86_64": digest}))
                for channel, newest in (("candidate", releases - 1), ("stable", max(releases - 2, 0))):
                    if number == newest:
                        catalog.move(release.recipe, channel, release.version, now=day, build_id=release.build_id)


if __name__ == "__main__":
    sys.exit(main())
