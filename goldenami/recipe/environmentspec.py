"""The form of goldenami.yaml: its keys, their values and their descriptions.

``environmentsection`` makes environments of it, and checks the rules between its keys.
"""

from __future__ import annotations

import datetime
from datetime import timedelta
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, StringConstraints, model_validator

from goldenami.model import (
    DIRECT,
    IMAGE_NAME,
    MAXIMUM_LIFETIME,
    MINIMUM_LIFETIME,
    Architecture,
    Encryption,
)
from goldenami.recipe import transports
from goldenami.recipe.notifyspec import ReceiverSpec
from goldenami.recipe.schedulespec import ScheduleSpec
from goldenami.recipe.signingspec import SigningSpec
from goldenami.recipe.words import (
    CALLER,
    EXTERNAL_ID,
    IDENTIFIER,
    LAUNCH_TEMPLATE,
    PARAMETER_PREFIX,
    PRINCIPAL,
    PROFILE,
    ROLE,
    SECURITY_GROUP,
    SUBNET,
    AccountId,
    Cidr,
    Duration,
    Name,
    OneOf,
    Region,
    Spec,
    Tags,
    check_tags,
    seconds,
)
from goldenami.release import targets as modes

HOME = "home"

SHORTEST_SESSION, LONGEST_SESSION = 900, 12 * 3600  # seconds (AssumeRole, STS API reference)

Address = Literal["auto", "public", "private"]
Role = Annotated[str, StringConstraints(pattern=ROLE)]


class RoleSpec(Spec):
    """How goldenami gets credentials for an account."""

    role: Role | None = Field(None, description="Role to assume in the account. Default: the caller's own credentials.")
    external_id: str | None = Field(
        None, description="External id that the role's trust policy requires.", pattern=EXTERNAL_ID
    )
    session_duration: Duration = Field(
        "1h",
        description="How long the credentials of the role are valid, 15m to 12h; then they are renewed. At most the "
        "role's maximum; 1h if the caller's credentials are those of a role, too.",
    )

    @model_validator(mode="after")
    def _fits(self) -> RoleSpec:
        if not SHORTEST_SESSION <= seconds(self.session_duration) <= LONGEST_SESSION:
            raise ValueError(f"session_duration is {self.session_duration}, expected 15m to 12h")
        given = sorted({"external_id", "session_duration"} & self.model_fields_set)
        if self.role is None and given:
            raise ValueError(f"{' and '.join(given)}: allowed only with role")
        return self


class HomeSpec(RoleSpec):
    """Where images are built."""

    account: AccountId = Field(description="12-digit account id, in quotes.")
    region: Region = Field(description="Region of builders and candidates.")


class AccountSpec(RoleSpec):
    """Another account: for targets, for consumers, or to share images with."""

    id: AccountId = Field(description="12-digit account id, in quotes.")
    parameters: bool = Field(
        False,
        description="Whether the account also gets SSM parameters of images that a recipe only shares with it "
        "(distribution.share.accounts). Its role must be allowed to write them. Targets always get them.",
    )


class TargetSpec(Spec):
    """Targets of one account: a target for each region."""

    account: str = Field(HOME, description="home, or a name of accounts.")
    regions: tuple[Region, ...] = Field(min_length=1, description="Regions that get the image.")
    kms_key: str | None = Field(
        None,
        min_length=1,
        description="KMS key (alias/NAME, id or ARN) in these regions that encrypts the image. Required with mode "
        "copy.",
    )
    mode: Annotated[str, OneOf(modes.names)] = Field("copy", description=modes.summaries())
    required: bool = Field(
        True, description="Whether a release needs this target. If not, its failure is only reported."
    )


class ConsumerSpec(Spec):
    """Principals that launch images for one account. They get grants on the keys of its images."""

    account: str = Field(HOME, description="home, a name of accounts, or a 12-digit id in quotes.")
    services: tuple[Literal["autoscaling", "spot", "fleet", "spot-fleet", "eks"], ...] = Field(
        (),
        description="Services whose service-linked roles launch instances. eks: EKS and Auto Scaling, which launches "
        "its nodes.",
    )
    principals: tuple[Annotated[str, StringConstraints(pattern=PRINCIPAL)], ...] = Field(
        (), description="ARNs of other roles or users of that account."
    )

    @model_validator(mode="after")
    def _not_empty(self) -> ConsumerSpec:
        if not self.services and not self.principals:
            raise ValueError("expected services or principals, or both")
        return self


