"""Trust and key policies, statement by statement."""

from __future__ import annotations

from typing import Any

import pytest
from goldenami_sandbox.policy import Caller, admits_federated, allows

HOME, APPS = "111111111111", "222222222222"
USER = Caller(HOME, f"arn:aws:iam::{HOME}:user/admin")
SESSION = Caller(HOME, f"arn:aws:sts::{HOME}:assumed-role/builder/ci")
SERVICE = Caller(HOME)


def statement(principal: Any, effect: str = "Allow", action: Any = "kms:*", **more: Any) -> dict[str, Any]:
    return {"Effect": effect, "Principal": principal, "Action": action, "Resource": "*", **more}


def policy(*statements: dict[str, Any]) -> dict[str, Any]:
    return {"Version": "2012-10-17", "Statement": list(statements)}


@pytest.mark.parametrize(
    ("principal", "caller", "expected"),
    [
        ("*", USER, True),
        ({"AWS": "*"}, USER, True),
        ({"AWS": HOME}, USER, True),
        ({"AWS": APPS}, USER, False),
        ({"AWS": f"arn:aws:iam::{HOME}:root"}, USER, True),
        ({"AWS": [f"arn:aws:iam::{APPS}:root", f"arn:aws:iam::{HOME}:root"]}, SESSION, True),
        ({"AWS": f"arn:aws:iam::{HOME}:user/admin"}, USER, True),
        ({"AWS": f"arn:aws:iam::{HOME}:user/other"}, USER, False),
        ({"AWS": f"arn:aws:iam::{HOME}:role/builder"}, SESSION, True),
        ({"AWS": f"arn:aws:iam::{HOME}:role/path/builder"}, SESSION, True),
        ({"AWS": f"arn:aws:iam::{HOME}:role/builder"}, USER, False),
        ({"AWS": f"arn:aws:iam::{HOME}:role/builder"}, SERVICE, True),
        ({"Service": "ec2.amazonaws.com"}, USER, False),
    ],
)
def test_which_callers_a_principal_names(principal: Any, caller: Caller, expected: bool) -> None:
    assert allows(policy(statement(principal)), "kms:Decrypt", caller, {}) is expected


PROVIDER = f"arn:aws:iam::{HOME}:oidc-provider/id.example.com"


@pytest.mark.parametrize(
    ("denied", "expected"),
    [
        ({"Principal": {"Federated": PROVIDER}}, False),
        ({"Principal": {"Federated": f"{PROVIDER}/other"}}, True),
        ({"Principal": {"Federated": "*"}}, False),
        ({"Principal": {"AWS": "*"}}, False),
        ({"Principal": {"AWS": HOME}}, True),
        ({"Principal": "*"}, False),
        ({"NotPrincipal": {"Federated": PROVIDER}}, True),
        ({"NotPrincipal": {"Federated": f"{PROVIDER}/other"}}, False),
        ({"NotPrincipal": {"AWS": f"arn:aws:iam::{HOME}:root"}}, False),
        ({"NotPrincipal": "*"}, True),
    ],
)
def test_whose_web_identities_are_denied(denied: dict[str, Any], expected: bool) -> None:
    action = "sts:AssumeRoleWithWebIdentity"
    allowed = statement({"Federated": PROVIDER}, action=action)
    document = policy(allowed, {"Effect": "Deny", "Action": action, **denied})
    assert admits_federated(document, action, PROVIDER, {}) is expected


@pytest.mark.parametrize("principals", [{"Principal": "*"}, {"Principal": {"AWS": "*"}}, {"NotPrincipal": "*"}])
def test_web_identities_are_allowed_by_the_name_of_their_provider_only(principals: dict[str, Any]) -> None:
    action = "sts:AssumeRoleWithWebIdentity"
    document = policy({"Effect": "Allow", "Action": action, **principals})
    assert not admits_federated(document, action, PROVIDER, {})


@pytest.mark.parametrize(
    ("action", "expected"),
    [
        ("kms:*", True),
        ("kms:Decrypt", True),
        ("kms:D*", True),
        (["kms:Encrypt", "KMS:decrypt"], True),
        ("kms:Encrypt", False),
    ],
)
def test_which_actions_are_allowed(action: Any, expected: bool) -> None:
    assert allows(policy(statement("*", action=action)), "kms:Decrypt", USER, {}) is expected


def test_an_explicit_deny_wins_in_any_order() -> None:
    deny = statement({"AWS": HOME}, "Deny", "kms:Decrypt")
    for statements in ([deny, statement("*")], [statement("*"), deny]):
        assert not allows(policy(*statements), "kms:Decrypt", USER, {})
        assert allows(policy(*statements), "kms:Encrypt", USER, {})


@pytest.mark.parametrize(
    ("condition", "expected"),
    [
        ({"StringEquals": {"kms:ViaService": "ec2.eu-central-1.amazonaws.com"}}, True),
        ({"StringEquals": {"kms:ViaService": ["s3.eu-central-1.amazonaws.com"]}}, False),
        ({"StringLike": {"kms:ViaService": "ec2.*.amazonaws.com"}}, True),
        ({"StringNotEquals": {"kms:ViaService": "s3.eu-central-1.amazonaws.com"}}, True),
        ({"StringEquals": {"aws:PrincipalAccount": HOME}}, True),
        ({"ArnLike": {"aws:PrincipalArn": f"arn:aws:iam::{HOME}:user/*"}}, True),
        ({"Bool": {"kms:GrantIsForAWSResource": True}}, True),
        ({"StringEquals": {"aws:PrincipalOrgID": "o-1"}}, False),
        ({"StringEqualsIfExists": {"aws:PrincipalOrgID": "o-1"}}, True),
        ({"Null": {"aws:PrincipalOrgID": "true"}}, True),
        ({"NumericLessThan": {"kms:ViaService": "1"}}, False),
    ],
)
def test_conditions(condition: dict[str, Any], expected: bool) -> None:
    context = {"kms:ViaService": "ec2.eu-central-1.amazonaws.com", "kms:GrantIsForAWSResource": "true"}
    assert allows(policy(statement("*", Condition=condition)), "kms:Decrypt", USER, context) is expected


def test_a_policy_that_is_not_json_allows_nothing() -> None:
    assert not allows("{", "kms:Decrypt", USER, {})
