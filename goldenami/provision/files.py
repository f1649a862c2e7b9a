"""Files, templates, directories and links, and the removal of paths.

Missing parent directories are created with owner root and mode 0755.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import ClassVar, Literal

from pydantic import Field, model_validator

from goldenami.os import MANAGERS
from goldenami.provision import demands
from goldenami.provision.fields import AbsolutePath, Account, Mode, OneLine
from goldenami.provision.operation import Operation, Payload
from goldenami.provision.shell import Compilation, Script, Steps, lines, sh
from goldenami.provision.trees import Tree
from goldenami.provision.writing import VALIDATE, write


class _Contents(Operation):
    """The common part of ``file`` and ``template``."""

    dest: AbsolutePath = Field(description="Path of the file on the host.")
    content: str | None = Field(None, description="The contents as text. Either this or src.")
    src: str | None = Field(None, description="A file beside the recipe with the contents.")
    mode: Mode | None = Field(
        None, description='Permissions, as a string: "0644". Default: 0755 if src is executable, else 0644.'
    )
    owner: Account = Field("root", description="Name or number of the owner.")
    group: Account = Field("root", description="Name or number of the group.")
    validate_with: str | None = Field(None, alias="validate", description=VALIDATE)

    def title(self) -> str:
        return f"{self.kind} {self.dest}"

    def claims(self, payloads: Mapping[str, Payload]) -> Mapping[str, str]:
        data = (
            payloads["src"].sha256 if "src" in payloads else hashlib.sha256((self.content or "").encode()).hexdigest()
        )
        mode = {f"the mode of the file {self.dest}": self.mode} if self.mode else {}
        contents = payloads.get("src", self.content or "")
        return {self.dest: f"contents {data}", **mode, **demands.of_file(self.dest, contents)}

    def compile(self, to: Compilation) -> Steps:
        if self.src is not None:
            contents, source = to.payload("src"), to.source_mode("src")
        else:
            contents, source = to.place((self.content or "").encode()), None
        mode = self.mode or ("0755" if source is not None and source & 0o100 else "0644")
        check = sh(
            """[ -e @dest ] || [ -L @dest ] || { detail='is not there'; return 1; }
if [ -L @dest ] || [ ! -f @dest ]; then detail='is not a regular file'; return 1; fi
cmp -s @contents @dest || { detail='contents differ'; return 1; }
attributes @dest @mode @owner @group""",
            dest=self.dest,
            contents=contents,
            mode=mode,
            owner=self.owner,
            group=self.group,
        )
        apply = write(
            sh("@dest", dest=self.dest),
            sh("cat @contents", contents=contents),
            sh('set_attributes "$new" @mode @owner @group', mode=mode, owner=self.owner, group=self.group),
            self.validate_with,
        )
        return Steps(check, apply)


class File(_Contents):
    """Creates a file with exactly these contents, or removes it. If `src` is a directory, it is copied as the operation
    `tree` does, with the mode for its files.
    """

    kind: ClassVar[str] = "file"
    sources: ClassVar = {"src": "any"}

    state: Literal["present", "absent"] = Field(
        "present", description="Whether the file exists. Absent removes a file or link, never a directory."
    )

    @model_validator(mode="after")
    def _contents(self) -> File:
        given = sum(x is not None for x in (self.content, self.src))
        if self.state == "absent" and given:
            raise ValueError("an absent file has no contents")
        if self.state == "present" and given != 1:
            raise ValueError("expected either content or src")
        return self

    def _tree(self) -> Tree:
        given = {"src": self.src, "dest": self.dest, "owner": self.owner, "group": self.group, "files": self.mode}
        return Tree.model_validate(given)

    def claims(self, payloads: Mapping[str, Payload]) -> Mapping[str, str]:
        if "src" in payloads and payloads["src"].tree is not None:
            return self._tree().claims(payloads)
        return {self.dest: "absent"} if self.state == "absent" else super().claims(payloads)

    def misfit(self, payloads: Mapping[str, Payload]) -> str | None:
        if "src" not in payloads or payloads["src"].tree is None:
            return None
        if self.validate_with is not None:
            return f"validate: {self.src} is a directory, and only a single file is validated"
        return self._tree().misfit(payloads)

    def compile(self, to: Compilation) -> Steps:
        if self.state == "present":
            return self._tree().compile(to) if to.is_tree("src") else super().compile(to)
        return Steps(
            sh("[ ! -e @dest ] && [ ! -L @dest ]", dest=self.dest),
            sh("[ ! -d @dest ] || [ -L @dest ] || die @dest is a directory\nrm -f -- @dest", dest=self.dest),
        )

    def title(self) -> str:
        return super().title() + (" absent" if self.state == "absent" else "")


class Template(_Contents):
    """Creates a file from a Jinja template, rendered with the recipe's variables."""

    kind: ClassVar[str] = "template"
    sources: ClassVar = {"src": "template"}

    @model_validator(mode="after")
    def _contents(self) -> Template:
        if (self.content is None) == (self.src is None):
            raise ValueError("expected either content or src")
        return self


