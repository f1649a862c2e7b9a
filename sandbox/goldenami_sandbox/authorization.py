"""Evaluates every call against the identity policies of its caller, if the settings say so (``enforce_policies``).

A call is allowed if the caller's policies allow each of its needs (``access``) and none denies one. These are the
inline and attached policies of the user (and of the user's groups) or role, limited by the permissions boundary and by
the policies of the session. (IAM user guide, "Policy evaluation logic".) Without the setting, every principal has full
rights within its account.

EC2 finds a named resource before it evaluates tags. So a call for a resource that does not exist gets "not found" if
the policies allow the action under some condition.
"""

from __future__ import annotations

import base64
import json
import threading
import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from goldenami_sandbox import access as accesses
from goldenami_sandbox.access import Need
from goldenami_sandbox.credentials import Credentials, Identity
from goldenami_sandbox.ec2.context import Found
from goldenami_sandbox.ec2.service import Ec2
from goldenami_sandbox.http import Response
from goldenami_sandbox.policy import Access, Caller, Decision, Facts, could_allow, decide_all, names_service
from goldenami_sandbox.protocol import Call
from goldenami_sandbox.settings import Settings
from goldenami_sandbox.surface import Surface


class Use(NamedTuple):
    """A permission that was used. ``principal``: the ARN of a user or a role."""

    principal: str
    action: str
    resource: str


@dataclass(frozen=True, slots=True)
class _Policies:
    """The documents of a principal. ``boundary``: None without a permissions boundary."""

    identity: tuple[str, ...]
    boundary: tuple[str, ...] | None = None


class Authorization:
    """Decides about calls. ``used`` has every permission that was evaluated and allowed, since the policies are
    enforced.
    """

    def __init__(self, surface: Surface, ec2: Ec2, credentials: Credentials, settings: Callable[[], Settings]) -> None:
        self._surface = surface
        self._ec2 = ec2
        self._credentials = credentials
        self._settings = settings
        self._guard = threading.Lock()
        self.used: set[Use] = set()

    @property
    def enforcing(self) -> bool:
        return self._settings().enforce_policies

    # --- calls --------------------------------------------------------------------------------------------------------

    def refuse(self, call: Call, identity: Identity) -> Response | None:
        """Return the error for a call that the caller may not make, or None."""
        if not self.enforcing:
            return None
        for need in accesses.needs(call, self._look(call.account), self._role_in(call.account)):
            decision = self._decide_need(need, identity.caller, identity.session_policies)
            if decision is not Decision.ALLOWED:
                return self._denied(call, identity, need.access, decision)
        return None

    def after(self, call: Call, identity: Identity, response: Response) -> Response:
        """Return the response that the caller may see: S3 reports a missing object as forbidden to callers that may
        not list the bucket.
        """
        if not self.enforcing or call.service != "s3" or response.status != 404 or "Object" not in call.action:
            return response
        access = accesses.list_bucket(call)
        decision = self._decide_need(Need(access), identity.caller, identity.session_policies)
        return response if decision is Decision.ALLOWED else self._denied(call, identity, access, decision)

    def decide(self, caller: Caller, access: Access, session: Iterable[str] | None = None) -> Decision:
        """Evaluate one access by the identity policies of a caller. ``session``: the session's policies; None: those
        of the newest session with the caller's ARN. A service that acts for the account has all rights.
        """
        if caller.arn is None or caller.arn.endswith(":root"):
            return Decision.ALLOWED
        limited = tuple(self._credentials.session_policies(caller.arn) if session is None else session)
        decision = self.simulate(caller, access, limited)
        if decision is Decision.ALLOWED:
            with self._guard:
                self.used.add(Use(caller.arns[-1], access.action, access.resource))
        return decision

    def simulate(self, caller: Caller, access: Access, session: tuple[str, ...] = ()) -> Decision:
        """Evaluate one access by the identity policies of a user or role, without an effect on ``used``."""
        return self.simulate_all(caller, [access.action], [access.resource], access.facts, session)[0]

    def simulate_all(
        self,
        caller: Caller,
        actions: Sequence[str],
        resources: Sequence[str],
        facts: Facts,
        session: tuple[str, ...] = (),
    ) -> list[Decision]:
        """Evaluate each action on each resource: all resources of the first action, then all of the second one."""
        policies = self._policies(caller)
        decisions = list(decide_all(policies.identity, actions, resources, facts, caller))
        limits = [policies.boundary] if policies.boundary is not None else []
        for limit in [*limits, *([session] if session else [])]:
            every = zip(decisions, decide_all(limit, actions, resources, facts, caller), strict=True)
            decisions = [
                own if own is Decision.DENIED or (own is Decision.NEITHER and before is Decision.ALLOWED) else before
                for before, own in every
            ]
        return decisions

    def _decide_need(self, need: Need, caller: Caller, session: Iterable[str]) -> Decision:
        decision = self.decide(caller, need.access, session)
        if (
            need.missing
            and decision is Decision.NEITHER
            and could_allow(self._policies(caller).identity, need.access, caller)
        ):
            return Decision.ALLOWED
        return decision

    # --- roles of services --------------------------------------------------------------------------------------------

    def refusal_of_service(
        self, service: str, role: str, action: str, params: Mapping[str, Any], region: str
    ) -> str | None:
        """Return why a service cannot make a call of EC2 with a role, or None. The role must exist, trust the service
        ("dlm.amazonaws.com"), and allow the call. ``params``: with the names of boto3.
        """
        if not self.enforcing:
            return None
        account, name = role.split(":")[4] if role.count(":") >= 5 else "", role.rpartition("/")[2]
        with self._surface.active():
            known = self._role(account, name)
            if known is None or known.arn != role:
                return f"The role {role} does not exist."
            if not names_service(known.assume_role_policy_document, "sts:AssumeRole", service):
                return f"The role {role} does not trust {service}."
        caller = Caller(account, role)
        for need in accesses.ec2_needs(action, params, account, region, self._look(account), self._role_in(account)):
            if self._decide_need(need, caller, ()) is not Decision.ALLOWED:
                access = need.access
                return f"The role {role} is not authorized to perform: {access.action} on resource: {access.resource}"
        return None

    # --- lookups ------------------------------------------------------------------------------------------------------

    def _policies(self, caller: Caller) -> _Policies:
        """Return the documents of the user or role of a caller; none if it does not exist any more."""
        arn = caller.arns[-1]
        kind, _, name = arn.split(":", 5)[-1].partition("/")
        name = name.rpartition("/")[2]
        with self._surface.active():
            iam = self._surface.backend("iam", caller.account, "aws")
            if kind == "role":
                holders = [role] if (role := self._role(caller.account, name)) is not None else []
            else:
                user = iam.users.get(name)
                groups = [group for group in iam.groups.values() if any(one is user for one in group.users)]
                holders = [user, *groups] if user is not None else []
            documents = tuple(text for holder in holders for text in _documents(holder))
            boundary = getattr(holders[0], "permissions_boundary_arn", None) if holders else None
            limit = None
            if boundary:
                limit = (default_document(iam.get_policy(boundary)),)
        return _Policies(documents, limit)

    def _role(self, account: str, name: str) -> Any:
        roles = self._surface.backend("iam", account, "aws").roles.values()
        return next((role for role in roles if role.name == name), None)

    def _role_in(self, account: str) -> Callable[[str], str | None]:
        def role(profile: str) -> str | None:
            with self._surface.active():
                for one in self._surface.backend("iam", account, "aws").instance_profiles.values():
                    if profile in (one.name, one.arn) and one.roles:
                        return str(one.roles[0].arn)
            return None

        return role

    def _look(self, account: str) -> accesses.Look:
        return lambda region, kind, id: self._found(account, region, kind, id)

    def _found(self, account: str, region: str, kind: str, id: str) -> Found | None:
        """Return what conditions can be about a resource of EC2, or None if it does not exist in the region."""
        if self._ec2.owns(id):
            return self._ec2.facts(account, region, id)
        with self._surface.active():
            backend = self._surface.backend("ec2", account, region)
            if kind == "key-pair":
                pair = next((p for p in backend.key_pairs.values() if id in (p.key_name, p.id)), None)
                id = pair.id if pair is not None else ""
            known: Any = None
            match kind:
                case "security-group":
                    known = backend.get_security_group_from_id(id)
                case "subnet":
                    known = next((zone[id] for zone in backend.subnets.values() if id in zone), None)
                case "vpc":
                    known = backend.vpcs.get(id)
                case "key-pair":
                    known = id or None
                case "launch-template":
                    known = backend.launch_templates.get(id)
            if known is None:
                return None
            tags = {tag["key"]: tag["value"] or "" for tag in backend.describe_tags({"resource-id": [id]})}
            return Found(account, tags)

    # --- errors -------------------------------------------------------------------------------------------------------

    def _denied(self, call: Call, identity: Identity, access: Access, decision: Decision) -> Response:
        call.notes["denied"] = f"{access.action} on {access.resource}"
        why = (
            "with an explicit deny in an identity-based policy"
            if decision is Decision.DENIED
            else f"because no identity-based policy allows the {access.action} action"
        )
        text = (
            f"User: {identity.arn} is not authorized to perform: {access.action} on resource: {access.resource} {why}"
        )
        if call.service == "ec2":
            encoded = encode_message(identity.arn, access, explicit=decision is Decision.DENIED)
            message = (
                f"You are not authorized to perform this operation. {text}. "
                f"Encoded authorization failure message: {encoded}"
            )
            return call.error("UnauthorizedOperation", message, 403)
        if call.protocol in ("json", "rest-json"):
            return call.error("AccessDeniedException", text, 400 if call.protocol == "json" else 403)
        return call.error("AccessDenied", text, 403)


