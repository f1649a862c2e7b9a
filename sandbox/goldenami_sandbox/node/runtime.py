"""RealNode: implements the Node protocol with real volumes and guests.

    <state>/node/pool.xfs            volumes and snapshots
    <state>/node/network.json        the /22 that was used last
    <state>/node/instances/<id>/     spec.json (the InstanceSpec; user data is in it: readable by root only),
    console.log

It must run in the enclosure (``namespaces``), which has its mounts and removes them when it ends.
"""

from __future__ import annotations

import base64
import errno
import json
import os
import shutil
import threading
from collections import defaultdict
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import Any, TypeVar

from goldenami_sandbox.errors import PROGRAM, NoRoom, SandboxError, StateError
from goldenami_sandbox.node import baseimage, export, leftovers, network, preflight, usage
from goldenami_sandbox.node.api import (
    BASE,
    DataKey,
    ExitReason,
    ExportForm,
    InstanceSpec,
    InstanceState,
    SnapshotFacts,
    Space,
)
from goldenami_sandbox.node.devices import DataVolumes, root_of
from goldenami_sandbox.node.fstab import give_generator
from goldenami_sandbox.node.hostkeys import HostKeys
from goldenami_sandbox.node.imds import MetadataService
from goldenami_sandbox.node.instances import CLOSE_PATIENCE, CONSOLE_BYTES, Guest, tail_of
from goldenami_sandbox.node.namespaces import CGROUP, RUN, enclosure, remove_cgroup
from goldenami_sandbox.node.network import Network
from goldenami_sandbox.node.pool import Pool
from goldenami_sandbox.node.rootfs import Rootfs
from goldenami_sandbox.node.seed import Surroundings, seed
from goldenami_sandbox.node.snapshots import Snapshots
from goldenami_sandbox.node.volumes import GIB, Volumes

R = TypeVar("R")


