"""The policies of an environment: their form, their limits, and which statement a refused call belongs to."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import botocore.session
import pytest
import yaml

from goldenami.aws.calls import TABLE, Job, Role, rows_for
from goldenami.aws.policies import (
    MOST_CHARACTERS,
    MOST_POLICIES,
    Probe,
    Scope,
    key_policies,
    length,
    missing_permission,
    probes,
    role_policies,
)
from goldenami.cli.main import main
from goldenami.model import Account, Environment, Network, Target
from goldenami.report.iam import FORMATS

HOME = Account("home", "111111111111", "arn:aws:iam::111111111111:role/team/goldenami-builder")
APPS = Account("apps", "222222222222", "arn:aws:iam::222222222222:role/goldenami-publisher")
EC2, SSM = "arn:aws:ec2:eu-central-1", "arn:aws:ssm:eu-west-1"
KEY = "1234abcd-12ab-34cd-56ef-1234567890ab"


def environment(**more: Any) -> Environment:
    return Environment(
        **{
            "name": "production",
            "home": HOME,
            "home_region": "eu-central-1",
            "accounts": {"home": HOME, "apps": APPS},
            "targets": (
                Target(HOME, "eu-central-1", "alias/golden-ami"),
                Target(HOME, "eu-west-1", KEY),
                Target(APPS, "eu-central-1", f"arn:aws:kms:eu-central-1:222222222222:key/{KEY}"),
                Target(APPS, "us-east-1", "", mode="share"),
            ),
            "network": Network(),
            "catalog": "s3://acme/golden/catalog",
            "builds": "s3://acme/golden/journals",
            **more,
        }
    )


SCOPE = Scope(environment())
# What only a transport, an instance profile, receivers or the launch templates of the environment need.
OPTIONAL = {
    "ebs:GetSnapshotBlock",
    "ebs:ListSnapshotBlocks",
    "kms:GetPublicKey",
    "kms:Sign",
    "ec2-instance-connect:OpenTunnel",
    "ec2:CreateLaunchTemplateVersion",
    "ec2:DeleteLaunchTemplateVersions",
    "ec2:DescribeInstanceConnectEndpoints",
    "ec2:ModifyLaunchTemplate",
    "iam:PassRole",
    "events:DescribeEventBus",
    "events:PutEvents",
    "sns:Publish",
    "ssm:StartSession",
    "ssm:TerminateSession",
}


def statements(kind: Role, account: str = "home", scope: Scope = SCOPE) -> list[dict[str, Any]]:
    (one,) = (p for p in role_policies(scope, kind) if p.account.name == account)
    return one.statements


def every_statement() -> Iterator[dict[str, Any]]:
    for kind in Role:
        for one in role_policies(SCOPE, kind):
            yield from one.statements


def listed(value: Any) -> list[str]:
    return [value] if isinstance(value, str) else list(value)


@pytest.mark.parametrize("regions", [1, 30])
def test_each_document_fits_into_a_managed_policy(regions: int) -> None:
    many = tuple(Target(HOME, f"eu-far-{n}", f"alias/key-{n}") for n in range(regions))
    scope = Scope(environment(targets=(*environment().targets, *many)))
    for kind in Role:
        for one in role_policies(scope, kind):
            assert all(length(document) <= MOST_CHARACTERS for document in one.documents)
            assert len(one.documents) <= MOST_POLICIES
            sids = [statement["Sid"] for statement in one.statements]
            assert len(set(sids)) == len(sids)
            assert all(re.fullmatch(r"[A-Za-z0-9]+", sid) for sid in sids)


def test_every_row_names_an_operation_of_botocore() -> None:
    session = botocore.session.Session()
    for row in TABLE:
        assert row.operation in session.get_service_model(row.service).operation_names, row.name


def test_no_statement_allows_a_whole_service_or_changes_everywhere() -> None:
    for statement in every_statement():
        assert not any("*" in action for action in listed(statement["Action"]))
        if statement["Resource"] == "*":
            reads = re.compile(r"\w+:(Describe|Get|List|BatchGet)\w+")
            changes = [a for a in listed(statement["Action"]) if not reads.fullmatch(a)]
            assert changes in ([], ["dlm:CreateLifecyclePolicy"])  # which has no resources, but tags
            assert statement["Condition"]["StringEquals"]["aws:RequestedRegion"]


def test_a_policy_has_every_permission_of_its_rows_and_no_other() -> None:
    for kind in Role:
        for job in Job:
            scope = Scope(environment(), frozenset({job}))
            wanted = {p.action for row in rows_for(kind, {job}) for p in row.permissions}
            for one in role_policies(scope, kind):
                given = {a for s in one.statements for a in listed(s["Action"])}
                assert given <= wanted
                assert wanted - given <= OPTIONAL


def test_what_a_build_deletes_has_the_tag_of_the_environment() -> None:
    scope = Scope(environment(), frozenset({Job.BUILD, Job.RETIRE}))
    ours = {"aws:ResourceTag/goldenami:environment": "production"}
    for statement in statements(Role.BUILDER, scope=scope):
        deleting = [
            a for a in listed(statement["Action"]) if re.search(r":(Delete|Terminate|Deregister|Disable)(?!Param)", a)
        ]
        deleting = [a for a in deleting if a.startswith("ec2:") and a != "ec2:DeleteVolume"]
        if deleting:
            assert statement["Condition"]["StringEquals"].items() >= ours.items(), statement


def test_keys_are_named_by_arn_or_by_alias() -> None:
    keys = [s for s in statements(Role.PUBLISHER, "apps") if s["Sid"].startswith("KeyEbs") and "Grant" not in s["Sid"]]
    assert {(json.dumps(s["Resource"]), json.dumps(s["Condition"].get("ForAnyValue:StringEquals"))) for s in keys} == {
        (
            json.dumps(
                [
                    f"arn:aws:kms:eu-central-1:222222222222:key/{KEY}",
                    f"arn:aws:kms:eu-west-1:111111111111:key/{KEY}",
                ]
            ),
            "null",
        ),
        (json.dumps("arn:aws:kms:*:111111111111:key/*"), json.dumps({"kms:ResourceAliases": "alias/golden-ami"})),
    }


def test_the_bucket_is_named_with_its_prefixes() -> None:
    found = [s for s in statements(Role.BUILDER) if any(a.startswith("s3:") for a in listed(s["Action"]))]
    assert {arn for s in found for arn in listed(s["Resource"])} == {
        "arn:aws:s3:::acme",
        "arn:aws:s3:::acme/golden/catalog/*",
        "arn:aws:s3:::acme/golden/journals/*",
    }
    local = Scope(environment(catalog="/a", builds="/b"))
    assert not [s for s in statements(Role.BUILDER, scope=local) if "s3" in json.dumps(s["Action"])]


def test_other_partitions_have_their_own_arns() -> None:
    home = Account("home", "111111111111")
    china = environment(
        home=home, home_region="cn-north-1", accounts={"home": home}, targets=(Target(home, "cn-north-1", KEY),)
    )
    text = json.dumps([one.documents for one in role_policies(Scope(china), Role.BUILDER)])
    assert "arn:aws:" not in text
    assert "ec2.cn-north-1.amazonaws.com.cn" in text


def test_without_a_role_at_home_the_caller_builds() -> None:
    home = Account("home", "111111111111")
    scope = Scope(environment(home=home, accounts={"home": home, "apps": APPS}))
    (one,) = role_policies(scope, Role.BUILDER)
    assert (one.role, one.trust) == (None, None)
    assume = [s for s in one.statements if s["Action"] == "sts:AssumeRole"]
    assert [s["Resource"] for s in assume] == [APPS.role]


def test_trust_names_the_given_principals() -> None:
    (one,) = role_policies(SCOPE, Role.PUBLISHER)
    assert one.trust is not None
    assert one.trust["Statement"][0]["Principal"] == {"AWS": "arn:aws:iam::111111111111:root"}
    scope = Scope(environment(), trusted=("arn:aws:iam::111111111111:role/ci",))
    (one,) = role_policies(scope, Role.PUBLISHER)
    assert one.trust is not None
    assert one.trust["Statement"][0]["Principal"] == {"AWS": "arn:aws:iam::111111111111:role/ci"}


def test_key_policies_name_the_roles_with_the_same_conditions() -> None:
    found = key_policies(SCOPE)
    assert set(found) == {HOME.id, APPS.id}
    account, *named = found[HOME.id]["Statement"]
    assert account["Principal"] == {"AWS": "arn:aws:iam::111111111111:root"}
    assert {s["Principal"]["AWS"] for s in named} == {HOME.role}
    grants = [s for s in named if "kms:CreateGrant" in listed(s["Action"])]
    assert all("Condition" in s for s in grants)


@pytest.mark.parametrize(
    ("account", "action", "resource", "kind", "sid"),
    [
        (HOME.id, "ec2:TerminateInstances", f"{EC2}:{HOME.id}:instance/i-1", "builder", "InstanceOurs"),
        (HOME.id, "ec2:DescribeVolumes", "*", "builder", "Any"),
        (APPS.id, "ssm:PutParameter", f"{SSM}:{APPS.id}:parameter/golden-ami/x", "publisher", "Parameter"),
        (APPS.id, "iam:CreateUser", "*", "publisher", None),
        (HOME.id, "sts:AssumeRole", str(APPS.role), "caller", "Role"),
    ],
)  # fmt: skip
def test_a_refused_call_belongs_to_a_statement(
    account: str, action: str, resource: str, kind: str, sid: str | None
) -> None:
    message = f"User: arn:x is not authorized to perform: {action} on resource: {resource} because no identity-based…"
    missing = missing_permission(SCOPE, account, message)
    assert missing is not None
    assert (missing.kind, missing.action, missing.sid) == (kind, action, sid)


def test_a_message_without_an_action_belongs_to_none() -> None:
    assert missing_permission(SCOPE, HOME.id, "Access Denied") is None


def test_probes_cover_every_statement() -> None:
    found = probes(SCOPE, Role.BUILDER, HOME)
    assert [p.sid for p in found] == [s["Sid"] for s in statements(Role.BUILDER)]
    assert all(p.actions and "*/" not in json.dumps(p.resources) for p in found)


@pytest.mark.parametrize(
    ("kind", "account"), [(Role.BUILDER, HOME), (Role.PUBLISHER, APPS)], ids=["builder", "publisher"]
)
def test_probes_of_builds_are_all_that_builds_need(kind: Role, account: Account) -> None:
    """And no more: a role without the permissions of volumes is enough for builds."""

    def pairs(found: list[Probe]) -> set[tuple[str, str]]:
        return {(action, resource) for probe in found for action in probe.actions for resource in probe.resources}

    found = probes(SCOPE, kind, account, {Job.BUILD})
    assert pairs(found) == pairs(probes(replace(SCOPE, jobs=frozenset({Job.BUILD})), kind, account))
    assert {p.sid for p in found} < {p.sid for p in probes(SCOPE, kind, account)}
    assert "ReplaceRootVolumeTaskCreating" not in {p.sid for p in found}


# --- the command ------------------------------------------------------------------------------------------------------


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "goldenami.yaml").write_text(
        f"""\
