"""Checks that regions exist and that accounts have enabled them, before anything is created."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Iterable, Mapping
from typing import Final

from goldenami.aws.session import ENABLE_REGION, Cloud
from goldenami.each import Answers, all_of, both, each
from goldenami.errors import AccessError, NotFound, UsageError
from goldenami.model import Place

_ALWAYS: Final = "opt-in-not-required"


def check(cloud: Cloud, places: Collection[Place]) -> None:
    """Raise NotFound for a region that does not exist, and AccessError for one that its account has not enabled.

    EC2 reports all regions of an account and whether they are enabled (DescribeRegions, one call for each account), so
    regions that are newer than botocore's list work too.
    """
    check_home(cloud)
    check_partitions(cloud, places)
    known = cloud.known_regions()
    accounts = sorted({p.account for p in places})
    lists = dict(zip(accounts, all_of(accounts, lambda a: status(cloud, Place(a, cloud.home.region))), strict=True))
    for place in sorted(places):
        check_enabled(place, lists[place.account], known)


def of_accounts(cloud: Cloud, places: Iterable[Place]) -> Answers[str, dict[str, str]]:
    """Return the regions of the accounts of places, each with its opt-in status, by the account's id.

    An account can turn off only regions that it must opt in to ("Enable or disable AWS Regions in your account", AWS
    account management guide), and EC2 tells the home account which those are. So another account is asked only if it
    has a place in one of them; otherwise its credentials are checked, and it has the regions that every account has.
    """
    wanted: dict[str, set[str]] = {}
    for place in places:
        wanted.setdefault(place.account, set()).add(place.region)
    others = [account for account in sorted(wanted) if account != cloud.home.account]
    home, roles = both(
        lambda: each([cloud.home.account], lambda _: status(cloud, cloud.home)),
        lambda: each(others, cloud.check_account),
    )
    always = {name: opted for found in home.results.values() for name, opted in found.items() if opted == _ALWAYS}

    def ask(account: str) -> dict[str, str]:
        if account in home.results:
            return home.results[account]
        for error in (*home.errors.values(), *filter(None, [roles.errors.get(account)])):
            raise error
        return always if wanted[account] <= always.keys() else status(cloud, Place(account, cloud.home.region))

    return each(sorted(wanted), ask)


def status(cloud: Cloud, place: Place) -> dict[str, str]:
    """Return the regions of an account, each with its opt-in status. One call, to the given region."""
    answer = cloud.call(place, "ec2", "DescribeRegions", {"AllRegions": True})["Regions"]
    return {r["RegionName"]: r.get("OptInStatus", _ALWAYS) for r in answer}


def check_enabled(place: Place, found: Mapping[str, str], known: Collection[str]) -> None:
    """Raise NotFound or AccessError unless the account has the region of a place enabled.

    ``found``: what :func:`status` returned. ``known``: the regions in botocore's list, to suggest one.
    """
    if place.region not in found:
        raise _unknown(place.region, {*known, *found})
    if found[place.region] == "not-opted-in":
        raise AccessError(
            f"region {place.region} is not enabled for account {place.account}",
            hint=ENABLE_REGION,
        )


def check_home(cloud: Cloud) -> None:
    """Raise NotFound for a home region that is not in botocore's list. Makes no call: the first call goes to that
    region, and a mistyped region would look like a network failure.
    """
    known = cloud.known_regions()
    if cloud.home.region not in known:
        raise _unknown(cloud.home.region, known)


def check_partitions(cloud: Cloud, places: Collection[Place]) -> None:
    """Raise UsageError if a place or a role is in another partition than the home region. Makes no call.

    Credentials are valid in one partition, and images cannot be copied to another one (CopyImage, EC2 API reference).
    """
    home = cloud.partition(cloud.home.region)
    # A region that botocore does not know may be mistyped. EC2's list decides that.
    for region in sorted({place.region for place in places} & cloud.known_regions()):
        found = cloud.partition(region)
        if found != home:
            raise UsageError(
                f"region {region} is in the partition {found}, expected {home}, that of the home region "
                f"{cloud.home.region}",
                hint="Use an environment of its own for each partition.",
            )
    for account in cloud.accounts:
        if account.role is not None and account.role.split(":")[1] != home:
            raise UsageError(
                f"the role {account.role} of account {account.name} is in the partition {account.role.split(':')[1]}, "
                f"expected {home}, that of the home region {cloud.home.region}",
                hint=f"Its ARN begins with arn:{home}:iam.",
            )


def _unknown(region: str, known: Collection[str]) -> NotFound:
    near = difflib.get_close_matches(region, sorted(known), n=1)
    return NotFound(
        f"region {region} does not exist", hint=f"Did you mean {near[0]}?" if near else "Check goldenami.yaml."
    )
