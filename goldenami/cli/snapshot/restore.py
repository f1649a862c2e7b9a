"""Restore the volumes of an instance from snapshots."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import asdict
from datetime import datetime
from typing import TYPE_CHECKING, Any

import click

from goldenami.cli.context import print_json, print_table
from goldenami.cli.options import Where, address_option, instance_argument, place_options, ssh_options, yes_option
from goldenami.cli.snapshot.chosen import expect_one
from goldenami.cli.tasks import confirm, confirm_address, open_place, parse_time, run_task
from goldenami.errors import TestsFailed, UsageError
from goldenami.nextstep import command

if TYPE_CHECKING:
    from goldenami.aws.session import Cloud
    from goldenami.aws.waiters import Item
    from goldenami.model import Environment, Place
    from goldenami.snapshots.access import Access
    from goldenami.snapshots.restore import Step

RESTORE_SCHEMA = "goldenami.restore/1"


@click.command()
@instance_argument
@click.option("--to", metavar="TIME|NAME|ID", help="Time, Name tag of snapshots, or id of one snapshot.")
@click.option("--device", "devices", metavar="DEVICE", multiple=True, help="Restore only the volume at this device.")
@click.option("--undo", is_flag=True, help="Attach the volumes again that the last exchange replaced.")
@click.option("--dry-run", is_flag=True, help="Only show the plan. Change nothing.")
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
    dry_run: bool,
    check: str | None,
    health_timeout: float,
    way_in: Access,
    new_public_address: bool,
    yes: bool,
    where: Where,
    as_json: bool,
) -> int:
    """Restore the volumes of an instance from snapshots.

    The plan is printed first. If --to is a time, each volume is restored from its last snapshot before that time. If
    --to is the name or id of a snapshot, all volumes are restored that have a snapshot from the same call. The instance
    is stopped, its volumes are exchanged, and it is started again. Then EC2's status checks and the command of --check
    must pass. If one of them fails, the exit code is 5, and the restored volumes stay attached. The old volumes are
    always kept, and --undo attaches them again. Members of Auto Scaling groups and instances with an instance store are
    refused, because a stop would destroy them or their data.

    Example: goldenami snapshot restore i-0a1b --to 2026-11-24T03:00
    """
    from goldenami.snapshots import access, exchange, interruption, names, points
    from goldenami.snapshots import restore as restoring

    expect_one(
        {"--to": to is not None, "--undo": undo}, "Give --to with a time, a Name tag or a snapshot id; or --undo."
    )
    if check is not None and not dry_run:
        way_in = access.with_key(way_in)
    environment, place, cloud = open_place(where)
    instance = names.instance(cloud, place, reference)
    id = instance["InstanceId"]
    if undo:
        pairs = restoring.undo_plan(cloud, place, instance)
        pairs = [p for p in pairs if not devices or p[0].device in devices]
        steps = restoring.undo_steps(pairs)
    else:
        chosen = points.only(points.choose(cloud, place, id, _point(str(to))), devices)
        steps = restoring.plan(chosen)
    if dry_run or not as_json:
        _show(id, steps, as_json and dry_run)
    if dry_run:
        return 0
    exchange.check(cloud, place, instance, [p[0] for p in pairs] if undo else [p.volume for p in chosen])
    confirm(f"Stop {id} and exchange these volumes?", yes)
    confirm_address(id, interruption.changing_address(instance), new_public_address)
    arguments = {"instance": id, "to": to, "undo": undo}
    with run_task(cloud, environment, "snapshot restore", arguments, undo=exchange.put_back) as job:
        done = restoring.undo(job, place, instance, pairs) if undo else restoring.restore(job, place, instance, chosen)
    answer: dict[str, Any] = {
        "schema": RESTORE_SCHEMA,
        "task": job.id,
        "instance": id,
        "volumes": [{"device": e.device, "new": e.new, "kept": e.old.id} for e in done],
    }
    problem = None
    if instance["State"]["Name"] == "running":
        problem = _health(cloud, environment, place, instance, check, way_in, health_timeout)
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


def _show(instance: str, steps: list[Step], as_json: bool) -> None:
    if as_json:
        print_json({"schema": RESTORE_SCHEMA, "instance": instance, "plan": [asdict(s) for s in steps]})
        return
    rows = [[s.device, s.old, s.source, s.taken or "-", s.name or "-"] for s in steps]
    print_table(("DEVICE", "NOW", "BACK TO", "TAKEN", "NAME"), rows)


def _health(
    cloud: Cloud,
    environment: Environment,
    place: Place,
    instance: Item,
    check: str | None,
    way_in: Access,
    timeout: float,
) -> str | None:
    """Return why the instance is unhealthy, or None if it is healthy."""
    from goldenami.errors import GoldenAmiError
    from goldenami.snapshots import access, health
    from goldenami.stages import transports

    try:
        health.wait_ok(cloud, place, instance["InstanceId"], timeout=timeout)
        if check is not None:
            network = environment.network
            with (
                transports.opened(environment, cloud, place) as transport,
                access.connect(cloud, place, instance, network, way_in, transport.opener) as connection,
            ):
                health.command_ok(connection, check)
    except GoldenAmiError as error:
        return error.message
    return None
