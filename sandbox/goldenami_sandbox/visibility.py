"""Eventual consistency of resources that moto keeps: for some seconds, calls do not find a new resource.

EC2's records have their own time of visibility (``ec2/core.py``). moto keeps key pairs, security groups, grants and
parameters, and shows them at once. So this module removes new ones from moto's dictionaries while a call is served that
lists, names or changes them (EC2 developer guide, "Eventual consistency"). Calls that create a resource find all of
them, because names are unique at once.

A grant has a second delay: for so long nobody can use the key by it ("Grants in AWS KMS", eventual consistency).
"""

from __future__ import annotations

import contextlib
import json
import re
import threading
from collections.abc import Callable, Iterator
from typing import Any

from goldenami_sandbox.http import Response
from goldenami_sandbox.protocol import Call
from goldenami_sandbox.settings import Settings
from goldenami_sandbox.surface import Surface

_IDS = re.compile(rb"<(?:groupId|keyPairId)>([a-z]+-[0-9a-f]+)</")
_CREATING = frozenset({"CreateKeyPair", "ImportKeyPair", "CreateSecurityGroup", "CreateGrant", "PutParameter"})
_FINDING = frozenset(
    {
        "DescribeKeyPairs",
        "DeleteKeyPair",
        "DescribeSecurityGroups",
        "DescribeSecurityGroupRules",
        "AuthorizeSecurityGroupIngress",
        "AuthorizeSecurityGroupEgress",
        "RevokeSecurityGroupIngress",
        "RevokeSecurityGroupEgress",
        "ModifySecurityGroupRules",
        "UpdateSecurityGroupRuleDescriptionsIngress",
        "UpdateSecurityGroupRuleDescriptionsEgress",
        "DeleteSecurityGroup",
        "ListGrants",
        "ListRetirableGrants",
        "RevokeGrant",
        "RetireGrant",
        "DescribeParameters",
        "GetParameter",
        "GetParameters",
        "GetParametersByPath",
        "GetParameterHistory",
        "ListTagsForResource",
        "DeleteParameter",
        "DeleteParameters",
        "LabelParameterVersion",
        "UnlabelParameterVersion",
        "AddTagsToResource",
        "RemoveTagsFromResource",
    }
)
# (kind, account or "" where the id is unique, region, id)
_Thing = tuple[str, str, str, str]


class Visibility:
    """Hides new resources, for as long as the settings say from the answer of the creating call on."""

    def __init__(self, surface: Surface, clock: Callable[[], float], settings: Callable[[], Settings]) -> None:
        self._surface = surface
        self._clock = clock
        self._settings = settings
        self._guard = threading.Lock()
        self._young: dict[_Thing, float] = {}  # until when

    def register(self, call: Call, response: Response) -> Response:
        """Register the resources of a response as new."""
        settings = self._settings()
        delay, grant_delay = settings.visibility_delay, settings.grant_delay
        if call.action in _CREATING and response.status == 200 and (delay > 0 or grant_delay > 0):
            with self._guard:
                now, created = self._clock(), _created(call, response)
                self._young |= dict.fromkeys(created, now + delay)
                self._young |= {("use", a, r, id): now + grant_delay for kind, a, r, id in created if kind == "grant"}
        return response

    def hides_tagged(self, call: Call, id: str) -> bool:
        """Return whether the resource with this id is too new for calls that list, add or delete its tags."""
        return id in self._hidden("tagged", call.account, call.region)

    def hides(self, kind: str, account: str, region: str, id: str) -> bool:
        """Return whether a "key-pair" of this name, or the "security-group" of this id, is too new for a launch."""
        return id in self._hidden(kind, account, region)

    def is_effective(self, region: str, grant_id: str) -> bool:
        """Return whether principals can use a key by this grant."""
        return grant_id not in self._hidden("use", "", region)

    @contextlib.contextmanager
    def hide_new(self, call: Call) -> Iterator[None]:
        """Let moto serve a call inside the block, without new resources. The block must not call the EC2 service."""
        if call.action not in _FINDING or not self._any_young():
            yield
            return
        place = call.account, call.region
        with self._surface.active(), contextlib.ExitStack() as stack:
            if call.service == "ec2":
                backend = self._surface.backend("ec2", call.account, call.region)
                stack.enter_context(_without(backend.key_pairs, self._hidden("key-pair", *place)))
                for groups in backend.groups.values():
                    stack.enter_context(_without(groups, self._hidden("security-group", *place)))
            elif call.service == "kms":
                for key in self._keys(call.region):
                    stack.enter_context(_without(key.grants, self._hidden("grant", *place)))
            elif call.service == "ssm":
                parameters = self._surface.backend("ssm", call.account, call.region)._parameters
                for put in self._hidden("parameter", *place):
                    name, _, version = put.rpartition(":")
                    stack.enter_context(_without_versions(parameters, name, int(version)))
            yield

    def _any_young(self) -> bool:
        with self._guard:
            now = self._clock()
            self._young = {thing: until for thing, until in self._young.items() if until > now}
            return bool(self._young)

    def _hidden(self, kind: str, account: str, region: str) -> list[str]:
        now = self._clock()
        with self._guard:
            return [
                id
                for (young, owner, where, id), until in self._young.items()
                if young == kind and owner in ("", account) and where == region and until > now
            ]

    def _keys(self, region: str) -> list[Any]:
        from moto.kms.models import kms_backends

        found = [regions[region] for regions in list(kms_backends.values()) if region in regions.keys()]  # noqa: SIM118
        return [key for backend in found for key in backend.keys.values()]


def _created(call: Call, response: Response) -> list[_Thing]:
    """Return what the call created. A ``tagged`` entry stands for the resource in lists of tags."""
    tagged = [("tagged", call.account, call.region, found.group(1).decode()) for found in _IDS.finditer(response.body)]
    match call.action:
        case "CreateKeyPair" | "ImportKeyPair":
            return [*tagged, ("key-pair", call.account, call.region, call.form.get("KeyName", ""))]
        case "CreateSecurityGroup":
            return [*tagged, *(("security-group", "", region, id) for _, _, region, id in tagged)]
        case "CreateGrant":
            return [("grant", "", call.region, str(json.loads(response.body)["GrantId"]))]
    version = json.loads(response.body)["Version"]
    return [("parameter", call.account, call.region, f"{call.json.get('Name', '')}:{version}")]


@contextlib.contextmanager
def _without(table: Any, names: list[str]) -> Iterator[None]:
    taken = {name: table.pop(name) for name in names if name in table}
    try:
        yield
    finally:
        table.update(taken)


@contextlib.contextmanager
def _without_versions(parameters: Any, name: str, first: int) -> Iterator[None]:
    """Hide the versions of a parameter from ``first`` on, until the block ends. Without older versions, hide the
    parameter. If the block deletes the parameter, all its versions stay deleted.
    """
    name = parameters.normalize_name(name)
    versions = dict.get(parameters, name)
    if not versions or versions[-1].version < first:
        yield
        return
    older = [version for version in versions if version.version < first]
    if older:
        dict.__setitem__(parameters, name, older)
    else:
        dict.pop(parameters, name)
    try:
        yield
    finally:
        if not older or dict.__contains__(parameters, name):
            dict.__setitem__(parameters, name, versions)
