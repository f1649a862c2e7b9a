"""A node on paper: volumes, snapshots and guests that exist by name only. It needs no root, and calls take
microseconds.

It is for tests of the control plane, and the base of ``noguests``. It checks the rules of the Node protocol (unknown
ids, order of deletions), so a caller that breaks them fails here too. ``gates`` and ``failures`` delay its work or make
it fail, by method name.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Collection, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from pathlib import Path

from goldenami_sandbox.errors import SandboxError
from goldenami_sandbox.node.api import (
    BLOCK_SIZE,
    DataKey,
    ExitReason,
    ExportForm,
    InstanceSpec,
    InstanceState,
    SnapshotFacts,
    Space,
)


@dataclass(slots=True)
class Snapshot:
    size_gib: int
    key: bytes | None = None
    stored: bool = False
    parent: str | None = None


@dataclass(slots=True)
class Guest:
    spec: InstanceSpec
    state: InstanceState
    boots: int = 1
    data_volumes: set[str] = field(default_factory=set)


class PaperNode:
    """Implements ``Node``. ``calls`` lists (method, id) in the order of the calls."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, str]] = []
        self.gates: dict[str, threading.Event] = {}  # a method with an entry waits for it
        self.failures: dict[str, str] = {}  # a method with an entry fails with this message
        self.room = 1 << 50  # bytes that are free; a test can set it
        self.volumes: dict[str, int] = {}
        self.snapshots: dict[str, Snapshot] = {}
        self.guests: dict[str, Guest] = {}
        # The blocks of a snapshot, set by a test: tokens by index. A token decides what its block contains.
        self.written: dict[str, dict[int, str]] = {}
        self.on_volumes: dict[int, str] = {}  # the blocks that every snapshot of a volume gets
        self._addresses: dict[str, str] = {}
        self._given = 0
        self._lock = threading.RLock()
        self._callback: Callable[[str, ExitReason], None] | None = None

    def _call(self, method: str, subject: str) -> None:
        gate = self.gates.get(method)
        if gate is not None:
            gate.wait(30)
        with self._lock:
            self.calls.append((method, subject))
        if method in self.failures:
            raise SandboxError(self.failures[method])

    def copy(self) -> PaperNode:
        """Return a node with the same volumes, snapshots and guests, and a life of its own."""
        node = PaperNode()
        node.become(self)
        return node

    def become(self, other: PaperNode) -> None:
        """Replace the volumes, snapshots and guests of this node by copies of those of another node."""
        with other._lock:
            for name in ("volumes", "snapshots", "guests", "written", "on_volumes", "room", "_addresses", "_given"):
                setattr(self, name, deepcopy(getattr(other, name)))

    def space(self) -> Space:
        return Space(0, self.room)

    def usage(self, unreachable: Collection[str] = ()) -> Mapping[str, int]:
        return dict.fromkeys(("bases", "snapshots", "volumes", "unreachable", "filesystem", "instances"), 0)

    def limit_storage(self, size: int | None) -> None:
        self.room = 1 << 50 if size is None else size

    def start(self) -> None:
        for guest in self.guests.values():
            guest.state = "stopped"

    def close(self) -> None:
        for guest in self.guests.values():
            guest.state = "stopped"

    def base(self, release: str) -> str:
        self._call("base", release)
        with self._lock:
            self.snapshots.setdefault(f"base-{release}", Snapshot(8, stored=True))
        return f"base-{release}"

    # --- volumes ------------------------------------------------------------------------------------------------------

    def create_volume(self, volume: str, size_gib: int, snapshot: str | None, key: DataKey | None) -> None:
        self._call("create_volume", volume)
        with self._lock:
            if volume in self.volumes:
                raise SandboxError(f"volume {volume} exists")
            if snapshot is not None:
                source = self._readable(snapshot, key)
                if size_gib < source.size_gib:
                    raise SandboxError(f"volume {volume} is smaller than {snapshot}")
            self.volumes[volume] = size_gib

    def delete_volume(self, volume: str) -> None:
        self._call("delete_volume", volume)
        with self._lock:
            for guest in self.guests.values():
                if guest.state == "running" and volume in {guest.spec.root_volume, *guest.data_volumes}:
                    raise SandboxError(f"volume {volume} is in use")
            self.volumes.pop(volume, None)

    def attach(self, instance: str, volume: str, device: str) -> None:
        self._call("attach", volume)
        with self._lock:
            self._volume(volume)
            self._guest(instance).data_volumes.add(volume)

    def detach(self, instance: str, volume: str) -> None:
        self._call("detach", volume)
        with self._lock:
            self._guest(instance).data_volumes.discard(volume)

    # --- snapshots ----------------------------------------------------------------------------------------------------

    def freeze_snapshot(self, snapshot: str, volume: str) -> None:
        self._call("freeze_snapshot", snapshot)
        with self._lock:
            if snapshot in self.snapshots:
                raise SandboxError(f"snapshot {snapshot} exists")
            self.snapshots[snapshot] = Snapshot(self._volume(volume))
            if self.on_volumes:
                self.written[snapshot] = dict(self.on_volumes)

    def freeze_snapshots(self, instance: str, snapshots: Mapping[str, str]) -> None:
        for snapshot, volume in snapshots.items():
            self.freeze_snapshot(snapshot, volume)

    def store_snapshot(self, snapshot: str, parent: str | None, key: DataKey | None) -> SnapshotFacts:
        self._call("store_snapshot", snapshot)
        with self._lock:
            found = self._snapshot(snapshot)
            base = self.snapshots.get(parent or "")
            found.parent = parent if base is not None and base.key == key else None
            found.key, found.stored = key, True
            full = (found.size_gib << 30) // BLOCK_SIZE
            changed = 1 if found.parent else full
            return SnapshotFacts(changed, full, changed * BLOCK_SIZE)

    def copy_snapshot(
        self, source: str, source_key: DataKey | None, snapshot: str, key: DataKey | None, parent: str | None = None
    ) -> SnapshotFacts:
        self._call("copy_snapshot", snapshot)
        with self._lock:
            size = self._readable(source, source_key).size_gib
            if snapshot in self.snapshots:
                raise SandboxError(f"snapshot {snapshot} exists")
            self.snapshots[snapshot] = Snapshot(size, key=key, stored=True, parent=parent)
            if source in self.written:
                self.written[snapshot] = dict(self.written[source])
            full = (size << 30) // BLOCK_SIZE
            return SnapshotFacts(full, full, full * BLOCK_SIZE)

    def delete_snapshot(self, snapshot: str) -> None:
        self._call("delete_snapshot", snapshot)
        with self._lock:
            self.snapshots.pop(snapshot, None)

    def has_snapshot(self, snapshot: str) -> bool:
        found = self.snapshots.get(snapshot)
        return found is not None and found.stored

    def blocks(self, snapshot: str) -> Mapping[int, str]:
        """Return the blocks of ``written``. All others are empty."""
        self._snapshot(snapshot)
        return self.written.get(snapshot, {})

    def stored(self) -> tuple[set[str], set[str]]:
        with self._lock:
            return set(self.volumes), set(self.snapshots)

    def read_block(self, snapshot: str, index: int, key: DataKey | None) -> bytes:
        self._readable(snapshot, key)
        token = self.written.get(snapshot, {}).get(index)
        return bytes(BLOCK_SIZE) if not token else hashlib.sha256(token.encode()).digest() * (BLOCK_SIZE // 32)

    def export(self, snapshot: str, key: DataKey | None, output: Path, form: ExportForm) -> None:
        raise SandboxError(f"{snapshot} has no contents in this sandbox and cannot be exported")

    # --- instances ----------------------------------------------------------------------------------------------------

    def allocate_address(self, instance: str) -> str:
        with self._lock:
            if instance not in self._addresses:
                self._given += 1
                self._addresses[instance] = f"198.19.{self._given // 250}.{self._given % 250 + 2}"
            return self._addresses[instance]

    def release_address(self, instance: str) -> None:
        with self._lock:
            self._addresses.pop(instance, None)

    def address(self, instance: str) -> str:
        return self.allocate_address(instance)

    def launch(self, spec: InstanceSpec) -> None:
        self._call("launch", spec.instance)
        with self._lock:
            self._volume(spec.root_volume)
            if spec.instance in self.guests:
                raise SandboxError(f"instance {spec.instance} exists")
            self.guests[spec.instance] = Guest(spec, "running")

    def configure(self, spec: InstanceSpec) -> None:
        self._call("configure", spec.instance)
        with self._lock:
            self._guest(spec.instance).spec = spec

    def start_instance(self, instance: str) -> None:
        self._call("start_instance", instance)
        with self._lock:
            guest = self._guest(instance)
            if guest.state == "stopped":
                guest.state, guest.boots = "running", guest.boots + 1

    def stop(self, instance: str, force: bool = False) -> None:
        self._call("stop", instance)
        with self._lock:
            guest = self._guest(instance)
            guest.state = "stopped"
            guest.data_volumes.clear()

    def reboot(self, instance: str) -> None:
        self._call("reboot", instance)
        with self._lock:
            self._guest(instance).boots += 1

    def terminate(self, instance: str) -> None:
        self._call("terminate", instance)
        with self._lock:
            self.guests.pop(instance, None)
            self._addresses.pop(instance, None)

    def instances(self) -> Mapping[str, InstanceState]:
        with self._lock:
            return {name: guest.state for name, guest in self.guests.items()}

    def console(self, instance: str) -> bytes:
        return b"Booted on paper.\n" * self._guest(instance).boots

    def on_exit(self, callback: Callable[[str, ExitReason], None]) -> None:
        self._callback = callback

    def exec(self, instance: str, argv: Sequence[str], stdin: bytes | None = None) -> tuple[int, bytes, bytes]:
        raise SandboxError(f"{instance} has no guest in this sandbox")

    def shell_argv(self, instance: str, argv: Sequence[str] = ()) -> list[str]:
        raise SandboxError(f"{instance} has no guest in this sandbox")

    # --- what a test makes a guest do ---------------------------------------------------------------------------------

    def power_off(self, instance: str, reason: ExitReason = "poweroff") -> None:
        """Power off a guest, as if the guest did it."""
        with self._lock:
            guest = self._guest(instance)
            guest.state = "stopped"
            guest.data_volumes.clear()
        if self._callback is not None:
            self._callback(instance, reason)

    # --- lookups ------------------------------------------------------------------------------------------------------

    def _volume(self, volume: str) -> int:
        if volume not in self.volumes:
            raise SandboxError(f"no volume {volume}")
        return self.volumes[volume]

    def _snapshot(self, snapshot: str) -> Snapshot:
        if snapshot not in self.snapshots:
            raise SandboxError(f"no snapshot {snapshot}")
        return self.snapshots[snapshot]

    def _readable(self, snapshot: str, key: bytes | None) -> Snapshot:
        found = self._snapshot(snapshot)
        if not found.stored:
            raise SandboxError(f"snapshot {snapshot} is not stored")
        if found.key != key:
            raise SandboxError(f"wrong data key for snapshot {snapshot}")
        return found

    def _guest(self, instance: str) -> Guest:
        if instance not in self.guests:
            raise SandboxError(f"no instance {instance}")
        return self.guests[instance]
