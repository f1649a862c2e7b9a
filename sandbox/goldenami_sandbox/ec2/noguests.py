"""A node without guests, for machines that cannot run any: the records of ``paper``, kept in a file.

What exists is described, copied, shared and deleted as always. Volumes have no contents, and no guest runs, so nothing
can connect to an instance. Of a data key only the fingerprint is kept.

    <state>/node/records.json    volumes, snapshots, instances and addresses
"""

from __future__ import annotations

import base64
import json
import os
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from goldenami_sandbox.ec2.paper import Guest, PaperNode, Snapshot
from goldenami_sandbox.errors import PROGRAM, StateError
from goldenami_sandbox.node.api import DataKey, ExitReason, InstanceSpec, SnapshotFacts
from goldenami_sandbox.node.crypto import fingerprint


class NoGuestsNode(PaperNode):
    """Implements ``Node``. Its records survive ``close`` and a kill: each change is written at once."""

    def __init__(self, home: Path) -> None:
        super().__init__()
        self._file = home / "records.json"

    def start(self) -> None:
        try:
            self._load(json.loads(self._file.read_text()))
        except FileNotFoundError:
            self._file.parent.mkdir(parents=True, exist_ok=True)
        except (ValueError, KeyError, TypeError) as error:
            raise StateError(
                f"the state of the sandbox cannot be read ({self._file}): {type(error).__name__}: {error}",
                hint=f"Delete the state with `{PROGRAM} reset`. Its images and instances are lost.",
            ) from error
        super().start()

    # --- changes, each written at once -------------------------------------------------------------------------------

    def base(self, release: str) -> str:
        known = f"base-{release}" in self.snapshots
        snapshot = super().base(release)
        if not known:
            self._save()
        return snapshot

    def create_volume(self, volume: str, size_gib: int, snapshot: str | None, key: DataKey | None) -> None:
        super().create_volume(volume, size_gib, snapshot, _mark(key))
        self._save()

    def delete_volume(self, volume: str) -> None:
        super().delete_volume(volume)
        self._save()

    def freeze_snapshots(self, instance: str, snapshots: Mapping[str, str]) -> None:
        super().freeze_snapshots(instance, snapshots)
        self._save()

    def freeze_snapshot(self, snapshot: str, volume: str) -> None:
        super().freeze_snapshot(snapshot, volume)
        self._save()

    def store_snapshot(self, snapshot: str, parent: str | None, key: DataKey | None) -> SnapshotFacts:
        facts = super().store_snapshot(snapshot, parent, _mark(key))
        self._save()
        return facts

    def copy_snapshot(
        self, source: str, source_key: DataKey | None, snapshot: str, key: DataKey | None, parent: str | None = None
    ) -> SnapshotFacts:
        facts = super().copy_snapshot(source, _mark(source_key), snapshot, _mark(key), parent)
        self._save()
        return facts

    def read_block(self, snapshot: str, index: int, key: DataKey | None) -> bytes:
        return super().read_block(snapshot, index, _mark(key))

    def delete_snapshot(self, snapshot: str) -> None:
        super().delete_snapshot(snapshot)
        self._save()

    def allocate_address(self, instance: str) -> str:
        address = super().allocate_address(instance)
        self._save()
        return address

    def launch(self, spec: InstanceSpec) -> None:
        super().launch(spec)
        self._save()

    def configure(self, spec: InstanceSpec) -> None:
        super().configure(spec)
        self._save()

    def terminate(self, instance: str) -> None:
        super().terminate(instance)
        self._save()

    def power_off(self, instance: str, reason: ExitReason = "poweroff") -> None:
        raise AssertionError("there is no guest that could do it")

    def console(self, instance: str) -> bytes:
        super().console(instance)  # it must exist
        return b"This sandbox has no instances: nothing has booted.\n"

    # --- the file ----------------------------------------------------------------------------------------------------

    def _save(self) -> None:
        with self._lock:
            guests = {name: _dumped(guest.spec) for name, guest in self.guests.items()}
            snapshots = {
                name: {**asdict(one), "key": one.key.hex() if one.key else None} for name, one in self.snapshots.items()
            }
            form = {"volumes": self.volumes, "snapshots": snapshots, "guests": guests}
            text = json.dumps({**form, "addresses": self._addresses, "given": self._given})
            new = self._file.with_suffix(".new")
            with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
                file.write(text)
            new.rename(self._file)

    def _load(self, form: dict[str, Any]) -> None:
        self.volumes = dict(form["volumes"])
        self.snapshots = {
            name: Snapshot(**{**one, "key": bytes.fromhex(one["key"]) if one["key"] else None})
            for name, one in form["snapshots"].items()
        }
        self.guests = {name: Guest(_loaded(one), "stopped") for name, one in form["guests"].items()}
        self._addresses, self._given = dict(form["addresses"]), int(form["given"])


def _mark(key: DataKey | None) -> DataKey | None:
    """Return what stands for a data key in the records: it tells two keys apart, and reveals neither."""
    return None if key is None else DataKey(fingerprint(key).encode())


def _dumped(spec: InstanceSpec) -> dict[str, Any]:
    return asdict(spec) | {"user_data": base64.b64encode(spec.user_data).decode()}


def _loaded(form: dict[str, Any]) -> InstanceSpec:
    return InstanceSpec(**form | {"user_data": base64.b64decode(form["user_data"])})