environments:
  production:
    home: {{account: "111111111111", region: eu-central-1, role: "{HOME.role}"}}
    accounts: {{apps: {{id: "222222222222", role: "{APPS.role}"}}}}
    targets:
      - {{account: home, regions: [eu-central-1], kms_key: alias/golden-ami}}
      - {{account: apps, regions: [us-east-1], kms_key: alias/golden-ami}}
    catalog: s3://acme/golden/catalog
    schedules:
      nightly:
        what: {{volumes: {{tags: {{backup: nightly}}}}}}
        when: "0 3 * * *"
        retention: {{keep: 5}}
        copies: [{{region: ap-south-1, kms_key: alias/backup, retention: {{keep: 1}}}}]
"""
    )
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_json(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["iam", "policy", "--role", "builder"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert (document["schema"], document["environment"], document["role"]) == (
        "goldenami.iam/1",
        "production",
        "builder",
    )
    (home,) = document["accounts"]
    assert (home["account"], home["role"]) == (HOME.id, HOME.role)
    text = json.dumps(home["policies"])
    assert "ap-south-1" in text, "where schedules copy to"
    assert "alias/backup" in text
    assert main(["iam", "policy", "--role", "builder", "--for", "build"]) == 0
    assert "ec2:LockSnapshot" not in capsys.readouterr().out


def test_terraform(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["iam", "policy", "--role", "publisher", "--format", "terraform"]) == 0
    text = capsys.readouterr().out
    form = r'resource "aws_iam_policy" "(\w+)" \{\n  name   = "([\w+=,.@-]+)"\n  policy = jsonencode\((.*?)\)\n\}'
    policies = re.findall(form, text, re.DOTALL)
    (one,) = role_policies_of(project)
    assert [json.loads(body) for _, _, body in policies] == list(one.documents)
    attached = re.findall(r"policy_arn = aws_iam_policy\.(\w+)\.arn", text)
    assert attached == [label for label, _, _ in policies]
    (trust,) = re.findall(r"assume_role_policy   = jsonencode\((.*?)\)\n\}", text, re.DOTALL)
    assert json.loads(trust) == one.trust


def test_cloudformation(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["iam", "policy", "--role", "publisher", "--format", "cloudformation"]) == 0
    (template,) = yaml.safe_load_all(capsys.readouterr().out)
    (one,) = role_policies_of(project)
    resources = template["Resources"]
    policies = [r["Properties"] for r in resources.values() if r["Type"] == "AWS::IAM::ManagedPolicy"]
    documents = [p["PolicyDocument"] for p in policies]
    assert documents == list(one.documents)
    assert resources["Role"]["Properties"]["AssumeRolePolicyDocument"] == one.trust


def role_policies_of(project: Path) -> Any:
    from goldenami import recipe
    from goldenami.schedules.permissions import permission_scope

    loaded = recipe.load_project(project)
    found = recipe.environment(loaded, "production")
    return role_policies(permission_scope(found, recipe.schedules(loaded, found)), Role.PUBLISHER)


def test_an_account_without_the_role_is_not_found(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["iam", "policy", "--role", "publisher", "--account", "home"]) == 3
    assert "environment production has no publisher in account home" in capsys.readouterr().err


def test_the_command_needs_no_call_and_loads_no_botocore_client(project: Path) -> None:
    code = "import sys; from goldenami.cli.main import main; main(['iam', 'policy', '--role', 'caller']); print('x')"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env={"PATH": "/usr/bin"})
    assert '"sts:AssumeRole"' in done.stdout, done.stderr


def test_every_format_escapes_what_terraform_would_replace() -> None:
    assert set(FORMATS) == {"json", "terraform", "cloudformation"}
    scope = Scope(environment(parameter_prefix="/a"))
    assert "${" not in FORMATS["terraform"]("production", role_policies(scope, Role.BUILDER), {})
