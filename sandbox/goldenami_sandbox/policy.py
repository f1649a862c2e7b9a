"""Resource-based policies: evaluates trust policies and key policies as IAM does, without identity policies.

In the sandbox every principal has full rights by the policies of its account. So a policy that trusts an account
("…:root") admits each of its principals. An explicit Deny wins; without an Allow the call is denied. A condition with
an unknown operator or key never holds.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any


@dataclass(frozen=True, slots=True)
class Caller:
    """The caller. ``arn`` None: a service that acts for the account; it counts as any principal of the account."""

    account: str
    arn: str | None = None

    @property
    def arns(self) -> tuple[str, ...]:
        """The caller's ARN, and for a session of a role also the role's ARN."""
        if self.arn is None:
            return ()
        parts = self.arn.split(":", 5)
        if len(parts) == 6 and parts[2] == "sts" and parts[5].startswith("assumed-role/"):
            return self.arn, f"arn:{parts[1]}:iam::{parts[4]}:role/{parts[5].split('/')[1]}"
        return (self.arn,)


def allows(document: str | Mapping[str, Any], action: str, caller: Caller, context: Mapping[str, str]) -> bool:
    """Return whether policies allow an action. ``action``: for example "kms:Decrypt".

    ``context``: condition keys in addition to those of the caller.
    """
    try:
        policy = json.loads(document) if isinstance(document, str) else document
    except ValueError:
        return False
    facts = {
        "aws:principalaccount": caller.account,
        "aws:principalarn": (caller.arns or (f"arn:aws:iam::{caller.account}:root",))[-1],
        **{key.lower(): value for key, value in context.items()},
    }
    allowed = False
    for statement in _list(policy.get("Statement")):
        if not _matches_action(statement, action) or not _matches_principal(statement, caller):
            continue
        if not _conditions_hold(statement.get("Condition", {}), facts):
            continue
        if statement.get("Effect") == "Deny":
            return False
        allowed = allowed or statement.get("Effect") == "Allow"
    return allowed


def names_principal(entry: str, caller: Caller) -> bool:
    """Return whether a principal of a policy or a grant is the caller.

    A principal is "*", an account id, a root, or the ARN of a user, role or session.
    """
    if entry == "*":
        return True
    parts = entry.split(":", 5)
    account = entry if entry.isdigit() else parts[4] if len(parts) == 6 else ""
    if account != caller.account:
        return False
    if entry.isdigit() or parts[5] == "root" or caller.arn is None:
        return True
    # A role's path is part of its ARN, but not of its sessions' ARNs.
    return entry in caller.arns or (
        parts[5].startswith("role/")
        and f"{':'.join(parts[:5])}:role/{parts[5].rsplit('/', 1)[1]}" in caller.arns
        and caller.arn.split(":")[2] == "sts"
    )


def _matches_principal(statement: Mapping[str, Any], caller: Caller) -> bool:
    if "NotPrincipal" in statement:
        return not any(names_principal(entry, caller) for entry in _principals(statement["NotPrincipal"]))
    return any(names_principal(entry, caller) for entry in _principals(statement.get("Principal")))


def _principals(value: object) -> Iterable[str]:
    if isinstance(value, str):
        return [value]
    return [str(entry) for entry in _list(value.get("AWS"))] if isinstance(value, dict) else []


def _matches_action(statement: Mapping[str, Any], action: str) -> bool:
    wanted = action.lower()
    if "NotAction" in statement:
        return not any(fnmatchcase(wanted, str(entry).lower()) for entry in _list(statement["NotAction"]))
    return any(fnmatchcase(wanted, str(entry).lower()) for entry in _list(statement.get("Action")))


def _conditions_hold(conditions: Mapping[str, Any], facts: Mapping[str, str]) -> bool:
    return all(
        _condition(operator, facts.get(str(key).lower()), [_text(item) for item in _list(wanted)])
        for operator, entries in conditions.items()
        for key, wanted in entries.items()
    )


def _condition(operator: str, actual: str | None, wanted: list[str]) -> bool:
    name = operator.removeprefix("ForAnyValue:").removeprefix("ForAllValues:")
    if name.endswith("IfExists"):
        if actual is None:
            return True
        name = name.removesuffix("IfExists")
    if name == "Null":
        return wanted == ["true" if actual is None else "false"]
    negated = name in ("StringNotEquals", "StringNotLike", "ArnNotEquals", "ArnNotLike")
    if actual is None:
        return negated
    match name:
        case "StringEquals" | "StringNotEquals":
            found = actual in wanted
        case "StringEqualsIgnoreCase" | "Bool":
            found = actual.lower() in [item.lower() for item in wanted]
        case "StringLike" | "StringNotLike" | "ArnLike" | "ArnEquals" | "ArnNotEquals" | "ArnNotLike":
            found = any(fnmatchcase(actual, item) for item in wanted)
        case _:
            return False
    return found != negated


def _text(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _list(value: Any) -> list[Any]:
    return [] if value is None else value if isinstance(value, list) else [value]
