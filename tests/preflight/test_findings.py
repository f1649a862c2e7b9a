"""Each finding of the preflight checks is provoked in a paper cloud. The checks make only reads."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import boto3
import pytest
from cryptography.hazmat.primitives.asymmetric import ed25519
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from goldenami_sandbox.testing import PaperCloud, paper_cloud

from goldenami import preflight, recipe
from goldenami.aws.guard import reads_only
from goldenami.aws.session import Cloud
from goldenami.cli.main import main
from goldenami.preflight import Finding, access
from goldenami.release.catalog import Catalog
from goldenami.stages.checks import check_plans
from tests.worlds.inprocess import called_directly

HOME, APPS = "111111111111", "222222222222"
DEBIAN = "136693071363"
PROJECT = """\
environments:
  company:
    home: {account: "111111111111", region: eu-central-1}
    accounts:
      apps: {id: "222222222222", role: "arn:aws:iam::222222222222:role/goldenami-publisher"}
    catalog: catalog
    targets:
      - {account: home, regions: [eu-central-1], kms_key: alias/golden-ami}
      - {account: apps, regions: [eu-west-1], kms_key: alias/golden-ami}
"""
RECIPE = """\
name: web
version: "1.0"
base:
  filter: debian-12-amd64-*
  owners: ["136693071363"]
