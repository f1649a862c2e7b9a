"""Working trees of git, at a commit that the recipe names."""

from __future__ import annotations

import re
from typing import ClassVar

from pydantic import Field, field_validator, model_validator

from goldenami.provision.fields import AbsolutePath, Account
from goldenami.provision.operation import Operation
from goldenami.provision.shell import Compilation, Script, Steps, lines, sh


class Git(Operation):
    """A git repository, checked out at a commit or a tag. Changes to its files on the host are undone; git must be
    installed.
    """

    kind: ClassVar[str] = "git"

    url: str = Field(description="Where the repository is: https://…, ssh://…, file://…, user@host:path.")
    dest: AbsolutePath = Field(description="The directory of the working tree; made if it is missing.")
    commit: str | None = Field(
        None,
        pattern=r"^([0-9a-f]{40}|[0-9a-f]{64})$",
        description="The whole id of the commit. With tag: what the tag must stand for, or nothing is checked out.",
    )
    tag: str | None = Field(None, description="The tag to check out. Either this or commit, or both.")
    depth: int | None = Field(
        1, ge=1, description="How many commits of the history are fetched; null for all. Default: 1."
    )
    submodules: bool = Field(False, description="Whether submodules are checked out too.")
    owner: Account = Field("root", description="Owner of all files.")
    group: Account = Field("root", description="Group of all files.")

    @field_validator("url")
    @classmethod
    def _url(cls, value: str) -> str:
        if not re.fullmatch(r"(https?|ssh|git|file)://\S+|[A-Za-z0-9_.-]+@[A-Za-z0-9.-]+:\S+", value):
            raise ValueError("expected the URL of a git repository: https://…, ssh://…, file://…, user@host:path")
        return value

    @field_validator("tag")
    @classmethod
    def _tag(cls, value: str | None) -> str | None:
        if value is not None and (not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_./+-]*", value) or ".." in value):
            raise ValueError("expected the name of a tag")
        return value

    @model_validator(mode="after")
    def _something(self) -> Git:
        if self.commit is None and self.tag is None:
            raise ValueError("expected commit or tag: a branch names something else every day")
        return self

    def title(self) -> str:
        return f"git {self.url} at {self.tag or (self.commit or '')[:12]} in {self.dest}"

    def compile(self, to: Compilation) -> Steps:
        # The owner may be another one than root, which git would refuse to look at.
        git = sh("git -c safe.directory=@dest -c advice.detachedHead=false -C @dest", dest=self.dest)
        wanted = sh("@name", name=(self.commit or f"refs/tags/{self.tag}") + "^{commit}")
        check = sh(
            """[ -d @dest/.git ] || { detail='is not there'; return 1; }
_wanted=$(@git rev-parse --verify --quiet @wanted) || { detail='has no such commit'; return 1; }
_head=$(@git rev-parse --verify --quiet HEAD) || { detail='has no commit'; return 1; }
[ "$_head" = "$_wanted" ] || { detail="is at $_head"; return 1; }
@git diff --quiet HEAD -- || { detail='files differ from the commit'; return 1; }
[ "$(stat -c %U:%G -- @dest/.git)" = @owner ] || [ "$(stat -c %u:%g -- @dest/.git)" = @owner ] || {
detail='owner differs'; return 1
}""",
            dest=self.dest,
            git=git,
            wanted=wanted,
            owner=f"{self.owner}:{self.group}",
        )
        return Steps(check, self._apply(git))

    def _apply(self, git: Script) -> Script:
        depth = [f"--depth={self.depth}"] if self.depth else []
        if self.tag is not None:
            fetch = sh(
                "@git fetch --quiet --force @depth origin @ref",
                git=git,
                depth=depth,
                ref=f"refs/tags/{self.tag}:refs/tags/{self.tag}",
            )
            found = sh("_found=$(@git rev-parse --verify @ref)", git=git, ref=f"refs/tags/{self.tag}^{{commit}}")
        else:
            # Not every server gives out a commit by its id; then the whole history is asked for.
            fetch = sh(
                """@git fetch --quiet @depth origin @commit 2>/dev/null || {
if [ -e @dest/.git/shallow ]; then @git fetch --quiet --unshallow --tags origin
else @git fetch --quiet --tags origin '+refs/heads/*:refs/remotes/origin/*'; fi
}""",
                git=git,
                depth=depth,
                commit=self.commit or "",
                dest=self.dest,
            )
            found = sh(
                "_found=$(@git rev-parse --verify --quiet @ref) || die 'the repository has no such commit'",
                git=git,
                ref=f"{self.commit}^{{commit}}",
            )
        verified = (
            sh(
                '[ "$_found" = @commit ] || die "the commit is $_found, and not the one that the recipe names"',
                commit=self.commit,
            )
            if self.commit
            else Script("")
        )
        submodules = (
            sh("@git submodule --quiet update --init --recursive --force", git=git) if self.submodules else Script("")
        )
        return lines(
            Script("command -v git >/dev/null || die 'this host has no git: a package of that name must come before'"),
            Script("GIT_TERMINAL_PROMPT=0\nexport GIT_TERMINAL_PROMPT"),
            sh(
                """[ -d @dest/.git ] || [ -z "$(ls -A -- @dest 2>/dev/null)" ] || die 'other files are there'
mkdir -p -- @dest
@git init --quiet
@git remote set-url origin @url 2>/dev/null || @git remote add origin @url""",
                dest=self.dest,
                git=git,
                url=self.url,
            ),
            fetch,
            found,
            verified,
            sh('@git checkout --quiet --force --detach "$_found"', git=git),
            submodules,
            sh("chown -R -h -- @owner @dest", owner=f"{self.owner}:{self.group}", dest=self.dest),
        )
