"""The commands of ``goldenami dlm``: schedules that Amazon Data Lifecycle Manager (DLM) runs."""

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
    help="IAM role for DLM. Default: the role of the existing policy, or AWSDataLifecycleManagerDefaultRole.",
)


adopt_option = click.option(
    "--adopt",
    is_flag=True,
    help="Take over policies whose tags name no catalog, if they belong to a schedule or do the same.",
)


@click.group()
def dlm() -> None:
    """Create policies of Amazon Data Lifecycle Manager (DLM) from schedules.

    Run a schedule either with DLM or with `goldenami schedule run NAME`. If both run it, each creates its own
    snapshots.
    """


@dlm.command("plan")
@schedules_argument
@environment_option
@role_option
@adopt_option
@json_option
def plan_policies(
    names: tuple[str, ...], environment_name: str | None, role: str | None, adopt: bool, as_json: bool
) -> int:
    """Show which policies `apply` would create, change, adopt, replace or delete.

    This changes nothing. Schedules that DLM cannot run are listed with the reasons. Without NAME, all schedules are
    planned, and policies of deleted schedules are planned for deletion. Policies of other catalogs and environments
    are listed as theirs, and never changed. The exit code is 6 if an account or region did
    not answer. Nothing is planned there.
    """
    from goldenami.schedules.dlm import sync

    chosen, environment = open_schedules(environment_name, names)
    reach(environment)
    planned = sync.make_plan(environment, chosen, role=role, everything=not names, adopt=adopt)
    if as_json:
        print_json(_plan_json(planned))
    else:
        _print_plan(planned)
    return places.exit_code(planned.unreachable)


@dlm.command("apply")
@schedules_argument
@environment_option
@role_option
@adopt_option
@events_option
@json_option
def apply_policies(
    names: tuple[str, ...],
    environment_name: str | None,
    role: str | None,
    adopt: bool,
    events: Path | None,
    as_json: bool,
) -> int:
    """Create, change, adopt, replace and delete policies to match the schedules.

    `goldenami dlm plan` shows the steps first. Policies of other catalogs and environments are never changed. The exit
    code is 6 if a step failed, if a place did not answer, if DLM cannot run one of the schedules, or if the owner of a
    policy cannot be determined.
    """
    from goldenami import report
    from goldenami.schedules.dlm import sync

    chosen, environment = open_schedules(environment_name, names)
    reach(environment)
    console = report.stderr_console()
    with report.progress(console, events=events) as emit:
        planned = sync.make_plan(environment, chosen, role=role, everything=not names, to_apply=True, adopt=adopt)
        applied = sync.apply(environment, planned, emit_to=emit)
    if as_json:
        done = {**_plan_json(planned), "applied": dict(applied.ids), "failures": dict(applied.failures)}
        print_json({**done, "task": applied.task_id or None})
    else:
        _print_plan(planned, ids=dict(applied.ids))
    error = sync.error_of(applied)
    if error is not None:
        report.render_failure(error, console)
        return error.exit_code
    return 0


@dlm.command("import")
@environment_option
@json_option
def import_policies(environment_name: str | None, as_json: bool) -> int:
    """Print policies without a schedule as schedules for goldenami.yaml.

    This changes nothing. Add the printed schedules to goldenami.yaml. `apply --adopt` then takes over each policy that
    matches its schedule, instead of creating a second one.
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
                "remarks": list(one.warnings),
            }
            for one in found
        ]
        print_json({"schema": IMPORT_SCHEMA, "policies": rows, "unreachable": places.to_json(unreachable)})
    elif found:
        click.echo(imports.as_yaml(found), nl=False)
    else:
        click.echo("Every policy belongs to a schedule.", err=True)
    places.tell(unreachable)
    return places.exit_code(unreachable)


# --- helpers ----------------------------------------------------------------------------------------------------------


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
        "others": dict(planned.others),
        "unowned": dict(planned.unowned),
        "doubled": dict(planned.doubled),
        "unreachable": places.to_json(planned.unreachable),
    }


def _print_plan(planned: Plan, *, ids: dict[str, str] | None = None) -> None:
    for step in planned.steps:
        click.echo(f"{step}" + (f": {ids[str(step)]}" if ids and str(step) in ids and step.policy is None else ""))
        for change in step.changes:
            click.echo(f"  {change}")
    if planned.in_step:
        match = "policy matches its schedule" if planned.in_step == 1 else "policies match their schedules"
        click.echo(f"{planned.in_step} {match}")
    for one in planned.inexpressible:
        click.echo(f"{one.schedule.name}: DLM cannot run it ({one.schedule.mark})")
        for reason in one.reasons:
            click.echo(f"  {reason}")
    for one in planned.expressed:
        for note in one.notes if not one.reasons else ():
            click.echo(f"{one.schedule.name}: {note}")
    for policy in planned.kept:
        click.echo(f"{policy.id} in {policy.place} is not changed")
    for what, owner in planned.others.items():
        click.echo(f"theirs: {what}: {owner}")
    for what, reason in planned.unowned.items():
        click.echo(f"unknown: {what}: {reason}. --adopt takes it over")
    for what, name in planned.doubled.items():
        click.echo(f"twice: {what} does the same as the policy of {name}. Disable one of them")
    places.tell(planned.unreachable)
    if not (planned.steps or planned.in_step or planned.expressed):
        click.echo(NO_SCHEDULES, err=True)
