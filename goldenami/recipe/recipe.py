"""A loaded recipe: rendered, validated and frozen. Plan and pipeline read it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from goldenami.hardening import Hardening
from goldenami.model import Architecture, Mark, Place, Protection, Target
from goldenami.provision import BuildNetwork, PatchSpec, Stage, all_operations
from goldenami.recipe.expectspec import Expected
from goldenami.recipe.lookup import Found
from goldenami.recipe.schema import ImageSpec, RefreshSpec, RetentionSpec
from goldenami.recipe.secrets import SecretRef
from goldenami.recipe.words import BaseKind, OsId
from goldenami.schedules.policy import Schedule


@dataclass(frozen=True, slots=True)
class BaseRef:
    """The base image of a recipe, as written.

    ``value``: the parameter's name, the pattern, the AMI id or the recipe's name.
    """

    kind: BaseKind
    value: str
    mark: Mark
    owners: tuple[str, ...] = ()  # with filter
    channel: str | None = None  # with recipe
    include_deprecated: bool = False  # with filter

    def __str__(self) -> str:
        return f"{self.value}@{self.channel}" if self.kind == "recipe" else f"{self.kind} {self.value}"


@dataclass(frozen=True, slots=True)
class Builder:
    """The temporary instance. Times in seconds."""

    instance_types: tuple[str, ...]
    spot: bool
    ssh_user: str
    ssh_timeout: int
    stage_timeout: int
    mark: Mark  # of the instance types, or of the nearest key above them
    encrypted: bool | None = None  # None: only where another account could not copy the candidate otherwise
    instance_profile: str | None = None
    ssh_port: int = 22
    image_ssh_port: int = 22  # of the instances of the image
    hop_limit: int = 1
    freeze: bool = True  # for the capture, where the host can; else EC2 shuts it down
    tags: Mapping[str, str] = field(default_factory=dict)
    user_data: str = ""
    network: BuildNetwork = field(default_factory=BuildNetwork)

    def port_of(self, purpose: str) -> int:
        """The port of the SSH server of a temporary instance: "builder", or one that boots the image."""
        return self.ssh_port if purpose == "builder" else self.image_ssh_port


@dataclass(frozen=True, slots=True)
class TestRef:
    """Tests to run: a built-in suite (path None), or a file. ``origin``: the agent that has it.
    ``installed``: it is a suite of an installed package."""

    __test__ = False
    name: str
    path: Path | None
    sha256: str
    mark: Mark
    origin: str = ""
    installed: bool = False


@dataclass(frozen=True, slots=True)
class Distribution:
    """The targets of an image. ``share_accounts``: 12-digit ids that may launch the home account's images.
    ``share_organizations``: ARNs of organizations and organizational units whose accounts may launch them.
    ``protection``: of released images from deregistration; None: goldenami does not protect them. ``fast_restore``,
    ``share_tags``: as in ``Declaration``. ``prove``: where the final image is booted besides home."""

    targets: tuple[Target, ...]
    share_accounts: tuple[str, ...]
    channel: str
    share_organizations: tuple[str, ...] = ()
    protection: Protection | None = None
    fast_restore: Mapping[Place, tuple[str, ...]] = field(default_factory=dict)
    share_tags: Mapping[str, str] = field(default_factory=dict)
    prove: Literal["home", "each-region", "each-target"] = "home"


@dataclass(frozen=True, slots=True)
class Recipe:
    """One recipe for one environment. The mappings have one entry for each architecture.

    Texts may have placeholders of secrets. ``secrets.display`` masks them; ``secrets.fill`` inserts the values.
    """

    name: str
    version: str  # MAJOR.MINOR
    description: str
    owner: str
    os: OsId
    architectures: tuple[Architecture, ...]
    base: Mapping[Architecture, BaseRef]
    builder: Mapping[Architecture, Builder]
    patches: Mapping[Architecture, PatchSpec]
    provisioning: Mapping[Architecture, tuple[Stage, ...]]
    tests: tuple[TestRef, ...]
    image: ImageSpec
    distribution: Distribution
    retention: RetentionSpec
    refresh: RefreshSpec
    source: Path
    mark: Mark
    patches_mark: Mark
    volumes_mark: Mark
    variables: Mapping[str, object] = field(default_factory=dict)  # as used; secrets as Secret
    agents: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)  # parameters as used, by name
    secrets: tuple[SecretRef, ...] = ()
    schedules: tuple[Schedule, ...] = ()
    hardening: Mapping[Architecture, Hardening] = field(default_factory=dict)  # its operations are also in provisioning
    expect: Mapping[Architecture, Expected] = field(default_factory=dict)
    lookups: tuple[Found, ...] = ()  # the agents, profiles and files of controls that it uses

    @property
    def payloads(self) -> frozenset[Path]:
        """The files and folders that its operations send to the host."""
        return frozenset(
            path
            for stages in self.provisioning.values()
            for stage in stages
            for bound in all_operations(stage)
            for payload in bound.payloads.values()
            for path in payload.paths
        )

    def has_suite(self, name: str) -> bool:
        """Return whether the recipe names a built-in suite in ``tests``."""
        return any(test.path is None and test.name == name for test in self.tests)
