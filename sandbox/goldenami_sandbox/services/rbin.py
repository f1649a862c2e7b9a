"""Recycle Bin: the API of its retention rules (service ``rbin``). ``ec2/recycle_bin`` keeps the retained resources.

It supports rules for snapshots and images, by tags or for a region. It refuses locked rules and rules for volumes.
(Recycle Bin API reference.)
"""

from __future__ import annotations

import secrets
import string
from collections.abc import Mapping
from typing import Any, Final

from goldenami_sandbox.ec2.records import BinRule
from goldenami_sandbox.ec2.recycle_bin import IMAGES, SNAPSHOTS
from goldenami_sandbox.http import Response
from goldenami_sandbox.protocol import Call
from goldenami_sandbox.services import World, service
from goldenami_sandbox.services.modelled import Action, Modelled, Refused
from goldenami_sandbox.surface import Unsupported

MOST_RULES: Final = 250  # for an account and region
_LETTERS: Final = string.ascii_letters + string.digits


@service("rbin")
class RecycleBin(Modelled):
    def __init__(self, world: World) -> None:
        super().__init__(world)
        self._rules: dict[str, BinRule] = {}  # the rules of the call, while ``perform`` holds the lock

    def settle(self) -> None:
        self.world.ec2.empty_bin()

    def actions(self) -> Mapping[str, Action]:
        return {
            "CreateRule": self._create,
            "GetRule": self._get,
            "ListRules": self._list,
            "UpdateRule": self._update,
            "DeleteRule": self._delete,
            "TagResource": self._tag,
            "UntagResource": self._untag,
            "ListTagsForResource": self._tags,
        }

    def perform(self, action: Action, call: Call, params: dict[str, Any]) -> Mapping[str, Any] | Response:
        with self.world.ec2.bin_rules() as rules:
            self._rules = rules
            return action(call, params)

    # --- the actions --------------------------------------------------------------------------------------------------

    def _create(self, call: Call, params: dict[str, Any]) -> dict[str, Any]:
        if "LockConfiguration" in params:
            raise Unsupported("the sandbox does not have locked rules of rbin")
        _check(params)
        if len(self._rules_of_caller(call)) >= MOST_RULES:
            raise Refused("ServiceQuotaExceededException", f"There are {MOST_RULES} retention rules already.", 402)
        rule = BinRule(
            id="".join(secrets.choice(_LETTERS) for _ in range(11)),
            owner=call.account,
            region=call.region,
            created=self.world.clock(),
            tags={t["Key"]: t["Value"] for t in params.get("Tags", ())},
            kind=params["ResourceType"],
            days=params["RetentionPeriod"]["RetentionPeriodValue"],
            description=params.get("Description", ""),
            match=_pairs(params.get("ResourceTags", ())),
            exclude=_pairs(params.get("ExcludeResourceTags", ())),
        )
        self._rules[rule.id] = rule
        return {**_rule_facts(rule), "Tags": [{"Key": k, "Value": v} for k, v in rule.tags.items()]}

    def _get(self, call: Call, params: dict[str, Any]) -> dict[str, Any]:
        return _rule_facts(self._require_rule(call, params["Identifier"]))

    def _list(self, call: Call, params: dict[str, Any]) -> dict[str, Any]:
        found = [r for r in self._rules_of_caller(call) if r.kind == params["ResourceType"]]
        for name in ("ResourceTags", "ExcludeResourceTags"):
            wanted = _pairs(params.get(name, ()))
            found = [r for r in found if set(wanted) <= set(r.match if name == "ResourceTags" else r.exclude)]
        if params.get("LockState", "unlocked") != "unlocked":
            found = []
        start, size = _position(params.get("NextToken")), params.get("MaxResults", 1000)
        shown = ("Identifier", "Description", "RetentionPeriod", "LockState", "RuleArn")
        answer: dict[str, Any] = {
            "Rules": [{name: _rule_facts(r)[name] for name in shown} for r in found[start : start + size]]
        }
        if len(found) > start + size:
            answer["NextToken"] = str(start + size)
        return answer

    def _update(self, call: Call, params: dict[str, Any]) -> dict[str, Any]:
        """Change a rule for future deletions. Resources in the bin keep their time."""
        rule = self._require_rule(call, params["Identifier"])
        if params.get("ResourceType", rule.kind) != rule.kind:
            raise Refused("ValidationException", "The resource type of a rule cannot be changed.")
        _check({**_rule_facts(rule), **params})
        if "RetentionPeriod" in params:
            rule.days = params["RetentionPeriod"]["RetentionPeriodValue"]
        rule.description = params.get("Description", rule.description)
        if "ResourceTags" in params:
            rule.match = _pairs(params["ResourceTags"])
        if "ExcludeResourceTags" in params:
            rule.exclude = _pairs(params["ExcludeResourceTags"])
        return _rule_facts(rule)

    def _delete(self, call: Call, params: dict[str, Any]) -> dict[str, Any]:
        del self._rules[self._require_rule(call, params["Identifier"]).id]
        return {}

    def _tag(self, call: Call, params: dict[str, Any]) -> dict[str, Any]:
        self._by_arn(call, params).tags |= {t["Key"]: t["Value"] for t in params["Tags"]}
        return {}

    def _untag(self, call: Call, params: dict[str, Any]) -> dict[str, Any]:
        for key in params["TagKeys"]:
            self._by_arn(call, params).tags.pop(key, None)
        return {}

    def _tags(self, call: Call, params: dict[str, Any]) -> dict[str, Any]:
        return {"Tags": [{"Key": k, "Value": v} for k, v in self._by_arn(call, params).tags.items()]}

    # --- lookups ------------------------------------------------------------------------------------------------------

    def _rules_of_caller(self, call: Call) -> list[BinRule]:
        return [r for r in self._rules.values() if (r.owner, r.region) == (call.account, call.region)]

    def _require_rule(self, call: Call, id: str) -> BinRule:
        found = next((r for r in self._rules_of_caller(call) if r.id == id), None)
        if found is None:
            raise Refused("ResourceNotFoundException", f"Rule {id} does not exist.", 404)
        return found

    def _by_arn(self, call: Call, params: Mapping[str, Any]) -> BinRule:
        return self._require_rule(call, str(params["ResourceArn"]).rpartition("/")[2])


