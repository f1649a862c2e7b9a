"""Deregistration protection of released images: EC2 refuses to deregister a protected image.

The tag ``goldenami:protection`` says that goldenami protects an image, as its recipe declares: its value is the mode.
goldenami never disables the protection of an image without this tag: somebody else enabled it. A tag is set before its
image is protected, and deleted after the protection is disabled, so a killed process leaves no protection that nobody
would disable.

With a cooldown, EC2 refuses the deregistration for 24 hours after the protection was disabled ("Protect an Amazon EC2
AMI from deregistration"). EC2 does not tell when they end, so ``lift`` writes the time into the tag.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Final

from goldenami.aws import images, tags
from goldenami.aws.ledger import Ledger
from goldenami.aws.tagcalls import tag
from goldenami.aws.waiters import Item
from goldenami.each import each
from goldenami.model import ImageManifest, Place, Protection, timestamp
from goldenami.release import targets as modes

MODES: Final[dict[str, Protection]] = {"with-cooldown": "with-cooldown", "without-cooldown": "without-cooldown"}
_COOLDOWN: Final = timedelta(hours=24, minutes=5)  # the clock of AWS may differ from this one


def mode_of(image: Item) -> Protection | None:
    """Return the protection that an image has; None: it can be deregistered, or its cooldown runs."""
    return MODES.get(str(image.get("DeregistrationProtection") or "").removeprefix("enabled-"))


def by_tag(image: Item) -> Protection | None:
    """Return the protection that goldenami gave an image, by its tag."""
    return MODES.get(tags.from_list(image.get("Tags")).get(tags.PROTECTION, ""))


def lifted(image: Item) -> Protection | None:
    """Return the protection that goldenami gave an image and disabled again."""
    mark = tags.from_list(image.get("Tags")).get(tags.PROTECTION, "")
    given = by_tag(image) or ("with-cooldown" if tags.parse_timestamp(mark) is not None else None)
    return given if mode_of(image) is None else None


def is_of_others(image: Item) -> bool:
    """Return whether an image is protected, and not by goldenami."""
    value = str(image.get("DeregistrationProtection") or "disabled")
    return value != "disabled" and by_tag(image) is None


def cooldown_end(image: Item, now: datetime) -> datetime | None:
    """Return until when EC2 refuses to deregister an image whose protection goldenami disabled; None: not any more."""
    until = tags.parse_timestamp(tags.from_list(image.get("Tags")).get(tags.PROTECTION, ""))
    return until if until is not None and until > now else None


def protect(ledger: Ledger, manifest: ImageManifest, mode: Protection) -> dict[str, str]:
    """Ensure that the images of a release are protected; they have the tag. Return place -> reason of failures."""
    rows = [row for row in manifest.images if modes.owns(row)]
    answers = each(
        [(row.place, row.image_id) for row in rows],
        lambda at: images.protect(ledger, f"protect/{at[0]}/{at[1]}", *at, cooldown=mode == "with-cooldown"),
    )
    return {str(place): f"{id} is not protected: {reason}" for (place, id), reason in answers.reasons.items()}


def restore(ledger: Ledger, place: Place, image: Item) -> None:
    """Protect an image again whose protection was lifted."""
    id, mode = str(image["ImageId"]), lifted(image)
    if mode is None:
        return
    if by_tag(image) is None:
        tag(ledger, f"protection/{place}/{id}", place, id, {tags.PROTECTION: mode})
    images.protect(ledger, f"protect/{place}/{id}", place, id, cooldown=mode == "with-cooldown")


def lift(ledger: Ledger, place: Place, image: Item, now: datetime) -> datetime | None:
    """Disable the protection that goldenami gave an image. Return until when EC2 refuses to deregister it; None: it can
    be deregistered now. A second call changes nothing, and completes the work of a killed process."""
    id, given = str(image["ImageId"]), by_tag(image)
    if given is None:
        return cooldown_end(image, now)
    if mode_of(image) is not None:
        images.unprotect(ledger, f"unprotect/{place}/{id}", place, id)
    if "with-cooldown" not in (mode_of(image), given):
        return None
    end = now.replace(microsecond=0) + _COOLDOWN
    tag(ledger, f"cooldown/{place}/{id}", place, id, {tags.PROTECTION: timestamp(end)})
    return end
