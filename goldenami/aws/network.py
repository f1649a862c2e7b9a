"""The subnets for builders, and the addresses that may reach them."""

from __future__ import annotations

import ipaddress
import socket
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

from goldenami.aws import tags
from goldenami.aws.session import Cloud
from goldenami.errors import NotFound, Unreachable
from goldenami.model import Environment, Network, Place

_CHECK_IP: Final = "https://checkip.amazonaws.com"
_FRESH: Final = 3600.0  # seconds: the instances of a build start in the subnets that its checks found
_ANY_PORT: Final = 22  # a UDP "connect" sends nothing: the port only completes the address


@dataclass(frozen=True, slots=True)
class Subnet:
    """A subnet as DescribeSubnets returns it. ``free``: the number of available addresses."""

    id: str
    vpc_id: str
    cidr: str
    zone: str
    public: bool  # instances get a public address by default
    free: int


def settings_in(environment: Environment, place: Place) -> Network:
    """Return the settings for instances in a place. The ids of a subnet and of security groups are of the home account
    and region; elsewhere, the tags of subnets or the default VPC decide, and a temporary group is created."""
    own = environment.network
    return own if place == environment.home_place else replace(own, subnet_id=None, security_groups=())


def fresh_subnets(cloud: Cloud, place: Place, network: Network) -> tuple[Subnet, ...]:
    """Return :func:`subnets`, without a call if this process read them within the last hour: the checks before a
    build do. A launch tries the next one if a subnet was deleted meanwhile. Raises as it does."""
    known = cloud.subnets.get((place, network.subnet_id, _sorted_tags(network)))
    if known is not None and cloud.clock() - known[0] <= _FRESH:
        return known[1]
    return subnets(cloud, place, network)


def _sorted_tags(network: Network) -> tuple[tuple[str, str], ...]:
    return tuple(sorted(network.subnet_tags.items()))


def subnets(cloud: Cloud, place: Place, network: Network) -> tuple[Subnet, ...]:
    """The subnets that builders may use, all of one VPC, the one with the most free addresses first.

    ``subnet_id`` names exactly one; ``subnet_tags`` may match several, and then a launch that finds no capacity in the
    zone of the first tries the next; with neither, the default subnets of the default VPC are used. Raises NotFound if
    no subnet matches.
    """
    if network.subnet_id is not None:
        query, text = {"subnet-id": [network.subnet_id]}, f"subnet {network.subnet_id}"
    elif network.subnet_tags:
        query = {f"tag:{k}": [tags.exactly(v)] for k, v in _sorted_tags(network)}
        text = "subnet tagged " + ", ".join(f"{k}={v}" for k, v in _sorted_tags(network))
    else:
        query, text = {"default-for-az": ["true"]}, "default subnet"
    request = {"Filters": [{"Name": k, "Values": v} for k, v in {**query, "state": ["available"]}.items()]}
    found = [
        Subnet(
            s["SubnetId"],
            s["VpcId"],
            s["CidrBlock"],
            s.get("AvailabilityZone", ""),
            bool(s.get("MapPublicIpOnLaunch")),
            int(s.get("AvailableIpAddressCount", 0)),
        )
        for s in cloud.pages(place, "ec2", "DescribeSubnets", "Subnets", request)
    ]
    if not found:
        raise NotFound(
            f"{place} has no {text}",
            hint="Set `network.subnet_id` or `network.subnet_tags` of the environment in goldenami.yaml.",
        )
    best = sorted(found, key=lambda s: (-s.free, s.id))
    usable = tuple(s for s in best if s.vpc_id == best[0].vpc_id)
    cloud.subnets[place, network.subnet_id, _sorted_tags(network)] = cloud.clock(), usable
    return usable


