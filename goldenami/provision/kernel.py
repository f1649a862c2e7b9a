"""Settings, modules and boot arguments of the kernel."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, ClassVar, Literal

from pydantic import AfterValidator, Field, model_validator

from goldenami.provision.demands import kernel_module, kernel_setting, setting_path
from goldenami.provision.fields import OneLine
from goldenami.provision.operation import Operation, Payload
from goldenami.provision.shell import Compilation, Script, Steps, lines, sh
from goldenami.provision.writing import awk, keep_attributes, place_file, same_file, write


def _name(value: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9_*-]+([./][A-Za-z0-9_@:*-]+)+", value):
        raise ValueError("expected the name of a kernel setting, such as net.core.somaxconn")
    return value


class Sysctl(Operation):
    """Sets a kernel setting now, and at every boot by a file in /etc/sysctl.d.

    If the running kernel does not permit the change (most settings in a container belong to the host), the setting
    takes effect at boot only, and the operation's detail reports that.
    """

    kind: ClassVar[str] = "sysctl"
    brings_units: ClassVar[bool] = False

    name: Annotated[str, AfterValidator(_name)] = Field(
        description="Name of the setting, with dots. As in sysctl.d(5): use slashes if a part contains dots; * matches "
        "any name."
    )
    value: OneLine = Field(description='Value of the setting, as a string: "4096".')

    def title(self) -> str:
        return f"sysctl {self.name} = {self.value}"

    @property
    def path(self) -> str:
        return "/proc/sys/" + setting_path(self.name)

    @property
    def file(self) -> str:
        """The file in /etc/sysctl.d. It is read after /etc/sysctl.conf (99-sysctl.conf) and after the files of
        packages, since the last file wins.
        """
        return f"/etc/sysctl.d/99-zz-{self.name.replace('/', '_').replace('*', 'all')}.conf"

    def claims(self, payloads: Mapping[str, Payload]) -> Mapping[str, str]:
        return kernel_setting(self.name, self.value)

    def compile(self, to: Compilation) -> Steps:
        contents = to.place(f"{self.name} = {self.value}\n".encode())
        # Not quoted, so that * is a pattern. The name contains no other special characters.
        paths = Script(self.path)
        value = " ".join(self.value.split())
        check = sh(
            """@same
for _path in @paths; do
if [ ! -e "$_path" ]; then detail='set at boot; this kernel has no such setting now'; continue; fi
if [ ! -w "$_path" ]; then detail='set at boot; it cannot be changed on the running kernel here'; continue; fi
_live=$(tr -s '\\t ' '  ' <"$_path" 2>/dev/null) || continue
[ "$_live" = @value ] || { detail="is $_live"; return 1; }
done""",
            same=same_file(self.file, contents),
            paths=paths,
            value=value,
        )
        apply = lines(
            place_file(self.file, contents),
            sh(
                """for _path in @paths; do
