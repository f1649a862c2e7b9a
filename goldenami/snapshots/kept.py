"""Old volumes that were kept when others took their place: listed, and forgotten when nobody needs them any more."""

from __future__ import annotations

from collections.abc import Sequence

from goldenami.aws import volumes
from goldenami.aws.session import Cloud
from goldenami.aws.volumes import Volume
from goldenami.errors import NotFound, UsageError
from goldenami.model import Place
from goldenami.snapshots.exchange import KEPT_FROM
from goldenami.task import Task


def kept(cloud: Cloud, place: Place, instance_id: str | None = None) -> list[Volume]:
    """All that are kept in a place, or those that were an instance's. What is attached again is not among them."""
    found = volumes.find(cloud, place, {"tag-key": [KEPT_FROM]})
    return [v for v in found if v.instance_id is None and instance_id in (None, origin(v)[0])]


def origin(volume: Volume) -> tuple[str, str]:
    """The instance and the device that it was at."""
    instance, _, device = volume.tags.get(KEPT_FROM, "").partition(" ")
    return instance, device


def choose(cloud: Cloud, place: Place, references: Sequence[str]) -> list[Volume]:
    """The kept volumes that are meant, by their ids or as all of an instance. Raises NotFound and UsageError."""
    every = kept(cloud, place)
    chosen: dict[str, Volume] = {}
    for reference in references:
        found = [v for v in every if reference in (v.id, origin(v)[0])]
        if not found and reference.startswith("vol-") and volumes.describe_many(cloud, place, [reference]):
            raise UsageError(f"{reference} is not a volume that was kept", hint="`goldenami volume kept` lists those.")
        if not found:
            raise NotFound(f"nothing is kept of {reference} in {place}", hint="`goldenami volume kept` lists them.")
        chosen |= {v.id: v for v in found}
    return list(chosen.values())


def forget(job: Task, place: Place, chosen: Sequence[Volume]) -> None:
    """Delete kept volumes for good."""
    for volume in chosen:
        volumes.delete(job.ledger, place, volume.id)
