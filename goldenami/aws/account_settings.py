"""Settings of an account in a region that decide whether images can be found, launched and shared. Reads only."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

from goldenami.aws.session import Cloud
from goldenami.model import Place


@dataclass(frozen=True, slots=True)
class AllowedImages:
    """The Allowed AMIs settings. ``state``: "disabled", "audit-mode" or "enabled". ``criteria``: as EC2 returns them.

    The account's own images are always allowed ("Control the discovery and use of AMIs", EC2 User Guide).
    """

    state: str
    criteria: tuple[Mapping[str, Any], ...]

    def allow(self, *, owner: str, name: str) -> bool:
        """Return whether another account's image can be allowed, by its owner (an id or an alias) and its name.

        Other conditions, such as the age of an image, are not evaluated.
        """
        if self.state != "enabled" or not self.criteria:
            return True
        return any(_matches(one, owner, name) for one in self.criteria)


def _matches(one: Mapping[str, Any], owner: str, name: str) -> bool:
    providers, names = one.get("ImageProviders") or (), one.get("ImageNames") or ()
    if providers and owner not in providers:
        return False
    return not names or any(fnmatchcase(name, pattern) for pattern in names)


def allowed_images(cloud: Cloud, place: Place) -> AllowedImages:
    """Return the Allowed AMIs settings of a place."""
    answer = cloud.call(place, "ec2", "GetAllowedImagesSettings", {})
    return AllowedImages(str(answer.get("State", "disabled")), tuple(answer.get("ImageCriteria") or ()))


def blocks_public_images(cloud: Cloud, place: Place) -> bool:
    """Return whether EC2 refuses to make the account's images public in a place."""
    answer = cloud.call(place, "ec2", "GetImageBlockPublicAccessState", {})
    return bool(answer.get("ImageBlockPublicAccessState") != "unblocked")
