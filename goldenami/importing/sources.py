"""One Amazon EBS source of a Packer template, with what runs on its host, as a recipe.

Every setting of a source or provisioner is carried over, or becomes a note: what nobody took at the end is lost.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from goldenami.importing.draft import Draft
from goldenami.importing.provisioners import Provisioners
from goldenami.importing.settings import Settings
from goldenami.importing.values import (
    Block,
    Code,
    Text,
    UnknownValue,
    Value,
    Variable,
    as_text,
    identifier,
    plain,
)
from goldenami.os import SYSTEMS, of_reference

EBS: Final = "amazon-ebs"
_STANDARD_FILTERS: Final = {
    "virtualization-type": ("hvm",),
    "root-device-type": ("ebs",),
    "state": ("available",),
    "image-type": ("machine",),
}
_ROOTS: Final = ("/dev/sda1", "/dev/xvda", "/dev/sda")

# What a setting of a source means here, if it is no setting of a recipe.
_INSTEAD: Final[Mapping[str, str]] = {
    "ami_name": "images are named by image_name of the environment",
    "ami_virtualization_type": "",
    "aws_polling": "",
    "communicator": "",
    "decode_authorization_messages": "",
    "ena_support": "",
    "encrypt_boot": "every image is encrypted, by copying",
    "fleet_tags": "",
    "force_delete_snapshot": "releases have versions; old ones are deleted by the rules in retention",
    "force_deregister": "releases have versions; old ones are deleted by the rules in retention",
    "insecure_skip_tls_verify": "",
    "max_retries": "",
    "pause_before_connecting": "goldenami waits until the host has booted",
    "pause_before_ssm": "goldenami waits until the host has booted",
    "region_kms_key_ids": "keys are those of the targets in goldenami.yaml",
    "run_volume_tags": "",
    "shutdown_behavior": "builders delete themselves when their lifetime ends",
    "skip_credential_validation": "",
    "skip_metadata_api_check": "",
    "skip_region_validation": "",
    "snapshot_users": "snapshots are shared with the accounts of the image",
    "spot_tags": "",
    "sriov_support": "",
    "ssh_agent_auth": "each build has its own key",
    "ssh_clear_authorized_keys": "keys of the build are always removed",
    "ssh_disable_agent_forwarding": "",
    "ssh_handshake_attempts": "",
    "ssh_keep_alive_interval": "",
    "ssh_keypair_name": "each build has its own key",
    "ssh_private_key_file": "each build has its own key",
    "ssh_pty": "goldenami asks for a terminal if sudo needs one",
    "ssh_read_write_timeout": "",
    "temporary_key_pair_bits": "",
    "temporary_key_pair_name": "",
    "temporary_key_pair_type": "",
    "temporary_security_group_source_cidrs": "network.source_cidr of the environment",
    "temporary_security_group_source_public_ip": "network.source_cidr of the environment",
    "access_key": "goldenami reads credentials as boto3 does; keys are never in files",
    "secret_key": "goldenami reads credentials as boto3 does; keys are never in files",
    "token": "goldenami reads credentials as boto3 does; keys are never in files",
    "profile": "set AWS_PROFILE, or the role of the account in goldenami.yaml",
    "custom_endpoint_ec2": "set AWS_ENDPOINT_URL",
    "vpc_id": "the subnet of the environment decides",
    "vpc_filter": "the subnet of the environment decides",
    "availability_zone": "the subnet of the environment decides",
    "ssh_bastion_host": "network.transport: bastion in goldenami.yaml (docs/networks.md)",
    "ssh_bastion_username": "network.transport: bastion in goldenami.yaml (docs/networks.md)",
    "ssh_bastion_private_key_file": "network.transport: bastion in goldenami.yaml (docs/networks.md)",
    "ssh_bastion_port": "network.transport: bastion in goldenami.yaml (docs/networks.md)",
    "session_manager_port": "",
}


def recipe_name(source: Block, file: Path, taken: Collection[str]) -> str:
    """Return a name for the recipe of a source: the source's, or the file's if the source has none of its own."""
    kind, _, own = source.name.partition("/")
    stem = re.sub(r"(\.pkr)?\.(hcl|json)$", "", file.name)
    given = own if own and own not in (kind, "this", "main", "default", "source") else stem
    name = re.sub(r"[^a-z0-9]+", "-", given.lower()).strip("-")[:56] or "imported"
    free, number = name, 1
    while free in taken:
        number += 1
        free = f"{name}-{number}"
    return free


def duration(text: str) -> str | None:
    """Return a duration of Go ("1h30m") as one of goldenami ("90m"); None if it is neither."""
    parts = re.findall(r"([0-9]+(?:\.[0-9]+)?)(ms|s|m|h)", text)
    if not parts or "".join(number + unit for number, unit in parts) != text:
        return None
    total = sum(float(number) * {"ms": 0.001, "s": 1, "m": 60, "h": 3600}[unit] for number, unit in parts)
    whole = max(1, round(total))
    for unit, length in (("h", 3600), ("m", 60)):
        if whole % length == 0:
            return f"{whole // length}{unit}"
    return f"{whole}s"


@dataclass(slots=True)
class Translation:
    """The translation of one source. ``data``: the data sources of the template, by TYPE.NAME."""

    source: Block
    variables: Mapping[str, Variable]
    data: Mapping[str, Block]
    folder: Path
    file: str
    _draft: Draft = field(init=False)
    _user: str | None = field(init=False, default=None)

    def draft(self, name: str, provisioners: Sequence[Block], after: Sequence[Block]) -> Draft:
        """Return the recipe of the source. ``provisioners`` and ``after`` (post-processors): those that run for it."""
        self._draft = Draft(name, {"name": name, "version": "1.0"}, Path(self.file).name)
        given = Settings(self.source, self._draft, self.variables)
        recipe = self._draft.recipe
        described = given.take("ami_description", str)
        recipe["description"] = _ascii(described) if described else f"Imported from {Path(self.file).name}"
        base, architecture = self._base(given)
        recipe.update(base)
        builder = self._builder(given)
        if architecture == "arm64" or any(_is_arm(one) for one in builder.get("instance_types", ())):
            recipe["architectures"] = ["arm64"]
        recipe["vars"] = {}  # its place; filled below
        recipe["base"] = recipe.pop("base")
        if builder:
            recipe["builder"] = builder
        hosts = Provisioners(self._draft, self.variables, self.folder, self._user)
        for block in provisioners:
            hosts.add(block)
        for block in after:
            hosts.add_after(block)
        if hosts.software:
            recipe["software"] = hosts.software
        recipe["tests"] = ["base"]
        image = self._image(given)
        if image:
            recipe["image"] = image
        distribution, environment = self._distribution(given)
        recipe["distribution"] = distribution
        self._draft.environment = environment
        deprecate = given.raw("deprecate_at")
        if deprecate is not None:
            given.replaced("deprecate_at", "retention: {deprecate_after: 90d} in the recipe, an age instead of a date")
        for key in ("skip_create_ami", "skip_save_build_region"):
            if given.take(key, bool):
                given.lose(key, "a build always makes an image")
        given.finish("a source", _INSTEAD)
        recipe["vars"] = self._declared(hosts.used)
        if not recipe["vars"]:
            del recipe["vars"]
        return self._draft

    def _declared(self, used: Collection[str]) -> dict[str, Any]:
        """Return the variables that the recipe uses, with their defaults."""
        declared: dict[str, Any] = {}
        for name in sorted(used):
            variable = self.variables.get(name)
            if variable is None:
                self._draft.note("lost", self.file, 0, f"there is no variable {name}: give it a default under vars")
                declared[identifier(name)] = ""
                continue
            if variable.sensitive or variable.env:
                declared[identifier(name)] = {"secret": {"env": variable.env or f"PKR_VAR_{name}"}}
                continue
            try:
                value = plain(variable.default, self.variables)
            except UnknownValue as error:
                value = None
                self._draft.note("lost", variable.file, variable.line, f"variable {name}: {error}")
            if value is None and variable.default is None:
                text = f"variable {name} has no default: write one under vars, or give --var {identifier(name)}=VALUE"
                self._draft.note("lost", variable.file, variable.line, text)
            declared[identifier(name)] = "" if value is None else value
        return declared

    # --- sections -----------------------------------------------------------------------------------------------------

    def _base(self, given: Settings) -> tuple[dict[str, Any], str | None]:
        """Return the keys base and os, and the architecture if the template names it."""
        self._user = given.take("ssh_username", str)
        settings, filters = given, given.blocks("source_ami_filter")
        image = given.raw("source_ami")
        found = self._referenced(image)
        if found is not None:
            settings = Settings(found, self._draft, self.variables)
            if found.name.startswith("amazon-parameterstore/"):
                name = settings.take("name", str)
                settings.ignore("region", "with_decryption")
                settings.finish("a data source")
                return self._with_os({"ssm": name or "/CHANGE/ME"}, name or ""), None
            filters = [settings]
        elif image is not None:
            id = given.take("source_ami", str)
            if id is not None:
                text = "an AMI id exists in one region only; a filter with owners finds the newest image everywhere"
                given.replaced("source_ami", text)
                return self._with_os({"id": id}, ""), None
        if not filters:
            given.lose("source_ami", "the template names no base image that is known: write base")
            return self._with_os({"id": "ami-00000000000000000"}, ""), None
        one = filters[0]
        owners = one.texts("owners")
        if one.take("most_recent", bool) is False:
            one.lose("most_recent", "goldenami takes the newest image that matches")
        name, architecture = "", None
        for key, value in (one.take("filters", dict) or {}).items():
            listed = [as_text(v) for v in value] if isinstance(value, list) else [as_text(value)]
            if key == "name":
                name = listed[0]
            elif key == "architecture":
                architecture = listed[0]
            elif key in ("owner-id", "owner-alias"):
                owners += [v for v in listed if v not in owners]
            elif not set(listed) <= set(_STANDARD_FILTERS.get(key, ())):
                one.lose("filters", f"the filter {key} = {', '.join(listed)}: goldenami finds images by name and owner")
        one.ignore("region", "include_deprecated", "assume_role", "profile")
        one.finish("a data source")
        base: dict[str, Any] = {"filter": name or "*CHANGE-ME*", "owners": owners or ["self"]}
        if not name:
            one.lose("filters", "no name of an image: write base.filter")
        if not owners:
            one.lose("filters", "no owners: any account can publish an image under any name, so name its owner")
        return self._with_os(base, name), architecture

    def _referenced(self, image: Value | None) -> Block | None:
        part = image.given.parts[0] if image is not None and isinstance(image.given, Text) else None
        if not isinstance(part, Code):
            return None
        found = re.fullmatch(r"data\.([\w-]+)\.([\w-]+)\.(id|value)", part.source)
        return self.data.get(f"{found[1]}.{found[2]}") if found else None

    def _with_os(self, base: dict[str, Any], name: str) -> dict[str, Any]:
        system = of_reference(name) if name else None
        keys: dict[str, Any] = {"base": base}
        if system is None:
            likely = [one.id for one in SYSTEMS.values() if one.login_user == self._user] or list(SYSTEMS)
            if len(likely) == 1:
                keys["os"] = likely[0]
                text = f"the operating system is a guess by the login user: os: {likely[0]}"
            else:
                text = f"the operating system of the base is unknown: write os, one of {', '.join(likely)}"
            self._draft.note("lost", self.source.file, self.source.line, text)
        return keys

    def _builder(self, given: Settings) -> dict[str, Any]:
        types = given.texts("spot_instance_types") or given.texts("instance_type")
        builder: dict[str, Any] = {}
        if types:
            builder["instance_types"] = types
        given.ignore("instance_type")
        if given.has("spot_price") or given.has("spot_instance_types"):
            builder["spot"] = True
            price = given.take("spot_price", str)
            if price not in (None, "auto"):
                given.lose("spot_price", "there is no limit of the price; spot never costs more than on demand")
            if given.raw("spot_allocation_strategy") is not None:
                given.replaced("spot_allocation_strategy", "types are tried in their order, in all zones")
        if self._user:
            builder["ssh_user"] = self._user
        port = given.take("ssh_port", int)
        if port not in (None, 22):
            builder["ssh_port"] = port
        timeout = given.take("ssh_timeout", str)
        if timeout is not None:
            waits = duration(timeout)
            if waits is None:
                given.lose("ssh_timeout", f"{timeout!r} is not a duration")
            else:
                builder["ssh_timeout"] = waits
        profile = given.take("iam_instance_profile", str)
        if profile:
            builder["instance_profile"] = profile
        for options in given.blocks("metadata_options"):
            hops = options.take("http_put_response_hop_limit", int)
            if hops not in (None, 1):
                builder["hop_limit"] = hops
            if options.take("http_tokens", str) == "optional":
                options.replaced("http_tokens", "builders answer IMDSv2 only")
            options.ignore("http_endpoint", "instance_metadata_tags")
            options.finish("metadata_options")
        tags = self._tags(given, "run_tags", "run_tag")
        if tags:
            builder["tags"] = tags
        return builder

    def _tags(self, given: Settings, key: str, nested: str) -> dict[str, str]:
        tags = given.map(key)
        for block in given.blocks(nested):
            name, value = block.take("key", str), block.take("value", str)
            if name is not None and value is not None:
                tags[name] = value
        return tags

    def _image(self, given: Settings) -> dict[str, Any]:
        image: dict[str, Any] = {}
        volumes: list[dict[str, Any]] = []
        for key in ("launch_block_device_mappings", "ami_block_device_mappings"):
            for block in given.blocks(key):
                self._volume(block, image, volumes, launched=key.startswith("launch"))
        if volumes:
            image["volumes"] = volumes
        boot = given.take("boot_mode", str)
        if boot is not None:
            image["boot_mode"] = boot
        imds = given.take("imds_support", str)
        if imds is None:
            text = "instances answer only IMDSv2; image: {imds: optional} allows IMDSv1"
            self._draft.note("replaced", self.source.file, self.source.line, text)
        tags = {**self._tags(given, "snapshot_tags", "snapshot_tag"), **self._tags(given, "tags", "tag")}
        if given.has("snapshot_tags") or given.has("snapshot_tag"):
            given.replaced("snapshot_tags", "images and snapshots have the same tags")
        tags.pop("Name", None)
        if tags:
            image["tags"] = tags
        return image

    def _volume(self, block: Settings, image: dict[str, Any], volumes: list[dict[str, Any]], *, launched: bool) -> None:
        device = block.take("device_name", str) or ""
        found: dict[str, Any] = {}
        for key, ours, kind in (
            ("volume_size", "size_gib", int),
            ("volume_type", "type", str),
            ("iops", "iops", int),
            ("throughput", "throughput", int),
            ("snapshot_id", "snapshot", str),
        ):
            value = block.take(key, kind)
            if value is not None:
                found[ours] = value
        kept = block.take("delete_on_termination", bool)
        block.ignore("encrypted")
        if block.raw("kms_key_id") is not None:
            block.replaced("kms_key_id", "keys are those of the targets in goldenami.yaml")
        block.finish("a block device")
        if device in _ROOTS:
            found.pop("snapshot", None)
            image["root_volume"] = {**image.get("root_volume", {}), **found}
            return
        if kept is False:
            found["delete_on_termination"] = False
        same = next((one for one in volumes if one["device"] == device), None)
        if same is not None:
            same.update(found)
        elif "size_gib" in found or "snapshot" in found or not launched:
            volumes.append({"device": device, **found})
        else:
            self._draft.note("lost", block.block.file, block.block.line, f"the block device {device} has no size")

    def _distribution(self, given: Settings) -> tuple[dict[str, Any], dict[str, Any]]:
        """Return the section distribution, and what belongs into an environment of goldenami.yaml."""
        share: dict[str, Any] = {}
        for key, ours in (
            ("ami_users", "accounts"),
            ("ami_org_arns", "organizations"),
            ("ami_ou_arns", "organizational_units"),
        ):
            listed = given.texts(key)
            if listed:
                share[ours] = listed
        for group in given.texts("ami_groups"):
            given.lose("ami_groups", f"the group {group}: recipes share images with accounts and organizations")
        given.ignore("snapshot_groups")
        distribution: dict[str, Any] = {"targets": "all", "channel": "candidate"}
        if share:
            distribution["share"] = share
        for block in given.blocks("deregistration_protection"):
            if block.take("enabled", bool):
                cooldown = block.take("with_cooldown", bool)
                distribution["deregistration_protection"] = "with-cooldown" if cooldown else "without-cooldown"
            block.finish("deregistration_protection")
        home: dict[str, Any] = {"account": "000000000000"}
        region = given.take("region", str) or "CHANGE-ME"
        home["region"] = region
        for block in given.blocks("assume_role"):
            role = block.take("role_arn", str)
            if role:
                home["role"] = role
                found = re.match(r"arn:aws[a-z-]*:iam::([0-9]{12}):", role)
                home["account"] = found[1] if found else home["account"]
            block.ignore("session_name", "duration_seconds")
            block.finish("assume_role")
        regions = [region, *(one for one in given.texts("ami_regions") if one != region)]
        key = given.take("kms_key_id", str)
        own = {"account": "home", "regions": regions, "kms_key": key or "alias/golden-ami"}
        keys = given.map("region_kms_key_ids")
        targets = [own]
        for where, alias in keys.items():
            if alias and alias != own["kms_key"]:
                regions[:] = [one for one in regions if one != where]
                targets.append({"account": "home", "regions": [where], "kms_key": alias})
        network = self._network(given)
        environment: dict[str, Any] = {"home": home}
        if network:
            environment["network"] = network
        environment["targets"] = [one for one in targets if one["regions"]]
        environment["catalog"] = "s3://CHANGE-ME/catalog"
        return distribution, environment

    def _network(self, given: Settings) -> dict[str, Any]:
        network: dict[str, Any] = {}
        subnet = given.take("subnet_id", str)
        if subnet:
            network["subnet"] = {"id": subnet}
        for block in given.blocks("subnet_filter"):
            tags = {}
            for key, value in (block.take("filters", dict) or {}).items():
                if key.startswith("tag:"):
                    tags[key[4:]] = as_text(value)
                else:
                    block.lose("filters", f"the filter {key}: a subnet is found by its tags, or by id")
            if tags:
                network["subnet"] = {"tags": tags}
            block.ignore("most_free", "random")
            block.finish("subnet_filter")
        interface = given.take("ssh_interface", str)
        if interface == "session_manager":
            network["transport"] = "ssm"
        elif interface in ("private_ip", "private_dns"):
            network["address"] = "private"
        elif interface in ("public_ip", "public_dns"):
            network["address"] = "public"
        public = given.take("associate_public_ip_address", bool)
        if public is not None and "address" not in network:
            network["address"] = "public" if public else "private"
        groups = given.texts("security_group_ids") + given.texts("security_group_id")
        if groups:
            network["security_groups"] = groups
        return network


def _ascii(text: str) -> str:
    return " ".join(text.encode("ascii", "replace").decode().split())[:255]


def _is_arm(instance_type: str) -> bool:
    """Return whether an instance type has a Graviton processor: a g after the generation (t4g, m7gd, g5g), or a1."""
    return re.match(r"a1\.|[a-z]+[0-9]+[a-z]*g[a-z]*\.", instance_type) is not None