class RealNode:
    """The Node with real volumes and guests. ``state``: the sandbox's directory. ``cache``: base roots of all
    sandboxes.
    """

    def __init__(self, state: Path, cache: Path) -> None:
        self._home = state / "node"
        self._cache = cache
        self._pool, self._volumes, self._devices = self._storage()
        self._snapshots = Snapshots(self._pool, self._volumes)
        self._host_keys = HostKeys()
        self._imds: MetadataService | None = None
        self._network: Network | None = None
        self._specs: dict[str, InstanceSpec] = {}
        self._numbers: dict[str, int] = {}  # host numbers in the range, by instance
        self._guests: dict[str, Guest] = {}
        self._callbacks: list[Callable[[str, ExitReason], None]] = []
        self._lock = threading.RLock()
        self._base_locks: defaultdict[str, threading.Lock] = defaultdict(threading.Lock)

    # --- what another way to run instances replaces ------------------------------------------------------------------

    def _storage(self) -> tuple[Pool, Volumes, DataVolumes]:
        pool = Pool(self._home / "pool.xfs", RUN / "pool")
        volumes = Volumes(pool)
        return pool, volumes, DataVolumes(volumes)

    def _base_image(self, release: str) -> Path:
        return baseimage.image(release, self._cache)

    def _check(self) -> None:
        preflight.check()

    def _services(self, sandbox: str) -> tuple[Network, MetadataService]:
        return Network(sandbox), MetadataService(self._spec_of_address)

    def _root_of(self, spec: InstanceSpec) -> Path:
        """Return where the root of an instance is mounted while it runs."""
        return RUN / "roots" / spec.instance

    _guest: type[Guest] = Guest

    # --- life --------------------------------------------------------------------------------------------------------

    def start(self) -> None:
        if self._network is not None:
            return
        self._check()
        sandbox = enclosure()
        if sandbox is None:
            raise SandboxError(
                "the node does not run in an enclosure", hint="Start the sandbox with `goldenami-sandbox up`."
            )
        for leftover in CGROUP.glob("i-*"):
            remove_cgroup(leftover)
        self._instances.mkdir(parents=True, exist_ok=True)
        self._home.chmod(0o700)
        leftovers.thaw(self._pool.file)
        self._pool.open()
        try:
            here, self._imds = self._services(sandbox)
            record = self._home / "network.json"
            here.start(_read(record, lambda text: str(json.loads(text)["range"])) if record.exists() else None)
            _write(record, json.dumps({"range": str(here.range.network)}))
            self._network = here
            self._imds.start()
        except BaseException:
            self._pool.close()
            raise
        self._host_keys.prepare()
        for path in sorted(self._instances.glob("*/spec.json")):
            spec, number = _read(path, _load_spec)
            self._specs[spec.instance] = spec
            self._numbers[spec.instance] = number

    def close(self) -> None:
        if self._network is None:
            return
        threads = [
            threading.Thread(target=guest.shut_down, args=(CLOSE_PATIENCE,)) for guest in list(self._guests.values())
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        if self._imds is not None:
            self._imds.close()
        self._network.close()
        self._pool.close()
        self._network = None

    def space(self) -> Space:
        return self._pool.space()

    def usage(self, unreachable: Collection[str] = ()) -> Mapping[str, int]:
        snapshots = sorted(self._pool.snapshots.iterdir())
        volumes = [*self._pool.volumes.iterdir(), *self._pool.scratch.iterdir()]
        lost = [one for one in (*snapshots, *volumes) if one.name in unreachable]
        kinds = {
            "bases": [one for one in snapshots if one.name.startswith(BASE)],
            "snapshots": [one for one in snapshots if not one.name.startswith(BASE) and one not in lost],
            "volumes": [one for one in volumes if one not in lost],
            "unreachable": lost,
        }
        found = usage.by_kind(
            {kind: [file for path in paths for file in _files(path)] for kind, paths in kinds.items()}
        )
        # Its own records, and freed blocks whose place the disk does not have back yet.
        found["filesystem"] = max(0, usage.of_tree(self._pool.file) - sum(found.values()))
        return {**found, "instances": usage.of_tree(self._instances)}

    def limit_storage(self, size: int | None) -> None:
        self._pool.limit(size)

    # --- base images, volumes, snapshots -----------------------------------------------------------------------------

    def base(self, release: str) -> str:
        snapshot = f"{BASE}{release}"
        with self._base_locks[release]:
            if not self._snapshots.exists(snapshot):
                with _disk():
                    self._snapshots.import_file(snapshot, self._base_image(release))
        return snapshot

    def create_volume(self, volume: str, size_gib: int, snapshot: str | None, key: DataKey | None) -> None:
        with _disk():
            if snapshot is None:
                self._volumes.create_empty(volume, size_gib * GIB)
            else:
                self._volumes.adopt(volume, self._snapshots.restore(snapshot, key), size_gib * GIB)

    def delete_volume(self, volume: str) -> None:
        self._volumes.delete(volume)

    def attach(self, instance: str, volume: str, device: str) -> None:
        leader, nvme = self._require_guest(instance).leader(), self._specs[instance].nvme
        self._devices.attach(instance, leader, volume, device, nvme=nvme)

    def detach(self, instance: str, volume: str) -> None:
        guest = self._guests.get(instance)
        self._devices.detach(instance, guest.leader() if guest else None, volume)

    def freeze_snapshot(self, snapshot: str, volume: str) -> None:
        with _disk():
            self._snapshots.freeze(snapshot, volume)

    def freeze_snapshots(self, instance: str, snapshots: Mapping[str, str]) -> None:
        guest = self._guests.get(instance)
        with _disk(), guest.standing_still() if guest is not None else nullcontext():
            for snapshot, volume in snapshots.items():
                self._snapshots.freeze(snapshot, volume)

    def store_snapshot(self, snapshot: str, parent: str | None, key: DataKey | None) -> SnapshotFacts:
        with _disk():
            return self._snapshots.store(snapshot, parent, key)

    def copy_snapshot(
        self, source: str, source_key: DataKey | None, snapshot: str, key: DataKey | None, parent: str | None = None
    ) -> SnapshotFacts:
        with _disk():
            return self._snapshots.copy(source, source_key, snapshot, key, parent)

    def delete_snapshot(self, snapshot: str) -> None:
        self._snapshots.delete(snapshot)

    def has_snapshot(self, snapshot: str) -> bool:
        return self._snapshots.exists(snapshot)

    def stored(self) -> tuple[set[str], set[str]]:
        volumes, snapshots = self._pool.volumes.iterdir(), self._pool.snapshots.iterdir()
        return {path.name for path in volumes}, {path.name for path in snapshots}

    def blocks(self, snapshot: str) -> Mapping[int, str]:
        return self._snapshots.tokens(snapshot)

    def read_block(self, snapshot: str, index: int, key: DataKey | None) -> bytes:
        return self._snapshots.read_block(snapshot, index, key)

    def export(self, snapshot: str, key: DataKey | None, output: Path, form: ExportForm) -> None:
        with _disk():
            image = self._snapshots.restore(snapshot, key)
            try:
                export.write(image, output, form)
            finally:
                image.unlink(missing_ok=True)

    # --- instances ---------------------------------------------------------------------------------------------------

    def allocate_address(self, instance: str) -> str:
        here = self._require_network()
        with self._lock:
            if instance not in self._numbers:
                used = set(self._numbers.values())
                number = next((n for n in here.range.numbers if n not in used), None)
                if number is None:
                    raise SandboxError("no address is left in this sandbox", hint="Terminate instances.")
                self._numbers[instance] = number
            return here.range.guest(self._numbers[instance])

    def release_address(self, instance: str) -> None:
        with self._lock:
            if instance not in self._specs:
                self._numbers.pop(instance, None)

    def address(self, instance: str) -> str:
        with self._lock:
            if instance not in self._numbers:
                raise SandboxError(f"instance {instance} has no address on this node")
            return self._require_network().range.guest(self._numbers[instance])

    def launch(self, spec: InstanceSpec) -> None:
        with self._lock:
            if spec.instance in self._specs:
                raise SandboxError(f"instance {spec.instance} exists already")
            self._numbers.setdefault(spec.instance, self._require_network().range.number(spec.address))
            self._specs[spec.instance] = spec
        try:
            self._save(spec)
            self.start_instance(spec.instance)
        except BaseException:
            self.terminate(spec.instance)
            raise

    def configure(self, spec: InstanceSpec) -> None:
        self._require_spec(spec.instance)
        self._specs[spec.instance] = spec
        self._save(spec)

    def start_instance(self, instance: str) -> None:
        spec = self._require_spec(instance)
        with self._lock:
            if instance in self._guests:
                return
            root = self._root_of(spec)
            address = self.address(instance)
            guest = self._guest(
                instance=instance,
                root=root,
                hostname=spec.hostname,
                console=self._instances / instance / "console.log",
                prepare=lambda: self._prepare(instance, root),
                connect=lambda pid: self._connect(instance, address, pid),
                devices=lambda: self._devices.of(instance),
                ended=lambda guest, reason: self._on_guest_end(guest, reason, spec.root_volume, address),
            )
            self._guests[instance] = guest
        self._devices.expect(instance, spec.data_volumes)
        try:
            self._volumes.mount(spec.root_volume, root)
            guest.start()
        except BaseException:
            guest.wish = "down"
            if not guest.started:
                self._on_guest_end(guest, "crashed", spec.root_volume, address)
            raise

    def stop(self, instance: str, force: bool = False) -> None:
        self._require_spec(instance)
        guest = self._guests.get(instance)
        if guest is not None:
            guest.kill() if force else guest.shut_down()

    def reboot(self, instance: str) -> None:
        self._require_guest(instance).reboot()

    def terminate(self, instance: str) -> None:
        guest = self._guests.get(instance)
        if guest is not None:
            guest.kill()
        with self._lock:
            self._specs.pop(instance, None)
            self._numbers.pop(instance, None)
        shutil.rmtree(self._instances / instance, ignore_errors=True)

    def instances(self) -> Mapping[str, InstanceState]:
        with self._lock:
            return {instance: "running" if instance in self._guests else "stopped" for instance in self._specs}

    def console(self, instance: str) -> bytes:
        self._require_spec(instance)
        return tail_of(self._instances / instance / "console.log", CONSOLE_BYTES)

    def on_exit(self, callback: Callable[[str, ExitReason], None]) -> None:
        self._callbacks.append(callback)

    def exec(self, instance: str, argv: Sequence[str], stdin: bytes | None = None) -> tuple[int, bytes, bytes]:
        return self._require_guest(instance).exec(argv, stdin)

    # --- within ------------------------------------------------------------------------------------------------------

    def _prepare(self, instance: str, root: Path) -> None:
        """Prepare a boot. Runs before every boot, also after a reboot."""
        spec = self._specs[instance]
        around = Surroundings(self.address(instance), network.nameservers(), self._host_keys.generate)
        said = seed(Rootfs(root), spec, around)
        with (self._instances / instance / "console.log").open("ab") as console:
            console.write(said.encode())

    def _connect(self, instance: str, address: str, process: int) -> None:
        """Give a guest that boots its volumes and its network, before its init runs."""
        spec = self._require_spec(instance)
        try:
            give_generator(process, root_of(process))
            self._devices.boot(instance, process, nvme=spec.nvme)
        finally:
            self._require_network().connect(instance, address, process, public=spec.public)

    def _on_guest_end(self, guest: Guest, reason: ExitReason, volume: str, address: str) -> None:
        """Let go what a guest had. It has ended also if that fails."""
        try:
            self._devices.forget(guest.instance)
            self._volumes.unmount(volume)
        finally:
            try:
                self._require_network().disconnect(guest.instance, address)
            finally:
                with self._lock:
                    self._guests.pop(guest.instance, None)
                if guest.wish != "down":
                    for callback in self._callbacks:
                        callback(guest.instance, reason)

    def _spec_of_address(self, address: str) -> InstanceSpec | None:
        number = self._require_network().range.number(address)
        with self._lock:
            return next((self._specs.get(i) for i, n in self._numbers.items() if n == number), None)

    def _save(self, spec: InstanceSpec) -> None:
        (self._instances / spec.instance).mkdir(exist_ok=True)
        _write(self._instances / spec.instance / "spec.json", _dump_spec(spec, self._numbers[spec.instance]))

    def _require_spec(self, instance: str) -> InstanceSpec:
        spec = self._specs.get(instance)
        if spec is None:
            raise SandboxError(f"instance {instance} does not exist on this node")
        return spec

    def _require_guest(self, instance: str) -> Guest:
        self._require_spec(instance)
        guest = self._guests.get(instance)
        if guest is None:
            raise SandboxError(f"instance {instance} is not running")
        return guest

    def _require_network(self) -> Network:
        if self._network is None:
            raise SandboxError("the node is not started")
        return self._network

    @property
    def _instances(self) -> Path:
        return self._home / "instances"


def _dump_spec(spec: InstanceSpec, number: int) -> str:
    value = asdict(spec) | {"user_data": base64.b64encode(spec.user_data).decode(), "number": number}
    return json.dumps(value)


def _load_spec(text: str) -> tuple[InstanceSpec, int]:
    value: dict[str, Any] = json.loads(text)
    number = int(value.pop("number"))
    return InstanceSpec(**value | {"user_data": base64.b64decode(value["user_data"])}), number


def _read(path: Path, parse: Callable[[str], R]) -> R:
    """Return the parsed contents of a file of the node. Raises StateError if ``parse`` cannot read it."""
    try:
        return parse(path.read_text())
    except (ValueError, KeyError, TypeError, AttributeError) as e:
        raise StateError(
            f"the state of the sandbox cannot be read ({path}): {type(e).__name__}: {e}",
            hint=f"Delete the state with `{PROGRAM} reset`. Its images and instances are lost.",
        ) from e


def _write(path: Path, text: str) -> None:
    """Replace a file as a whole. Only root can read it."""
    new = path.with_suffix(".new")
    with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    new.rename(path)


def _files(path: Path) -> list[Path]:
    """Return the files of a directory, or a file. None of a directory that was deleted meanwhile."""
    try:
        return list(path.iterdir()) if path.is_dir() else [path]
    except FileNotFoundError:
        return []


@contextmanager
def _disk() -> Iterator[None]:
    """Raise errors of the filesystem as SandboxError."""
    try:
        yield
    except OSError as e:
        if e.errno == errno.ENOSPC:
            raise NoRoom("the disk of the sandbox is full", hint="`goldenami-sandbox status` prints its usage.") from e
        raise SandboxError(
            f"the sandbox's storage failed: {e}",
            hint="Check the free disk space of the state directory (`goldenami-sandbox status` prints it).",
        ) from e
