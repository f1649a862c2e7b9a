"""The commands that compare releases with what their recipes declare now: distribute and drift."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import click

from goldenami.cli import completing, places
from goldenami.cli.context import open_catalog, open_project, print_json, print_table, reach, recipes_for
from goldenami.cli.options import DIFFERS, environment_option, json_option
from goldenami.errors import NotFound
from goldenami.nextstep import step

if TYPE_CHECKING:
    from collections.abc import Iterable

    from goldenami.release.difference import Difference

DISTRIBUTE_SCHEMA: Final = "goldenami.distribute/1"
DRIFT_SCHEMA: Final = "goldenami.drift/1"


@click.command()
@click.argument("reference", metavar="NAME@VERSION|NAME@CHANNEL", shell_complete=completing.releases)
@click.option("--plan", "--dry-run", "planning", is_flag=True, help="Only print what would change.")
@environment_option
@json_option
def distribute(reference: str, planning: bool, environment_name: str | None, as_json: bool) -> int:
    """Bring a release to the state that its recipe and goldenami.yaml declare now, without a build.

    Targets that have no image yet get a copy. Accounts and organizations get access, or lose it. Tags, the time of
    deprecation, grants, and the parameters of the version and of its channels are set where they differ. Exactly the
    difference is changed, and stdout lists it; a second run changes nothing. The image of a place that is no target
    any more stays until `goldenami retire` deletes the release.

    If the process is killed, `goldenami resume ID`, or the same command again, does the rest. The exit code is 6 if
    something could not be changed.
    """
    from goldenami import recipe, report
    from goldenami.release import redistribute
    from goldenami.release.versions import Reference

    parsed = Reference.parse(reference)
    project, environment = open_project(environment_name)
    declaration = recipe.declaration(project, environment, parsed.name)
    reach(environment)
    with report.progress(report.stderr_console()) as emit:
        done = redistribute.distribute(environment, parsed, declaration, dry_run=planning, emit_to=emit)
    found = done.difference
    if as_json:
        print_json({"schema": DISTRIBUTE_SCHEMA, "task": done.task_id, "plan": planning, **_to_json(found)})
    else:
        _print([found])
        word = "would be made" if planning else "were made"
        count = len(found.changes)
        text = f"{count} changes {word}" if count else "it is as declared; nothing was changed"
        click.echo(f"{found.manifest.label}: {text}", err=True)
    places.tell(found.unreachable)
    return places.exit_code(found.unreachable)


@click.command()
@click.argument("names", metavar="[NAME]…", nargs=-1, shell_complete=completing.names)
@click.option(
    "--detailed-exitcode",
    "detailed",
    is_flag=True,
    help="Exit with 8 if a release is not as declared. Without this option the exit code is 0 then.",
)
@environment_option
@json_option
def drift(names: tuple[str, ...], detailed: bool, environment_name: str | None, as_json: bool) -> int:
    """Compare every release that a channel points to with what its recipe and goldenami.yaml declare now.

    NAME: only the releases of these recipes. Nothing is changed; `goldenami distribute` makes the changes. Releases of
    recipes that are not in the project are named on stderr and left out. The exit code is 6 if an account or region did
    not answer.
    """
    from goldenami import recipe
    from goldenami.aws.session import Cloud
    from goldenami.release import redistribute

    project, environment = open_project(environment_name)
    catalog = open_catalog(environment)
    declarations = recipe.declarations(project, environment, names or recipes_for(project, environment))
    released = set(catalog.names())
    for name in sorted(declarations.keys() - released) if names else ():
        raise NotFound(f"{name} has no release", hint=f"{step('build', name)} makes one.")
    reach(environment)
    cloud = Cloud.of(environment)
    cloud.check_caller()
    found = redistribute.find_drift(cloud, environment, catalog, declarations)
    left_out = sorted(released - declarations.keys()) if not names else []
    if as_json:
        print_json({
            "schema": DRIFT_SCHEMA,
            "releases": [_to_json(one) for one in found],
            "left_out": left_out,
            "unreachable": places.to_json(_unreachable(found)),
        })  # fmt: skip
    else:
        _print(found)
        for name in left_out:
            click.echo(f"{name} is left out: the project has no recipe of this name", err=True)
        differing = [one.manifest for one in found if not one.in_sync]
        for manifest in differing:
            label = f"{manifest.recipe}@{manifest.version}"
            click.echo(f"{manifest.label} is not as declared: run {step('distribute', label)}", err=True)
        if not differing:
            releases = "1 release is" if len(found) == 1 else f"{len(found)} releases are"
            click.echo(f"{releases} as declared", err=True)
    places.tell(_unreachable(found))
    code = places.exit_code(_unreachable(found))
    return code or (DIFFERS if detailed and not all(one.in_sync for one in found) else 0)


def _unreachable(found: Iterable[Difference]) -> dict[Any, str]:
    return {place: reason for one in found for place, reason in one.unreachable.items()}


def _print(found: Iterable[Difference]) -> None:
    rows = [
        [one.manifest.label, str(c.place), c.resource, f"{c.kind} {c.what}".strip(), c.before or "-", c.after or "-"]
        for one in found
        for c in one.changes
    ]
    if rows:
        print_table(["RELEASE", "PLACE", "RESOURCE", "WHAT", "FROM", "TO"], rows)
    for one in found:
        for text in one.broken:
            click.echo(f"{one.manifest.label}: cannot be mended: {text}", err=True)
        for text in one.kept:
            click.echo(f"{one.manifest.label}: kept: {text}", err=True)


def _to_json(found: Difference) -> dict[str, Any]:
    return {
        "name": found.manifest.recipe,
        "version": found.manifest.version,
        "channels": list(found.channels),
        "in_sync": found.in_sync,
        "changes": [
            {
                "account": c.place.account,
                "region": c.place.region,
                "image_id": c.image_id or None,
                "resource": c.resource,
                "kind": c.kind,
                "what": c.what or None,
                "from": c.before,
                "to": c.after,
            }
            for c in found.changes
        ],
        "broken": list(found.broken),
        "kept": list(found.kept),
        "unreachable": places.to_json(found.unreachable),
    }
