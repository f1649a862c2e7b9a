"""Calls under enforced identity policies: what each one needs, and how it is refused."""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Callable, Iterator
from typing import Any, cast

import boto3
import pytest
from botocore import UNSIGNED
from botocore.config import Config
from botocore.exceptions import ClientError
from goldenami_sandbox.testing import PaperCloud

HOME, APPS = "111111111111", "222222222222"
REGION = "eu-central-1"
Clients = Callable[..., Any]
Statement = dict[str, Any]


def allow(action: Any, resource: Any = "*", **more: Any) -> Statement:
    return {"Effect": "Allow", "Action": action, "Resource": resource, **more}


def deny(action: Any, resource: Any = "*", **more: Any) -> Statement:
    return {**allow(action, resource, **more), "Effect": "Deny"}


def document(*statements: Statement) -> str:
    return json.dumps({"Version": "2012-10-17", "Statement": list(statements)})


def refused(code: str, action: str = "") -> Any:
    return pytest.raises(ClientError, match=rf"\({code}\).*{action}")


@pytest.fixture(autouse=True)
def enforced(cloud: PaperCloud) -> Iterator[None]:
    cloud.set(enforce_policies=True)
    yield
    cloud.set(enforce_policies=False)


class Worker:
    """A user whose only policy can be replaced."""

    def __init__(self, client: Clients, name: str) -> None:
        self._client, self.name = client, name
        self._iam = client("iam")
        self._iam.create_user(UserName=name)
        key = self._iam.create_access_key(UserName=name)["AccessKey"]
        self._keys = {"aws_access_key_id": key["AccessKeyId"], "aws_secret_access_key": key["SecretAccessKey"]}

    def may(self, *statements: Statement) -> None:
        self._iam.put_user_policy(UserName=self.name, PolicyName="only", PolicyDocument=document(*statements))

    def client(self, service: str, region: str = REGION) -> Any:
        return self._client(service, region, **self._keys)


@pytest.fixture
def worker(client: Clients, request: pytest.FixtureRequest) -> Worker:
    return Worker(client, f"w{abs(hash(request.node.name)) % 10**12}")


def base(client: Clients) -> str:
    found = client("ec2").describe_images(Filters=[{"Name": "name", "Values": ["debian-12-amd64-*"]}])
    return str(found["Images"][0]["ImageId"])


def test_a_principal_without_policies_may_nothing(worker: Worker, client: Clients) -> None:
    client("ec2").describe_vpcs()  # the administrator
    for service, call, arguments, code in (
        ("ec2", "describe_vpcs", {}, "UnauthorizedOperation"),
        ("ssm", "describe_parameters", {}, "AccessDeniedException"),
        ("kms", "list_keys", {}, "AccessDeniedException"),
        ("s3", "list_buckets", {}, "AccessDenied"),
        ("iam", "list_users", {}, "AccessDenied"),
        ("dlm", "get_lifecycle_policies", {}, "AccessDeniedException"),
        ("rbin", "list_rules", {"ResourceType": "EBS_SNAPSHOT"}, "AccessDeniedException"),
        ("autoscaling", "describe_auto_scaling_groups", {}, "AccessDenied"),
    ):
        with refused(code):
            getattr(worker.client(service), call)(**arguments)
    assert worker.client("sts").get_caller_identity()["Account"] == HOME  # needs no permission


def test_a_refusal_of_ec2_can_be_decoded_and_is_in_the_log(worker: Worker, client: Clients, cloud: PaperCloud) -> None:
    with refused("UnauthorizedOperation", "ec2:DescribeVpcs") as refusal:
        worker.client("ec2").describe_vpcs()
    assert cloud.calls[-1]["denied"] == "ec2:DescribeVpcs on *"
    encoded = refusal.value.response["Error"]["Message"].rpartition("message: ")[2]
    message = json.loads(client("sts").decode_authorization_message(EncodedMessage=encoded)["DecodedMessage"])
    assert message["context"]["action"] == "ec2:DescribeVpcs"
    assert not message["explicitDeny"]


LAUNCH = {
    f"arn:aws:ec2:{REGION}::image/*",
    f"arn:aws:ec2:{REGION}:{HOME}:instance/*",
    f"arn:aws:ec2:{REGION}:{HOME}:network-interface/*",
    f"arn:aws:ec2:{REGION}:{HOME}:volume/*",
    f"arn:aws:ec2:{REGION}:{HOME}:security-group/*",
    f"arn:aws:ec2:{REGION}:{HOME}:subnet/*",
}


