"""Amazon Data Lifecycle Manager: its API. ``dlm_runs`` runs the policies on the sandbox's clock.

It supports custom snapshot and image policies, and refuses default and event-based ones. (Amazon DLM API reference;
"Amazon Data Lifecycle Manager quotas" for the limit.)
"""

from __future__ import annotations

import itertools
import secrets
import threading
from collections.abc import Mapping
from copy import deepcopy
from dataclasses import asdict, dataclass, field
from datetime import UTC, date, datetime, timedelta
from typing import Any, Final

from goldenami_sandbox.http import Response
from goldenami_sandbox.protocol import Call
from goldenami_sandbox.services import World, dlm_runs, service
from goldenami_sandbox.services.cron import BadCron, Cron
from goldenami_sandbox.services.modelled import Action, Modelled, Refused
from goldenami_sandbox.surface import Unsupported

MOST_POLICIES: Final = 100  # for an account and region
_HOURS: Final = (1, 2, 3, 4, 6, 8, 12, 24)


@dataclass(slots=True)
class Policy:
    """A lifecycle policy. ``details``: PolicyDetails of the request. Times are seconds since the epoch.

    ``ran``: all runs up to this time are done. ``copies``: snapshots that are copied after they are completed.
    """

    id: str
    account: str
    region: str
    description: str
    state: str
    role: str
    details: dict[str, Any]
    tags: dict[str, str]
    created: float
    modified: float
    ran: float
    message: str = ""
    copies: list[dict[str, Any]] = field(default_factory=list)

    @property
    def arn(self) -> str:
        return f"arn:aws:dlm:{self.region}:{self.account}:policy/{self.id}"

    @property
    def kind(self) -> str:
        return str(self.details.get("PolicyType", "EBS_SNAPSHOT_MANAGEMENT"))