def _check(params: Mapping[str, Any]) -> None:
    """Check rules of the service that are not in botocore's model. Raises Refused."""
    if params["ResourceType"] not in (SNAPSHOTS, IMAGES):
        raise Unsupported(f"the sandbox does not have rules for {params['ResourceType']} of rbin")
    if params.get("ResourceTags") and params.get("ExcludeResourceTags"):
        raise Refused("ValidationException", "Exclusion tags are for rules without resource tags only.")
    if params["RetentionPeriod"]["RetentionPeriodValue"] > 365:
        raise Refused("ValidationException", "The retention period must be between 1 and 365 days.")


def _pairs(given: Any) -> list[tuple[str, str | None]]:
    return [(t["ResourceTagKey"], t.get("ResourceTagValue")) for t in given]


def _tags_of(pairs: list[tuple[str, str | None]]) -> list[dict[str, str]]:
    return [{"ResourceTagKey": k, **({"ResourceTagValue": v} if v is not None else {})} for k, v in pairs]


def _rule_facts(rule: BinRule) -> dict[str, Any]:
    return {
        "Identifier": rule.id,
        "Description": rule.description,
        "ResourceType": rule.kind,
        "RetentionPeriod": {"RetentionPeriodValue": rule.days, "RetentionPeriodUnit": "DAYS"},
        "ResourceTags": _tags_of(rule.match),
        "ExcludeResourceTags": _tags_of(rule.exclude),
        "Status": "available",
        "LockState": "unlocked",
        "RuleArn": f"arn:aws:rbin:{rule.region}:{rule.owner}:rule/{rule.id}",
    }


def _position(token: str | None) -> int:
    if token is not None and not token.isdigit():
        raise Refused("ValidationException", "The NextToken is not one of this list.")
    return int(token or 0)
