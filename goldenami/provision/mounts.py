"""File systems: mounts and their options, now and at every boot; and swap files."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, ClassVar, Literal

from pydantic import AfterValidator, Field, model_validator

from goldenami.provision import demands
from goldenami.provision.fields import AbsolutePath, OneLine
from goldenami.provision.operation import Operation, Payload
from goldenami.provision.shell import Compilation, Script, Steps, lines, sh
from goldenami.provision.writing import awk, is_gone, keep_attributes, write


def _option(value: str) -> str:
    if not re.fullmatch(r"[^\s,#]+", value):
        raise ValueError('expected one mount option, without commas and spaces: "nodev", "size=1G"')
    return value


class Mount(Operation):
    """Mounts a file system, with an entry in /etc/fstab.

    Without source, the existing source is kept and the options are added to the existing ones. They come from the entry
    in /etc/fstab. If there is no entry (as for /dev/shm), a new one is made from the current mount. Options that
    contradict the new ones (exec, if noexec is added) are removed.
    """

    kind: ClassVar[str] = "mount"
    brings_units: ClassVar[bool] = False

    path: AbsolutePath = Field(description="The mount point.")
    source: OneLine | None = Field(
        None, min_length=1, description='The device: "UUID=…", "/dev/xvdb", "tmpfs". Default: the present one.'
    )
    fstype: str | None = Field(
        None, pattern=r"^[A-Za-z0-9._-]+$", description='Type of the file system: "ext4", "tmpfs". Needed with source.'
    )
    options: tuple[Annotated[str, AfterValidator(_option)], ...] = Field(
        (), description="Options, as in mount(8) and systemd.mount(5): nodev, noexec, size=1G, nofail."
    )
    dump: int = Field(0, ge=0, le=1, description="The fifth field of the entry (dump(8)).")
    fsck: int = Field(0, ge=0, le=2, description="The sixth field of the entry: the order of checks at boot.")
    state: Literal["mounted", "boot", "absent"] = Field(
        "mounted",
        description="mounted: in fstab, and mounted now with these options. boot: in fstab; the current mount is not "
        "changed. absent: not in fstab, and not mounted.",
    )

    @model_validator(mode="after")
    def _consistent(self) -> Mount:
        if (self.source is None) != (self.fstype is None):
            raise ValueError("expected both source and fstype, or neither")
        if self.state == "absent" and (self.source is not None or self.options):
            raise ValueError("source and options have no effect with state absent: remove them")
        if self.state != "absent" and self.source is None and not self.options:
            raise ValueError("expected options to add, or a source")
        if self.state == "absent" and self.path in ("/", "/usr", "/boot", "/var"):
            raise ValueError(f"{self.path} cannot be unmounted: the system needs it")
        if self.state == "mounted" and self.path == "/":
            raise ValueError("state is mounted, expected boot: the root cannot be remounted while it is used")
        return self

    def title(self) -> str:
        if self.state == "absent":
            return f"mount {self.path} absent"
        return " ".join(filter(None, ["mount", self.path, self.source, ",".join(self.options)]))

    def claims(self, payloads: Mapping[str, Payload]) -> Mapping[str, str]:
        found = {f"the mount {self.path}": "absent" if self.state == "absent" else "present"}
        for option in self.options:
            name = option.removeprefix("no")
            if name in ("dev", "suid", "exec"):
                found[f"the mount option {name} of {self.path}"] = "no" if option.startswith("no") else "yes"
        if "noexec" in self.options:
            found.update(demands.not_executed(self.path))
        if self.fstype is not None:
            found.update(demands.kernel_module(self.fstype, "loaded"))  # the kernel loads it for the first mount
        return found

    def compile(self, to: Compilation) -> Steps:
        check, apply = fstab_entry(to, self, self.source or "")
        if self.state == "mounted":
            apply = lines(apply, self._mount())
        elif self.state == "absent":
            apply = lines(apply, sh("while mountpoint -q -- @path; do umount -- @path; done", path=self.path))
        return Steps(check, apply)

    def _mount(self) -> Script:
        return sh(
            """if mountpoint -q -- @path; then mount -o remount -- @path
