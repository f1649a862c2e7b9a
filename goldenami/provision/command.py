"""Commands and scripts of the recipe's own, for what no other operation does."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import ClassVar

from pydantic import Field, field_validator, model_validator

from goldenami.provision.fields import AbsolutePath, Account
from goldenami.provision.operation import Operation
from goldenami.provision.shell import Compilation, Script, Steps, lines, sh


class Command(Operation):
    """A command that is run. With ``creates``, ``unless`` or ``only_if`` only where it has something to do; else
    always.
    """

    kind: ClassVar[str] = "command"
    shorthand: ClassVar[str | None] = "argv"

    argv: tuple[str, ...] | None = Field(
        None, min_length=1, description="The command and its arguments, as a list; no shell is involved."
    )
    shell: str | None = Field(None, description="A script, run by `sh -e`. Either this or argv.")
    creates: AbsolutePath | None = Field(
        None, description="A path that the command makes: where it exists, nothing is run."
    )
    unless: str | None = Field(None, description="A shell command: where it succeeds, nothing is run.")
    only_if: str | None = Field(None, description="A shell command: where it fails, nothing is run.")
    environment: Mapping[str, str] = Field(default_factory=dict, description="Environment variables of the command.")
    cwd: AbsolutePath = Field("/", description="The directory that it runs in.")
    user: Account | None = Field(None, description="The user that it runs as; by default root.")
    statuses: tuple[int, ...] = Field((0,), min_length=1, description="The exit statuses that mean success.")
    idempotent: bool = Field(
        False,
        description="Whether it may be run again if the connection was lost and nobody knows whether it had ended.",
    )

    @field_validator("environment")
    @classmethod
    def _names(cls, value: Mapping[str, str]) -> Mapping[str, str]:
        for name in value:
            if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name):
                raise ValueError(f"{name!r} is no name of an environment variable")
        return value

    @model_validator(mode="after")
    def _one(self) -> Command:
        if (self.argv is None) == (self.shell is None):
            raise ValueError("expected either argv or shell")
        return self

    def title(self) -> str:
        if self.argv is not None:
            text = " ".join(self.argv)
        else:
            text = next((line.strip() for line in (self.shell or "").splitlines() if line.strip()), "")
        return "command " + (text if len(text) <= 60 else f"{text[:57]}...")

    def compile(self, to: Compilation) -> Steps:
        run = self._run(to)
        conditions = [
            sh(
                "[ ! -e @path ] && [ ! -L @path ] || { skip @why; return 0; }",
                path=self.creates,
                why=f"{self.creates} exists",
            )
            if self.creates
            else Script(""),
            sh("! (sh -c @unless) || { skip 'unless holds'; return 0; }", unless=self.unless)
            if self.unless is not None
            else Script(""),
            sh("(sh -c @only) || { skip 'only_if does not hold'; return 0; }", only=self.only_if)
            if self.only_if is not None
            else Script(""),
            Script("return 1"),
        ]
        verify = Script(":")
        if self.creates is not None:
            verify = sh(
                "[ -e @path ] || [ -L @path ] || { detail=@why; return 1; }",
                path=self.creates,
                why=f"{self.creates} was not created",
            )
        guarded = self.creates is not None or self.unless is not None
        return Steps(lines(*conditions), run, verify, once=not (guarded or self.idempotent))

    def _run(self, to: Compilation) -> Script:
        parts = [
            sh("cd @cwd", cwd=self.cwd),
            *(sh("export @name=@value", name=Script(name), value=value) for name, value in self.environment.items()),
        ]
        command = sh("@argv", argv=self.argv) if self.argv is not None else Script("")
        if self.shell is not None:
            script = to.place(self.shell.encode())
            if self.user is not None:  # who must be able to read it; nobody else is
                parts.append(sh("chown -- @user @script", user=self.user, script=script))
            command = sh("sh -e @script", script=script)
        if self.user is not None:
            home = "" if "HOME" in self.environment else "HOME=$(getent passwd @user | cut -d: -f6)\nexport HOME"
            parts.append(sh(home, user=self.user))
            command = sh("runuser -u @user -- @command", user=self.user, command=command)
        # A status is the command's own if it means failure; 0 is not a failure's.
        cases = f"{' | '.join(str(s) for s in self.statuses)}) exit 0 ;;" + (
            "" if 0 in self.statuses else " 0) exit 1 ;;"
        )
        end = sh("_status=$?\ncase $_status in @cases esac\nexit $_status", cases=Script(cases))
        # stdin is /dev/null already: a command that asks gets no answer rather than waiting for one.
        parts += [Script("set +e"), command, end]
        return lines(*parts)
