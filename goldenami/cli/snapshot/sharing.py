"""Share snapshots with accounts, or with everybody."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from goldenami.cli.context import account_id
from goldenami.cli.options import Where, place_options, snapshots_argument, yes_option
from goldenami.cli.snapshot.chosen import Chosen
from goldenami.cli.tasks import confirm

if TYPE_CHECKING:
    from goldenami.model import Environment

_with_option = click.option(
    "--with",
    "partners",
    metavar="ACCOUNT",
    multiple=True,
    required=True,
    help="Account to change: a name in goldenami.yaml, or a 12-digit id.",
)


def _accounts(environment: Environment, names: tuple[str, ...]) -> list[str]:
    """Return the ids of accounts that are given as names in goldenami.yaml or as 12-digit ids."""
    return sorted({account_id(environment, name) for name in names})


@click.command()
@snapshots_argument
@_with_option
@place_options
def share(references: tuple[str, ...], partners: tuple[str, ...], where: Where, as_json: bool) -> None:
    """Share snapshots with other accounts.

    For an encrypted snapshot, the accounts also get a grant on its key. A snapshot that is encrypted under the default
    key is refused, because EC2 cannot share it.

    Example: goldenami snapshot share before-upgrade --with 222222222222
    """
    from goldenami.snapshots.share import check_shareable
    from goldenami.snapshots.share import share as do

    chosen = Chosen.find(references, where)
    accounts = _accounts(chosen.environment, partners)
    check_shareable(chosen.cloud, chosen.place, chosen.items)
    with chosen.task("snapshot share", {"with": accounts}) as job:
        do(job, chosen.place, chosen.items, accounts)
    chosen.print_properties(as_json, job.id)


@click.command()
@snapshots_argument
@_with_option
@place_options
def unshare(references: tuple[str, ...], partners: tuple[str, ...], where: Where, as_json: bool) -> None:
    """Stop sharing snapshots with other accounts.

    Volumes and copies that these accounts have created are not changed.
    """
    from goldenami.snapshots.share import unshare as do

    chosen = Chosen.find(references, where)
    accounts = _accounts(chosen.environment, partners)
    with chosen.task("snapshot unshare", {"with": accounts}) as job:
        do(job, chosen.place, chosen.items, accounts)
    chosen.print_properties(as_json, job.id)


@click.command("make-public")
@snapshots_argument
@yes_option
@place_options
def make_public(references: tuple[str, ...], yes: bool, where: Where, as_json: bool) -> None:
    """Make snapshots public: every AWS account can read them.

    Every AWS account can then copy all blocks, including those of deleted files. These copies remain when the snapshot
    is made private again. Encrypted snapshots are refused, and so are all snapshots if the account blocks public
    access. The command asks first. Without a terminal, --yes is required.
    """
    from goldenami.snapshots import share as sharing

    chosen = Chosen.find(references, where)
    sharing.check_publishable(chosen.cloud, chosen.place, chosen.items)
    click.echo(
        "Every AWS account will be able to read all blocks of these snapshots, including those of deleted files, and "
        "to keep copies.",
        err=True,
    )
    confirm(f"Make {chosen.ids_text} public?", yes)
    with chosen.task("snapshot make-public") as job:
        sharing.make_public(job, chosen.place, chosen.items)
    chosen.print_properties(as_json, job.id)


@click.command("make-private")
@snapshots_argument
@place_options
def make_private(references: tuple[str, ...], where: Where, as_json: bool) -> None:
    """Make public snapshots private again.

    Copies that other accounts have created are not changed. Accounts that a snapshot is shared with keep their access.
    """
    from goldenami.snapshots import share as sharing

    chosen = Chosen.find(references, where)
    with chosen.task("snapshot make-private") as job:
        sharing.make_private(job, chosen.place, chosen.items)
    chosen.print_properties(as_json, job.id)
