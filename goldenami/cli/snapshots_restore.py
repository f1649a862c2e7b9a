"""``goldenami snapshot restore``: an instance's volumes back at a chosen point, and back again."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import asdict
from datetime import datetime
from typing import TYPE_CHECKING, Any

import click

from goldenami.cli.context import print_json, print_table
from goldenami.cli.options import Where, instance_argument, place_options, ssh_options, yes_option
from goldenami.cli.tasks import carried_out, confirm, moment, open_place
from goldenami.errors import TestsFailed, UsageError

if TYPE_CHECKING:
    from goldenami.aws.session import Cloud
    from goldenami.aws.waiters import Item
    from goldenami.model import Environment, Place
    from goldenami.snapshots.access import Access
    from goldenami.snapshots.restore import Step

SCHEMA = "goldenami.restore/1"


@click.command()
@instance_argument
@click.option("--to", metavar="TIME|NAME|ID", help="A time, the Name tag of snapshots, or the id of one.")
@click.option("--device", "devices", metavar="DEVICE", multiple=True, help="Only this volume.")
@click.option("--undo", is_flag=True, help="Give the instance back what the last exchange replaced.")
@click.option("--dry-run", is_flag=True, help="Only show the plan.")
@click.option("--check", metavar="COMMAND", help="Run this on the instance afterwards, over SSH: it has to succeed.")
@click.option("--health-timeout", type=float, default=600.0, show_default=True, metavar="SECONDS")
@ssh_options
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
    yes: bool,
    where: Where,
    as_json: bool,
) -> int:
    """Bring the volumes of an instance back to a chosen point. The plan is shown first.

    With a time, each volume goes back to its last snapshot before it; with the name or the id of a snapshot, all
    volumes go that were taken with it. The instance is stopped for the exchange, and started again; then EC2's status
    checks have to be passed, and the command of --check. If they are not, the exit code is 5 and nothing is taken back:
    the volumes that were there are kept, and --undo brings them back.
    """
    from goldenami.snapshots import exchange, names, points
    from goldenami.snapshots import restore as restoring

    if (to is None) == (not undo):
        raise UsageError("back to what?", hint="Give --to TIME, NAME or ID; or --undo.")
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
    exchange.check(instance, [p[0] for p in pairs] if undo else [p.volume for p in chosen])
    confirm(f"Stop {id} and exchange these volumes?", yes)
    arguments = {"instance": id, "to": to, "undo": undo}
    with carried_out(cloud, environment, "snapshot restore", arguments, undo=exchange.put_back) as job:
        done = restoring.undo(job, place, instance, pairs) if undo else restoring.restore(job, place, instance, chosen)
    answer: dict[str, Any] = {
        "schema": SCHEMA,
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
            click.echo(f"{e.device}  {e.new} in place of {e.old.id}, which is kept")
        if problem is None:
            click.echo(f"When all is well: goldenami volume forget {id}", err=True)
    if problem is not None:
        raise TestsFailed(problem, hint=f"To get back what was there before: goldenami snapshot restore {id} --undo")
    return 0


def _point(text: str) -> str | datetime:
    """A time if it can be read as one; else a name or an id."""
    with suppress(UsageError):
        return moment(text)
    return text


def _show(instance: str, steps: list[Step], as_json: bool) -> None:
    if as_json:
        print_json({"schema": SCHEMA, "instance": instance, "plan": [asdict(s) for s in steps]})
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
    """What is wrong with the instance; None if it is well."""
    from goldenami.errors import GoldenAmiError
    from goldenami.snapshots import access, health

    try:
        health.wait_ok(cloud, place, instance["InstanceId"], timeout=timeout)
        if check is not None:
            with access.connect(cloud, place, instance, environment.network, way_in) as connection:
                health.command_ok(connection, check)
    except GoldenAmiError as error:
        return error.message
    return None
