"""Release orders: the expected state of a release in every target."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from goldenami.aws import tags
from goldenami.errors import UsageError
from goldenami.model import IMAGE_NAME, Architecture, Place, Protection, Target
from goldenami.release import names
from goldenami.release import targets as modes
from goldenami.same import for_the_same


@dataclass(frozen=True, slots=True)
class ReleaseOrder:
    """One version of one recipe, for a list of targets.

    ``keys``: label of the target -> ARN of its key; for mode ``share``, of the key of the image's owner.
    ``tags``: tags of images and snapshots, in addition to the tags of all resources of the build.
    ``share_accounts``: 12-digit ids of accounts that may also use the home account's images. They get no row in the
    manifest.
    ``share_organizations``: ARNs of organizations and organizational units whose accounts may launch these images.
    ``unavailable``: label of a best-effort target that gets no image -> reason.
    ``boot_modes``: the expected boot mode of the images by architecture; None: they have none. Those of an architecture
    that is missing are not compared.
    ``deprecate_at``: a time within ten years, which EC2 rounds to the minute.
    ``names``: the template of AMI names (``release.names``).
    ``captured``: the candidates are the images of the home region's target, so that it needs no copies.
    ``volumes``: the data volumes that every image must have: device name -> whether it is deleted with an instance.
    ``protection``: of the images from deregistration, once they are released; None: goldenami does not protect them.
    """

    recipe: str
    version: str
    home: Place
    targets: tuple[Target, ...]
    keys: Mapping[str, str]
    description: str = ""
    tags: Mapping[str, str] = field(default_factory=dict)
    share_accounts: tuple[str, ...] = ()
    share_organizations: tuple[str, ...] = ()
    imds_v2: bool = True
    boot_modes: Mapping[Architecture, str | None] = field(default_factory=dict)
    deprecate_at: datetime | None = None
    unavailable: Mapping[str, str] = field(default_factory=dict)
    names: str = IMAGE_NAME
    captured: bool = False
    volumes: Mapping[str, bool] = field(default_factory=dict)
    protection: Protection | None = None

    @property
    def image_tags(self) -> dict[str, str]:
        """The tags of images and snapshots, with the one that says who protects an image (``release.protection``)."""
        return {**self.tags, **({tags.PROTECTION: self.protection} if self.protection is not None else {})}

    def image_name(self, architecture: Architecture) -> str:
        """Return the name of the AMI. The version is reserved for one build, and its names were free then."""
        return names.image_name(self.names, recipe=self.recipe, version=self.version, architecture=architecture)

    def is_captured(self, target: Target) -> bool:
        """Return whether the candidates are the images of a target."""
        return self.captured and modes.is_home(target, self.home)

    def source(self, target: Target) -> Target | None:
        """Return the target whose image this target uses or copies; None if it copies the candidate.

        Raises UsageError if that target is not part of the order, or is the target itself.
        """
        mode = modes.get_mode(target)
        label = mode.source(target)
        if label is None:
            return None
        other = _by_label(self.targets).get(label)
        if other is not None and other is not target:
            return other
        account, _, region = label.partition("/")
        raise UsageError(
            f"{target.label}: {mode.without_source}, the {account} account has no target in {region}",
            hint=f"Add {region} to the {account} account's targets, or give {target.label} mode: copy.",
        )

    def owner(self, target: Target) -> Target:
        """Return the target whose account owns the image: this target, or the owner of its source.

        Raises UsageError if the target neither owns an image nor has a source.
        """
        if modes.get_mode(target).owns_image:
            return target
        source = self.source(target)
        if source is None:
            raise UsageError(f"{target.label}: mode {target.mode} neither owns an image nor has a source")
        return self.owner(source)

    def borrowers(self, target: Target) -> frozenset[str]:
        """Return the accounts of other targets that use or copy the image of a target."""
        return _borrowers(self.targets).get(target.label, frozenset()) - {target.account.id}

    def organizations(self, target: Target) -> tuple[str, ...]:
        """Return the organizations and organizational units that may launch the image of a target: those of the home
        account's images only."""
        owned = modes.get_mode(target).owns_image and target.account.id == self.home.account
        return self.share_organizations if owned else ()

    def users(self, target: Target) -> tuple[str, ...]:
        """Return the accounts that may use the image of a target, without its owner; empty if it owns no image.

        ``share_accounts`` count only for images of the home account.
        """
        if not modes.get_mode(target).owns_image:
            return ()
        shared = frozenset(self.share_accounts) if target.account.id == self.home.account else frozenset()
        return tuple(sorted((self.borrowers(target) | shared) - {target.account.id}))


# With thousands of targets, to look through all of them for each one would take most of the time.


@for_the_same
def _by_label(targets: tuple[Target, ...]) -> Mapping[str, Target]:
    return {target.label: target for target in targets}


@for_the_same
def _borrowers(targets: tuple[Target, ...]) -> Mapping[str, frozenset[str]]:
    """Return the accounts that use the image of a target, by its label."""
    found: dict[str, set[str]] = {}
    for target in targets:
        label = modes.get_mode(target).source(target)
        if label is not None:
            found.setdefault(label, set()).add(target.account.id)
    return {label: frozenset(accounts) for label, accounts in found.items()}