@pytest.mark.parametrize("without", ["", *sorted(LAUNCH)])
def test_a_launch_needs_every_resource(worker: Worker, client: Clients, without: str) -> None:
    image = base(client)
    worker.may(allow("ec2:RunInstances", sorted(LAUNCH - {without})))
    launch = {"ImageId": image, "InstanceType": "t3.small", "MinCount": 1, "MaxCount": 1, "DryRun": True}
    expected = "DryRunOperation" if not without else "UnauthorizedOperation"
    with refused(expected):
        worker.client("ec2").run_instances(**launch)


def test_tags_in_a_creating_call_need_create_tags(worker: Worker) -> None:
    pair = {
        "KeyName": worker.name,
        "PublicKeyMaterial": "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGn0T3cJq0mT0m7cSg0vYp0y0b8dVt0o3n5v1Qp9Yh3S",
        "TagSpecifications": [{"ResourceType": "key-pair", "Tags": [{"Key": "team", "Value": "red"}]}],
        "DryRun": True,
    }
    ec2 = worker.client("ec2")
    worker.may(allow("ec2:ImportKeyPair"))
    with refused("UnauthorizedOperation", "ec2:CreateTags"):
        ec2.import_key_pair(**pair)
    creating = {"StringEquals": {"ec2:CreateAction": "RunInstances"}}
    worker.may(allow("ec2:ImportKeyPair"), allow("ec2:CreateTags", Condition=creating))
    with refused("UnauthorizedOperation", "ec2:CreateTags"):
        ec2.import_key_pair(**pair)
    creating = {"StringEquals": {"ec2:CreateAction": "ImportKeyPair", "aws:RequestTag/team": "red"}}
    worker.may(allow("ec2:ImportKeyPair"), allow("ec2:CreateTags", Condition=creating))
    ec2.import_key_pair(**{**pair, "DryRun": False})
    with refused("UnauthorizedOperation", "ec2:CreateTags"):
        ec2.create_tags(Resources=["sg-12345678"], Tags=[{"Key": "team", "Value": "red"}])


def test_tags_of_a_resource_decide_and_a_missing_one_is_not_found(worker: Worker, client: Clients) -> None:
    admin = client("ec2")
    ours, theirs = (
        admin.create_volume(
            AvailabilityZone=f"{REGION}a",
            Size=1,
            TagSpecifications=[{"ResourceType": "volume", "Tags": [{"Key": "team", "Value": team}]}],
        )["VolumeId"]
        for team in ("red", "blue")
    )
    red = {"StringEquals": {"aws:ResourceTag/team": "red"}}
    worker.may(allow("ec2:DeleteVolume", f"arn:aws:ec2:{REGION}:{HOME}:volume/*", Condition=red))
    with refused("UnauthorizedOperation", "ec2:DeleteVolume"):
        worker.client("ec2").delete_volume(VolumeId=theirs)
    worker.client("ec2").delete_volume(VolumeId=ours)
    with refused("InvalidVolume.NotFound"):
        worker.client("ec2").delete_volume(VolumeId=ours)
    with refused("UnauthorizedOperation"):
        worker.client("ec2", "eu-west-1").delete_volume(VolumeId=ours)


def test_the_owner_of_an_image_is_a_condition(worker: Worker, client: Clients) -> None:
    image = base(client)
    launch = {"ImageId": image, "InstanceType": "t3.small", "MinCount": 1, "MaxCount": 1, "DryRun": True}
    others = allow("ec2:RunInstances", f"arn:aws:ec2:{REGION}:{HOME}:*")
    for owner, code in (("136693071363", "DryRunOperation"), (HOME, "UnauthorizedOperation")):
        of = {"StringEquals": {"ec2:Owner": owner}}
        worker.may(others, allow("ec2:RunInstances", f"arn:aws:ec2:{REGION}::image/*", Condition=of))
        with refused(code):
            worker.client("ec2").run_instances(**launch)


def test_an_explicit_deny_wins(worker: Worker) -> None:
    worker.may(allow("*"), deny("ec2:Describe*"))
    with refused("UnauthorizedOperation", "explicit deny"):
        worker.client("ec2").describe_vpcs()
    worker.client("ssm").describe_parameters()


