"""Files that systemd reads: units, drop-ins, timers, settings of its daemons, temporary files, the default target.

systemd loads all new drop-ins together, before a service starts or the handlers of the stage run (``reload_units``). It
loads a changed unit at once. The operation `service` decides whether a unit runs or starts at boot.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import ClassVar, Literal

from pydantic import Field, field_validator, model_validator

from goldenami.provision import demands
from goldenami.provision.fields import Account, OneLine, UnitName
from goldenami.provision.operation import Operation, Payload
from goldenami.provision.shell import Compilation, Script, Steps, lines, sh
from goldenami.provision.writing import no_file, place_file, same_file, write

_UNIT_TYPES = ("service", "socket", "timer", "path", "target", "mount", "automount", "slice", "swap")

RELOAD = Script("systemctl daemon-reload")


def full_name(unit: str) -> str:
    """Return a unit's name with its suffix. A name without a suffix is a service."""
    return unit if unit.rpartition(".")[2] in _UNIT_TYPES else f"{unit}.service"


class _Contents(Operation):
    content: str | None = Field(None, description="The contents as text. Either this or src.")
    src: str | None = Field(None, description="A template beside the recipe for the contents.")
    state: Literal["present", "absent"] = Field("present", description="Whether the file exists.")

    @model_validator(mode="after")
    def _given(self) -> _Contents:
        given = sum(x is not None for x in (self.content, self.src))
        if given != (1 if self.state == "present" else 0):
            raise ValueError(
                "expected either content or src" if self.state == "present" else "an absent file has no contents"
            )
        return self

    def _demands(self, path: str, payloads: Mapping[str, Payload]) -> dict[str, str]:
        """Return the claims of the contents. ``path``: of the file."""
        return demands.of_file(path, payloads.get("src", self.content or ""))

    def contents(self, to: Compilation) -> Script:
        if self.src is not None:
            return to.payload("src")
        return to.place(((self.content or "").rstrip("\n") + "\n").encode())


class Unit(_Contents):
    """Creates a systemd unit in /etc/systemd/system. If systemd cannot load it, the previous file is restored and the
    operation fails.
    """

    kind: ClassVar[str] = "unit"
    sources: ClassVar = {"src": "template"}

    name: UnitName = Field(description='Name of the unit; without a suffix it is a service: "app", "app.timer".')

    def title(self) -> str:
        return f"unit {full_name(self.name)}" + (" absent" if self.state == "absent" else "")

    @property
    def path(self) -> str:
        return f"/etc/systemd/system/{full_name(self.name)}"

    def claims(self, payloads: Mapping[str, Payload]) -> Mapping[str, str]:
        return {f"the unit {full_name(self.name)}": self.state, **self._demands(self.path, payloads)}

    def compile(self, to: Compilation) -> Steps:
        unit, path = full_name(self.name), self.path
        if self.state == "absent":
            return Steps(
                sh("[ ! -e @path ] && [ ! -L @path ] || { detail='is there'; return 1; }", path=path),
                sh(
                    "systemctl disable --now -- @unit || :\nrm -f -- @path\n@reload",
                    unit=unit,
                    path=path,
                    reload=RELOAD,
                ),
            )
        contents = self.contents(to)
        apply = lines(
            sh(
                "[ ! -L @path ] || die @why",
                path=path,
                why=f"{path} is a link: {unit} is masked, or an alias of another unit",
            ),
            sh(
                '_previous=$work/previous\nrm -f "$_previous"\n[ ! -e @path ] || cp -a -- @path "$_previous"', path=path
            ),
            place_file(path, contents),
            # systemd can load a template unit only with an instance name.
            RELOAD
            if "@" in unit
            else sh(
                """[ "$(systemctl show -p NeedDaemonReload --value -- @unit)" != yes ] || @reload
_load=$(systemctl show -p LoadState,LoadError -- @unit)
case $_load in *LoadState=loaded*) ;; *)
systemd-analyze verify @path 2>&1 || :
if [ -e "$_previous" ]; then mv -fT -- "$_previous" @path; else rm -f -- @path; fi
@reload
die "systemd cannot load the unit: $(printf '%s' "$_load" | tr '\\n' ' ')"
esac""",
                unit=unit,
                path=path,
                reload=RELOAD,
            ),
        )
        return Steps(lines(same_file(path, contents), _read(unit)), apply)


