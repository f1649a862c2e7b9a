"""Settings of an account: Allowed AMIs, the block on public images, and the quotas of vCPUs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import boto3
import pytest
from botocore.exceptions import ClientError
from goldenami_sandbox.testing import PaperCloud

DEBIAN = "136693071363"


@pytest.fixture
def cloud(paper_cloud: Callable[..., PaperCloud]) -> PaperCloud:
    return paper_cloud()


def client(cloud: PaperCloud, service: str = "ec2", account: str = "home") -> Any:
    make: Any = boto3.client  # overloaded for every name; ours is a variable
    return make(service, **cloud.client(account=account))


def debian(ec2: Any) -> list[str]:
    found = ec2.describe_images(Owners=[DEBIAN], Filters=[{"Name": "name", "Values": ["debian-12-amd64-*"]}])["Images"]
    return [image["ImageId"] for image in found]


def refused(call: Callable[[], Any]) -> str:
    with pytest.raises(ClientError) as caught:
        call()
    return str(caught.value.response["Error"]["Code"])


def test_only_allowed_images_are_seen_and_launched(cloud: PaperCloud) -> None:
    ec2 = client(cloud)
    assert ec2.get_allowed_images_settings()["State"] == "disabled"
    image = debian(ec2)[0]
    ec2.replace_image_criteria_in_allowed_images_settings(ImageCriteria=[{"ImageProviders": ["222222222222"]}])
    ec2.enable_allowed_images_settings(AllowedImagesSettingsState="audit-mode")
    [shown] = ec2.describe_images(ImageIds=[image])["Images"]
    assert shown["ImageAllowed"] is False
    ec2.enable_allowed_images_settings(AllowedImagesSettingsState="enabled")
    assert debian(ec2) == []
    launch = {"ImageId": image, "InstanceType": "t3.small", "MinCount": 1, "MaxCount": 1}
    assert refused(lambda: ec2.run_instances(**launch)) == "InvalidAMIID.NotFound"
    assert debian(client(cloud, account="apps")), "another account has its own settings"
    ec2.replace_image_criteria_in_allowed_images_settings(
        ImageCriteria=[{"ImageProviders": ["222222222222"]}, {"ImageNames": ["debian-12-*"]}]
    )
    assert image in debian(ec2)
    ec2.disable_allowed_images_settings()
    assert ec2.get_allowed_images_settings()["State"] == "disabled"


def test_new_accounts_block_public_images(cloud: PaperCloud) -> None:
    ec2 = client(cloud)
    assert ec2.get_image_block_public_access_state()["ImageBlockPublicAccessState"] == "block-new-sharing"
    volume = ec2.create_volume(Size=1, AvailabilityZone="eu-central-1a")["VolumeId"]
    cloud.cloud.settle()  # a volume that is being created has no snapshots
    snapshot = ec2.create_snapshot(VolumeId=volume)["SnapshotId"]
    cloud.cloud.settle()
    devices = [{"DeviceName": "/dev/xvda", "Ebs": {"SnapshotId": snapshot}}]
    image = ec2.register_image(Name="own", RootDeviceName="/dev/xvda", BlockDeviceMappings=devices)["ImageId"]
    share = {"ImageId": image, "LaunchPermission": {"Add": [{"Group": "all"}]}}
    assert refused(lambda: ec2.modify_image_attribute(**share)) == "OperationNotPermitted"
    ec2.disable_image_block_public_access()
    ec2.modify_image_attribute(**share)


@pytest.mark.parametrize(
    ("market", "code", "refusal"),
    [("spot", "L-34B43A08", "MaxSpotInstanceCountExceeded"), ("on-demand", "L-1216C47A", "VcpuLimitExceeded")],
)
def test_vcpus_have_a_quota_for_each_market(cloud: PaperCloud, market: str, code: str, refusal: str) -> None:
    ec2, quotas = client(cloud), client(cloud, "service-quotas")
    cloud.set(vcpu_quotas={code: 4})
    assert quotas.get_service_quota(ServiceCode="ec2", QuotaCode=code)["Quota"]["Value"] == 4.0
    launch = {"ImageId": debian(ec2)[0], "InstanceType": "t3.small", "MinCount": 1, "MaxCount": 1}
    if market == "spot":
        launch["InstanceMarketOptions"] = {"MarketType": "spot"}
    ids = [ec2.run_instances(**launch)["Instances"][0]["InstanceId"] for _ in range(2)]
    assert refused(lambda: ec2.run_instances(**launch)) == refusal
    ec2.terminate_instances(InstanceIds=ids)
    ec2.run_instances(**launch)


def test_a_default_vpc_has_a_way_out(cloud: PaperCloud) -> None:
    ec2 = client(cloud)
    [table] = ec2.describe_route_tables()["RouteTables"]
    [gateway] = ec2.describe_internet_gateways()["InternetGateways"]
    routes = {r["DestinationCidrBlock"]: r.get("GatewayId") for r in table["Routes"]}
    assert routes["0.0.0.0/0"] == gateway["InternetGatewayId"]
    assert gateway["Attachments"][0]["VpcId"] == table["VpcId"]


def test_a_dry_run_of_kms_changes_nothing(cloud: PaperCloud) -> None:
    kms = client(cloud, "kms")
    key = kms.describe_key(KeyId="alias/golden-ami")["KeyMetadata"]["Arn"]
    grant = {"KeyId": key, "GranteePrincipal": "arn:aws:iam::222222222222:root", "Operations": ["Decrypt"]}
    assert refused(lambda: kms.create_grant(**grant, DryRun=True)) == "DryRunOperationException"
    assert kms.list_grants(KeyId=key)["Grants"] == []
    other = client(cloud, "kms", "apps")
    request = {"KeyId": key, "KeySpec": "AES_256", "DryRun": True}
    assert refused(lambda: other.generate_data_key_without_plaintext(**request)) == "AccessDeniedException"
