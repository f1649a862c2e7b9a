"""``volume kept`` and ``volume forget``: lists and deletes old volumes that were replaced and kept."""

from __future__ import annotations

from collections.abc import Sequence

from goldenami.aws import tags, volumes
from goldenami.aws.session import Cloud
from goldenami.aws.volumes import Volume
from goldenami.errors import NotFound, UsageError
from goldenami.model import Place
from goldenami.nextstep import step
from goldenami.snapshots import exchange, names
from goldenami.snapshots.exchange import KEPT_FROM
from goldenami.snapshots.others import refuse_others
from goldenami.task import Task


def kept(cloud: Cloud, place: Place, instance_id: str | None = None) -> list[Volume]:
    """Return the kept volumes of a place, or those of one instance. Volumes that are attached again are omitted."""
    found = volumes.find(cloud, place, {"tag-key": [KEPT_FROM]})
    return [v for v in found if v.is_kept and instance_id in (None, origin(v)[0])]


def instance_id(cloud: Cloud, place: Place, reference: str) -> str:
    """Return the id of an instance that is given by its id or Name tag. By its id, it may be terminated."""
    return reference if reference.startswith("i-") else str(names.instance(cloud, place, reference)["InstanceId"])


def name_before(volume: Volume) -> str:
    """Return the name that a kept volume had when it was in use."""
    return exchange.tags_before(volume).get(tags.NAME, "")


def origin(volume: Volume) -> tuple[str, str]:
    """Return the instance and the device where a kept volume was attached."""
    instance, _, device = volume.tags.get(KEPT_FROM, "").partition(" ")
    return instance, device


def choose(cloud: Cloud, place: Place, references: Sequence[str]) -> list[Volume]:
    """Return kept volumes by their ids or names, or all of an instance by its id or name.

    Raises NotFound if there is none, and UsageError for a volume that is not a kept one, and for a name of several.
    """
    every = kept(cloud, place)
    chosen: dict[str, Volume] = {}
    for reference in references:
        found = [v for v in every if reference in (v.id, origin(v)[0])]
        if not found and not reference.startswith(("vol-", "i-")):
            found = _by_name(cloud, place, every, reference)
        if not found and reference.startswith("vol-") and volumes.describe_many(cloud, place, [reference]):
            raise UsageError(f"{reference} is not a kept volume", hint=f"{step('volume kept')} lists the kept volumes.")
        if not found:
            raise NotFound(
                f"there is no kept volume of {reference} in {place}",
                hint=f"{step('volume kept')} lists the kept volumes.",
            )
        chosen |= {v.id: v for v in found}
    return list(chosen.values())


def _by_name(cloud: Cloud, place: Place, every: Sequence[Volume], name: str) -> list[Volume]:
    named = [v for v in every if name in (v.name, name_before(v))]
    try:
        instance = names.instance(cloud, place, name)["InstanceId"]
    except NotFound:
        return [names.one(named, "kept volume", name, place, _shown)] if named else []
    if named:
        raise UsageError(
            f"{name!r} is the Name tag of the instance {instance}, and of {', '.join(v.id for v in named)}",
            hint="Give the id of the instance, or the ids of the volumes.",
        )
    return [v for v in every if origin(v)[0] == instance]


def _shown(volume: Volume) -> str:
    return f"{volume.id} (was {origin(volume)[1]} of {origin(volume)[0]})"


def forget(job: Task, place: Place, chosen: Sequence[Volume]) -> None:
    """Delete kept volumes. This cannot be undone.

    Raises UsageError, before the first deletion, if one belongs to another catalog or environment.
    """
    refuse_others(job.environment, job.cloud, {volume.id: volume.tags for volume in chosen})
    for volume in chosen:
        volumes.delete(job.ledger, place, volume.id)