class Directory(Operation):
    """Creates a directory, or removes it with its contents."""

    kind: ClassVar[str] = "directory"
    brings_units: ClassVar[bool] = False
    shorthand: ClassVar[str | None] = "path"

    path: AbsolutePath = Field(description="Path of the directory on the host. Missing parents are created.")
    state: Literal["present", "absent"] = Field(
        "present", description="Whether the directory exists. Absent removes it with everything in it."
    )
    mode: Mode = Field("0755", description='Permissions, as a string: "0755".')
    owner: Account = Field("root", description="Name or number of the owner.")
    group: Account = Field("root", description="Name or number of the group.")

    @model_validator(mode="after")
    def _refuse_system_paths(self) -> Directory:
        if self.state == "absent":
            refuse_system_path(self.path)
        return self

    def title(self) -> str:
        return f"directory {self.path}" + (" absent" if self.state == "absent" else "")

    def claims(self, payloads: Mapping[str, Payload]) -> Mapping[str, str]:
        return {self.path: "a directory" if self.state == "present" else "absent"}

    def compile(self, to: Compilation) -> Steps:
        if self.state == "absent":
            return Steps(
                sh("[ ! -e @path ] && [ ! -L @path ]", path=self.path),
                sh("rm -rf --one-file-system -- @path", path=self.path),
            )
        values = {"path": self.path, "mode": self.mode, "owner": self.owner, "group": self.group}
        return Steps(
            sh("[ -d @path ] || { detail='is not there'; return 1; }\nattributes @path @mode @owner @group", **values),
            sh("mkdir -p -- @path\nset_attributes @path @mode @owner @group", **values),
        )


class Link(Operation):
    """Creates a symbolic link or a hard link, or removes it."""

    kind: ClassVar[str] = "link"

    path: AbsolutePath = Field(description="Path of the link.")
    target: OneLine | None = Field(
        None,
        description="Target of the link. The target of a symbolic link may be missing; that of a hard link is a file.",
    )
    hard: bool = Field(False, description="Whether it is a hard link: a second name of the same file.")
    force: bool = Field(False, description="Whether the link may replace a file. A directory is never replaced.")
    state: Literal["present", "absent"] = Field(
        "present",
        description="Whether the link exists. Absent removes symbolic links only; with hard, any name of a file.",
    )

    @model_validator(mode="after")
    def _target(self) -> Link:
        if (self.state == "present") != (self.target is not None):
            raise ValueError("expected a target" if self.state == "present" else "an absent link has no target")
        if self.hard and self.target is not None and not self.target.startswith("/"):
            raise ValueError(f"the target {self.target!r} of a hard link is relative: expected an absolute path")
        return self

    def title(self) -> str:
        return f"link {self.path} " + ("absent" if self.state == "absent" else f"-> {self.target}")

    def claims(self, payloads: Mapping[str, Payload]) -> Mapping[str, str]:
        return {self.path: f"a link to {self.target}" if self.state == "present" else "absent"}

    def compile(self, to: Compilation) -> Steps:
        if self.state == "absent":
            there = Script("[ ! -e @path ]" if self.hard else "[ ! -L @path ]")
            return Steps(sh(there.text, path=self.path), sh("rm -f -- @path", path=self.path))
        target = self.target or ""
        forced = Script(":") if self.force else sh("die @path is a file, and force is not set", path=self.path)
        if self.hard:
            check = '[ ! -L @path ] && [ @path -ef @target ] || { detail="is not the same file"; return 1; }'
            ready = "[ -f @target ] || die @target is not there, or no file"
        else:
            check = """[ -L @path ] || { detail='is not there, or no link'; return 1; }
_target=$(readlink -- @path)
[ "$_target" = @target ] || { detail="points to $_target"; return 1; }"""
            ready = ":"
        return Steps(
            sh(check, path=self.path, target=target),
            lines(
                sh(ready, target=target),
                sh("[ -L @path ] || [ ! -d @path ] || die @path is a directory", path=self.path),
                sh("if [ -e @path ] && [ ! -L @path ]; then @forced; fi", path=self.path, forced=forced),
                # ln cannot replace a file in one step, so the link is created beside it and moved.
                sh(
                    'beside @path\nrm -f -- "$new"\nln @option -- @target "$new"\nreplace @path',
                    path=self.path,
                    target=target,
                    option=[] if self.hard else ["-s"],
                ),
            ),
        )


class Absent(Operation):
    """Removes files, links, and directories with everything in them."""

    kind: ClassVar[str] = "absent"
    brings_units: ClassVar[bool] = False
    shorthand: ClassVar[str | None] = "path"

    path: AbsolutePath | tuple[AbsolutePath, ...] = Field(
        description="The path, or a list of paths. Patterns are not supported."
    )

    @model_validator(mode="after")
    def _refuse_system_paths(self) -> Absent:
        if not self.paths:
            raise ValueError("expected at least one path")
        for path in self.paths:
            refuse_system_path(path)
        return self

    @property
    def paths(self) -> tuple[str, ...]:
        return (self.path,) if isinstance(self.path, str) else self.path

    def title(self) -> str:
        return f"absent {', '.join(self.paths)}"

    def claims(self, payloads: Mapping[str, Payload]) -> Mapping[str, str]:
        return dict.fromkeys(self.paths, "absent")

    def compile(self, to: Compilation) -> Steps:
        return Steps(
            sh(
                """for _path in @paths; do
if [ -e "$_path" ] || [ -L "$_path" ]; then detail="$_path is there"; return 1; fi
done""",
                paths=self.paths,
            ),
            sh("rm -rf --one-file-system -- @paths", paths=self.paths),
        )


def refuse_system_path(path: str) -> None:
    """Raises ValueError for a path that every system needs."""
    if path.count("/") < 2 or path in _SYSTEM:
        raise ValueError(f"{path} cannot be removed: it belongs to the system. Name a path below it")


_SYSTEM = frozenset(
    f"/{name}"
    for name in (
        "etc/passwd",
        "etc/shadow",
        "etc/group",
        "etc/gshadow",
        "etc/ssh",
        "etc/systemd",
        "etc/pam.d",
        "usr/bin",
        "usr/sbin",
        "usr/lib",
        "usr/lib64",
        "usr/share",
        "var/lib",
        "var/log",
        *(manager.database.lstrip("/") for manager in MANAGERS.values()),
    )
)
