"""The Node protocol: what the EC2 part of the sandbox needs from the machine. The caller (EC2) chooses all ids.

Calls block, can come from any thread, and raise SandboxError (``start`` raises SandboxUnsupported if the machine lacks
something). Calls for different ids run in parallel; the caller orders calls for the same id. An id that does not exist
on the node is a SandboxError, except where a method documents something else.

Volumes, snapshots and the list of instances, with InstanceSpec and address, survive ``close`` and ``kill -9``. After
the next ``start`` every instance is stopped, and the caller runs ``start_instance`` for those that should run. Data
keys are never written to disk.

Volumes are sparse files with an ext4 filesystem without a partition table. Block ``n`` is the 512 KiB at byte n ×
524288. An existing volume is plaintext, since no device mapper is assumed. A snapshot with a key exists as ciphertext
only, once ``store_snapshot`` has returned.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Protocol

BLOCK_SIZE = 512 * 1024  # bytes; as in the EBS direct APIs
BASE = "base-"  # the ids of the snapshots of base images begin so

ExitReason = Literal["poweroff", "crashed"]
InstanceState = Literal["running", "stopped"]
ExportForm = Literal["dir", "tar", "raw"]


class DataKey(bytes):
    """A plain data key: 32 bytes, an AES-256 key. Its repr does not contain the key."""

    def __new__(cls, plain: bytes) -> DataKey:
        if len(plain) != 32:
            raise ValueError("a data key must have 32 bytes")
        return super().__new__(cls, plain)

    def __repr__(self) -> str:
        return "DataKey(…)"

    __str__ = __repr__


@dataclass(frozen=True, slots=True)
class SnapshotFacts:
    """Sizes of a snapshot. ``changed_blocks``: blocks that differ from the parent (all blocks without a parent).

    ``full_blocks``: blocks that are not empty. ``stored_bytes``: bytes in addition to the parent's, in whole blocks, as
    EBS counts them.
    """

    changed_blocks: int
    full_blocks: int
    stored_bytes: int


@dataclass(frozen=True, slots=True)
class Space:
    """Bytes of storage: ``used`` by volumes and snapshots, and ``free`` for more of them."""

    used: int
    free: int


@dataclass(frozen=True, slots=True)
class InstanceSpec:
    """The configuration of a guest.

    ``address``: from ``allocate_address``. ``root_volume``: an existing volume with a bootable root. ``user_data``: the
    raw bytes, not the API's base64. ``default_user`` gets ``ssh_public_key`` (an OpenSSH line) and sudo without
    password. ``metadata``: values by IMDS path below ``/latest/meta-data/`` ("ami-id", "placement/region", "iam/info",
    …). The node adds what it can determine itself (instance-id, addresses, mac, hostname, public-keys) if the caller
    omits it. Keys that begin with ``/`` are paths below ``/latest`` ("/dynamic/instance-identity/document"). ``imds``:
    "optional" answers versions 1 and 2, "required" version 2 only, "disabled" refuses all requests. ``public``: this
    machine can connect to the guest. If not, only other guests can; the guest itself can connect to all networks.
    ``data_volumes``: existing volumes that the guest has from its start on, by the device names of their attachments.
    ``nvme``: it sees data volumes as NVMe devices, as instances on Nitro do.
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
    metadata_tags: Mapping[str, str] | None = None  # instance tags, if InstanceMetadataTags is enabled
    public: bool = True
    data_volumes: Mapping[str, str] = field(default_factory=dict)
    nvme: bool = False


