"""The snapshots that a command works on, and how they are printed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

import click

from goldenami.cli.context import open_catalog, print_json, print_table
from goldenami.cli.options import Where
from goldenami.cli.tasks import open_place, run_task
from goldenami.errors import UsageError
from goldenami.nextstep import step

if TYPE_CHECKING:
    from goldenami.aws.session import Cloud
    from goldenami.aws.waiters import Item
    from goldenami.model import Environment, Place
    from goldenami.task import Task, Undo


def expect_one(options: Mapping[str, bool], hint: str) -> None:
    """Raise UsageError unless exactly one option is given. ``options``: names, and whether each is given."""
    given = [name for name, is_given in options.items() if is_given]
    if len(given) != 1:
        raise UsageError(
            f"expected one of {', '.join(options)}, found {' and '.join(given) or 'none of them'}", hint=hint
        )


@dataclass(frozen=True, slots=True)
class Chosen:
    """The snapshots of one place that a command works on."""

    environment: Environment
    place: Place
    cloud: Cloud
    items: Sequence[Item]

    @classmethod
    def find(cls, references: Sequence[str], where: Where, *, to_change: bool = True) -> Chosen:
        """Find snapshots by id, Name tag or release. Raises NotFound for a reference that matches no snapshot.

        ``to_change``: the command changes them. Raises UsageError then if one belongs to another catalog or
        environment. Otherwise snapshots of other accounts that are shared are found too, by their ids.
        """
        from goldenami.snapshots import names
        from goldenami.snapshots.others import refuse_others

        environment, place, cloud = open_place(where)
        items = names.many(cloud, place, _expand_releases(environment, place, references), shared=not to_change)
        if to_change:
            every = {item["SnapshotId"]: {t["Key"]: t["Value"] for t in item.get("Tags") or ()} for item in items}
            refuse_others(environment, cloud, every)
        return cls(environment, place, cloud, items)

    @property
    def ids(self) -> list[str]:
        return [item["SnapshotId"] for item in self.items]

    @property
    def ids_text(self) -> str:
        """The ids, separated by commas."""
        return ", ".join(self.ids)

    def task(
        self, kind: str, arguments: Mapping[str, Any] | None = None, *, undo: Undo | None = None
    ) -> AbstractContextManager[Task]:
        """Start a task. ``arguments``: the arguments that it records in addition to the snapshot ids."""
        return run_task(self.cloud, self.environment, kind, {"snapshots": self.ids, **(arguments or {})}, undo=undo)

    def print_properties(self, as_json: bool, task_id: str) -> None:
        """Print the current properties of the snapshots. They are read again from EC2."""
        from goldenami.snapshots import listing, names

        now = names.many(self.cloud, self.place, self.ids)
        rows = listing.details(self.cloud, self.place, now)
        if as_json:
            print_snapshots(self.place, now, as_json=True, task_id=task_id, full=rows)
            return
        for row in rows:
            lock = f", locked until {row['lock']['expires']} ({row['lock']['state']})" if row["lock"] else ""
            tier = f", {row['tiering']}" if row["tiering"] else ""
            click.echo(f"{row['id']}  shared with {', '.join(row['shared_with']) or 'no account'}{tier}{lock}")


def _expand_releases(environment: Environment, place: Place, references: Sequence[str]) -> list[str]:
    """Replace releases (``name@channel``, ``name@version``) by the ids of their snapshots in a place."""
    from goldenami.release import targets as modes
    from goldenami.release.versions import Reference

    found: list[str] = []
    for reference in references:
        if "@" not in reference or reference.startswith("snap-"):
            found.append(reference)
            continue
        release = open_catalog(environment).find(Reference.parse(reference))
        images = [i for i in release.images if i.place == place]
        ids = [s.snapshot_id for i in images if modes.owns(i) for s in i.snapshots]
        if not ids:
            raise UsageError(
                f"{release.label} owns no snapshot in {place}",
                hint=f"Give --region and --account of one of its targets; {step('images list')} shows them.",
            )
        found += ids
    return found


def print_snapshots(
    place: Place, items: Sequence[Item], *, as_json: bool, task_id: str | None = None, full: Sequence[Any] = ()
) -> None:
    """Print snapshots on stdout as a table, or as JSON of the schema ``listing.SCHEMA``. ``full``: rows for ``--json``
    that have more properties than ``items``."""
    from goldenami.snapshots import listing

    if as_json:
        rows = list(full) or [listing.to_json(place, item) for item in items]
        print_json({"schema": listing.SCHEMA, **({"task": task_id} if task_id else {}), "snapshots": rows})
        return
    print_table_of({place: items})


def print_table_of(found: Mapping[Place, Sequence[Item]], *, with_places: bool = False) -> None:
    """Print the snapshots of several places as a table. ``with_places``: add a column for the place."""
    columns = ("SNAPSHOT", "NAME", "AGE", "SIZE", "STATE", "ENCRYPTED", "TIER", "VOLUME")
    rows = [[*((str(place),) if with_places else ()), *_row(item)] for place, items in found.items() for item in items]
    print_table((*(("PLACE",) if with_places else ()), *columns), rows)


def _row(item: Item) -> list[str]:
    from goldenami.snapshots import listing, names

    state = str(item.get("State", ""))
    if state == "pending":
        state += f" {item.get('Progress') or '0%'}"
    started = item.get("StartTime")
    return [
        item["SnapshotId"],
        names.name_of(item) or "-",
        listing.age(started, datetime.now(started.tzinfo)) if started else "-",
        f"{item.get('VolumeSize', '?')} GiB",
        state,
        "yes" if item.get("Encrypted") else "no",
        str(item.get("StorageTier", "standard")),
        str(item.get("VolumeId", "-")),
    ]
