"""Commands and scripts of a recipe, for changes that no other operation makes."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, ClassVar

from pydantic import Field, field_validator, model_validator

from goldenami.provision import demands
from goldenami.provision.fields import AbsolutePath, Account
from goldenami.provision.operation import Operation, Payload
from goldenami.provision.shell import Compilation, Script, Steps, lines, sh
from goldenami.provision.trees import beside


class _Executed(Operation):
    """The common part of ``command`` and ``script``: the conditions, the user and the expected result."""

    creates: AbsolutePath | tuple[AbsolutePath, ...] | None = Field(
        None,
        description="A path that the command creates, or a list of paths. If all of them exist, the command does not "
        "run. If one is missing afterwards, the operation fails.",
    )
    unless: str | None = Field(None, description="A shell command. If it succeeds, the command does not run.")
    only_if: str | None = Field(None, description="A shell command. If it fails, the command does not run.")
    environment: Mapping[str, str] = Field(default_factory=dict, description="Environment variables of the command.")
    cwd: AbsolutePath = Field("/", description="The directory in which the command runs.")
    user: Account | None = Field(None, description="The user that runs the command. Default: root.")
    statuses: tuple[Annotated[int, Field(ge=0, le=255)], ...] = Field(
        (0,), min_length=1, description="The exit statuses that mean success."
    )
    reboots: bool = Field(
        False,
        description="Whether the command reboots the host itself. If the host reboots while it runs, it counts as "
        "ended, and the recipe continues with the next operation.",
    )
    idempotent: bool = Field(
        False,
        description="Whether the command may run again after a lost connection, if it is unknown whether the first run "
        "ended.",
    )

    @field_validator("environment")
    @classmethod
    def _names(cls, value: Mapping[str, str]) -> Mapping[str, str]:
        for name in value:
            if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name):
                raise ValueError(
                    f"{name!r} is not the name of an environment variable: expected letters, digits and _, "
                    "with no digit first"
                )
        return value

    @property
    def paths(self) -> tuple[str, ...]:
        """The paths of ``creates``."""
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
        return Steps(
            lines(*conditions),
            run,
            verify,
            once=not (guarded or self.idempotent),
            own_code=True,
            may_reboot=self.reboots,
        )

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
        # The command's own status is kept if it means failure. If 0 means failure, the status becomes 1.
        cases = f"{' | '.join(str(s) for s in self.statuses)}) exit 0 ;;" + (
            "" if 0 in self.statuses else " 0) exit 1 ;;"
        )
        end = sh("_status=$?\ncase $_status in @cases esac\nexit $_status", cases=Script(cases))
        # stdin is /dev/null already, so a command that asks a question does not wait for an answer.
        parts += [Script("set +e"), command, end]
        return lines(*parts)

    def _command(self, to: Compilation) -> tuple[Script, Script]:
        """Returns the code that prepares the command, and the command."""
        raise NotImplementedError

    def _readable(self, script: Script) -> Script:
        """Returns code that makes the script readable for the user that runs it, and for no other user."""
        return sh("chown -- @user @script", user=self.user, script=script) if self.user is not None else Script("")


class Command(_Executed):
    """Runs a command. With ``creates``, ``unless`` or ``only_if`` it runs only if it has something to do; without
    them, it always runs.
    """

    kind: ClassVar[str] = "command"
    shorthand: ClassVar[str | None] = "argv"

    argv: tuple[str, ...] | None = Field(
        None, min_length=1, description="The command and its arguments, as a list. No shell interprets them."
    )
    shell: str | None = Field(None, description="A script for `sh -e`. Either this or argv.")

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

    def claims(self, payloads: Mapping[str, Payload]) -> Mapping[str, str]:
        """Of a shell text nobody knows what it starts."""
        return demands.executed_now(self.argv[0]) if self.argv is not None else {}

    def _command(self, to: Compilation) -> tuple[Script, Script]:
        if self.argv is not None:
            return Script(""), sh("@argv", argv=self.argv)
        script = to.place((self.shell or "").encode())
        return self._readable(script), sh("sh -e @script", script=script)


class ScriptFile(_Executed):
    """Runs a script, from a file beside the recipe or from `content`. The interpreter is the one in its first line
    (`#!`), else `sh -e`. With ``creates``, ``unless`` or ``only_if`` it runs only if it has something to do; without
    them, it always runs.

    Its outputs are values that every build reads from the host after the last operation, also if the script did not
    have to run. Tests find them as ``variables["outputs"]``, and the manifest keeps them.
    """

    kind: ClassVar[str] = "script"
    shorthand: ClassVar[str | None] = "src"
    sources: ClassVar = {"src": "verbatim", "files": "bundle"}

    src: str | None = Field(None, description="A file beside the recipe. It is not rendered: use args for values.")
    content: str | None = Field(None, description="The text of the script. Either this or src.")
    files: tuple[str, ...] = Field(
        (),
        description="Files and directories beside the recipe that the script needs. While it runs, they are in the "
        "directory GOLDENAMI_FILES (an environment variable), by their names. /var/tmp can be mounted noexec: start a "
        "program in it with its interpreter.",
    )
    args: tuple[str, ...] = Field((), description="The script's arguments.")
    outputs: Mapping[str, str] = Field(
        default_factory=dict,
        description='Values by name. A shell command prints each value: {schema: "cat /srv/app/SCHEMA"}.',
    )

    @model_validator(mode="after")
    def _one(self) -> ScriptFile:
        if (self.src is None) == (self.content is None):
            raise ValueError("expected either src or content")
        for name, command in self.outputs.items():
            if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name):
                raise ValueError(f"{name!r} is not the name of an output: expected letters, digits and _")
            if not command.strip():
                raise ValueError(f"the output {name} is empty: expected a shell command that prints its value")
        return self

    def title(self) -> str:
        text = self.src or _first_line(re.sub(r"^#!.*", "", self.content or ""))
        return "script " + (text if len(text) <= 60 else f"{text[:57]}...")

    def _command(self, to: Compilation) -> tuple[Script, Script]:
        script = to.payload("src") if self.src is not None else to.place((self.content or "").encode())
        # The interpreter is started with the script as its argument, since /run can be mounted noexec.
        found = sh(
            """read -r _first <@script || :
case $_first in '#!'*) _by=${_first#??} ;; *) _by='sh -e' ;; esac""",
            script=script,
        )
        prepared = [self._files(to)] if self.files else []
        return lines(*prepared, self._readable(script), found), sh("$_by @script @args", script=script, args=self.args)

    def _files(self, to: Compilation) -> Script:
        """Returns code that puts the files of the script into a directory, which its user can read."""
        user = sh('chown -R -h -- @user "$files"', user=self.user) if self.user is not None else Script("")
        return lines(beside(to, "files"), user, Script("GOLDENAMI_FILES=$files\nexport GOLDENAMI_FILES"))


def _exists(path: str) -> Script:
    return sh("[ -e @path ] || [ -L @path ]", path=path)


def _first_line(text: str) -> str:
    return next((line.strip() for line in text.splitlines() if line.strip()), "")
