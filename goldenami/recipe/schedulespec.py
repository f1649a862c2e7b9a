"""The models of ``schedules:`` in goldenami.yaml and in recipes. Each field is described once, here."""

from __future__ import annotations

from datetime import date, datetime
from typing import Annotated, Literal

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from goldenami.recipe.words import Duration, Name, Region, Spec, Tags, check_tags


def _when(text: str) -> str:
    from goldenami.schedules.calendar import fires  # here, because most environments have no schedules
    from goldenami.schedules.timing import parse

    if not fires(parse(text)):
        raise ValueError(f"{text!r} never fires: no date matches it")
    return text


def _zone(text: str) -> str:
    from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

    try:
        ZoneInfo(text)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise ValueError(f"{text!r} is not a time zone, such as Europe/Berlin or UTC") from None
    return text


def _start(given: object) -> object:
    # YAML reads an unquoted date as a date object.
    text = given.isoformat() if isinstance(given, date | datetime) else given
    if isinstance(text, str):
        try:
            datetime.fromisoformat(text)
        except ValueError:
            raise ValueError(f"{text!r} is not a date or a time, such as 2026-01-01 or 2026-01-01T03:00") from None
    return text


class VolumesSpec(Spec):
    """Volumes. A snapshot of each is made on its own."""

    tags: Tags = Field(min_length=1, description="Tags of the volumes to save. A volume needs all of them.")
    exclude_tags: Tags = Field(default_factory=dict, description="A volume with any of these is left out.")


class InstancesSpec(Spec):
    """Instances. Snapshots of all their volumes are made at one point in time."""

    tags: Tags = Field(
        default_factory=dict, description="Tags of the instances to save. An instance needs all of them."
    )
    recipe: Name | None = Field(None, description="Instances that run an image of this recipe, of any version.")
    exclude_root: bool = Field(False, description="Leave the root volume out.")
    exclude_tags: Tags = Field(default_factory=dict, description="A volume with any of these is left out.")

    @model_validator(mode="after")
    def _some(self) -> InstancesSpec:
        if not self.tags and self.recipe is None:
            raise ValueError("expected tags, recipe, or both; neither is given")
        return self


class WhatSpec(Spec):
    """Selection of what is saved: exactly one of volumes and instances."""

    volumes: VolumesSpec | None = Field(None, description="Volumes with these tags.")
    instances: InstancesSpec | None = Field(None, description="Instances with these tags, or of a recipe.")

    @model_validator(mode="after")
    def _one(self) -> WhatSpec:
        if (self.volumes is None) == (self.instances is None):
            raise ValueError("expected exactly one of volumes and instances")
        return self


Count = Annotated[int, Field(ge=1, le=1000)]


class KeepSpec(Spec):
    """Snapshots to keep of each volume. One rule is enough to keep a snapshot. hourly to yearly keep the first snapshot
    of a period."""

    keep: Count | None = Field(None, description="Number of the newest snapshots to keep.")
    max_age: Duration | None = Field(None, description='Keep snapshots younger than this, such as "30d".')
    hourly: Count | None = Field(None, description="Number of hours that have snapshots: the first of each is kept.")
    daily: Count | None = Field(None, description="Number of days that have snapshots: the first of each is kept.")
    weekly: Count | None = Field(None, description="Number of weeks (from Monday): the first of each is kept.")
    monthly: Count | None = Field(None, description="Number of months: the first of each is kept.")
    yearly: Count | None = Field(None, description="Number of years: the first of each is kept.")

    @model_validator(mode="after")
    def _some(self) -> KeepSpec:
        if not self.model_fields_set:
            raise ValueError("expected at least one of keep, max_age, hourly, daily, weekly, monthly and yearly")
        return self


class CopySpec(Spec):
    """A copy of every snapshot in another region."""

    region: Region = Field(description="Region of the copies.")
    kms_key: str | None = Field(
        None,
        min_length=1,
        description="KMS key (alias/NAME, id or ARN) in that region. Default: encrypted as the source.",
    )
    retention: KeepSpec | None = Field(None, description="Retention of the copies. Default: that of the originals.")


class FastRestoreSpec(Spec):
    """Fast snapshot restore: new volumes have full speed from the first read. AWS charges per hour and zone."""

    keep: Annotated[int, Field(ge=1, le=50)] = Field(
        1, description="Number of the newest snapshots of each volume that have it."
    )
    zones: tuple[str, ...] = Field(min_length=1, description="Availability Zones, such as eu-central-1a.")


class ArchiveSpec(Spec):
    """The archive tier: lower price, billed for 90 days or more, and a restore takes hours."""

    after: Duration = Field(description='Age at which a snapshot is archived, such as "30d".')


class ShareScheduleSpec(Spec):
    """Accounts that may create volumes from the snapshots."""

    accounts: tuple[str, ...] = Field(
        min_length=1, description="Names of the environment's accounts, or 12-digit ids in quotes."
    )
    unshare_after: Duration | None = Field(None, description="Age at which the sharing ends. Default: it does not end.")


class ScheduleSpec(Spec):
    """Scheduled snapshots (or images) of volumes or instances."""

    description: str = Field("", description="Purpose of the schedule.", max_length=255)
    what: WhatSpec | None = Field(
        None, description="What is saved. Default in a recipe: the instances that run its images."
    )
    make: Literal["snapshots", "images"] = Field(
        "snapshots", description="snapshots, or images: made from instances, without a reboot."
    )
    accounts: tuple[str, ...] = Field(("home",), min_length=1, description="home, or names of accounts.")
    regions: tuple[Region, ...] = Field((), description="Regions of the volumes. Default: the home region.")
    when: Annotated[str, AfterValidator(_when)] = Field(
        description='Cron ("0 3 * * 1-5"), AWS\'s form ("cron(0 3 ? * MON-FRI *)") or a rate ("rate(12 hours)", "12h").'
    )
    time_zone: Annotated[str, AfterValidator(_zone)] = Field("UTC", description="Time zone of the cron expression.")
    start: Annotated[str, BeforeValidator(_start)] | None = Field(
        None, description="Earliest time; a rate counts from it. Default: none, and rates count from 1970."
    )
    missed: Literal["latest", "each", "none"] = Field(
        "latest", description="After an outage: one snapshot for the latest slot, one for each missed slot, or none."
    )
    retention: KeepSpec = Field(description="Snapshots to keep.")
    copies: tuple[CopySpec, ...] = Field((), description="Copies in other regions.")
    fast_restore: FastRestoreSpec | None = Field(None, description="Fast snapshot restore of the newest ones.")
    archive: ArchiveSpec | None = Field(None, description="Move older snapshots to the archive tier.")
    share: ShareScheduleSpec | None = Field(None, description="Other accounts that may use the snapshots.")
    tags: Annotated[Tags, AfterValidator(check_tags)] = Field(
        default_factory=dict, description="Tags for the snapshots, in addition to the environment's tags."
    )
    copy_tags: bool = Field(True, description="Copy the tags of the volume to the snapshot.")

    @model_validator(mode="after")
    def _fits(self) -> ScheduleSpec:
        from goldenami.schedules.timing import Rate, parse

        if self.make == "images" and self.what is not None and self.what.volumes is not None:
            raise ValueError("make: images can be made only of instances, not of volumes")
        if self.make == "images" and self.archive is not None:
            raise ValueError(
                "archive is allowed only with make: snapshots, because the snapshots of an image cannot be archived"
            )
        if isinstance(parse(self.when), Rate) and self.time_zone != "UTC":
            raise ValueError("time_zone is allowed only with a cron expression; a rate counts elapsed time from start")
        return self
