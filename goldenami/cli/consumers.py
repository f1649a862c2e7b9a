"""The commands about consumers: principals that launch images, and their grants on the keys."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from goldenami.cli import places
from goldenami.cli.context import open_project, print_json, print_table, reach
from goldenami.cli.options import environment_option, json_option
from goldenami.nextstep import step

if TYPE_CHECKING:
    from goldenami.model import Environment
    from goldenami.release.consumers import Survey

SCHEMA = "goldenami.consumers/1"


@click.group()
def consumers() -> None:
    """Principals that launch images (Auto Scaling, Spot, EKS): their grants on the keys."""


@consumers.command("show")
@environment_option
@json_option
def show(environment_name: str | None, as_json: bool) -> int:
    """Show which consumer has a grant on which key, and what other accounts must do themselves.

    Consumers are listed under `consumers` in goldenami.yaml. Only keys of releases that are not retired count. stdout
    ends with commands and key policy statements for accounts outside the environment and for organizations, ready to
    paste. Nothing is changed. The exit code is 6 if an account or region did not answer.
    """
    from goldenami.aws.session import Cloud
    from goldenami.release import consumers as grants
    from goldenami.release.catalog import Catalog

    _, environment = open_project(environment_name)
    reach(environment)
    cloud = Cloud.of(environment)
    cloud.check_caller()
    catalog = Catalog.of(environment, cloud)
    found = grants.survey(cloud, environment, catalog)
    if as_json:
        print_json({"schema": SCHEMA, **_to_json(found, environment, catalog.identity() or "")})
    else:
        _print(found)
        for line in grants.instructions(found, environment, catalog.identity() or ""):
            click.echo(line)
        if found.missing or found.surplus:
            count = len(found.missing), len(found.surplus)
            click.echo(
                f"{count[0]} grants are missing, {count[1]} are no longer needed: run {step('consumers apply')}",
                err=True,
            )
    places.tell(found.unreachable)
    return places.exit_code(found.unreachable)


@consumers.command("apply")
@environment_option
@json_option
def apply(environment_name: str | None, as_json: bool) -> int:
    """Create the missing grants of consumers, and revoke those that no release needs any more.

    A build creates the grants for its release, and `retire` revokes them with the last release that needs them. This
    command does the rest: for a consumer that was added to goldenami.yaml, or removed from it. The exit code is 6 if an
    account or region did not answer, or a grant could not be changed.
    """
    from goldenami import report
    from goldenami.release import consumers as grants
    from goldenami.release.catalog import Catalog

    _, environment = open_project(environment_name)
    reach(environment)
    with report.progress(report.stderr_console()) as emit:
        before, failures = grants.apply(environment, Catalog.of(environment), emit_to=emit)
    if as_json:
        print_json({
            "schema": SCHEMA,
            "granted": [str(need) for need in before.missing if str(need) not in failures],
            "revoked": [f"{who} on {key}" for _, key, _, who in before.surplus if f"{who} on {key}" not in failures],
            "left": failures,
            "unreachable": places.to_json(before.unreachable),
        })  # fmt: skip
    else:
        for need in before.missing:
            click.echo(f"{'failed ' if str(need) in failures else 'granted'}  {need}")
        for _, key, _, principal in before.surplus:
            click.echo(f"{'failed ' if f'{principal} on {key}' in failures else 'revoked'}  {principal} on {key}")
        for what, reason in failures.items():
            click.echo(f"{what}: {reason}", err=True)
    places.tell(before.unreachable)
    return places.exit_code(failures, before.unreachable)


def _print(found: Survey) -> None:
    from goldenami.release import consumers as grants

    rows = [
        [
            need.place.account,
            need.place.region,
            need.principal.partition(":role/")[2] or need.principal,
            need.key,
            state,
        ]
        for state, need in grants.rows(found)
    ]
    if rows:
        print_table(["ACCOUNT", "REGION", "PRINCIPAL", "KEY", "GRANT"], rows)
    else:
        click.echo("No release has an image for a consumer of goldenami.yaml.", err=True)


def _to_json(found: Survey, environment: Environment, catalog: str) -> dict[str, Any]:
    from goldenami.release import consumers as grants

    return {
        "consumers": [
            {
                "account": need.place.account,
                "region": need.place.region,
                "principal": need.principal,
                "key": need.key,
                "grant": state,
            }
            for state, need in grants.rows(found)
        ],
        "surplus": [{"place": str(p), "key": k, "grant": id, "principal": who} for p, k, id, who in found.surplus],
        "instructions": grants.instructions(found, environment, catalog),
        "unreachable": places.to_json(found.unreachable),
    }
