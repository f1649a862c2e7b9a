"""The whole state of EC2 as one value, which can be converted to JSON and back."""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, cast

from pydantic import TypeAdapter

from goldenami_sandbox.ec2.records import (
    AllowedImages,
    Binned,
    BinRule,
    ConnectEndpoint,
    EbsDefaults,
    ElasticAddress,
    Image,
    ImageUsageReport,
    Instance,
    Interface,
    ReplaceRootTask,
    Resource,
    Snapshot,
    SpotRequest,
    Token,
    Volume,
)


@dataclass(slots=True)
class Store:
    """The resources by id, which is unique over all accounts and regions. ``tokens`` and the settings
    of accounts have composed keys.
    """

    images: dict[str, Image] = field(default_factory=dict)
    snapshots: dict[str, Snapshot] = field(default_factory=dict)
    volumes: dict[str, Volume] = field(default_factory=dict)
    instances: dict[str, Instance] = field(default_factory=dict)
    interfaces: dict[str, Interface] = field(default_factory=dict)
    addresses: dict[str, ElasticAddress] = field(default_factory=dict)
    spot_requests: dict[str, SpotRequest] = field(default_factory=dict)
    replace_root_tasks: dict[str, ReplaceRootTask] = field(default_factory=dict)
    connect_endpoints: dict[str, ConnectEndpoint] = field(default_factory=dict)
    public_access: dict[str, str] = field(default_factory=dict)  # of snapshots, where it is blocked
    usage_reports: dict[str, ImageUsageReport] = field(default_factory=dict)
    other_references: dict[str, dict[str, str]] = field(default_factory=dict)  # of images, by place and type
    bin_rules: dict[str, BinRule] = field(default_factory=dict)
    binned_images: dict[str, Binned[Image]] = field(default_factory=dict)  # in the Recycle Bin
    binned_snapshots: dict[str, Binned[Snapshot]] = field(default_factory=dict)
    tokens: dict[str, Token] = field(default_factory=dict)
    ebs_defaults: dict[str, EbsDefaults] = field(default_factory=dict)
    allowed_images: dict[str, AllowedImages] = field(default_factory=dict)
    images_block: dict[str, str] = field(default_factory=dict)  # on public images

    def resource(self, resource_id: str) -> Resource | None:
        """Return the resource with this id, of any kind."""
        table = self.table(resource_id)
        return table.get(resource_id) if table is not None else None

    def table(self, resource_id: str) -> Mapping[str, Resource] | None:
        """Return the table for ids of this form, or None if they are not kept here."""
        name = _TABLES.get(resource_id.partition("-")[0])
        return cast(Mapping[str, Resource], getattr(self, name)) if name else None

    def resources(self) -> Iterator[Resource]:
        for name in _TABLES.values():
            yield from getattr(self, name).values()


_TABLES = {
    "ami": "images",
    "snap": "snapshots",
    "vol": "volumes",
    "i": "instances",
    "eni": "interfaces",
    "eipalloc": "addresses",
    "sir": "spot_requests",
    "replacevol": "replace_root_tasks",
    "eice": "connect_endpoints",
}
# The kinds, with their names in tags, filters and TagSpecifications.
RESOURCE_TYPES = {
    "ami": "image",
    "snap": "snapshot",
    "vol": "volume",
    "i": "instance",
    "eni": "network-interface",
    "eipalloc": "elastic-ip",
    "sir": "spot-instances-request",
    "replacevol": "replace-root-volume-task",
    "eice": "instance-connect-endpoint",
}

_ADAPTER = TypeAdapter(Store)


def dump(store: Store) -> dict[str, Any]:
    return cast(dict[str, Any], _ADAPTER.dump_python(store, mode="json"))


def load(data: Mapping[str, Any]) -> Store:
    """Convert a dump to a store. Raises pydantic's ValidationError for values that are not a dump."""
    return _ADAPTER.validate_python(dict(data))


def new_id(prefix: str) -> str:
    """Return a new id like AWS's: 17 hexadecimal digits, the first one 0."""
    if prefix == "sir":  # spot requests still have short ids
        return f"sir-{secrets.token_hex(4)}"
    return f"{prefix}-0{secrets.token_hex(8)}"