def test_attached_and_group_policies_count_and_a_boundary_limits(worker: Worker, client: Clients) -> None:
    iam = client("iam")
    arn = iam.create_policy(PolicyName=f"p-{worker.name}", PolicyDocument=document(allow("ec2:DescribeVpcs")))["Policy"]
    iam.attach_user_policy(UserName=worker.name, PolicyArn=arn["Arn"])
    worker.client("ec2").describe_vpcs()
    iam.create_group(GroupName=f"g-{worker.name}")
    iam.put_group_policy(
        GroupName=f"g-{worker.name}", PolicyName="p", PolicyDocument=document(allow("ec2:DescribeSubnets"))
    )
    with refused("UnauthorizedOperation"):
        worker.client("ec2").describe_subnets()
    iam.add_user_to_group(GroupName=f"g-{worker.name}", UserName=worker.name)
    worker.client("ec2").describe_subnets()


def trust(principal: str) -> str:
    return json.dumps(
        {
            "Version": "2012-10-17",
            "Statement": [{"Effect": "Allow", "Principal": {"AWS": principal}, "Action": "sts:AssumeRole"}],
        }
    )


def test_to_assume_a_role_needs_its_trust_and_a_permission(worker: Worker, client: Clients) -> None:
    iam = client("iam", account="apps")
    name = f"r-{worker.name}"
    arn = iam.create_role(RoleName=name, AssumeRolePolicyDocument=trust(f"arn:aws:iam::{HOME}:root"))["Role"]["Arn"]
    asked = {"RoleArn": arn, "RoleSessionName": "test"}
    with refused("AccessDenied"):
        worker.client("sts").assume_role(**asked)
    worker.may(allow("sts:AssumeRole", arn))
    worker.client("sts").assume_role(**asked)


def test_a_web_identity_needs_its_provider_its_claims_and_the_trust_of_the_role(
    client: Clients, cloud: PaperCloud
) -> None:
    iam, host = client("iam", account="apps"), "id.example.com"
    statement = {
        "Effect": "Allow",
        "Principal": {"Federated": f"arn:aws:iam::{APPS}:oidc-provider/{host}"},
        "Action": "sts:AssumeRoleWithWebIdentity",
        "Condition": {"StringEquals": {f"{host}:sub": "main"}},
    }
    policy = json.dumps({"Version": "2012-10-17", "Statement": [statement]})
    role = iam.create_role(RoleName="web", AssumeRolePolicyDocument=policy)["Role"]["Arn"]
    other = iam.create_role(RoleName="other", AssumeRolePolicyDocument=trust(f"arn:aws:iam::{HOME}:root"))["Role"]
    options = {"endpoint_url": cloud.endpoint, "region_name": "eu-central-1"}
    sts = cast(Any, boto3.client)("sts", **options, config=Config(signature_version=UNSIGNED))

    def assume(arn: str = role, **claims: object) -> Any:
        now = int(time.time())
        every = {"iss": f"https://{host}", "aud": "images", "sub": "main", "iat": now, "exp": now + 600, **claims}
        given = {name: value for name, value in every.items() if value is not None}
        payload = base64.urlsafe_b64encode(json.dumps(given).encode()).decode().rstrip("=")
        return sts.assume_role_with_web_identity(
            RoleArn=arn, RoleSessionName="test", WebIdentityToken=f"e30.{payload}.e30"
        )

    with refused("InvalidIdentityToken"):
        assume()
    iam.create_open_id_connect_provider(Url=f"https://{host}", ClientIDList=["images"])
    made = assume()
    assert (made["Audience"], made["SubjectFromWebIdentityToken"]) == ("images", "main")
    with refused("InvalidIdentityToken"):
        assume(aud="another")
    with refused("ExpiredTokenException"):
        assume(exp=int(time.time()) - 1)
    later = int(time.time()) + 3600
    types: tuple[Any, ...] = (None, True, {})
    wrong = [{name: value} for name in ("iss", "sub", "iat", "exp", "aud") for value in types]
    wrong += [{"sub": ""}, {"exp": "soon"}, {"nbf": "now"}, {"nbf": later}, {"iat": later}]
    for claims in wrong:
        with refused("InvalidIdentityToken"):
            assume(**claims)
    for arn, subject in ((role, "branch"), (other["Arn"], "main"), (f"{role}-none", "main")):
        with refused("AccessDenied"):
            assume(arn, sub=subject)
    with refused("InvalidIdentityToken"):
        sts.assume_role_with_web_identity(RoleArn=role, RoleSessionName="test", WebIdentityToken="no token")
    with refused("MissingAuthenticationToken"):
        sts.assume_role(RoleArn=role, RoleSessionName="test")


