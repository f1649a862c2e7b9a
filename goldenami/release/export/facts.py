"""What a snippet says about a release: its images in one account, or the parameters that follow its channel."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from goldenami.errors import NotFound, UsageError
from goldenami.model import Architecture, Environment
from goldenami.release import targets as modes
from goldenami.release.catalog import Catalog
from goldenami.release.parameters import images_for, parameter_name
from goldenami.release.versions import Reference


@dataclass(frozen=True, slots=True)
class ExportedImage:
    """An image in one region. ``owner``: the account that owns it, which may be another one than the consumer's."""

    region: str
    image_id: str
    name: str
    owner: str


@dataclass(frozen=True, slots=True)
class Exported:
    """A release for one account.

    ``follows``: the channel that the snippet follows; None: it is pinned to the version. ``parameters``: the name of
    the parameter with the image id by architecture; the same in each region, empty if it is pinned. ``images``: the
    images by architecture, sorted by region.
    """

    name: str
    version: str
    account: str
    follows: str | None
    parameters: Mapping[Architecture, str]
    images: Mapping[Architecture, tuple[ExportedImage, ...]]

    @property
    def architectures(self) -> tuple[Architecture, ...]:
        return tuple(self.images)

    @property
    def regions(self) -> tuple[str, ...]:
        return tuple(sorted({image.region for images in self.images.values() for image in images}))

    def identifier(self, architecture: Architecture) -> str:
        """Return a name for languages that allow letters, digits and underscores: ami_debian_12_web_x86_64."""
        return "ami_" + re.sub(r"\W", "_", f"{self.name}_{architecture}")

    def logical_id(self, prefix: str, architecture: Architecture) -> str:
        """Return a name of letters and digits: AmiDebian12WebX8664."""
        words = re.split(r"[^a-z0-9]+", f"{self.name}-{architecture}")
        return prefix + "".join(word.capitalize() for word in words)

    def header(self) -> list[str]:
        """Return the lines that say what the snippet is, without the sign of a comment."""
        where = f"account {self.account}, regions {', '.join(self.regions)}"
        if self.follows is None:
            return [f"{self.name} {self.version}, {where}", "Pinned: a newer release needs a new export."]
        return [
            f"{self.name}@{self.follows}, {where}",
            f"Follows the channel, which points to {self.version} at the time of this export.",
        ]


ROLLBACK: Final = (
    '"resolve:ssm:PARAMETER" in place of the id lets each launch follow the channel. But an Auto Scaling group cannot',
    "roll back an instance refresh then, and EKS refuses such a launch template for managed node groups.",
)


def gather(
    catalog: Catalog,
    environment: Environment,
    reference: Reference,
    account: str,
    *,
    following: bool | None = None,
) -> Exported:
    """Return what a snippet says. ``account``: the 12-digit id of the consumer's account.

    ``following``: None follows a channel, and pins anything else. Raises NotFound if there is no such release, if it is
    revoked or retired, or if the account cannot use its images; UsageError if it cannot be followed.
    """
    if following is None:
        following = reference.channel is not None
    if following and reference.channel is None:
        raise UsageError(
            f"{reference} cannot be followed, because a version never changes",
            hint=f"Write {reference.name}@CHANNEL, or leave out --following.",
        )
    manifest = catalog.find(reference)
    catalog.refuse_unusable(manifest)
    owners = {row.image_id: row.account for row in manifest.images if modes.owns(row)}
    found: dict[Architecture, list[ExportedImage]] = {}
    for place, row in images_for(manifest, [account]):
        if place.account == account:
            owner = owners.get(row.image_id, row.account)
            found.setdefault(row.architecture, []).append(ExportedImage(place.region, row.image_id, row.name, owner))
    if not found:
        accounts = sorted({one for row in manifest.images for one in (row.account, *row.shared_with)})
        raise NotFound(
            f"{manifest.label} has no image for account {account}",
            hint=f"Accounts: {', '.join(accounts)}. Choose one with --account.",
        )
    target = any(row.account == account for row in manifest.images)
    if following and not target and account not in {one.id for one in environment.informed}:
        raise UsageError(
            f"account {account} has no parameters of {manifest.recipe}, because the images are only shared with it",
            hint="Use --pinned, or set parameters: true for the account in goldenami.yaml (docs/consuming.md).",
        )
    names = {
        architecture: parameter_name(
            environment.parameter_prefix, manifest.recipe, architecture, str(reference.channel)
        )
        for architecture in sorted(found)
        if following
    }
    return Exported(
        manifest.recipe,
        manifest.version,
        account,
        reference.channel if following else None,
        names,
        {architecture: tuple(sorted(found[architecture], key=lambda i: i.region)) for architecture in sorted(found)},
    )
