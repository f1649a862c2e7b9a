"""IAM policies of an environment, made from the table of calls (``calls``).

Each policy has the permissions of one role in one account, and no more: the actions of the calls, on the accounts,
keys, parameters and buckets of the environment, in its regions. Calls that create a resource must give it the
environment's tag. Calls that change or delete what a build made need that tag on the resource.

No call of AWS is needed. A key that goldenami.yaml names by an alias is allowed by the condition kms:ResourceAliases,
because policies cannot name a key by its alias.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final, NamedTuple

from goldenami.aws import envelope, lifecycle, s3, tags
from goldenami.aws.calls import Job, Permission, Role, rows_for
from goldenami.aws.errors import refused_access
from goldenami.aws.kms import CONSUMER_OPERATIONS, LAUNCH_OPERATIONS
from goldenami.model import Account, Environment, EventBus, KmsSigningKey, LaunchTemplate, Place, Target, Topic

# Characters of a managed policy, without white space ("IAM and AWS STS quotas").
MOST_CHARACTERS: Final = 6144
# Managed policies that a role can have without a higher quota.
MOST_POLICIES: Final = 10

Document = dict[str, Any]
Statement = dict[str, Any]


@dataclass(frozen=True, slots=True)
class RolePolicies:
    """What one role in one account needs.

    ``role``: its ARN; None: no role is assumed, and the caller's own identity needs the policies. ``documents``:
    policies of at most ``MOST_CHARACTERS``. ``trust``: the role's trust policy; None without a role.
    """

    kind: Role
    account: Account
    role: str | None
    documents: tuple[Document, ...]
    trust: Document | None

    @property
    def name(self) -> str:
        """The name of the role, or a name for the policies."""
        return self.role.rpartition("/")[2] if self.role is not None else f"goldenami-{self.kind}"

    @property
    def statements(self) -> list[Statement]:
        return [statement for document in self.documents for statement in document["Statement"]]


@dataclass(frozen=True, slots=True)
class Scope:
    """The part of the environment that its policies cover. ``keys``: more keys than those of the targets, by place
    (schedules have some). ``regions``: more regions than those of the targets.
    """

    environment: Environment
    jobs: frozenset[Job] = frozenset(Job)
    keys: tuple[tuple[Place, str], ...] = ()
    regions: frozenset[str] = frozenset()
    trusted: tuple[str, ...] = field(default=())  # who may assume the roles: ARNs; empty: the home account

    @property
    def all_regions(self) -> list[str]:
        own = {self.environment.home_region, *(target.region for target in self.environment.targets)}
        return sorted(own | self.regions)

    @property
    def partition(self) -> str:
        return partition_of(self.environment.home_region)


def partition_of(region: str) -> str:
    """Return the partition of a region: the second field of its ARNs."""
    for prefix, partition in (("cn-", "aws-cn"), ("us-gov-", "aws-us-gov")):
        if region.startswith(prefix):
            return partition
    return "aws"


# --- the policies of a role -------------------------------------------------------------------------------------------


def role_policies(scope: Scope, kind: Role) -> list[RolePolicies]:
    """Return the policies of a role, one entry for each account that needs it.

    BUILDER and CALLER: the home account. PUBLISHER: the other accounts. PLANNER: every account. CONSUMER: the accounts
    of targets.
    """
    return [_policies(scope, kind, account) for account in accounts_of(scope.environment, kind)]


def accounts_of(environment: Environment, kind: Role) -> list[Account]:
    """Return the accounts that have a role of this kind."""
    others = [account for account in environment.accounts.values() if account.id != environment.home.id]
    match kind:
        case Role.BUILDER | Role.CALLER:
            return [environment.home]
        case Role.PUBLISHER:
            return others
        case Role.PLANNER:
            return [environment.home, *others]
        case Role.CONSUMER:
            used = {target.account.id for target in environment.targets}
            return [account for account in (environment.home, *others) if account.id in used]


def _policies(scope: Scope, kind: Role, account: Account) -> RolePolicies:
    role = account.role if kind in (Role.BUILDER, Role.PUBLISHER) else None
    documents = tuple(_split(_statements_of(scope, kind, account)))
    return RolePolicies(kind, account, role, documents, _trust(scope, account) if role is not None else None)


def _statements_of(scope: Scope, kind: Role, account: Account) -> list[Statement]:
    kinds = [kind]
    if kind is Role.BUILDER and account.role is None:
        kinds.append(Role.CALLER)  # the builder's identity assumes the roles of the other accounts
    permissions = [p for one in kinds for row in rows_for(one, scope.jobs) for p in row.permissions]
    return list(_Statements(scope, account).of(permissions))


def _split(statements: Sequence[Statement]) -> Iterator[Document]:
    """Divide statements over documents that are short enough for managed policies."""
    chosen: list[Statement] = []
    size = empty = length(_document([]))
    for statement in statements:
        own = length(statement)
        if chosen and size + 1 + own > MOST_CHARACTERS:  # a comma between two statements
            yield _document(chosen)
            chosen, size = [], empty
        size += own + bool(chosen)
        chosen.append(statement)
    if chosen:
        yield _document(chosen)


def _document(statements: Sequence[Statement]) -> Document:
    return {"Version": "2012-10-17", "Statement": list(statements)}


def length(document: Document | Statement) -> int:
    """Return the number of characters that IAM counts: all except white space."""
    return len("".join(json.dumps(document).split()))


def _trust(scope: Scope, account: Account) -> Document:
    """Return the trust policy of a role that goldenami assumes."""
    root = f"arn:{scope.partition}:iam::{scope.environment.home.id}:root"
    statement: Statement = {
        "Effect": "Allow",
        "Principal": {"AWS": _short(scope.trusted or (root,))},
        "Action": "sts:AssumeRole",
    }
    if account.external_id is not None:
        statement["Condition"] = {"StringEquals": {"sts:ExternalId": account.external_id}}
    return _document([statement])


# --- statements -------------------------------------------------------------------------------------------------------


class _Statements:
    """The statements of one account."""

    def __init__(self, scope: Scope, account: Account) -> None:
        self.scope = scope
        self.environment = scope.environment
        self.account = account
        self._created: dict[str, set[str]] = {}  # the operations that create each kind of resource

    def of(self, permissions: Iterable[Permission]) -> Iterator[Statement]:
        """Yield one statement for each set of resources and conditions, with all actions that have exactly these."""
        resources: dict[tuple[str, str], set[str]] = {}  # the kinds of resources by action and condition
        for permission in permissions:
            condition = permission.condition
            creating = condition.partition("-")[2] if condition.startswith("creating-") else ""
            if creating:
                condition = "creating"
                self._created.setdefault(permission.resource, set()).add(creating)
            resources.setdefault((permission.action, condition), set()).add(permission.resource)
        for (action, condition), kinds in list(resources.items()):
            if condition:  # what is allowed anyway needs no second statement with a condition
                kinds -= resources.get((action, ""), set())
        actions: dict[tuple[str, frozenset[str]], set[str]] = {}
        for (action, condition), kinds in resources.items():
            for part in self._parts(condition, kinds):
                actions.setdefault((condition, part), set()).add(action)
        for (condition, part), names in sorted(actions.items(), key=lambda item: (item[0][0], sorted(item[0][1]))):
            yield from self._statements(condition, sorted(part), sorted(names))

    def _parts(self, condition: str, kinds: set[str]) -> Iterator[frozenset[str]]:
        """Divide kinds of resources so that all of one part have the same conditions."""
        groups: dict[tuple[str, ...], set[str]] = {}
        for kind in kinds:
            created = tuple(sorted(self._created.get(kind, ()))) if condition == "creating" else ()
            group = (self._family(kind), *created)
            groups.setdefault(group, set()).add(kind)
        return (frozenset(group) for group in groups.values())

    @staticmethod
    def _family(kind: str) -> str:
        return kind if kind in _ALONE else ""

    def _statements(self, condition: str, kinds: list[str], actions: list[str]) -> Iterator[Statement]:
        conditions = self._conditions(condition, kinds)
        sid = _sid(kinds, condition)
        if kinds[0] in _KEYS:
            yield from self._of_keys(kinds[0], sid, actions, conditions)
            return
        arns = sorted({arn for kind in kinds for arn in self._arns(kind)})
        if arns:
            yield _statement(sid, actions, arns, conditions)

    def _of_keys(self, kind: str, sid: str, actions: list[str], conditions: Mapping[str, Any]) -> Iterator[Statement]:
        """Yield a statement for keys that are named by id or ARN, and one for keys that are named by alias."""
        arns, aliases = self._keys(kind)
        if arns:
            yield _statement(sid, actions, sorted(arns), conditions)
        by_accounts: dict[frozenset[str], set[str]] = {}
        for account in sorted({account for account, _ in aliases}):
            own = frozenset(alias for one, alias in aliases if one == account)
            by_accounts.setdefault(own, set()).add(account)
        for number, (names, accounts) in enumerate(sorted(by_accounts.items(), key=lambda item: sorted(item[1]))):
            keys = [f"arn:{self.scope.partition}:kms:*:{account}:key/*" for account in sorted(accounts)]
            named = {"ForAnyValue:StringEquals": {"kms:ResourceAliases": _short(sorted(names))}}
            more = "" if number == 0 else str(number + 1)
            yield _statement(f"{sid}ByAlias{more}", actions, keys, _merged(conditions, named))

    def _keys(self, kind: str) -> tuple[set[str], set[tuple[str, str]]]:
        """Return the ARNs of keys, and aliases with their accounts."""
        home = self.environment.home.id
        targets: Iterable[Target] = self.environment.targets
        named = [(target.place, target.kms_key) for target in targets if target.kms_key]
        signing = self.environment.signing
        if kind == "signing-key":
            signer = signing.key if signing is not None else None
            named = [(Place(home, signer.region), signer.key)] if isinstance(signer, KmsSigningKey) else []
        elif kind == "signed-key" and (signing is None or not signing.contents):
            return set(), set()
        elif kind == "bucket-key":
            named = [(place, key) for place, key in named if place == self.environment.home_place]
        else:
            named += self.scope.keys
            # An account also reads images and snapshots that the home account shares, under the home account's keys.
            named = [(place, key) for place, key in named if place.account in (self.account.id, home)]
        if kind == "any-key":
            named.append((Place(self.account.id, self.environment.home_region), "alias/aws/ebs"))
        arns, aliases = set(), set()
        for place, key in named:
            prefix = f"arn:{self.scope.partition}:kms:{place.region}:{place.account}:"
            if key.startswith("arn:") and ":alias/" in key:
                aliases.add((key.split(":")[4], key.split(":", 5)[5]))
            elif key.startswith("arn:"):
                arns.add(key)
            elif key.startswith("alias/"):
                aliases.add((place.account, key))
            else:
                arns.add(f"{prefix}key/{key}")
        return arns, aliases

    def _arns(self, kind: str) -> list[str]:
        p, account = self.scope.partition, self.account.id
        prefix = self.environment.parameter_prefix.strip("/")
        match kind:
            case "any":
                return ["*"]
            case "image" | "snapshot":
                return [f"arn:{p}:ec2:*::{kind}/*"]
            case "signed-snapshot":
                signing = self.environment.signing
                return [f"arn:{p}:ec2:*::snapshot/*"] if signing is not None and signing.contents else []
            case "parameter":
                return [f"arn:{p}:ssm:*:{account}:parameter/{prefix}/*"]
            case "parameters":  # GetParametersByPath needs the path itself
                return [f"arn:{p}:ssm:*:{account}:parameter/{prefix}{end}" for end in ("", "/*")]
            case "public-parameter":
                return [f"arn:{p}:ssm:*::parameter/aws/service/*"]
            case "any-parameter":
                return [f"arn:{p}:ssm:*:{account}:parameter/*"]
            case "lifecycle-policy":
                return [f"arn:{p}:dlm:*:{account}:policy/*"]
            case "dlm-role":
                names = (lifecycle.SNAPSHOT_ROLE, lifecycle.IMAGE_ROLE)
                every = [name for path in names for name in (path, path.rpartition("/")[2])]
                return [f"arn:{p}:iam::{account}:role/{name}" for name in every]
            case "own-identity":
                return [self.account.role or f"arn:{p}:iam::{account}:user/${{aws:username}}"]
            case "connect-endpoints":
                return ["*"] if self._transport("instance-connect") else []
            case "instance-connect-endpoint":
                own = [f"arn:{p}:ec2:*:{account}:instance-connect-endpoint/*"]
                return own if self._transport("instance-connect") else []
            case "ssm-instance":
                return [f"arn:{p}:ec2:*:{account}:instance/*"] if self._transport("ssm") else []
            case "ssm-document":
                return [f"arn:{p}:ssm:*::document/AWS-Start*Session"] if self._transport("ssm") else []
            case "ssm-session":
                return [f"arn:{p}:ssm:*:{account}:session/*"] if self._transport("ssm") else []
            case "profile-role":
                # The role in an instance profile has the profile's name, unless its owner chose another one.
                profile = (self.environment.instance_profile or "").rpartition("/")[2]
                return [f"arn:{p}:iam::{account}:role/{profile}"] if profile else []
            case "launch-template":
                # Policies name templates by their ids, and goldenami.yaml may have only the names.
                declared = [one for one in self.environment.launch_templates if self._has_place(one)]
                return [f"arn:{p}:ec2:*:{account}:launch-template/*"] if declared else []
            case "test-template":
                return [f"arn:{p}:ec2:*:{account}:launch-template/*"]
            case "test-group":
                return [f"arn:{p}:autoscaling:*:{account}:autoScalingGroup:*:autoScalingGroupName/goldenami-*"]
            case "rule":
                return [f"arn:{p}:rbin:*:{account}:rule/*"]
            case "role":
                return [one.role for one in self.environment.accounts.values() if one.role]
            case "event-bus":
                buses = [one.to for one in self.environment.notify if isinstance(one.to, EventBus)]
                prefix = f"arn:{p}:events:{{}}:{account}:event-bus/{{}}"
                return [b.bus if b.bus.startswith("arn:") else prefix.format(b.region, b.bus) for b in buses]
            case "topic":
                return [one.to.arn for one in self.environment.notify if isinstance(one.to, Topic)]
            case "bucket":
                return [f"arn:{p}:s3:::{bucket}" for bucket, _ in self._stores()]
            case "object":
                return [f"arn:{p}:s3:::{'/'.join(part for part in one if part)}/*" for one in self._stores()]
        return [f"arn:{p}:ec2:*:{account}:{kind}/*"]

    def _has_place(self, template: LaunchTemplate) -> bool:
        return any(place.account == self.account.id for place in template.places)

    def _transport(self, name: str) -> bool:
        return self.environment.network.transport == name

    def _stores(self) -> list[tuple[str, str]]:
        places = {self.environment.catalog, self.environment.builds}
        return sorted({s3.split(place) for place in places if place.startswith(s3.SCHEME)})

    def _conditions(self, condition: str, kinds: Collection[str]) -> dict[str, Any]:
        name, through = self.environment.name, [f"ec2.{region}.amazonaws.com" for region in self.scope.all_regions]
        if self.scope.partition == "aws-cn":
            through = [f"{one}.cn" for one in through]
        found: dict[str, Any] = {}
        match condition:
            case "new":
                found = {"StringEquals": {f"aws:RequestTag/{tags.ENVIRONMENT}": name}}
            case "ours":
                found = {"StringEquals": {f"aws:ResourceTag/{tags.ENVIRONMENT}": name}}
            case "kept":
                found = {"Null": {f"aws:ResourceTag/{tags.KEPT_FROM}": "false"}}
            case "creating":
                operations = sorted({one for kind in kinds for one in self._created.get(kind, ())})
                found = {
                    "StringEquals": {
                        "ec2:CreateAction": _short(operations),
                        f"aws:RequestTag/{tags.ENVIRONMENT}": name,
                    }
                }
            case "ebs":
                found = {"StringEquals": {"kms:ViaService": _short(through)}}
            case "ebs-grant":
                found = {
                    "Bool": {"kms:GrantIsForAWSResource": "true"},
                    "StringEquals": {"kms:ViaService": _short(through)},
                }
            case "launch-grant":
                granted = CONSUMER_OPERATIONS if self.environment.consumers else LAUNCH_OPERATIONS
                found = {"ForAllValues:StringEquals": {"kms:GrantOperations": sorted(granted)}}
            case "secret":
                found = {"StringEquals": {f"kms:EncryptionContext:{envelope.ENVIRONMENT}": name}}
            case "journals":
                purpose = {f"kms:EncryptionContext:{envelope.PURPOSE}": envelope.JOURNALS}
                found = {"StringEquals": {f"kms:EncryptionContext:{envelope.ENVIRONMENT}": name, **purpose}}
            case "pass-to-dlm":
                found = {"StringEquals": {"iam:PassedToService": "dlm.amazonaws.com"}}
            case "pass-to-ec2":
                service = "ec2.amazonaws.com.cn" if self.scope.partition == "aws-cn" else "ec2.amazonaws.com"
                found = {"StringEquals": {"iam:PassedToService": service}}
            case "lent":
                found = {"StringEquals": {"ec2:Owner": self.environment.home.id}}
            case "released":
                owners = sorted({self.environment.home.id, self.account.id})
                found = {"StringEquals": {"ec2:Owner": _short(owners)}}
        if set(kinds) & _REGIONAL or not set(kinds) & _ELSEWHERE:
            found = _merged(found, {"StringEquals": {"aws:RequestedRegion": _short(self.scope.all_regions)}})
        return found


# Kinds of resources whose ARNs leave the region open, so that a condition names the regions; and those of services
# without regions, or with regions in their own conditions.
_REGIONAL: Final = frozenset({"any", "image", "snapshot", "signed-snapshot"})
_KEYS: Final = frozenset({"key", "any-key", "bucket-key", "signing-key", "signed-key"})
_ELSEWHERE: Final = _KEYS | frozenset(
    {
        "role",
        "dlm-role",
        "bucket",
        "object",
        "profile-role",
        "own-identity",
        "event-bus",
        "topic",
    }
)
# Kinds of resources that share no statement with others.
_ALONE: Final = _ELSEWHERE | {"any", "connect-endpoints"}


def _statement(sid: str, actions: Sequence[str], arns: Sequence[str], conditions: Mapping[str, Any]) -> Statement:
    statement = {"Sid": sid, "Effect": "Allow", "Action": _short(actions), "Resource": _short(arns)}
    return {**statement, "Condition": dict(conditions)} if conditions else statement


def _short(values: Sequence[str]) -> Any:
    """Return a single value alone, as people write it; several as a list."""
    return values[0] if len(values) == 1 else list(values)


def _merged(one: Mapping[str, Any], other: Mapping[str, Any]) -> dict[str, Any]:
    """Return the conditions of both."""
    return {operator: {**one.get(operator, {}), **other.get(operator, {})} for operator in (*one, *other)}


def _sid(kinds: Sequence[str], condition: str) -> str:
    words = [word for kind in kinds for word in kind.split("-")] + condition.split("-")
    return "".join(word.capitalize() for word in words if word)


# --- policies of keys -------------------------------------------------------------------------------------------------


def key_policies(scope: Scope) -> dict[str, Document]:
    """Return a policy for the keys of each account, by account id.

    The first statement, which AWS also writes into new keys, leaves decisions to the account's identity policies. The
    others allow the same to the roles by name. They are needed only where the first statement is missing.
    """
    found: dict[str, Document] = {}
    for account in {target.account.id: target.account for target in scope.environment.targets}.values():
        kind = Role.BUILDER if account.id == scope.environment.home.id else Role.PUBLISHER
        root = f"arn:{scope.partition}:iam::{account.id}:root"
        statements: list[Statement] = [
            {"Sid": "Account", "Effect": "Allow", "Principal": {"AWS": root}, "Action": "kms:*", "Resource": "*"}
        ]
        if account.role is not None:
            permissions = [p for row in rows_for(kind, scope.jobs) for p in row.permissions]
            own = _Statements(scope, account)
            by_condition: dict[str, set[str]] = {}
            for permission in permissions:
                if permission.resource in ("key", "any-key", "bucket-key"):
                    by_condition.setdefault(permission.condition, set()).add(permission.action)
            for condition, actions in sorted(by_condition.items()):
                statement = {
                    "Sid": f"Goldenami{_sid([], condition) or 'Read'}",
                    "Effect": "Allow",
                    "Principal": {"AWS": account.role},
                    "Action": _short(sorted(actions)),
                    "Resource": "*",
                }
                conditions = own._conditions(condition, ["key"])
                statements.append({**statement, "Condition": conditions} if conditions else statement)
        found[account.id] = _document(statements)
    return found


# --- refused calls ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Missing:
    """The permission that a refused call lacks, and the statement that gives it. ``statement`` None: no policy of the
    environment has it, so goldenami does not need it there.
    """

    kind: Role
    account: Account
    action: str
    resource: str
    statement: Statement | None

    @property
    def sid(self) -> str | None:
        return None if self.statement is None else str(self.statement["Sid"])


def missing_permission(scope: Scope, account_id: str, message: str, *, kind: Role | None = None) -> Missing | None:
    """Return which statement of which role a refused call belongs to; None if the message names no action.

    ``message``: AWS's message. ``kind``: the role that made the call; default: the one that goldenami uses in this
    account.
    """
    access = refused_access(message)
    if access is None:
        return None
    action, resource = access
    if kind is None:
        home = account_id == scope.environment.home.id
        kind = Role.CALLER if action == "sts:AssumeRole" else Role.BUILDER if home else Role.PUBLISHER
    for one in role_policies(scope, kind):
        if one.account.id == account_id or kind is Role.CALLER:
            matching = [s for s in one.statements if action in _list(s["Action"])]
            exact = [s for s in matching if any(_matches(p, resource) for p in _list(s["Resource"]))]
            statement = next(iter(exact or matching), None)
            return Missing(kind, one.account, action, resource, statement)
    return None


def _list(value: Any) -> list[str]:
    return [value] if isinstance(value, str) else list(value)


def _matches(pattern: str, resource: str) -> bool:
    text = re.escape(pattern).replace(r"\*", ".*")
    return bool(resource) and re.fullmatch(text, resource) is not None


# --- probes -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Probe:
    """A way to find out whether a role has the permissions of a statement, without changing anything: parameters of
    iam:SimulatePrincipalPolicy.

    The simulation evaluates the identity policies and boundaries of a principal, but not policies of keys and buckets,
    and not those of a session. ``context``: the ContextEntries with which the statement's conditions hold.
    """

    sid: str
    actions: tuple[str, ...]
    resources: tuple[str, ...]
    context: tuple[Mapping[str, Any], ...]


def probes(scope: Scope, kind: Role, account: Account, jobs: Collection[Job] | None = None) -> list[Probe]:
    """Return a probe for each statement of a role. Where a statement has a wildcard in an ARN, the probe has an example
    resource. ``jobs``: only the parts of statements that these jobs need."""
    every = _statements_of(scope, kind, account)
    if jobs is None:
        parts = [(str(statement["Sid"]), statement) for statement in every]
    else:
        needed = _statements_of(replace(scope, jobs=frozenset(jobs)), kind, account)
        wholes = [_Whole(one, {*_list(one["Action"])}, {*_list(one["Resource"])}, _keys_of(one)) for one in every]
        parts = [(str(one.statement["Sid"]), common) for part in needed for one, common in _common(wholes, part)]
    return [
        Probe(
            sid,
            tuple(_list(statement["Action"])),
            tuple(_example(arn, scope.environment.home_region) for arn in _list(statement["Resource"])),
            tuple(_context(statement.get("Condition", {}))),
        )
        for sid, statement in parts
    ]


class _Whole(NamedTuple):
    """A statement, and what it has."""

    statement: Statement
    actions: set[str]
    resources: set[str]
    keys: set[str]


def _common(wholes: Iterable[_Whole], part: Statement) -> Iterator[tuple[_Whole, Statement]]:
    """Yield what statements give of a smaller one, each with its statement, unless it gives nothing of it."""
    wanted, resources, keys = _list(part["Action"]), _list(part["Resource"]), _keys_of(part)
    for whole in wholes:
        if whole.actions.isdisjoint(wanted) or whole.resources.isdisjoint(resources) or not whole.keys <= keys:
            continue
        given = [action for action in wanted if action in whole.actions]
        yield whole, {**part, "Action": given, "Resource": [arn for arn in resources if arn in whole.resources]}


def _keys_of(statement: Statement) -> set[str]:
    return {key for entries in statement.get("Condition", {}).values() for key in entries}


def _example(arn: str, region: str) -> str:
    if arn == "*":
        return arn
    parts = arn.split(":", 5)
    parts[3] = region if parts[3] == "*" else parts[3]
    return ":".join(parts).replace("/*", "/example")


def _context(conditions: Mapping[str, Mapping[str, Any]]) -> Iterator[dict[str, Any]]:
    """Yield the values with which the conditions hold."""
    for operator, entries in conditions.items():
        for key, wanted in entries.items():
            if operator == "Null":
                yield {"ContextKeyName": key, "ContextKeyType": "string", "ContextKeyValues": ["example"]}
                continue
            values = ["example" if value == "*" else value for value in _list(wanted)]
            kind = "boolean" if operator == "Bool" else "string"
            if operator.startswith("For"):
                yield {"ContextKeyName": key, "ContextKeyType": "stringList", "ContextKeyValues": values}
            else:
                yield {"ContextKeyName": key, "ContextKeyType": kind, "ContextKeyValues": values[:1]}
