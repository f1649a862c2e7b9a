"""What the commands that change single things share: where they work, questions, and the task around the work."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, TypeVar

import click

from goldenami.cli.context import open_project, print_json, reach
from goldenami.cli.recipes import environment_option, json_option
from goldenami.errors import UsageError

if TYPE_CHECKING:
    from goldenami.aws.session import Cloud
    from goldenami.aws.waiters import Item
    from goldenami.model import Environment, Place
    from goldenami.task import Task, Undo

_F = TypeVar("_F", bound=Callable[..., Any])

yes_option = click.option("-y", "--yes", is_flag=True, help="Do not ask.")


def place_options(command: _F) -> _F:
    """--environment, --region, --account and --json."""
    command = json_option(command)
    command = click.option(
        "--account", metavar="ACCOUNT", help="Whose: a name of goldenami.yaml, or an id. Default: home."
    )(command)
    command = click.option("--region", metavar="REGION", help="Where. Default: the home region.")(command)
    return environment_option(command)


def open_place(
    environment_name: str | None, region: str | None, account: str | None
) -> tuple[Environment, Place, Cloud]:
    """The environment, a place in it and a cloud that answers. Raises AccessError for credentials of other accounts."""
    from goldenami.aws.session import Cloud

    _, environment = open_project(environment_name)
    place = find_place(environment, region, account)
    reach(environment)
    cloud = Cloud.of(environment)
    cloud.check_identity()
    return environment, place, cloud


def find_place(environment: Environment, region: str | None, account: str | None) -> Place:
    from goldenami.cli.images import account_id
    from goldenami.model import Place

    return Place(account_id(environment, account), region or environment.home_region)


@contextmanager
def carried_out(
    cloud: Cloud, environment: Environment, kind: str, arguments: Mapping[str, Any], *, undo: Undo | None = None
) -> Iterator[Task]:
    """A task with its progress on stderr; who calls is said first."""
    from goldenami import report, task

    console = report.stderr_console()
    with (
        report.progress(console) as emit,
        task.run(environment, kind, arguments, known=cloud, emit_to=emit, undo=undo) as job,
    ):
        yield job


def confirm(question: str, yes: bool) -> None:
    """Ask, on a terminal; elsewhere --yes is needed. Raises Abort for a no."""
    if yes:
        return
    if not sys.stdin.isatty():
        raise UsageError(f"{question.rstrip('?')}: there is no terminal to ask on", hint="Add --yes if it is meant.")
    click.confirm(question, abort=True, err=True)


def expand(environment: Environment, place: Place, references: Sequence[str]) -> list[str]:
    """References with releases (``name@channel``, ``name@version``) replaced by the ids of their snapshots in a
    place."""
    from goldenami.cli.images import open_catalog
    from goldenami.release.versions import Reference

    found: list[str] = []
    for reference in references:
        if "@" not in reference or reference.startswith("snap-"):
            found.append(reference)
            continue
        release = open_catalog(environment).find(Reference.parse(reference))
        images = [i for i in release.images if i.place == place]
        ids = [s.snapshot_id for i in images if i.mode == "copy" for s in i.snapshots]
        if not ids:
            raise UsageError(f"{release.label} owns no snapshot in {place}")
        found += ids
    return found


def print_snapshots(
    place: Place, items: Sequence[Item], *, as_json: bool, task_id: str | None = None, full: Sequence[Any] = ()
) -> None:
    """On stdout: as a table, or as the JSON that is versioned by its schema. ``full``: the rows of ``--json``, where
    more is known than the items say."""
    from goldenami.snapshots import listing

    if as_json:
        rows = list(full) or [listing.to_json(place, item) for item in items]
        print_json({"schema": listing.SCHEMA, **({"task": task_id} if task_id else {}), "snapshots": rows})
        return
    print_table(
        ("SNAPSHOT", "NAME", "AGE", "SIZE", "STATE", "ENCRYPTED", "TIER", "VOLUME"), [_row(item) for item in items]
    )


def _row(item: Item) -> list[str]:
    from goldenami.snapshots import listing, names

    state = str(item.get("State", ""))
    if state == "pending":
        state += f" {item.get('Progress') or '0%'}"
    started = item.get("StartTime")
    return [
        item["SnapshotId"],
        names.name_of(item) or "-",
        listing.age(started, datetime.now(started.tzinfo)) if started else "-",
        f"{item.get('VolumeSize', '?')} GiB",
        state,
        "yes" if item.get("Encrypted") else "no",
        str(item.get("StorageTier", "standard")),
        str(item.get("VolumeId", "-")),
    ]


def print_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    widths = [max(len(row[column]) for row in (header, *rows)) for column in range(len(header))]
    for row in (header, *rows):
        click.echo("  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)).rstrip())


def moment(text: str) -> datetime:
    """A moment as people write it: ``2026-11-24``, ``2026-11-24T03:00``, with or without a zone (else the local one);
    or how long ago: ``90m``, ``3h``, ``2d``. Raises UsageError."""
    units = {"m": "minutes", "h": "hours", "d": "days"}
    if text[:-1].isdigit() and text[-1:] in units:
        return datetime.now().astimezone() - timedelta(**{units[text[-1]]: int(text[:-1])})
    try:
        return datetime.fromisoformat(text).astimezone()
    except ValueError:
        raise UsageError(
            f"{text!r} is not a time", hint="Write 2026-11-24T03:00, 2026-11-24T03:00+01:00, or 3h for three hours ago."
        ) from None