@service("dlm")
class Dlm(Modelled):
    """The service: its calls, and the runs that are due."""

    invalid = "InvalidRequestException"

    def __init__(self, world: World) -> None:
        super().__init__(world)
        self._guard = threading.RLock()
        self._policies: dict[str, Policy] = {}

    def settle(self) -> None:
        """Run the schedules that are due."""
        if not self._policies:
            return
        with self._guard:
            for policy in self._policies.values():
                dlm_runs.run(self.world.ec2, policy, self.world.clock(), self._permit)

    def _permit(self, role: str, action: str, params: Mapping[str, Any], region: str) -> str | None:
        return self.world.authorization.refusal_of_service("dlm.amazonaws.com", role, action, params, region)

    def actions(self) -> Mapping[str, Action]:
        return {
            "CreateLifecyclePolicy": self._create,
            "GetLifecyclePolicies": self._list,
            "GetLifecyclePolicy": self._get,
            "UpdateLifecyclePolicy": self._update,
            "DeleteLifecyclePolicy": self._delete,
            "TagResource": self._tag,
            "UntagResource": self._untag,
            "ListTagsForResource": self._tags,
        }

    def perform(self, action: Action, call: Call, params: dict[str, Any]) -> Mapping[str, Any] | Response:
        with self._guard:
            return action(call, params)

    # --- the actions --------------------------------------------------------------------------------------------------

    def _create(self, call: Call, params: dict[str, Any]) -> dict[str, Any]:
        if "DefaultPolicy" in params:
            raise Unsupported("the sandbox does not have default policies of dlm")
        details = params.get("PolicyDetails", {})
        _check(details)
        if len(self._policies_of_caller(call)) >= MOST_POLICIES:
            raise Refused("LimitExceededException", f"There are {MOST_POLICIES} lifecycle policies already.", 429)
        now = self.world.clock()
        id = f"policy-{secrets.token_hex(9)[:17]}"
        self._policies[id] = Policy(
            id, call.account, call.region, params["Description"], params["State"], params["ExecutionRoleArn"], details,
            dict(params.get("Tags", {})), now, now, now,
        )  # fmt: skip
        return {"PolicyId": id}

    def _list(self, call: Call, params: dict[str, Any]) -> dict[str, Any]:
        def matches(policy: Policy) -> bool:
            targets = {f"{t['Key']}={t['Value']}" for t in policy.details.get("TargetTags", ())}
            added = {
                f"{t['Key']}={t['Value']}" for s in policy.details.get("Schedules", ()) for t in s.get("TagsToAdd", ())
            }
            return (
                (not params.get("PolicyIds") or policy.id in params["PolicyIds"])
                and params.get("State", policy.state) == policy.state
                and set(params.get("ResourceTypes", ())) <= set(policy.details.get("ResourceTypes", ()))
                and set(params.get("TargetTags", ())) <= targets
                and set(params.get("TagsToAdd", ())) <= added
            )

        found = [p for p in self._policies_of_caller(call) if matches(p)]
        if missing := sorted(set(params.get("PolicyIds", ())) - {p.id for p in self._policies_of_caller(call)}):
            raise Refused("ResourceNotFoundException", f"Policy {missing[0]} does not exist.", 404)
        return {
            "Policies": [
                {
                    "PolicyId": p.id,
                    "Description": p.description,
                    "State": p.state,
                    "Tags": p.tags,
                    "PolicyType": p.kind,
                    "DefaultPolicy": False,
                }
                for p in found
            ]
        }

    def _get(self, call: Call, params: dict[str, Any]) -> dict[str, Any]:
        policy = self._require_policy(call, params["PolicyId"])
        return {
            "Policy": {
                "PolicyId": policy.id,
                "Description": policy.description,
                "State": policy.state,
                "StatusMessage": policy.message or policy.state,
                "ExecutionRoleArn": policy.role,
                "DateCreated": _iso(policy.created),
                "DateModified": _iso(policy.modified),
                "PolicyDetails": policy.details,
                "Tags": policy.tags,
                "PolicyArn": policy.arn,
                "DefaultPolicy": False,
            }
        }

    def _update(self, call: Call, params: dict[str, Any]) -> dict[str, Any]:
        policy = self._require_policy(call, params["PolicyId"])
        if "PolicyDetails" in params:
            details = params["PolicyDetails"]
            _check(details)
            _check_change(policy, details)
            policy.details = details
        policy.role = params.get("ExecutionRoleArn", policy.role)
        policy.description = params.get("Description", policy.description)
        policy.state = params.get("State", policy.state)
        policy.modified = self.world.clock()
        return {}

    def _delete(self, call: Call, params: dict[str, Any]) -> dict[str, Any]:
        """Delete a policy. Its snapshots and images are kept, and no policy manages them from then on."""
        del self._policies[self._require_policy(call, params["PolicyId"]).id]
        return {}

    def _tag(self, call: Call, params: dict[str, Any]) -> dict[str, Any]:
        self._by_arn(call, params).tags |= params["Tags"]
        return {}

    def _untag(self, call: Call, params: dict[str, Any]) -> dict[str, Any]:
        tags = self._by_arn(call, params).tags
        for key in params["TagKeys"]:
            tags.pop(key, None)
        return {}

    def _tags(self, call: Call, params: dict[str, Any]) -> dict[str, Any]:
        return {"Tags": self._by_arn(call, params).tags}

    # --- lookups and state --------------------------------------------------------------------------------------------

    def _policies_of_caller(self, call: Call) -> list[Policy]:
        return [p for p in self._policies.values() if (p.account, p.region) == (call.account, call.region)]

    def _require_policy(self, call: Call, id: str) -> Policy:
        found = next((p for p in self._policies_of_caller(call) if p.id == id), None)
        if found is None:
            raise Refused("ResourceNotFoundException", f"Policy {id} does not exist.", 404)
        return found

    def _by_arn(self, call: Call, params: Mapping[str, Any]) -> Policy:
        return self._require_policy(call, str(params["ResourceArn"]).rpartition("/")[2])

    def dump(self) -> list[dict[str, Any]]:
        with self._guard:
            return [asdict(p) for p in self._policies.values()]

    def load(self, state: list[dict[str, Any]]) -> None:
        with self._guard:
            self._policies = {item["id"]: Policy(**deepcopy(item)) for item in state}


# --- rules ------------------------------------------------------------------------------------------------------------


