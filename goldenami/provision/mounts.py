"""File systems: what is mounted, with which options, now and at every boot; and swap files."""

from __future__ import annotations

import re
from typing import Annotated, ClassVar, Literal

from pydantic import AfterValidator, Field, model_validator

from goldenami.provision.fields import AbsolutePath, OneLine
from goldenami.provision.operation import Operation
from goldenami.provision.shell import Compilation, Script, Steps, lines, sh
from goldenami.provision.writing import awk, is_gone, keep_attributes, write


def _option(value: str) -> str:
    if not re.fullmatch(r"[^\s,#]+", value):
        raise ValueError('expected one option of a mount, without comma and space: "nodev", "size=1G"')
    return value


class Mount(Operation):
    """A file system: its entry in /etc/fstab, and whether it is mounted.

    Without a source, what is there is kept, and the options are added to those it has: its entry's, or, where it has
    none (as /dev/shm), an entry is made of what is mounted. Options that contradict them (exec, if noexec is added) go.
    """

    kind: ClassVar[str] = "mount"

    path: AbsolutePath = Field(description="The mount point.")
    source: OneLine | None = Field(
        None, min_length=1, description='What is mounted: "UUID=…", "/dev/xvdb", "tmpfs". By default what it is now.'
    )
    fstype: str | None = Field(
        None, pattern=r"^[A-Za-z0-9._-]+$", description='Type of the file system: "ext4", "tmpfs". Comes with source.'
    )
    options: tuple[Annotated[str, AfterValidator(_option)], ...] = Field(
        (), description="Options, as in mount(8) and systemd.mount(5): nodev, noexec, size=1G, nofail."
    )
    dump: int = Field(0, ge=0, le=1, description="The fifth field of its entry.")
    fsck: int = Field(0, ge=0, le=2, description="The sixth field of its entry: in which order it is checked at boot.")
    state: Literal["mounted", "boot", "absent"] = Field(
        "mounted",
        description="mounted: in fstab, and now with these options too. boot: in fstab; what is mounted stays as it "
        "is. absent: neither.",
    )

    @model_validator(mode="after")
    def _consistent(self) -> Mount:
        if (self.source is None) != (self.fstype is None):
            raise ValueError("expected both source and fstype, or neither")
        if self.state == "absent" and (self.source is not None or self.options):
            raise ValueError("what is absent has neither source nor options")
        if self.state != "absent" and self.source is None and not self.options:
            raise ValueError("expected options to add, or a source")
        if self.state == "absent" and self.path in ("/", "/usr", "/boot", "/var"):
            raise ValueError(f"{self.path} is not unmounted: the system needs it")
        if self.state == "mounted" and self.path == "/":
            raise ValueError("expected state boot: the root is not mounted anew while it is used")
        return self

    def title(self) -> str:
        if self.state == "absent":
            return f"mount {self.path} absent"
        return " ".join(filter(None, ["mount", self.path, self.source, ",".join(self.options)]))

    def compile(self, to: Compilation) -> Steps:
        def run(mode: str) -> Script:
            return sh(
                """_mode=@mode _state=@state _point=@point _source=@source _type=@type _options=@options \\
_dump=@dump _pass=@pass @awk "$_fstab" /proc/self/mounts""",
                mode=mode,
                state=self.state,
                point=self.path,
                source=self.source or "",
                type=self.fstype or "",
                options=",".join(self.options),
                dump=self.dump,
                **{"pass": self.fsck},
                awk=awk(to, "mounts"),
            )

        fstab = Script("/etc/fstab")
        found = Script("_fstab=/etc/fstab\n[ -e $_fstab ] || _fstab=/dev/null")
        check = lines(found, sh("detail=$(@run)", run=run("check")))
        # The generator makes units of it; without, systemd may undo what is mounted now.
        apply = lines(found, write(fstab, run("edit"), keep_attributes(fstab)), Script("systemctl daemon-reload"))
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
fi || die 'it is in /etc/fstab, but cannot be mounted so here; state boot leaves that to the next boot'""",
            path=self.path,
        )


class Swap(Operation):
    """A swap file, with its entry in /etc/fstab.

    Where the running kernel does not let it be used (as in a container), it is used from the next boot on, and the
    detail says so.
    """

    kind: ClassVar[str] = "swap"

    path: AbsolutePath = Field("/swapfile", description="Path of the file.")
    size_mib: int | None = Field(None, ge=1, le=1 << 20, description="Its size, in MiB.")
    state: Literal["present", "absent"] = Field("present", description="Absent turns it off and removes the file.")

    @model_validator(mode="after")
    def _size(self) -> Swap:
        if (self.state == "present") != (self.size_mib is not None):
            raise ValueError("expected size_mib" if self.state == "present" else "absent swap has no size")
        if re.search(r"[\s\\#]", self.path):
            raise ValueError("expected a path without spaces")
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