class LaunchTemplateSpec(Spec):
    """A launch template that follows a channel: each move of the channel adds a version with the new image."""

    template: str = Field(
        description="Name or id (lt-…) of the launch template. It must exist in each of the places.",
        pattern=LAUNCH_TEMPLATE,
    )
    recipe: Name = Field(description="Recipe whose images the template gets.")
    channel: Name = Field(description="Channel of the recipe that the template follows.")
    account: str | None = Field(
        None, description="home, or a name of accounts. Default: all accounts that have targets in the regions."
    )
    regions: tuple[Region, ...] = Field((), description="Regions of the template. Default: those of the targets.")
    architecture: Architecture | None = Field(
        None, description="Architecture of the image. Required if the recipe has several."
    )
    default: bool = Field(
        True,
        description="Whether the new version becomes the default version. If not, only launches that ask for $Latest "
        "use it.",
    )


class SubnetSpec(Spec):
    """A subnet, given by its id or its tags."""

    id: str | None = Field(None, description="Subnet id.", pattern=SUBNET)
    tags: dict[str, str] = Field(
        default_factory=dict, description="Tags that exactly one subnet in the home region has."
    )

    @model_validator(mode="after")
    def _one_way(self) -> SubnetSpec:
        if (self.id is None) == (not self.tags):
            raise ValueError("expected exactly one of id and tags")
        return self


class NetworkSpec(Spec):
    """The network of builders, and how to connect to them."""

    subnet: SubnetSpec | None = Field(None, description="Subnet of the builders. Default: a subnet of the default VPC.")
    transport: Annotated[str | dict[str, Any], transports.TransportField()] = Field(
        DIRECT,
        description="How to connect to the builder: direct, bastion, command, ssm, instance-connect, or a transport of "
        "an installed package; alone, or with its options: {NAME: {…}}.",
    )
    address: Address = Field(
        "auto",
        description="Address to connect to. private: the builder gets no public address. auto: the private address "
        "with bastion, ssm and instance-connect; else the public address if there is one, else the private one.",
    )
    source_cidr: Cidr | tuple[Cidr, ...] = Field(
        (),
        description="Addresses that may connect to the SSH port of the builder, as CIDR. Default: the caller's "
        "address, the bastion's address, or the security groups of the endpoint; nothing with ssm. A list is possible.",
    )
    security_groups: tuple[Annotated[str, StringConstraints(pattern=SECURITY_GROUP)], ...] = Field(
        (),
        max_length=5,
        description="Ids of security groups for the builder, which allow its SSH port. Default: a temporary group.",
    )

    @model_validator(mode="after")
    def _one_way(self) -> NetworkSpec:
        if self.source_cidr and self.security_groups:
            raise ValueError("source_cidr is for the temporary security group: remove it, or remove security_groups")
        return self

    @property
    def source_cidrs(self) -> tuple[str, ...]:
        """The networks of ``source_cidr``."""
        return (self.source_cidr,) if isinstance(self.source_cidr, str) else self.source_cidr


def _lifetime(given: str) -> str:
    if not MINIMUM_LIFETIME <= timedelta(seconds=seconds(given)) <= MAXIMUM_LIFETIME:
        raise ValueError(f"{given!r} is out of range: expected a duration from 1m to 30d")
    return given


class BuilderDefaults(Spec):
    """Defaults for the temporary instances of all recipes."""

    instance_profile: str | None = Field(
        None, description="Name or ARN of the instance profile of builders and test instances.", pattern=PROFILE
    )


class ChannelSpec(Spec):
    """Conditions for moving a channel. Only `goldenami promote` and `goldenami rollback` move such a channel, and no
    build does. A rollback needs only approvers and reason."""

    sources: tuple[Name, ...] = Field(
        (), alias="from", description="The release is or was in one of these channels, and was not rolled back there."
    )
    soak: Duration | None = Field(
        None, description='Least time since the release came into such a channel, or since its build, such as "24h".'
    )
    approvers: tuple[Annotated[str, StringConstraints(pattern=CALLER)], ...] = Field(
        (), description="ARNs of the callers that may move the channel; * stands for any text. Default: everyone."
    )
    second_person: bool = Field(
        False, description="Whether the caller must be another identity than the one that built the release."
    )
    reason: bool = Field(False, description="Whether --reason is required.")
    signature: bool = Field(
        False,
        description="Whether the release must have a signature of a trusted key (signing), and documents that nobody "
        "changed since.",
    )
    vulnerabilities: bool = Field(
        False, description="Whether the release must meet the policy of `vulnerabilities` at the time of the move."
    )


