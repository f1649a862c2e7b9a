"""Commands and scripts of the recipe's own, for what no other operation does."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import ClassVar

from pydantic import Field, field_validator, model_validator

from goldenami.provision.fields import AbsolutePath, Account
from goldenami.provision.operation import Operation
from goldenami.provision.shell import Compilation, Script, Steps, lines, sh


class _Run(Operation):
    """What ``command`` and ``script`` have in common: when something is run, as whom, and what comes of it."""

    creates: AbsolutePath | tuple[AbsolutePath, ...] | None = Field(
        None,
        description="A path that it makes, or a list of them: where all exist, nothing is run; where one is missing "
        "afterwards, it has failed.",
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

    @property
    def paths(self) -> tuple[str, ...]:
        """Those of ``creates``."""
        if self.creates is None:
            return ()
        return (self.creates,) if isinstance(self.creates, str) else self.creates

    def compile(self, to: Compilation) -> Steps:
        run = self._run(to)
        conditions = [
            sh(
                "@all && { skip @why; return 0; }",
                all=Script(" && ".join(f"{{ {_exists(path).text}; }}" for path in self.paths)),
                why=f"{', '.join(self.paths)} {'exists' if len(self.paths) == 1 else 'exist'}",
            )
            if self.paths
            else Script(""),
            sh("! (sh -c @unless) || { skip 'unless holds'; return 0; }", unless=self.unless)
            if self.unless is not None
            else Script(""),
            sh("(sh -c @only) || { skip 'only_if does not hold'; return 0; }", only=self.only_if)
            if self.only_if is not None
            else Script(""),
            Script("return 1"),
        ]
        verify = lines(
            Script(":"),
            *(
                sh(
                    "@exists || { detail=@why; return 1; }",
                    exists=Script(f"{{ {_exists(path).text}; }}"),
                    why=f"{path} was not created",
                )
                for path in self.paths
            ),
        )
        guarded = bool(self.paths) or self.unless is not None
        return Steps(lines(*conditions), run, verify, once=not (guarded or self.idempotent))

    def _run(self, to: Compilation) -> Script:
        parts = [
            sh("cd @cwd", cwd=self.cwd),
            *(sh("export @name=@value", name=Script(name), value=value) for name, value in self.environment.items()),
        ]
        prepared, command = self._command(to)
        parts.append(prepared)
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

    def _command(self, to: Compilation) -> tuple[Script, Script]:
        """Code that prepares it, and the command."""
        raise NotImplementedError

    def _readable(self, script: Script) -> Script:
        """The script is made readable for who runs it, and for nobody else."""
        return sh("chown -- @user @script", user=self.user, script=script) if self.user is not None else Script("")


class Command(_Run):
    """A command that is run. With ``creates``, ``unless`` or ``only_if`` only where it has something to do; else
    always.
    """

    kind: ClassVar[str] = "command"
    shorthand: ClassVar[str | None] = "argv"

    argv: tuple[str, ...] | None = Field(
        None, min_length=1, description="The command and its arguments, as a list; no shell is involved."
    )
    shell: str | None = Field(None, description="A script, run by `sh -e`. Either this or argv.")

    @model_validator(mode="after")
    def _one(self) -> Command:
        if (self.argv is None) == (self.shell is None):
            raise ValueError("expected either argv or shell")
        return self

    def title(self) -> str:
        if self.argv is not None:
            text = " ".join(self.argv)
        else:
            text = _first_line(self.shell or "")
        return "command " + (text if len(text) <= 60 else f"{text[:57]}...")

    def _command(self, to: Compilation) -> tuple[Script, Script]:
        if self.argv is not None:
            return Script(""), sh("@argv", argv=self.argv)
        script = to.place((self.shell or "").encode())
        return self._readable(script), sh("sh -e @script", script=script)


class ScriptFile(_Run):
    """A script that is run by what its first line (`#!`) says, else by `sh -e`: a file beside the recipe, or written
    here. With ``creates``, ``unless`` or ``only_if`` only where it has something to do; else always.

    Its outputs are values that are read from the host once everything is done, in every build, whether it had to run or
    not. Tests find them as ``variables["outputs"]``, and the manifest keeps them.
    """

    kind: ClassVar[str] = "script"
    shorthand: ClassVar[str | None] = "src"
    sources: ClassVar = {"src": "verbatim"}

    src: str | None = Field(None, description="The file beside the recipe. It is not rendered: pass it arguments.")
    content: str | None = Field(None, description="The script, written here. Either this or src.")
    args: tuple[str, ...] = Field((), description="Its arguments.")
    outputs: Mapping[str, str] = Field(
        default_factory=dict,
        description='Values by name, each with a shell command that prints it: {schema: "cat /srv/app/SCHEMA"}.',
    )

    @model_validator(mode="after")
    def _one(self) -> ScriptFile:
        if (self.src is None) == (self.content is None):
            raise ValueError("expected either src or content")
        for name, command in self.outputs.items():
            if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name):
                raise ValueError(f"{name!r} is no name of an output: letters, digits and _")
            if not command.strip():
                raise ValueError(f"expected a shell command that prints the output {name}")
        return self

    def title(self) -> str:
        text = self.src or _first_line(re.sub(r"^#!.*", "", self.content or ""))
        return "script " + (text if len(text) <= 60 else f"{text[:57]}...")

    def _command(self, to: Compilation) -> tuple[Script, Script]:
        script = to.payload("src") if self.src is not None else to.place((self.content or "").encode())
        # By its interpreter, not by itself: no program can be started from /run where that is mounted noexec.
        found = sh(
            """read -r _first <@script || :
case $_first in '#!'*) _by=${_first#??} ;; *) _by='sh -e' ;; esac""",
            script=script,
        )
        return lines(self._readable(script), found), sh("$_by @script @args", script=script, args=self.args)


def _exists(path: str) -> Script:
    return sh("[ -e @path ] || [ -L @path ]", path=path)


def _first_line(text: str) -> str:
    return next((line.strip() for line in text.splitlines() if line.strip()), "")
