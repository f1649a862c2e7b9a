"""The pydantic models of recipes and agents: the source of ``goldenami schema`` and of hints in error messages.

Each field is described once, here. Unknown keys are refused. ``operations.py`` validates the operations in ``software``
and ``handlers`` one by one, after their expressions were rendered, with the models of ``provision.OPERATIONS``.
"""

from __future__ import annotations

import datetime
import re
from itertools import pairwise
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, StringConstraints, field_validator, model_validator

from goldenami.model import LONGEST_DESCRIPTION
from goldenami.os import LIKENESSES, SYSTEMS
from goldenami.provision import PatchSpec
from goldenami.recipe.expectspec import ExpectSpec
from goldenami.recipe.schedulespec import ScheduleSpec
from goldenami.recipe.userdata import UserDataSpec
from goldenami.recipe.words import (
    ACCOUNT_ID,
    BASE_KINDS,
    DEVICE,
    IDENTIFIER,
    IMAGE_ID,
    INSTANCE_TYPE,
    LABEL,
    MOUNT_OPTION,
    NAME,
    ORGANIZATION,
    PARAMETER,
    PROFILE,
    SNAPSHOT_ID,
    UNIT,
    USER,
    Duration,
    Name,
    OsId,
    Spec,
    Tags,
    Timeout,
    check_tags,
    seconds,
)


def _version(text: str) -> str:
    if not re.fullmatch(r"(0|[1-9][0-9]{0,8})\.(0|[1-9][0-9]{0,8})", text):
        shown = text if len(text) <= 60 else f"{text[:57]}…"
        raise ValueError(f'{shown!r} is not MAJOR.MINOR, such as "1.4"; each build appends its date and number')
    return text


def _mount_point(path: str) -> str:
    if not re.fullmatch(r"(/[A-Za-z0-9._-]+)+", path) or {".", ".."} & set(path.split("/")):
        raise ValueError(f"{path!r} is not the absolute path of a mount point, such as /srv/data")
    return path


class BaseSpec(Spec):
    """The image that the build starts from: exactly one of ssm, filter (with owners), id and recipe (with channel)."""

    ssm: str | None = Field(
        None,
        description="Name of an SSM parameter that holds an AMI id, such as the public ones of the vendors.",
        pattern=PARAMETER,
    )
    filter: str | None = Field(
        None,
        description="Name of the AMI with * and ?, such as debian-12-amd64-*. The newest image of the owners is used.",
        min_length=3,
    )
    owners: tuple[str, ...] = Field(
        (),
        description="With filter: 12-digit account ids, or self, amazon, aws-marketplace. Other "
        "accounts can publish an image under the same name.",
    )
    include_deprecated: bool = Field(
        False,
        description="With filter: whether deprecated images of other accounts count too.",
    )
    id: str | None = Field(
        None,
        description="A fixed AMI id. It differs by region and architecture.",
        pattern=IMAGE_ID,
    )
    recipe: Name | None = Field(
        None, description="Name of another recipe of this project, whose released image is the base."
    )
    channel: str | None = Field(
        None, description="With recipe: the channel to take the release from. Default: stable.", pattern=NAME
    )

    @model_validator(mode="after")
    def _one_kind(self) -> BaseSpec:
        given = [kind for kind in BASE_KINDS if getattr(self, kind) is not None]
        if len(given) != 1:
            what = f"{' and '.join(given)} are given" if given else "none is given"
            raise ValueError(f"expected exactly one of ssm, filter, id and recipe; {what}")
        if self.filter is not None and not self.owners:
            raise ValueError("filter needs owners, because any account can publish an image under any name")
        if self.owners and self.filter is None:
            raise ValueError("owners is allowed only with filter")
        if self.include_deprecated and self.filter is None:
            raise ValueError("include_deprecated is allowed only with filter")
        if self.channel and self.recipe is None:
            raise ValueError("channel is allowed only with recipe")
        for owner in self.owners:
            if not re.fullmatch(ACCOUNT_ID, owner) and owner not in ("self", "amazon", "aws-marketplace"):
                raise ValueError(
                    f"owners: {owner!r} is neither a 12-digit account id nor self, amazon or aws-marketplace"
                )
        return self


Port = Annotated[int, Field(ge=1, le=65535)]
InstanceType = Annotated[str, StringConstraints(pattern=INSTANCE_TYPE)]


def _proxy_url(value: str) -> str:
    if not re.fullmatch(r"https?://[^\s/?#]+/?", value):
        raise ValueError("expected the URL of a proxy, such as http://proxy.example.com:3128")
    return value.rstrip("/")


