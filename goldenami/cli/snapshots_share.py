"""``goldenami snapshot``: who may use snapshots."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from goldenami.cli.chosen import Chosen
from goldenami.cli.context import account_id
from goldenami.cli.options import Where, place_options, snapshots_argument, yes_option
from goldenami.cli.tasks import confirm

if TYPE_CHECKING:
    from goldenami.model import Environment

_with_option = click.option(
    "--with", "partners", metavar="ACCOUNT", multiple=True, required=True, help="A name of goldenami.yaml, or an id."
)


def _accounts(environment: Environment, names: tuple[str, ...]) -> list[str]:
    """Accounts to share with: names of goldenami.yaml, or any 12 digits."""
    return sorted({account_id(environment, name) for name in names})


@click.command()
@snapshots_argument
@_with_option
@place_options
def share(references: tuple[str, ...], partners: tuple[str, ...], where: Where, as_json: bool) -> None:
    """Let accounts use snapshots; for encrypted ones with a grant on their key.

    Refused for what is encrypted under the default key: EC2 cannot share that.
    """
    from goldenami.snapshots.share import check_shareable
    from goldenami.snapshots.share import share as do

    chosen = Chosen.of(references, where)
    accounts = _accounts(chosen.environment, partners)
    check_shareable(chosen.cloud, chosen.place, chosen.items)
    with chosen.task("snapshot share", {"with": accounts}) as job:
        do(job, chosen.place, chosen.items, accounts)
    chosen.tell(as_json, job.id)


@click.command()
@snapshots_argument
@_with_option
@place_options
def unshare(references: tuple[str, ...], partners: tuple[str, ...], where: Where, as_json: bool) -> None:
    """Take the permission away from accounts. What they made of it meanwhile stays theirs."""
    from goldenami.snapshots.share import unshare as do

    chosen = Chosen.of(references, where)
    accounts = _accounts(chosen.environment, partners)
    with chosen.task("snapshot unshare", {"with": accounts}) as job:
        do(job, chosen.place, chosen.items, accounts)
    chosen.tell(as_json, job.id)


@click.command("make-public")
@snapshots_argument
@yes_option
@place_options
def make_public(references: tuple[str, ...], yes: bool, where: Where, as_json: bool) -> None:
    """Let everybody in the world read snapshots. Asks first; without a terminal it needs --yes.

    Every AWS account can then copy all blocks of it, files that were deleted included, and keep the copy whatever is
    done here later. Refused for encrypted snapshots, and where the account blocks public access.
    """
    from goldenami.snapshots import share as sharing

    chosen = Chosen.of(references, where)
    sharing.check_publishable(chosen.cloud, chosen.place, chosen.items)
    click.echo(
        "Every AWS account in the world will be able to read all blocks of this, deleted files included, and to keep a "
        "copy for good.",
        err=True,
    )
    confirm(f"Make {chosen.listed} public?", yes)
    with chosen.task("snapshot make-public") as job:
        sharing.make_public(job, chosen.place, chosen.items)
    chosen.tell(as_json, job.id)


@click.command("make-private")
@snapshots_argument
@place_options
def make_private(references: tuple[str, ...], where: Where, as_json: bool) -> None:
    """Take the permission of everybody away again. Copies that were made meanwhile cannot be taken back."""
    from goldenami.snapshots import share as sharing

    chosen = Chosen.of(references, where)
    with chosen.task("snapshot make-private") as job:
        sharing.make_private(job, chosen.place, chosen.items)
    chosen.tell(as_json, job.id)


commands = [share, unshare, make_public, make_private]
