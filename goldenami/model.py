"""The nouns that several rooms share, as frozen data. No behaviour beyond naming; no I/O."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, Protocol

if TYPE_CHECKING:
    import socket

Architecture = Literal["x86_64", "arm64"]  # as in the EC2 API
DIRECT = "direct"  # the transport that connects to the address of an instance by TCP


@dataclass(frozen=True, slots=True, order=True)
class Mark:
    """A place in a file that a person wrote; lines and columns count from 1. ``Mark("", 0, 0)``: nowhere in one, but
    built in; its text is empty."""

    file: str
    line: int
    column: int

    def __str__(self) -> str:
        return f"{self.file}:{self.line}:{self.column}" if self.file else ""


# --- where ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Connection:
    """Where the cloud's API answers, and whose credentials are used. What is None comes from the AWS_* variables and
    the configuration files that every AWS client reads.

    With ``access_key_id`` and ``secret_access_key``, no profile and no other credentials are looked for.
    """

    endpoint_url: str | None = None
    access_key_id: str | None = None
    secret_access_key: str | None = field(default=None, repr=False)
    session_token: str | None = field(default=None, repr=False)
    profile: str | None = None

    @classmethod
    def from_variables(cls, variables: Mapping[str, str]) -> Connection:
        """The connection that AWS_* variables describe, such as those that ``goldenami sandbox env`` prints."""
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
    """Where an API call goes: a 12-digit account id and a region."""

    account: str
    region: str

    def __str__(self) -> str:
        return f"{self.account}/{self.region}"


@dataclass(frozen=True, slots=True)
class Account:
    """An account that an environment names. ``role`` is assumed by the caller; None: its own credentials serve."""

    name: str
    id: str
    role: str | None = None


@dataclass(frozen=True, slots=True)
class Target:
    """A place that gets its own image.

    ``kms_key``: key id, ARN or alias in that account and region (symmetric, ENCRYPT_DECRYPT).
    ``mode``: how it gets its image, one of ``release.targets``. "copy" owns an encrypted copy under its own key;
    "share" is granted use of the home account's image in the same region.
    ``required``: a release needs this target; otherwise its failure is reported (exit code 6) and the rest is released.
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
    """Where builders live and how they are reached. With neither subnet_id nor tags, the default VPC's subnets serve.

    ``address``: which address to connect to; "auto" takes the public one if there is one.
    """

    subnet_id: str | None = None
    subnet_tags: Mapping[str, str] = field(default_factory=dict)
    transport: str = DIRECT  # "direct", or the name of an installed one
    address: Literal["auto", "public", "private"] = "auto"
    source_cidr: str | None = None  # who may reach the builder's port 22; None: the caller's own address


@dataclass(frozen=True, slots=True)
class Environment:
    """Where to build and where to publish."""

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
    local: str = ""  # a directory, absolute: what stays on this machine (reports) though the journals do not
    sandbox: bool = False  # for the command line and the Python API, which start the sandbox; nothing below may ask
    connection: Connection = Connection()

    @property
    def home_place(self) -> Place:
        return Place(self.home.id, self.home_region)


# --- what is built ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class BaseImage:
    """The image a build starts from, as it was resolved (DescribeImages)."""

    image_id: str
    name: str
    owner: str
    architecture: Architecture
    root_device_name: str
    root_volume_gib: int
    creation_date: str  # ISO 8601, as EC2 gives it
    source: str  # how it was found, for people: "filter debian-12-amd64-*", "debian-12-base@stable 1.2.20261124.1"
    release: str | None = None  # "name version" where it is a release of the catalog
    platform_details: str = "Linux/UNIX"
    boot_mode: str | None = None


@dataclass(frozen=True, slots=True)
class ManifestSnapshot:
    snapshot_id: str
    device_name: str
    volume_size_gib: int
    encrypted: bool
    kms_key_id: str | None  # the key's ARN, as DescribeSnapshots gives it


@dataclass(frozen=True, slots=True)
class ManifestImage:
    """One row of a release: the image that one account uses in one region. Shared rows name the owner's image."""

    architecture: Architecture
    account: str
    region: str
    image_id: str
    name: str
    mode: str  # that of its target: see ``release.targets``
    encrypted: bool
    snapshots: tuple[ManifestSnapshot, ...]

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
    """What became of one hardening control. ``message``: why it failed, is waived or not applicable. ``until``: the
    last day of a waiver (ISO 8601)."""

    control: str
    outcome: Literal["passed", "failed", "waived", "not-applicable", "not-run"]
    message: str = ""
    until: str | None = None


@dataclass(frozen=True, slots=True)
class TestReport:
    """What one run of tests on one instance found. ``junit``: path of the XML file, if one was written. ``controls``:
    of the recipe's hardening, by id."""

    __test__ = False
    gate: str  # "builder" (gate 1), "image" (gate 2), ...
    architecture: Architecture
    passed: int
    failed: int
    skipped: int
    flaky: int
    seconds: float
    failures: tuple[TestFailure, ...] = ()
    junit: str | None = None
    controls: tuple[ControlResult, ...] = ()

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
class Replacement:
    """A temporary instance that was lost while it was used, and followed by another one. ``at``: ISO 8601, UTC."""

    purpose: str  # "builder" or "proof"
    architecture: Architecture
    instance_id: str
    reason: str
    reclaimed: bool  # a spot instance that EC2 took back
    at: str


@dataclass(frozen=True, slots=True)
class ImageManifest:
    """The evidence of one version, immutable once written. Its JSON form is versioned by ``schema``."""

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
    replacements: tuple[Replacement, ...] = ()  # temporary instances that were lost on the way

    @property
    def label(self) -> str:
        """How people name the release: "debian-12-web 1.4.20261124.1"."""
        return f"{self.recipe} {self.version}"


MANIFEST_SCHEMA = "goldenami.manifest/1"


@dataclass(frozen=True, slots=True)
class SshEndpoint:
    """How to reach an instance over SSH. ``private_key``: OpenSSH PEM text (a secret). ``host_key``: the only one
    that is accepted, "ssh-ed25519 AAAA…". ``transport``: "direct", or the name of an installed one, which may need
    ``instance_id`` and ``region``."""

    address: str
    user: str
    private_key: str = field(repr=False)
    host_key: str
    port: int = 22
    transport: str = DIRECT
    instance_id: str = ""
    region: str = ""


class Transport(Protocol):
    """Opens the way to an instance; a function in the entry point group ``goldenami.transports``."""

    def __call__(self, endpoint: SshEndpoint, patience: float) -> socket.socket:
        """A connected socket, at whose other end the instance's SSH server answers. Called again for each attempt.

        ``patience``: seconds that it may take. Raises OSError where nothing answers yet: it is tried again. Closing the
        socket must end all that belongs to it.
        """
        ...
