"""The Node protocol: what the EC2 side of the sandbox asks of the machine. All ids are the caller's (EC2's).

Calls block, may come from any thread, and raise SandboxError (SandboxUnsupported from ``start`` where the machine lacks
something). Calls for different ids run side by side; calls for the same id are the caller's to order. An id that the
node does not know is a SandboxError, except where a method says otherwise.

What survives ``close`` and ``kill -9``: volumes, snapshots, and which instances exist, with their InstanceSpec and
address. After the next ``start`` every instance is stopped; the caller runs ``start_instance`` for those that should
run. Data keys are never written anywhere.

Volumes are sparse files with an ext4 filesystem without a partition table; index ``n`` of a block is the 512 KiB at
byte n × 524288. A volume is plaintext while it exists (no device mapper is assumed); a snapshot with a key exists as
ciphertext only, once ``store_snapshot`` has returned.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Protocol

BLOCK_SIZE = 512 * 1024  # bytes; as in the EBS direct APIs

ExitReason = Literal["poweroff", "crashed"]
InstanceState = Literal["running", "stopped"]
ExportForm = Literal["dir", "tar", "raw"]


class DataKey(bytes):
    """A plain data key: 32 bytes, an AES-256 key. Its repr says nothing."""

    def __new__(cls, plain: bytes) -> DataKey:
        if len(plain) != 32:
            raise ValueError("a data key has 32 bytes")
        return super().__new__(cls, plain)

    def __repr__(self) -> str:
        return "DataKey(…)"

    __str__ = __repr__


@dataclass(frozen=True, slots=True)
class SnapshotFacts:
    """``changed_blocks``: those that differ from the parent (all, without one); ``full_blocks``: all that are not
    empty; ``stored_bytes``: what the snapshot adds to what its parent keeps, in whole blocks, as EBS counts it."""

    changed_blocks: int
    full_blocks: int
    stored_bytes: int


@dataclass(frozen=True, slots=True)
class InstanceSpec:
    """What a guest is started with.

    ``address``: from ``allocate_address``. ``root_volume``: an existing volume with a bootable root.
    ``user_data``: the raw bytes (not base64 of the API). ``default_user`` gets ``ssh_public_key`` (an OpenSSH line) and
    sudo without password. ``metadata``: IMDS paths below ``/latest/meta-data/`` to values ("ami-id",
    "placement/region", "iam/info", …); what the node knows better (instance-id, addresses, mac, hostname, public-keys)
    it adds itself where the caller gives nothing. Keys that begin with ``/`` are paths below ``/latest``
    ("/dynamic/instance-identity/document"). ``imds``: "optional" answers v1 too, "required" only v2, "disabled" nobody.
    """

    instance: str
    address: str
    root_volume: str
    hostname: str
    user_data: bytes = b""
    ssh_public_key: str | None = None
    ssh_key_name: str | None = None
    default_user: str = "admin"
    metadata: Mapping[str, str] = field(default_factory=dict)
    imds: Literal["optional", "required", "disabled"] = "optional"
    metadata_tags: Mapping[str, str] | None = None  # instance tags, where InstanceMetadataTags is enabled


class Node(Protocol):
    """One machine's worth of storage and guests."""

    def start(self) -> None:
        """Clear the leftovers of a killed predecessor, mount the pool, bring the network up. A second call does
        nothing."""

    def close(self) -> None:
        """Stop all guests (gracefully, for a few seconds, then not) and give everything back but the state on disk."""

    # --- base images -------------------------------------------------------------------------------------------------

    def base(self, release: str) -> str:
        """The id of the snapshot with the root of ``release`` ("debian-12", "debian-13"), an unencrypted 8 GiB one,
        usable as any other.

        Built from Debian's archive when the cache has none (half a minute), else imported (a second), else already
        there.
        """

    # --- volumes -----------------------------------------------------------------------------------------------------

    def create_volume(self, volume: str, size_gib: int, snapshot: str | None, key: DataKey | None) -> None:
        """An empty volume, or one with the snapshot's contents; ``key`` is the snapshot's, None where it is not
        encrypted.

        The filesystem of a root is grown to the volume when an instance starts from it. Fails if the volume exists or
        is too small.
        """

    def delete_volume(self, volume: str) -> None:
        """Gone at once, contents too. Unknown ids are fine; a volume in use by a running instance is not."""

    def attach(self, instance: str, volume: str, device: str) -> None:
        """Make a data volume visible in the running guest as block device ``device`` ("/dev/sdf": also as
        /dev/xvdf)."""

    def detach(self, instance: str, volume: str) -> None:
        """Undo ``attach``. Fails while the guest has it mounted. Stopping an instance detaches its data volumes as
        well."""

    # --- snapshots ---------------------------------------------------------------------------------------------------

    def freeze_snapshot(self, snapshot: str, volume: str) -> None:
        """The point in time: a clone of the volume, filesystem frozen for the moment if it is mounted. Milliseconds."""

    def freeze_snapshots(self, instance: str, snapshots: Mapping[str, str]) -> None:
        """The same for several volumes of an instance (by snapshot), all at one moment: the guest stands still for
        it."""

    def store_snapshot(self, snapshot: str, parent: str | None, key: DataKey | None) -> SnapshotFacts:
        """Turn what was frozen into a stored snapshot, as ciphertext under ``key`` if one is given.

        Blocks equal to the parent's are shared with it (encrypted ones only if the parent is encrypted under the same
        key; otherwise everything counts as changed). An unknown parent counts as none. Repeated after success, it
        returns the same facts.
        """

    def copy_snapshot(
        self, source: str, source_key: DataKey | None, snapshot: str, key: DataKey | None, parent: str | None = None
    ) -> SnapshotFacts:
        """A full copy, encrypted anew under ``key``; incremental where ``parent`` is an earlier copy under the same
        key."""

    def delete_snapshot(self, snapshot: str) -> None:
        """Its children and volumes keep what they share with it. Unknown ids are fine."""

    def has_snapshot(self, snapshot: str) -> bool:
        """Whether it is stored (not merely frozen)."""

    def blocks(self, snapshot: str) -> Mapping[int, str]:
        """Index to token of every block that is not empty. Equal tokens at one index mean equal contents within a
        lineage (same key); the token is a digest of what is stored, so it says nothing about encrypted contents."""

    def read_block(self, snapshot: str, index: int, key: DataKey | None) -> bytes:
        """BLOCK_SIZE bytes; zeros for a block that is not stored."""

    def export(self, snapshot: str, key: DataKey | None, output: Path, form: ExportForm) -> None:
        """The contents: the file tree ("dir", "tar") or the filesystem image ("raw", sparse). ``output`` must not exist
        yet (for "dir" it may be an empty directory). It is written as root with owners, modes and extended attributes
        kept."""

    # --- instances ---------------------------------------------------------------------------------------------------

    def allocate_address(self, instance: str) -> str:
        """An IPv4 address that this machine can reach, kept for ``instance`` until released. A second call gives the
        same."""

    def release_address(self, instance: str) -> None:
        """Unknown instances are fine. ``terminate`` does it too."""

    def address(self, instance: str) -> str:
        """The address as it is now: it differs from the allocated one only if the sandbox's range was taken by another
        at ``start``."""

    def launch(self, spec: InstanceSpec) -> None:
        """Remember ``spec`` and boot it. Returns when the guest's init runs; SSH answers a second or two later."""

    def configure(self, spec: InstanceSpec) -> None:
        """Replace the spec of a known instance: metadata and IMDS options at once, the rest at its next start."""

    def start_instance(self, instance: str) -> None:
        """Boot a stopped instance from its volume, with the remembered spec. Running already: nothing."""

    def stop(self, instance: str, force: bool = False) -> None:
        """Shut down (``force``: pull the plug) and return when it is down and its volume is unmounted. No on_exit.
        Stopped: nothing."""

    def reboot(self, instance: str) -> None:
        """As ``systemctl reboot`` in the guest; killed and started if that takes too long. Returns when the guest's
        init runs again."""

    def terminate(self, instance: str) -> None:
        """Pull the plug and forget the instance. Its volumes stay, for the caller to delete. Unknown ids are fine."""

    def instances(self) -> Mapping[str, InstanceState]:
        """All that are known: launched and not terminated."""

    def console(self, instance: str) -> bytes:
        """The last 64 KiB of what the guest wrote on its console, over all its boots."""

    def on_exit(self, callback: Callable[[str, ExitReason], None]) -> None:
        """``callback(instance, reason)`` after a guest powered itself off or died, its volume already unmounted. From a
        thread of the node."""

    def exec(self, instance: str, argv: Sequence[str], stdin: bytes | None = None) -> tuple[int, bytes, bytes]:
        """Run a command as root in the running guest: (status, stdout, stderr).

        For an interactive shell the host enters by itself: ``namespaces.guest_argv``.
        """
