"""The commands about the catalog itself: show, reindex, rebuild."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import click

from goldenami.cli import places
from goldenami.cli.context import open_catalog, open_project, print_json, print_table, reach
from goldenami.cli.options import environment_option, json_option, yes_option

if TYPE_CHECKING:
    from goldenami.release.rebuild import Rebuild

CATALOG_SCHEMA = "goldenami.catalog-show/1"
REINDEX_SCHEMA = "goldenami.catalog-reindex/1"
REBUILD_SCHEMA = "goldenami.catalog-rebuild/1"


@click.group()
def catalog() -> None:
    """Show the catalog of an environment, or restore a lost one."""


@catalog.command("show")
@environment_option
@json_option
def show_catalog(environment_name: str | None, as_json: bool) -> None:
    """Show where the catalog is, its id, and how many releases and channels it has. Changes nothing.

    Everything that goldenami creates has the id as the tag goldenami:catalog.
    """
    _, environment = open_project(environment_name)
    found = open_catalog(environment).indexed()
    names: list[dict[str, Any]] = [
        {
            "name": name,
            "releases": len(found.versions(name)),
            "channels": {channel.channel: channel.current for channel in found.channels(name)},
        }
        for name in found.names()
    ]
    identity = found.identity()
    if as_json:
        form = {"environment": environment.name, "catalog": environment.catalog, "builds": environment.builds}
        print_json({"schema": CATALOG_SCHEMA, **form, "id": identity, "names": names})
        return
    click.echo(f"catalog      {environment.catalog}")
    click.echo(f"id           {identity or 'none yet; the first build creates it'}")
    click.echo(f"environment  {environment.name}")
    click.echo(f"journals     {environment.builds}")
    if names:
        click.echo()
        rows = [[one["name"], str(one["releases"]), _channels(one["channels"])] for one in names]
        print_table(["NAME", "RELEASES", "CHANNELS"], rows)


@catalog.command("reindex")
@environment_option
@json_option
def reindex_catalog(environment_name: str | None, as_json: bool) -> None:
    """Compare the index of the catalog with all its records, and write it again.

    The index only makes reading fast. Run this command once for a large catalog of an earlier version of goldenami,
    and after an earlier version marked releases in a bucket. Nothing else is changed.
    """
    _, environment = open_project(environment_name)
    count = open_catalog(environment).reindex()
    if as_json:
        print_json({"schema": REINDEX_SCHEMA, "catalog": environment.catalog, "releases": count})
    else:
        click.echo(f"The index has {count} releases.", err=True)


@catalog.command("rebuild")
@click.option("--id", "identity", metavar="ID", help="Id of the lost catalog, if several are in the accounts.")
@environment_option
@yes_option
@json_option
def rebuild_catalog(identity: str | None, environment_name: str | None, yes: bool, as_json: bool) -> int:
    """Restore the releases, channels and the id of a lost catalog from images and parameters in the cloud.

    It changes nothing in the cloud, and overwrites no record of the catalog. Without --yes it only lists what it would
    restore. Test reports, lists of packages, digests, pins and retirements cannot be restored; a restored manifest says
    so. The exit code is 6, and nothing is written, if an account or region did not answer.

    Example: goldenami catalog rebuild --environment production --yes
    """
    from goldenami.aws.session import Cloud
    from goldenami.release import rebuild as rebuilding

    _, environment = open_project(environment_name)
    reach(environment)
    cloud, now = Cloud.of(environment), datetime.now(UTC)
    cloud.check_caller()
    found = open_catalog(environment)
    made = rebuilding.find(cloud, environment, found, now, identity=identity)
    writing = yes and not made.unreachable
    if writing:
        rebuilding.restore(found, made)
    if as_json:
        print_json({"schema": REBUILD_SCHEMA, "written": writing, **_to_json(made)})
    else:
        _print(made, writing=writing)
    places.tell(made.unreachable)
    if yes and made.unreachable:
        click.echo("Nothing was written, because a manifest is never changed and must have all images.", err=True)
    return places.exit_code(made.unreachable)


def _channels(channels: dict[str, str]) -> str:
    return ", ".join(f"{channel} {version}" for channel, version in channels.items()) or "-"


def _to_json(made: Rebuild) -> dict[str, Any]:
    from goldenami.release.rebuild import NOT_RESTORED

    return {
        "id": made.identity,
        "releases": [
            {"name": m.recipe, "version": m.version, "build_id": m.build_id, "images": len(m.images)}
            for m in made.releases
        ],
        "channels": [
            {"name": c.name, "channel": c.channel, "version": c.current, "previous": c.previous} for c in made.channels
        ],
        "kept": list(made.kept),
        "left_out": dict(made.left_out),
        "not_restored": list(NOT_RESTORED),
        "unreachable": places.to_json(made.unreachable),
    }


def _print(made: Rebuild, *, writing: bool) -> None:
    from goldenami.release.rebuild import NOT_RESTORED

    rows = [["release", m.label, f"{len(m.images)} images"] for m in made.releases]
    rows += [["channel", f"{c.name}@{c.channel}", c.current] for c in made.channels]
    if rows:
        print_table(["KIND", "RECORD", "CONTENTS"], rows)
    word = "restored" if writing else "would be restored"
    click.echo(f"{len(made.releases)} releases and {len(made.channels)} channels {word}.", err=True)
    click.echo(f"The id of the catalog is {made.identity}.", err=True)
    if made.kept:
        click.echo(f"{len(made.kept)} records exist and are not changed.", err=True)
    for what, reason in made.left_out.items():
        click.echo(f"left out: {what}: {reason}", err=True)
    if made.releases:
        click.echo(f"Not in the cloud, and not restored: {', '.join(NOT_RESTORED)}.", err=True)
    if not writing and rows:
        click.echo("Nothing was written. Add --yes to restore these records.", err=True)
