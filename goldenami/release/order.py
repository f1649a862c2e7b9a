"""What is to be released, and what it is to look like in every target."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from goldenami.errors import UsageError
from goldenami.model import Architecture, Place, Target


@dataclass(frozen=True, slots=True)
class Order:
    """One version of one recipe, for these targets.

    ``keys``: by target label, the ARN of the key that encrypts there; for a share, that of the owner's key.
    ``tags``: of images and snapshots, besides those that everything of the build carries.
    ``share_accounts``: 12-digit ids that may also use the home account's images; they get no row in the manifest.
    ``deprecate_at``: a moment within ten years, which EC2 rounds to the minute.
    """

    recipe: str
    version: str
    home: Place
    targets: tuple[Target, ...]
    keys: Mapping[str, str]
    description: str = ""
    tags: Mapping[str, str] = field(default_factory=dict)
    share_accounts: tuple[str, ...] = ()
    imds_v2: bool = True
    deprecate_at: datetime | None = None

    def image_name(self, architecture: Architecture) -> str:
        """The AMI's name. The version is reserved for one build, so no other image of the account can bear it."""
        return f"{self.recipe}-{self.version}-{architecture}"

    @property
    def copies(self) -> tuple[Target, ...]:
        return tuple(target for target in self.targets if target.mode == "copy")

    @property
    def shares(self) -> tuple[Target, ...]:
        return tuple(target for target in self.targets if target.mode == "share")

    def owner(self, target: Target) -> Target:
        """The target whose image this one uses: itself, or the home account's copy in the same region.

        Raises UsageError where there is nothing to share.
        """
        if target.mode == "copy":
            return target
        for other in self.copies:
            if other.place == Place(self.home.account, target.region):
                return other
        raise UsageError(
            f"{target.label}: nothing to share, the home account has no target in {target.region}",
            hint=f"Add {target.region} to the home account's targets, or give {target.label} mode: copy.",
        )

    def users(self, target: Target) -> tuple[str, ...]:
        """The accounts besides its owner that may use the image of a copy target; none for other accounts' copies."""
        if target.mode != "copy" or target.account.id != self.home.account:
            return ()
        sharing = {other.account.id for other in self.shares if other.region == target.region}
        return tuple(sorted(sharing | set(self.share_accounts) - {self.home.account}))
