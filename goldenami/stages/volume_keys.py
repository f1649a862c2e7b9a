"""The key of the builder's volumes, and the keys that other accounts have to use.

Other accounts copy the candidate. If its snapshots are encrypted under the AWS managed key of EBS, they cannot: that
key cannot be shared. This is so for every unencrypted base in an account with EBS encryption by default. The builder's
volumes are then launched under the key of the target in the home region, so that the candidate has that key.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from goldenami.aws import encryption
from goldenami.aws.encryption import EbsDefaults, VolumeKey
from goldenami.aws.kms import Key
from goldenami.aws.session import Cloud
from goldenami.errors import UsageError
from goldenami.model import Architecture, BaseDevice, BaseImage, Encryption, Place, Target
from goldenami.planning import SourceSnapshot, VolumeChoice
from goldenami.recipe import Recipe
from goldenami.release import targets as modes

VolumeKeys = Mapping[str, VolumeKey | None]  # by device; None: the volume is not encrypted


def of_bases(
    cloud: Cloud,
    home: Place,
    base: Mapping[Architecture, BaseImage],
    recipe: Recipe,
    defaults: EbsDefaults,
    sources: Mapping[str, SourceSnapshot],
) -> dict[Architecture, VolumeKeys]:
    """Return the keys that EC2 would use for the builder's volumes. Queries EC2 only if another account copies.
    ``sources``: the snapshots of the recipe's data volumes, by id."""
    if not borrowers(recipe, home):
        return {}
    return {
        a: encryption.keys_of_launch(cloud, home, _devices(image, recipe, sources), defaults)
        for a, image in base.items()
    }


def _devices(base: BaseImage, recipe: Recipe, sources: Mapping[str, SourceSnapshot]) -> Collection[BaseDevice]:
    """Return the volumes of a builder: those of the base, and those that the recipe adds or replaces."""
    found = {device.device_name: device for device in base.devices}
    for volume in recipe.image.volumes:
        if volume.snapshot is not None:
            found[volume.device] = BaseDevice(volume.device, volume.snapshot, sources[volume.snapshot].encrypted)
        else:
            found.setdefault(volume.device, BaseDevice(volume.device, None, False))
    return found.values()


def borrowers(recipe: Recipe, home: Place) -> tuple[Target, ...]:
    """Return the targets in other accounts that copy the candidate."""
    return tuple(t for t in modes.owners(recipe.distribution.targets) if t.account.id != home.account)


def choose(
    recipe: Recipe,
    home: Place,
    keys: Mapping[str, Key],
    volume_keys: Mapping[Architecture, VolumeKeys],
    defaults: EbsDefaults,
    encryption: Encryption = "copy",
) -> dict[Architecture, VolumeChoice]:
    """Return the key of the builder's volumes for the architectures whose volumes need one, or are to have one.

    ``keys``: by the target's label. ``volume_keys``: what EC2 would use. ``encryption``: of the environment. Raises
    UsageError, with every problem, if another account would have to use the AWS managed key, and if the builder cannot
    be encrypted at its launch although the environment says so.
    """
    own = next((t for t in modes.owners(recipe.distribution.targets) if t.place == home), None)
    key = keys.get(own.label) if own is not None else None
    found: dict[Architecture, VolumeChoice] = {}
    if encryption == "launch":
        _check_launch(recipe, home, key, own)
    problems = _shared_under_managed(recipe, keys)
    for architecture in recipe.architectures:
        asked = True if encryption == "launch" else recipe.builder[architecture].encrypted
        reason = _unusable(volume_keys.get(architecture, {}), home, defaults)
        if asked and key is not None:
            reason = _home_key_unusable(key, own) if borrowers(recipe, home) else ""
            why = "the environment encrypts at launch" if encryption == "launch" else "builder.encrypted is true"
            found[architecture] = VolumeChoice(key.arn, why)
        elif reason and not asked and asked is not None:
            reason += ", and builder.encrypted is false"
        elif reason and key is not None and not key.aws_managed:
            found[architecture] = VolumeChoice(key.arn, reason)
            reason = ""
        elif reason:
            reason += f", and {_home_key_unusable(key, own)}"
        if reason:
            labels = ", ".join(t.label for t in borrowers(recipe, home))
            problems.append(f"{labels}: the {architecture} candidate cannot be copied into another account: {reason}")
    if problems:
        raise UsageError(
            "\n".join(problems),
            hint="Snapshots under the AWS managed key cannot be used by other accounts. Create a customer managed key "
            "and an alias in each of these regions (`aws kms create-key`, `aws kms create-alias`), and write "
            "`kms_key: alias/NAME` for these targets and for the home region's target in goldenami.yaml.",
        )
    return found


def _check_launch(recipe: Recipe, home: Place, key: Key | None, own: Target | None) -> None:
    """Raise UsageError if the builder's image cannot be the image of the home region."""
    refused = [a for a in recipe.architectures if recipe.builder[a].encrypted is False]
    if refused:
        raise UsageError(
            f"{recipe.mark.file}: builder.encrypted is false ({', '.join(refused)}), but the environment has "
            "`encryption: launch`",
            hint="Take builder.encrypted out of the recipe, or set `encryption: copy` in goldenami.yaml.",
        )
    if own is None or key is None:
        raise UsageError(
            f"`encryption: launch` needs the key of the home region's target: {_home_key_unusable(key, own)} ({home})",
            hint="Add the home region to the home account's targets in goldenami.yaml, or set `encryption: copy`.",
        )


def _unusable(volumes: VolumeKeys, home: Place, defaults: EbsDefaults) -> str:
    """Return why another account could not use the volumes' keys; empty if it could."""
    for device, key in volumes.items():
        if key is None or key.aws_managed is False:
            continue
        if defaults.enabled is None and not key.key:
            return f"it is not known whether {home} encrypts new volumes ({defaults.reason})"
        if key.aws_managed is None:
            return f"it is not known who manages the key {key.key}, which {home} uses for {device}"
        return f"{home} encrypts {device} under the AWS managed key of EBS"
    return ""


def _home_key_unusable(key: Key | None, own: Target | None) -> str:
    if own is None:
        return "the home region is not among the targets"
    if key is None:
        return f"the key of {own.label} is not available"
    return f"kms_key of {own.label} ({own.kms_key}) is the AWS managed key of EBS" if key.aws_managed else ""


def _shared_under_managed(recipe: Recipe, keys: Mapping[str, Key]) -> list[str]:
    """Return a problem for each target whose image other accounts use, and whose key AWS manages."""
    problems: list[str] = []
    managed = {label for label, key in keys.items() if key.aws_managed}
    for target in recipe.distribution.targets if managed else ():
        if target.label not in managed:
            continue
        users = _users(recipe, target, recipe.distribution.targets)
        if users:
            problems.append(
                f"{target.label}: kms_key is {target.kms_key}, the AWS managed key of EBS, expected a customer managed "
                f"key: {', '.join(users)} use{'s' if len(users) == 1 else ''} this image"
            )
    return problems


def _users(recipe: Recipe, target: Target, every: Sequence[Target]) -> list[str]:
    """Return the targets and accounts that use the image of a target, without its owner."""
    users = [t.label for t in every if modes.get_mode(t).source(t) == target.label and t.account != target.account]
    if target.account.name == "home":
        shared = (*recipe.distribution.share_accounts, *recipe.distribution.share_organizations)
        users += [f"{one if one.startswith('arn:') else f'account {one}'} (distribution.share)" for one in shared]
    return users
