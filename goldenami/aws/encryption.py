"""EBS encryption by default: the settings of an account in a region, and the keys of the volumes of a launch."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from goldenami.aws import kms, snapshots
from goldenami.aws.session import Cloud
from goldenami.each import all_of, each
from goldenami.model import BaseDevice, Place

AWS_MANAGED_ALIAS = "alias/aws/ebs"


@dataclass(frozen=True, slots=True)
class VolumeKey:
    """A key that EBS uses for a volume.

    ``key``: an ARN or an alias. ``aws_managed``: whether it is the AWS managed key of EBS, whose snapshots no other
    account can use; None: not known.
    """

    key: str
    aws_managed: bool | None


@dataclass(frozen=True, slots=True)
class EbsDefaults:
    """The settings of an account in a region. ``enabled`` None: they could not be read. ``default``: the key that EBS
    uses if a request names none."""

    enabled: bool | None
    default: VolumeKey
    reason: str = ""  # why they could not be read


def read_defaults(cloud: Cloud, place: Place) -> EbsDefaults:
    """Return the settings of a place. A caller without the permission to read them gets ``enabled`` None."""
    operations = ("GetEbsEncryptionByDefault", "GetEbsDefaultKmsKeyId")
    answers = each(operations, lambda operation: cloud.call(place, "ec2", operation))
    if answers.errors:
        return EbsDefaults(None, VolumeKey("", None), next(iter(answers.reasons.values())))
    enabled = bool(answers.results[operations[0]]["EbsEncryptionByDefault"])
    return EbsDefaults(enabled, _default_key(cloud, place, str(answers.results[operations[1]]["KmsKeyId"])))


def _default_key(cloud: Cloud, place: Place, key: str) -> VolumeKey:
    if key.endswith(AWS_MANAGED_ALIAS):
        return VolumeKey(key, True)
    found = each([key], lambda one: kms.manager(cloud, place, one)).results
    return VolumeKey(key, found[key] == "AWS" if key in found else None)


def keys_of_launch(
    cloud: Cloud, place: Place, devices: Iterable[BaseDevice], defaults: EbsDefaults
) -> dict[str, VolumeKey | None]:
    """Return device name -> the key under which EC2 encrypts the volume of a launch that names no key.

    None: the volume is not encrypted. The volume of an own encrypted snapshot keeps the key of the snapshot. The volume
    of another account's encrypted snapshot gets the default key ("Amazon EBS encryption", EBS user guide).
    """
    every = tuple(devices)
    ids = sorted({d.snapshot_id for d in every if d.encrypted and d.snapshot_id is not None})
    seen = snapshots.describe_many(cloud, place, ids)
    own = {id: str(s["KmsKeyId"]) for id, s in seen.items() if s.get("OwnerId") == place.account and s.get("KmsKeyId")}
    keys = sorted(set(own.values()))
    managers = dict(zip(keys, all_of(keys, lambda key: _default_key(cloud, place, key)), strict=True))
    found: dict[str, VolumeKey | None] = {}
    for device in every:
        if device.encrypted:
            own_key = own.get(device.snapshot_id or "")
            found[device.device_name] = defaults.default if own_key is None else managers[own_key]
        elif defaults.enabled is False:
            found[device.device_name] = None
        else:
            found[device.device_name] = defaults.default
    return found
