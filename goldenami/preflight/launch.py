"""Checks of the builders: instance types, zones, quotas, subnets and their way out."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from goldenami.aws import capacity, network
from goldenami.aws.instances import Market
from goldenami.aws.network import Subnet
from goldenami.each import Failures, both
from goldenami.model import Architecture, Place
from goldenami.preflight.context import Context, for_each_place
from goldenami.preflight.finding import Finding, Level, from_error
from goldenami.recipe import Recipe


def check_builders(context: Context) -> Iterator[Finding]:
    """The instance types of each recipe exist, fit the architecture, and are offered in a zone of the subnets. The
    subnets and the types are read at the same time: a build waits for the longest chain of reads."""
    if not context.home_answers:
        return
    home = context.environment.home_place
    there, offer = both(lambda: _network(context, home), lambda: read_offer(context, home, context.recipes))
    subnets, findings = there
    yield from findings
    yield from check_types(home, context.recipes, subnets, offer)


def _network(context: Context, home: Place) -> tuple[tuple[Subnet, ...], list[Finding]]:
    """Return the subnets for builders, and what is wrong with them."""
    subnets, missing = find_subnets(context, home, "error")
    return subnets, [*missing, *_way_out(context, subnets)]


def find_subnets(context: Context, place: Place, level: Level) -> tuple[tuple[Subnet, ...], list[Finding]]:
    """Return the subnets for instances in a place, or the finding that there are none."""
    failures: Failures[str] = Failures()
    found: tuple[Subnet, ...] = ()
    with failures.of("subnet"):
        found = network.subnets(context.cloud, place, network.settings_in(context.environment, place))
    mark = context.mark("network", "subnet")
    return found, [from_error("subnet", e, level=level, place=place, mark=mark) for e in failures.errors.values()]


def check_usable(context: Context, place: Place, recipes: Sequence[Recipe], level: Level) -> Iterator[Finding]:
    """Instances of recipes can be launched in a place: it has a subnet, and the instance types in one of its zones."""
    there, offer = both(lambda: find_subnets(context, place, level), lambda: read_offer(context, place, recipes))
    subnets, missing = there
    yield from missing
    yield from check_types(place, recipes, subnets, offer, level)


@dataclass(frozen=True, slots=True)
class Offer:
    """What a place has of some instance types: their properties, and their availability zones."""

    types: capacity.Types
    zones: capacity.Offered


def read_offer(context: Context, place: Place, recipes: Sequence[Recipe]) -> Offer:
    """Return what a place has of the instance types of recipes."""
    names = _wanted_types(recipes)
    if not names:
        return Offer({}, {})
    return Offer(
        *both(lambda: _read_types(context, place, recipes), lambda: capacity.zones(context.cloud, place, names))
    )


def _read_types(context: Context, place: Place, recipes: Sequence[Recipe]) -> capacity.Types:
    """Return the properties of the instance types of recipes. The checks of types and of quotas share one call."""
    return capacity.instance_types(context.remembering, place, _wanted_types(recipes))


def _wanted_types(recipes: Sequence[Recipe]) -> set[str]:
    return {name for r in recipes for a in r.architectures for name in r.builder[a].instance_types}


def check_types(
    place: Place, recipes: Sequence[Recipe], subnets: Sequence[Subnet], offer: Offer, level: Level = "error"
) -> Iterator[Finding]:
    """The instance types of recipes exist in a place, fit the architecture, and are offered in a zone of the
    subnets. ``offer``: of all these types."""
    zones = {subnet.zone for subnet in subnets}
    for recipe in recipes:
        for architecture in recipe.architectures:
            yield from _types(place, recipe, architecture, offer.types, offer.zones, zones, level)


def _types(
    place: Place,
    recipe: Recipe,
    architecture: Architecture,
    types: capacity.Types,
    offered: capacity.Offered,
    zones: set[str],
    level: Level,
) -> Iterator[Finding]:
    builder = recipe.builder[architecture]
    usable = False
    for name in builder.instance_types:
        kind = types.get(name)
        if kind is None:
            message = f"builder.instance_types: {place.region} has no instance type {name}"
            yield Finding("instance-type", level, message, "Use another type.", place, builder.mark, 2)
        elif architecture not in kind.architectures:
            message = f"builder.instance_types: {name} is {'/'.join(sorted(kind.architectures))}, not {architecture}"
            yield Finding("instance-type", level, message, "Use a type of that architecture.", place, builder.mark, 2)
        else:
            usable = usable or not zones or bool(offered.get(name, frozenset()) & zones)
    if not usable and all(types.get(name) for name in builder.instance_types):
        listed = ", ".join(builder.instance_types)
        where = ", ".join(sorted(zones))
        message = f"none of {listed} is offered in the zones of the subnets ({where})"
        yield Finding("zone", level, message, "Add an instance type or a subnet.", place, builder.mark, 2)


def _way_out(context: Context, subnets: tuple[Subnet, ...]) -> Iterator[Finding]:
    """A builder needs a way to the package archives: a default route, and a public address at an internet gateway."""
    home, wanted = context.environment.home_place, context.environment.network
    ways = network.default_routes(context.cloud, home, subnets) if subnets else {}
    for subnet in subnets:
        way = ways.get(subnet.id, "")
        mark = context.mark("network", "subnet")
        if not way:
            yield Finding(
                "way-out",
                "warning",
                f"subnet {subnet.id} has no default route, so a builder reaches only hosts of its VPC",
                "Add a NAT gateway, or use mirrors and endpoints inside the VPC.",
                home,
                mark,
            )
        elif way.startswith("igw-") and (wanted.address == "private" or not subnet.public):
            yield Finding(
                "way-out",
                "warning",
                f"subnet {subnet.id} uses the internet gateway {way}, but builders there have no public address",
                "Use a subnet with a NAT gateway, or one that assigns public addresses.",
                home,
                mark,
            )


def check_quotas(context: Context) -> Iterator[Finding]:
    """The quota of vCPUs has room for one builder of each architecture, and the same number of test instances."""
    if context.home_answers and context.recipes:
        home = context.environment.home_place
        yield from for_each_place("quota", lambda place: check_room(context, place, context.recipes), [home])


def check_room(context: Context, place: Place, recipes: Sequence[Recipe], level: Level = "error") -> Iterator[Finding]:
    """The quota of vCPUs in a place has room for an instance of each architecture of each recipe alone."""
    cloud = context.cloud
    firsts = {r.name: {name for a in r.architectures for name in r.builder[a].instance_types[:1]} for r in recipes}
    markets: dict[str, Market] = {
        r.name: "spot" if any(r.builder[a].spot for a in r.architectures) else "on-demand" for r in recipes
    }
    used, (types, limits) = both(
        lambda: capacity.used_vcpus(cloud, place),
        lambda: both(
            lambda: _read_types(context, place, recipes),
            lambda: {market: capacity.quota(cloud, place, market) for market in dict.fromkeys(markets.values())},
        ),
    )
    for recipe in recipes:
        market = markets[recipe.name]
        spot = market == "spot"
        kinds = [types[name] for name in firsts[recipe.name] if name in types]
        needed = sum(kind.vcpus for kind in kinds if kind.standard)
        limit = limits[market]
        if used.get(market, 0) + needed > limit:
            yield Finding(
                "quota",
                "warning" if spot else level,
                f"{recipe.name} needs {needed} vCPUs ({market}), but {used.get(market, 0)} of {limit:g} are used",
                f"Request an increase of the quota {capacity.QUOTAS[market]} of EC2 in Service Quotas.",
                place,
                recipe.mark,
            )
