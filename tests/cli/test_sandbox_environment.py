"""The environment ``sandbox`` that goldenami defines, and what the sandbox's distribution comes with, agree."""

from __future__ import annotations

from typing import Any

import boto3
from goldenami_sandbox import accounts

from goldenami.recipe.environmentspec import HOME, SANDBOX_ACCOUNTS, SANDBOX_HOME, SANDBOX_TARGETS


def test_accounts_and_regions_are_there() -> None:
    assert SANDBOX_HOME["account"] == accounts.HOME
    assert accounts.REGIONS[0] == SANDBOX_HOME["region"]
    assert dict(accounts.ACCOUNTS) == {
        HOME: SANDBOX_HOME["account"],
        **{name: account["id"] for name, account in SANDBOX_ACCOUNTS.items()},
    }
    assert {region for target in SANDBOX_TARGETS for region in target["regions"]} <= set(accounts.REGIONS)


def test_roles_and_keys_are_there(paper_cloud: Any) -> None:
    """Asked of a cloud: the role of each account trusts home, and each target has its key."""
    cloud = paper_cloud()
    sts = boto3.client("sts", **cloud.client(SANDBOX_HOME["region"]))
    for account in SANDBOX_ACCOUNTS.values():
        session = sts.assume_role(RoleArn=account["role"], RoleSessionName="agreement")
        assert account["id"] in session["AssumedRoleUser"]["Arn"]
    for target in [t for t in SANDBOX_TARGETS if "kms_key" in t]:
        for region in target["regions"]:
            kms = boto3.client("kms", **cloud.client(region, target["account"]))
            assert kms.describe_key(KeyId=target["kms_key"])["KeyMetadata"]["Enabled"]