class Node(Protocol):
    """Storage and guests on one machine."""

    def start(self) -> None:
        """Remove the remains of a killed predecessor, mount the pool and start the network. A second call
        does nothing.
        """

    def close(self) -> None:
        """Stop all guests and release all resources except the state on disk. Guests that do not stop in seconds are
        killed.
        """

    # --- room --------------------------------------------------------------------------------------------------------

    def space(self) -> Space:
        """Return what volumes and snapshots use, and can use in addition. It follows the free space of the disk."""

    def usage(self, unreachable: Collection[str] = ()) -> Mapping[str, int]:
        """Return the bytes on this machine's disk by kind: bases, snapshots, volumes, unreachable, filesystem and
        instances. A block that several have is counted once, for the first of these kinds. ``unreachable``: ids of
        volumes and snapshots that are counted as such."""

    def limit_storage(self, size: int | None) -> None:
        """Let volumes and snapshots use at most ``size`` bytes, from now on. None: what the disk has."""

    # --- base images -------------------------------------------------------------------------------------------------

    def base(self, release: str) -> str:
        """Return the snapshot id of the root of ``release`` ("debian-12", "debian-13"): unencrypted, 8 GiB, for any
        use.

        It is built from Debian's archive if the cache has none (30 seconds), else imported (1 second), else already
        present.
        """

    # --- volumes -----------------------------------------------------------------------------------------------------

    def create_volume(self, volume: str, size_gib: int, snapshot: str | None, key: DataKey | None) -> None:
        """Create an empty volume, or a volume with the snapshot's contents. ``key``: the snapshot's, None if not
        encrypted.

        When an instance starts from it, the filesystem is grown to the volume's size. Fails if the volume exists or is
        too small.
        """

    def delete_volume(self, volume: str) -> None:
        """Delete a volume and its contents at once. Unknown ids are ignored. Fails if a running instance uses the
        volume.
        """

    def attach(self, instance: str, volume: str, device: str) -> None:
        """Attach a data volume to the running guest as block device ``device`` ("/dev/sdf": also as /dev/xvdf), or as
        the next NVMe device. One that the guest has since its start is left as it is.
        """

    def detach(self, instance: str, volume: str) -> None:
        """Undo ``attach``. Raises VolumeInUse while the guest has it mounted or open. Stopping an instance also
        detaches its data volumes.
        """

    # --- snapshots ---------------------------------------------------------------------------------------------------

    def freeze_snapshot(self, snapshot: str, volume: str) -> None:
        """Take the point in time: a clone of the volume. A mounted filesystem is frozen meanwhile, for milliseconds."""

    def freeze_snapshots(self, instance: str, snapshots: Mapping[str, str]) -> None:
        """Take the point in time of several volumes of an instance at one moment. The guest is paused meanwhile."""

    def store_snapshot(self, snapshot: str, parent: str | None, key: DataKey | None) -> SnapshotFacts:
        """Convert a frozen snapshot into a stored one, as ciphertext under ``key`` if given.

        Blocks equal to the parent's are shared with it. Encrypted blocks are shared only if the parent has the same
        key; otherwise all blocks count as changed. An unknown parent counts as none. A repeated call returns the same
        facts.
        """

    def copy_snapshot(
        self, source: str, source_key: DataKey | None, snapshot: str, key: DataKey | None, parent: str | None = None
    ) -> SnapshotFacts:
        """Make a full copy, encrypted under ``key``. It is incremental if ``parent`` is an earlier copy under the same
        key.
        """

    def delete_snapshot(self, snapshot: str) -> None:
        """Delete a snapshot. Its children and volumes keep the shared blocks. Unknown ids are ignored."""

    def has_snapshot(self, snapshot: str) -> bool:
        """Return whether the snapshot is stored. A frozen one is not."""

    def stored(self) -> tuple[set[str], set[str]]:
        """Return the ids of all volumes, and of all snapshots with the frozen and the base ones."""

    def blocks(self, snapshot: str) -> Mapping[int, str]:
        """Return the token of every block that is not empty, by index.

        Equal tokens at one index mean equal contents within a lineage (same key). A token is a digest of the stored
        bytes, so it reveals nothing about encrypted contents.
        """

    def read_block(self, snapshot: str, index: int, key: DataKey | None) -> bytes:
        """Return BLOCK_SIZE bytes: zeros for a block that is not stored."""

    def export(self, snapshot: str, key: DataKey | None, output: Path, form: ExportForm) -> None:
        """Write the contents: the file tree ("dir", "tar") or the filesystem image ("raw", sparse).

        ``output`` must not exist yet (for "dir" it may be an empty directory). It is written as root; owners, modes and
        extended attributes are kept.
        """

    # --- instances ---------------------------------------------------------------------------------------------------

    def allocate_address(self, instance: str) -> str:
        """Return an IPv4 address that this machine can reach, reserved for ``instance`` until released. Repeated calls
        are equal.
        """

    def release_address(self, instance: str) -> None:
        """Release the address of an instance. Unknown instances are ignored. ``terminate`` releases it too."""

    def address(self, instance: str) -> str:
        """Return the current address. It differs from the allocated one only if ``start`` had to use another range."""

    def launch(self, spec: InstanceSpec) -> None:
        """Store ``spec`` and boot it. Returns when the guest's init runs. SSH answers one or two seconds later."""

    def configure(self, spec: InstanceSpec) -> None:
        """Replace the spec of an instance. Metadata and IMDS options apply at once, the rest at the next start."""

    def start_instance(self, instance: str) -> None:
        """Boot a stopped instance from its volume, with the stored spec. Does nothing if it is running."""

    def stop(self, instance: str, force: bool = False) -> None:
        """Shut down and return when the guest is down and its volume unmounted. ``force`` kills it. on_exit is not
        called.

        Does nothing if it is stopped.
        """

    def reboot(self, instance: str) -> None:
        """Reboot as ``systemctl reboot`` in the guest does. A guest that takes too long is killed and started.

        Returns when the guest's init runs again.
        """

    def terminate(self, instance: str) -> None:
        """Kill the guest and remove the instance. Its volumes stay; the caller deletes them. Unknown ids
        are ignored.
        """

    def instances(self) -> Mapping[str, InstanceState]:
        """Return all instances that were launched and not terminated."""

    def console(self, instance: str) -> bytes:
        """Return the last 64 KiB of the console output of the guest, over all its boots."""

    def on_exit(self, callback: Callable[[str, ExitReason], None]) -> None:
        """Call ``callback(instance, reason)`` after a guest powered off or crashed and its volume was unmounted.

        The callback runs in a thread of the node.
        """

    def exec(self, instance: str, argv: Sequence[str], stdin: bytes | None = None) -> tuple[int, bytes, bytes]:
        """Run a command as root in the running guest. Returns status, stdout and stderr.

        ``namespaces.guest_argv`` gives the command for an interactive shell from the host.
        """
