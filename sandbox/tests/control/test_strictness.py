"""Rules of AWS that neither a model nor moto has: parameters, grants, security groups, buckets, dry runs."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from botocore.exceptions import ClientError

HOME, APPS = "111111111111", "222222222222"
Clients = Callable[..., Any]


def refused(code: str) -> Any:
    return pytest.raises(ClientError, match=rf"\({code}\)")


# --- parameters -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("params", "code"),
    [
        ({"Name": "/a b"}, "ValidationException"),
        ({"Name": "/ssm/x"}, "ValidationException"),
        ({"Name": "/aws/x"}, "AccessDeniedException"),
        ({"Name": "a/b"}, "ValidationException"),
        ({"Name": "/a//b"}, "ValidationException"),
        ({"Name": "/a/"}, "ValidationException"),
        ({"Name": "/" + "/".join(["a"] * 16)}, "HierarchyLevelLimitExceededException"),
        ({"Name": "/" + "a" * 964}, "ValidationException"),
        ({"Value": "x" * 4097}, "ValidationException"),
        ({"Value": "x" * 8193, "Tier": "Advanced"}, "ValidationException"),
        ({"Value": "{{ssm:other}}"}, "ValidationException"),
        ({"Tags": [{"Key": f"k{n}", "Value": "v"} for n in range(51)]}, "TooManyTagsError"),
        ({"Tags": [{"Key": "a(b)", "Value": "v"}]}, "ValidationException"),
        ({"Tags": [{"Key": "aws:a", "Value": "v"}]}, "ValidationException"),
        ({"Tags": [{"Key": "a", "Value": "v"}], "Overwrite": True}, "ValidationException"),
    ],
)
def test_refused_parameters(client: Clients, params: dict[str, Any], code: str) -> None:
    with refused(code):
        client("ssm").put_parameter(**{"Name": "/strict/refused", "Value": "x", "Type": "String", **params})


def test_parameters_at_the_limits(client: Clients) -> None:
    ssm = client("ssm")
    arn = len(f"arn:aws:ssm:eu-central-1:{HOME}:parameter/")
    tags = [{"Key": f"k{n}", "Value": "a b_.:/=+-@ü"} for n in range(50)]
    ssm.put_parameter(Name="/" + "/".join(["a"] * 15), Value="x" * 4096, Type="String", Tags=tags)
    ssm.put_parameter(Name="/" + "b" * (1011 - arn), Value="x" * 8192, Type="String", Tier="Advanced")
    ssm.put_parameter(Name="/strict/intelligent", Value="x" * 8192, Type="String", Tier="Intelligent-Tiering")


def test_tags_of_a_parameter_are_counted_together_and_a_tier_stays(client: Clients) -> None:
    ssm = client("ssm")
    tags = [{"Key": f"k{n}", "Value": "v"} for n in range(50)]
    ssm.put_parameter(Name="/strict/tags", Value="x", Type="String", Tier="Advanced", Tags=tags)
    resource = {"ResourceType": "Parameter", "ResourceId": "/strict/tags"}
    ssm.add_tags_to_resource(**resource, Tags=[{"Key": "k1", "Value": "w"}])
    with refused("TooManyTagsError"):
        ssm.add_tags_to_resource(**resource, Tags=[{"Key": "other", "Value": "w"}])
    with refused("ValidationException"):
        ssm.put_parameter(Name="/strict/tags", Value="y", Overwrite=True, Tier="Standard")
    ssm.put_parameter(Name="/strict/tags", Value="y" * 5000, Overwrite=True)


# --- grants -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("params", "code"),
    [
        ({"GranteePrincipal": "nonsense"}, "InvalidArnException"),
        ({"GranteePrincipal": APPS}, "InvalidArnException"),
        ({"GranteePrincipal": f"arn:aws:iam::{APPS}:role/no-such-role"}, "InvalidArnException"),
        ({"GranteePrincipal": f"arn:aws:iam::{HOME}:user/nobody"}, "InvalidArnException"),
        ({"GranteePrincipal": f"arn:aws:sts::{APPS}:assumed-role/no-such-role/x"}, "InvalidArnException"),
        ({"GranteePrincipal": f"arn:aws:iam::{APPS}:group/g"}, "InvalidArnException"),
        ({"RetiringPrincipal": "nonsense"}, "InvalidArnException"),
        ({"GranteeServicePrincipal": "ec2.amazonaws.com"}, "ValidationException"),
        ({"GranteePrincipal": None}, "ValidationException"),
        ({"Operations": ["Decrypt", "Sign"]}, "ValidationException"),
    ],
)
def test_refused_grants(client: Clients, params: dict[str, Any], code: str) -> None:
    kms = client("kms")
    key = kms.describe_key(KeyId="alias/golden-ami")["KeyMetadata"]["Arn"]
    request = {"KeyId": key, "GranteePrincipal": f"arn:aws:iam::{APPS}:root", "Operations": ["Decrypt"], **params}
    with refused(code):
        kms.create_grant(**{name: value for name, value in request.items() if value is not None})
    assert kms.list_grants(KeyId=key)["Grants"] == []


def test_grants_to_principals_that_exist(client: Clients) -> None:
    kms = client("kms")
    key = kms.create_key()["KeyMetadata"]["Arn"]
    for principal in (
        f"arn:aws:iam::{APPS}:root",
        f"arn:aws:iam::{APPS}:role/goldenami-publisher",
        f"arn:aws:sts::{APPS}:assumed-role/goldenami-publisher/session",
        "arn:aws:iam::999999999999:role/in-an-account-that-the-sandbox-does-not-have",
    ):
        assert kms.create_grant(KeyId=key, GranteePrincipal=principal, Operations=["Decrypt"])["GrantId"]


def test_the_default_key_of_ebs_takes_no_grant(client: Clients) -> None:
    ec2, kms = client("ec2"), client("kms")
    volume = ec2.create_volume(AvailabilityZone="eu-central-1a", Size=1, Encrypted=True)
    with refused("AccessDeniedException"):
        kms.create_grant(KeyId=volume["KmsKeyId"], GranteePrincipal=f"arn:aws:iam::{APPS}:root", Operations=["Decrypt"])


# --- security groups --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("params", "code"),
    [
        ({"VpcId": "vpc-00000000"}, "InvalidVpcID.NotFound"),
        ({"GroupName": "sg-mine"}, "InvalidParameterValue"),
        ({"GroupName": "a" * 256}, "InvalidParameterValue"),
        ({"GroupName": "a|b"}, "InvalidParameterValue"),
        ({"GroupName": "Default"}, "InvalidParameterValue"),
        ({"GroupName": "STRICT-TWICE"}, "InvalidGroup.Duplicate"),
        ({"Description": "what's this?"}, "InvalidParameterValue"),
        ({"Description": "größer"}, "InvalidParameterValue"),
    ],
)
def test_refused_security_groups(client: Clients, params: dict[str, Any], code: str) -> None:
    ec2 = client("ec2")
    names = {group["GroupName"] for group in ec2.describe_security_groups()["SecurityGroups"]}
    if "strict-twice" not in names:
        ec2.create_security_group(GroupName="strict-twice", Description="x")
    with refused(code):
        ec2.create_security_group(**{"GroupName": "strict", "Description": "x", **params})


def test_an_empty_vpc_of_a_security_group_is_the_default_one(client: Clients) -> None:
    ec2 = client("ec2")
    group = ec2.create_security_group(GroupName="strict-default-vpc", Description="x", VpcId="")["GroupId"]
    [made] = ec2.describe_security_groups(GroupIds=[group])["SecurityGroups"]
    [vpc] = ec2.describe_vpcs(Filters=[{"Name": "is-default", "Values": ["true"]}])["Vpcs"]
    assert made["VpcId"] == vpc["VpcId"]


def test_descriptions_of_rules(client: Clients) -> None:
    ec2 = client("ec2")
    group = ec2.create_security_group(GroupName="strict-rules", Description="x")["GroupId"]
    for text in ("the caller's address", "x" * 256):
        ranges = [{"CidrIp": "10.0.0.1/32", "Description": text}]
        with refused("InvalidParameterValue"):
            ec2.authorize_security_group_ingress(
                GroupId=group, IpPermissions=[{"IpProtocol": "tcp", "FromPort": 22, "ToPort": 22, "IpRanges": ranges}]
            )


# --- dry runs of calls that moto serves -------------------------------------------------------------------------------


def test_a_dry_run_of_moto_checks_and_changes_nothing(client: Clients) -> None:
    ec2 = client("ec2")
    group = ec2.create_security_group(GroupName="strict-dry", Description="x")["GroupId"]
    with refused("DryRunOperation"):
        ec2.create_security_group(GroupName="strict-dry-2", Description="x", DryRun=True)
    with refused("InvalidGroup.Duplicate"):
        ec2.create_security_group(GroupName="strict-dry", Description="x", DryRun=True)
    with refused("DryRunOperation"):
        ec2.delete_security_group(GroupId=group, DryRun=True)
    with refused("InvalidGroup.NotFound"):
        ec2.delete_security_group(GroupId="sg-00000000", DryRun=True)
    with refused("DryRunOperation"):
        ec2.create_tags(Resources=[group], Tags=[{"Key": "a", "Value": "b"}], DryRun=True)
    with refused("DryRunOperation"):
        ec2.create_key_pair(KeyName="strict-dry", DryRun=True)
    found = {g["GroupName"]: g for g in ec2.describe_security_groups()["SecurityGroups"]}
    assert "strict-dry-2" not in found
    assert "Tags" not in found["strict-dry"] or found["strict-dry"]["Tags"] == []
    assert ec2.describe_key_pairs(Filters=[{"Name": "key-name", "Values": ["strict-dry"]}])["KeyPairs"] == []


# --- buckets ----------------------------------------------------------------------------------------------------------


def test_another_account_needs_the_policy_of_a_bucket(client: Clients) -> None:
    s3, apps = client("s3"), client("s3", account="apps")
    s3.create_bucket(Bucket="strict", CreateBucketConfiguration={"LocationConstraint": "eu-central-1"})
    s3.put_object(Bucket="strict", Key="shared/a", Body=b"1")
    s3.put_object(Bucket="strict", Key="private", Body=b"2")

    def denied(call: Any, **params: Any) -> None:
        with pytest.raises(ClientError) as caught:
            call(Bucket="strict", **params)
        assert caught.value.response["ResponseMetadata"]["HTTPStatusCode"] == 403

    for call, params in (
        (apps.get_object, {"Key": "shared/a"}),
        (apps.head_object, {"Key": "shared/a"}),
        (apps.list_objects_v2, {}),
        (apps.head_bucket, {}),
        (apps.put_object, {"Key": "shared/b", "Body": b"3"}),
        (apps.delete_object, {"Key": "shared/a"}),
        (apps.get_bucket_policy, {}),
    ):
        denied(call, **params)
    principal = {"AWS": f"arn:aws:iam::{APPS}:root"}
    statement = {"Effect": "Allow", "Principal": principal, "Action": ["s3:GetObject"]}
    policy = {"Version": "2012-10-17", "Statement": [{**statement, "Resource": "arn:aws:s3:::strict/shared/*"}]}
    s3.put_bucket_policy(Bucket="strict", Policy=json.dumps(policy))
    assert apps.get_object(Bucket="strict", Key="shared/a")["Body"].read() == b"1"
    denied(apps.get_object, Key="private")
    denied(apps.list_objects_v2)
    denied(apps.copy_object, Key="shared/c", CopySource={"Bucket": "strict", "Key": "shared/a"})
    apps.create_bucket(Bucket="strict-apps", CreateBucketConfiguration={"LocationConstraint": "eu-central-1"})
    apps.copy_object(Bucket="strict-apps", Key="a", CopySource={"Bucket": "strict", "Key": "shared/a"})
    with refused("AccessDenied"):
        apps.copy_object(Bucket="strict-apps", Key="b", CopySource={"Bucket": "strict", "Key": "private"})
    deny = {"Effect": "Deny", "Principal": "*", "Action": "s3:*", "Resource": "arn:aws:s3:::strict/private"}
    s3.put_bucket_policy(Bucket="strict", Policy=json.dumps({"Version": "2012-10-17", "Statement": [deny]}))
    denied(s3.get_object, Key="private")
    assert s3.get_object(Bucket="strict", Key="shared/a")["Body"].read() == b"1"


def test_the_expected_owner_of_a_bucket_is_compared(client: Clients) -> None:
    s3 = client("s3")
    s3.create_bucket(Bucket="strict-owner", CreateBucketConfiguration={"LocationConstraint": "eu-central-1"})
    s3.put_object(Bucket="strict-owner", Key="a", Body=b"1", ExpectedBucketOwner=HOME)
    with refused("AccessDenied"):
        s3.put_object(Bucket="strict-owner", Key="a", Body=b"2", ExpectedBucketOwner=APPS)
    assert s3.get_object(Bucket="strict-owner", Key="a")["Body"].read() == b"1"