def test_a_session_policy_limits_the_session(worker: Worker, client: Clients) -> None:
    iam = client("iam")
    name = f"r-{worker.name}"
    arn = iam.create_role(RoleName=name, AssumeRolePolicyDocument=trust(f"arn:aws:iam::{HOME}:root"))["Role"]["Arn"]
    iam.put_role_policy(RoleName=name, PolicyName="p", PolicyDocument=document(allow("ec2:*"), allow("ssm:*")))
    worker.may(allow("sts:AssumeRole", arn))
    made = worker.client("sts").assume_role(
        RoleArn=arn, RoleSessionName="test", Policy=document(allow("ec2:DescribeVpcs"), allow("s3:*"))
    )["Credentials"]
    keys = {
        "aws_access_key_id": made["AccessKeyId"],
        "aws_secret_access_key": made["SecretAccessKey"],
        "aws_session_token": made["SessionToken"],
    }
    client("ec2", **keys).describe_vpcs()
    with refused("UnauthorizedOperation"):
        client("ec2", **keys).describe_subnets()
    with refused("AccessDenied"):
        client("s3", **keys).list_buckets()


def test_parameters_are_allowed_by_their_path(worker: Worker, client: Clients) -> None:
    ssm = worker.client("ssm")
    worker.may(allow(["ssm:PutParameter", "ssm:GetParameter"], f"arn:aws:ssm:{REGION}:{HOME}:parameter/ours/*"))
    ssm.put_parameter(Name="/ours/a", Value="1", Type="String")
    assert ssm.get_parameter(Name="/ours/a:1")["Parameter"]["Value"] == "1"
    with refused("AccessDeniedException", "ssm:PutParameter"):
        ssm.put_parameter(Name="/theirs/a", Value="1", Type="String")
    with refused("AccessDeniedException", "ssm:AddTagsToResource"):
        ssm.put_parameter(Name="/ours/b", Value="1", Type="String", Tags=[{"Key": "a", "Value": "b"}])


def test_a_missing_object_is_forbidden_without_the_list(worker: Worker, client: Clients) -> None:
    bucket = f"b-{worker.name}"
    client("s3").create_bucket(Bucket=bucket, CreateBucketConfiguration={"LocationConstraint": REGION})
    s3 = worker.client("s3")
    objects = allow(["s3:GetObject", "s3:PutObject"], f"arn:aws:s3:::{bucket}/x/*")
    worker.may(objects)
    s3.put_object(Bucket=bucket, Key="x/1", Body=b"1")
    with refused("AccessDenied", "s3:PutObject"):
        s3.put_object(Bucket=bucket, Key="y/1", Body=b"1")
    with refused("AccessDenied", "s3:ListBucket"):
        s3.get_object(Bucket=bucket, Key="x/2")
    worker.may(objects, allow("s3:ListBucket", f"arn:aws:s3:::{bucket}"))
    with refused("NoSuchKey"):
        s3.get_object(Bucket=bucket, Key="x/2")


def test_the_simulator_evaluates_the_policies_of_a_principal(worker: Worker, client: Clients) -> None:
    worker.may(
        allow("ec2:DeleteVolume", Condition={"StringEquals": {"aws:ResourceTag/team": "red"}}), deny("ec2:DescribeVpcs")
    )
    user = f"arn:aws:iam::{HOME}:user/{worker.name}"

    def decisions(team: str) -> dict[str, str]:
        entry = {"ContextKeyName": "aws:ResourceTag/team", "ContextKeyType": "string", "ContextKeyValues": [team]}
        found = client("iam").simulate_principal_policy(
            PolicySourceArn=user,
            ActionNames=["ec2:DeleteVolume", "ec2:DescribeVpcs", "ec2:DescribeSubnets"],
            ContextEntries=[entry],
        )
        return {one["EvalActionName"]: one["EvalDecision"] for one in found["EvaluationResults"]}

    others = {"ec2:DescribeVpcs": "explicitDeny", "ec2:DescribeSubnets": "implicitDeny"}
    assert decisions("red") == {"ec2:DeleteVolume": "allowed", **others}
    assert decisions("blue") == {"ec2:DeleteVolume": "implicitDeny", **others}
    with refused("NoSuchEntity"):
        client("iam").simulate_principal_policy(PolicySourceArn=f"{user}x", ActionNames=["ec2:DescribeVpcs"])
    with refused("AccessDenied", "iam:SimulatePrincipalPolicy"):
        worker.client("iam").simulate_principal_policy(PolicySourceArn=user, ActionNames=["ec2:DescribeVpcs"])


