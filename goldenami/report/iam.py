"""IAM policies as text: JSON, Terraform (HCL), and CloudFormation (YAML)."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import yaml

from goldenami.aws.policies import Document, RolePolicies

SCHEMA: Final = "goldenami.iam/1"
Keys = Mapping[str, Document]  # policies of keys, by account id


def as_json(environment: str, roles: Sequence[RolePolicies], keys: Keys) -> str:
    """Return one JSON document with everything."""
    entries = [
        {
            "account": one.account.id,
            "name": one.account.name,
            "role": one.role,
            "policies": list(one.documents),
            "trust": one.trust,
            "key_policy": keys.get(one.account.id),
        }
        for one in roles
    ]
    kind = str(roles[0].kind) if roles else None
    document = {"schema": SCHEMA, "environment": environment, "role": kind, "accounts": entries}
    return json.dumps(document, indent=2) + "\n"


def as_terraform(environment: str, roles: Sequence[RolePolicies], keys: Keys) -> str:
    """Return Terraform configuration: policies, and roles with their trust. Each account is applied separately.

    A JSON object is an expression of Terraform's language too, so the policies need no conversion.
    """
    blocks = []
    for one in roles:
        blocks.append(f"# {_title(environment, one)}")
        label = _label(environment, one)
        for number, document in enumerate(one.documents, 1):
            name = f"{one.name}-{environment}-{number}"
            blocks.append(
                f'resource "aws_iam_policy" "{label}_{number}" {{\n'
                f"  name   = {json.dumps(name)}\n"
                f"  policy = jsonencode({_hcl(document)})\n}}"
            )
        if one.role is not None and one.trust is not None:
            blocks.append(
                f'resource "aws_iam_role" "{label}" {{\n'
                f"  name                 = {json.dumps(one.name)}\n"
                f"  max_session_duration = {max(3600, one.account.session_seconds)}\n"
                f"  assume_role_policy   = jsonencode({_hcl(one.trust)})\n}}"
            )
            blocks += [
                f'resource "aws_iam_role_policy_attachment" "{label}_{number}" {{\n'
                f"  role       = aws_iam_role.{label}.name\n"
                f"  policy_arn = aws_iam_policy.{label}_{number}.arn\n}}"
                for number in range(1, len(one.documents) + 1)
            ]
        if one.account.id in keys:
            blocks.append(
                "# The policy of the KMS keys in this account: the argument `policy` of aws_kms_key.\n"
                f"locals {{\n  {label}_key_policy = jsonencode({_hcl(keys[one.account.id])})\n}}"
            )
    return "\n\n".join(blocks) + "\n"


def as_cloudformation(environment: str, roles: Sequence[RolePolicies], keys: Keys) -> str:
    """Return a CloudFormation template for each account, as documents of one YAML stream."""
    return "---\n".join(yaml.safe_dump(_template(environment, one, keys), sort_keys=False, width=100) for one in roles)


def _template(environment: str, one: RolePolicies, keys: Keys) -> dict[str, Any]:
    resources: dict[str, Any] = {}
    has_role = one.role is not None and one.trust is not None
    for number, document in enumerate(one.documents, 1):
        properties: dict[str, Any] = {
            "ManagedPolicyName": f"{one.name}-{environment}-{number}",
            "PolicyDocument": document,
        }
        if has_role:
            properties["Roles"] = [{"Ref": "Role"}]
        resources[f"Policy{number}"] = {"Type": "AWS::IAM::ManagedPolicy", "Properties": properties}
    if has_role:
        properties = {
            "RoleName": one.name,
            "MaxSessionDuration": max(3600, one.account.session_seconds),
            "AssumeRolePolicyDocument": one.trust,
        }
        resources["Role"] = {"Type": "AWS::IAM::Role", "Properties": properties}
    template: dict[str, Any] = {
        "AWSTemplateFormatVersion": "2010-09-09",
        "Description": _title(environment, one),
    }
    if one.account.id in keys:  # the KeyPolicy of AWS::KMS::Key
        template["Metadata"] = {"KeyPolicy": keys[one.account.id]}
    return {**template, "Resources": resources}


FORMATS: Final[Mapping[str, Callable[[str, Sequence[RolePolicies], Keys], str]]] = {
    "json": as_json,
    "terraform": as_terraform,
    "cloudformation": as_cloudformation,
}


def _title(environment: str, one: RolePolicies) -> str:
    return f"goldenami, environment {environment}: {one.kind} in account {one.account.id} ({one.account.name})"


def _label(environment: str, one: RolePolicies) -> str:
    return re.sub(r"\W", "_", f"goldenami_{environment}_{one.kind}_{one.account.name}")


def _hcl(document: Document) -> str:
    text = json.dumps(document, indent=2).replace("${", "$${").replace("%{", "%%{")
    return text.replace("\n", "\n  ")
