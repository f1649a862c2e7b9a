"""Single keys of settings files, such as most files below /etc."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import ClassVar, Literal

from pydantic import Field, model_validator

from goldenami.provision import demands
from goldenami.provision.fields import AbsolutePath, OneLine
from goldenami.provision.operation import Operation, Payload
from goldenami.provision.shell import Compilation, Script, Steps, lines, sh
from goldenami.provision.writing import VALIDATE, awk, keep_attributes, write

SettingsFormat = Literal["words", "ssh", "equals", "shell", "ini"]

_KNOWN: tuple[tuple[str, SettingsFormat], ...] = (
    (r"/etc/login\.defs", "words"),
    (r"/etc/ssh/sshd?_config(\.d/.*)?", "ssh"),
    (r"/etc/(default|sysconfig|selinux)/.*|/etc/environment|/etc/(adduser|deluser)\.conf", "shell"),
    (r"/etc/systemd/.*\.conf|/etc/dnf/.*|/etc/yum\.repos\.d/.*", "ini"),
    (r"/etc/security/.*\.conf|/etc/audit/.*\.conf|/etc/sysctl\.(conf|d/.*)", "equals"),
)
"""Formats of well-known files, by a pattern of the whole path."""


def format_of(path: str) -> SettingsFormat | None:
    """Return the format of a well-known file, or None for other paths."""
    return next((name for pattern, name in _KNOWN if re.fullmatch(pattern, path)), None)


class Setting(Operation):
    """Sets one key of a settings file, such as UMASK in /etc/login.defs or X11Forwarding in /etc/ssh/sshd_config.

    The first line that sets the key gets the value. Further lines that set it are removed, because some programs use
    the first one and others the last. If no line sets the key, a line is added after its commented example, or else at
    the end of the section. Comments and other lines are kept. For keys that may occur several times (HostKey,
    AcceptEnv) use `line`.
    """

    kind: ClassVar[str] = "setting"
    brings_units: ClassVar[bool] = False

    path: AbsolutePath = Field(description="Path of the file.")
    key: OneLine = Field(description='The key: "UMASK". In SSH files it can be two words: "Subsystem sftp".')
    value: OneLine | None = Field(None, description="The value, without quotes. Default: the line has the key alone.")
    format: SettingsFormat | None = Field(
        None,
        description="words: `KEY value` as in login.defs. ssh: the same, with Match or Host sections and "
        "case-insensitive keys. equals: `key = value`. shell: `KEY=value`, quoted for a shell. ini: `key=value` in "
        "sections. Default: by the path, for login.defs and for files in /etc/ssh, default, sysconfig, systemd, "
        "security, audit.",
    )
    section: OneLine | None = Field(
        None,
        description='The section: "Journal" (ini), "Match User git" (ssh). If it is missing, it is added at the end. '
        "Default for ssh: the part before the first Match or Host.",
    )
    state: Literal["present", "absent"] = Field("present", description="Absent removes every line that sets the key.")
    create: bool = Field(False, description="Whether a missing file is created (owner root, mode 0644).")
    validate_with: str | None = Field(None, alias="validate", description=VALIDATE)

    @model_validator(mode="after")
    def _consistent(self) -> Setting:
        if not self.key.strip() or self.key != self.key.strip() or self.key[0] in "#;[" or "=" in self.key:
            raise ValueError(f"{self.key!r} is not a valid key: expected text without =, not starting with #, ; or [")
        if self.form == "ini" and self.section is None:
            raise ValueError("expected section, because the format ini has sections")
        if self.section is not None and self.form not in ("ini", "ssh"):
            raise ValueError(f"the format {self.form} has no sections: remove section")
        if self.section is not None and self.form == "ssh" and not re.match(r"(?i)(match|host)\s", self.section):
            raise ValueError('expected a section such as "Match User git"')
        if self.state == "absent" and self.value is not None:
            raise ValueError("value has no effect with state absent: remove one of them")
        if self.state == "present" and self.value is None and self.form in ("words", "ssh", "shell"):
            raise ValueError("expected a value")
        if self.value is not None and self.form != "shell" and self.value != self.value.strip():
            raise ValueError("a value cannot begin or end with a space in this format")
        return self

    @property
    def form(self) -> SettingsFormat:
        """The format of the file. Raises ValueError if the recipe does not give it and the path is not well known."""
        form = self.format or format_of(self.path)
        if form is None:
            raise ValueError(
                f"the format of {self.path} is not known: expected format to be words, ssh, equals, shell or ini"
            )
        return form

    def title(self) -> str:
        ending = " absent" if self.state == "absent" else "" if self.value is None else f" {self.value}"
        return f"setting {self.path}: {self.key}{ending}"

    def claims(self, payloads: Mapping[str, Payload]) -> Mapping[str, str]:
        if self.state == "present" and self.section is None and demands.is_ssh_server(self.path):
            return demands.ssh_setting(self.key, self.value or "")
        if self.state == "present" and (found := demands.of_file(self.path, self.written())):
            return found
        key = self.key.lower() if self.form == "ssh" else self.key
        section = f" of {self.section}" if self.section else ""
        value = "absent" if self.state == "absent" else self.value if self.value is not None else "set"
        return {f"{key}{section} in {self.path}": value}

    def compile(self, to: Compilation) -> Steps:
        def run(mode: str) -> Script:
            return sh(
                """_mode=@mode _state=@state _format=@format _section=@section _key=@key _value=@value \\
_written=@written @awk""",
                mode=mode,
                format=self.form,
                section=self.section or "",
                key=self.key,
                value=self.value or "",
                written=self.written(),
                state=self.state,
                awk=awk(to, "setting"),
            )

        if self.state == "absent":
            missing = Script("return 0")
        elif self.create:
            missing = Script("{ detail='the file is not there'; return 1; }")
        else:
            missing = sh("{ printf '%s\\n' @why; return 2; }", why=f"{self.path}: no such file")
        check = sh("[ -e @path ] || @missing\ndetail=$(@run <@path)", path=self.path, missing=missing, run=run("check"))
        path = Script('"$_path"')
        source = sh('if [ -e "$_path" ]; then cat -- "$_path"; fi')
        apply = lines(
            sh("_path=$(readlink -m -- @path)", path=self.path),
            write(
                path, sh("@source | @run", source=source, run=run("edit")), keep_attributes(path), self.validate_with
            ),
        )
        return Steps(check, apply)

    def written(self) -> str:
        """Returns the line for the file."""
        if self.value is None:
            return self.key
        if self.form in ("words", "ssh"):
            return f"{'    ' if self.section else ''}{self.key} {self.value}"
        if self.form == "equals":
            return f"{self.key} = {self.value}"
        return f"{self.key}={_shell_word(self.value) if self.form == 'shell' else self.value}"


def _shell_word(value: str) -> str:
    """Returns a value that shells, systemd and PAM can read: with double quotes if they are needed."""
    if re.fullmatch(r"[A-Za-z0-9_./:,@%+-]*", value):
        return value
    return '"' + re.sub(r'([\\"$`])', r"\\\1", value) + '"'
