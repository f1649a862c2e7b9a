"""``goldenami fleet``: which releases the instances of all accounts and regions run."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import click

from goldenami.cli import completing, places
from goldenami.cli.context import open_catalog, open_project, print_json, print_table, reach
from goldenami.cli.options import environment_option, json_option

if TYPE_CHECKING:
    from goldenami.release.fleet import FleetRelease

SCHEMA = "goldenami.fleet/1"


@click.command()
@click.argument("name", metavar="[NAME]", required=False, shell_complete=completing.names)
@environment_option
@json_option
def fleet(name: str | None, environment_name: str | None, as_json: bool) -> int:
    """Count the instances of each release, in all accounts and regions of the environment.

    With the age of the release, its channels, and how many usable releases are newer. NAME can be a pattern, such as
    `debian-*`. Stopped instances count too. Reads only. The exit code is 6 if an account or region did not answer; its
    instances are not counted.
    """
    from goldenami.aws.session import Cloud
    from goldenami.release.fleet import read_fleet
    from goldenami.release.listing import is_pattern
    from goldenami.release.versions import Reference

    _, environment = open_project(environment_name)
    reach(environment)
    cloud = Cloud.of(environment)
    cloud.check_caller()
    catalog = open_catalog(environment).indexed()
    if name is not None and not is_pattern(name) and not catalog.versions(Reference.parse(name).name):
        catalog.find(Reference.parse(name))  # raises NotFound, with the nearest name
    found = read_fleet(cloud, environment, catalog, datetime.now(UTC), name)
    if as_json:
        form = {"releases": [_json(row) for row in found.releases], "other_instances": found.others}
        print_json({"schema": SCHEMA, **form, "unreachable": places.to_json(found.unreachable)})
    else:
        if found.releases:
            header = ["RELEASE", "INSTANCES", "RUNNING", "AGE", "NEWER", "CHANNELS", "PLACES"]
            print_table(header, [_cells(row) for row in found.releases])
        others = "1 instance runs another image" if found.others == 1 else f"{found.others} instances run other images"
        click.echo(f"{others}." if found.releases else f"No instance runs a release. {others}.", err=True)
    places.tell(found.unreachable, "so its instances are not counted")
    return places.exit_code(found.unreachable)


def _words(row: FleetRelease) -> list[str]:
    states = (word for word in row.release.states if word in ("revoked", "retired"))
    return [*row.release.channels, *states]


def _cells(row: FleetRelease) -> list[str]:
    where = ", ".join(f"{place} {count}" for place, count in row.instances.items())
    numbers = (row.count, row.running, f"{row.age_days} d", row.newer)
    return [row.release.entry.label, *map(str, numbers), " ".join(_words(row)) or "-", where]


def _json(row: FleetRelease) -> dict[str, Any]:
    return {
        "name": row.release.entry.name,
        "version": row.release.entry.version,
        "instances": row.count,
        "running": row.running,
        "created": row.release.entry.created,
        "age_days": row.age_days,
        "newer_releases": row.newer,
        "channels": list(row.release.channels),
        "states": list(row.release.states),
        "places": [{"account": p.account, "region": p.region, "instances": n} for p, n in row.instances.items()],
    }
