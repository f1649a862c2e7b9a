"""Restore the volumes of an instance from snapshots."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import asdict
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import click

from goldenami.cli.context import print_json, print_table
from goldenami.cli.options import (
    Where,
    address_option,
    dry_run_option,
    instance_argument,
    place_options,
    ssh_options,
    yes_option,
)
from goldenami.cli.snapshot.chosen import expect_one
from goldenami.cli.tasks import confirm, confirm_address, confirm_loss, open_place, parse_time, run_task, told_address
from goldenami.errors import TestsFailed, UsageError
from goldenami.model import utc_text
from goldenami.nextstep import command

if TYPE_CHECKING:
    from goldenami.aws.session import Cloud
    from goldenami.aws.waiters import Item
    from goldenami.model import Environment, Place
    from goldenami.snapshots.restore import Step, Undo
    from goldenami.ssh import Access

RESTORE_SCHEMA = "goldenami.restore/1"


@click.command()
@instance_argument
@click.option("--to", metavar="TIME|NAME|ID", help="Time, Name tag of snapshots, or id of one snapshot.")
@click.option("--device", "devices", metavar="DEVICE", multiple=True, help="Restore only the volume at this device.")
@click.option("--undo", is_flag=True, help="Attach the volumes again that one task replaced, by default the last one.")
@click.option("--task", metavar="ID", help="With --undo: the task whose exchange is undone.")
@click.option(
    "--unencrypted", is_flag=True, help="With --undo: accept that an unencrypted volume replaces an encrypted one."
)
@dry_run_option
@click.option(
    "--check", metavar="COMMAND", help="Afterwards run this command on the instance over SSH. It must exit with 0."
)
@click.option(
    "--health-timeout",
    type=float,
    default=600.0,
    show_default=True,
    metavar="SECONDS",
    help="Seconds to wait for the status checks.",
)
@ssh_options
@address_option
@yes_option
@place_options
def restore(
    reference: str,
    to: str | None,
    devices: tuple[str, ...],
    undo: bool,
    task: str | None,
    unencrypted: bool,
    dry_run: bool,
    check: str | None,
    health_timeout: float,
    access: Access,
    new_public_address: bool,
    yes: bool,
    where: Where,
    as_json: bool,
) -> int:
    """Restore the volumes of an instance from snapshots.

    The plan is printed first. If --to is a time, each volume is restored from the last snapshot of what the instance
    had then, also if the volume was replaced since. A volume without such a snapshot, and one that was attached later,
    is an error. If --to is the name or id of a snapshot, all volumes are restored that have a snapshot from the same
    call. The instance is stopped, its volumes are exchanged, and it is started again. Then EC2's status checks and the
    command of --check must pass. If one of them fails, the exit code is 5, and the restored volumes stay attached. The
    old volumes are always kept, and --undo attaches those of one task again. Members of Auto Scaling groups and
    instances with an instance store are refused, because a stop would destroy them or their data.

    Example: goldenami snapshot restore i-0a1b --to 2026-11-24T03:00
    """
    from goldenami.snapshots import exchange, interruption, names, points
    from goldenami.snapshots import restore as restoring

    expect_one(
        {"--to": to is not None, "--undo": undo}, "Give --to with a time, a Name tag or a snapshot id; or --undo."
    )
    if not undo and (task is not None or unencrypted):
        raise UsageError("--task and --unencrypted need --undo", hint="Omit them with --to.")
    if check is not None and not dry_run:
        access = access.with_keys()
    environment, place, cloud = open_place(where)
    instance = names.instance(cloud, place, reference)
    id = instance["InstanceId"]
    if undo:
        choices = restoring.undo_choices(cloud, place, instance)
        back = restoring.choose_undo(choices, id, task, devices)
        steps, exchanged = restoring.undo_steps(back), [now for now, _ in back.pairs]
        header = {"undoes": back.task, "decrypted": back.decrypted}
        _tell_undo(choices, back)
    else:
        chosen = points.only(points.choose(cloud, place, id, _point(str(to))), devices)
        steps, exchanged, header = restoring.plan(chosen), [p.volume for p in chosen if p.snapshot is not None], {}
    if dry_run or not as_json:
        _show(id, steps, header, as_json and dry_run)
    if not undo:
        points.restorable(chosen)
    exchange.check(cloud, place, instance, exchanged)
    address = interruption.changing_address(instance)
    if dry_run:
        if address is not None:
            click.echo(told_address(id, address), err=True)
        return 0
    confirm(f"Stop {id} and exchange these volumes?", yes)
    if undo and back.decrypted:
        confirm_loss(
            f"{', '.join(back.decrypted)}: the volume is encrypted, and an unencrypted one would replace it",
            unencrypted,
            "Add --unencrypted to accept that, or select other volumes with --device or --task.",
        )
    confirm_address(id, address, new_public_address)
    arguments = {"instance": id, "to": to, "undo": undo, **({"undoes": back.task} if undo else {})}
    with run_task(cloud, environment, "snapshot restore", arguments, undo=exchange.put_back) as job:
        if undo:
            done = restoring.undo(job, place, instance, back.pairs)
        else:
            done = restoring.restore(job, place, instance, chosen)
    answer: dict[str, Any] = {
        "schema": RESTORE_SCHEMA,
        "task": job.id,
        "instance": id,
        "volumes": [{"device": e.device, "new": e.new, "kept": e.old.id} for e in done],
    }
    problem = None
    if instance["State"]["Name"] == "running":
        problem = _health(cloud, environment, place, instance, check, access, health_timeout)
        answer["healthy"] = problem is None
        answer["problem"] = problem
    if as_json:
        print_json(answer)
    else:
        for e in done:
            click.echo(f"{e.device}  {e.new} replaces {e.old.id}, which is kept")
        if problem is None:
            click.echo(f"To delete the kept volumes: {command('volume forget', id)}", err=True)
    if problem is not None:
        raise TestsFailed(problem, hint=f"To attach the old volumes again: {command('snapshot restore', id, '--undo')}")
    return 0


def _point(text: str) -> str | datetime:
    """Return a time if the text is one, otherwise the text: a name or an id."""
    with suppress(UsageError):
        return parse_time(text)
    return text


def _tell_undo(choices: list[Undo], chosen: Undo) -> None:
    """Tell which task is undone, and which other ones could be."""
    click.echo(f"undoes {_described(chosen)}", err=True)
    for other in choices:
        if other.task != chosen.task:
            click.echo(f"not undone: {_described(other)}; choose it with --task {other.task}", err=True)


def _described(one: Undo) -> str:
    from goldenami.snapshots.listing import age

    began = f", {utc_text(one.done)}, {age(one.done, datetime.now(UTC))} ago" if one.done is not None else ""
    return f"task {one.task or 'unknown'} ({', '.join(str(now.device) for now, _ in one.pairs)}{began})"


def _show(instance: str, steps: list[Step], header: dict[str, Any], as_json: bool) -> None:
    if as_json:
        print_json({"schema": RESTORE_SCHEMA, "instance": instance, **header, "plan": [asdict(s) for s in steps]})
        return
    rows = []
    for s in steps:
        note = s.problem or (f"stays as it is: {s.stays}" if s.stays else "")
        rows.append([s.device, s.old, s.source or "-", s.taken or "-", s.name or "-", note])
    columns = ["DEVICE", "NOW", "BACK TO", "TAKEN", "NAME", "NOTE"]
    if not any(row[-1] for row in rows):
        columns, rows = columns[:-1], [row[:-1] for row in rows]
    print_table(columns, rows)


def _health(
    cloud: Cloud,
    environment: Environment,
    place: Place,
    instance: Item,
    check: str | None,
    access: Access,
    timeout: float,
) -> str | None:
    """Return why the instance is unhealthy, or None if it is healthy."""
    from goldenami.errors import GoldenAmiError
    from goldenami.snapshots import health
    from goldenami.snapshots.access import connect
    from goldenami.stages import transports

    try:
        health.wait_ok(
            cloud,
            place,
            instance["InstanceId"],
            timeout=timeout,
            sign_of_life=lambda seconds: click.echo(f"the instance is not healthy for {seconds:.0f} s", err=True),
        )
        if check is not None:
            network = environment.network
            with (
                transports.opened(environment, cloud, place) as transport,
                connect(cloud, place, instance, network, access, transport.opener) as connection,
            ):
                health.command_ok(connection, check)
    except GoldenAmiError as error:
        return error.message
    return None
