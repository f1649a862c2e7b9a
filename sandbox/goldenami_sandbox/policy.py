"""IAM policies: evaluates trust policies, key policies and identity policies as IAM does.

An explicit Deny wins; without an Allow a call is denied. A condition with an unknown operator never holds, and neither
does one with a key that the request does not have, unless its operator is negated or ends with ``IfExists``. (IAM user
guide, "Policy evaluation logic", "Condition operators", "Conditions with multiple context keys or values".)
"""

from __future__ import annotations

import enum
import ipaddress
import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache, lru_cache
from typing import Any, Final

Facts = Mapping[str, "str | Sequence[str]"]  # condition keys, in lower case, and their values in a request
Document = str | Mapping[str, Any]


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

    @property
    def is_service_linked(self) -> bool:
        """Whether the caller is a service-linked role. Its policies allow what its service needs, but no use of
        customer managed keys.
        """
        return self.arn is not None and ("/aws-service-role/" in self.arn or ":assumed-role/AWSServiceRole" in self.arn)

    @property
    def facts(self) -> dict[str, str]:
        """The condition keys that every request of the caller has."""
        return {
            "aws:principalaccount": self.account,
            "aws:principalarn": (self.arns or (f"arn:aws:iam::{self.account}:root",))[-1],
        }


class Decision(enum.Enum):
    """ALLOWED: a statement allows the call, and none denies it. DENIED: a statement denies it. NEITHER: no statement
    applies, which denies it too."""

    ALLOWED = "allowed"
    DENIED = "denied"
    NEITHER = "neither"


@dataclass(frozen=True, slots=True)
class Access:
    """One action on one resource. ``resource``: an ARN, or "*" for an action without resources. ``facts``: the
    condition keys of the request besides those of the caller, in lower case.
    """

    action: str
    resource: str = "*"
    facts: Facts = field(default_factory=dict)


def decide(documents: Iterable[Document], access: Access, caller: Caller) -> Decision:
    """Evaluate identity policies: documents without principals."""
    return next(decide_all(documents, [access.action], [access.resource], access.facts, caller))


def decide_all(
    documents: Iterable[Document], actions: Sequence[str], resources: Sequence[str], facts: Facts, caller: Caller
) -> Iterator[Decision]:
    """Evaluate identity policies for each action on each resource: all resources of the first action, then all of the
    second one."""
    facts = {**caller.facts, **facts}
    statements = list(_statements(documents))

    @cache
    def covers(statement: _Statement, resource: str) -> bool:
        return statement.covers(resource, facts)

    @cache
    def conditions_hold(statement: _Statement) -> bool:
        return statement.conditions_hold(facts)

    for action in actions:
        concerned = [statement for statement in statements if statement.acts(action)]
        for resource in resources:
            effects = {s.effect for s in concerned if covers(s, resource) and conditions_hold(s)}
            if not effects:
                yield Decision.NEITHER
            else:
                yield Decision.DENIED if "Deny" in effects else Decision.ALLOWED


def could_allow(documents: Iterable[Document], access: Access, caller: Caller) -> bool:
    """Return whether a statement would allow the action on the resource, if the resource had the right tags and
    owner.
    """
    facts = {**caller.facts, **access.facts}
    return any(
        s.effect == "Allow" and s.concerns(access, facts) and s.conditions_hold(facts, ignoring=_OF_RESOURCES)
        for s in _statements(documents)
    )


def decide_resource(
    document: Document, action: str, caller: Caller, context: Facts, resource: str | None = None
) -> tuple[Decision, bool]:
    """Evaluate a resource's own policy. ``resource``: the ARN that its statements must name; None: they need not name
    the resource. The second value: whether a statement that allows names the caller itself (or
    everybody), and not only the account. A statement for the account leaves the decision to its identity policies.
    """
    facts = {**caller.facts, **{key.lower(): value for key, value in context.items()}}
    decision, itself = Decision.NEITHER, False
    for statement in _statements([document]):
        named = statement.names(caller)
        if not named or not statement.concerns(Access(action, resource or "*"), facts, any_resource=resource is None):
            continue
        if statement.conditions_hold(facts):
            if statement.effect == "Deny":
                return Decision.DENIED, False
            decision, itself = Decision.ALLOWED, itself or named == "itself"
    return decision, itself


def allows(document: Document, action: str, caller: Caller, context: Facts) -> bool:
    """Return whether a resource's policy allows an action. ``action``: for example "kms:Decrypt".

    ``context``: condition keys in addition to those of the caller. A policy that trusts an account ("…:root") admits
    each of its principals.
    """
    return decide_resource(document, action, caller, context)[0] is Decision.ALLOWED


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
    if names_account(entry) or caller.arn is None:
        return True
    # A role's path is part of its ARN, but not of its sessions' ARNs.
    return entry in caller.arns or (
        parts[5].startswith("role/")
        and f"{':'.join(parts[:5])}:role/{parts[5].rsplit('/', 1)[1]}" in caller.arns
        and caller.arn.split(":")[2] == "sts"
    )


