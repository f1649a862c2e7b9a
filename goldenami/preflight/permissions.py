"""Check of the identity policies: which statements the roles of the environment lack."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from goldenami.aws.calls import Job, Role
from goldenami.aws.policies import Probe, Scope, accounts_of, probes
from goldenami.aws.session import Cloud
from goldenami.each import all_of, each
from goldenami.errors import CloudError
from goldenami.model import Account, Place
from goldenami.nextstep import step
from goldenami.preflight.context import Context
from goldenami.preflight.finding import Finding, Level

_ACCOUNTS: Final = 4  # at the same time; each has several simulations at once
_EVALUATIONS: Final = 1000  # of one simulation: a page of its answer
_MEMBERS: Final = frozenset({"EvalActionName", "EvalResourceName", "EvalDecision"})  # of a result
# Seconds for which a build believes that a role still has what a simulation allowed: it tells of a lack, and goes on.
_BELIEVED: Final = 86_400.0


def check_permissions(context: Context) -> Iterator[Finding]:
    """The policies of each role have what builds need. IAM simulates them, so no call is made for it.

    A simulation does not evaluate policies of keys, and not the caller's session. If no more is wanted, only the first
    accounts are asked, and the others that were asked already.
    """
    environment = context.environment
    used = {target.account.id for target in context.targets} | {environment.home.id}
    scope = Scope(environment)
    every = [(kind, account) for kind in (Role.BUILDER, Role.PUBLISHER) for account in accounts_of(environment, kind)]
    chosen = [(kind, account) for kind, account in every if account.id in used - context.refused]

    def check(number: int) -> list[Finding]:
        # The first ones are asked at the same time, and at once.
        return list(_check(context, scope, *chosen[number])) if number < _ACCOUNTS or context.is_wanted() else []

    for found in all_of(range(len(chosen)), check, at_once=_ACCOUNTS):
        yield from found


def _check(context: Context, scope: Scope, kind: Role, account: Account) -> Iterator[Finding]:
    place = Place(account.id, context.environment.home_region)
    path = ("home", "role") if kind is Role.BUILDER else ("accounts", account.name, "role")
    mark = context.mark(*path)
    principal = account.role or context.cloud.caller().arn
    if account.role is None and ":user/" not in principal:
        return  # the ARN of a session does not have the path of its role, which the simulator needs
    groups = _same_context(probes(scope, kind, account, {Job.BUILD}))

    def lacking(number: int) -> list[tuple[str, str]]:
        """Return the statements, and the actions of them that are not allowed."""
        group = groups[number]
        request = _simulation(principal, group)
        if context.builds and _is_believed(context.cloud, request):
            return []
        allowed = _simulate(context.cloud, place, request)
        found = [
            (probe.sid, action)
            for probe in group
            for action in probe.actions
            if not all((action, resource) in allowed for resource in probe.resources)
        ]
        if not found:
            context.cloud.allowed[_digest(request)] = context.cloud.now().timestamp()
        return found

    answers = each(range(len(groups)), lacking)
    # A policy of another shape can be enough for one recipe. So a build tells, and doctor refuses.
    level: Level = "warning" if context.builds else "error"
    missing: dict[str, set[str]] = {}
    for found in answers.results.values():
        for sid, action in found:
            missing.setdefault(sid, set()).add(action)
    for sid, actions in sorted(missing.items()):
        yield Finding(
            "permission",
            level,
            f"{principal} lacks {', '.join(sorted(actions))}: the statement {sid} of the {kind}'s policy",
            f"{step('iam policy', '--role', kind)} prints the statement.",
            place,
            mark,
            exit_code=4,
        )
    if answers.errors:
        error = next(iter(answers.errors.values()))
        message = f"the permissions of {principal} could not be checked: {error.message}"
        yield Finding("permission", "unknown", message, error.hint or "", place, mark)


def _same_context(wanted: Sequence[Probe]) -> list[list[Probe]]:
    """Group the probes that one simulation answers: it evaluates each action with each resource in one context.

    Probes with different contexts share a simulation if no key has two values, and if they have no action in common:
    otherwise the statement of one probe could answer for a statement that is missing.
    """
    same: dict[str, list[Probe]] = {}
    for probe in wanted:
        same.setdefault(json.dumps(probe.context, sort_keys=True), []).append(probe)
    groups: list[list[Probe]] = []
    for probes_ in sorted(same.values(), key=lambda found: -len(found)):
        together = next((group for group in groups if _fit(group, probes_)), None)
        if together is None:
            groups.append(probes_)
        else:
            together += probes_
    return groups


def _fit(group: Sequence[Probe], others: Sequence[Probe]) -> bool:
    actions, more = ({action for probe in every for action in probe.actions} for every in (group, others))
    resources = {resource for probe in (*group, *others) for resource in probe.resources}
    context = _merged(group)
    return (
        not actions & more
        and all(context.get(key, entry) == entry for key, entry in _merged(others).items())
        and len(actions | more) * len(resources) <= _EVALUATIONS
    )


def _merged(group: Sequence[Probe]) -> dict[str, Mapping[str, Any]]:
    """Return the entries of the contexts of a group, by key."""
    return {str(entry["ContextKeyName"]): entry for probe in group for entry in probe.context}


def _simulation(principal: str, group: Sequence[Probe]) -> dict[str, Any]:
    return {
        "PolicySourceArn": principal,
        "ActionNames": sorted({action for probe in group for action in probe.actions}),
        "ResourceArns": sorted({resource for probe in group for resource in probe.resources}),
        "ContextEntries": list(_merged(group).values()),
    }


def _digest(request: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(request, sort_keys=True).encode()).hexdigest()


def _is_believed(cloud: Cloud, request: Mapping[str, Any]) -> bool:
    """Return whether a simulation allowed all of a request within the last day."""
    since = cloud.allowed.get(_digest(request))
    return since is not None and 0 <= cloud.now().timestamp() - since < _BELIEVED


def _simulate(cloud: Cloud, place: Place, request: Mapping[str, Any]) -> set[tuple[str, str]]:
    """Return the allowed pairs of an action and a resource. Raises CloudError for an answer that does not say which."""
    results = list(cloud.pages(place, "iam", "SimulatePrincipalPolicy", "EvaluationResults", request))
    if not results or not all(result.keys() >= _MEMBERS for result in results):
        raise CloudError(
            f"SimulatePrincipalPolicy in {place}: the answer has no decisions",
            action="SimulatePrincipalPolicy",
            account=place.account,
            region=place.region,
        )
    return {(str(r["EvalActionName"]), str(r["EvalResourceName"])) for r in results if r["EvalDecision"] == "allowed"}