if [ ! -e "$_path" ]; then note 'set at boot; this kernel has no such setting now'
elif [ ! -w "$_path" ]; then note 'set at boot; it cannot be changed on the running kernel here'
else printf '%s\\n' @value >"$_path" || die "the kernel refuses this value for $_path"
fi
done""",
                paths=paths,
                value=value,
            ),
        )
        return Steps(check, apply)


class KernelModule(Operation):
    """Loads a kernel module at every boot, or prevents that it is loaded.

    A disabled module is blacklisted, so that it is not loaded automatically, and loading it by name runs /bin/false
    instead. If the running kernel does not permit the change (in a container, or while the module is in use), it takes
    effect at the next boot, and the operation's detail reports that.
    """

    kind: ClassVar[str] = "kernel_module"
    brings_units: ClassVar[bool] = False

    name: str = Field(pattern=r"^[A-Za-z0-9_-]+$", description='Name of the module: "br_netfilter", "usb-storage".')
    state: Literal["loaded", "disabled", "default"] = Field(
        description="loaded: load it now and at every boot. disabled: never load it. default: remove both settings."
    )
    parameters: OneLine = Field("", description='Parameters for loading the module: "max_loop=64".')

    @model_validator(mode="after")
    def _consistent(self) -> KernelModule:
        if self.state == "disabled" and self.parameters:
            raise ValueError("a disabled module has no parameters")
        return self

    def title(self) -> str:
        return f"kernel_module {self.name} {self.state}"

    def claims(self, payloads: Mapping[str, Payload]) -> Mapping[str, str]:
        return kernel_module(self.name, self.state)

    def compile(self, to: Compilation) -> Steps:
        load, probe = f"/etc/modules-load.d/goldenami-{self.name}.conf", f"/etc/modprobe.d/goldenami-{self.name}.conf"
        rules = f"options {self.name} {self.parameters}\n" if self.parameters else ""
        if self.state == "disabled":
            rules = f"blacklist {self.name}\ninstall {self.name} /bin/false\n"
        wanted = {load: f"{self.name}\n" if self.state == "loaded" else "", probe: rules}
        check, apply = [], []
        for path, text in wanted.items():
            if text:
                contents = to.place(text.encode())
                check.append(same_file(path, contents))
                apply.append(place_file(path, contents))
            else:
                check.append(sh("[ ! -e @path ] || { detail=@why; return 1; }", path=path, why=f"{path} is there"))
                apply.append(sh("rm -f -- @path", path=path))
        loaded = sh("grep -q @entry /proc/modules", entry=f"^{self.name.replace('-', '_')} ")
        builtin = sh("[ -d @path ]", path=f"/sys/module/{self.name.replace('-', '_')}")
        if self.state == "loaded":
            check.append(sh("@builtin || detail='loaded at the next boot'", builtin=builtin))
            apply.append(
                sh(
                    """@builtin || modprobe -- @name || {
case $(systemd-detect-virt --container 2>/dev/null) in
'' | none) die 'the running kernel cannot load it' ;;
*) note 'loaded at the next boot: a container cannot' ;;
esac
}""",
                    builtin=builtin,
                    name=self.name,
                )
            )
        elif self.state == "disabled":
            check.append(sh("! @loaded || detail='still loaded, until the next boot'", loaded=loaded))
            apply.append(
                sh(
                    "! @loaded || modprobe -r -- @name 2>/dev/null || note 'still loaded, until the next boot'",
                    loaded=loaded,
                    name=self.name,
                )
            )
        return Steps(lines(*check), lines(*apply))


class KernelArgument(Operation):
    """Sets an argument on the kernel's command line, from the next boot on.

    If grubby manages boot loader entries, the entry of every kernel is changed. Otherwise /etc/default/grub is changed,
    from which update-grub creates the boot loader's menu. If no boot loader is installed (for example in a container),
    nothing is changed, and the operation's detail reports that.
    """

    kind: ClassVar[str] = "kernel_argument"
    brings_units: ClassVar[bool] = False
    shorthand: ClassVar[str | None] = "name"

    name: str = Field(pattern=r"^[A-Za-z0-9_.-]+$", description='Name of the argument: "audit", "quiet".')
    value: str | None = Field(
        None,
        pattern=r"^[A-Za-z0-9_.,:/=+@%-]+$",
        description="Value of the argument. Default: the argument is the name alone.",
    )
    state: Literal["present", "absent"] = Field("present", description="Absent removes the argument with any value.")

    @model_validator(mode="after")
    def _consistent(self) -> KernelArgument:
        if self.state == "absent" and self.value is not None:
            raise ValueError("an absent argument has no value")
        return self

    @property
    def word(self) -> str:
        return self.name if self.value is None else f"{self.name}={self.value}"

    def title(self) -> str:
        return f"kernel_argument {self.word}" + (" absent" if self.state == "absent" else "")

    def claims(self, payloads: Mapping[str, Payload]) -> Mapping[str, str]:
        return {f"the kernel argument {self.name}": "absent" if self.state == "absent" else self.word}

    def compile(self, to: Compilation) -> Steps:
        def run(mode: str, file: str) -> Script:
            return sh(
                "_mode=@mode _name=@name _word=@word _state=@state @awk @file",
                mode=mode,
                name=self.name,
                word=self.word,
                state=self.state,
                awk=awk(to, "arguments"),
                file=file,
            )

        check = sh(
            """if command -v grubby >/dev/null && [ -d /boot/loader/entries ]; then
detail=$(grubby --info=ALL | @entries)
elif [ -e /etc/default/grub ]; then
detail=$(@settings) || return 1
if [ -e /boot/grub/grub.cfg ]; then detail=$(@menu)
else detail='in /etc/default/grub; no boot loader is installed here that reads it'; fi
else skip 'no boot loader is installed here'
fi""",
            entries=run("grubby", "-"),
            settings=run("check", "/etc/default/grub"),
            menu=run("menu", "/boot/grub/grub.cfg"),
        )
        grub = Script("/etc/default/grub")
        change = ["--args", self.word] if self.state == "present" else ["--remove-args", self.name]
        other = [] if self.state == "absent" else ["--remove-args", self.name]
        apply = sh(
            """if command -v grubby >/dev/null && [ -d /boot/loader/entries ]; then
@clear
grubby --update-kernel=ALL @change
else
@write
if [ ! -e /boot/grub/grub.cfg ]; then note 'in /etc/default/grub; no boot loader is installed here that reads it'
else update-grub; fi
fi""",
            clear=sh("grubby --update-kernel=ALL @other", other=other) if other else Script(":"),
            change=change,
            write=write(grub, run("edit", "/etc/default/grub"), keep_attributes(grub)),
        )
        return Steps(check, apply)