def encode_message(principal: str, access: Access, *, explicit: bool) -> str:
    """Return the encoded message of a refused call of EC2, for sts:DecodeAuthorizationMessage."""
    conditions = [
        {"key": key, "values": {"items": [{"value": one} for one in ([value] if isinstance(value, str) else value)]}}
        for key, value in sorted(access.facts.items())
    ]
    message = {
        "allowed": False,
        "explicitDeny": explicit,
        "matchedStatements": {"items": []},
        "failures": {"items": []},
        "context": {
            "principal": {"arn": principal},
            "action": access.action,
            "resource": access.resource,
            "conditions": {"items": conditions},
        },
    }
    return base64.urlsafe_b64encode(zlib.compress(json.dumps(message).encode())).decode().rstrip("=")


def decode_message(encoded: str) -> str | None:
    """Return the JSON text in an encoded message, or None if it is none."""
    try:
        data = base64.urlsafe_b64decode(encoded + "=" * (-len(encoded) % 4))
        return zlib.decompress(data).decode()
    except (ValueError, zlib.error):
        return None


def _documents(holder: Any) -> Iterable[str]:
    """Yield the inline and attached policies of a user, group or role of moto."""
    yield from holder.policies.values()
    for policy in holder.managed_policies.values():
        yield default_document(policy)


def default_document(policy: Any) -> str:
    """Return the text of the default version of a managed policy of moto."""
    documents: Mapping[bool, str] = {version.is_default: version.document for version in policy.versions}
    document: Any = documents.get(True, "")
    return document if isinstance(document, str) else json.dumps(document)
