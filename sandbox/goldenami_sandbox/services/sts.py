"""STS with permissions: a role must exist and trust the caller, sessions expire, and callers have real identities.

AssumeRoleWithWebIdentity takes tokens of OpenID Connect providers that the account has in IAM. The signatures of tokens
are not checked: the providers of tests publish no keys.
"""

from __future__ import annotations

import base64
import json
import re
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, TypeVar
from xml.sax.saxutils import escape

from goldenami_sandbox.authorization import decode_message, default_document
from goldenami_sandbox.credentials import Identity, Session
from goldenami_sandbox.http import Response
from goldenami_sandbox.policy import Access, Decision, admits_federated, decide_resource
from goldenami_sandbox.protocol import Call, xml_response
from goldenami_sandbox.services import Service, service
from goldenami_sandbox.surface import Surface

_NAMESPACE = "https://sts.amazonaws.com/doc/2011-06-15/"
_ROLE_ARN = re.compile(r"arn:aws:iam::(\d{12}):role/([\w+=,.@/-]+)")
_SESSION_NAME = re.compile(r"[\w+=,.@-]{2,64}")

_C = TypeVar("_C")


class _Refusal(Exception):
    def __init__(self, code: str, message: str, status: int = 400) -> None:
        super().__init__(message)
        self.code, self.message, self.status = code, message, status


@service("sts")
class Sts(Service):
    def serve(self, call: Call, identity: Identity) -> Response | None:
        """Return the answer, or None for the actions that moto answers."""
        actions = {
            "GetCallerIdentity": self._caller_identity,
            "AssumeRole": self._assume_role,
            "AssumeRoleWithWebIdentity": self._with_web_identity,
            "GetSessionToken": self._session_token,
            "DecodeAuthorizationMessage": self._decode,
        }
        action = actions.get(call.action)
        if action is None:
            return None
        try:
            return xml_response(call.action, _NAMESPACE, action(call, identity), call.request_id)
        except _Refusal as refusal:
            return call.error(refusal.code, refusal.message, refusal.status)

    def _caller_identity(self, _: Call, identity: Identity) -> str:
        return _xml({"UserId": identity.user_id, "Account": identity.account, "Arn": identity.arn})

    def _assume_role(self, call: Call, identity: Identity) -> str:
        account, arn, name = _asked(call)
        context = {"sts:RoleSessionName": name}
        if external := call.form.get("ExternalId"):
            context["sts:ExternalId"] = external
        # As on AWS, the error is the same if the role does not exist and if it does not trust the caller.
        role = self._role(account, arn)
        if role is None or not self._may_assume(role, identity, context):
            raise _Refusal(
                "AccessDenied",
                f"User: {identity.arn} is not authorized to perform: sts:AssumeRole on resource: {arn}",
                403,
            )
        seconds = _seconds(call, 3600, most=43200)
        if ":assumed-role/" in identity.arn and seconds > 3600:
            raise _Refusal(
                "ValidationError",
                "The requested DurationSeconds exceeds the 1 hour session limit for roles assumed by role chaining",
            )
        return _xml(self._opened(call, role, account, name, seconds))

    def _with_web_identity(self, call: Call, _: Identity) -> str:
        account, arn, name = _asked(call)
        call.account = account
        claims = _claims(call.form.get("WebIdentityToken", ""))
        issuer, subject = _claim(claims, "iss", str), _claim(claims, "sub", str)
        audiences = [claims["aud"]] if isinstance(claims.get("aud"), str) else _claim(claims, "aud", list)
        issued, ends = _claim(claims, "iat", int), _claim(claims, "exp", int)
        begins = max(issued, _claim(claims, "nbf", int) if "nbf" in claims else issued)
        host = issuer.removeprefix("https://")
        provider = f"arn:aws:iam::{account}:oidc-provider/{host}"
        known = self._clients_of(account, provider)
        if known is None:
            raise _Refusal("InvalidIdentityToken", f"No OpenIDConnect provider found in your account for {issuer}")
        audience = next((one for one in audiences if one in known), None)
        if audience is None:
            raise _Refusal("InvalidIdentityToken", "Incorrect token audience")
        now = int(time.time())  # the provider's time, not the cloud's
        if begins > now:
            raise _Refusal("InvalidIdentityToken", f"Token is not valid before {begins}: current date/time is {now}")
        if now >= ends:
            raise _Refusal(
                "ExpiredTokenException",
                f"Token expired: current date/time {now} must be before the expiration date/time {ends}",
            )
        context = {f"{host}:aud": audience, f"{host}:sub": subject, "sts:RoleSessionName": name}
        role = self._role(account, arn)
        action = "sts:AssumeRoleWithWebIdentity"
        if role is None or not admits_federated(role.assume_role_policy_document, action, provider, context):
            raise _Refusal("AccessDenied", f"Not authorized to perform {action}", 403)
        opened = self._opened(call, role, account, name, _seconds(call, 3600, most=43200))
        told = {"SubjectFromWebIdentityToken": subject, "Audience": audience, "Provider": provider}
        return _xml({**opened, **told})

    def _opened(self, call: Call, role: Any, account: str, name: str, seconds: int) -> dict[str, Any]:
        """Open a session of a role. Return the members of the answer."""
        if seconds > int(role.max_session_duration or 3600):
            raise _Refusal(
                "ValidationError", "The requested DurationSeconds exceeds the MaxSessionDuration set for this role."
            )
        policies = _session_policies(self.world.surface, account, call)
        session_arn = f"arn:aws:sts::{account}:assumed-role/{role.name}/{name}"
        session = self.world.credentials.open_session(account, session_arn, f"{role.id}:{name}", seconds, policies)
        return {
            "AssumedRoleUser": {"AssumedRoleId": session.user_id, "Arn": session.arn},
            "Credentials": _credentials(session),
            "PackedPolicySize": "6",
        }

    def _may_assume(self, role: Any, identity: Identity, context: Mapping[str, str]) -> bool:
        """Return whether the role trusts the caller and the caller's policies allow it. A trust policy that names the
        caller itself is enough within one account.
        """
        trusts, itself = decide_resource(role.assume_role_policy_document, "sts:AssumeRole", identity.caller, context)
        if trusts is not Decision.ALLOWED:
            return False
        authorization = self.world.authorization
        if not authorization.enforcing:
            return True
        access = Access("sts:AssumeRole", role.arn, {key.lower(): value for key, value in context.items()})
        decision = authorization.decide(identity.caller, access, identity.session_policies)
        same = role.account_id == identity.account
        return decision is Decision.ALLOWED or (itself and same and decision is Decision.NEITHER)

    def _decode(self, call: Call, _: Identity) -> str:
        message = decode_message(call.form.get("EncodedMessage", ""))
        if message is None:
            raise _Refusal("InvalidAuthorizationMessageException", "Message is not valid")
        return _xml({"DecodedMessage": message})

    def _session_token(self, call: Call, identity: Identity) -> str:
        if call.token is not None:
            raise _Refusal("AccessDenied", "Cannot call GetSessionToken with session credentials", 403)
        session = self.world.credentials.open_session(
            identity.account, identity.arn, identity.user_id, _seconds(call, 43200), identity.session_policies
        )
        return _xml({"Credentials": _credentials(session)})

    def _clients_of(self, account: str, provider: str) -> list[str] | None:
        """Return the audiences of an OpenID Connect provider; None if the account does not have it."""
        with self.world.surface.active():
            known = self.world.surface.backend("iam", account, "aws").open_id_providers.get(provider)
            return None if known is None else [str(one) for one in known.client_id_list]

    def _role(self, account: str, arn: str) -> Any:
        with self.world.surface.active():
            backend = self.world.surface.backend("iam", account, "aws")
            return next((role for role in backend.roles.values() if role.arn == arn), None)


