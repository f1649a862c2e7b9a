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


ssh_user_option = click.option(
    "--ssh-user",
    "--user",
    "ssh_user",
    metavar="USER",
    help="Login user, who may use sudo. Default: the USER before @ of HOST, ssh_user of the recipe, root on a HOST, or "
    "admin on an INSTANCE.",
)
_ssh_options = (
    ssh_user_option,
    click.option(
        "--ssh-port",
        "--port",
        "ssh_port",
        type=click.IntRange(1, 65535),
        metavar="PORT",
        help="Port of the SSH server. Default: the PORT after : of HOST, or 22.",
    ),
    click.option(
        "-i",
        "--ssh-key",
        "--identity",
        "ssh_key",
        type=click.Path(dir_okay=False, path_type=Path),
        metavar="FILE",
        help="Private key. Default: the keys of the SSH agent, and the one in ~/.ssh.",
    ),
    click.option(
        "--ssh-host-key",
        "--host-key",
        "ssh_host_key",
        metavar="KEY",
        help='The only host key to accept: "ssh-ed25519 AAAA…", or its fingerprint "SHA256:…". Default: from '
        "known_hosts, or of an INSTANCE from its console output.",
    ),
    click.option(
        "--ssh-known-hosts",
        "--known-hosts",
        "ssh_known_hosts",
        type=click.Path(dir_okay=False, path_type=Path),
        metavar="FILE",
        help="File with host keys. Default: ~/.ssh/known_hosts.",
    ),
    click.option(
        "--ssh-timeout",
        "--timeout",
        "ssh_timeout",
        type=click.FloatRange(1),
        default=60.0,
        show_default=True,
        metavar="SECONDS",
        help="Timeout for the connection.",
    ),
)


def ssh_options(command: Callable[..., _R]) -> Callable[..., _R]:
    """Add the options for logging in to a host or an instance; the command receives them as ``access``."""

    @wraps(command)
    def over_ssh(
        *,
        ssh_user: str | None,
        ssh_port: int | None,
        ssh_key: Path | None,
        ssh_host_key: str | None,
        ssh_known_hosts: Path | None,
        ssh_timeout: float,
        **others: Any,
    ) -> _R:
        from goldenami.ssh.access import Access

        given = Access(ssh_user, ssh_port, ssh_key, ssh_host_key, ssh_known_hosts, ssh_timeout)
        return command(access=given, **others)

    return with_options(over_ssh, *_ssh_options)


def with_options(
    command: Callable[..., _R], *options: Callable[[Callable[..., _R]], Callable[..., _R]]
) -> Callable[..., _R]:
    """Add options in the order in which the help lists them."""
    for option in reversed(options):
        command = option(command)
    return command


history_svg_option = click.option(
    "--svg", type=click.Path(path_type=Path, dir_okay=False), help="Draw the history into this file, newest first."
)