def names_account(entry: str) -> bool:
    """Return whether a principal is an account: its id, or its root."""
    return entry.isdigit() or entry.split(":", 5)[-1] == "root"


# The condition keys about a resource that exists.
_OF_RESOURCES: Final = ("aws:resourcetag/", "ec2:resourcetag/", "ec2:owner", "ec2:public")


# --- statements -------------------------------------------------------------------------------------------------------


class _Statement:
    """A statement of a policy, with its patterns compiled."""

    def __init__(self, source: Mapping[str, Any]) -> None:
        self.effect = source.get("Effect")
        self._principals = _principals(source.get("Principal"))
        self._federated = _principals(source.get("Principal"), "Federated")
        self._not_principals = _principals(source["NotPrincipal"]) if "NotPrincipal" in source else None
        self._not_federated = _principals(source.get("NotPrincipal"), "Federated")
        self._actions, self._action_patterns = _divided(source.get("NotAction", source.get("Action")))
        self._all_actions_but = "NotAction" in source
        self._resources = [str(item) for item in _list(source.get("NotResource", source.get("Resource")))]
        self._all_resources_but = "NotResource" in source
        self._conditions = [
            (operator, str(key).lower(), [_text(item) for item in _list(wanted)])
            for operator, entries in source.get("Condition", {}).items()
            for key, wanted in entries.items()
        ]

    def concerns(self, access: Access, facts: Facts, *, any_resource: bool = False) -> bool:
        return self.acts(access.action) and (any_resource or self.covers(access.resource, facts))

    def acts(self, action: str) -> bool:
        """Return whether an action is one of the statement's."""
        action = action.lower()
        found = action in self._actions or any(pattern.fullmatch(action) for pattern in self._action_patterns)
        return found != self._all_actions_but

    def covers(self, resource: str, facts: Facts) -> bool:
        """Return whether a resource is one of the statement's."""
        found = any(_matches_arn(_filled(pattern, facts), resource) for pattern in self._resources)
        return found != self._all_resources_but

    def names(self, caller: Caller) -> str:
        """Return how the statement names the caller: "itself", "account", or "" if it does not."""
        if self._not_principals is not None:
            return "" if any(names_principal(entry, caller) for entry in self._not_principals) else "itself"
        found = [entry for entry in self._principals if names_principal(entry, caller)]
        if any(not names_account(entry) for entry in found):
            return "itself"
        return "account" if found else ""

    def names_provider(self, provider: str) -> bool:
        """Return whether the statement is for the identities of a provider (its ARN). One for everybody, or for all but
        some, counts only if it denies.
        """
        if provider in self._federated or self.effect != "Deny":
            return provider in self._federated
        if self._not_principals is not None:
            return not {provider, "*"} & {*self._not_principals, *self._not_federated}
        return "*" in self._federated or "*" in self._principals

    def conditions_hold(self, facts: Facts, *, ignoring: tuple[str, ...] = ()) -> bool:
        """Return whether all conditions hold, except those on keys that begin with one of ``ignoring``."""
        return all(
            _condition(operator, facts.get(key), [_filled(item, facts) for item in wanted])
            for operator, key, wanted in self._conditions
            if not (ignoring and key.startswith(ignoring))
        )


def _statements(documents: Iterable[Document]) -> Iterable[_Statement]:
    for document in documents:
        yield from _compiled(document if isinstance(document, str) else json.dumps(document))


@lru_cache(maxsize=512)
def _compiled(text: str) -> tuple[_Statement, ...]:
    """Return the statements of a document; none if it is not JSON, so that it allows nothing."""
    try:
        policy = json.loads(text)
    except ValueError:
        return ()
    return tuple(_Statement(statement) for statement in _list(policy.get("Statement")))


def _principals(value: object, kind: str = "AWS") -> list[str]:
    if isinstance(value, str):
        return [value]
    return [str(entry) for entry in _list(value.get(kind))] if isinstance(value, dict) else []


def admits_federated(document: Document, action: str, provider: str, context: Facts) -> bool:
    """Return whether a trust policy lets an identity of a provider (its ARN) do this. ``context``: the condition keys
    that its token has."""
    facts = {key.lower(): value for key, value in context.items()}
    effects = {
        statement.effect
        for statement in _statements([document])
        if statement.names_provider(provider) and statement.acts(action) and statement.conditions_hold(facts)
    }
    return effects == {"Allow"}


def names_service(document: Document, action: str, service: str) -> bool:
    """Return whether a trust policy lets a service ("dlm.amazonaws.com") do this. Conditions are not evaluated."""
    try:
        policy = json.loads(document) if isinstance(document, str) else document
    except ValueError:
        return False
    return any(
        statement.get("Effect") == "Allow"
        and isinstance(statement.get("Principal"), dict)
        and service in _list(statement["Principal"].get("Service"))
        and any(pattern.fullmatch(action.lower()) for pattern in _patterns(statement.get("Action"), lower=True))
        for statement in _list(policy.get("Statement"))
    )


