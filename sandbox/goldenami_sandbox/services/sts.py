"""STS with permissions: a role must exist and trust the caller, sessions expire, and callers have real identities."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any
from xml.sax.saxutils import escape

from goldenami_sandbox.credentials import Identity, Session
from goldenami_sandbox.http import Response
from goldenami_sandbox.policy import allows
from goldenami_sandbox.protocol import Call, xml_response
from goldenami_sandbox.services import Service, service

_NAMESPACE = "https://sts.amazonaws.com/doc/2011-06-15/"
_ROLE_ARN = re.compile(r"arn:aws:iam::(\d{12}):role/([\w+=,.@/-]+)")
_SESSION_NAME = re.compile(r"[\w+=,.@-]{2,64}")


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
            "GetSessionToken": self._session_token,
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
        arn = call.form.get("RoleArn", "")
        name = call.form.get("RoleSessionName", "")
        if not _SESSION_NAME.fullmatch(name):
            raise _Refusal(
                "ValidationError",
                f"1 validation error detected: Value '{name}' at 'roleSessionName' failed to satisfy constraint: "
                "Member must satisfy regular expression pattern: [\\w+=,.@-]*, with 2 to 64 characters",
            )
        match = _ROLE_ARN.fullmatch(arn)
        if match is None:
            raise _Refusal("ValidationError", f"{arn} is invalid")
        account = match.group(1)
        context = {"sts:RoleSessionName": name}
        if external := call.form.get("ExternalId"):
            context["sts:ExternalId"] = external
        # As on AWS, the error is the same if the role does not exist and if it does not trust the caller.
        role = self._role(account, arn)
        if role is None or not allows(role.assume_role_policy_document, "sts:AssumeRole", identity.caller, context):
            raise _Refusal(
                "AccessDenied",
                f"User: {identity.arn} is not authorized to perform: sts:AssumeRole on resource: {arn}",
                403,
            )
        limit = int(role.max_session_duration or 3600)
        if ":assumed-role/" in identity.arn:
            limit = min(limit, 3600)  # role chaining
        seconds = _seconds(call, 3600)
        if seconds > limit:
            raise _Refusal(
                "ValidationError", "The requested DurationSeconds exceeds the MaxSessionDuration set for this role."
            )
        session_arn = f"arn:aws:sts::{account}:assumed-role/{role.name}/{name}"
        session = self.world.credentials.open_session(account, session_arn, f"{role.id}:{name}", seconds)
        return _xml(
            {
                "AssumedRoleUser": {"AssumedRoleId": session.user_id, "Arn": session.arn},
                "Credentials": _credentials(session),
                "PackedPolicySize": "6",
            }
        )

    def _session_token(self, call: Call, identity: Identity) -> str:
        if call.token is not None:
            raise _Refusal("AccessDenied", "Cannot call GetSessionToken with session credentials", 403)
        session = self.world.credentials.open_session(
            identity.account, identity.arn, identity.user_id, _seconds(call, 43200)
        )
        return _xml({"Credentials": _credentials(session)})

    def _role(self, account: str, arn: str) -> Any:
        with self.world.surface.active():
            backend = self.world.surface.backend("iam", account, "aws")
            return next((role for role in backend.roles.values() if role.arn == arn), None)


def _seconds(call: Call, default: int) -> int:
    text = call.form.get("DurationSeconds", str(default))
    if not text.isdigit() or not 900 <= int(text) <= 129600:
        raise _Refusal(
            "ValidationError",
            f"1 validation error detected: Value '{text}' at 'durationSeconds' failed to satisfy constraint: "
            "Member must have value greater than or equal to 900",
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
