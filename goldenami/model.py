"""The data classes that several packages share. They are frozen, have no behavior except names, and do no I/O."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING, Any, Literal, Protocol

from goldenami.reading import Files

if TYPE_CHECKING:
    import socket

Architecture = Literal["x86_64", "arm64"]  # as in the EC2 API
Encryption = Literal["copy", "launch"]  # when the image of the home region is encrypted
Protection = Literal["with-cooldown", "without-cooldown"]  # of an image from deregistration
IMAGE_NAME = "{{ recipe.name }}-{{ version }}-{{ architecture }}"  # the default names of AMIs
DIRECT = "direct"  # the transport that connects to the address of an instance by TCP

# How long the temporary resources of a build are kept: the default, and what an environment may set.
LONGEST_DESCRIPTION = 255  # characters, of an image and of a snapshot
DEFAULT_LIFETIME = timedelta(hours=24)
MINIMUM_LIFETIME, MAXIMUM_LIFETIME = timedelta(minutes=1), timedelta(days=30)


@dataclass(frozen=True, slots=True, order=True)
class Mark:
    """A position in a file that a user wrote. Lines and columns count from 1. ``Mark("", 0, 0)`` is for built-in values
    without a position; its text is empty."""

    file: str
    line: int
    column: int

    def __str__(self) -> str:
        return f"{self.file}:{self.line}:{self.column}" if self.file else ""


# --- where ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Connection:
    """The endpoint of the cloud's API and the credentials. A field that is None is taken from the AWS_* variables and
    the configuration files that every AWS client reads.

    If ``access_key_id`` and ``secret_access_key`` are given, profiles and other credentials are ignored.
    """

    endpoint_url: str | None = None
    access_key_id: str | None = None
    secret_access_key: str | None = field(default=None, repr=False)
    session_token: str | None = field(default=None, repr=False)
    profile: str | None = None

    @classmethod
    def from_variables(cls, variables: Mapping[str, str]) -> Connection:
        """Build the connection from AWS_* variables, for example those that ``goldenami sandbox env`` prints."""
        names = {
            "endpoint_url": "AWS_ENDPOINT_URL",
            "access_key_id": "AWS_ACCESS_KEY_ID",
            "secret_access_key": "AWS_SECRET_ACCESS_KEY",
            "session_token": "AWS_SESSION_TOKEN",
            "profile": "AWS_PROFILE",
        }
        return cls(**{field: variables.get(name) or None for field, name in names.items()})


@dataclass(frozen=True, slots=True, order=True)
class Place:
    """One account (its 12-digit id) and one region: the destination of an API call."""

    account: str
    region: str

    def __str__(self) -> str:
        return f"{self.account}/{self.region}"


@dataclass(frozen=True, slots=True)
class Account:
    """An account of an environment. ``role``: the ARN of the role to assume; None: the caller's own credentials are
    used. ``external_id``: the external id that its trust policy requires. ``session_seconds``: how long a session of
    the role is requested for; sessions are renewed. ``parameters``: the account also gets SSM parameters of images that
    are only shared with it."""

    name: str
    id: str
    role: str | None = None
    external_id: str | None = None
    session_seconds: int = 3600
    parameters: bool = False


@dataclass(frozen=True, slots=True)
class Target:
    """A place that gets its own image.

    ``kms_key``: key id, ARN or alias in that account and region (symmetric, ENCRYPT_DECRYPT).
    ``mode``: how the target gets its image, one of ``release.targets``. "copy": it owns an encrypted copy under its own
    key. "share": it may use the home account's image in the same region.
    ``required``: the release fails if this target fails. False: a failure is reported (exit code 6), and the other
    targets are released.
    """

    account: Account
    region: str
    kms_key: str
    mode: str = "copy"
    required: bool = True

    @property
    def place(self) -> Place:
        return Place(self.account.id, self.region)

    @property
    def label(self) -> str:
        return f"{self.account.name}/{self.region}"


@dataclass(frozen=True, slots=True)
class Network:
    """The subnets of builders and the way to reach them. Without ``subnet_id`` and ``subnet_tags``, the default VPC's
    default subnets are used.

    ``transport``: "direct", a built-in transport or one of an installed package. ``options``: its validated options, as
    JSON values; a secret is a reference. ``address``: the address to connect to. "private": builders get no public
    address. "auto": the public address if there is one, else the private one.
    """

    subnet_id: str | None = None
    subnet_tags: Mapping[str, str] = field(default_factory=dict)
    transport: str = DIRECT
    options: Mapping[str, Any] = field(default_factory=dict)
    address: Literal["auto", "public", "private"] = "auto"
    source_cidrs: tuple[str, ...] = ()  # the addresses that may reach the builder's SSH port; empty: the caller's own
    security_groups: tuple[str, ...] = ()  # ids of groups of the builder; then no temporary group is created


@dataclass(frozen=True, slots=True)
class Consumer:
    """A principal that launches images for an account (its 12-digit id). ``service``: a short name of service-linked
    roles ("autoscaling"), or empty; then ``principal`` is an ARN."""

    account: str
    service: str = ""
    principal: str = ""


@dataclass(frozen=True, slots=True)
class LaunchTemplate:
    """A launch template, by its name or id, that gets the images of a channel of a recipe in some places.

    ``architecture``: None is the only one of the release. ``default``: the new version becomes the default version.
    """

    template: str
    recipe: str
    channel: str
    places: tuple[Place, ...]
    architecture: Architecture | None = None
    default: bool = True


@dataclass(frozen=True, slots=True)
class ChannelRules:
    """What a release and a caller need before a channel is moved to the release.

    ``sources``: the release is or was in one of these channels; empty: not required. ``soak``: the time since it came
    there, or since its build if ``sources`` is empty. ``approvers``: ARNs of the callers that may move the channel,
    with ``*``; empty: everyone. ``second_person``: the caller must not be the identity that built the release.
    ``reason``: a text is required. ``signature``: the release must have a trusted signature (``Signing``).
    ``vulnerabilities``: the release meets the environment's policy today.
    """

    sources: tuple[str, ...] = ()
    soak: timedelta = timedelta()
    approvers: tuple[str, ...] = ()
    second_person: bool = False
    reason: bool = False
    signature: bool = False
    vulnerabilities: bool = False


Severity = Literal["unknown", "negligible", "low", "medium", "high", "critical"]


@dataclass(frozen=True, slots=True)
class FeedSource:
    """A feed of vulnerabilities. ``address``: a URL, or the path of a file. ``max_age``: None: that of the policy.
    ``covers``: the id and the release of the system that a feed is about which does not say it itself."""

    address: str
    format: Literal["osv", "security-tracker", "updateinfo"]
    max_age: timedelta | None = None
    covers: tuple[str, str] | None = None


@dataclass(frozen=True, slots=True)
class VulnerabilityWaiver:
    """A vulnerability that is accepted up to a day. ``packages``: only in these source packages; empty: in all."""

    id: str
    reason: str
    expires: date
    packages: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class VulnerabilityPolicy:
    """Which vulnerabilities an environment accepts. ``severity``: the lowest that is not accepted. ``fixable``: only
    those with a fix count. ``max_age``: of feeds. ``builds``: whether a build fails before its release."""

    feeds: tuple[FeedSource, ...] = ()
    severity: Severity = "high"
    fixable: bool = True
    max_age: timedelta = timedelta(days=3)
    waivers: tuple[VulnerabilityWaiver, ...] = ()
    builds: bool = False


@dataclass(frozen=True, slots=True)
class SecretSource:
    """Where a value is that goldenami.yaml does not contain. ``key``: a variable, a file or an SSM parameter. ``files``
    reads it if it is a file."""

    source: Literal["env", "file", "ssm"]
    key: str
    files: Files = field(repr=False, compare=False)


@dataclass(frozen=True, slots=True)
class KmsSigningKey:
    """An asymmetric key of KMS in the home account, by its id, alias or ARN."""

    key: str
    region: str


@dataclass(frozen=True, slots=True)
class Signing:
    """Who signs the statements about releases, and whose signatures are trusted.

    ``key``: None: this environment only verifies. ``password``: of an encrypted key. ``trusted``: name of the file ->
    public key, as text; empty: the public half of ``key``. ``required``: channels move only to releases with a trusted
    signature. ``contents``: statements have the content digests of the volumes.
    """

    key: SecretSource | KmsSigningKey | None = None
    password: SecretSource | None = None
    trusted: Mapping[str, str] = field(default_factory=dict)
    required: bool = False
    contents: bool = True


@dataclass(frozen=True, slots=True)
class EventBus:
    """A bus of EventBridge, by its name or ARN."""

    bus: str
    region: str


@dataclass(frozen=True, slots=True)
class Topic:
    """An SNS topic."""

    arn: str

    @property
    def region(self) -> str:
        return self.arn.split(":")[3]


@dataclass(frozen=True, slots=True)
class Webhook:
    """An address that gets a POST. ``body``: a Jinja template; None: the default of ``notify``. ``allow_http``: also
    without TLS, and not only on this machine."""

    url: str | SecretSource
    headers: Mapping[str, str | SecretSource] = field(default_factory=dict)
    body: str | None = None
    allow_http: bool = False


@dataclass(frozen=True, slots=True)
class Program:
    """A program on this machine that gets the event on stdin. ``environment``: names of more variables that it gets.
    ``directory``: where it starts."""

    arguments: tuple[str, ...]
    environment: tuple[str, ...]
    directory: str


@dataclass(frozen=True, slots=True)
class Receiver:
    """Who gets which notifications. ``on``: the events. ``recipes``, ``channels``: only these; empty: all.
    ``timeout``: seconds for one notification, with its retries."""

    name: str
    to: EventBus | Topic | Webhook | Program
    on: frozenset[str]
    recipes: tuple[str, ...] = ()
    channels: tuple[str, ...] = ()
    timeout: float = 10.0


@dataclass(frozen=True, slots=True)
class Environment:
    """The accounts, targets, keys, network and stores for building and publishing."""

    name: str
    home: Account
    home_region: str
    accounts: Mapping[str, Account]  # by name, home included
    targets: tuple[Target, ...]
    network: Network
    catalog: str  # a directory, absolute; or s3://bucket/prefix
    builds: str  # where the journals are: a directory, absolute; or s3://bucket/prefix
    tags: Mapping[str, str] = field(default_factory=dict)
    parameter_prefix: str = "/golden-ami"
    lifetime: timedelta = DEFAULT_LIFETIME  # of temporary resources
    instance_profile: str | None = None  # of temporary instances; a recipe can name another one
    bucket_owner: str = ""  # the id of the account that owns the buckets of catalog and builds; empty: home
    encryption: Encryption = "copy"  # "launch": the builder has the home target's key, and its image is the home one
    image_name: str = IMAGE_NAME  # a template of ``release.names``; it has the name of the environment already
    test_environment: tuple[str, ...] = ()  # names of environment variables that the tests on this machine get
    local: str = ""  # a directory, absolute: for files that stay on this machine (reports)
    sandbox: bool = False  # only the command line and the Python API, which start the sandbox, may read it
    connection: Connection = Connection()
    consumers: tuple[Consumer, ...] = ()
    launch_templates: tuple[LaunchTemplate, ...] = ()
    channels: Mapping[str, ChannelRules] = field(default_factory=dict)  # by channel; builds do not move these channels
    notify: tuple[Receiver, ...] = ()
    vulnerabilities: VulnerabilityPolicy = VulnerabilityPolicy()
    signing: Signing | None = None
    # The positions of the keys in goldenami.yaml, by path below the environment; targets are named by their label.
    marks: Mapping[tuple[str, ...], Mark] = field(default_factory=dict, repr=False, compare=False)

    def mark(self, *path: str) -> Mark:
        """Return the position of a key in goldenami.yaml, or of the nearest key above it: ("home", "role"),
        ("accounts", "apps", "role"), ("targets", "home/eu-central-1", "kms_key")."""
        while path not in self.marks and path:
            path = path[:-1]
        return self.marks.get(path, Mark("", 0, 0))

    @property
    def home_place(self) -> Place:
        return Place(self.home.id, self.home_region)

    @property
    def places(self) -> tuple[Place, ...]:
        """The home place and the places of all targets, sorted."""
        return tuple(sorted({self.home_place, *(target.place for target in self.targets)}))

    @property
    def informed(self) -> tuple[Account, ...]:
        """The accounts that also get parameters of images that are only shared with them."""
        return tuple(account for account in self.accounts.values() if account.parameters)

    @property
    def informed_places(self) -> tuple[Place, ...]:
        """The places without a target that get parameters of images that the home account shares with them, sorted.
        The role there may have no more permissions than those for parameters."""
        regions = {target.region for target in self.targets if target.account.id == self.home.id}
        every = {Place(account.id, region) for account in self.informed for region in regions}
        return tuple(sorted(every.difference(self.places)))

    @property
    def storage_owner(self) -> str:
        """The id of the account that owns the buckets of catalog and builds."""
        return self.bucket_owner or self.home.id


# --- what is built ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class BaseDevice:
    """An EBS volume of an image, from DescribeImages. ``snapshot_id`` None: the volume is created empty. ``size_gib``
    0: not known."""

    device_name: str
    snapshot_id: str | None
    encrypted: bool
    size_gib: int = 0
    delete_on_termination: bool = True


@dataclass(frozen=True, slots=True)
class BaseImage:
    """The image that a build starts from, with its properties from DescribeImages."""

    image_id: str
    name: str
    owner: str
    architecture: Architecture
    root_device_name: str
    root_volume_gib: int
    creation_date: str  # ISO 8601, as EC2 gives it
    source: str  # how it was found, as text: "filter debian-12-amd64-*", "debian-12-base@stable 1.2.20261124.1"
    release: str | None = None  # "name version" if the image is a release of the catalog
    platform_details: str = "Linux/UNIX"
    boot_mode: str | None = None
    devices: tuple[BaseDevice, ...] = ()


@dataclass(frozen=True, slots=True)
class ManifestSnapshot:
    snapshot_id: str
    device_name: str
    volume_size_gib: int
    encrypted: bool
    kms_key_id: str | None  # the key's ARN, as DescribeSnapshots gives it


@dataclass(frozen=True, slots=True)
class ManifestImage:
    """One row of a release: the image that one account uses in one region. Shared rows name the owner's image.

    ``shared_with``: who else may launch the image, in the row of its owner: account ids, and ARNs of organizations and
    organizational units."""

    architecture: Architecture
    account: str
    region: str
    image_id: str
    name: str
    mode: str  # the mode of its target, one of ``release.targets``
    encrypted: bool
    snapshots: tuple[ManifestSnapshot, ...]
    shared_with: tuple[str, ...] = ()

    @property
    def place(self) -> Place:
        return Place(self.account, self.region)


@dataclass(frozen=True, slots=True)
class TestFailure:
    __test__ = False
    name: str  # pytest's node id
    message: str
    place: str = ""  # file:line


@dataclass(frozen=True, slots=True)
class ControlResult:
    """The result of one hardening control. ``message``: why it failed, is waived or not applicable. ``until``: the last
    day of a waiver (ISO 8601)."""

    control: str
    outcome: Literal["passed", "failed", "waived", "not-applicable", "not-run"]
    message: str = ""
    until: str | None = None


@dataclass(frozen=True, slots=True)
class TestReport:
    """The results of one run of tests on one instance. ``junit``: path of the XML file, if one was written.
    ``controls``: the results of the recipe's hardening controls, by id. ``facts``: what tests recorded about the host,
    JSON values by name, for later builds. ``place``: where the instance ran, the label of a target; empty: home.
    ``not_executed``: how many of the skipped tests need what the instance of a sandbox does not have, such as systemd;
    they prove nothing."""

    __test__ = False
    gate: str  # "builder" (gate 1), "image" (gate 2), "reboot" (gate 2, after a reboot)
    architecture: Architecture
    passed: int
    failed: int
    skipped: int
    flaky: int
    seconds: float
    failures: tuple[TestFailure, ...] = ()
    junit: str | None = None
    controls: tuple[ControlResult, ...] = ()
    facts: Mapping[str, Any] = field(default_factory=dict)
    place: str = ""
    not_executed: int = 0

    @property
    def ok(self) -> bool:
        return self.failed == 0 and self.passed + self.flaky > 0


@dataclass(frozen=True, slots=True)
class Package:
    """An installed package, as dpkg or rpm names it."""

    name: str
    version: str
    architecture: str


@dataclass(frozen=True, slots=True)
class PackageChange:
    """``before`` None: newly installed; ``after`` None: removed."""

    name: str
    before: str | None
    after: str | None


@dataclass(frozen=True, slots=True)
class PackageRepository:
    """A repository that the package manager of an image reads, as the image has it configured.

    ``name``: its id for dnf; for apt, the file that names it. ``uris``: without user names and passwords. ``mirrors``:
    for dnf, the URL of a list of mirrors. ``suite``, ``components`` and ``architectures`` (dpkg's names; empty: the
    image's own) are for apt; ``priority``, ``only`` and ``exclude`` are for dnf. ``signed_by``: for apt, the files of
    the keys that sign it, or fingerprints; empty: any key that the image trusts. ``trusted``: apt checks no signature.
    """

    name: str
    uris: tuple[str, ...]
    mirrors: str = ""
    suite: str = ""
    components: tuple[str, ...] = ()
    architectures: tuple[str, ...] = ()
    priority: int = 0
    only: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    signed_by: tuple[str, ...] = ()
    trusted: bool = False


@dataclass(frozen=True, slots=True)
class PackagePin:
    """An entry of apt_preferences(5): the names or patterns of packages, the pin, and its priority."""

    packages: tuple[str, ...]
    pin: str
    priority: int


@dataclass(frozen=True, slots=True)
class PackageSources:
    """Where the package manager of an image takes packages from. ``manager``: its name. ``held``: the packages that it
    does not upgrade, names or patterns. ``keyrings``: path -> contents of a key file in base64; in a manifest, the
    SHA-256 under which the catalog keeps them (``Catalog.keep_keyring``)."""

    manager: str
    repositories: tuple[PackageRepository, ...]
    held: tuple[str, ...] = ()
    pins: tuple[PackagePin, ...] = ()
    keyrings: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class PackageUpdate:
    """A newer version of an installed package in a repository. ``repository``: the suite or the id. ``advisories``:
    their ids, if the repository names them."""

    name: str
    architecture: str
    before: str
    after: str
    repository: str = ""
    security: bool = False
    advisories: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Replacement:
    """A temporary instance that was lost and replaced. ``at``: when, ISO 8601, UTC."""

    purpose: str  # "builder" or "proof"
    architecture: Architecture
    instance_id: str
    reason: str
    reclaimed: bool  # a spot instance that EC2 reclaimed
    at: str


@dataclass(frozen=True, slots=True)
class AccessChange:
    """Who could launch an image besides its owner, before and after a revision (see ``ManifestImage.shared_with``)."""

    image_id: str
    before: tuple[str, ...]
    after: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Revision:
    """One change of the images of a release by `goldenami distribute`. ``at``: when, ISO 8601, UTC. ``task``: the id of
    the task. ``by``: the ARN of the caller. ``added``: "account/region architecture image id" of each new row.
    ``removed``: rows of accounts that may not use the image any more; their images exist."""

    at: str
    task: str
    by: str
    added: tuple[str, ...] = ()
    removed: tuple[ManifestImage, ...] = ()
    access: tuple[AccessChange, ...] = ()


@dataclass(frozen=True, slots=True)
class Declaration:
    """What a recipe says about the distribution of its releases in one environment.

    ``share_accounts``, ``share_organizations``: as in ``ReleaseOrder``. ``tags``: the recipe's own tags of images.
    ``deprecate_after``: counts from the start of the build; None: images are not deprecated. ``protection``: of images
    from deregistration; None: goldenami does not protect them. ``fast_restore``: place of a target -> the Availability
    Zones with fast snapshot restore of the releases that a channel points to. ``share_tags``: of shared images and
    snapshots, in the accounts that use them.
    """

    recipe: str
    targets: tuple[Target, ...]
    share_accounts: tuple[str, ...] = ()
    share_organizations: tuple[str, ...] = ()
    tags: Mapping[str, str] = field(default_factory=dict)
    imds_v2: bool = True
    deprecate_after: timedelta | None = None
    protection: Protection | None = None
    fast_restore: Mapping[Place, tuple[str, ...]] = field(default_factory=dict)
    share_tags: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ImageManifest:
    """The record of one release. ``schema`` is the version of its JSON form. Only ``images`` and ``revisions`` change,
    by `goldenami distribute`; the catalog keeps the first one as the build wrote it."""

    schema: str  # "goldenami.manifest/1"
    recipe: str
    version: str
    build_id: str
    digest: str
    environment: str
    created: str  # ISO 8601, UTC
    base: Mapping[Architecture, BaseImage]
    images: tuple[ManifestImage, ...]
    tests: tuple[TestReport, ...]
    packages: Mapping[Architecture, tuple[Package, ...]]
    changes: Mapping[Architecture, tuple[PackageChange, ...]]  # against the base
    git_commit: str | None = None
    description: str = ""
    owner: str = ""
    inputs: Mapping[str, str] = field(default_factory=dict)  # what the digest covers: label -> sha256
    outputs: Mapping[Architecture, Mapping[str, str]] = field(default_factory=dict)  # of the recipe's scripts
    replacements: tuple[Replacement, ...] = ()  # temporary instances that were lost during the build
    variables: Mapping[str, Any] = field(default_factory=dict)  # of the recipe, as used; without secrets
    # Where the package managers of the images take packages from; and the updates that were due when it was planned.
    sources: Mapping[Architecture, PackageSources] = field(default_factory=dict)
    updates: Mapping[Architecture, tuple[PackageUpdate, ...]] = field(default_factory=dict)
    # The digest of the files of the images, if the recipe compares them (``refresh.skip_same``).
    contents: Mapping[Architecture, str] = field(default_factory=dict)
    # What is in the images, for their SBOMs: the SHA-256 under which the catalog keeps it (``Catalog.inventory``).
    inventories: Mapping[Architecture, str] = field(default_factory=dict)
    # When `goldenami catalog rebuild` made this manifest from the resources in the cloud (ISO 8601, UTC); None for the
    # manifest of a build. Then digest, inputs, outputs, tests, packages, changes and owner are unknown, and empty.
    restored: str | None = None
    revisions: tuple[Revision, ...] = ()  # oldest first: how ``images`` differs from what the build wrote

    @property
    def label(self) -> str:
        """The name of the release for messages: "debian-12-web 1.4.20261124.1"."""
        return f"{self.recipe} {self.version}"


MANIFEST_SCHEMA = "goldenami.manifest/1"


@dataclass(frozen=True, slots=True)
class SshEndpoint:
    """The address and the keys to reach an instance over SSH, and the transport.

    ``private_key``: OpenSSH PEM text without a passphrase (a secret), or several such keys one after the other, which
    are offered in this order. ``agent_keys``: public keys of the SSH agent that are offered first; then ``private_key``
    may be empty. ``host_key``: the only host key that is accepted, "ssh-ed25519 AAAA…"; or several, one in a line.
    ``transport``: opens each connection, and may need ``instance_id`` and ``region``. None: TCP to the address.
    ``in_user_namespace``: the instance is known to run in a user namespace of a sandbox, without systemd and without a
    network of its own: what needs them is not executed, and reported so. Never set for a host outside of a sandbox,
    where a missing systemd is a failure.
    """

    address: str
    user: str
    private_key: str = field(repr=False)
    host_key: str
    port: int = 22
    agent_keys: tuple[str, ...] = ()
    transport: Transport | None = field(default=None, repr=False, compare=False)
    instance_id: str = ""
    region: str = ""
    in_user_namespace: bool = False

    @property
    def private_keys(self) -> tuple[str, ...]:
        """The private keys, each as a text of its own."""
        return tuple(re.findall(r"-----BEGIN [^-]+-----.*?-----END [^-]+-----\n?", self.private_key, re.DOTALL)) or (
            (self.private_key,) if self.private_key else ()
        )

    @property
    def host_keys(self) -> tuple[str, ...]:
        """The host keys that are accepted, each as one line."""
        return tuple(self.host_key.splitlines()) or ("",)


class Transport(Protocol):
    """Opens a connection to an instance: a function in the entry point group ``goldenami.transports``, or the method
    ``open`` of a class there."""

    def __call__(self, endpoint: SshEndpoint, patience: float) -> socket.socket:
        """Return a socket that is connected to the instance's SSH server. Called again for each attempt.

        ``patience``: the timeout in seconds. Raises OSError if the server does not answer yet; the caller then tries
        again. Closing the socket must end every process and connection that belongs to it.
        """
        ...


def timestamp(moment: datetime) -> str:
    """Return a time as text, in UTC and whole seconds: 2026-11-28T03:00:00Z. ``moment`` must have a time zone."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def utc_text(moment: datetime, *, seconds: bool = True) -> str:
    """Return a time for a person to read, in UTC: 2026-11-28 03:00:00 UTC. ``moment`` must have a time zone."""
    return f"{moment.astimezone(UTC):{'%Y-%m-%d %H:%M:%S' if seconds else '%Y-%m-%d %H:%M'}} UTC"


def local_text(moment: datetime) -> str:
    """Return a time for a person to read, in its own zone with the offset: Sat 2026-11-28 04:00 +01:00.

    ``moment`` must have a time zone. The offset, and not the zone's name, is in the text: it tells apart the two hours
    with the same name when clocks go back.
    """
    text = moment.isoformat(timespec="minutes")
    return f"{moment:%a} {text[:10]} {text[11:16]} {text[16:]}"
