"""The commands about Amazon Data Lifecycle Manager: schedules that AWS runs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from goldenami.cli import places
from goldenami.cli.context import NO_SCHEDULES, open_schedules, print_json, reach
from goldenami.cli.options import environment_option, events_option, json_option, schedules_argument

if TYPE_CHECKING:
    from goldenami.schedules.dlm.sync import Plan

PLAN_SCHEMA = "goldenami.dlm-plan/1"
IMPORT_SCHEMA = "goldenami.dlm-import/1"

role_option = click.option(
    "--role",
    metavar="ARN|NAME",
    help="Role that DLM works as. Default: the one a policy has, or AWSDataLifecycleManagerDefaultRole.",
)


@click.group()
def dlm() -> None:
    """Turn schedules into policies of Amazon Data Lifecycle Manager, and keep them in step.

    A schedule is run by DLM or by `goldenami schedule run NAME`, not by both: each makes snapshots of its own.
    """


@dlm.command("plan")
@schedules_argument
@environment_option
@role_option
@json_option
def plan_policies(names: tuple[str, ...], environment_name: str | None, role: str | None, as_json: bool) -> int:
    """Say what apply would create, change, take over and delete, and what DLM cannot express. Changes nothing.

    Without NAME, all schedules; then policies of schedules that are gone are deleted. The exit code is 6 if an account
    or region did not answer: nothing is planned there.
    """
    from goldenami.schedules.dlm import sync

    chosen, environment = open_schedules(environment_name, names)
    reach(environment)
    planned = sync.make_plan(environment, chosen, role=role, everything=not names)
    if as_json:
        print_json(_plan_json(planned))
    else:
        _print_plan(planned)
    return places.exit_code(planned.unreachable)


@dlm.command("apply")
@schedules_argument
@environment_option
@role_option
@events_option
@json_option
def apply_policies(
    names: tuple[str, ...], environment_name: str | None, role: str | None, events: Path | None, as_json: bool
) -> int:
    """Create, change, take over and delete policies, so that they say what the schedules say.

    The exit code is 6 if something is not in step afterwards: a step that failed, a place that did not answer, a
    schedule that DLM cannot express.
    """
    from goldenami import report
    from goldenami.schedules.dlm import sync

    chosen, environment = open_schedules(environment_name, names)
    reach(environment)
    console = report.stderr_console()
    with report.progress(console, events=events) as emit:
        planned = sync.make_plan(environment, chosen, role=role, everything=not names)
        applied = sync.apply(environment, planned, emit_to=emit)
    if as_json:
        done = {**_plan_json(planned), "applied": dict(applied.ids), "failures": dict(applied.failures)}
        print_json({**done, "task": applied.task_id or None})
    else:
        _print_plan(planned, ids=dict(applied.ids))
    error = sync.failed(applied)
    if error is not None:
        report.render_failure(error, console)
        return error.exit_code
    return 0


@dlm.command("import")
@environment_option
@json_option
def import_policies(environment_name: str | None, as_json: bool) -> int:
    """Print policies that no schedule owns as schedules, to be pasted into goldenami.yaml. Changes nothing.

    The next apply takes over those that say the same, instead of creating them beside.
    """
    from goldenami.aws import lifecycle
    from goldenami.aws.session import Cloud
    from goldenami.schedules.dlm import imports, sync
    from goldenami.schedules.policy import SCHEDULE_TAG

    every, environment = open_schedules(environment_name)
    reach(environment)
    cloud = Cloud.of(environment)
    cloud.check_caller()
    taken = [one.name for one in every]
    found = []
    answers, unreachable = places.ask(sync.places(environment, every), lambda place: lifecycle.policies(cloud, place))
    for policy in (policy for policies in answers.values() for policy in policies):
        if SCHEDULE_TAG not in policy.tags:
            found.append(imports.imported(policy, environment, taken))
            taken += found[-1].schedules
    if as_json:
        rows = [
            {
                "policy": one.policy.id,
                "place": str(one.policy.place),
                "schedules": {name: dict(value) for name, value in one.schedules.items()},
                "remarks": list(one.remarks),
            }
            for one in found
        ]
        print_json({"schema": IMPORT_SCHEMA, "policies": rows, "unreachable": places.to_json(unreachable)})
    elif found:
        click.echo(imports.as_yaml(found), nl=False)
    else:
        click.echo("There are no policies that a schedule does not own.", err=True)
    places.tell(unreachable)
    return places.exit_code(unreachable)


# --- inside -----------------------------------------------------------------------------------------------------------


def _plan_json(planned: Plan) -> dict[str, Any]:
    return {
        "schema": PLAN_SCHEMA,
        "steps": [
            {
                "action": step.action,
                "place": str(step.place),
                "schedule": step.name,
                "policy": step.policy.id if step.policy is not None else None,
                "changes": list(step.changes),
                "details": step.details,
            }
            for step in planned.steps
        ],
        "in_step": planned.in_step,
        "cannot_express": {one.schedule.name: list(one.reasons) for one in planned.inexpressible},
        "notes": {one.schedule.name: list(one.notes) for one in planned.expressed if one.notes},
        "left_as_they_are": [policy.id for policy in planned.kept],
        "unreachable": places.to_json(planned.unreachable),
    }


def _print_plan(planned: Plan, *, ids: dict[str, str] | None = None) -> None:
    for step in planned.steps:
        click.echo(f"{step}" + (f": {ids[str(step)]}" if ids and str(step) in ids and step.policy is None else ""))
        for change in step.changes:
            click.echo(f"  {change}")
    if planned.in_step:
        click.echo(f"{planned.in_step} {'policy is' if planned.in_step == 1 else 'policies are'} in step")
    for one in planned.inexpressible:
        click.echo(f"{one.schedule.name}: DLM cannot express it ({one.schedule.mark})")
        for reason in one.reasons:
            click.echo(f"  {reason}")
    for one in planned.expressed:
        for note in one.notes if not one.reasons else ():
            click.echo(f"{one.schedule.name}: {note}")
    for policy in planned.kept:
        click.echo(f"{policy.id} in {policy.place} is left as it is")
    places.tell(planned.unreachable)
    if not (planned.steps or planned.in_step or planned.expressed):
        click.echo(NO_SCHEDULES, err=True)