def default_routes(cloud: Cloud, place: Place, subnets: Collection[Subnet]) -> Mapping[str, str]:
    """Return the gateway of the default IPv4 route (the id of an internet gateway, NAT gateway, …) by subnet id.

    A subnet without a route table of its own uses the main one of its VPC. A subnet without a default route is missing.
    """
    query = {"Filters": [{"Name": "vpc-id", "Values": sorted({subnet.vpc_id for subnet in subnets})}]}
    tables = list(cloud.pages(place, "ec2", "DescribeRouteTables", "RouteTables", query))
    own = {a["SubnetId"]: t for t in tables for a in t.get("Associations") or () if a.get("SubnetId")}
    main = {t["VpcId"]: t for t in tables if any(a.get("Main") for a in t.get("Associations") or ())}
    found: dict[str, str] = {}
    for subnet in subnets:
        table = own.get(subnet.id) or main.get(subnet.vpc_id) or {}
        for route in table.get("Routes") or ():
            if route.get("DestinationCidrBlock") == "0.0.0.0/0" and route.get("State") != "blackhole":
                ways = [str(v) for k, v in route.items() if k.endswith(("GatewayId", "InstanceId", "InterfaceId"))]
                found[subnet.id] = ways[0] if ways else ""
    return found


def source_cidrs(cloud: Cloud, place: Place, network: Network, subnet: Subnet) -> tuple[str, ...]:
    """The addresses that may reach the builder, as CIDR: ``network.source_cidrs``, or the address of this machine.

    The address depends on how the builder is reached:

    - By its private address (if that is required, or if the subnet assigns no public ones): this machine is in the VPC
      or has a route to it, so the local address of that route is used.
    - By its public address: the local address of the route to EC2's endpoint is used, if it is public. If it is a
      loopback address, the cloud runs on this machine, and the local address of the route to the subnet is used. If it
      is private, there is address translation on the way, and AWS's check-ip service reports the public address.

    The route is looked up without sending anything. Raises Unreachable, with the setting to use, if check-ip does not
    answer.
    """
    if network.source_cidrs:
        return network.source_cidrs
    endpoint = urllib.parse.urlsplit(str(cloud.client("ec2", place).meta.endpoint_url)).hostname or ""
    private = network.address == "private" or (network.address == "auto" and not subnet.public)
    own = choose_source(private=private, subnet=subnet.cidr, endpoint=endpoint, local=local_address, public=check_ip)
    return (own,)


def public_source(cloud: Cloud, place: Place) -> str:
    """The public address of this machine as CIDR: that of the route to EC2's endpoint, or the one that AWS's check-ip
    service reports. Raises Unreachable, with the setting to use, if check-ip does not answer."""
    endpoint = urllib.parse.urlsplit(str(cloud.client("ec2", place).meta.endpoint_url)).hostname or ""
    own = ipaddress.ip_address(local_address(endpoint))
    return _single(str(own) if own.is_global or own.is_loopback else check_ip())


def choose_source(
    *, private: bool, subnet: str, endpoint: str, local: Callable[[str], str], public: Callable[[], str]
) -> str:
    """Apply the rule of :func:`source_cidrs`. ``local``: returns the local address of the route to a host. ``public``:
    returns the public address."""
    inside = str(next(ipaddress.ip_network(subnet, strict=False).hosts()))
    if private:
        return _single(local(inside))
    towards_endpoint = ipaddress.ip_address(local(endpoint))
    if towards_endpoint.is_loopback:
        return _single(local(inside))
    return _single(str(towards_endpoint) if towards_endpoint.is_global else public())


def local_address(host: str) -> str:
    """Return the local address of the route to a host. Raises Unreachable if there is no route or no such name."""
    try:
        family, _, _, _, address = socket.getaddrinfo(host, _ANY_PORT, type=socket.SOCK_DGRAM)[0]
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.connect(address)
            found: Any = probe.getsockname()
            return str(found[0])
    except OSError as error:
        raise Unreachable(
            f"this machine has no route to {host}, or cannot resolve its name: {error.strerror or error}"
        ) from error


def check_ip() -> str:
    """Return the public address of this machine, from AWS's check-ip service. Raises Unreachable."""
    try:
        with urllib.request.urlopen(_CHECK_IP, timeout=10) as answer:
            return str(ipaddress.ip_address(answer.read(64).decode("ascii", "replace").strip()))
    except (urllib.error.URLError, OSError, ValueError) as error:
        raise Unreachable(
            f"{_CHECK_IP} did not return the public address of this machine: {error}",
            hint="Set `network.source_cidr` in goldenami.yaml to the addresses that may reach the builder's SSH port.",
        ) from error


def _single(address: str) -> str:
    parsed = ipaddress.ip_address(address)
    return f"{parsed}/{parsed.max_prefixlen}"
