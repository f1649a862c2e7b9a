"""Elastic IP addresses: allocated, associated with an instance, described, released.

No packet reaches an instance at its Elastic IP address. It shows which public address an instance keeps when it is
stopped and started.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from goldenami_sandbox.ec2 import tags
from goldenami_sandbox.ec2.context import Ctx, Ec2Error
from goldenami_sandbox.ec2.core import Action, Ec2Cloud, select_resources
from goldenami_sandbox.ec2.filters import Source
from goldenami_sandbox.ec2.pagination import described
from goldenami_sandbox.ec2.records import ElasticAddress, Interface
from goldenami_sandbox.ec2.store import new_id

_NETWORK = "203.0.113"  # TEST-NET-3 (RFC 5737)
_MOST = 5  # for an account and region


def allocate(cloud: Ec2Cloud, ctx: Ctx, params: Mapping[str, Any]) -> dict[str, Any]:
    given = tags.from_specifications(params, "elastic-ip")["elastic-ip"]
    own = cloud.owned_resources(cloud.store.addresses, ctx)
    if len(own) >= _MOST:
        raise Ec2Error("AddressLimitExceeded", "The maximum number of addresses has been reached.")
    used = {a.public_address for a in cloud.store.addresses.values()}
    free = next(a for a in (f"{_NETWORK}.{n}" for n in range(1, 255)) if a not in used)
    address = ElasticAddress(id=new_id("eipalloc"), **cloud.birth(ctx, given), public_address=free)
    cloud.store.addresses[address.id] = address
    return {"AllocationId": address.id, "PublicIp": free, "Domain": "vpc", "NetworkBorderGroup": ctx.region}


def associate(cloud: Ec2Cloud, ctx: Ctx, params: Mapping[str, Any]) -> dict[str, Any]:
    address = _address(cloud, ctx, params)
    if params.get("NetworkInterfaceId"):
        [interface] = select_resources(
            "eni", [params["NetworkInterfaceId"]], cloud.owned_resources(cloud.store.interfaces, ctx)
        )
    elif params.get("InstanceId"):
        interface = cloud.store.interfaces[cloud.instance(ctx, params["InstanceId"]).interface_ids[0]]
    else:
        raise Ec2Error("MissingParameter", "Either 'InstanceId' or 'NetworkInterfaceId' must be specified.")
    if address.interface_id not in (None, interface.id) and params.get("AllowReassociation") is False:
        raise Ec2Error("Resource.AlreadyAssociated", f"{address.id} is already associated.")
    _separate(cloud, address)
    earlier = cloud.store.addresses.get(interface.elastic_id or "")
    if earlier is not None:
        _separate(cloud, earlier)
    # EC2 releases the address that it had assigned itself.
    interface.public_address, interface.elastic_id = None, address.id
    address.interface_id, address.association_id = interface.id, new_id("eipassoc")
    return {"AssociationId": address.association_id}


def disassociate(cloud: Ec2Cloud, ctx: Ctx, params: Mapping[str, Any]) -> dict[str, Any]:
    wanted = params.get("AssociationId", "")
    own = cloud.owned_resources(cloud.store.addresses, ctx).values()
    address = next((a for a in own if a.association_id == wanted), None)
    if address is None:
        raise Ec2Error("InvalidAssociationID.NotFound", f"The association ID '{wanted}' does not exist")
    _separate(cloud, address)
    return {}


def release(cloud: Ec2Cloud, ctx: Ctx, params: Mapping[str, Any]) -> dict[str, Any]:
    address = _address(cloud, ctx, params)
    if address.association_id is not None:
        raise Ec2Error("InvalidIPAddress.InUse", f"Address {address.public_address} is in use.")
    del cloud.store.addresses[address.id]
    return {}


def of_interface(cloud: Ec2Cloud, interface: Interface) -> ElasticAddress | None:
    """Return the Elastic IP address of a network interface."""
    return cloud.store.addresses.get(interface.elastic_id or "")


def forget(cloud: Ec2Cloud, interface: Interface) -> None:
    """Disassociate the address of an interface that is deleted."""
    address = of_interface(cloud, interface)
    if address is not None:
        _separate(cloud, address)


def _address(cloud: Ec2Cloud, ctx: Ctx, params: Mapping[str, Any]) -> ElasticAddress:
    own = cloud.owned_resources(cloud.store.addresses, ctx)
    return select_resources("eipalloc", [params.get("AllocationId", "")], own)[0]


def _separate(cloud: Ec2Cloud, address: ElasticAddress) -> None:
    interface = cloud.store.interfaces.get(address.interface_id or "")
    if interface is not None:
        interface.elastic_id = None
    address.interface_id = address.association_id = None


_FILTERS: dict[str, Source] = {
    "allocation-id": "AllocationId",
    "association-id": "AssociationId",
    "domain": "Domain",
    "instance-id": "InstanceId",
    "network-interface-id": "NetworkInterfaceId",
    "public-ip": "PublicIp",
}


def describe(cloud: Ec2Cloud, ctx: Ctx, params: Mapping[str, Any]) -> dict[str, Any]:
    """DescribeAddresses. It has no pages."""
    found = cloud.select("eipalloc", cloud.store.addresses, ctx, params.get("AllocationIds"))
    answers = [_rendered(cloud, address) for address in found]
    reply = described("Addresses", answers, {**params, "MaxResults": None}, _FILTERS, ["AllocationId"])
    return {"Addresses": reply["Addresses"]}


def _rendered(cloud: Ec2Cloud, address: ElasticAddress) -> dict[str, Any]:
    answer: dict[str, Any] = {
        "AllocationId": address.id,
        "PublicIp": address.public_address,
        "Domain": "vpc",
        "NetworkBorderGroup": address.region,
        "Tags": tags.rendered(address),
    }
    interface = cloud.store.interfaces.get(address.interface_id or "")
    if interface is not None:
        answer |= {
            "AssociationId": address.association_id,
            "InstanceId": interface.instance_id,
            "NetworkInterfaceId": interface.id,
            "NetworkInterfaceOwnerId": interface.owner,
            "PrivateIpAddress": interface.address,
        }
    return answer


ACTIONS: dict[str, Action] = {
    "AllocateAddress": allocate,
    "AssociateAddress": associate,
    "DescribeAddresses": describe,
    "DisassociateAddress": disassociate,
    "ReleaseAddress": release,
}