else
[ -e @path ] || mkdir -p -- @path
mount -- @path
fi || die 'it is in /etc/fstab, but cannot be mounted so now: use state boot to mount it at the next boot'""",
            path=self.path,
        )


def fstab_entry(to: Compilation, mount: Mount, source: str | Script) -> tuple[Script, Script]:
    """Return the code that checks a mount and its entry in /etc/fstab, and the code that edits the entry. ``source``:
    that of the entry, or shell code for it."""

    def run(mode: str) -> Script:
        return sh(
            """_mode=@mode _state=@state _point=@point _source=@source _type=@type _options=@options \\
_dump=@dump _pass=@pass @awk "$_fstab" /proc/self/mounts""",
            mode=mode,
            state=mount.state,
            point=mount.path,
            source=source,
            type=mount.fstype or "",
            options=",".join(mount.options),
            dump=mount.dump,
            **{"pass": mount.fsck},
            awk=awk(to, "mounts"),
        )

    fstab = Script("/etc/fstab")
    found = Script("_fstab=/etc/fstab\n[ -e $_fstab ] || _fstab=/dev/null")
    check = lines(found, sh("detail=$(@run)", run=run("check")))
    # systemd's generator creates units from fstab. With outdated units systemd may undo the current mount.
    apply = lines(found, write(fstab, run("edit"), keep_attributes(fstab)), Script("systemctl daemon-reload"))
    return check, apply


class Swap(Operation):
    """Creates a swap file, with an entry in /etc/fstab.

    If the running kernel does not permit its use (as in a container), it is used from the next boot on, and the
    operation's detail reports that.
    """

    kind: ClassVar[str] = "swap"
    brings_units: ClassVar[bool] = False

    path: AbsolutePath = Field("/swapfile", description="Path of the file.")
    size_mib: int | None = Field(None, ge=1, le=1 << 20, description="Size of the file in MiB.")
    state: Literal["present", "absent"] = Field("present", description="Absent turns the swap file off and removes it.")

    @model_validator(mode="after")
    def _size(self) -> Swap:
        if (self.state == "present") != (self.size_mib is not None):
            raise ValueError(
                "expected size_mib" if self.state == "present" else "size_mib has no effect with state absent"
            )
        if re.search(r"[\s\\#]", self.path):
            raise ValueError(f"path is {self.path!r}: expected a path without spaces, backslashes and #")
        return self

    def title(self) -> str:
        return f"swap {self.path} " + ("absent" if self.state == "absent" else f"{self.size_mib} MiB")

    def compile(self, to: Compilation) -> Steps:
        fstab = Script("/etc/fstab")
        mine = sh("grep -qE @entry /etc/fstab 2>/dev/null", entry=rf"^{re.escape(self.path)}[[:space:]]")
        others = sh("{ grep -vE @entry /etc/fstab || :; }", entry=rf"^{re.escape(self.path)}[[:space:]]")
        used = sh("grep -q @path /proc/swaps", path=f"^{re.escape(self.path)} ")
        if self.state == "absent":
            return Steps(
                lines(is_gone(self.path), sh("! @mine || { detail='is in /etc/fstab'; return 1; }", mine=mine)),
                lines(
                    sh("! @used || swapoff -- @path", used=used, path=self.path),
                    write(fstab, others, keep_attributes(fstab)),
                    sh("rm -f -- @path", path=self.path),
                ),
            )
        size = (self.size_mib or 0) << 20
        check = sh(
            """[ -f @path ] || { detail='is not there'; return 1; }
_size=$(stat -c %s -- @path)
[ "$_size" = @size ] || { detail="has $_size bytes"; return 1; }
attributes @path 0600 root root || return 1
@mine || { detail='is not in /etc/fstab'; return 1; }
@used || detail='from the next boot on'""",
            path=self.path,
            size=str(size),
            mine=mine,
            used=used,
        )
        produce = sh("{ @others; printf '%s none swap sw 0 0\\n' @path; }", others=others, path=self.path)
        apply = lines(
            sh(
                """! @used || swapoff -- @path
rm -f -- @path
(umask 077; fallocate -l @size -- @path || dd if=/dev/zero of=@path bs=1M count=@count)
mkswap -- @path""",
                used=used,
                path=self.path,
                size=str(size),
                count=str(self.size_mib),
            ),
            write(fstab, produce, keep_attributes(fstab)),
            sh("swapon -- @path || note 'from the next boot on: it cannot be used here'", path=self.path),
        )
        return Steps(check, apply)