# --- KMS --------------------------------------------------------------------------------------------------------------


def key(client: Clients, region: str = REGION, account: str = "home", policy: str | None = None) -> str:
    more = {"Policy": policy} if policy is not None else {}
    return str(client("kms", region, account).create_key(**more)["KeyMetadata"]["Arn"])


def test_a_key_policy_for_the_account_leaves_it_to_identity_policies(worker: Worker, client: Clients) -> None:
    arn = key(client)
    with refused("AccessDeniedException", "identity-based"):
        worker.client("kms").describe_key(KeyId=arn)
    worker.may(allow("kms:DescribeKey", arn))
    worker.client("kms").describe_key(KeyId=arn)
    user = f"arn:aws:iam::{HOME}:user/{worker.name}"
    named = {"Effect": "Allow", "Principal": {"AWS": user}, "Action": "kms:Encrypt", "Resource": "*"}
    root = {"Effect": "Allow", "Principal": {"AWS": HOME}, "Action": "kms:*", "Resource": "*"}
    direct = key(client, policy=document(named, root))
    worker.client("kms").encrypt(KeyId=direct, Plaintext=b"x")
    with refused("AccessDeniedException"):
        worker.client("kms").encrypt(KeyId=arn, Plaintext=b"x")


def test_a_grant_is_for_its_grantee_and_a_grant_for_an_account_is_not_enough(worker: Worker, client: Clients) -> None:
    arn = key(client)
    user = f"arn:aws:iam::{HOME}:user/{worker.name}"
    admin = client("kms")
    grant = admin.create_grant(KeyId=arn, GranteePrincipal=f"arn:aws:iam::{HOME}:root", Operations=["Encrypt"])
    with refused("AccessDeniedException"):
        worker.client("kms").encrypt(KeyId=arn, Plaintext=b"x")
    admin.revoke_grant(KeyId=arn, GrantId=grant["GrantId"])
    admin.create_grant(KeyId=arn, GranteePrincipal=user, Operations=["Encrypt"])
    worker.client("kms").encrypt(KeyId=arn, Plaintext=b"x")


def test_another_account_needs_the_key_policy_and_a_permission(worker: Worker, client: Clients) -> None:
    root = {"Effect": "Allow", "Principal": {"AWS": [HOME, APPS]}, "Action": "kms:*", "Resource": "*"}
    arn = key(client, account="apps", policy=document(root))
    with refused("AccessDeniedException", "identity-based"):
        worker.client("kms").encrypt(KeyId=arn, Plaintext=b"x")
    worker.may(allow("kms:Encrypt", arn))
    worker.client("kms").encrypt(KeyId=arn, Plaintext=b"x")


def test_ebs_uses_a_key_as_the_caller_and_makes_its_grant(worker: Worker, client: Clients, cloud: PaperCloud) -> None:
    arn = key(client)
    volume = {"AvailabilityZone": f"{REGION}a", "Size": 1, "Encrypted": True, "KmsKeyId": arn}
    create = allow("ec2:CreateVolume")
    use = ["kms:DescribeKey", "kms:GenerateDataKeyWithoutPlaintext"]
    for_ebs = {"Bool": {"kms:GrantIsForAWSResource": "true"}}
    via = {"StringEquals": {"kms:ViaService": f"ec2.{REGION}.amazonaws.com"}}
    grant = allow("kms:CreateGrant", arn, Condition=for_ebs)

    def state(*statements: Statement) -> str:
        worker.may(create, *statements)
        made = worker.client("ec2").create_volume(**volume)["VolumeId"]
        cloud.cloud.ec2.settle()
        found = client("ec2").describe_volumes(Filters=[{"Name": "volume-id", "Values": [made]}])["Volumes"]
        return str(found[0]["State"]) if found else "deleted"

    assert state(allow(use, arn, Condition=via), grant) == "available"
    assert state(allow(use, arn, Condition=via)) != "available"
    assert state(allow(use[:1], arn), grant) != "available"
    with refused("AccessDeniedException", "kms:CreateGrant"):  # a grant of the caller's own is not for a service
        worker.may(grant)
        worker.client("kms").create_grant(
            KeyId=arn, GranteePrincipal=f"arn:aws:iam::{APPS}:root", Operations=["Decrypt"]
        )