class DropIn(_Contents):
    """Adds settings to any unit, in a file in /etc/systemd/system/UNIT.d."""

    kind: ClassVar[str] = "dropin"
    brings_units: ClassVar[bool] = False
    sources: ClassVar = {"src": "template"}

    unit: UnitName = Field(description='Name of the unit: "ssh", "docker.socket".')
    name: str = Field(
        "50-goldenami",
        pattern=r"^[A-Za-z0-9_.-]+$",
        description="Name of the file, without .conf. systemd reads the files in alphabetical order.",
    )

    def title(self) -> str:
        return f"dropin {full_name(self.unit)} {self.name}" + (" absent" if self.state == "absent" else "")

    @property
    def path(self) -> str:
        return f"/etc/systemd/system/{full_name(self.unit)}.d/{self.name}.conf"

    def claims(self, payloads: Mapping[str, Payload]) -> Mapping[str, str]:
        return self._demands(self.path, payloads)

    def compile(self, to: Compilation) -> Steps:
        unit, path = full_name(self.unit), self.path
        if self.state == "absent":
            return no_file(path, RELOAD)
        contents = self.contents(to)
        same = same_file(path, contents)
        apply = lines(place_file(path, contents), Script(': >"$flags/units"'))
        return Steps(lines(same, _read(unit)), apply, same)


class Timer(Operation):
    """Runs a command at certain times: a oneshot service and its timer, which is enabled and started."""

    kind: ClassVar[str] = "timer"

    name: str = Field(pattern=r"^[A-Za-z0-9:_-]+$", description="Name of both units, without a suffix.")
    on_calendar: OneLine | None = Field(None, description='Times, as in systemd.time(7): "Mon *-*-* 03:00:00".')
    command: tuple[str, ...] | None = Field(
        None, min_length=1, description="The command and its arguments, without a shell."
    )
    user: Account = Field("root", description="The user that runs the command.")
    random_delay: OneLine | None = Field(None, description='Maximum random delay of each start: "1h".')
    persistent: bool = Field(
        True, description="Whether the command runs after boot if a time was missed while the host was off."
    )
    description: OneLine | None = Field(None, description="Description of both units. Default: the name.")
    state: Literal["present", "absent"] = Field("present", description="Absent removes both units.")

    @model_validator(mode="after")
    def _whole(self) -> Timer:
        if self.state == "present" and (self.on_calendar is None or self.command is None):
            raise ValueError("expected on_calendar and command")
        if self.command is not None and not self.command[0].startswith("/"):
            raise ValueError("expected the absolute path of the program in command")
        if any("\n" in word for word in self.command or ()):
            raise ValueError("expected arguments without line ends in command: write a script, and run that")
        return self

    def title(self) -> str:
        return f"timer {self.name} " + ("absent" if self.state == "absent" else f"{self.on_calendar}")

    def claims(self, payloads: Mapping[str, Payload]) -> Mapping[str, str]:
        return demands.executed(self.command[0]) if self.command is not None else {}

    def compile(self, to: Compilation) -> Steps:
        base = f"/etc/systemd/system/{self.name}"
        timer = f"{self.name}.timer"
        if self.state == "absent":
            return Steps(
                sh(
                    "[ ! -e @a ] && [ ! -e @b ] || { detail='is there'; return 1; }",
                    a=f"{base}.timer",
                    b=f"{base}.service",
                ),
                sh(
                    "systemctl disable --now -- @timer || :\nrm -f -- @files\n@reload",
                    timer=timer,
                    files=[f"{base}.timer", f"{base}.service"],
                    reload=RELOAD,
                ),
            )
        description = self.description or self.name
        command = " ".join(_exec_word(word) for word in self.command or ())
        service = to.place(
            f"[Unit]\nDescription={description}\n\n[Service]\nType=oneshot\nUser={self.user}\nExecStart={command}\n".encode()
        )
        delay = f"RandomizedDelaySec={self.random_delay}\n" if self.random_delay else ""
        when = to.place(
            f"[Unit]\nDescription={description}\n\n[Timer]\nOnCalendar={self.on_calendar}\n{delay}"
            f"Persistent={str(self.persistent).lower()}\n\n[Install]\nWantedBy=timers.target\n".encode()
        )
        check = lines(
            same_file(f"{base}.service", service),
            same_file(f"{base}.timer", when),
            sh(
                """_state=$(systemctl show -p ActiveState,UnitFileState -- @timer | sort | tr '\\n' ' ')
[ "$_state" = 'ActiveState=active UnitFileState=enabled ' ] || { detail=$_state; return 1; }""",
                timer=timer,
            ),
        )
        apply = lines(
            sh(
                "systemd-analyze calendar -- @when >/dev/null || die 'on_calendar is invalid: see systemd.time(7)'",
                when=self.on_calendar or "",
            ),
            place_file(f"{base}.service", service),
            place_file(f"{base}.timer", when),
            RELOAD,
            sh("systemctl enable --no-reload -- @timer\nsystemctl restart -- @timer", timer=timer),
        )
        return Steps(check, apply)


_SECTIONS = {
    "coredump": "Coredump",
    "journald": "Journal",
    "logind": "Login",
    "networkd": "Network",
    "oomd": "OOM",
    "pstore": "PStore",
    "resolved": "Resolve",
    "sleep": "Sleep",
    "system": "Manager",
    "timesyncd": "Time",
    "user": "Manager",
}


