"""Settings of the running kernel."""

from __future__ import annotations

import re
from typing import Annotated, ClassVar

from pydantic import AfterValidator, Field

from goldenami.provision.fields import OneLine
from goldenami.provision.operation import Operation
from goldenami.provision.shell import Compilation, Script, Steps, sh


def _name(value: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9_*-]+([./][A-Za-z0-9_@:*-]+)+", value):
        raise ValueError("expected the name of a kernel setting, such as net.core.somaxconn")
    return value


class Sysctl(Operation):
    """A kernel setting: at every boot, by a file in /etc/sysctl.d, and at once.

    Where the running kernel does not let it be set (as in a container, where most belong to the machine outside), the
    detail says so.
    """

    kind: ClassVar[str] = "sysctl"

    name: Annotated[str, AfterValidator(_name)] = Field(
        description="Name of the setting, with dots; as in sysctl.d(5), slashes where a part has dots itself."
    )
    value: OneLine = Field(description='Its value, as a string: "4096".')

    def title(self) -> str:
        return f"sysctl {self.name} = {self.value}"

    @property
    def path(self) -> str:
        """Below /proc/sys. As in sysctl.d(5): whichever of dot and slash comes first is the separator."""
        separator = re.search(r"[./]", self.name)
        dotted = separator is not None and separator[0] == "."
        return "/proc/sys/" + (self.name.translate(str.maketrans("./", "/.")) if dotted else self.name)

    def compile(self, to: Compilation) -> Steps:
        file = f"/etc/sysctl.d/90-{self.name.replace('/', '_')}.conf"
        contents = to.place(f"{self.name} = {self.value}\n".encode())
        values: dict[str, str | Script] = {
            "file": file,
            "contents": contents,
            "path": self.path,
            "value": " ".join(self.value.split()),
        }
        check = sh(
            """cmp -s -- @contents @file || { detail='is not set at boot'; return 1; }
if [ ! -e @path ]; then detail='set at boot; this kernel has no such setting now'; return 0; fi
if [ ! -w @path ]; then detail='set at boot; it cannot be changed on the running kernel here'; return 0; fi
_live=$(tr -s '\\t ' '  ' <@path 2>/dev/null) || return 0
[ "$_live" = @value ] || { detail="is $_live"; return 1; }""",
            **values,
        )
        apply = sh(
            """beside @file
cat @contents >"$new"
set_attributes "$new" 0644 root root
replace @file
if [ ! -e @path ]; then note 'set at boot; this kernel has no such setting now'
elif [ ! -w @path ]; then note 'set at boot; it cannot be changed on the running kernel here'
else printf '%s\\n' @value >@path || die 'the kernel refuses this value'
fi""",
            **values,
        )
        return Steps(check, apply)
