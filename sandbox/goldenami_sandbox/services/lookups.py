"""EC2's hooks over moto, which keeps key pairs, security groups, subnets, launch templates and instance profiles."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from goldenami_sandbox.ec2.hooks import (
    DataKeyPair,
    InstanceProfile,
    KeyInfo,
    KeyPair,
    LaunchTemplate,
    SecurityGroup,
    Subnet,
)
from goldenami_sandbox.policy import Caller
from goldenami_sandbox.services import Services, spot_role
from goldenami_sandbox.services.kms import Kms
from goldenami_sandbox.services.ssm import Ssm
from goldenami_sandbox.surface import Surface
from goldenami_sandbox.visibility import Visibility


class Lookups:
    """Implements ``ec2.hooks.Hooks``. ``services``: those of the cloud, which are created after EC2."""

    def __init__(self, surface: Surface, visibility: Visibility, services: Callable[[], Services]) -> None:
        self._surface = surface
        self._visibility = visibility
        self._services = services

    @property
    def _kms(self) -> Kms:
        return self._services().of(Kms)

    @property
    def _ssm(self) -> Ssm:
        return self._services().of(Ssm)

    def key_pair(self, account: str, region: str, name: str) -> KeyPair | None:
        with self._surface.active():
            found = self._ec2(account, region).key_pairs.get(name)
            if found is None or self._visibility.hides("key-pair", account, region, name):
                return None
            return KeyPair(found.key_name, found.id, found.public_key.strip())

    def security_group(self, account: str, region: str, group: str, vpc_id: str | None = None) -> SecurityGroup | None:
        with self._surface.active():
            backend = self._ec2(account, region)
            if group.startswith("sg-"):
                found = backend.get_security_group_from_id(group)
            else:
                vpc_id = vpc_id or self._default_vpc(backend)
                groups = backend.groups.get(vpc_id, {}) if vpc_id else {}
                found = next((item for item in groups.values() if item.name == group), None)
            if found is None or self._visibility.hides("security-group", account, region, found.id):
                return None
            return SecurityGroup(found.id, found.name, found.vpc_id)

    def subnet(
        self, account: str, region: str, subnet_id: str | None, availability_zone: str | None = None
    ) -> Subnet | None:
        with self._surface.active():
            backend = self._ec2(account, region)
            every = [subnet for zone in backend.subnets.values() for subnet in zone.values()]
            if subnet_id is None:
                vpc_id = self._default_vpc(backend)
                found = [s for s in every if s.default_for_az and s.vpc_id == vpc_id]
                if availability_zone is not None:
                    found = [s for s in found if s.availability_zone == availability_zone]
                found.sort(key=lambda s: str(s.availability_zone))
            else:
                found = [s for s in every if s.id == subnet_id]
            return _subnet(account, found[0]) if found else None

    def kms_resolve(self, account: str, region: str, key: str) -> KeyInfo | None:
        return self._kms.resolve(account, region, key)

    def kms_generate(self, key_arn: str, caller: Caller, source: str | None = None) -> DataKeyPair:
        return self._kms.generate(key_arn, caller, source)

    def kms_decrypt(self, wrapped: bytes, key_arn: str, caller: Caller) -> bytes:
        return self._kms.decrypt(wrapped, key_arn, caller)

    def spot_role(self, caller: Caller) -> bool:
        return spot_role.ensure(self._services().of(Kms).world, caller)

    def kms_serves_spot(self, key_arn: str, account: str) -> bool:
        return self._kms.serves_role(key_arn, Caller(account, spot_role.arn(account)))

    def default_key(self, account: str, region: str) -> KeyInfo:
        return self._kms.default_key(account, region)

    def launch_template(self, account: str, region: str, template: str, version: str | None) -> LaunchTemplate | None:
        with self._surface.active():
            backend = self._ec2(account, region)
            if not template.startswith("lt-"):
                template = backend.launch_template_name_to_ids.get(template, "")
            found = backend.launch_templates.get(template)
            if found is None:
                return None
            wanted = str(version or "$Default")
            number = {"$latest": found.latest_version_number, "$default": found.default_version_number}.get(
                wanted.lower(), int(wanted) if wanted.isdigit() else 0
            )
            chosen = next((item for item in found.versions if item.number == number), None)
            return (
                None
                if chosen is None
                else LaunchTemplate(found.id, found.name, chosen.number, _template_data(chosen.data))
            )

    def launch_templates(self, account: str, region: str) -> list[list[LaunchTemplate]]:
        with self._surface.active():
            return [
                [LaunchTemplate(found.id, found.name, v.number, _template_data(v.data)) for v in found.versions]
                for found in self._ec2(account, region).launch_templates.values()
            ]

    def image_parameters(self, account: str, region: str) -> dict[str, str]:
        return self._ssm.image_parameters(account, region)

    def ssm_image(self, account: str, region: str, parameter: str) -> str | None:
        return self._ssm.image(account, region, parameter)

    def instance_profile(self, account: str, name_or_arn: str) -> InstanceProfile | None:
        with self._surface.active():
            profiles = self._surface.backend("iam", account, "aws").instance_profiles.values()
            for profile in profiles:
                if name_or_arn in (profile.name, profile.arn):
                    return InstanceProfile(profile.arn, profile.id, profile.name)
        return None

    def _ec2(self, account: str, region: str) -> Any:
        return self._surface.backend("ec2", account, region)

    @staticmethod
    def _default_vpc(backend: Any) -> str | None:
        vpc = backend.get_default_vpc()
        return None if vpc is None else vpc.id


def _subnet(account: str, subnet: Any) -> Subnet:
    return Subnet(
        subnet_id=subnet.id,
        vpc_id=subnet.vpc_id,
        availability_zone=subnet.availability_zone,
        cidr_block=subnet.cidr_block,
        owner=account,
        map_public_ip_on_launch=str(subnet.map_public_ip_on_launch).lower() == "true",
    )


def _template_data(data: Any) -> dict[str, Any]:
    """Return the data of a launch template. moto adds the tags of the template itself to those of its instances."""
    found: dict[str, Any] = _plain(data)
    tagged = [one for one in found.get("TagSpecifications", ()) if one.get("ResourceType") != "launch-template"]
    return {**{k: v for k, v in found.items() if k != "TagSpecifications"}, "TagSpecifications": tagged}


def _plain(value: Any) -> Any:
    """Return moto's parsed parameters as plain data. moto has its own types for some strings."""
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value.as_bytes().decode() if hasattr(value, "as_bytes") else value  # Base64EncodedString, of user data
