"""What the commands that change single things share: where they work, questions, and the task around the work."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

import click

from goldenami.cli.context import account_id, open_project, reach
from goldenami.errors import UsageError

if TYPE_CHECKING:
    from goldenami.aws.session import Cloud
    from goldenami.cli.options import Where
    from goldenami.model import Environment, Place
    from goldenami.task import Task, Undo


def open_place(where: Where) -> tuple[Environment, Place, Cloud]:
    """The environment, a place in it and a cloud that answers. Raises AccessError for credentials of other accounts."""
    environment, (place,), cloud = open_places(where)
    return environment, place, cloud


def open_places(where: Where, *, everywhere: bool = False) -> tuple[Environment, list[Place], Cloud]:
    """The same for a command that can ask all places at once. ``everywhere``: each account of the environment in each
    region that it uses; the options for one place narrow that down."""
    from goldenami.aws.session import Cloud
    from goldenami.release.usage import places_of

    _, environment = open_project(where.environment_name)
    place = find_place(environment, where.region, where.account)
    places = [place]
    if everywhere:
        places = [
            p
            for p in places_of(environment)
            if (where.region is None or p.region == place.region)
            and (where.account is None or p.account == place.account)
        ] or places
    reach(environment)
    cloud = Cloud.of(environment)
    cloud.check_caller()
    return environment, places, cloud


def find_place(environment: Environment, region: str | None, account: str | None) -> Place:
    from goldenami.model import Place

    return Place(account_id(environment, account), region or environment.home_region)


def environment_key(environment: Environment, place: Place) -> str:
    found = {t.kms_key for t in environment.targets if t.place == place and t.kms_key}
    if len(found) != 1:
        raise UsageError(f"environment {environment.name} names no key for {place}", hint="Name one with --kms-key.")
    return found.pop()


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
