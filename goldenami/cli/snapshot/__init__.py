"""The commands of ``goldenami snapshot``."""

from __future__ import annotations

import click

from goldenami.cli.lineage import lineage
from goldenami.cli.snapshot import keeping, restore, sharing, taking, volumes


@click.group()
def snapshot() -> None:
    """Create, find, copy, share, restore, archive and lock snapshots.

    SNAPSHOT is an id or a Name tag. A command that accepts several snapshots also accepts NAME@CHANNEL and
    NAME@VERSION: all snapshots of that release. Every resource that a command creates is in its journal. If the command
    is killed, `goldenami clean` deletes these resources.
    """


for _command in (
    lineage,
    taking.create,
    taking.list_snapshots,
    taking.show,
    taking.copy,
    volumes.volume,
    volumes.register,
    volumes.image,
    restore.restore,
    sharing.share,
    sharing.unshare,
    sharing.make_public,
    sharing.make_private,
    keeping.delete,
    keeping.archive,
    keeping.restore_archive,
    keeping.lock,
    keeping.unlock,
):
    snapshot.add_command(_command)