class SystemdConfig(Operation):
    """Sets options of one of systemd's daemons, in a file in /etc/systemd/NAME.conf.d.

    They take effect at the next start of the daemon. To use them at once, notify a handler that restarts the daemon
    (such as systemd-journald). Do not restart logind, since it manages the open sessions; wait for the next boot.
    """

    kind: ClassVar[str] = "systemd_config"
    brings_units: ClassVar[bool] = False

    daemon: str = Field(description=f"The daemon: {', '.join(_SECTIONS)}.")
    settings: Mapping[str, OneLine] = Field(
        default_factory=dict, description='The settings: {Storage: persistent, SystemMaxUse: "1G"}.'
    )
    name: str = Field(
        "50-goldenami",
        pattern=r"^[A-Za-z0-9_.-]+$",
        description="Name of the file, without .conf. systemd reads the files in alphabetical order.",
    )
    state: Literal["present", "absent"] = Field("present", description="Whether the file exists.")

    @field_validator("daemon")
    @classmethod
    def _known(cls, value: str) -> str:
        if value not in _SECTIONS:
            raise ValueError(f"{value!r} is not a daemon of systemd: expected one of {', '.join(_SECTIONS)}")
        return value

    @model_validator(mode="after")
    def _consistent(self) -> SystemdConfig:
        if (self.state == "present") != bool(self.settings):
            raise ValueError("expected settings" if self.state == "present" else "an absent file has no settings")
        for key in self.settings:
            if not re.fullmatch(r"[A-Za-z0-9-]+", key):
                raise ValueError(f"{key!r} is not the name of a setting: expected letters, digits and -")
        return self

    def title(self) -> str:
        shown = "absent" if self.state == "absent" else " ".join(f"{k}={v}" for k, v in self.settings.items())
        return f"systemd_config {self.daemon}: {shown}"

    def compile(self, to: Compilation) -> Steps:
        path = f"/etc/systemd/{self.daemon}.conf.d/{self.name}.conf"
        if self.state == "absent":
            return no_file(path)
        body = "".join(f"{key}={value}\n" for key, value in self.settings.items())
        contents = to.place(f"[{_SECTIONS[self.daemon]}]\n{body}".encode())
        return Steps(same_file(path, contents), place_file(path, contents))


class TmpFiles(_Contents):
    """Creates files and directories, or sets their modes, now and at every boot, with systemd-tmpfiles
    (tmpfiles.d(5)).
    """

    kind: ClassVar[str] = "tmpfiles"
    brings_units: ClassVar[bool] = False
    sources: ClassVar = {"src": "template"}

    name: str = Field(pattern=r"^[A-Za-z0-9_-]+$", description="Name of the file in /etc/tmpfiles.d, without .conf.")

    def title(self) -> str:
        return f"tmpfiles {self.name}" + (" absent" if self.state == "absent" else "")

    def compile(self, to: Compilation) -> Steps:
        path = f"/etc/tmpfiles.d/{self.name}.conf"
        if self.state == "absent":
            return no_file(path)
        contents = self.contents(to)
        # systemd-tmpfiles ends with 65 for an invalid line, and with 73 if it cannot create a file.
        word = sh("@path", path=path)
        apply = write(
            word,
            sh("cat @contents", contents=contents),
            Script('set_attributes "$new" 0644 root root'),
            "systemd-tmpfiles --create %s",
        )
        return Steps(same_file(path, contents), apply)


class DefaultTarget(Operation):
    """Sets the systemd target of the boot."""

    kind: ClassVar[str] = "default_target"
    brings_units: ClassVar[bool] = False
    shorthand: ClassVar[str | None] = "name"

    name: UnitName = Field(description='Name of the target: "multi-user.target", "graphical.target".')

    def title(self) -> str:
        return f"default_target {self.name}"

    def compile(self, to: Compilation) -> Steps:
        target = self.name if self.name.endswith(".target") else f"{self.name}.target"
        return Steps(
            sh(
                '_now=$(systemctl get-default)\n[ "$_now" = @target ] || { detail="is $_now"; return 1; }',
                target=target,
            ),
            sh("systemctl set-default -- @target", target=target),
        )


def _read(unit: str) -> Script:
    """Returns code of a check: systemd has read the current files of the unit."""
    return (
        sh(
            """[ "$(systemctl show -p NeedDaemonReload --value -- @unit)" != yes ] || {
detail='systemd has not read it yet'; return 1
}""",
            unit=unit,
        )
        if "@" not in unit
        else Script("")
    )


def _exec_word(word: str) -> str:
    """Returns an argument for ExecStart=, escaped so that systemd expands nothing in it: systemd.service(5), "Command
    lines".
    """
    word = word.replace("%", "%%").replace("$", "$$")
    if re.fullmatch(r"[A-Za-z0-9_./:,@%+=$-]+", word):
        return word
    return '"' + word.replace("\\", "\\\\").replace('"', '\\"') + '"'
