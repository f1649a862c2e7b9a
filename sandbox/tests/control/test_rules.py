"""Where moto lets everything pass and AWS does not: STS, KMS, SSM, credentials, regions. Each is a gap that the
sandbox closes.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable
from typing import Any, cast
from urllib.parse import urlencode

import boto3
import pytest
from botocore import UNSIGNED
from botocore.config import Config
from botocore.exceptions import ClientError
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from goldenami_sandbox.http import Request
from goldenami_sandbox.protocol import Call
from goldenami_sandbox.testing import PaperCloud

HOME, APPS = "111111111111", "222222222222"
Clients = Callable[..., Any]


def refused(code: str) -> Any:
    return pytest.raises(ClientError, match=rf"\({code}\)")


def session(client: Clients, role: str, account: str = APPS, **more: Any) -> dict[str, str]:
    """Assume a role from home; keyword arguments for a client."""
    arn = f"arn:aws:iam::{account}:role/{role}"
    keys = client("sts").assume_role(RoleArn=arn, RoleSessionName="test", **more)["Credentials"]
    return {
        "aws_access_key_id": keys["AccessKeyId"],
        "aws_secret_access_key": keys["SecretAccessKey"],
        "aws_session_token": keys["SessionToken"],
    }


# --- credentials and regions ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("service", "call", "code"),
    [
        ("ec2", "describe_vpcs", "AuthFailure"),
        ("sts", "get_caller_identity", "InvalidClientTokenId"),
        ("kms", "list_keys", "UnrecognizedClientException"),
        ("s3", "list_buckets", "InvalidAccessKeyId"),
    ],
)
def test_an_unknown_key_is_refused_in_the_words_of_each_service(
    client: Clients, service: str, call: str, code: str
) -> None:
    with refused(code):
        getattr(client(service, aws_access_key_id="AKIAAAAAAAAAAAAAAAAA"), call)()


def test_unsigned_requests_are_refused(cloud: PaperCloud) -> None:
    options = {"endpoint_url": cloud.endpoint, "region_name": "eu-central-1"}
    for service, call, code in (
        ("ec2", "describe_vpcs", "MissingAuthenticationToken"),
        ("ssm", "describe_parameters", "MissingAuthenticationTokenException"),
        ("s3", "list_buckets", "AccessDenied"),
    ):
        with refused(code):
            getattr(cast(Any, boto3.client)(service, **options, config=Config(signature_version=UNSIGNED)), call)()
        assert cloud.calls[-1]["result"] == code


def test_a_region_that_does_not_exist_is_refused(client: Clients) -> None:
    with refused("InvalidRegion"):
        client("ec2", "eu-nowhere-9").describe_vpcs()


def test_real_regions_are_listed(client: Clients) -> None:
    names = {region["RegionName"] for region in client("ec2").describe_regions()["Regions"]}
    assert {"eu-central-1", "eu-west-1", "us-east-1"} <= names
    zones = client("ec2", "eu-west-1").describe_availability_zones()["AvailabilityZones"]
    assert all(zone["ZoneName"].startswith("eu-west-1") for zone in zones)


def test_iam_users_can_call_with_their_keys(client: Clients) -> None:
    iam = client("iam")
    iam.create_user(UserName="ci")
    key = iam.create_access_key(UserName="ci")["AccessKey"]
    identity = client(
        "sts", aws_access_key_id=key["AccessKeyId"], aws_secret_access_key=key["SecretAccessKey"]
    ).get_caller_identity()
    assert identity["Arn"] == f"arn:aws:iam::{HOME}:user/ci"


def test_errors_name_missing_resources(cloud: PaperCloud, client: Clients) -> None:
    for service, call, arguments, code, name in (
        ("ec2", "describe_fast_launch_images", {}, "InvalidAction", "ec2:DescribeFastLaunchImages"),
        ("kms", "describe_custom_key_stores", {}, "UnknownOperationException", "kms:DescribeCustomKeyStores"),
        ("imagebuilder", "list_images", {}, "UnknownOperationException", "imagebuilder"),
        ("ebs", "start_snapshot", {"VolumeSize": 1}, "UnknownOperationException", "StartSnapshot"),
    ):
        with pytest.raises(ClientError, match=rf"\({code}\).*{name}"):
            getattr(client(service), call)(**arguments)
        assert cloud.calls[-1]["result"] == code


TARGETS = {"kms": "TrentService", "sqs": "AmazonSQS", "ssm": "AmazonSSM"}
VERSIONS = {
    "autoscaling": "2011-01-01",
    "ec2": "2016-11-15",
    "iam": "2010-05-08",
    "sns": "2010-03-31",
    "sts": "2011-06-15",
}


@pytest.mark.parametrize("service", [*TARGETS, *VERSIONS])
def test_an_action_that_aws_does_not_have_is_refused(cloud: PaperCloud, service: str) -> None:
    """Not answered as an internal error: clients would repeat the call."""
    if service in TARGETS:
        headers = {"x-amz-target": f"{TARGETS[service]}.MakeTea", "content-type": "application/x-amz-json-1.1"}
        body, code = b"{}", "UnknownOperationException"
    else:
        headers, code = {"content-type": "application/x-www-form-urlencoded"}, "InvalidAction"
        body = urlencode({"Action": "MakeTea", "Version": VERSIONS[service]}).encode()
    request = Request("POST", "/", "", headers, list(headers.items()), body)
    key = cloud.key().access_key_id
    answer = cloud.cloud.serve(Call(request, "id", key, "eu-central-1", service, None, wire=False))
    assert (answer.status, cloud.calls[-1]["result"]) == (400, code)
    assert f"{service}:MakeTea".encode() in answer.body or service == "ec2"


# --- STS --------------------------------------------------------------------------------------------------------------


def test_callers_have_their_own_identity(client: Clients) -> None:
    assert client("sts").get_caller_identity()["Arn"] == f"arn:aws:iam::{HOME}:user/admin"
    assert client("sts", account="apps").get_caller_identity()["Account"] == APPS
    identity = client("sts", **session(client, "goldenami-publisher")).get_caller_identity()
    assert identity["Arn"] == f"arn:aws:sts::{APPS}:assumed-role/goldenami-publisher/test"
    assert identity["Account"] == APPS
    assert identity["UserId"].endswith(":test")


def test_a_role_must_exist_and_trust_the_caller(client: Clients) -> None:
    with refused("AccessDenied"):
        session(client, "nobody-made-this")
    trust = {
        "Version": "2012-10-17",
        "Statement": [
            {
                "Effect": "Allow",
                "Principal": {"AWS": f"arn:aws:iam::{HOME}:root"},
                "Action": "sts:AssumeRole",
                "Condition": {"StringEquals": {"sts:ExternalId": "golden"}},
            }
        ],
    }
    client("iam", account="apps").create_role(RoleName="guarded", AssumeRolePolicyDocument=json.dumps(trust))
    with refused("AccessDenied"):
        session(client, "guarded")
    session(client, "guarded", ExternalId="golden")
    # goldenami-builder trusts home only.
    with refused("AccessDenied"):
        client("sts", account="apps").assume_role(
            RoleArn=f"arn:aws:iam::{HOME}:role/goldenami-builder", RoleSessionName="test"
        )


def test_a_session_is_as_long_as_the_role_allows(client: Clients) -> None:
    client("iam", account="apps").create_role(
        RoleName="short",
        AssumeRolePolicyDocument=json.dumps(
            {"Statement": [{"Effect": "Allow", "Principal": {"AWS": HOME}, "Action": "sts:AssumeRole"}]}
        ),
    )
    session(client, "short", DurationSeconds=3600)
    with refused("ValidationError"):
        session(client, "short", DurationSeconds=3601)


def test_a_session_ends(paper_cloud: Callable[..., PaperCloud]) -> None:
    ahead = [0.0]
    cloud = paper_cloud(clock=lambda: time.time() + ahead[0])

    def client(service: str, **credentials: str) -> Any:
        return cast(Any, boto3.client)(
            service, **{**cloud.client(), **credentials}, config=Config(retries={"total_max_attempts": 1})
        )

    keys = session(client, "goldenami-publisher", DurationSeconds=900)
    client("ec2", **keys).describe_vpcs()
    with refused("AuthFailure"):
        client("ec2", **{**keys, "aws_session_token": "another"}).describe_vpcs()
    ahead[0] = 901.0
    for service, call, code in (
        ("ec2", "describe_vpcs", "RequestExpired"),
        ("sts", "get_caller_identity", "ExpiredToken"),
        ("ssm", "describe_parameters", "ExpiredTokenException"),
    ):
        with refused(code):
            getattr(client(service, **keys), call)()


# --- KMS --------------------------------------------------------------------------------------------------------------


def test_the_seeded_keys(client: Clients) -> None:
    arns = set()
    for account in ("home", "apps"):
        for region in ("eu-central-1", "eu-west-1", "us-east-1"):
            metadata = client("kms", region, account).describe_key(KeyId="alias/golden-ami")["KeyMetadata"]
            assert metadata["Enabled"]
            assert f":{region}:" in metadata["Arn"]
            arns.add(metadata["Arn"])
    assert len(arns) == 6


def test_a_key_belongs_to_one_region(client: Clients) -> None:
    arn = client("kms").describe_key(KeyId="alias/golden-ami")["KeyMetadata"]["Arn"]
    with refused("NotFoundException"):
        client("kms", "us-east-1").describe_key(KeyId=arn)
    with refused("NotFoundException"):
        client("kms", "us-east-1").describe_key(KeyId=arn.rpartition("/")[2])


def test_a_ciphertext_is_of_one_key_and_one_context(client: Clients) -> None:
    kms = client("kms")
    arn, other = (kms.create_key()["KeyMetadata"]["Arn"] for _ in range(2))
    kms.create_alias(AliasName="alias/one", TargetKeyId=arn)
    context = {"purpose": "test"}
    blob = kms.generate_data_key(KeyId=arn, KeySpec="AES_256", EncryptionContext=context)["CiphertextBlob"]
    for name in (arn, "alias/one", arn.rpartition("/")[2]):
        assert kms.decrypt(KeyId=name, CiphertextBlob=blob, EncryptionContext=context)["KeyId"] == arn
    with refused("IncorrectKeyException"):
        kms.decrypt(KeyId=other, CiphertextBlob=blob, EncryptionContext=context)
    with refused("IncorrectKeyException"):
        kms.decrypt(KeyId=other, CiphertextBlob=blob, EncryptionContext=context, DryRun=True)
    with refused("IncorrectKeyException"):
        kms.re_encrypt(SourceKeyId=other, CiphertextBlob=blob, SourceEncryptionContext=context, DestinationKeyId=other)
    with refused("NotFoundException"):
        kms.decrypt(KeyId="alias/nothing", CiphertextBlob=blob, EncryptionContext=context)
    for wrong in ({}, {"purpose": "other"}, {**context, "more": "x"}):
        with refused("InvalidCiphertextException"):
            kms.decrypt(KeyId=arn, CiphertextBlob=blob, EncryptionContext=wrong)
    with refused("InvalidCiphertextException"):
        kms.decrypt(KeyId=arn, CiphertextBlob=blob[:-1] + bytes([blob[-1] ^ 1]), EncryptionContext=context)


def test_another_account_needs_the_policy_or_a_grant(client: Clients) -> None:
    home, apps = client("kms"), client("kms", account="apps")
    arn = home.create_key()["KeyMetadata"]["Arn"]
    calls: tuple[Callable[[], Any], ...] = (
        lambda: apps.describe_key(KeyId=arn),
        lambda: apps.encrypt(KeyId=arn, Plaintext=b"x"),
    )
    for call in calls:
        with refused("AccessDeniedException"):
            call()
    grant = home.create_grant(
        KeyId=arn, GranteePrincipal=f"arn:aws:iam::{APPS}:root", Operations=["Decrypt", "Encrypt"]
    )
    blob = apps.encrypt(KeyId=arn, Plaintext=b"secret")["CiphertextBlob"]
    assert apps.decrypt(CiphertextBlob=blob)["Plaintext"] == b"secret"
    assert home.decrypt(CiphertextBlob=blob, KeyId=arn)["KeyId"] == arn
    with refused("AccessDeniedException"):
        apps.describe_key(KeyId=arn)
    home.revoke_grant(KeyId=arn, GrantId=grant["GrantId"])
    with refused("AccessDeniedException"):
        apps.decrypt(CiphertextBlob=blob)
    statements = [
        {"Effect": "Allow", "Principal": {"AWS": f"arn:aws:iam::{account}:root"}, "Action": "kms:*", "Resource": "*"}
        for account in (HOME, APPS)
    ]
    home.put_key_policy(KeyId=arn, PolicyName="default", Policy=json.dumps({"Statement": statements}))
    assert apps.decrypt(CiphertextBlob=blob)["Plaintext"] == b"secret"
    assert apps.describe_key(KeyId=arn)["KeyMetadata"]["AWSAccountId"] == HOME


def test_signatures_of_kms_are_of_the_message_or_of_its_digest(client: Clients) -> None:
    kms = client("kms")
    key = kms.create_key(KeySpec="ECC_NIST_P256", KeyUsage="SIGN_VERIFY")["KeyMetadata"]["Arn"]
    kms.create_alias(AliasName="alias/signing", TargetKeyId=key)
    public = kms.get_public_key(KeyId="alias/signing")
    assert (public["KeyId"], public["KeySpec"], public["KeyUsage"]) == (key, "ECC_NIST_P256", "SIGN_VERIFY")
    loaded = serialization.load_der_public_key(public["PublicKey"])
    assert isinstance(loaded, ec.EllipticCurvePublicKey)
    message = b"a statement"
    how = {"KeyId": "alias/signing", "SigningAlgorithm": "ECDSA_SHA_256"}
    for given, kind in ((message, "RAW"), (hashlib.sha256(message).digest(), "DIGEST")):
        signature = kms.sign(Message=given, MessageType=kind, **how)["Signature"]
        loaded.verify(signature, message, ec.ECDSA(hashes.SHA256()))
        assert kms.verify(Message=given, MessageType=kind, Signature=signature, **how)["SignatureValid"]
    with refused("KMSInvalidSignatureException"):
        kms.verify(Message=b"another", Signature=signature, **how)
    with refused("ValidationException"):
        kms.sign(Message=message, MessageType="DIGEST", **how)
    with refused("InvalidKeyUsageException"):
        kms.sign(Message=message, KeyId=key, SigningAlgorithm="RSASSA_PSS_SHA_256")
    symmetric = kms.create_key()["KeyMetadata"]["Arn"]
    with refused("InvalidKeyUsageException"):
        kms.sign(Message=message, KeyId=symmetric, SigningAlgorithm="ECDSA_SHA_256")
    with refused("UnsupportedOperationException"):
        kms.get_public_key(KeyId=symmetric)


def test_only_symmetric_keys_make_data_keys(client: Clients) -> None:
    kms = client("kms")
    key = kms.describe_key(KeyId="alias/golden-ami")["KeyMetadata"]["Arn"]
    made = kms.generate_data_key_without_plaintext(KeyId="alias/golden-ami", KeySpec="AES_256")
    assert made["KeyId"] == key, "the answer has the ARN, not the alias"
    assert "Plaintext" not in made
    for spec, usage in (("RSA_2048", "ENCRYPT_DECRYPT"), ("ECC_NIST_P256", "SIGN_VERIFY")):
        other = kms.create_key(KeySpec=spec, KeyUsage=usage)["KeyMetadata"]["Arn"]
        for dry in (False, True):
            with refused("InvalidKeyUsageException"):
                kms.generate_data_key_without_plaintext(KeyId=other, KeySpec="AES_256", DryRun=dry)


def test_disabled_and_dying_keys(client: Clients) -> None:
    kms = client("kms")
    metadata = kms.create_key()["KeyMetadata"]
    arn = metadata["Arn"]
    kms.create_alias(AliasName="alias/dying", TargetKeyId=arn)
    blob = kms.encrypt(KeyId="alias/dying", Plaintext=b"x")["CiphertextBlob"]
    kms.disable_key(KeyId=arn)  # by ARN
    assert kms.describe_key(KeyId="alias/dying")["KeyMetadata"]["KeyState"] == "Disabled"
    with refused("DisabledException"):
        kms.decrypt(CiphertextBlob=blob)
    with refused("NotFoundException"):
        kms.enable_key(KeyId="alias/dying")  # AWS takes no alias here
    kms.enable_key(KeyId=arn)
    kms.schedule_key_deletion(KeyId=arn, PendingWindowInDays=7)
    calls: tuple[Callable[[], Any], ...] = (
        lambda: kms.generate_data_key(KeyId=arn, KeySpec="AES_256"),
        lambda: kms.decrypt(CiphertextBlob=blob),
        lambda: kms.enable_key(KeyId=arn),
    )
    for call in calls:
        with refused("KMSInvalidStateException"):
            call()
    kms.cancel_key_deletion(KeyId=arn)
    kms.enable_key(KeyId=arn)
    assert kms.decrypt(CiphertextBlob=blob)["Plaintext"] == b"x"
    with refused("KMSInvalidStateException"):
        kms.cancel_key_deletion(KeyId=arn)


def test_reencrypt_needs_both_keys(client: Clients) -> None:
    home, apps = client("kms"), client("kms", account="apps")
    theirs = home.create_key()["KeyMetadata"]["Arn"]
    blob = home.encrypt(KeyId=theirs, Plaintext=b"x")["CiphertextBlob"]
    with refused("AccessDeniedException"):
        apps.re_encrypt(CiphertextBlob=blob, DestinationKeyId="alias/golden-ami")
    ours = home.re_encrypt(CiphertextBlob=blob, DestinationKeyId="alias/golden-ami")
    assert home.decrypt(CiphertextBlob=ours["CiphertextBlob"])["Plaintext"] == b"x"


# --- SSM --------------------------------------------------------------------------------------------------------------


def test_vendors_parameters_name_their_images(client: Clients) -> None:
    for region in ("eu-central-1", "us-east-1", "ap-northeast-1"):
        for account in ("home", "apps"):
            ssm, ec2 = client("ssm", region, account), client("ec2", region, account)
            for name, architecture in (
                ("/aws/service/debian/release/12/latest/amd64", "x86_64"),
                ("/aws/service/debian/release/13/latest/arm64", "arm64"),
                ("/aws/service/canonical/ubuntu/server/24.04/stable/current/amd64/hvm/ebs-gp3/ami-id", "x86_64"),
                ("/aws/service/ami-amazon-linux-latest/al2023-ami-kernel-6.1-x86_64", "x86_64"),
            ):
                parameter = ssm.get_parameter(Name=name)["Parameter"]
                images = ec2.describe_images(ImageIds=[parameter["Value"]])["Images"]
                assert [image["Architecture"] for image in images] == [architecture]
                assert images[0]["State"] == "available"
    listed = client("ssm").get_parameters_by_path(Path="/aws/service/debian", Recursive=True)["Parameters"]
    assert len(listed) == 4


def test_an_image_parameter_takes_only_images_that_the_account_can_use(client: Clients) -> None:
    ssm = client("ssm")
    image = ssm.get_parameter(Name="/aws/service/debian/release/12/latest/amd64")["Parameter"]["Value"]
    other = ssm.get_parameter(Name="/aws/service/debian/release/13/latest/amd64")["Parameter"]["Value"]
    name = "/golden-ami/web/x86_64/stable/image-id"
    with refused("ValidationException"):
        ssm.put_parameter(Name=name, Value="not-an-image", Type="String", DataType="aws:ec2:image")
    assert ssm.put_parameter(Name=name, Value=image, Type="String", DataType="aws:ec2:image")["Version"] == 1
    with refused("ParameterAlreadyExists"):
        ssm.put_parameter(Name=name, Value=other, Type="String", DataType="aws:ec2:image")
    # Accepted, and never the value.
    assert ssm.put_parameter(Name=name, Value="ami-0123456789abcdef0", Type="String", Overwrite=True)["Version"] == 2
    assert ssm.get_parameter(Name=name)["Parameter"]["Value"] == image
    ssm.put_parameter(Name=name, Value=other, Type="String", Overwrite=True)
    parameter = ssm.get_parameter(Name=name)["Parameter"]
    assert (parameter["Value"], parameter["Version"], parameter["DataType"]) == (other, 2, "aws:ec2:image")


def test_an_image_parameter_is_validated_after_the_put(paper_cloud: Callable[..., PaperCloud]) -> None:
    now = [time.time()]
    cloud = paper_cloud(clock=lambda: now[0])
    cloud.set(pending={"parameter": 5})
    ssm = boto3.client("ssm", **cloud.client())
    image = ssm.get_parameter(Name="/aws/service/debian/release/12/latest/amd64")["Parameter"]["Value"]
    assert ssm.put_parameter(Name="/a", Value=image, Type="String", DataType="aws:ec2:image")["Version"] == 1
    with refused("ParameterNotFound"):
        ssm.get_parameter(Name="/a")
    now[0] += 6.0
    assert ssm.get_parameter(Name="/a")["Parameter"]["Version"] == 1


# --- EC2 that moto keeps ----------------------------------------------------------------------------------------------


def test_a_launch_template_version_keeps_the_values_of_its_source(client: Clients) -> None:
    ec2 = client("ec2")
    ec2.create_launch_template(
        LaunchTemplateName="web", LaunchTemplateData={"ImageId": "ami-1", "InstanceType": "t3.small"}
    )
    made = ec2.create_launch_template_version(
        LaunchTemplateName="web", SourceVersion="1", LaunchTemplateData={"ImageId": "ami-2"}
    )["LaunchTemplateVersion"]
    assert made["LaunchTemplateData"] == {"ImageId": "ami-2", "InstanceType": "t3.small"}
    [listed] = ec2.describe_launch_template_versions(LaunchTemplateName="web", Versions=["$Latest"])[
        "LaunchTemplateVersions"
    ]
    assert listed["LaunchTemplateData"] == made["LaunchTemplateData"]
    with refused("InvalidLaunchTemplateId.VersionNotFound"):
        ec2.create_launch_template_version(
            LaunchTemplateName="web", SourceVersion="9", LaunchTemplateData={"ImageId": "ami-2"}
        )


def test_a_security_group_in_use_stays(client: Clients) -> None:
    ec2 = client("ec2")
    group = ec2.create_security_group(GroupName="busy", Description="x")["GroupId"]
    image = client("ssm").get_parameter(Name="/aws/service/debian/release/12/latest/amd64")["Parameter"]["Value"]
    [instance] = ec2.run_instances(
        ImageId=image, InstanceType="t3.small", MinCount=1, MaxCount=1, SecurityGroupIds=[group]
    )["Instances"]
    with refused("DependencyViolation"):
        ec2.delete_security_group(GroupId=group)
    ec2.terminate_instances(InstanceIds=[instance["InstanceId"]])
    ec2.get_waiter("instance_terminated").wait(
        InstanceIds=[instance["InstanceId"]], WaiterConfig={"Delay": 0.05, "MaxAttempts": 100}
    )
    ec2.delete_security_group(GroupId=group)


def test_a_shared_encrypted_image_needs_its_key_too(cloud: PaperCloud, client: Clients) -> None:
    home, apps = client("ec2"), client("ec2", account="apps")
    source = client("ssm").get_parameter(Name="/aws/service/debian/release/12/latest/amd64")["Parameter"]["Value"]
    [builder] = home.run_instances(ImageId=source, InstanceType="t3.small", MinCount=1, MaxCount=1)["Instances"]
    assert cloud.cloud.ec2.settle(30)
    plain = home.create_image(InstanceId=builder["InstanceId"], Name="plain")["ImageId"]
    assert cloud.cloud.ec2.settle(30)
    image = home.copy_image(
        SourceImageId=plain, SourceRegion="eu-central-1", Name="shared", Encrypted=True, KmsKeyId="alias/golden-ami"
    )["ImageId"]
    assert cloud.cloud.ec2.settle(30)
    home.modify_image_attribute(ImageId=image, LaunchPermission={"Add": [{"UserId": APPS}]})
    [seen] = apps.describe_images(ImageIds=[image])["Images"]
    snapshot = seen["BlockDeviceMappings"][0]["Ebs"]["SnapshotId"]
    home.modify_snapshot_attribute(
        SnapshotId=snapshot, Attribute="createVolumePermission", OperationType="add", UserIds=[APPS]
    )

    def outcome() -> str:
        """The state that a launch by the other account ends in."""
        [made] = apps.run_instances(ImageId=image, InstanceType="t3.small", MinCount=1, MaxCount=1)["Instances"]
        assert cloud.cloud.ec2.settle(30)
        [instance] = apps.describe_instances(InstanceIds=[made["InstanceId"]])["Reservations"][0]["Instances"]
        return str(instance["State"]["Name"])

    assert outcome() == "terminated"
    arn = client("kms").describe_key(KeyId="alias/golden-ami")["KeyMetadata"]["Arn"]
    client("kms").create_grant(
        KeyId=arn,
        GranteePrincipal=f"arn:aws:iam::{APPS}:root",
        Operations=["Decrypt", "DescribeKey", "CreateGrant", "GenerateDataKeyWithoutPlaintext", "ReEncryptFrom"],
    )
    assert outcome() == "running"


def test_one_call_tags_resources_of_both_stores(client: Clients) -> None:
    ec2 = client("ec2")
    volume = ec2.create_volume(AvailabilityZone="eu-central-1a", Size=1)["VolumeId"]
    group = ec2.create_security_group(GroupName="tagged", Description="x")["GroupId"]
    ec2.create_tags(Resources=[group, volume], Tags=[{"Key": "both", "Value": "1"}])
    tags = ec2.describe_tags(Filters=[{"Name": "key", "Values": ["both"]}])["Tags"]
    assert {(tag["ResourceId"], tag["ResourceType"]) for tag in tags} == {(group, "security-group"), (volume, "volume")}
    pages = ec2.get_paginator("describe_tags").paginate(PaginationConfig={"PageSize": 5})
    assert sum(len(page["Tags"]) for page in pages) == len(ec2.describe_tags()["Tags"])
    ec2.delete_tags(Resources=[volume, group], Tags=[{"Key": "both"}])
    assert ec2.describe_tags(Filters=[{"Name": "key", "Values": ["both"]}])["Tags"] == []


@pytest.mark.parametrize(
    ("service", "operation", "result"),
    [("ec2", "describe_security_groups", "SecurityGroups"), ("batch", "describe_job_definitions", "jobDefinitions")],
)
def test_lists_that_moto_returns_whole_have_pages(client: Clients, service: str, operation: str, result: str) -> None:
    for number in range(11):
        if service == "ec2":
            client("ec2").create_security_group(GroupName=f"g{number}", Description="x")
        else:
            container = {"image": "busybox", "vcpus": 1, "memory": 64}
            client("batch").register_job_definition(
                jobDefinitionName=f"j{number}", type="container", containerProperties=container
            )
    every = getattr(client(service), operation)()[result]
    assert len(every) >= 11
    pages = list(client(service).get_paginator(operation).paginate(PaginationConfig={"PageSize": 5}))
    assert [len(page[result]) for page in pages][:2] == [5, 5]
    assert [one for page in pages for one in page[result]] == every


def test_launch_template_versions_are_deleted_and_their_numbers_are_not_used_again(client: Clients) -> None:
    ec2 = client("ec2")
    data = {"ImageId": "ami-1", "InstanceType": "t3.small"}
    template = ec2.create_launch_template(LaunchTemplateName="numbers", LaunchTemplateData=data)["LaunchTemplate"]
    named = {"LaunchTemplateId": template["LaunchTemplateId"]}

    def make(**more: Any) -> int:
        return int(ec2.create_launch_template_version(**named, **more)["LaunchTemplateVersion"]["VersionNumber"])

    new = {"SourceVersion": "1", "LaunchTemplateData": {"ImageId": "ami-2"}, "ClientToken": "one"}
    assert [make(**new), make(**new)] == [2, 2], "the same token makes the same version"
    with refused("IdempotentParameterMismatch"):
        make(**{**new, "VersionDescription": "another"})
    assert make(LaunchTemplateData={"ImageId": "ami-3"}) == 3
    assert ec2.modify_launch_template(**named, DefaultVersion="2")["LaunchTemplate"]["DefaultVersionNumber"] == 2
    with refused("InvalidLaunchTemplateId.VersionNotFound"):
        ec2.modify_launch_template(**named, DefaultVersion="9")
    done = ec2.delete_launch_template_versions(**named, Versions=["1", "2", "3", "9"])
    assert [one["VersionNumber"] for one in done["SuccessfullyDeletedLaunchTemplateVersions"]] == [1, 3]
    assert [
        (one["VersionNumber"], one["ResponseError"]["Code"])
        for one in done["UnsuccessfullyDeletedLaunchTemplateVersions"]
    ] == [(2, "unexpectedError"), (9, "launchTemplateVersionDoesNotExist")]
    assert make(LaunchTemplateData={"ImageId": "ami-4"}) == 4
    listed = ec2.describe_launch_template_versions(**named, Versions=["$Default", "$Latest"])["LaunchTemplateVersions"]
    assert [(one["VersionNumber"], one["DefaultVersion"]) for one in listed] == [(4, False), (2, True)]
    only = {"Filters": [{"Name": "image-id", "Values": ["ami-2"]}]}
    found = ec2.describe_launch_template_versions(**named, **only)["LaunchTemplateVersions"]
    assert [one["VersionNumber"] for one in found] == [2]
    first = ec2.describe_launch_template_versions(**named, MaxResults=1)
    assert first["LaunchTemplateVersions"][0]["VersionNumber"] == 4
    rest = ec2.describe_launch_template_versions(**named, MaxResults=1, NextToken=first["NextToken"])
    assert ("NextToken" in rest, rest["LaunchTemplateVersions"][0]["VersionNumber"]) == (False, 2)


@pytest.mark.parametrize(
    ("named", "code"),
    [
        ({"LaunchTemplateId": "lt-0123456789abcdef0"}, "InvalidLaunchTemplateId.NotFound"),
        ({"LaunchTemplateId": "lt-x"}, "InvalidLaunchTemplateId.Malformed"),
        ({"LaunchTemplateName": "nothing"}, "InvalidLaunchTemplateName.NotFoundException"),
        ({"LaunchTemplateName": "web", "LaunchTemplateId": "lt-0123456789abcdef0"}, "InvalidParameterCombination"),
    ],
    ids=["id", "form", "name", "both"],
)
def test_a_launch_template_that_does_not_exist_is_refused(client: Clients, named: dict[str, str], code: str) -> None:
    ec2 = client("ec2")
    calls: dict[str, dict[str, Any]] = {
        "create_launch_template_version": {"LaunchTemplateData": {"ImageId": "ami-1"}},
        "modify_launch_template": {"DefaultVersion": "1"},
        "delete_launch_template_versions": {"Versions": ["1"]},
        "describe_launch_template_versions": {},
    }
    for call, more in calls.items():
        with refused(code):
            getattr(ec2, call)(**named, **more)
