"""Helpers of commands that change single resources: open a place, ask for confirmation, run a task."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from typing import TYPE_CHECKING, Any

import click

from goldenami.cli.context import account_id, open_project, reach
from goldenami.cli.moments import to_moment
from goldenami.errors import UsageError

if TYPE_CHECKING:
    from goldenami.aws.session import Cloud
    from goldenami.cli.options import Where
    from goldenami.model import Environment, Place
    from goldenami.task import Task, Undo


def open_place(where: Where) -> tuple[Environment, Place, Cloud]:
    """Return the environment, the place of the options and the cloud.

    Raises AccessError if the credentials belong to an account outside the environment.
    """
    environment, (place,), cloud = open_places(where)
    return environment, place, cloud


def open_places(where: Where, *, everywhere: bool = False) -> tuple[Environment, list[Place], Cloud]:
    """Return the environment, the places of the options and the cloud.

    ``everywhere``: every account of the environment in every region that it uses. --region and --account restrict
    this. Without ``everywhere`` there is one place. Raises AccessError as ``open_place`` does.
    """
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
    """Return the place of a region and an account. The default is the environment's home. ``account``: name or id."""
    from goldenami.model import Place

    return Place(account_id(environment, account), region or environment.home_region)


def environment_key(environment: Environment, place: Place) -> str:
    """Return the KMS key of the environment's targets in a place. Raises UsageError unless there is exactly one."""
    keys = {t.kms_key for t in environment.targets if t.place == place and t.kms_key}
    if len(keys) != 1:
        found = f"the keys {', '.join(sorted(keys))}" if keys else "no key"
        raise UsageError(
            f"--kms-key is missing, and environment {environment.name} has {found} for {place}. Expected: one key",
            hint="Give --kms-key with an alias or a key id, or set kms_key in one target of goldenami.yaml.",
        )
    return keys.pop()


@contextmanager
def run_task(
    cloud: Cloud, environment: Environment, kind: str, arguments: Mapping[str, Any], *, undo: Undo | None = None
) -> Iterator[Task]:
    """Run a task and show its progress on stderr. The task ends when the context is left."""
    from goldenami import report, task

    console = report.stderr_console()
    with (
        report.progress(console) as emit,
        task.run(environment, kind, arguments, known=cloud, emit_to=emit, undo=undo) as job,
    ):
        yield job


def confirm(question: str, yes: bool) -> None:
    """Ask for confirmation on the terminal, unless ``yes``.

    Raises click.Abort if the user declines, and UsageError if stdin is not a terminal.
    """
    if yes:
        return
    if not sys.stdin.isatty():
        raise UsageError(
            f"{question} This needs a confirmation, and stdin is not a terminal.", hint="Add --yes to confirm."
        )
    click.confirm(question, abort=True, err=True)


def confirm_loss(text: str, accepted: bool, hint: str) -> None:
    """Ask whether something may be lost, unless ``accepted``. --yes is no answer to this question. ``hint``: how to
    accept it without a terminal.

    Raises click.Abort if the user declines, and UsageError if stdin is not a terminal.
    """
    if accepted:
        return
    if not sys.stdin.isatty():
        raise UsageError(f"{text}. This needs a confirmation of its own, and stdin is not a terminal.", hint=hint)
    click.confirm(f"{text}. Continue?", abort=True, err=True)


def told_address(instance: str, address: str) -> str:
    """Return what happens to the public address of an instance that is stopped."""
    return (
        f"{instance} has the public address {address} without an Elastic IP address. It gets another one when it "
        "is started again"
    )


def confirm_address(instance: str, address: str | None, accepted: bool) -> None:
    """Ask whether an instance may lose its public address, unless it has none to lose. See :func:`confirm_loss`."""
    if address is not None:
        confirm_loss(
            told_address(instance, address),
            accepted,
            "Add --new-public-address to accept that, or associate an Elastic IP address first.",
        )


def parse_time(text: str) -> datetime:
    """Parse a time of the command line.

    Forms: ``2026-11-24``, ``2026-11-24T03:00`` (UTC), ``2026-11-24T03:00+01:00``; or a duration before now: ``90m``,
    ``3h``, ``2d``, ``4w``. Returns it in UTC, the zone of all commands. Raises UsageError for any other text.
    """
    try:
        return to_moment(text)
    except ValueError:
        raise UsageError(
            f"found {text[:60]!r}, expected a time",
            hint="Write 2026-11-24T03:00 (UTC), 2026-11-24T03:00+01:00, or 3h for three hours ago.",
        ) from None