class FeedSpec(Spec):
    """A feed of vulnerabilities. Exactly one of url and file."""

    url: Annotated[str, StringConstraints(pattern=r"^https?://[!-~]+$")] | None = Field(
        None, description="An address with https, or one of this machine. It is downloaded again only if it changed."
    )
    file: str | None = Field(
        None, min_length=1, description="A file: absolute, or relative to goldenami.yaml. It may be made later."
    )
    format: Literal["osv", "security-tracker", "updateinfo"] = Field(
        "osv",
        description="osv: records of OSV, as a file, a list, or a zip archive such as those of "
        "https://osv-vulnerabilities.storage.googleapis.com. security-tracker: the JSON file of a security "
        "tracker with releases by codename (docs/evidence.md). updateinfo: the advisories of a repository of dnf, "
        "updateinfo.xml, also packed.",
    )
    max_age: Duration | None = Field(None, description="Age at which it proves nothing. Default: that of the policy.")
    covers: Annotated[str, StringConstraints(pattern=r"^[a-z0-9]+ [0-9.]+$")] | None = Field(
        None, description="For updateinfo: ID and VERSION_ID of /etc/os-release of the system that it is about."
    )

    @model_validator(mode="after")
    def _one_address(self) -> FeedSpec:
        if (self.url is None) == (self.file is None):
            raise ValueError("a feed needs exactly one of url and file")
        if (self.covers is None) == (self.format == "updateinfo"):
            raise ValueError("covers is needed for the format updateinfo, and for no other")
        return self

    @property
    def covered(self) -> tuple[str, str] | None:
        """The system and the release of ``covers``."""
        id, _, release = (self.covers or "").partition(" ")
        return (id, release) if id else None


class VulnerabilityWaiverSpec(Spec):
    """A vulnerability that is accepted up to a day."""

    reason: str = Field(min_length=1, description="Why it is accepted.")
    expires: datetime.date = Field(description="Last day of the waiver.")
    packages: tuple[str, ...] = Field((), description="Only in these source packages. Default: in all.")


class VulnerabilitiesSpec(Spec):
    """Feeds of vulnerabilities, and what is accepted: for `goldenami scan`, for builds, and for channels."""

    feeds: tuple[FeedSpec, ...] = Field((), description="Where vulnerabilities are told. All of them must be fresh.")
    severity: Literal["negligible", "low", "medium", "high", "critical"] = Field(
        "high", description="The lowest severity that is not accepted. An unknown severity is never accepted."
    )
    fixable: bool = Field(
        True, description="Whether only vulnerabilities count that a newer version fixes, or whose support has ended."
    )
    max_age: Duration = Field("3d", description="Age at which a feed proves nothing.")
    builds: bool = Field(False, description="Whether a build ends before the capture if its image is not accepted.")
    waivers: dict[Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9:._-]+$")], VulnerabilityWaiverSpec] = Field(
        default_factory=dict, description="Accepted vulnerabilities, by CVE or by the id of an advisory."
    )