def _mirror_url(value: str) -> str:
    if not re.fullmatch(r"https?://[^\s\"'`]+", value):
        raise ValueError("expected the beginning of a URL, such as https://deb.debian.org/debian")
    return value.rstrip("/")


ProxyUrl = Annotated[str, AfterValidator(_proxy_url)]
MirrorUrl = Annotated[str, AfterValidator(_mirror_url)]


class ProxySpec(Spec):
    """The proxy of the builder while it is provisioned. A URL is short for {http: URL, https: URL}."""

    http: ProxyUrl | None = Field(None, description="URL of the proxy for http.")
    https: ProxyUrl | None = Field(None, description="URL of the proxy for https: mostly the same, with http://.")
    no_proxy: tuple[Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_.:/*-]+$")], ...] = Field(
        (),
        description="Hosts and domains that are reached directly, such as .example.com, in addition to the host itself "
        "and the metadata service.",
    )

    @model_validator(mode="before")
    @classmethod
    def _shorthand(cls, value: object) -> object:
        return {"http": value, "https": value} if isinstance(value, str) else value

    @model_validator(mode="after")
    def _some(self) -> ProxySpec:
        if self.http is None and self.https is None:
            raise ValueError("expected http, https or both")
        return self


class BuilderSpec(Spec):
    """The temporary instance that is provisioned, and captured as the image."""

    instance_types: tuple[InstanceType, ...] = Field(
        (),
        description="Types to try, in this order, until one has capacity. Default: small ones of the architecture.",
    )
    spot: bool = Field(False, description="Request spot capacity first, and on-demand capacity if there is none.")
    encrypted: bool | None = Field(
        None,
        description="true: encrypt the builder's volumes under the key of the target in the home region. false: leave "
        "their encryption to EC2. Default: true where another account could not copy the image otherwise (EBS "
        "encryption by default under the AWS managed key).",
    )
    ssh_user: str | None = Field(
        None,
        description="User that gets the SSH key from cloud-init. Default: the login user of the vendor's images.",
        pattern=USER,
    )
    instance_profile: str | None = Field(
        None,
        description="Name or ARN of the instance profile of the builder and the test instance. Default: "
        "builder.instance_profile of the environment, else none.",
        pattern=PROFILE,
    )
    ssh_port: Port | None = Field(None, description="Port of the SSH server in the base image. Default: 22.")
    hop_limit: int = Field(
        1,
        ge=1,
        le=64,
        description="Hops that answers of the metadata service may take: 2 lets containers on the builder reach it, "
        "and the credentials of its instance profile.",
    )
    tags: Annotated[Tags, AfterValidator(check_tags)] = Field(
        default_factory=dict,
        description="Tags for the builder and the test instance alone, such as those that a policy of the account asks "
        "for.",
    )
    proxy: ProxySpec | None = Field(
        None,
        description="Proxy for everything that the builder downloads while it is provisioned. The image has no trace "
        "of it.",
    )
    mirrors: dict[MirrorUrl, MirrorUrl] = Field(
        default_factory=dict,
        description="Internal mirrors while the builder is provisioned, by the beginning of the URL that they replace: "
        "of package sources of the base image, downloads, pip, npm and git. The image has no trace of them.",
    )
    user_data: UserDataSpec | None = Field(
        None,
        description="User data for the builder alone, in a form of cloud-init (#cloud-config, a script, "
        "#cloud-boothook or #include). It runs before all operations, and belongs to the digest of the plan.",
    )
    capture: Literal["freeze", "shutdown"] = Field(
        "freeze",
        description="How its disks are made still for the capture. freeze: at the end of the sealing the services are "
        "stopped and the file systems frozen, so that EC2 need not shut it down and no shutdown writes after the "
        "sealing. If that is not possible, or with shutdown, EC2 shuts it down.",
    )
    ssh_timeout: Timeout = Field("10m", description="Longest wait until the instance answers over SSH.")
    timeout: Timeout = Field("2h", description="Longest time that one stage of provisioning may take.")

    @field_validator("mirrors")
    @classmethod
    def _replaced_once(cls, value: dict[str, str]) -> dict[str, str]:
        for after in value.values():
            if inner := next((before for before in value if before in after), None):
                raise ValueError(f"the mirror {after!r} has {inner!r} in it, which would be replaced again")
        return value


class AgentUse(Spec):
    """One agent, from recipes/agents/ or shipped, and its parameters. A plain name is short for {name: …}."""

    name: Name = Field(
        description="Name of the agent: the folder recipes/agents/NAME, or a shipped agent (goldenami agents list)."
    )
    when: Any = Field(None, description="Condition. The agent is left out if it is false.")
    params: dict[str, Any] = Field(
        default_factory=dict, description="Values for the parameters that the agent declares."
    )


def _check_performance(volume: RootVolume | VolumeSpec) -> None:
    """Raise ValueError for IOPS and throughput that the type of a volume does not have."""
    if volume.iops is not None and volume.type not in ("gp3", "io1", "io2"):
        raise ValueError(f"iops is allowed only for gp3, io1 and io2, not for {volume.type}")
    if volume.iops is None and volume.type in ("io1", "io2"):
        raise ValueError(f"{volume.type} needs iops")
    if volume.throughput is not None and volume.type != "gp3":
        raise ValueError(f"throughput is allowed only for gp3, not for {volume.type}")


class RootVolume(Spec):
    """The root volume of the image."""

    size_gib: int | None = Field(
        None,
        ge=1,
        le=65536,
        description="Size in GiB, at least that of the base's root volume. Default: the same size.",
    )
    type: Literal["gp3", "gp2", "io1", "io2", "standard"] = Field("gp3", description="EBS volume type.")
    iops: int | None = Field(
        None, ge=100, le=256000, description="Provisioned IOPS, for gp3 (3000 to 80000), io1 and io2."
    )
    throughput: int | None = Field(None, ge=125, le=2000, description="Throughput in MiB/s, for gp3.")

    @model_validator(mode="after")
    def _type_allows(self) -> RootVolume:
        _check_performance(self)
        return self


class FilesystemSpec(Spec):
    """The file system of a data volume. It is mounted on the builder before agents and software, so that they can write
    to it, and at every boot of the instances."""

    type: Literal["ext4", "xfs"] | None = Field(
        None,
        description="File system that is made on an empty volume. A volume that has another one is refused. Default, "
        "only with snapshot: the one that is there.",
    )
    label: str | None = Field(
        None,
        pattern=LABEL,
        description="Label of the file system that is made: at most 12 letters, digits and . _ -",
    )
    mount: Annotated[str, AfterValidator(_mount_point)] = Field(
        description="Mount point. The entry in /etc/fstab names the file system by its UUID."
    )
    options: tuple[Annotated[str, StringConstraints(pattern=MOUNT_OPTION)], ...] = Field(
        (), description="Mount options, such as noatime. nofail is always added: an instance boots without the volume."
    )


class VolumeSpec(Spec):
    """A data volume of the image."""

    device: str = Field(
        pattern=DEVICE,
        description="Device name of the attachment: /dev/sdf to /dev/sdp are free in most images. The instance sees an "
        "NVMe device, whose name is another one. The name of a volume that the base has changes that volume.",
    )
    size_gib: int | None = Field(
        None, ge=1, le=65536, description="Size in GiB. Default, with snapshot or a volume of the base: its size."
    )
    type: Literal["gp3", "gp2", "io1", "io2", "st1", "sc1", "standard"] = Field("gp3", description="EBS volume type.")
    iops: int | None = Field(
        None, ge=100, le=256000, description="Provisioned IOPS, for gp3 (3000 to 80000), io1 and io2."
    )
    throughput: int | None = Field(None, ge=125, le=2000, description="Throughput in MiB/s, for gp3.")
    snapshot: str | None = Field(
        None,
        pattern=SNAPSHOT_ID,
        description="Id of a snapshot in the home account and region, or shared with it, that the volume starts from.",
    )
    delete_on_termination: bool = Field(
        True,
        description="Whether the volume of an instance of the image is deleted with the instance. The builder's always "
        "is.",
    )
    filesystem: FilesystemSpec | None = Field(
        None, description="File system and mount point. Without it, the volume is captured as it is."
    )

    @model_validator(mode="after")
    def _consistent(self) -> VolumeSpec:
        _check_performance(self)
        if self.filesystem is not None and self.filesystem.type is None and self.snapshot is None:
            raise ValueError("filesystem needs type, because an empty volume has no file system")
        return self

    @property
    def letter(self) -> str:
        """The device name without its prefix: /dev/sdf and /dev/xvdf are the same device on Xen instances."""
        return self.device.removeprefix("/dev/").removeprefix("sd").removeprefix("xvd")


def _distinct_volumes(volumes: tuple[VolumeSpec, ...]) -> tuple[VolumeSpec, ...]:
    mounts = [volume.filesystem.mount for volume in volumes if volume.filesystem is not None]
    for what, given in (("device", [volume.letter for volume in volumes]), ("mount point", mounts)):
        twice = next((one for one in given if given.count(one) > 1), None)
        if twice is not None:
            shown = f"/dev/sd{twice}" if what == "device" else twice
            raise ValueError(f"two volumes have the {what} {shown}")
    return volumes


class ImageSpec(Spec):
    """Attributes of the AMI."""

    root_volume: RootVolume = Field(
        default_factory=lambda: RootVolume.model_validate({}), description="The root volume."
    )
    volumes: Annotated[tuple[VolumeSpec, ...], AfterValidator(_distinct_volumes)] = Field(
        (),
        description="Data volumes, in addition to those of the base. Each target gets an encrypted snapshot of each.",
    )
    imds: Literal["v2", "optional"] = Field(
        "v2", description="v2: instances of the image answer only IMDSv2. optional: they answer IMDSv1 too."
    )
    boot_mode: Literal["uefi-preferred", "uefi", "legacy-bios"] | None = Field(
        None,
        description="Boot mode of the AMI: that of the base, or uefi if the builder boots by UEFI. No other change is "
        "possible. Default: the boot mode of the base.",
    )
    ssh_port: Port | None = Field(
        None,
        description="Port of the SSH server in the image, for the tests of gate 2, if the recipe changes it. Default: "
        "builder.ssh_port.",
    )
    tags: Annotated[Tags, AfterValidator(check_tags)] = Field(
        default_factory=dict,
        description="Tags for the images and their snapshots, in addition to the environment's tags.",
    )


Organization = Annotated[str, StringConstraints(pattern=ORGANIZATION)]
Unit = Annotated[str, StringConstraints(pattern=UNIT)]


class ShareSpec(Spec):
    """Other accounts that may use the images."""

    accounts: tuple[str, ...] = Field(
        (),
        description="Accounts that may launch the home account's images: names of the environment, or 12-digit ids.",
    )
    organizations: tuple[Organization, ...] = Field(
        (),
        description="ARNs of organizations whose accounts may launch the home account's images. They cannot copy them, "
        "and the policies of the keys must allow them (goldenami consumers).",
    )
    organizational_units: tuple[Unit, ...] = Field(
        (), description="ARNs of organizational units, in the same way as organizations."
    )
    tags: Annotated[Tags, AfterValidator(check_tags), Field(max_length=10)] = Field(
        default_factory=dict,
        description="Tags of shared images and their snapshots in the accounts of the environment that use them, also "
        "by mode: share. AWS keeps tags per account. With them, they also get the name of the image as Name.",
    )


class ReleaseFastRestoreSpec(Spec):
    """Fast snapshot restore of the releases that a channel points to: new instances read at full speed at once. AWS
    charges per snapshot, zone and hour."""

    zones: tuple[str, ...] = Field(min_length=1, description="Availability Zones, such as eu-central-1a.")
    targets: Literal["all"] | tuple[str, ...] = Field(
        "all",
        description="all, or a list of the recipe's targets with an image of their own, written as in distribution.",
    )


class DistributionSpec(Spec):
    """Where the image goes."""

    targets: Literal["all"] | tuple[str, ...] = Field(
        "all",
        description="all, or a list of the environment's targets: \"account/region\", an account's name, or a region.",
    )
    share: ShareSpec = Field(
        default_factory=lambda: ShareSpec.model_validate({}), description="Launch permission for other accounts."
    )
    channel: str = Field(
        "candidate", description="The channel that a successful build moves.", pattern=NAME, max_length=64
    )
    deregistration_protection: Literal["none", "with-cooldown", "without-cooldown"] = Field(
        "none",
        description="Protection of released images: EC2 refuses to deregister them until it is disabled, and for 24 "
        "hours more with-cooldown. goldenami retire disables it first. none: goldenami protects no image, and leaves "
        "the protection alone that somebody else enabled.",
    )
    fast_restore: ReleaseFastRestoreSpec | None = Field(
        None, description="Fast snapshot restore of the releases that a channel points to."
    )
    prove: Literal["home", "each-region", "each-target"] = Field(
        "home",
        description="Where the final image is booted and tested before it is published. home: in the home account and "
        "region. each-region: also once in each other region. each-target: also in each other target, with the role "
        "of its account, also from a shared image.",
    )


def check_order(spec: RetentionSpec | ChannelRetentionSpec) -> None:
    """Check the order of the ages: deprecate, disable, delete. Raises ValueError if a later step has a lower age."""
    given = [(name, getattr(spec, name)) for name in ("deprecate_after", "disable_after", "delete_after")]
    set_ones = [(name, value) for name, value in given if value is not None]
    for (first, early), (second, late) in pairwise(set_ones):
        if seconds(early) > seconds(late):
            raise ValueError(f"{second} ({late}) is earlier than {first} ({early})")


class ChannelRetentionSpec(Spec):
    """Rules for the releases that a channel points to or pointed to earlier. They replace the recipe's times."""

    keep: int | None = Field(None, ge=1, description="Number of the newest of these releases that are always kept.")
    monthly: int | None = Field(
        None, ge=1, description="Number of months: the first release of each of the last months is kept."
    )
    deprecate_after: Duration | None = Field(None, description="Age at which they are marked deprecated.")
    disable_after: Duration | None = Field(None, description="Age at which they are disabled.")
    delete_after: Duration | None = Field(None, description="Age at which they are deleted.")

    @model_validator(mode="after")
    def _order(self) -> ChannelRetentionSpec:
        check_order(self)
        return self


class RetentionSpec(Spec):
    """How long releases are kept (`goldenami retire`). Releases in use, pinned or in a channel are always kept."""

    keep: int = Field(5, ge=1, description="Number of the newest releases that are always kept.")
    minimum_age: Duration = Field("7d", description="Releases younger than this are never changed.")
    unused_for: Duration = Field("7d", description="A release that was launched more recently counts as in use.")
    deprecate_after: Duration | None = Field(
        None, description='Age at which an image is marked deprecated, such as "90d"; at most ten years.'
    )
    disable_after: Duration | None = Field(
        None, description="Age at which it is disabled: it cannot be launched until it is enabled again."
    )
    delete_after: Duration | None = Field(
        None,
        description="Age at which it is deleted. Default: when no rule keeps it, or never if disable_after is set.",
    )
    monthly: int | None = Field(
        None, ge=1, description="Number of months: the first release of each of the last months is kept."
    )
    channels: dict[Annotated[str, StringConstraints(pattern=NAME)], ChannelRetentionSpec] = Field(
        default_factory=dict,
        description="Rules by channel, for releases that the channel points to or pointed to earlier.",
    )

    @model_validator(mode="after")
    def _order(self) -> RetentionSpec:
        check_order(self)
        return self


class RefreshSpec(Spec):
    """When a recipe whose inputs have not changed is built again."""

    updates: bool = Field(
        True,
        description="Whether the repositories of the last release are searched for updates of its packages, of the "
        "level in patches. An update is a reason to build. Without level, date and releasever nothing is searched.",
    )
    max_age: Duration | None = Field(
        None, description='Age of the last release at which the recipe is built again in any case, such as "30d".'
    )
    skip_same: bool = Field(
        False,
        description="Whether a build for updates, max_age or a new base ends before the capture, without a release, if "
        "its packages and files are those of the last release. It reads all files, which takes time.",
    )


class WaiverSpec(Spec):
    """A control that is not applied until a given day."""

    reason: str = Field(min_length=1, description="The reason. The manifest of every release records it.")
    expires: datetime.date = Field(description="Last day of the waiver. Builds after that day fail.")


class HardeningSpec(Spec):
    """The hardening profiles of the image, and its exceptions from them."""

    profiles: tuple[Name, ...] = Field(min_length=1, description="Profiles of hardening/profiles.")
    choices: tuple[Name, ...] = Field(
        (), description="Controls to use in exclusive groups (firewall, time, log) instead of the profile's choice."
    )
    variables: dict[Annotated[str, StringConstraints(pattern=IDENTIFIER)], Any] = Field(
        default_factory=dict, description="Values of site variables that the controls declare."
    )
    waivers: dict[Name, WaiverSpec] = Field(
        default_factory=dict, description="Controls that are not applied, each with a reason and a last day."
    )


Scalar = str | int | float | bool | None
OperationList = list[Any]


# Keys whose values have no expressions, because the expressions of all other keys may refer to them.
LITERAL = ("name", "version", "os", "architectures", "environments")


class RecipeSpec(Spec):
    """A recipe: one file, one image. The order of the sections is the order of work."""

    name: Name = Field(description="Name of the image: the file's name without .yaml.")
    version: Annotated[str, AfterValidator(_version)] = Field(description='MAJOR.MINOR in quotes, such as "1.4".')
    description: Annotated[str, StringConstraints(strip_whitespace=True)] = Field(
        "",
        description="What the image is for, in ASCII; becomes the AMI's description.",
        max_length=LONGEST_DESCRIPTION,
    )
    owner: str = Field("", description="Team or person that is responsible for the image.", max_length=255)
    os: OsId | None = Field(
        None,
        description="The ID in /etc/os-release of the base. Default: from the base recipe or the name of the base.",
    )
    architectures: tuple[Literal["x86_64", "arm64"], ...] = Field(
        ("x86_64",), min_length=1, description="Architectures. Each one gets an image, and all are released together."
    )
    environments: tuple[Name, ...] | None = Field(
        None,
        min_length=1,
        description="Environments of goldenami.yaml that the recipe is for: it is built and checked only there. "
        "Default: all.",
    )
    vars: dict[Annotated[str, StringConstraints(pattern=IDENTIFIER)], Any] = Field(
        default_factory=dict,
        description="Variables with their defaults, used as {{ vars.NAME }}. vars of the environment, --var-file FILE "
        "and --var NAME=VALUE override them, in this order.",
    )
    base: BaseSpec = Field(description="The image that the build starts from.")
    builder: BuilderSpec = Field(
        default_factory=lambda: BuilderSpec.model_validate({}), description="The temporary instance."
    )
    setup: OperationList = Field(
        default_factory=list,
        description="Operations before the patches, in order: what the package manager needs to reach its servers, "
        "such as a proxy, an internal mirror or a certificate authority.",
    )
    patches: PatchSpec = Field(
        default_factory=lambda: PatchSpec.model_validate({}), description="Updates from the distribution."
    )
    agents: list[Any] = Field(
        default_factory=list, description="Agents to install: of recipes/agents/, or shipped ones."
    )
    software: OperationList = Field(default_factory=list, description="Operations, in order.")
    hardening: HardeningSpec | None = Field(None, description="Hardening, after software and before the tests.")
    handlers: dict[str, Any] = Field(
        default_factory=dict,
        description="Operations that run once, at the end of software, if an operation that changed something notifies "
        "them.",
    )
    tests: tuple[str, ...] = Field(
        ("base",),
        min_length=1,
        description="Built-in suites (base, hygiene, performance, reboot), suites of installed packages, and paths of "
        "testinfra files or of shell checks (*.checks), relative to the recipe.",
    )
    expect: ExpectSpec = Field(
        default_factory=lambda: ExpectSpec.model_validate({}),
        description="What is expected of instances of the image, for the suites hygiene and performance.",
    )
    image: ImageSpec = Field(default_factory=lambda: ImageSpec.model_validate({}), description="Attributes of the AMI.")
    distribution: DistributionSpec = Field(
        default_factory=lambda: DistributionSpec.model_validate({}), description="Where the image goes."
    )
    retention: RetentionSpec = Field(
        default_factory=lambda: RetentionSpec.model_validate({}), description="How long releases are kept."
    )
    refresh: RefreshSpec = Field(
        default_factory=lambda: RefreshSpec.model_validate({}),
        description="When the recipe is built again although its inputs have not changed.",
    )
    schedules: dict[Name, ScheduleSpec] = Field(
        default_factory=dict,
        description="Scheduled snapshots of the instances that run the image (`goldenami schedule run`).",
    )


class AgentSpec(Spec):
    """An agent: operations, parameters and tests for one piece of software, shared by recipes."""

    name: Name = Field(description="Name of the agent: the name of its folder, or of its file without .yaml.")
    description: str = Field("", description="What the agent does.")
    params: dict[Annotated[str, StringConstraints(pattern=IDENTIFIER)], Any] = Field(
        default_factory=dict,
        description="Parameters, used as {{ params.NAME }}: declared as {type: …, description: …, default: …}, or as a "
        "default that takes any value.",
    )
    operations: dict[OsId, OperationList] = Field(
        description=f"Operations by os ({', '.join(SYSTEMS)}). If a system has none here, {LIKENESSES}."
    )
    handlers: dict[str, Any] = Field(
        default_factory=dict, description="Operations that the agent's operations can notify."
    )
    tests: tuple[str, ...] = Field(
        (),
        description="Paths of testinfra files or of shell checks (*.checks), relative to the agent's file. They run "
        "with each recipe that uses it.",
    )
    expect: dict[str, Any] = Field(
        default_factory=dict,
        description="What the agent adds to an image that the suite hygiene reports otherwise: ports, set_id, "
        "world_writable, private_keys. Expressions may use params.",
    )