def _check(details: Mapping[str, Any]) -> None:
    """Check rules of the service that are not in botocore's model. Raises Refused."""
    kind = details.get("PolicyType", "EBS_SNAPSHOT_MANAGEMENT")
    if kind == "EVENT_BASED_POLICY" or details.get("PolicyLanguage") == "SIMPLIFIED":
        raise Unsupported(f"the sandbox does not have {kind} policies in this language")
    for name in ("ResourceTypes", "TargetTags", "Schedules"):
        if not details.get(name):
            raise Refused("InvalidRequestException", f"PolicyDetails.{name} is required.")
    if kind == "IMAGE_MANAGEMENT" and details["ResourceTypes"] != ["INSTANCE"]:
        raise Refused("InvalidRequestException", "IMAGE_MANAGEMENT policies target INSTANCE resources only.")
    names = [s.get("Name") for s in details["Schedules"]]
    if None in names or len(set(names)) != len(names):
        raise Refused("InvalidRequestException", "Each schedule needs a name of its own.")
    # "Create Amazon EBS snapshot lifecycle policies", EBS user guide; the page of AMI policies says the same.
    if len({_is_by_count(schedule) for schedule in details["Schedules"]}) > 1:
        raise Refused("InvalidRequestException", "All schedules of a policy must have the same retention type.")
    parameters = details.get("Parameters") or {}
    if "NoReboot" in parameters and kind != "IMAGE_MANAGEMENT":
        raise Refused("InvalidRequestException", "NoReboot is for AMI policies only.")
    if (parameters.get("ExcludeBootVolume") or parameters.get("ExcludeDataVolumeTags")) and (
        kind == "IMAGE_MANAGEMENT" or details["ResourceTypes"] != ["INSTANCE"]
    ):
        raise Refused("InvalidRequestException", "Volumes are excluded only from snapshots of instances.")
    for schedule in details["Schedules"]:
        _check_schedule(schedule, kind)


def _is_by_count(schedule: Mapping[str, Any]) -> bool:
    return bool((schedule.get("RetainRule") or {}).get("Count"))


def _check_change(policy: Policy, details: Mapping[str, Any]) -> None:
    """Refuse what cannot be changed ("Modify Amazon Data Lifecycle Manager policies", EBS user guide; PolicyDetails of
    UpdateLifecyclePolicy)."""
    if details.get("PolicyType", "EBS_SNAPSHOT_MANAGEMENT") != policy.kind:
        raise Refused("InvalidRequestException", "The policy type cannot be updated.")
    if details["ResourceTypes"] != policy.details["ResourceTypes"]:
        raise Refused("InvalidRequestException", "The resource type cannot be updated.")
    if _is_by_count(policy.details["Schedules"][0]) and not _is_by_count(details["Schedules"][0]):
        raise Refused("InvalidRequestException", "Retention by count cannot be changed to retention by age.")


def _check_schedule(schedule: Mapping[str, Any], kind: str) -> None:
    name = schedule["Name"]
    create, retain = schedule.get("CreateRule") or {}, schedule.get("RetainRule") or {}
    if ("Interval" in create) == ("CronExpression" in create):
        raise Refused("InvalidRequestException", f"Schedule {name}: CreateRule takes an interval or a cron expression.")
    if "Interval" in create and create["Interval"] not in _HOURS:
        raise Refused("InvalidRequestException", f"Schedule {name}: the interval must be one of {list(_HOURS)}.")
    if "CronExpression" in create:
        try:
            cron = Cron.parse(create["CronExpression"])
        except BadCron as error:
            raise Refused("InvalidRequestException", f"Schedule {name}: {error}") from error
        if len(cron.minutes) > 1 or _widest_gap(cron) > 366:
            raise Refused(
                "InvalidRequestException", f"Schedule {name}: the interval must be between 1 hour and 1 year."
            )
    archived = schedule.get("ArchiveRule") is not None
    if bool(retain.get("Count")) == bool(retain.get("Interval")) and not archived:
        raise Refused("InvalidRequestException", f"Schedule {name}: RetainRule takes a count or an interval.")
    for rule in schedule.get("CrossRegionCopyRules", ()):
        if not (rule.get("Target") or rule.get("TargetRegion")):
            raise Refused("InvalidRequestException", f"Schedule {name}: a copy rule needs its target region.")
    for rule in ("ShareRules", "FastRestoreRule", "ArchiveRule"):
        if kind == "IMAGE_MANAGEMENT" and schedule.get(rule):
            raise Refused("InvalidRequestException", f"Schedule {name}: {rule} is for snapshot policies only.")
    for rule in ("FastRestoreRule", "ArchiveRule"):
        if schedule.get(rule):
            raise Unsupported(f"the sandbox does not have {rule} of dlm")


def _widest_gap(cron: Cron) -> int:
    """Return the most days between two days of an expression, from 2001 on; of one that is for some years, 0."""
    if len(cron.years) < 230:
        return 0
    days = [day for day in (date(2001, 1, 1) + timedelta(days=n) for n in range(365 * 9)) if cron.on(day)]
    return max(((after - before).days for before, after in itertools.pairwise(days)), default=367)


def _iso(moment: float) -> str:
    return datetime.fromtimestamp(moment, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