class EnvironmentSpec(Spec):
    """The accounts, regions and keys where images are built and published."""

    sandbox: bool = Field(False, description="Use the embedded cloud. It has its own home, accounts, targets and keys.")
    home: HomeSpec | None = Field(None, description="Where images are built.")
    network: NetworkSpec = Field(
        default_factory=lambda: NetworkSpec.model_validate({}),
        description="The network of builders, and how to connect to them.",
    )
    builder: BuilderDefaults = Field(
        default_factory=lambda: BuilderDefaults.model_validate({}),
        description="Defaults for the temporary instances of all recipes.",
    )
    accounts: dict[Name, AccountSpec] = Field(
        default_factory=dict, description="Other accounts, by names that you choose."
    )
    targets: tuple[TargetSpec, ...] = Field((), description="Accounts and regions that get images.")
    consumers: tuple[ConsumerSpec, ...] = Field(
        (), description="Principals that launch images, such as the role of Auto Scaling. They get grants on the keys."
    )
    launch_templates: tuple[LaunchTemplateSpec, ...] = Field(
        (), description="Launch templates that follow channels. No others are ever changed."
    )
    catalog: str | None = Field(
        None,
        min_length=1,
        description="Place of releases and channels: s3://bucket/prefix, or a directory, relative to goldenami.yaml, "
        "that is kept and that all users share. Required, except with sandbox: true. The default of a sandbox "
        "environment is a directory of the sandbox, which all projects of this machine share.",
    )
    builds: str | None = Field(
        None,
        min_length=1,
        description="Place of the journals of builds: a directory, relative to goldenami.yaml, or s3://bucket/prefix "
        "if builds run on several machines. Default: .goldenami/NAME/builds; with sandbox: true, a directory of the "
        "sandbox.",
    )
    bucket_owner: AccountId | None = Field(
        None,
        description="12-digit id of the account that owns the buckets of catalog and builds. S3 refuses calls if "
        "another account owns them. Default: the home account.",
    )
    parameter_prefix: str = Field(
        "/golden-ami",
        description="Prefix of the SSM parameters of images. It may have the variable {{ environment.name }}.",
        pattern=PARAMETER_PREFIX,
    )
    image_name: str = Field(
        IMAGE_NAME,
        description="Names of the AMIs, with the variables {{ recipe.name }}, {{ version }}, {{ architecture }} and, "
        "optionally, {{ environment.name }}.",
    )
    encryption: Encryption = Field(
        "copy",
        description="How the image of the home region is encrypted: copy makes an encrypted copy of the candidate; "
        "launch launches the builder under the key of the home region's target, so that its image needs no copy there.",
    )
    lifetime: Annotated[Duration, AfterValidator(_lifetime)] = Field(
        "24h",
        description="How long the temporary resources of a build may exist: `clean --expired` deletes them after that, "
        "and a builder powers itself off. From 1m to 30d.",
    )
    tags: Annotated[Tags, AfterValidator(check_tags)] = Field(
        default_factory=dict, description="Tags for every resource that is created."
    )
    vars: dict[Annotated[str, StringConstraints(pattern=IDENTIFIER)], Any] = Field(
        default_factory=dict,
        description="Values for variables that recipes declare, in place of their defaults. For a variable that is a "
        "secret, another source: {secret: …}.",
    )
    test_environment: tuple[Annotated[str, StringConstraints(pattern=IDENTIFIER)], ...] = Field(
        (),
        description="Names of environment variables that the tests of recipes get from the process of the build, in "
        "addition to PATH, HOME and the locale. Credentials and other variables are removed.",
    )
    channels: dict[Name, ChannelSpec] = Field(
        default_factory=dict, description="Conditions for moving channels, by channel. Others move without conditions."
    )
    vulnerabilities: VulnerabilitiesSpec = Field(
        default_factory=lambda: VulnerabilitiesSpec.model_validate({}),
        description="Feeds of vulnerabilities, and what is accepted.",
    )
    notify: dict[Name, ReceiverSpec] = Field(
        default_factory=dict, description="Receivers of notifications, by names that you choose."
    )
    signing: SigningSpec | None = Field(
        None, description="Who signs the statements about releases, and whose signatures are trusted."
    )
    schedules: dict[Name, ScheduleSpec] = Field(
        default_factory=dict, description="Scheduled snapshots (`goldenami schedule run`)."
    )


class ProjectSpec(Spec):
    """goldenami.yaml."""

    environment: Name | None = Field(
        None,
        description="The environment of commands without --environment and GOLDENAMI_ENVIRONMENT. Default: sandbox, or "
        "the only one.",
    )
    environments: dict[Name, EnvironmentSpec] = Field(min_length=1, description="Environments by name.")
    allow_outside: tuple[Annotated[str, StringConstraints(min_length=1)], ...] = Field(
        (),
        description="Folders outside the project whose files recipes, agents and profiles may use: absolute, or "
        "relative to goldenami.yaml. Without them, a path or link that leads out of the project is an error.",
    )


# The accounts and keys that `goldenami sandbox up` creates in the embedded cloud.
SANDBOX_HOME = {"account": "111111111111", "region": "eu-central-1"}
SANDBOX_ACCOUNTS = {"apps": {"id": "222222222222", "role": "arn:aws:iam::222222222222:role/goldenami-publisher"}}
SANDBOX_KEY = "alias/golden-ami"
SANDBOX_TARGETS: tuple[dict[str, Any], ...] = (
    {"account": HOME, "regions": ["eu-central-1", "eu-west-1", "us-east-1"], "kms_key": SANDBOX_KEY},
    {"account": "apps", "regions": ["eu-central-1", "eu-west-1"], "kms_key": SANDBOX_KEY},
    {"account": "apps", "regions": ["us-east-1"], "mode": "share"},
)
