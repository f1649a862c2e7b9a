"""`goldenami iam`: the policies that the roles of an environment need."""

from __future__ import annotations

import click

from goldenami.cli.context import account_id, open_project
from goldenami.cli.options import environment_option
from goldenami.errors import NotFound

_ROLES = ("builder", "publisher", "consumer", "planner", "caller")
_JOBS = ("build", "prove", "retire", "snapshots", "volumes", "schedules", "dlm")
_FORMATS = ("json", "terraform", "cloudformation")


@click.group()
def iam() -> None:
    """Print the IAM policies that goldenami's roles need."""


@iam.command()
@click.option(
    "--role",
    required=True,
    type=click.Choice(_ROLES),
    help="builder: builds and releases in the home account. publisher: works in the other accounts. planner: only "
    "validates, plans and lists. caller: assumes these roles. consumer: launches released images.",
)
@environment_option
@click.option("--account", metavar="ACCOUNT", help="Only for this account: a name of goldenami.yaml, or 12 digits.")
@click.option(
    "--for",
    "jobs",
    type=click.Choice(_JOBS),
    multiple=True,
    help="Only for these tasks. Can be repeated. Default: all of them.",
)
@click.option(
    "--trust",
    "trusted",
    metavar="ARN",
    multiple=True,
    help="Principal that may assume the role. Can be repeated. Default: the home account.",
)
@click.option(
    "--format", "form", type=click.Choice(_FORMATS), default="json", show_default=True, help="Form of the output."
)
def policy(
    role: str,
    environment_name: str | None,
    account: str | None,
    jobs: tuple[str, ...],
    trusted: tuple[str, ...],
    form: str,
) -> None:
    """Print the least policies of a role, with its trust policy and the policies of keys.

    They are made from goldenami.yaml, without a call of AWS. Policies that are longer than IAM allows are divided.
    Example: goldenami iam policy --role builder -e production --format terraform
    """
    from goldenami import recipe
    from goldenami.aws.calls import Job, Role
    from goldenami.aws.policies import key_policies, role_policies
    from goldenami.report.iam import FORMATS
    from goldenami.schedules.permissions import permission_scope

    project, environment = open_project(environment_name)
    scope = permission_scope(
        environment,
        recipe.schedules(project, environment),
        jobs=frozenset(Job(one) for one in jobs or _JOBS),
        trusted=trusted,
    )
    kind = Role(role)
    found = role_policies(scope, kind)
    if account is not None:
        wanted = account_id(environment, account)
        found = [one for one in found if one.account.id == wanted]
    if not found:
        where = f" in account {account}" if account is not None else ""
        raise NotFound(
            f"environment {environment.name} has no {role}{where}",
            hint="Publishers work in the accounts of `accounts:` in goldenami.yaml, consumers in those of `targets:`.",
        )
    keys = key_policies(scope) if kind in (Role.BUILDER, Role.PUBLISHER) else {}
    click.echo(FORMATS[form](environment.name, found, keys), nl=False)
