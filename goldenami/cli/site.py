"""``goldenami site``: the catalog as pages for the people who use images."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click

from goldenami.cli.context import in_bucket, open_catalog, open_journals, open_project, print_json
from goldenami.cli.options import environment_option, json_option
from goldenami.nextstep import step

if TYPE_CHECKING:
    from goldenami.model import Environment
    from goldenami.recipe import Project
    from goldenami.release.catalog import Catalog
    from goldenami.release.retention import Rules

BUILD_SCHEMA = "goldenami.site-build/1"


@click.group()
def site() -> None:
    """The catalog as a static site: channels, image ids, changes, tests, snippets, feeds."""


@site.command("build")
@click.option(
    "--out",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path("public"),
    show_default=True,
    help="The folder to write. An earlier site there is replaced; other files are not.",
)
@click.option("--title", default="Golden images", show_default=True, help="The title of the site.")
@click.option(
    "--fleet",
    "fleet_file",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="A report of `goldenami fleet --json`: which releases are in use.",
)
@click.option(
    "--scan",
    "scan_file",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="A report of `goldenami scan --all --json`: vulnerabilities, and the date of each feed.",
)
@click.option(
    "--lineage",
    "lineage_files",
    multiple=True,
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="A report of `goldenami snapshot lineage NAME@CHANNEL --json`: all snapshots of NAME. Repeatable.",
)
@environment_option
@json_option
def build(
    out: Path,
    title: str,
    fleet_file: Path | None,
    scan_file: Path | None,
    lineage_files: tuple[Path, ...],
    environment_name: str | None,
    as_json: bool,
) -> None:
    """Write the site from the catalog of an environment.

    It needs no server and makes no request: open public/index.html, or publish the folder, for example with GitLab
    Pages. Nothing in the cloud is asked; only a catalog in a bucket is read from there. When releases are deprecated,
    disabled and deleted is read from the recipes of the project.
    """
    from goldenami.site import gather, write
    from goldenami.site.fleet import read_fleet
    from goldenami.site.lineage import read_lineage
    from goldenami.site.scan import read_scan

    project, environment = open_project(environment_name)
    used = read_fleet(fleet_file, fleet_file.read_bytes()) if fleet_file is not None else {}
    now = datetime.now(UTC)
    scan = None
    if scan_file is not None:
        policy = environment.vulnerabilities
        ages = {feed.address: feed.max_age for feed in policy.feeds if feed.max_age is not None}
        scan = read_scan(scan_file, scan_file.read_bytes(), now, policy.max_age, ages)
    lineages = dict(read_lineage(file, file.read_bytes()) for file in lineage_files)
    catalog = open_catalog(environment)
    started = time.monotonic()
    rules, without = _rules(project, environment, catalog)
    facts = gather(
        catalog,
        environment,
        now,
        title=title,
        used=used,
        timelines=_timelines(environment, catalog),
        scan=scan,
        rules=rules,
        lineages=lineages,
    )
    written = write(facts, out)
    seconds = time.monotonic() - started
    left_out = [*without, *facts.failures.reasons.values()]
    for failure in left_out:
        click.echo(f"left out: {failure}", err=True)
    if as_json:
        numbers = {"pages": written.pages, "bytes": written.bytes, "first_page_bytes": written.first}
        print_json({"schema": BUILD_SCHEMA, "out": str(out), **numbers, "left_out": left_out})
        return
    size = f"{written.bytes / 1e6:.1f} MB, the first page {written.first / 1e3:.0f} kB"
    pages = f"{written.pages} page{'s' if written.pages != 1 else ''}"
    click.echo(f"{pages} in {seconds:.1f} s ({size}): {out / 'index.html'}")


def _rules(project: Project, environment: Environment, catalog: Catalog) -> tuple[dict[str, Rules], list[str]]:
    """Return the rules of retention by recipe, of those that the project has, and why some cannot be read."""
    from goldenami.each import Failures
    from goldenami.recipe import retention_rules

    failures = Failures[str]()
    rules: dict[str, Rules] = {}
    for name in sorted({*catalog.names()} & {*project.recipe_names()}):
        with failures.of(name):
            rules |= retention_rules(project, environment, [name])
    return rules, [
        f"dates of {name}: {reason}; see {step('validate', name)}" for name, reason in failures.reasons.items()
    ]


def _timelines(environment: Environment, catalog: Catalog) -> dict[str, str]:
    """Return the timelines of the builds whose releases are in channels, by label, where the journals are files of this
    machine: in a bucket, each would be a read."""
    from goldenami.report import timeline

    if in_bucket(environment.builds):
        return {}
    storage = open_journals(environment).storage
    found: dict[str, str] = {}
    for name in catalog.names():
        for channel in catalog.channels(name):
            label = f"{name} {channel.current}"
            build_id = channel.history[-1].build_id
            if label in found or channel.history[-1].action != "build" or build_id is None:
                continue
            times = timeline.timeline(storage.events(build_id).read(), running=False)
            if times.spans:
                found[label] = timeline.draw(times, f"build {build_id}")
    return found
