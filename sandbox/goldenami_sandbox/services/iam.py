"""IAM's simulator of policies, which moto does not have. moto does the rest of IAM.

As on AWS, the simulation evaluates identity policies and the permissions boundary of a user or role with the given
context. It does not look at resources, their policies, or sessions.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any
from xml.sax.saxutils import escape

from goldenami_sandbox.credentials import Identity
from goldenami_sandbox.http import Response
from goldenami_sandbox.policy import Caller, Decision
from goldenami_sandbox.protocol import Call, xml_response
from goldenami_sandbox.services import Service, service

_NAMESPACE = "https://iam.amazonaws.com/doc/2010-05-08/"
_NAMES = {Decision.ALLOWED: "allowed", Decision.DENIED: "explicitDeny", Decision.NEITHER: "implicitDeny"}


@service("iam")
class Iam(Service):
    def serve(self, call: Call, identity: Identity) -> Response | None:
        """Return the answer to SimulatePrincipalPolicy, or None for the actions that moto answers."""
        if call.action != "SimulatePrincipalPolicy":
            return None
        source = call.form.get("PolicySourceArn", "")
        parts = source.split(":", 5)
        if len(parts) != 6 or not self._exists(parts[4], parts[5]):
            return call.error("NoSuchEntity", f"The principal {source} cannot be found.", 404)
        caller = Caller(parts[4], source)
        actions, resources = _members(call.form, "ActionNames"), _members(call.form, "ResourceArns") or ["*"]
        decisions = self.world.authorization.simulate_all(caller, actions, resources, dict(_context(call.form)))
        results = [
            {"EvalActionName": action, "EvalResourceName": resource, "EvalDecision": _NAMES[decision]}
            for (action, resource), decision in zip(itertools.product(actions, resources), decisions, strict=True)
        ]
        if not call.wire and "Marker" not in call.form and len(results) <= int(call.form.get("MaxItems", len(results))):
            every: list[dict[str, Any]] = [
                {**one, "MissingContextValues": [], "MatchedStatements": []} for one in results
            ]
            return Response(200, b"", answer={"IsTruncated": False, "EvaluationResults": every})
        members = "".join(
            f"<member>{''.join(f'<{name}>{escape(value)}</{name}>' for name, value in one.items())}"
            "<MissingContextValues/><MatchedStatements/></member>"
            for one in results
        )
        text = f"<IsTruncated>false</IsTruncated><EvaluationResults>{members}</EvaluationResults>"
        return xml_response(call.action, _NAMESPACE, text, call.request_id)

    def _exists(self, account: str, name: str) -> bool:
        kind, _, own = name.partition("/")
        with self.world.surface.active():
            iam = self.world.surface.backend("iam", account, "aws")
            holders: Any = iam.roles.values() if kind == "role" else iam.users.values()
            return any(one.name == own.rpartition("/")[2] for one in holders)


def _members(form: dict[str, str], name: str) -> list[str]:
    """Return the values of Name.member.1, Name.member.2, …"""
    prefix = f"{name}.member."
    found = [(int(key.removeprefix(prefix)), value) for key, value in form.items() if _is_number(key, prefix)]
    return [value for _, value in sorted(found)]


def _is_number(key: str, prefix: str) -> bool:
    return key.startswith(prefix) and key.removeprefix(prefix).isdigit()


def _context(form: dict[str, str]) -> Iterator[tuple[str, str | list[str]]]:
    """Yield the condition keys of a request, in lower case, with their values."""
    number = 1
    while name := form.get(f"ContextEntries.member.{number}.ContextKeyName"):
        entry = f"ContextEntries.member.{number}"
        values = _members(form, f"{entry}.ContextKeyValues")
        several = form.get(f"{entry}.ContextKeyType", "").endswith("List")
        yield name.lower(), values if several else "".join(values[:1])
        number += 1
