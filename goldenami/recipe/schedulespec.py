"""What ``schedules:`` may say, in goldenami.yaml and in recipes: the forms, each field described once."""

from __future__ import annotations

from datetime import date, datetime
from typing import Annotated, Literal
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from goldenami.recipe.words import Duration, Name, Region, Spec, Tags, check_tags
from goldenami.schedules.calendar import fires
from goldenami.schedules.timing import Rate, parse


def _when(text: str) -> str:
    if not fires(parse(text)):
        raise ValueError(f"{text!r} never comes")
    return text


def _zone(text: str) -> str:
    try:
        ZoneInfo(text)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise ValueError(f"{text!r} is not a time zone, such as Europe/Berlin or UTC") from None
    return text


def _start(given: object) -> object:
    # YAML reads a bare date as one.
    text = given.isoformat() if isinstance(given, date | datetime) else given
    if isinstance(text, str):
        try:
            datetime.fromisoformat(text)
        except ValueError:
            raise ValueError(f"{text!r} is not a date or a time, such as 2026-01-01 or 2026-01-01T03:00") from None
    return text


class VolumesSpec(Spec):
    """Volumes, each saved for itself."""

    tags: Tags = Field(min_length=1, description="Tags that a volume has, all of them, to be saved.")
    exclude_tags: Tags = Field(default_factory=dict, description="A volume with any of these is left out.")


class InstancesSpec(Spec):
    """Instances: all their volumes at one moment."""

    tags: Tags = Field(default_factory=dict, description="Tags that an instance has, all of them, to be saved.")
    recipe: Name | None = Field(None, description="Instances that run an image of this recipe, whatever its version.")
    exclude_root: bool = Field(False, description="Leave the root volume out.")
    exclude_tags: Tags = Field(default_factory=dict, description="A volume with any of these is left out.")

    @model_validator(mode="after")
    def _some(self) -> InstancesSpec:
        if not self.tags and self.recipe is None:
            raise ValueError("instances are chosen by tags, by recipe, or by both; neither is given")
        return self


class WhatSpec(Spec):
    """What is saved: exactly one of volumes and instances."""

    volumes: VolumesSpec | None = Field(None, description="Volumes with certain tags.")
    instances: InstancesSpec | None = Field(None, description="Instances with certain tags, or of a recipe.")

    @model_validator(mode="after")
    def _one(self) -> WhatSpec:
        if (self.volumes is None) == (self.instances is None):
            raise ValueError("exactly one of volumes and instances says what is saved")
        return self


Count = Annotated[int, Field(ge=1, le=1000)]


class KeepSpec(Spec):
    """What is kept of each volume: whatever any of these keeps. Tiers keep the first snapshot of a period."""

    keep: Count | None = Field(None, description="The newest so many.")
    max_age: Duration | None = Field(None, description='Those younger than this, such as "30d".')
    hourly: Count | None = Field(None, description="The first one of each of the last so many hours that have any.")
    daily: Count | None = Field(None, description="The first one of each of the last so many days that have any.")
    weekly: Count | None = Field(None, description="The first one of each of the last so many weeks (from Monday).")
    monthly: Count | None = Field(None, description="The first one of each of the last so many months.")
    yearly: Count | None = Field(None, description="The first one of each of the last so many years.")

    @model_validator(mode="after")
    def _some(self) -> KeepSpec:
        if not self.model_fields_set:
            raise ValueError("at least one of keep, max_age, hourly, daily, weekly, monthly and yearly is needed")
        return self


class CopySpec(Spec):
    """A copy of every snapshot in another region."""

    region: Region = Field(description="Region of the copies.")
    kms_key: str | None = Field(
        None, min_length=1, description="KMS key (alias/NAME, id or ARN) in that region. Default: as the source is."
    )
    retention: KeepSpec | None = Field(None, description="What is kept of the copies. Default: as of the originals.")


class FastRestoreSpec(Spec):
    """Fast snapshot restore: volumes without the first read's delay. It is charged by the hour and zone."""

    keep: Annotated[int, Field(ge=1, le=50)] = Field(1, description="For the newest so many of each volume.")
    zones: tuple[str, ...] = Field(min_length=1, description="Availability Zones, such as eu-central-1a.")


class ArchiveSpec(Spec):
    """The archive tier: cheaper to keep, at least 90 days, and hours to restore."""

    after: Duration = Field(description='Age at which a snapshot is archived, such as "30d".')


class ShareScheduleSpec(Spec):
    """Accounts that may make volumes of the snapshots."""

    accounts: tuple[str, ...] = Field(
        min_length=1, description="Names of the environment's accounts, or 12-digit ids in quotes."
    )
    unshare_after: Duration | None = Field(None, description="Age at which the sharing ends. Default: it stays.")


class ScheduleSpec(Spec):
    """Snapshots (or images) of volumes or instances, again and again."""

    description: str = Field("", description="What it is for.", max_length=255)
    what: WhatSpec | None = Field(
        None, description="What is saved. In a recipe the default is the instances that run its images."
    )
    make: Literal["snapshots", "images"] = Field(
        "snapshots", description="snapshots; or images, which are made of instances without a reboot."
    )
    accounts: tuple[str, ...] = Field(("home",), min_length=1, description="home, or names of accounts.")
    regions: tuple[Region, ...] = Field((), description="Where the volumes are. Default: the home region.")
    when: Annotated[str, AfterValidator(_when)] = Field(
        description='Cron ("0 3 * * 1-5"), AWS\'s form ("cron(0 3 ? * MON-FRI *)") or a rate ("rate(12 hours)", "12h").'
    )
    time_zone: Annotated[str, AfterValidator(_zone)] = Field("UTC", description="Time zone of the cron expression.")
    start: Annotated[str, BeforeValidator(_start)] | None = Field(
        None, description="Nothing is made before this time; a rate counts from it. Default: rates count from 1970."
    )
    missed: Literal["latest", "each", "none"] = Field(
        "latest", description="After an outage: one snapshot for the latest slot, one for each missed slot, or none."
    )
    retention: KeepSpec = Field(description="What is kept.")
    copies: tuple[CopySpec, ...] = Field((), description="Copies in other regions.")
    fast_restore: FastRestoreSpec | None = Field(None, description="Fast snapshot restore of the newest ones.")
    archive: ArchiveSpec | None = Field(None, description="The archive tier, after a while.")
    share: ShareScheduleSpec | None = Field(None, description="Who else may use the snapshots.")
    tags: Annotated[Tags, AfterValidator(check_tags)] = Field(
        default_factory=dict, description="Tags for what is made, besides the environment's."
    )
    copy_tags: bool = Field(True, description="Give a snapshot its volume's tags, too.")

    @model_validator(mode="after")
    def _fits(self) -> ScheduleSpec:
        if self.make == "images" and self.what is not None and self.what.volumes is not None:
            raise ValueError("make: images are made of instances, not of volumes")
        if self.make == "images" and self.archive is not None:
            raise ValueError("archive goes with snapshots: what an image uses cannot be archived")
        if isinstance(parse(self.when), Rate) and self.time_zone != "UTC":
            raise ValueError("time_zone goes with cron; a rate counts real time, from start")
        return self
