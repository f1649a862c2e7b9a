"""`goldenami export`: snippets that name a release."""

from __future__ import annotations

from pathlib import Path

import click

from goldenami.cli import completing
from goldenami.cli.context import account_id, open_catalog, open_project
from goldenami.cli.options import environment_option
from goldenami.cli.output import write_file

_FORMATS = ("terraform", "cloudformation", "cdk", "karpenter", "eks", "packer", "env", "json")


@click.command()
@click.argument("form", metavar="FORMAT", type=click.Choice(_FORMATS))
@click.argument("reference", metavar="NAME@CHANNEL|NAME@VERSION|NAME@MAJOR.MINOR.x", shell_complete=completing.releases)
@click.option(
    "--following/--pinned",
    default=None,
    help="Follow the channel by its SSM parameters, or name the image ids of its release. Default: follow a channel, "
    "and pin a version.",
)
@click.option(
    "--account", metavar="ACCOUNT", help="Account to use it in: a name of goldenami.yaml or 12 digits. Default: home."
)
@click.option(
    "-o",
    "--output",
    type=click.Path(dir_okay=False, writable=True, path_type=Path),
    help="Write to this file instead of stdout. An existing file is replaced.",
)
@environment_option
def export(
    form: str,
    reference: str,
    following: bool | None,
    account: str | None,
    output: Path | None,
    environment_name: str | None,
) -> None:
    """Print a snippet that names a release, for every region that has it.

    FORMAT: terraform, cloudformation, cdk (Python), karpenter (EC2NodeClass), eks (managed node groups, as a
    CloudFormation template), packer, env (shell variables) or json. Comments in it name what to know, such as that an
    Auto Scaling group cannot roll back if its launch template names a parameter. Reads only the catalog.
    """
    from goldenami.release import export as exports
    from goldenami.release.versions import Reference

    _, environment = open_project(environment_name)
    parsed, consumer = Reference.parse(reference), account_id(environment, account)
    facts = exports.gather(open_catalog(environment), environment, parsed, consumer, following=following)
    text = exports.FORMATS[form](facts)
    if output is None:
        click.echo(text, nl=False)
    else:
        write_file(output, text, "--output")
        click.echo(f"wrote {output}", err=True)