def _asked(call: Call) -> tuple[str, str, str]:
    """Return the account and the ARN of the role that a call asks for, and the name of the session."""
    arn, name = call.form.get("RoleArn", ""), call.form.get("RoleSessionName", "")
    if not _SESSION_NAME.fullmatch(name):
        raise _Refusal(
            "ValidationError",
            f"1 validation error detected: Value '{name}' at 'roleSessionName' failed to satisfy constraint: "
            "Member must satisfy regular expression pattern: [\\w+=,.@-]*, with 2 to 64 characters",
        )
    match = _ROLE_ARN.fullmatch(arn)
    if match is None:
        raise _Refusal("ValidationError", f"{arn} is invalid")
    return match.group(1), arn, name


def _claims(token: str) -> dict[str, Any]:
    """Return what a JSON Web Token says."""
    try:
        _, payload, _ = token.split(".")
        claims = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
        if isinstance(claims, dict):
            return claims
    except ValueError:
        pass
    raise _Refusal("InvalidIdentityToken", "The ID Token provided is not a valid JWT.")


def _claim(claims: Mapping[str, Any], name: str, kind: type[_C]) -> _C:
    """Return a claim that a token must have."""
    value = claims.get(name)
    if value is None or value == "":
        raise _Refusal("InvalidIdentityToken", f"Missing a required claim: {name}")
    if not isinstance(value, kind) or isinstance(value, bool):
        raise _Refusal("InvalidIdentityToken", f"The claim {name} of the token has a wrong type")
    return value


def _session_policies(surface: Surface, account: str, call: Call) -> list[str]:
    """Return the documents that limit a new session: the parameter Policy, and the managed policies of PolicyArns."""
    found = [call.form["Policy"]] if call.form.get("Policy") else []
    arns = [value for name, value in call.form.items() if name.startswith("PolicyArns.member.")]
    with surface.active():
        iam = surface.backend("iam", account, "aws")
        for arn in arns:
            policy = next((one for one in iam.managed_policies.values() if one.arn == arn), None)
            if policy is None:
                raise _Refusal("NoSuchEntity", f"Policy {arn} does not exist or is not attachable.", 404)
            found.append(default_document(policy))
    for text in found:
        try:
            json.loads(text)
        except ValueError:
            raise _Refusal("MalformedPolicyDocument", "The session policy is not valid JSON.") from None
    return found


def _seconds(call: Call, default: int, most: int = 129600) -> int:
    text = call.form.get("DurationSeconds", str(default))
    if not text.isdigit() or not 900 <= int(text) <= most:
        too_long = text.isdigit() and int(text) > most
        bound = f"less than or equal to {most}" if too_long else "greater than or equal to 900"
        raise _Refusal(
            "ValidationError",
            f"1 validation error detected: Value '{text}' at 'durationSeconds' failed to satisfy constraint: "
            f"Member must have value {bound}",
        )
    return int(text)


def _credentials(session: Session) -> dict[str, str]:
    return {
        "AccessKeyId": session.access_key_id,
        "SecretAccessKey": session.secret_access_key,
        "SessionToken": session.session_token,
        "Expiration": datetime.fromtimestamp(session.expires, UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
    }


def _xml(value: Mapping[str, Any]) -> str:
    return "".join(
        f"<{name}>{_xml(item) if isinstance(item, Mapping) else escape(str(item))}</{name}>"
        for name, item in value.items()
    )
