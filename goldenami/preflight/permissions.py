"""Check of the identity policies: which statements the roles of the environment lack."""

from __future__ import annotations

from collections.abc import Iterator

from goldenami.aws.calls import Job, Role, rows_for
from goldenami.aws.policies import Probe, RolePolicies, Scope, probes, role_policies
from goldenami.each import each
from goldenami.model import Place
from goldenami.preflight.context import Context
from goldenami.preflight.finding import Finding


def check_permissions(context: Context) -> Iterator[Finding]:
    """The policies of each role have what builds need. IAM simulates them, so no call is made for it.

    A simulation does not evaluate policies of keys, and not the caller's session.
    """
    environment = context.environment
    used = {target.account.id for target in context.targets} | {environment.home.id}
    scope = Scope(environment)
    for kind in (Role.BUILDER, Role.PUBLISHER):
        for one in role_policies(scope, kind):
            if one.account.id in used - context.refused:
                yield from _check(context, scope, one)


def _check(context: Context, scope: Scope, one: RolePolicies) -> Iterator[Finding]:
    place = Place(one.account.id, context.environment.home_region)
    path = ("home", "role") if one.kind is Role.BUILDER else ("accounts", one.account.name, "role")
    mark = context.mark(*path)
    principal = one.role or context.cloud.caller().arn
    if one.role is None and ":user/" not in principal:
        return  # the ARN of a session does not have the path of its role, which the simulator needs
    needed = {p.action for row in rows_for(one.kind, {Job.BUILD}) for p in row.permissions}
    wanted = {probe.sid: probe for probe in probes(scope, one.kind, one.account) if needed & set(_actions(probe))}

    def lacking(sid: str) -> list[str]:
        actions = sorted(needed & set(_actions(wanted[sid])))
        request = {"PolicySourceArn": principal, **wanted[sid].request, "ActionNames": actions}
        found = context.cloud.pages(place, "iam", "SimulatePrincipalPolicy", "EvaluationResults", request)
        return sorted({str(r["EvalActionName"]) for r in found if r["EvalDecision"] != "allowed"})

    answers = each(wanted, lacking)
    command = f"goldenami iam policy --role {one.kind}"
    for sid, actions in answers.results.items():
        if actions:
            yield Finding(
                "permission",
                "error",
                f"{principal} lacks {', '.join(actions)}: the statement {sid} of the {one.kind}'s policy",
                f"`{command}` prints the statement.",
                place,
                mark,
                exit_code=4,
            )
    if answers.errors:
        error = next(iter(answers.errors.values()))
        yield Finding("permission", "unknown", error.message, error.hint or "", place, mark)


def _actions(probe: Probe) -> list[str]:
    return list(probe.request["ActionNames"])
