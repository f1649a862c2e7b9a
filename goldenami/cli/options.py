"""The options and arguments that several commands have, each declared once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import wraps
from pathlib import Path
from typing import Any, Final, TypeVar

import click

from goldenami.cli import completing
from goldenami.errors import UsageError

_R = TypeVar("_R")

DIFFERS: Final = 8  # the exit code of `--detailed-exitcode` if something is not as declared, or would change

environment_option = click.option(
    "-e",
    "--environment",
    "environment_name",
    metavar="NAME",
    envvar="GOLDENAMI_ENVIRONMENT",
    shell_complete=completing.environments,
    help="Environment of goldenami.yaml. Default: $GOLDENAMI_ENVIRONMENT, environment in goldenami.yaml, or sandbox.",
)
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON on stdout.")
events_option = click.option(
    "--events", type=click.Path(dir_okay=False, path_type=Path), help="Append the events to this file, as JSON lines."
)
yes_option = click.option("-y", "--yes", is_flag=True, help="Do not ask for confirmation.")
dry_run_option = click.option("--dry-run", is_flag=True, help="Only show the plan. Change nothing.")
address_option = click.option(
    "--new-public-address",
    is_flag=True,
    help="Accept that the instance gets another public address. Not needed with an Elastic IP address.",
)


def _description(_: click.Context, __: click.Parameter, value: str) -> str:
    """EC2 refuses other characters, and longer texts, after the first resources were created."""
    from goldenami.model import LONGEST_DESCRIPTION
    from goldenami.recipe.limits import not_ascii

    problem = not_ascii(value)
    if problem is not None:
        raise click.BadParameter(". ".join(problem))
    if len(value) > LONGEST_DESCRIPTION:
        raise click.BadParameter(f"it has {len(value)} characters, expected {LONGEST_DESCRIPTION} at most")
    return value


description_option = click.option(
    "--description",
    default="",
    callback=_description,
    help="Description, in ASCII, at most 255 characters.",
)
schedules_argument = click.argument("names", metavar="[NAME]…", nargs=-1, shell_complete=completing.schedules)
snapshot_argument = click.argument("reference", metavar="SNAPSHOT")
snapshots_argument = click.argument("references", metavar="SNAPSHOT...", nargs=-1, required=True)
instance_argument = click.argument("reference", metavar="INSTANCE")
everywhere_option = click.option(
    "--everywhere", is_flag=True, help="Query every account and region of the environment instead of one."
)
no_wait_option = click.option("--no-wait", is_flag=True, help="Do not wait until the snapshot is completed.")


def parse_variables(assignments: Sequence[str]) -> dict[str, str]:
    """Parse ``NAME=VALUE`` arguments. Raises UsageError if = or the name is missing, or a name is given twice."""
    variables: dict[str, str] = {}
    for assignment in assignments:
        name, separator, value = assignment.partition("=")
        if not separator or not name:
            raise UsageError(f"--var {assignment}: expected NAME=VALUE")
        if name in variables:
            raise UsageError(f"--var {name} is given twice")
        variables[name] = value
    return variables


def variable_options(command: Callable[..., _R]) -> Callable[..., _R]:
    """Add --var and --var-file, whose values the command receives as ``variables``, by name."""

    @wraps(command)
    def with_variables(*, assignments: tuple[str, ...], variable_files: tuple[Path, ...], **others: Any) -> _R:
        given = parse_variables(assignments)
        if variable_files:
            from goldenami import recipe

            given = {**recipe.read_files(variable_files), **given}
        return command(variables=given, **others)

    return with_options(
        with_variables,
        click.option(
            "--var", "assignments", metavar="NAME=VALUE", multiple=True, help="Set a variable that the recipe declares."
        ),
        click.option(
            "--var-file",
            "variable_files",
            metavar="FILE",
            type=click.Path(path_type=Path),
            multiple=True,
            help="Set variables from a YAML or JSON file. A later file wins over an earlier one, and --var over files.",
        ),
    )


@dataclass(frozen=True, slots=True)
class Where:
    """The values of --environment, --region and --account; None for an option that is not given."""

    environment_name: str | None
    region: str | None
    account: str | None


def place_options(command: Callable[..., _R]) -> Callable[..., _R]:
    """Add --environment, --region and --account, which the command receives as ``where``; and --json."""

    @wraps(command)
    def at_a_place(*, environment_name: str | None, region: str | None, account: str | None, **others: Any) -> _R:
        return command(where=Where(environment_name, region, account), **others)

    return with_options(
        at_a_place,
        environment_option,
        click.option("--region", metavar="REGION", help="Region to work in. Default: the home region."),
        click.option(
            "--account",
            metavar="ACCOUNT",
            help="Account to work in: a name of goldenami.yaml, or 12 digits. Default: home.",
        ),
        json_option,
    )


def ssh_options(command: Callable[..., _R]) -> Callable[..., _R]:
    """Add the options for logging in to an instance; the command receives them as ``way_in``."""

    @wraps(command)
    def over_ssh(*, ssh_user: str, ssh_key: Path, ssh_host_key: str | None, **others: Any) -> _R:
        from goldenami.snapshots.access import Access

        return command(way_in=Access(ssh_user, ssh_key, ssh_host_key), **others)

    key = click.Path(path_type=Path)
    return with_options(
        over_ssh,
        click.option("--ssh-user", metavar="USER", default="admin", show_default=True, help="Login user."),
        click.option("--ssh-key", type=key, default="~/.ssh/id_ed25519", show_default=True, help="Private key."),
        click.option(
            "--ssh-host-key",
            metavar="KEY",
            help="Host key of the instance. Default: from known_hosts, or from the console output.",
        ),
    )


def with_options(
    command: Callable[..., _R], *options: Callable[[Callable[..., _R]], Callable[..., _R]]
) -> Callable[..., _R]:
    """Add options in the order in which the help lists them."""
    for option in reversed(options):
        command = option(command)
    return command
