"""The commands that move channels without a build: promote, rollback, revoke, restore, history."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from goldenami.cli import completing, places
from goldenami.cli.context import keeping_memory, open_catalog, open_project, print_json, print_table, reach
from goldenami.cli.options import environment_option, history_svg_option, json_option, yes_option
from goldenami.cli.output import write_file
from goldenami.cli.tasks import confirm
from goldenami.errors import TargetsFailed, UsageError
from goldenami.nextstep import step

if TYPE_CHECKING:
    from goldenami.release.channels import Moved, Revoked
    from goldenami.release.versions import Reference

CHANNEL_SCHEMA = "goldenami.channel-move/1"
REVOCATION_SCHEMA = "goldenami.revoke/1"
HISTORY_SCHEMA = "goldenami.history/1"

reason_option = click.option("--reason", metavar="TEXT", help="Why. The history of the channel shows it.")
partial_option = click.option(
    "--partial",
    is_flag=True,
    help="Move the channel also if the release has no image in some of its places. The parameters there stay.",
)


@click.command()
@click.argument("reference", metavar="NAME@VERSION|NAME@CHANNEL", shell_complete=completing.releases)
@click.option(
    "--to", "channel", required=True, metavar="CHANNEL", shell_complete=completing.channels, help="The channel to move."
)
@reason_option
@partial_option
@environment_option
@json_option
def promote(
    reference: str, channel: str, reason: str | None, partial: bool, environment_name: str | None, as_json: bool
) -> int:
    """Point a channel to an existing release, with the same images: nothing is built or copied.

    The parameters of the channel move in all accounts and regions or in none. The release must have an image in every
    place in which the channel is used, and must meet the conditions of goldenami.yaml (`channels`). The exit code is 5
    if it does not, and 6 if a parameter cannot be moved.

    If the process is killed, `goldenami resume ID` completes the move and `goldenami clean ID` undoes it.
    """
    from goldenami import report
    from goldenami.release import channels

    parsed = _parse(reference)
    _, environment = open_project(environment_name)
    reach(environment)
    with report.progress(report.stderr_console()) as emit:
        moved = channels.promote(environment, parsed, channel, reason=reason, partial=partial, emit_to=emit)
    return _print_moved(moved, as_json=as_json)


@click.command()
@click.argument("reference", metavar="NAME@CHANNEL", shell_complete=completing.releases)
@click.option("--to", "version", metavar="VERSION", help="A version that was in the channel. Default: the one before.")
@reason_option
@partial_option
@environment_option
@json_option
def rollback(
    reference: str, version: str | None, reason: str | None, partial: bool, environment_name: str | None, as_json: bool
) -> int:
    """Point a channel back to an earlier release, in all accounts and regions or in none.

    A build with the inputs of the release that is left does not move the channel to it again; `goldenami promote` does.
    Revoked and retired releases are skipped.
    """
    from goldenami import report
    from goldenami.release import channels

    parsed = _parse(reference)
    if parsed.channel is None:
        raise UsageError(f"found {reference}, expected NAME@CHANNEL", hint="Write the channel, such as stable.")
    _, environment = open_project(environment_name)
    reach(environment)
    with report.progress(report.stderr_console()) as emit:
        moved = channels.rollback(
            environment, parsed.name, parsed.channel, to=version, reason=reason, partial=partial, emit_to=emit
        )
    return _print_moved(moved, as_json=as_json)


@click.command()
@click.argument("reference", metavar="NAME@VERSION", shell_complete=completing.releases)
@click.option(
    "--reason", required=True, metavar="TEXT", help="What is wrong. Everyone who asks for the release sees it."
)
@click.option("--cascade", is_flag=True, help="Revoke also the releases that were built on it.")
@yes_option
@environment_option
@json_option
def revoke(reference: str, reason: str, cascade: bool, yes: bool, environment_name: str | None, as_json: bool) -> int:
    """Take a bad release out of use: no reference resolves to it, no channel points to it, no account can launch it.

    Each channel that points to it goes back to its last usable release. The launch permissions and the sharing of the
    snapshots end, and the images are disabled. Running instances continue; they are listed, with everything else that
    uses the images. A second call does what is left. `goldenami restore` ends the revocation.

    The exit code is 6 if an account or region did not answer, or a step failed.
    """
    from goldenami import report
    from goldenami.release import channels

    parsed = _parse_version(reference)
    _, environment = open_project(environment_name)
    catalog = open_catalog(environment)
    manifest = catalog.get(parsed.name, str(parsed.version))
    reach(environment)
    if not yes and catalog.marks.revocation(parsed.name, manifest.version) is None:
        children = channels.children_of(catalog, manifest) if cascade else ()
        labels = ", ".join(one.label for one in (manifest, *children))
        confirm(f"Revoke {labels} in all accounts and regions?", yes)
    console = report.stderr_console()
    with report.progress(console) as emit:
        done = channels.revoke(environment, parsed.name, manifest.version, reason=reason, cascade=cascade, emit_to=emit)
    if as_json:
        print_json({"schema": REVOCATION_SCHEMA, **_revoked_json(done)})
    else:
        for name, version in done.moved.items():
            click.echo(f"{name} points to {version} now" if version else f"{name} has no earlier release", err=True)
        click.echo(f"{_labels(done)} is revoked; {len(done.images)} images were disabled now", err=True)
        for use in done.uses:
            click.echo(use)
        if done.children:
            click.echo(f"Built on it, and not revoked (--cascade): {', '.join(done.children)}", err=True)
    return _end(done, "revoke", "--reason", reason, *(["--cascade"] if cascade else []))


@click.command()
@click.argument("reference", metavar="NAME@VERSION", shell_complete=completing.releases)
@click.option("--reason", help="Why; kept in the history.")
@environment_option
@json_option
def restore(reference: str, reason: str | None, environment_name: str | None, as_json: bool) -> int:
    """End the revocation of a release: enable its images and share them again, as they were when it was built.

    No channel moves; `goldenami promote` moves one. The exit code is 6 if an account or region did not answer, or a
    step failed; then the release stays revoked.
    """
    from goldenami import report
    from goldenami.release import channels

    parsed = _parse_version(reference)
    _, environment = open_project(environment_name)
    reach(environment)
    with report.progress(report.stderr_console()) as emit:
        done = channels.restore(environment, parsed.name, str(parsed.version), reason=reason, emit_to=emit)
    if as_json:
        print_json({"schema": REVOCATION_SCHEMA, **_revoked_json(done)})
    elif not done.left and not done.unreachable:
        click.echo(f"{_labels(done)} is not revoked any more; {len(done.images)} images are enabled", err=True)
    return _end(done, "restore", *(["--reason", reason] if reason else []))


@click.command()
@click.argument("reference", metavar="NAME[@CHANNEL|@VERSION]", shell_complete=completing.recipes_or_releases)
@environment_option
@history_svg_option
@json_option
def history(reference: str, environment_name: str | None, svg: Path | None, as_json: bool) -> None:
    """Show what happened to the releases of a recipe: every move of a channel, revocations, pins and retirements.

    Oldest first, with the identity of the caller and the reason. Reads only the catalog.
    """
    print_history(reference, environment_name, svg, as_json=as_json)


@keeping_memory()
def print_history(reference: str, environment_name: str | None, svg: Path | None, *, as_json: bool) -> None:
    """Print what happened to the releases of a reference, and draw it into a file if one is given."""
    from goldenami.release.history import history_of

    parsed = _parse(reference)
    _, environment = open_project(environment_name)
    catalog = open_catalog(environment).indexed(parsed.name)
    events = history_of(catalog, parsed)
    if svg is not None:
        from goldenami.release import history_picture

        write_file(svg, history_picture.draw(events, f"History of {reference}"), "--svg")
        click.echo(f"Drew {svg}", err=True)
    rows = [asdict(event) for event in events]
    if as_json:
        print_json({"schema": HISTORY_SCHEMA, "name": parsed.name, "events": rows})
        return
    columns = ("time", "action", "channel", "version", "by", "reason")
    print_table([c.upper() for c in columns], [[row[c] or "-" for c in columns] for row in rows])


def _parse(reference: str) -> Reference:
    from goldenami.release.versions import Reference

    return Reference.parse(reference)


def _parse_version(reference: str) -> Reference:
    parsed = _parse(reference)
    if parsed.version is None:
        raise UsageError(
            f"found {reference}, expected NAME@VERSION",
            hint=f"{step('history', parsed.name)} shows the versions. A channel can move meanwhile.",
        )
    return parsed


def _print_moved(moved: Moved, *, as_json: bool) -> int:
    from goldenami import report

    channel = moved.channel
    if as_json:
        form: dict[str, Any] = {
            "name": channel.name,
            "channel": channel.channel,
            "version": channel.current,
            "before": moved.before,
            "changed": moved.changed,
            "task": moved.task_id,
            "images": [
                {"account": i.account, "region": i.region, "architecture": i.architecture, "image_id": i.image_id}
                for i in moved.manifest.images
            ],
            "failures": dict(moved.failures),
            "unsent": dict(moved.unsent),
        }
        print_json({"schema": CHANNEL_SCHEMA, **form})
    else:
        before = f"; before: {moved.before}" if moved.before not in (None, channel.current) else ""
        word = "points to" if moved.changed else "already points to"
        click.echo(f"{channel.name}@{channel.channel} {word} {channel.current}{before}", err=True)
    if moved.failures:
        error = TargetsFailed(
            f"the channel did not move in {', '.join(moved.failures)}, which are not required",
            failures=dict(moved.failures),
        )
        report.render_failure(error, report.stderr_console())
        return error.exit_code
    return 0


def _labels(done: Revoked) -> str:
    return ", ".join(one.label for one in done.releases)


def _revoked_json(done: Revoked) -> dict[str, Any]:
    return {
        "task": done.task_id,
        "releases": [{"name": one.recipe, "version": one.version} for one in done.releases],
        "channels": dict(done.moved),
        "children": list(done.children),
        "uses": list(done.uses),
        "images": list(done.images),
        "left": dict(done.left),
        "unsent": dict(done.unsent),
        "unreachable": places.to_json(done.unreachable),
    }


def _end(done: Revoked, what: str, *options: str) -> int:
    from goldenami import report
    from goldenami.release import channels

    error = channels.failed(done, what, *options)
    if error is not None:
        report.render_failure(error, report.stderr_console())
    return places.exit_code(done.left, done.unreachable)
