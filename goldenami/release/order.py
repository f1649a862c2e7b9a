"""What is to be released, and what it is to look like in every target."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from goldenami.errors import UsageError
from goldenami.model import Architecture, Place, Target
from goldenami.release import targets as modes


@dataclass(frozen=True, slots=True)
class ReleaseOrder:
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

    def source(self, target: Target) -> Target | None:
        """The target whose image this one uses or is made from; None where it is made from the candidate alone.

        Raises UsageError where that target is not part of the order, or is the target itself.
        """
        mode = modes.get_mode(target)
        label = mode.source(target)
        if label is None:
            return None
        for other in self.targets:
            if other.label == label and other is not target:
                return other
        account, _, region = label.partition("/")
        raise UsageError(
            f"{target.label}: {mode.without_source}, the {account} account has no target in {region}",
            hint=f"Add {region} to the {account} account's targets, or give {target.label} mode: copy.",
        )

    def owner(self, target: Target) -> Target:
        """The target whose account owns the image that this one uses: itself, or its source's.

        Raises UsageError where there is nothing to use.
        """
        if modes.get_mode(target).owns_image:
            return target
        source = self.source(target)
        if source is None:
            raise UsageError(f"{target.label}: mode {target.mode} neither owns an image nor has a source")
        return self.owner(source)

    def borrowers(self, target: Target) -> frozenset[str]:
        """The other accounts that use the image of a target, or make theirs from it, because they are targets."""
        found = {other.account.id for other in self.targets if modes.get_mode(other).source(other) == target.label}
        return frozenset(found - {target.account.id})

    def users(self, target: Target) -> tuple[str, ...]:
        """The accounts besides its owner that may use the image of a target that owns one. ``share_accounts`` are
        about the home account's images."""
        if not modes.get_mode(target).owns_image:
            return ()
        shared = frozenset(self.share_accounts) if target.account.id == self.home.account else frozenset()
        return tuple(sorted((self.borrowers(target) | shared) - {target.account.id}))
