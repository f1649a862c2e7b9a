"""A world whose policies are enforced: goldenami's identities have exactly the policies that ``policies`` makes."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest
from goldenami_sandbox.direct import Direct

from goldenami import recipe
from goldenami.aws.calls import Role
from goldenami.aws.policies import RolePolicies, Scope, role_policies
from goldenami.model import Place
from goldenami.schedules.permissions import permission_scope
from tests.worlds.builds import HOME, PLACES, MortalCloud, World

BUILDER = f"arn:aws:iam::{HOME}:role/goldenami-builder"
USER = "ci"
Statement = Mapping[str, Any]
Keep = Callable[[Role, Statement], bool]


def everything(kind: Role, statement: Statement) -> bool:
    """The usual ``keep``."""
    return True


@dataclass
class Restricted:
    """A world after ``restrict``. ``keys``: of the user that runs goldenami."""

    world: World
    scope: Scope
    keys: dict[str, str]
    policies: list[RolePolicies] = field(default_factory=list)

    def calls(self) -> list[dict[str, Any]]:
        """The calls of goldenami's identities so far."""
        return [call for call in self.world.paper.calls if is_ours(call["principal"])]


def is_ours(principal: str) -> bool:
    return principal.endswith(f"user/{USER}") or "assumed-role/goldenami-" in principal


def restrict(
    world: World,
    patch: pytest.MonkeyPatch,
    *,
    settings: str = "",
    keep: Keep = everything,
    planner: bool = False,
) -> Restricted:
    """Give a fresh world's environment a role at home, and let a user run goldenami whose identities have the
    environment's policies and nothing else. ``settings``: lines for the environment. ``keep``: which statements stay.
    ``planner``: the roles have the planner's policies.
    """
    file = world.path / "goldenami.yaml"
    text = file.read_text().replace("region: eu-central-1}\n", f"region: eu-central-1, role: {BUILDER}}}\n", 1)
    file.write_text(text + settings)
    world.project = recipe.load_project(world.path)
    world.environment = recipe.environment(world.project, "test")
    scope = permission_scope(world.environment, recipe.schedules(world.project, world.environment))
    kinds = (*((Role.PLANNER,) if planner else (Role.BUILDER, Role.PUBLISHER)), Role.CALLER)
    policies = [one for kind in kinds for one in role_policies(scope, kind)]
    documents = tuple(tuple(_document(document, one.kind, keep) for document in one.documents) for one in policies)
    if keep is everything:
        keys = world.remember(("restricted", documents), lambda: _attach(world, policies, documents))
    else:  # which statements one leaves out, no other one does
        keys = _attach(world, policies, documents)
    made = Restricted(world, scope, keys, policies)
    for variable, value in keys.items():
        patch.setenv(variable, value)
    direct = None if world.wire else Direct(world.gate.serve)
    world.cloud = MortalCloud(world.clock, world.environment.accounts, world.environment.home_place, direct)
    world.cloud.start_process()
    world.paper.set(enforce_policies=True)
    return made


def _document(document: Mapping[str, Any], kind: Role, keep: Keep) -> str:
    statements = [s for s in document["Statement"] if keep(kind, s)]
    nothing = [{"Effect": "Deny", "Action": "none:None", "Resource": "*"}]
    return json.dumps({**document, "Statement": statements or nothing})


def _attach(world: World, policies: Sequence[RolePolicies], documents: Sequence[Sequence[str]]) -> dict[str, str]:
    """Make the user and give everyone their policies. Returns the user's keys."""
    home = world.client("iam", PLACES[0])
    home.create_user(UserName=USER)
    for one, texts in zip(policies, documents, strict=True):
        iam = world.client("iam", Place(one.account.id, "eu-central-1"))
        arns = [
            str(iam.create_policy(PolicyName=f"goldenami-{one.kind}-{number}", PolicyDocument=text)["Policy"]["Arn"])
            for number, text in enumerate(texts)
        ]
        if one.kind is Role.CALLER:
            for arn in arns:
                home.attach_user_policy(UserName=USER, PolicyArn=arn)
            continue
        name = one.account.role.rpartition("/")[2] if one.account.role else ""
        if one.trust is not None:
            iam.update_assume_role_policy(RoleName=name, PolicyDocument=json.dumps(one.trust))
        iam.delete_role_policy(RoleName=name, PolicyName="all")
        for arn in arns:
            iam.attach_role_policy(RoleName=name, PolicyArn=arn)
    key = home.create_access_key(UserName=USER)["AccessKey"]
    return {"AWS_ACCESS_KEY_ID": key["AccessKeyId"], "AWS_SECRET_ACCESS_KEY": key["SecretAccessKey"]}
