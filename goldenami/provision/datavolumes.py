"""File systems on the data volumes of a builder: found by the id of the volume, made, and mounted at every boot."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from goldenami.model import Mark
from goldenami.provision.mounts import Mount, fstab_entry
from goldenami.provision.operation import BoundOperation, Operation, Stage
from goldenami.provision.package import Package
from goldenami.provision.shell import Compilation, Script, Steps, lines, sh

DATA_VOLUMES: Final = "volumes"
"""The name of the stage that makes the file systems."""

# Sets _device. On Nitro the name of the device depends on the order in which the volumes were found, so the device is
# found by its serial number, which is the id of the volume. On Xen it has the name of the attachment ("Map Amazon EBS
# volumes to NVMe device names", EBS user guide).
_FIND = """_device=
for _tried in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20; do
for _entry in @link @xvd @sd; do
[ -b "$_entry" ] && _device=$(readlink -f -- "$_entry") && break 2
done
for _entry in /sys/block/nvme*/device/serial; do
[ "$(tr -d ' ' <"$_entry" 2>/dev/null)" = @serial ] || continue
_entry=${_entry#/sys/block/}
_device=/dev/${_entry%%/*}
[ -b "$_device" ] && break 2
_device=
done
sleep 1
done"""


class DataVolume(Operation):
    """Makes a file system on a data volume that has none, and mounts it. goldenami adds it for ``image.volumes``;
    recipes cannot use it."""

    volume: str  # its id
    device: str  # the name of its attachment
    path: str
    fstype: str | None
    label: str | None
    options: tuple[str, ...]

    def title(self) -> str:
        return f"volume {self.device} on {self.path}"

    def compile(self, to: Compilation) -> Steps:
        serial, letter = self.volume.replace("-", ""), self.device[-1]
        link = f"/dev/disk/by-id/nvme-Amazon_Elastic_Block_Store_{serial}"
        find = sh(_FIND, link=link, serial=serial, xvd=f"/dev/xvd{letter}", sd=f"/dev/sd{letter}")
        read = Script(
            """_type=$(blkid -p -o value -s TYPE -- "$_device") || _type=
_uuid=$(blkid -p -o value -s UUID -- "$_device") || _uuid="""
        )
        mount = Mount.model_validate(
            {
                "path": self.path,
                "source": "UUID",
                "fstype": self.fstype or "auto",
                "options": ("nofail", *self.options),
                "fsck": 2 if self.fstype == "ext4" else 0,
            }
        )
        same, edit = fstab_entry(to, mount, Script('"UUID=$_uuid"'))
        check = lines(
            find,
            Script("[ -n \"$_device\" ] || { detail='the volume is not attached'; return 1; }"),
            read,
            Script("[ -n \"$_uuid\" ] || { detail='has no file system'; return 1; }"),
            same,
        )
        apply = lines(
            find,
            sh('[ -n "$_device" ] || die @message', message=f"{self.volume} is not attached as {self.device}"),
            read,
            self._make(),
            edit,
            sh(
                """mkdir -p -- @path
mountpoint -q -- @path || mount -t @type -o @options -- "$_device" @path || die 'it cannot be mounted'
! command -v restorecon >/dev/null 2>&1 || restorecon -- @path""",
                path=self.path,
                type=self.fstype or "auto",
                options=",".join(("nofail", *self.options)),
            ),
        )
        return Steps(check, apply)

    def _make(self) -> Script:
        """Return the code that makes the file system, unless the volume has contents."""
        if self.fstype is None:
            return Script("[ -n \"$_type\" ] || die 'the volume has no file system: add filesystem.type'")
        return sh(
            """if [ -z "$_type" ]; then
_table=$(blkid -p -o value -s PTTYPE -- "$_device") && [ -n "$_table" ] && die 'the volume has a partition table'
mkfs -t @type -q @label "$_device" || die 'the file system cannot be made'
_uuid=$(blkid -p -o value -s UUID -- "$_device")
elif [ "$_type" != @type ]; then die "the volume has the file system $_type, which is kept"
fi""",
            type=self.fstype,
            label=sh("-L @label", label=self.label) if self.label else Script(""),
        )


def data_volume_stage(wanted: Sequence[DataVolume], mark: Mark) -> Stage:
    """Return the stage ``DATA_VOLUMES``, which precedes agents and software. It has no operations without volumes."""
    tools = [Package.model_validate({"name": "xfsprogs"})] if any(one.fstype == "xfs" for one in wanted) else []
    return Stage(DATA_VOLUMES, tuple(BoundOperation(one, mark) for one in (*tools, *wanted)))