# --- patterns ---------------------------------------------------------------------------------------------------------


@lru_cache(maxsize=4096)
def _pattern(text: str) -> re.Pattern[str]:
    """Compile a pattern with the wildcards ``*`` and ``?``."""
    return re.compile(re.escape(text).replace(r"\*", ".*").replace(r"\?", "."), re.DOTALL)


def _divided(actions: Any) -> tuple[frozenset[str], list[re.Pattern[str]]]:
    """Return the names of actions, in lower case, and the patterns for names among them."""
    names = [str(entry).lower() for entry in _list(actions)]
    return frozenset(n for n in names if not {"*", "?"} & set(n)), [_pattern(n) for n in names if {"*", "?"} & set(n)]


def _patterns(value: Any, *, lower: bool = False) -> list[re.Pattern[str]]:
    return [_pattern(str(entry).lower() if lower else str(entry)) for entry in _list(value)]


def _matches_arn(pattern: str, arn: str) -> bool:
    """Return whether an ARN matches a pattern. A wildcard does not reach beyond its segment (IAM user guide, "IAM
    ARNs"), but the last segment may contain colons.
    """
    if pattern == "*":
        return True
    own, parts = pattern.split(":", 5), arn.split(":", 5)
    return len(own) == len(parts) and all(
        one == part or _pattern(one).fullmatch(part) is not None for one, part in zip(own, parts, strict=True)
    )


_VARIABLE = re.compile(r"\$\{([^}]+)\}")


def _filled(text: str, facts: Facts) -> str:
    """Replace policy variables (``${aws:PrincipalAccount}``). A variable without one value matches nothing."""
    if "${" not in text:
        return text

    def value(match: re.Match[str]) -> str:
        name = match[1]
        if name in ("*", "?", "$"):
            return name
        found = facts.get(name.lower())
        return found if isinstance(found, str) else match[0]

    return _VARIABLE.sub(value, text)


# --- conditions -------------------------------------------------------------------------------------------------------

_NEGATED: Final = {
    "StringNotEquals": "StringEquals",
    "StringNotEqualsIgnoreCase": "StringEqualsIgnoreCase",
    "StringNotLike": "StringLike",
    "ArnNotEquals": "ArnLike",
    "ArnNotLike": "ArnLike",
    "NumericNotEquals": "NumericEquals",
    "NotIpAddress": "IpAddress",
}


def _condition(operator: str, actual: str | Sequence[str] | None, wanted: list[str]) -> bool:
    quantifier, _, name = operator.rpartition(":")
    if name == "Null":
        return wanted == ["true" if actual is None else "false"]
    if name.endswith("IfExists"):
        if actual is None:
            return True
        name = name.removesuffix("IfExists")
    negated = name in _NEGATED
    test = _TESTS.get(_NEGATED.get(name, name))
    if test is None:
        return False
    values = [] if actual is None else [actual] if isinstance(actual, str) else list(actual)

    def holds(value: str) -> bool:
        return any(test(value, item) for item in wanted) != negated

    if quantifier == "ForAllValues":
        return all(holds(value) for value in values)
    if quantifier == "ForAnyValue":
        return any(holds(value) for value in values)
    if actual is None:
        return negated
    # A key with several values needs a quantifier; without one, IAM does not match it.
    return len(values) == 1 and holds(values[0])


def _number(compare: Callable[[float, float], bool]) -> Callable[[str, str], bool]:
    def test(value: str, item: str) -> bool:
        try:
            return compare(float(value), float(item))
        except ValueError:
            return False

    return test


def _in_network(value: str, item: str) -> bool:
    try:
        return ipaddress.ip_address(value) in ipaddress.ip_network(item, strict=False)
    except ValueError:
        return False


def _like(value: str, item: str) -> bool:
    return _pattern(item).fullmatch(value) is not None


_TESTS: Final[Mapping[str, Callable[[str, str], bool]]] = {
    "StringEquals": lambda value, item: value == item,
    "StringEqualsIgnoreCase": lambda value, item: value.lower() == item.lower(),
    "Bool": lambda value, item: value.lower() == item.lower(),
    "StringLike": _like,
    "ArnLike": lambda value, item: _matches_arn(item, value),
    "ArnEquals": lambda value, item: _matches_arn(item, value),
    "NumericEquals": _number(lambda a, b: a == b),
    "NumericLessThan": _number(lambda a, b: a < b),
    "NumericLessThanEquals": _number(lambda a, b: a <= b),
    "NumericGreaterThan": _number(lambda a, b: a > b),
    "NumericGreaterThanEquals": _number(lambda a, b: a >= b),
    "IpAddress": _in_network,
}


def _text(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _list(value: Any) -> list[Any]:
    return [] if value is None else value if isinstance(value, list) else [value]
