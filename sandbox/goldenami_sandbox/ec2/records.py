"""The records of the store: one dataclass per kind of resource, with JSON-able fields only. States depend on the clock.

Times are seconds since 1970 (UTC). Sizes are GiB unless the name has bytes. Keys are ARNs.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Generic, Literal, TypeVar

Condition = Literal["pending", "ready", "failed"]


@dataclass(slots=True)
class Progress:
    """The progress of a change: it is ready at ``until`` at the earliest, and only if its work is ``done``.

    A state is computed from it and the clock, and never stored, so that all describe calls, filters and waiters agree.
    """

    since: float
    until: float
    done: bool = False
    failure: str | None = None
    failure_code: str | None = None

    def after(self, pause: float, seconds: float) -> Progress:
        """Return the progress of another change, which begins so much later and takes so many seconds."""
        return Progress(self.since + pause, self.since + pause + seconds)

    def condition(self, now: float) -> Condition:
        if self.failure is not None:
            return "failed" if now >= self.until else "pending"
        return "ready" if self.done and now >= self.until else "pending"

    def percent(self, now: float) -> int:
        """The progress from 0 to 100; 100 only when ready. It grows with time and stays at 99 while the work takes
        longer.
        """
        if self.condition(now) == "ready":
            return 100
        if self.until <= self.since:
            return 99 if self.done else 0
        return max(0, min(99, int(100 * (now - self.since) / (self.until - self.since))))

    def succeed(self) -> None:
        self.done = True

    def fail(self, message: str, code: str | None = None) -> None:
        self.failure, self.failure_code = message, code


@dataclass(slots=True)
class Resource:
    """The fields of all kinds. ``visible_from``: earlier describe calls omit the resource. ``others_tags``: the tags
    that other accounts gave a shared image or snapshot, by account: each account sees only its own tags."""

    id: str
    owner: str
    region: str
    created: float
    visible_from: float = 0.0
    tags: dict[str, str] = field(default_factory=dict)
    others_tags: dict[str, dict[str, str]] = field(default_factory=dict)

    def tags_of(self, account: str) -> dict[str, str]:
        """Return the tags that an account sees ("Tag your Amazon EC2 resources": public or shared resources can be
        tagged, and the tags are available to the account that assigned them only)."""
        return self.tags if account == self.owner else self.others_tags.get(account, {})

    def set_tags(self, account: str, tags: dict[str, str]) -> None:
        if account == self.owner:
            self.tags = tags
        else:
            self.others_tags[account] = tags


R = TypeVar("R", bound=Resource)


@dataclass(slots=True)
class Encryption:
    """The encryption of a volume or snapshot. ``wrapped``: the data key as KMS encrypted it, base64. No plain key is
    kept.
    """

    key_arn: str
    wrapped: str
    aws_managed: bool = False


@dataclass(slots=True)
class Attachment:
    instance_id: str
    device: str
    attached: float
    delete_on_termination: bool
    progress: Progress
    detaching: bool = False


@dataclass(slots=True)
class Modification:
    """The last ModifyVolume of a volume."""

    started: float
    progress: Progress
    original_size: int
    original_type: str
    original_iops: int | None
    original_throughput: int | None


@dataclass(slots=True)
class Volume(Resource):
    availability_zone: str = ""
    size: int = 0
    type: str = "gp3"
    iops: int | None = None
    throughput: int | None = None
    snapshot_id: str | None = None
    encryption: Encryption | None = None
    progress: Progress = field(default_factory=lambda: Progress(0, 0))
    attachment: Attachment | None = None
    lineage: str | None = None  # the last snapshot of the volume or its source: parent of its next snapshot
    default_user: str = ""
    modification: Modification | None = None
    auto_enable_io: bool = False
    deleting: bool = False
    multi_attach: bool = False


@dataclass(slots=True)
class Tiering:
    """The last move of a snapshot between the tiers.

    ``archived``: when it entered the archive. ``expires``: when a temporary restore ends.
    """

    operation: Literal["archival", "temporary-restore", "permanent-restore"]
    progress: Progress
    started: float
    archived: float | None = None
    expires: float | None = None


@dataclass(slots=True)
class SnapshotLock:
    mode: Literal["governance", "compliance"]
    created: float
    expires: float
    cool_off_hours: int | None = None
    cool_off_until: float | None = None


@dataclass(slots=True)
class Snapshot(Resource):
    volume_id: str = ""
    size: int = 0
    description: str = ""
    encryption: Encryption | None = None
    progress: Progress = field(default_factory=lambda: Progress(0, 0))
    frozen: bool = False  # the point in time has been taken
    parent: str | None = None  # of the same lineage
    release: str | None = None  # a vendor's snapshot: the node's base root that it holds
    hollow: bool = False  # a vendor's snapshot without contents here
    owner_alias: str | None = None
    default_user: str = ""
    full_bytes: int = 0
    stored_bytes: int = 0
    completed: float | None = None
    users: list[str] = field(default_factory=list)  # accounts that may create volumes
    public: bool = False
    source_id: str | None = None  # the snapshot it is a copy of
    for_image: bool = False  # made by CopyImage, whose copies have a quota of their own
    tiering: Tiering | None = None
    lock: SnapshotLock | None = None
    # Availability Zone (of another account: "account/zone"): when it is ready, and when it is disabled
    fast_restore: dict[str, float] = field(default_factory=dict)
    fast_restore_ended: dict[str, float] = field(default_factory=dict)

    @property
    def is_copy(self) -> bool:
        return self.source_id is not None


@dataclass(slots=True)
class ImageDevice:
    """One block device mapping of an image: a snapshot, an empty volume, or a virtual device (``ephemeral0``)."""

    device: str
    snapshot_id: str | None = None
    size: int | None = None
    type: str = "gp3"
    iops: int | None = None
    throughput: int | None = None
    delete_on_termination: bool = True
    encrypted: bool = False
    virtual_name: str | None = None


@dataclass(slots=True)
class Image(Resource):
    name: str = ""
    description: str = ""
    architecture: str = "x86_64"
    root_device_name: str | None = None
    devices: list[ImageDevice] = field(default_factory=list)
    virtualization_type: str = "hvm"
    ena_support: bool = True
    sriov_net_support: str | None = None
    boot_mode: str | None = None
    tpm_support: str | None = None
    imds_support: str | None = None
    uefi_data: str | None = None
    platform_details: str = "Linux/UNIX"
    usage_operation: str = "RunInstances"
    owner_alias: str | None = None
    location: str = ""
    progress: Progress = field(default_factory=lambda: Progress(0, 0))
    disabled: bool = False
    deprecation: float | None = None
    deregistration_protection: Literal["disabled", "enabled-with-cooldown", "enabled-without-cooldown"] = "disabled"
    protection_until: float | None = None  # the end of the cool-down
    public: bool = False
    users: list[str] = field(default_factory=list)
    organizations: list[str] = field(default_factory=list)
    organizational_units: list[str] = field(default_factory=list)
    source_image_id: str | None = None
    source_image_region: str | None = None
    source_instance_id: str | None = None
    last_launched: float | None = None
    default_user: str = ""

    @property
    def snapshot_ids(self) -> list[str]:
        return [d.snapshot_id for d in self.devices if d.snapshot_id]


@dataclass(slots=True)
class BinRule(Resource):
    """A retention rule of the Recycle Bin. ``match`` and ``exclude``: tags as key and value, None for any value."""

    kind: str = "EBS_SNAPSHOT"
    days: int = 0
    description: str = ""
    match: list[tuple[str, str | None]] = field(default_factory=list)
    exclude: list[tuple[str, str | None]] = field(default_factory=list)


@dataclass(slots=True)
class Binned(Generic[R]):
    """A resource in the Recycle Bin."""

    resource: R
    entered: float
    leaves: float


@dataclass(slots=True)
class MetadataOptions:
    tokens: str = "optional"
    hop_limit: int = 1
    endpoint: str = "enabled"
    tags: str = "disabled"
    ipv6: str = "disabled"


@dataclass(slots=True)
class Interface(Resource):
    """A network interface, which is created and deleted with its instance."""

    instance_id: str = ""
    attachment_id: str = ""
    attached: float = 0.0
    device_index: int = 0
    subnet_id: str = ""
    vpc_id: str = ""
    availability_zone: str = ""
    mac: str = ""
    address: str = ""
    public_address: str | None = None  # assigned by EC2
    elastic_id: str | None = None  # the Elastic IP address that is associated
    groups: dict[str, str] = field(default_factory=dict)  # id -> name
    description: str = ""
    source_dest_check: bool = True
    delete_on_termination: bool = True


@dataclass(slots=True)
class ElasticAddress(Resource):
    """An Elastic IP address."""

    public_address: str = ""
    association_id: str | None = None
    interface_id: str | None = None


Goal = Literal["running", "stopped", "terminated"]


@dataclass(slots=True)
class Instance(Resource):
    """An instance. ``goal``: its state, or its next state while ``transition`` is pending."""

    reservation_id: str = ""
    launch_index: int = 0
    image_id: str = ""
    type: str = ""
    architecture: str = "x86_64"
    key_name: str | None = None
    public_key: str | None = None
    availability_zone: str = ""
    subnet_id: str = ""
    vpc_id: str = ""
    address: str = ""
    interface_ids: list[str] = field(default_factory=list)
    groups: dict[str, str] = field(default_factory=dict)  # id -> name
    root_device_name: str = ""
    user_data: str = ""  # base64
    default_user: str = ""
    client_token: str = ""
    profile_arn: str | None = None
    profile_id: str | None = None
    metadata: MetadataOptions = field(default_factory=MetadataOptions)
    shutdown_behavior: Literal["stop", "terminate"] = "stop"
    disable_api_termination: bool = False
    disable_api_stop: bool = False
    hibernation: bool = False  # HibernationOptions.Configured
    ebs_optimized: bool = False
    source_dest_check: bool = True
    monitoring: bool = False
    ena_support: bool = True
    tpm_support: str | None = None
    boot_mode: str | None = None
    imds_support: str | None = None  # of its image; an image made from it inherits that
    uefi_data: str | None = None
    virtualization_type: str = "hvm"
    platform_details: str = "Linux/UNIX"
    usage_operation: str = "RunInstances"
    credits: str | None = None
    spot_request_id: str | None = None
    launched: float = 0.0
    goal: Goal = "running"
    transition: Progress = field(default_factory=lambda: Progress(0, 0))
    status_ok_from: float = 0.0
    reason: str = ""
    reason_code: str | None = None
    reason_message: str | None = None
    on_node: bool = False  # it exists on the node: it was launched, and not terminated yet

    def state(self, now: float) -> str:
        """The name of the instance state. A failed launch is a terminated instance, a failed start a stopped one."""
        condition = self.transition.condition(now)
        if condition == "pending":
            return {"running": "pending", "stopped": "stopping", "terminated": "shutting-down"}[self.goal]
        if condition == "failed" and self.goal == "running":
            return "stopped" if self.on_node else "terminated"
        return self.goal


@dataclass(slots=True)
class SpotRequest(Resource):
    instance_id: str | None = None
    type: str = "one-time"
    state: str = "active"
    status_code: str = "fulfilled"
    status_message: str = "Your spot request is fulfilled."
    status_updated: float = 0.0
    price: str = ""
    image_id: str = ""
    instance_type: str = ""
    key_name: str | None = None
    subnet_id: str = ""
    availability_zone: str = ""
    groups: dict[str, str] = field(default_factory=dict)
    interruption_behavior: str = "terminate"
    valid_until: float | None = None
    interrupted_at: float | None = None  # when the instance is interrupted


@dataclass(slots=True)
class ReplaceRootTask(Resource):
    instance_id: str = ""
    image_id: str | None = None
    snapshot_id: str | None = None
    old_volume_id: str = ""
    new_volume_id: str = ""
    delete_replaced: bool = False
    progress: Progress = field(default_factory=lambda: Progress(0, 0))


@dataclass(slots=True)
class Token:
    """The use of a ClientToken: the digest of the request, and the ids that it created."""

    digest: str
    ids: list[str]


@dataclass(slots=True)
class ImageCriterion:
    """A criterion of Allowed AMIs. An image matches if it has all parts that are set. Days count back from now."""

    providers: list[str] = field(default_factory=list)  # "amazon", "aws-marketplace", …, account ids, or "none"
    names: list[str] = field(default_factory=list)  # with * and ?
    created_within_days: int | None = None
    deprecated_within_days: int | None = None


@dataclass(slots=True)
class AllowedImages:
    """The Allowed AMIs settings of an account in a region. ``state``: "disabled", "audit-mode" or "enabled"."""

    state: str = "disabled"
    criteria: list[ImageCriterion] = field(default_factory=list)


@dataclass(slots=True)
class EbsDefaults:
    """EBS encryption by default of an account in a region. ``key_arn`` None: the account's aws/ebs key."""

    enabled: bool = False
    key_arn: str | None = None


@dataclass(slots=True)
class ImageUsageReport:
    """A usage report. ``entries``: "account type" -> count, at the time of the report."""

    id: str
    owner: str
    region: str
    image_id: str
    types: list[str]
    accounts: list[str]
    created: float
    entries: dict[str, int] = field(default_factory=dict)


@dataclass(slots=True)
class ConnectEndpoint(Resource):
    """An EC2 Instance Connect Endpoint."""

    subnet_id: str = ""
    vpc_id: str = ""
    availability_zone: str = ""
    security_groups: list[str] = field(default_factory=list)
    preserve_client_ip: bool = False
    ready_at: float = 0.0
