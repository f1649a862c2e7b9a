"""Organizations: which accounts belong to which organization and unit. The settings define them.

Launch permissions of images name them by ARN ("Share an AMI with organizations and OUs", EC2 user guide). Policies name
them in the condition keys ``aws:PrincipalOrgID`` and ``aws:PrincipalOrgPaths``.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from goldenami_sandbox.settings import Organization


def admits(organizations: Iterable[Organization], arn: str, account: str) -> bool:
    """Return whether an account is in the organization or the organizational unit of an ARN, or below that unit."""
    parts = arn.split(":", 5)
    if len(parts) != 6 or parts[2] != "organizations":
        return False
    kind, _, rest = parts[5].partition("/")
    for one in organizations:
        if one.management != parts[4] or account not in members(one):
            continue
        if kind == "organization" and rest == one.id:
            return True
        if kind == "ou" and rest.startswith(f"{one.id}/") and rest.partition("/")[2] in _units(one, account):
            return True
    return False


def members(organization: Organization) -> set[str]:
    """Return the accounts of an organization; the management account is one of them."""
    return {organization.management, *organization.accounts}


def facts(organizations: Iterable[Organization], account: str) -> dict[str, str | Sequence[str]]:
    """Return the condition keys of a principal of an account; empty outside every organization."""
    for one in organizations:
        if account in members(one):
            path = "".join(f"{unit}/" for unit in _units(one, account))
            return {"aws:PrincipalOrgID": one.id, "aws:PrincipalOrgPaths": [f"{one.id}/{one.root}/{path}"]}
    return {}


def _units(organization: Organization, account: str) -> list[str]:
    """Return the organizational units of an account, the outermost first."""
    return [unit for unit in organization.accounts.get(account, "").split("/") if unit]
