"""The commands about the end of releases and resources: retire, pin, unpin, orphans."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import click

from goldenami.cli import completing, places
from goldenami.cli.context import open_catalog, open_project, print_json, reach, recipes_for
from goldenami.cli.options import environment_option, json_option, yes_option
from goldenami.cli.tasks import confirm
from goldenami.errors import UsageError
from goldenami.model import timestamp, utc_text
from goldenami.nextstep import step

if TYPE_CHECKING:
    from goldenami.model import ImageManifest
    from goldenami.release.catalog import Catalog
    from goldenami.release.orphans import Orphans
    from goldenami.release.retire import Retired

RETIRE_SCHEMA = "goldenami.retire/1"
PIN_SCHEMA = "goldenami.pins/1"
ORPHANS_SCHEMA = "goldenami.orphans/1"


@click.command()
@click.argument("recipes", metavar="[RECIPE]…", nargs=-1, shell_complete=completing.names)
@environment_option
@click.option("--dry-run", is_flag=True, help="Only list which releases would be kept and deleted, and why.")
@json_option
def retire(recipes: tuple[str, ...], environment_name: str | None, dry_run: bool, as_json: bool) -> int:
    """Deprecate, disable and delete releases by the `retention:` of their recipes. Without RECIPE, of all recipes.

    A release is kept if it is in use in any account or region of the environment, pinned, current or previous in a
    channel, protected from deregistration, or shared with an account that cannot be queried. If an account does not
    answer, nothing is deleted. Every release is listed with the rule that decided. The exit code is 6 if an account or
    region did not answer, or something could not be deleted.
    """
    from goldenami import recipe, report
    from goldenami.release import retire as retiring
    from goldenami.release.catalog import Catalog

    project, environment = open_project(environment_name)
    rules = recipe.retention_rules(project, environment, recipes or recipes_for(project, environment))
    reach(environment)
    console = report.stderr_console()
    with report.progress(console) as emit:
        retired = retiring.retire(
            environment,
            Catalog.of(environment),
            rules,
            datetime.now(UTC),
            only=sorted(rules) if recipes else (),
            dry_run=dry_run,
            emit_to=emit,
        )
    if as_json:
        print_json({"schema": RETIRE_SCHEMA, "dry_run": dry_run, **_retired_json(retired)})
    else:
        _print_retired(retired, dry_run=dry_run)
    error = retiring.failed(retired)
    if error is not None:
        report.render_failure(error, console)
    return places.exit_code(retired.left, retired.unreachable)


@click.command()
@click.argument("reference", metavar="NAME@VERSION|NAME@CHANNEL", shell_complete=completing.releases)
@click.option("--reason", required=True, help="Why the release is kept. It is shown wherever the release is listed.")
@environment_option
@json_option
def pin(reference: str, reason: str, environment_name: str | None, as_json: bool) -> None:
    """Keep a release until it is unpinned; its retention rules do not apply.

    NAME@CHANNEL pins the release that the channel points to now.
    """
    catalog, manifest = _find_release(reference, environment_name)
    if not reason.strip():
        raise UsageError("--reason is empty", hint="Write which team needs the release, and until when.")
    made = catalog.marks.pin(manifest.recipe, manifest.version, reason.strip(), datetime.now(UTC))
    if as_json:
        form = {"name": made.name, "version": made.version, "reason": made.reason, "pinned": made.pinned}
        print_json({"schema": PIN_SCHEMA, "pins": [form]})
    else:
        click.echo(f"{manifest.label} is pinned: {made.reason}", err=True)


@click.command()
@click.argument("reference", metavar="NAME@VERSION|NAME@CHANNEL", shell_complete=completing.releases)
@environment_option
@json_option
def unpin(reference: str, environment_name: str | None, as_json: bool) -> None:
    """Apply the retention rules to a release again. A release that is not pinned is not changed."""
    catalog, manifest = _find_release(reference, environment_name)
    was = catalog.marks.unpin(manifest.recipe, manifest.version)
    if as_json:
        print_json({"schema": PIN_SCHEMA, "pins": []})
    else:
        word = "is not pinned any more" if was else "was not pinned"
        click.echo(f"{manifest.label} {word}", err=True)


@click.command()
@environment_option
@click.option(
    "--delete", "deleting", is_flag=True, help="Delete the orphans. Without this option they are only listed."
)
@click.option("--dry-run", is_flag=True, help="Only list the orphans. This is the default.")
@click.option("--all", "every", is_flag=True, help="List owned resources as well, with their owners.")
@yes_option
@json_option
def orphans(environment_name: str | None, deleting: bool, dry_run: bool, every: bool, yes: bool, as_json: bool) -> int:
    """Find resources with goldenami's tags that have no owner, in every account and region: instances, images,
    snapshots, volumes, key pairs, security groups and parameters.

    An owner is a release, an instance, an unfinished build, a task or a schedule. Resources younger than a day are
    kept as well, because their build may run on another machine. An image is kept if it is in use in any account or
    region of the environment, or if its use cannot be determined.

    Only resources of this catalog and environment can be orphans. Those of other catalogs and environments are listed
    as theirs, and those whose tags name no catalog as unknown. Both are kept.

    --delete asks for confirmation. The exit code is 6 if an account or region did not answer, or something could not
    be deleted.
    """
    from goldenami.aws.session import Cloud
    from goldenami.release import orphans as searching
    from goldenami.release.catalog import Catalog
    from goldenami.release.empty import refuse_empty

    if deleting and dry_run:
        raise UsageError("--delete and --dry-run cannot be combined", hint="Give one of them.")
    _, environment = open_project(environment_name)
    reach(environment)
    cloud, catalog, now = Cloud.of(environment), Catalog.of(environment), datetime.now(UTC)
    cloud.check_caller()
    if deleting:
        refuse_empty(cloud, environment, catalog)
    found = searching.find(cloud, environment, catalog, now)
    if deleting and found.orphaned:
        count = len(found.orphaned)
        if not yes and not as_json:
            _print_orphans(found, deleting=False, every=False)
        confirm(f"Delete {count} orphan{'s' if count != 1 else ''}? This cannot be undone.", yes)
        only = {resource.id for resource in found.orphaned}
        found = searching.delete(cloud, environment, catalog, now, only=only)
    if as_json:
        print_json({"schema": ORPHANS_SCHEMA, "deleted": deleting, **_orphans_json(found, every=every)})
    else:
        _print_orphans(found, deleting=deleting, every=every)
    return places.exit_code(found.left, found.unreachable)


def _find_release(reference: str, environment_name: str | None) -> tuple[Catalog, ImageManifest]:
    from goldenami.release.versions import Reference

    parsed = Reference.parse(reference)
    if parsed.version is None and parsed.channel is None:
        raise UsageError(
            f"{reference} does not name a release", hint=f"Write {reference}@VERSION or {reference}@CHANNEL."
        )
    _, environment = open_project(environment_name)
    catalog = open_catalog(environment)
    return catalog, catalog.find(parsed)


def _retired_json(retired: Retired) -> dict[str, Any]:
    return {
        "task": retired.task_id or None,
        "releases": [
            {
                "name": v.release.manifest.recipe,
                "version": v.release.manifest.version,
                "created": v.release.manifest.created,
                "fate": v.fate,
                "rule": v.rule,
                "uses": list(v.release.uses),
                "images": sorted({i.image_id for i in v.release.manifest.images}),
            }
            for v in retired.decisions
        ],
        "deleted": list(retired.deleted),
        "left": dict(retired.left),
        "waiting": {label: timestamp(end) for label, end in retired.waiting.items()},
        "unreachable": places.to_json(retired.unreachable),
        **_bins_json(retired),
    }


def _bins_json(done: Retired | Orphans) -> dict[str, Any]:
    return {
        "recoverable": {what: timestamp(until) for what, until in done.recoverable.items()},
        "unknown_bins": places.to_json(done.unknown_bins),
    }


def _bin_of(done: Retired | Orphans, what: str) -> str:
    """Return the note that follows a deleted resource: until when the Recycle Bin keeps it."""
    until = done.recoverable.get(what)
    return f" (in the Recycle Bin until {utc_text(until, seconds=False)})" if until is not None else ""


def _print_unknown_bins(done: Retired | Orphans) -> None:
    for place, reason in sorted(done.unknown_bins.items()):
        click.echo(
            f"the Recycle Bin rules of {place} could not be read, so resources deleted there may be gone for good: "
            f"{reason}",
            err=True,
        )


def _print_retired(retired: Retired, *, dry_run: bool) -> None:
    for decision in retired.decisions:
        click.echo(f"{decision.fate:<9}  {decision.release.label}: {decision.rule}")
    places.tell(retired.unreachable, "so nothing is deleted")
    for label, end in retired.waiting.items():
        click.echo(
            f"{label} is disabled; it was protected from deregistration with a cooldown, so AWS refuses to delete it "
            f"until {utc_text(end, seconds=False)}; {step('retire')} deletes it then",
            err=True,
        )
    gone = len([v for v in retired.with_fate("delete") if v.release.label not in retired.waiting])
    if dry_run:
        click.echo(f"{gone} of {len(retired.decisions)} releases would be deleted", err=True)
        for what in retired.recoverable:
            click.echo(f"  {what}{_bin_of(retired, what)}", err=True)
    elif retired.decisions:
        click.echo(f"deleted {len(retired.deleted)} resources of {gone} releases", err=True)
        for line in retired.deleted:
            click.echo(f"  {line}{_bin_of(retired, line)}", err=True)
    else:
        click.echo(f"There are no releases yet. {step('build', 'RECIPE')} makes one.", err=True)
    _print_unknown_bins(retired)


def _orphans_json(found: Orphans, *, every: bool) -> dict[str, Any]:
    return {
        "orphans": [
            {
                "kind": v.resource.kind,
                "id": v.resource.id,
                "place": str(v.resource.place),
                "orphan": v.orphan,
                "owner": v.whose,
                "rule": v.rule,
            }
            for v in found.decisions
            if v.orphan or every or v.whose != "ours"
        ],
        "gone": [str(resource) for resource in found.deleted],
        "left": dict(found.left),
        "unreachable": places.to_json(found.unreachable),
        **_bins_json(found),
    }


def _print_of_others(found: Orphans, *, every: bool) -> None:
    """Print what is not ours: with ``every`` each resource, otherwise one line for each owner."""
    others = [decision for decision in found.decisions if decision.whose != "ours"]
    if every:
        for decision in others:
            click.echo(f"{decision.whose:<7}  {decision.resource}: {decision.rule}")
        return
    for (whose, rule), count in sorted(Counter((decision.whose, decision.rule) for decision in others).items()):
        click.echo(f"{whose:<7}  {count} resource{'s' if count != 1 else ''} {rule}")
    if others:
        click.echo("Nothing of other or unknown owners is deleted; --all lists each resource", err=True)


def _print_orphans(found: Orphans, *, deleting: bool, every: bool) -> None:
    for decision in found.of("ours"):
        if decision.orphan or every:
            word = "deleted" if decision.resource in found.deleted else "orphan" if decision.orphan else "owned"
            click.echo(f"{word:<7}  {decision.resource}: {decision.rule}{_bin_of(found, str(decision.resource))}")
    _print_of_others(found, every=every)
    for what, why in found.left.items():
        click.echo(f"not deleted: {what}: {why}", err=True)
    places.tell(found.unreachable)
    _print_unknown_bins(found)
    count = len(found.orphaned)
    if count and not deleting:
        click.echo(f"{count} orphan{'s' if count != 1 else ''}; {step('orphans', '--delete')} deletes them", err=True)
    elif not count:
        where = " in the places that answered" if found.unreachable else ""
        click.echo(f"No orphans{where}.", err=True)
