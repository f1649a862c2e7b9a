"""The document that all receivers of a notification get: ``goldenami.event/1``."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping, Sequence
from typing import Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field

from goldenami.errors import GoldenAmiError
from goldenami.model import ImageManifest
from goldenami.notify.kinds import What

SCHEMA: Final = "goldenami.event/1"
MOST_IMAGES: Final = 500  # so that a document is far below the 256 KB of EventBridge and SNS
LONGEST_TEXT: Final = 4000  # characters
_LINES_OF_LISTS: Final = 20


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)


class EventChannel(_Part):
    """A channel that the event is about."""

    name: str = Field(description="Name of the channel.")
    before: str | None = Field(
        None, alias="from", description="Version that it pointed to before; null if there was none, or it did not move."
    )
    to: str | None = Field(None, description="Version that it points to now; null if it did not move.")


def channel(name: str, before: str | None = None, to: str | None = None) -> EventChannel:
    """Return a channel that moved from a version to another one, or did not move."""
    return EventChannel.model_validate({"name": name, "from": before, "to": to})


class EventImage(_Part):
    """The image of the release in one place."""

    account: str = Field(description="12-digit account id.")
    region: str = Field(description="Region.")
    architecture: str = Field(description="x86_64 or arm64.")
    image_id: str = Field(description="AMI id.")


class EventWaiver(_Part):
    """A waiver that ends soon."""

    control: str = Field(description="Id of the hardening control.")
    expires: str = Field(description="Last day of the waiver. Builds after that day fail.")
    reason: str = Field(description="The reason in the recipe.")


class EventVulnerability(_Part):
    """A vulnerability of a release."""

    id: str = Field(description="CVE, or the id of an advisory.")
    package: str = Field(description="Source package, or the package of a language.")
    version: str = Field(description="Its version in the image.")
    severity: str = Field(description="unknown, negligible, low, medium, high or critical.")
    fixed: str | None = Field(None, description="First version without it; null if there is none.")


class EventDocument(_Part):
    """What happened. Fields that do not apply are null or empty."""

    schema_: Literal["goldenami.event/1"] = Field(SCHEMA, alias="schema", description="Name and version of this form.")
    id: str = Field(description="The same if the event is sent again, so that a receiver can drop the second one.")
    event: What = Field(description="What happened.")
    title: str = Field(description="The event in one line.")
    text: str = Field(description="The event in some lines of plain text.")
    time: str = Field(description="When, as ISO 8601 in UTC.")
    environment: str = Field(description="Environment of goldenami.yaml.")
    name: str | None = Field(None, description="Name of the recipe and its releases.")
    version: str | None = Field(None, description="Version of the release.")
    channels: tuple[EventChannel, ...] = Field((), description="Channels that moved or would have moved.")
    images: tuple[EventImage, ...] = Field((), description="Images of the release, at most 500.")
    more_images: int = Field(0, description="Number of images that are not listed.")
    by: str | None = Field(None, description="ARN of the caller.")
    reason: str | None = Field(None, description="Reason that the caller gave.")
    error: str | None = Field(None, description="Why it failed.")
    build: str | None = Field(None, description="Id of the build, for `goldenami builds show`.")
    task: str | None = Field(None, description="Id of the task, for `goldenami builds show`.")
    command: str | None = Field(None, description="Command that shows more, or continues.")
    url: str | None = Field(None, description="Page of the job in the CI system, from its environment variables.")
    deprecated: str | None = Field(None, description="When the images of a new release will be deprecated.")
    waivers: tuple[EventWaiver, ...] = Field((), description="Waivers that end soon.")
    vulnerabilities: tuple[EventVulnerability, ...] = Field(
        (), description="New vulnerabilities of the release, the worst first, at most 100; the title has their number."
    )

    def to_json(self) -> dict[str, Any]:
        return self.model_dump(mode="json", by_alias=True)


def make(
    what: What,
    *,
    id: str,
    title: str,
    time: str,
    environment: str,
    manifest: ImageManifest | None = None,
    **fields: Any,
) -> EventDocument:
    """Return a document. ``manifest``: of the release, for its name, version and images. ``title``: one sentence,
    without the environment."""
    if manifest is not None:
        images = [
            EventImage(account=i.account, region=i.region, architecture=i.architecture, image_id=i.image_id)
            for i in manifest.images
        ]
        fields = {
            "name": manifest.recipe,
            "version": manifest.version,
            "images": tuple(images[:MOST_IMAGES]),
            "more_images": max(0, len(images) - MOST_IMAGES),
            **fields,
        }
    for key in ("reason", "error"):
        if fields.get(key) and len(fields[key]) > LONGEST_TEXT:
            fields[key] = f"{fields[key][: LONGEST_TEXT - 1]}…"
    title = f"{title} ({environment})"
    url = job_url()
    lines = [
        title,
        *(f"{label}: {fields[key]}" for key, label in _LINES.items() if fields.get(key)),
        *(
            f"{v.id} {v.severity}: {v.package} {v.version}" + (f", fixed in {v.fixed}" if v.fixed else "")
            for v in fields.get("vulnerabilities", ())[:_LINES_OF_LISTS]
        ),
        *(f"waiver of {w.control} until {w.expires}: {w.reason}" for w in fields.get("waivers", ())),
        *([url] if url else []),
    ]
    return EventDocument(
        id=id, event=what, title=title, text="\n".join(lines), time=time, environment=environment, url=url, **fields
    )


_LINES: Final = {"reason": "reason", "error": "error", "by": "by", "deprecated": "deprecated", "command": "more"}


def reason_of(error: BaseException | None) -> str:
    """Return why something failed, for ``error`` of a document; None: it was interrupted. Only errors of goldenami have
    a text that may be sent."""
    if error is None:
        return "interrupted"
    return error.message if isinstance(error, GoldenAmiError) else type(error).__name__


def id_of(*parts: object) -> str:
    """Return the id of an event: a digest of what makes it this one."""
    return hashlib.sha256("\n".join(map(str, parts)).encode()).hexdigest()[:32]


def job_url(variables: Mapping[str, str] = os.environ) -> str | None:
    """Return the page of the CI job that this process is part of (GitLab, GitHub, Jenkins), or None."""
    if "GITHUB_RUN_ID" in variables:
        parts: Sequence[str] = [variables.get(f"GITHUB_{n}", "") for n in ("SERVER_URL", "REPOSITORY")]
        return "/".join([*parts, "actions/runs", variables["GITHUB_RUN_ID"]])
    return variables.get("CI_JOB_URL") or variables.get("BUILD_URL") or None
