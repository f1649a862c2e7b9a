"""Estimates what a build costs, by the price table. Pure.

An upper bound of the parts that matter: the builder and the test instance for the whole duration of a build, each at
the on-demand price, the copies to other regions, the snapshots of a release with the full size of all volumes, and
their fast restore in all zones that the recipe declares. Snapshots are incremental, so a release on an earlier one
costs less.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from goldenami.model import Architecture
from goldenami.planning import BuildPlan, proved_elsewhere
from goldenami.release import targets as modes
from goldenami.snapshots.prices import Prices

_HOURS: Final = 730  # of a month
_INSTANCES: Final = 2  # of each architecture: the builder, and that of the second gate


@dataclass(frozen=True, slots=True)
class Cost:
    """``once``: of a build. ``monthly``: while its release is kept. ``unknown``: what is in neither, as text."""

    currency: str
    date: str
    once: float
    monthly: float
    unknown: tuple[str, ...] = ()

    def __str__(self) -> str:
        words = f"at most {self.once:.2f} {self.currency} once, {self.monthly:.2f} {self.currency} a month"
        dated = f" (prices of {self.date})" if self.date else ""
        return f"{words}{dated}" + (f", without {', '.join(self.unknown)}" if self.unknown else "")


def of_build(plan: BuildPlan, seconds: float | None, prices: Prices) -> Cost:
    """Return the cost of a build. ``seconds``: how long it takes; None if that is unknown."""
    recipe, home = plan.recipe, plan.environment.home_region
    once = monthly = 0.0
    unknown: list[str] = [] if seconds is not None else ["instances: no build has told how long one takes"]
    for architecture in recipe.architectures:
        kind = recipe.builder[architecture].instance_types[0]
        hourly = prices.hourly(home, kind)
        if hourly is None:
            unknown.append(f"the price of {kind} in {home}")
        elif seconds is not None:
            once += _INSTANCES * hourly * seconds / 3600
        for target in proved_elsewhere(recipe, plan.environment.home_place, plan.targets):
            there = prices.hourly(target.region, kind)
            if there is None:
                unknown.append(f"the price of {kind} in {target.region}")
            elif seconds is not None:
                once += there * seconds / 3600
        sizes = volumes_gib(plan, architecture).values()
        size, transfer, fast_restore = sum(sizes), prices.transfer(home), recipe.distribution.fast_restore
        for target in modes.owners(plan.targets):
            monthly += size * prices.rate(target.region).standard
            zones = len(fast_restore.get(target.place, ())) if fast_restore else 0
            if zones:
                fast = prices.fast_restore(target.region)
                if fast is None:
                    unknown.append(f"the price of fast restore in {target.region}")
                else:
                    monthly += fast * _HOURS * zones * len(sizes)
            if target.region == home:
                continue
            if transfer is None:
                unknown.append(f"the transfer from {home}")
            else:
                once += size * transfer
    return Cost(prices.currency, prices.date, once, monthly, tuple(dict.fromkeys(unknown)))


def volumes_gib(plan: BuildPlan, architecture: Architecture) -> dict[str, int]:
    """Return the size of each volume of the image, by device: the root volume, those of the base, and those of the
    recipe, which can change volumes of the base."""
    image, base = plan.recipe.image, plan.facts.base[architecture]
    found = {device.device_name: device.size_gib for device in base.devices}
    found[base.root_device_name] = image.root_volume.size_gib or base.root_volume_gib
    for volume in image.volumes:
        source = plan.facts.snapshots.get(volume.snapshot or "")
        least = source.size_gib if source is not None else found.get(volume.device, 0)
        found[volume.device] = volume.size_gib or least
    return found


def total(every: Iterable[Cost]) -> Cost | None:
    """Return the sum of costs by one table; None if there are none."""
    costs = list(every)
    if not costs:
        return None
    unknown = tuple(dict.fromkeys(text for cost in costs for text in cost.unknown))
    once, monthly = sum(cost.once for cost in costs), sum(cost.monthly for cost in costs)
    return Cost(costs[0].currency, costs[0].date, once, monthly, unknown)