# --- roles of services ------------------------------------------------------------------------------------------------


def lifecycle(role: str) -> dict[str, Any]:
    return {
        "Description": "nightly",
        "State": "ENABLED",
        "ExecutionRoleArn": role,
        "PolicyDetails": {
            "PolicyType": "EBS_SNAPSHOT_MANAGEMENT",
            "ResourceTypes": ["VOLUME"],
            "TargetTags": [{"Key": "backup", "Value": "yes"}],
            "Schedules": [
                {"Name": "nightly", "CreateRule": {"CronExpression": "cron(0 3 * * ? *)"}, "RetainRule": {"Count": 2}}
            ],
        },
    }


def test_to_pass_a_role_needs_a_permission(worker: Worker) -> None:
    role = f"arn:aws:iam::{HOME}:role/backup"
    worker.may(allow("dlm:CreateLifecyclePolicy"))
    with refused("AccessDeniedException", "iam:PassRole"):
        worker.client("dlm").create_lifecycle_policy(**lifecycle(role))
    for service in ("ec2.amazonaws.com", "dlm.amazonaws.com"):
        passed = {"StringEquals": {"iam:PassedToService": service}}
        worker.may(allow("dlm:CreateLifecyclePolicy"), allow("iam:PassRole", role, Condition=passed))
        if service.startswith("ec2"):
            with refused("AccessDeniedException", "iam:PassRole"):
                worker.client("dlm").create_lifecycle_policy(**lifecycle(role))
    worker.client("dlm").create_lifecycle_policy(**lifecycle(role))


def test_dlm_needs_a_role_that_exists_trusts_it_and_allows(client: Clients, paper_cloud: Any) -> None:
    moment = [1_800_000_000.0]
    other = paper_cloud(clock=lambda: moment[0])
    other.set(enforce_policies=True)
    iam, dlm, ec2 = (boto(other, service) for service in ("iam", "dlm", "ec2"))
    ec2.create_volume(
        AvailabilityZone=f"{REGION}a",
        Size=1,
        TagSpecifications=[{"ResourceType": "volume", "Tags": [{"Key": "backup", "Value": "yes"}]}],
    )
    other.cloud.ec2.settle()
    role = f"arn:aws:iam::{HOME}:role/backup"
    id = dlm.create_lifecycle_policy(**lifecycle(role))["PolicyId"]
    steps: list[tuple[str, Callable[[], object]]] = [
        ("does not exist", lambda: None),
        (
            "does not trust",
            lambda: iam.create_role(RoleName="backup", AssumeRolePolicyDocument=trust(f"arn:aws:iam::{HOME}:root")),
        ),
        (
            "ec2:DescribeVolumes",
            lambda: iam.update_assume_role_policy(
                RoleName="backup",
                PolicyDocument=trust("x").replace('"AWS": "x"', '"Service": "dlm.amazonaws.com"'),
            ),
        ),
        (
            "ec2:CreateTags",
            lambda: iam.put_role_policy(
                RoleName="backup",
                PolicyName="p",
                PolicyDocument=document(allow(["ec2:Describe*", "ec2:CreateSnapshot"])),
            ),
        ),
        (
            "",
            lambda: iam.put_role_policy(
                RoleName="backup",
                PolicyName="q",
                PolicyDocument=document(allow("ec2:CreateTags", f"arn:aws:ec2:{REGION}::snapshot/*")),
            ),
        ),
    ]
    for message, step in steps:
        step()
        dlm.update_lifecycle_policy(PolicyId=id, State="ENABLED")
        moment[0] += 86400
        policy = dlm.get_lifecycle_policy(PolicyId=id)["Policy"]
        assert (policy["State"], message in policy["StatusMessage"]) == ("ERROR" if message else "ENABLED", True)
    assert len(ec2.describe_snapshots(OwnerIds=["self"])["Snapshots"]) == 1


def boto(cloud: PaperCloud, service: str) -> Any:
    import boto3

    factory: Any = boto3.client
    return factory(service, **cloud.client())