builder: {instance_types: [t3.small]}
distribution: {targets: all, channel: stable}
"""


@dataclass
class Company:
    """A project on disk, and the cloud that its environment is in."""

    paper: PaperCloud
    path: Path

    def client(self, service: str, account: str = HOME, region: str = "eu-central-1") -> Any:
        make: Any = boto3.client  # overloaded for every name; ours is a variable
        return make(service, **self.paper.client(region, account))

    def edit(self, file: str, old: str, new: str) -> None:
        text = (self.path / file).read_text()
        assert old in text
        (self.path / file).write_text(text.replace(old, new))

    def find(self) -> tuple[Finding, ...]:
        project = recipe.load_project(self.path)
        environment = recipe.environment(project, "company")
        loaded = [recipe.load(project, "web", environment, {})]
        return preflight.find(
            Cloud.of(environment), environment, Catalog(self.path / "catalog"), loaded, more=[check_plans]
        )


@pytest.fixture
def company(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Company]:
    (tmp_path / "recipes").mkdir()
    (tmp_path / "goldenami.yaml").write_text(PROJECT)
    (tmp_path / "recipes" / "web.yaml").write_text(RECIPE)
    with paper_cloud() as paper, called_directly(paper.endpoint, paper.cloud.serve):
        for name, value in paper.variables().items():
            monkeypatch.setenv(name, value)
        monkeypatch.chdir(tmp_path)
        yield Company(paper, tmp_path)


# --- the cases --------------------------------------------------------------------------------------------------------


def role_missing(company: Company) -> None:
    company.edit("goldenami.yaml", "role/goldenami-publisher", "role/nobody")


def role_missing_but_not_required(company: Company) -> None:
    role_missing(company)
    company.edit("goldenami.yaml", "regions: [eu-west-1], kms_key", "regions: [eu-west-1], required: false, kms_key")


def region_not_enabled(company: Company) -> None:
    company.edit("goldenami.yaml", "eu-west-1", "af-south-1")


def key_missing(company: Company) -> None:
    old = "regions: [eu-west-1], kms_key: alias/golden-ami"
    company.edit("goldenami.yaml", old, old.replace("golden-ami", "x"))


def key_denied(company: Company) -> None:
    kms = company.client("kms", APPS, "eu-west-1")
    root = {"AWS": f"arn:aws:iam::{APPS}:root"}
    publisher = {"AWS": f"arn:aws:iam::{APPS}:role/goldenami-publisher"}
    statements = [
        {"Effect": "Allow", "Principal": root, "Action": "kms:*", "Resource": "*"},
        {"Effect": "Deny", "Principal": publisher, "Action": "kms:GenerateDataKey*", "Resource": "*"},
    ]
    policy = json.dumps({"Version": "2012-10-17", "Statement": statements})
    key = kms.describe_key(KeyId="alias/golden-ami")["KeyMetadata"]["KeyId"]
    kms.put_key_policy(KeyId=key, PolicyName="default", Policy=policy)


def statement_missing(company: Company) -> None:
    iam = company.client("iam", APPS)
    deny = {"Effect": "Deny", "Action": "ec2:CopyImage", "Resource": "*"}
    document = json.dumps({"Version": "2012-10-17", "Statement": [deny]})
    iam.put_role_policy(RoleName="goldenami-publisher", PolicyName="no-copies", PolicyDocument=document)


def signing(company: Company, section: str) -> None:
    company.edit("goldenami.yaml", "    catalog:", f"    signing: {{{section}}}\n    catalog:")


def key_pair(company: Company, private: str, public: str) -> None:
    for name in dict.fromkeys((private, public)):
        key = ed25519.Ed25519PrivateKey.generate()
        pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        (company.path / f"{name}.pem").write_bytes(pem)
        half = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
        (company.path / f"{name}.pub").write_bytes(half)
    signing(company, f"key: {{file: {private}.pem}}, trusted: [{public}.pub]")


def signing_key_missing(company: Company) -> None:
    signing(company, "key: {file: a.pem}")


def signing_key_of_another_kind(company: Company) -> None:
    (company.path / "a.pem").write_text("-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n")
    signing(company, "key: {file: a.pem}")


def signing_key_not_trusted(company: Company) -> None:
    key_pair(company, "a", "b")


def signing_key_not_trusted_and_required(company: Company) -> None:
    key_pair(company, "a", "b")
    company.edit("goldenami.yaml", "trusted: [b.pub]", "trusted: [b.pub], required: true")


def kms_signing_key(company: Company) -> tuple[Any, str]:
    kms = company.client("kms")
    key = kms.create_key(KeySpec="ECC_NIST_P256", KeyUsage="SIGN_VERIFY")["KeyMetadata"]["KeyId"]
    kms.create_alias(AliasName="alias/signing", TargetKeyId=key)
    signing(company, "key: {kms: alias/signing}")
    return kms, key


def signing_denied(company: Company) -> None:
    kms, key = kms_signing_key(company)
    root = {"AWS": f"arn:aws:iam::{HOME}:root"}
    statements = [
        {"Effect": "Allow", "Principal": root, "Action": "kms:*", "Resource": "*"},
        {"Effect": "Deny", "Principal": "*", "Action": "kms:Sign", "Resource": "*"},
    ]
    policy = json.dumps({"Version": "2012-10-17", "Statement": statements})
    kms.put_key_policy(KeyId=key, PolicyName="default", Policy=policy)


def signing_key_disabled(company: Company) -> None:
    kms, key = kms_signing_key(company)
    kms.disable_key(KeyId=key)


def base_missing(company: Company) -> None:
    company.edit("recipes/web.yaml", "debian-12-amd64-*", "debian-99-*")


def managed_key_that_is_shared(company: Company) -> None:
    old = "account: home, regions: [eu-central-1], kms_key: alias/golden-ami"
    company.edit("goldenami.yaml", old, old.replace("golden-ami", "aws/ebs"))
    company.edit("goldenami.yaml", "      - {account: apps, regions: [eu-west-1], kms_key: alias/golden-ami}\n", "")
    company.edit("recipes/web.yaml", "channel: stable", "channel: stable, share: {accounts: ['333333333333']}")


def managed_key_by_default(company: Company) -> None:
    """The home region is no target, so that the builder's volumes would be under the account's default key."""
    company.client("ec2").enable_ebs_encryption_by_default()
    company.edit("goldenami.yaml", "      - {account: home, regions: [eu-central-1], kms_key: alias/golden-ami}\n", "")


def subnet_missing(company: Company) -> None:
    company.edit("goldenami.yaml", "    catalog:", "    network: {subnet: {tags: {tier: build}}}\n    catalog:")


def no_default_route(company: Company) -> None:
    ec2 = company.client("ec2")
    [table] = ec2.describe_route_tables()["RouteTables"]
    ec2.delete_route(RouteTableId=table["RouteTableId"], DestinationCidrBlock="0.0.0.0/0")


def no_public_address(company: Company) -> None:
    company.edit("goldenami.yaml", "    catalog:", "    network: {address: private}\n    catalog:")


def type_unknown(company: Company) -> None:
    company.edit("recipes/web.yaml", "t3.small", "t3.huge")


def type_of_another_architecture(company: Company) -> None:
    company.edit("recipes/web.yaml", "t3.small", "t4g.small")


def quota_used(company: Company) -> None:
    company.paper.set(vcpu_quotas={"L-1216C47A": 2})
    ec2 = company.client("ec2")
    query = [{"Name": "name", "Values": ["debian-12-amd64-*"]}]
    image = ec2.describe_images(Owners=[DEBIAN], Filters=query)["Images"][0]["ImageId"]
    ec2.run_instances(ImageId=image, InstanceType="t3.small", MinCount=1, MaxCount=1)


def base_not_allowed(company: Company) -> None:
    ec2 = company.client("ec2")
    ec2.replace_image_criteria_in_allowed_images_settings(ImageCriteria=[{"ImageProviders": [APPS]}])
    ec2.enable_allowed_images_settings(AllowedImagesSettingsState="enabled")


def home_not_allowed_where_shared(company: Company) -> None:
    text = "      - {account: apps, regions: [eu-central-1], mode: share}\n"
    (company.path / "goldenami.yaml").write_text(PROJECT + text)
    ec2 = company.client("ec2", APPS)
    ec2.replace_image_criteria_in_allowed_images_settings(ImageCriteria=[{"ImageProviders": ["amazon"]}])
    ec2.enable_allowed_images_settings(AllowedImagesSettingsState="enabled")


def launch_template_missing(company: Company) -> None:
    declared = "launch_templates:\n      - {template: nodes, recipe: web, channel: stable, account: apps}\n"
    with (company.path / "goldenami.yaml").open("a") as file:
        file.write(f"    {declared}")
    data = {"InstanceType": "t3.micro"}
    company.client("ec2").create_launch_template(LaunchTemplateName="nodes", LaunchTemplateData=data)


def public_images(company: Company) -> None:
    company.client("ec2", APPS, "eu-west-1").disable_image_block_public_access()


@dataclass(frozen=True)
class Case:
    provoke: Callable[[Company], None]
    code: str
    level: str
    message: str
    mark: str = ""
    exit_code: int = 1

    def __str__(self) -> str:
        return self.provoke.__name__


CASES = (
    Case(role_missing, "role", "error", "cannot assume", "goldenami.yaml:5:34", 4),
    Case(role_missing_but_not_required, "role", "warning", "cannot assume", "goldenami.yaml:5:34", 4),
    Case(region_not_enabled, "region", "error", "is not enabled", "goldenami.yaml:9:35", 4),
    Case(statement_missing, "permission", "error", "lacks ec2:CopyImage", "goldenami.yaml:5:34", 4),
    Case(key_missing, "key", "error", "does not exist", "goldenami.yaml:9:35", 3),
    Case(key_denied, "key", "error", "may not encrypt", "goldenami.yaml:9:56", 4),
    Case(signing_key_missing, "signing-key", "error", "a.pem is missing or empty", "goldenami.yaml:6:15", 3),
    Case(signing_key_of_another_kind, "signing-key", "error", "is no private key", "goldenami.yaml:6:15", 2),
    Case(signing_key_not_trusted, "signing-key", "warning", "none of the trusted keys, b", "goldenami.yaml:6:35", 2),
    Case(signing_key_not_trusted_and_required, "signing-key", "error", "none of the trusted", "goldenami.yaml:6:35", 2),
    Case(signing_denied, "signing-key", "error", "may not sign with alias/signing", "goldenami.yaml:6:15", 4),
    Case(
        signing_key_disabled,
        "signing-key",
        "error",
        "alias/signing in 111111111111/eu-central-1 cannot sign",
        "goldenami.yaml:6:15",
        3,
    ),
    Case(base_missing, "base", "error", "debian-99-*", "recipes/web.yaml:4:11", 3),
    Case(managed_key_that_is_shared, "encryption", "error", "managed key of EBS, expected", "goldenami.yaml:7:5", 2),
    Case(managed_key_by_default, "encryption", "error", "copied into another account", "goldenami.yaml:7:5", 2),
    Case(subnet_missing, "subnet", "error", "has no subnet tagged tier=build", "goldenami.yaml:6:15", 3),
    Case(no_default_route, "way-out", "warning", "no default route", "goldenami.yaml:2:3"),
    Case(no_public_address, "way-out", "warning", "no public address", "goldenami.yaml:6:5"),
    Case(type_unknown, "instance-type", "error", "has no instance type t3.huge", "recipes/web.yaml:6:27", 2),
    Case(type_of_another_architecture, "instance-type", "error", "is arm64, not x86_64", "recipes/web.yaml:6:27", 2),
    Case(quota_used, "quota", "error", "2 of 2 are used", "recipes/web.yaml:1:1"),
    Case(base_not_allowed, "allowed-images", "error", f"exclude the base image of {DEBIAN}", "recipes/web.yaml:4:11"),
    Case(home_not_allowed_where_shared, "allowed-images", "error", f"exclude images of {HOME}", "goldenami.yaml:10:35"),
    Case(
        launch_template_missing, "launch-template", "error", "template nodes does not exist", "goldenami.yaml:11:10", 3
    ),
    Case(public_images, "public-access", "warning", "block public access for AMIs is off"),
)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_each_finding_is_provoked_and_only_reads_are_made(company: Company, case: Case) -> None:
    case.provoke(company)
    before = len(company.paper.calls)
    found = [f for f in company.find() if f.code == case.code and case.message in f.message]
    assert [(f.level, str(f.mark)) for f in found][:1] == [(case.level, case.mark)], company.find()
    assert found[0].exit_code == case.exit_code
    calls = {(call["service"], call["action"]) for call in company.paper.calls[before:]}
    assert calls, "the checks were made"
    assert [call for call in calls if not reads_only(*call)] == []


def test_every_code_has_a_case() -> None:
    elsewhere = {"clock", "zone", "program"}  # below
    assert {case.code for case in CASES} | elsewhere == set(preflight.CODES)


def test_a_program_that_operations_run_here(company: Company, monkeypatch: pytest.MonkeyPatch) -> None:
    (company.path / "recipes" / "plays").mkdir()
    (company.path / "recipes" / "plays" / "site.yml").write_text("- hosts: all\n")
    recipe = company.path / "recipes" / "web.yaml"
    recipe.write_text(recipe.read_text() + "software:\n  - ansible: plays\n")
    programs = company.path / "bin"
    programs.mkdir()
    monkeypatch.setattr("goldenami.childenv.sys.executable", str(programs / "python"))
    monkeypatch.setenv("PATH", str(programs))
    (found,) = company.find()
    assert (found.code, found.level, found.mark.file) == ("program", "error", "recipes/web.yaml")
    assert "ansible plays/site.yml needs the program ansible-playbook" in found.message
    (programs / "ansible-playbook").touch(0o755)
    assert company.find() == ()


def test_a_right_environment_has_no_finding(company: Company) -> None:
    assert company.find() == ()


@pytest.mark.parametrize("add", [lambda company: key_pair(company, "a", "a"), kms_signing_key], ids=["file", "kms"])
def test_a_key_that_can_sign_is_no_finding(company: Company, add: Callable[[Company], object]) -> None:
    add(company)
    assert company.find() == ()


def test_all_findings_at_once(company: Company) -> None:
    for provoke in (role_missing, type_unknown, base_not_allowed):
        provoke(company)
    assert {f.code for f in company.find() if f.level == "error"} == {"role", "base", "instance-type", "allowed-images"}


def test_a_check_that_may_not_read_is_unknown(company: Company) -> None:
    fault = {"action": "servicequotas:GetServiceQuota", "nth": 0, "code": "AccessDenied", "status": 403}
    company.paper.set(faults=[fault])
    assert [(f.code, f.level) for f in company.find()] == [("quota", "unknown")]


@pytest.mark.parametrize(("seconds", "level"), [(0, None), (90, "warning"), (-400, "warning")])
def test_the_clock(company: Company, monkeypatch: pytest.MonkeyPatch, seconds: int, level: str | None) -> None:
    class Wrong(datetime):
        @classmethod
        def now(cls, tz: Any = UTC) -> Any:
            return datetime.now(tz) + timedelta(seconds=seconds)

    monkeypatch.setattr(access, "datetime", Wrong)
    assert [f.level for f in company.find() if f.code == "clock"] == ([level] if level else [])


def test_a_type_that_no_zone_of_the_subnets_offers(company: Company, monkeypatch: pytest.MonkeyPatch) -> None:
    """The sandbox offers every type in every zone."""
    monkeypatch.setattr("goldenami.aws.capacity.zones", lambda *_: {"t3.small": frozenset({"eu-central-1z"})})
    [finding] = company.find()
    assert (finding.code, finding.level) == ("zone", "error")


def test_doctor_prints_findings_with_places(company: Company, capsys: pytest.CaptureFixture[str]) -> None:
    type_unknown(company)
    assert main(["doctor", "-e", "company"]) == 2
    expected = "error    instance-type   recipes/web.yaml:6:27: 111111111111/eu-central-1: builder.instance_types:"
    assert expected in capsys.readouterr().out
    assert main(["doctor", "-e", "company", "--json"]) == 2
    report = json.loads(capsys.readouterr().out)
    assert report["schema"] == "goldenami.doctor/1"
    assert [(f["code"], f["file"], f["line"]) for f in report["findings"]] == [("instance-type", "recipes/web.yaml", 6)]


def test_a_build_makes_the_checks_before_it_creates_anything(
    company: Company, capsys: pytest.CaptureFixture[str]
) -> None:
    quota_used(company)
    before = len(company.paper.calls)
    assert main(["build", "web", "-e", "company"]) == 1
    assert "1 problem found before anything was created" in capsys.readouterr().err
    calls = {(call["service"], call["action"]) for call in company.paper.calls[before:]}
    assert [call for call in calls if not reads_only(*call)] == []
