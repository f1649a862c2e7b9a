"""Working trees of git at a commit or tag that the recipe names."""

from __future__ import annotations

import re
from typing import ClassVar

from pydantic import Field, field_validator, model_validator

from goldenami.provision.fields import AbsolutePath, Account
from goldenami.provision.operation import Operation
from goldenami.provision.shell import Compilation, Script, Steps, lines, sh


class Git(Operation):
    """Checks out a git repository at a commit or a tag. Local changes to its files are discarded. git must be
    installed.
    """

    kind: ClassVar[str] = "git"

    url: str = Field(description="URL of the repository: https://…, ssh://…, file://…, user@host:path.")
    dest: AbsolutePath = Field(description="The directory of the working tree; created if it is missing.")
    commit: str | None = Field(
        None,
        pattern=r"^([0-9a-f]{40}|[0-9a-f]{64})$",
        description="The full id of the commit. With tag: the tag must point to this commit, else the operation fails.",
    )
    tag: str | None = Field(None, description="The tag to check out. Give tag, commit or both.")
    depth: int | None = Field(1, ge=1, description="Number of commits of the history to fetch; null for all.")
    submodules: bool = Field(False, description="Whether submodules are checked out.")
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
            raise ValueError("expected commit or tag. A branch cannot be used, since its commit changes")
        return self

    def title(self) -> str:
        return f"git {self.url} at {self.tag or (self.commit or '')[:12]} in {self.dest}"

    def compile(self, to: Compilation) -> Steps:
        # git refuses to read a repository of another user than root, unless it is a safe.directory.
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
            # Some servers do not serve a commit by its id. Then the whole history is fetched.
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
                '[ "$_found" = @commit ] || die "the commit is $_found, which is not the commit in the recipe"',
                commit=self.commit,
            )
            if self.commit
            else Script("")
        )
        submodules = (
            sh("@git submodule --quiet update --init --recursive --force", git=git) if self.submodules else Script("")
        )
        return lines(
            Script(
                "command -v git >/dev/null || die 'git is not installed: add the package git before this operation'"
            ),
            Script("GIT_TERMINAL_PROMPT=0\nexport GIT_TERMINAL_PROMPT"),
            sh(
                """[ -d @dest/.git ] || [ -z "$(ls -A -- @dest 2>/dev/null)" ] || die 'the directory has other files'
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
