"""The snapshots that a command is about: how they are named, what is done with them, how they are shown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

import click

from goldenami.cli.context import open_catalog, print_json, print_table
from goldenami.cli.tasks import carried_out, open_place
from goldenami.errors import UsageError

if TYPE_CHECKING:
    from goldenami.aws.session import Cloud
    from goldenami.aws.waiters import Item
    from goldenami.cli.options import Where
    from goldenami.model import Environment, Place
    from goldenami.task import Task, Undo


@dataclass(frozen=True, slots=True)
class Chosen:
    """Snapshots in one place, as they were found there."""

    environment: Environment
    place: Place
    cloud: Cloud
    items: Sequence[Item]

    @classmethod
    def of(cls, references: Sequence[str], where: Where) -> Chosen:
        """Ids, Name tags and releases. Raises NotFound for what is not there."""
        from goldenami.snapshots import names

        environment, place, cloud = open_place(where)
        return cls(environment, place, cloud, names.many(cloud, place, _expanded(environment, place, references)))

    @property
    def ids(self) -> list[str]:
        return [item["SnapshotId"] for item in self.items]

    @property
    def listed(self) -> str:
        """For a question."""
        return ", ".join(self.ids)

    def task(
        self, kind: str, arguments: Mapping[str, Any] | None = None, *, undo: Undo | None = None
    ) -> AbstractContextManager[Task]:
        """A task about them; ``arguments`` besides themselves."""
        return carried_out(self.cloud, self.environment, kind, {"snapshots": self.ids, **(arguments or {})}, undo=undo)

    def tell(self, as_json: bool, task_id: str) -> None:
        """What they are like now, read back."""
        from goldenami.snapshots import listing, names

        now = names.many(self.cloud, self.place, self.ids)
        rows = listing.details(self.cloud, self.place, now)
        if as_json:
            print_snapshots(self.place, now, as_json=True, task_id=task_id, full=rows)
            return
        for row in rows:
            lock = f", locked until {row['lock']['expires']} ({row['lock']['state']})" if row["lock"] else ""
            tier = f", {row['tiering']}" if row["tiering"] else ""
            click.echo(f"{row['id']}  shared with {', '.join(row['shared_with']) or 'nobody'}{tier}{lock}")


def _expanded(environment: Environment, place: Place, references: Sequence[str]) -> list[str]:
    """References with releases (``name@channel``, ``name@version``) replaced by the ids of their snapshots in a
    place."""
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
            raise UsageError(f"{release.label} owns no snapshot in {place}")
        found += ids
    return found


def print_snapshots(
    place: Place, items: Sequence[Item], *, as_json: bool, task_id: str | None = None, full: Sequence[Any] = ()
) -> None:
    """On stdout: as a table, or as the JSON that is versioned by its schema. ``full``: the rows of ``--json``, where
    more is known than the items say."""
    from goldenami.snapshots import listing

    if as_json:
        rows = list(full) or [listing.to_json(place, item) for item in items]
        print_json({"schema": listing.SCHEMA, **({"task": task_id} if task_id else {}), "snapshots": rows})
        return
    print_table_of({place: items})


def print_table_of(found: Mapping[Place, Sequence[Item]], *, with_places: bool = False) -> None:
    """The same as a table, for the snapshots of several places. ``with_places``: with a column for the place."""
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
