"""Checks that regions exist and that accounts have enabled them, before anything is created."""

from __future__ import annotations

import difflib
from collections.abc import Collection

from goldenami.aws.session import Cloud
from goldenami.errors import AccessError, NotFound
from goldenami.model import Place


def check(cloud: Cloud, places: Collection[Place]) -> None:
    """Raise NotFound for a region that does not exist, and AccessError for one that its account has not enabled.

    EC2 reports all regions of an account and whether they are enabled (DescribeRegions, one call for each account), so
    regions that are newer than botocore's list work too.
    """
    check_home(cloud)
    known = cloud.known_regions()
    for account in sorted({p.account for p in places}):
        wanted = sorted({p.region for p in places if p.account == account})
        home = Place(account, cloud.home.region)
        answer = cloud.call(home, "ec2", "DescribeRegions", {"AllRegions": True})["Regions"]
        status = {r["RegionName"]: r.get("OptInStatus", "opt-in-not-required") for r in answer}
        for region in wanted:
            if region not in status:
                raise _unknown(region, known | set(status))
            if status[region] == "not-opted-in":
                raise AccessError(
                    f"region {region} is not enabled for account {account}",
                    hint="Enable the region (`aws account enable-region`), or remove it from goldenami.yaml.",
                )


def check_home(cloud: Cloud) -> None:
    """Raise NotFound for a home region that is not in botocore's list. Makes no call: the first call goes to that
    region, and a mistyped region would look like a network failure.
    """
    known = cloud.known_regions()
    if cloud.home.region not in known:
        raise _unknown(cloud.home.region, known)


def _unknown(region: str, known: Collection[str]) -> NotFound:
    near = difflib.get_close_matches(region, sorted(known), n=1)
    return NotFound(
        f"region {region} does not exist", hint=f"Did you mean {near[0]}?" if near else "Check goldenami.yaml."
    )
