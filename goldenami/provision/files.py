"""Files, templates, directories, symbolic links, and single lines of files.

A file is written beside its place under a temporary name, given its owner and mode, validated if asked, and only then
moved to its place in one step: nobody ever reads half of it. Missing parent directories are made, with mode 0755, as
root's.
"""

from __future__ import annotations

import shlex
from typing import ClassVar, Literal

from pydantic import Field, model_validator

from goldenami.provision.fields import AbsolutePath, Account, Mode, OneLine
from goldenami.provision.operation import Operation
from goldenami.provision.shell import Compilation, Script, Steps, lines, sh

_VALIDATE = (
    "Command that must succeed on the new file before it replaces the old one; %s stands for its path: "
    '"nginx -t -c %s". It is split into words as a shell would; it is not run by a shell.'
)


def validation(command: str | None) -> Script:
    """Code that ends an apply, unless the command accepts the file ``$new``."""
    if command is None:
        return Script("")
    words = [w.text if isinstance(w, Script) else sh("@word", word=w).text for w in _words(command)]
    return Script(" ".join(words)) + sh(" || die @message", message=f"the new file was refused by: {command}")


def _words(command: str) -> list[Script | str]:
    return [Script('"$new"') if word == "%s" else word for word in shlex.split(command)]


class _Contents(Operation):
    """What ``file`` and ``template`` have in common."""

    dest: AbsolutePath = Field(description="Path of the file on the host.")
    content: str | None = Field(None, description="The contents, written here. Either this or src.")
    src: str | None = Field(None, description="A file beside the recipe that holds the contents.")
    mode: Mode | None = Field(
        None, description='Permissions, as a string: "0644". By default 0755 if src is executable, else 0644.'
    )
    owner: Account = Field("root", description="Name or number of the owner.")
    group: Account = Field("root", description="Name or number of the group.")
    validate_with: str | None = Field(None, alias="validate", description=_VALIDATE)

    def title(self) -> str:
        return f"{self.kind} {self.dest}"

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
        apply = lines(
            sh('beside @dest\ncat @contents >"$new"', dest=self.dest, contents=contents),
            sh('set_attributes "$new" @mode @owner @group', mode=mode, owner=self.owner, group=self.group),
            validation(self.validate_with),
            sh("replace @dest", dest=self.dest),
        )
        return Steps(check, apply)


class File(_Contents):
    """A file with exactly these contents."""

    kind: ClassVar[str] = "file"
    sources: ClassVar = {"src": "verbatim"}

    state: Literal["present", "absent"] = Field(
        "present", description="Whether the file is there. Absent removes a file or link, never a directory."
    )

    @model_validator(mode="after")
    def _contents(self) -> File:
        given = sum(x is not None for x in (self.content, self.src))
        if self.state == "absent" and given:
            raise ValueError("an absent file has no contents")
        if self.state == "present" and given != 1:
            raise ValueError("expected either content or src")
        return self

    def compile(self, to: Compilation) -> Steps:
        if self.state == "present":
            return super().compile(to)
        return Steps(
            sh("[ ! -e @dest ] && [ ! -L @dest ]", dest=self.dest),
            sh("[ ! -d @dest ] || [ -L @dest ] || die @dest is a directory\nrm -f -- @dest", dest=self.dest),
        )

    def title(self) -> str:
        return super().title() + (" absent" if self.state == "absent" else "")


class Template(_Contents):
    """A file whose contents are a Jinja template, rendered with the recipe's variables."""

    kind: ClassVar[str] = "template"
    sources: ClassVar = {"src": "template"}

    @model_validator(mode="after")
    def _contents(self) -> Template:
        if (self.content is None) == (self.src is None):
            raise ValueError("expected either content or src")
        return self


class Directory(Operation):
    """A directory."""

    kind: ClassVar[str] = "directory"
    shorthand: ClassVar[str | None] = "path"

    path: AbsolutePath = Field(description="Path of the directory on the host. Missing parents are made.")
    state: Literal["present", "absent"] = Field(
        "present", description="Whether it is there. Absent removes it with everything in it."
    )
    mode: Mode = Field("0755", description='Permissions, as a string: "0755".')
    owner: Account = Field("root", description="Name or number of the owner.")
    group: Account = Field("root", description="Name or number of the group.")

    @model_validator(mode="after")
    def _spared(self) -> Directory:
        if self.state == "absent" and self.path.count("/") < 2:
            raise ValueError(f"{self.path} is not removed: it belongs to the system")
        return self

    def title(self) -> str:
        return f"directory {self.path}" + (" absent" if self.state == "absent" else "")

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
    """A symbolic link."""

    kind: ClassVar[str] = "link"

    path: AbsolutePath = Field(description="Path of the link.")
    target: OneLine = Field(description="What it points to; need not exist.")
    force: bool = Field(
        False, description="Whether the link may take the place of a file. A directory is never replaced."
    )

    def title(self) -> str:
        return f"link {self.path} -> {self.target}"

    def compile(self, to: Compilation) -> Steps:
        forced = Script(":") if self.force else sh("die @path is a file, and force is not set", path=self.path)
        return Steps(
            sh('[ -L @path ] && [ "$(readlink -- @path)" = @target ]', path=self.path, target=self.target),
            lines(
                sh("[ -L @path ] || [ ! -d @path ] || die @path is a directory", path=self.path),
                sh("if [ -e @path ] && [ ! -L @path ]; then @forced; fi", path=self.path, forced=forced),
                # ln cannot replace in one step, but what it makes can be moved.
                sh(
                    'beside @path\nrm -f -- "$new"\nln -s -- @target "$new"\nreplace @path',
                    path=self.path,
                    target=self.target,
                ),
            ),
        )


class Line(Operation):
    """A line of a text file.

    With a regexp, the first line that matches becomes the line, and further ones that match are removed; if none
    matches, the line is added unless it is there. Without one, the line is added unless it is there.
    """

    kind: ClassVar[str] = "line"

    path: AbsolutePath = Field(description="Path of the file.")
    line: OneLine | None = Field(None, description="The line, without its end.")
    regexp: OneLine | None = Field(
        None, description="Extended regular expression (grep -E) of the lines that are replaced or removed."
    )
    insert_after: OneLine | None = Field(
        None,
        description="Extended regular expression; the line is added after the last line that matches, else at the end.",
    )
    state: Literal["present", "absent"] = Field(
        "present", description="Absent removes all lines that match regexp, or are equal to line."
    )
    create: bool = Field(False, description="Whether a missing file is made (mode 0644, root's).")
    validate_with: str | None = Field(None, alias="validate", description=_VALIDATE)

    @model_validator(mode="after")
    def _what(self) -> Line:
        if self.state == "present" and self.line is None:
            raise ValueError("expected a line")
        if self.state == "absent" and (self.line is None) == (self.regexp is None):
            raise ValueError("expected either line or regexp to remove")
        if self.line == "":
            raise ValueError("expected a line that is not empty")
        return self

    def title(self) -> str:
        shown = self.line if self.line is not None else f"/{self.regexp}/"
        return f"line in {self.path}: {shown}" + (" absent" if self.state == "absent" else "")

    def compile(self, to: Compilation) -> Steps:
        file = sh("@path", path=self.path)
        if self.regexp is not None:
            select = sh("grep -nE -e @regexp -- @file", regexp=self.regexp, file=file)
        else:
            select = sh("grep -nxF -e @line -- @file", line=self.line or "", file=file)
        return self._absent(file, select) if self.state == "absent" else self._present(file, select)

    def _absent(self, file: Script, select: Script) -> Steps:
        return Steps(
            sh(
                "[ ! -e @file ] || ! @select >/dev/null || { detail='lines match'; return 1; }",
                file=file,
                select=select,
            ),
            self._rewrite(file, select, Script("''"), Script(":")),
        )

    def _present(self, file: Script, select: Script) -> Steps:
        line = self.line or ""
        missing = sh(
            "{ detail='the file is not there'; @status; }",
            status=Script("return 1")
            if self.create
            else Script(f"printf '%s\\n' {file.text}': no such file'; return 2"),
        )
        check = sh(
            """[ -f @file ] || @missing
_found=$(@select | cut -d: -f2-)
[ "$_found" = @line ] || {
[ -z "$_found" ] && grep -qxF -e @line -- @file || { detail='another line'; [ -n "$_found" ] || detail='no such line';
return 1; }
}""",
            file=file,
            missing=missing,
            select=select,
            line=line,
        )
        after = Script(":")
        if self.insert_after is not None:
            after = sh("grep -nE -e @after -- @file | cut -d: -f1 | tail -n 1", after=self.insert_after, file=file)
        make = sh('[ -e @file ] || { beside @file; set_attributes "$new" 0644 root root; replace @file; }', file=file)
        apply = self._rewrite(file, select, sh("@line", line=line), after)
        return Steps(check, lines(make, apply) if self.create else apply)

    def _rewrite(self, file: Script, select: Script, line: Script, after: Script) -> Script:
        """Replace the first selected line by ``line`` (if it is not empty), drop the other ones, or add it."""
        return lines(
            sh('_path=$(readlink -f -- @file)\nbeside "$_path"', file=file),
            sh('cp --attributes-only --preserve=all -- @file "$new"', file=file),
            sh("numbers=$(@select | cut -d: -f1 | tr '\\n' ' ') after=$(@after)", select=select, after=after),
            sh("line=@line\nexport numbers after line", line=line),
            sh('awk @program <@file >"$new"', program=_AWK, file=file),
            validation(self.validate_with),
            Script('replace "$_path"'),
        )


# ENVIRON, since awk reads escapes in the values that -v takes.
_AWK = """
BEGIN {
    line = ENVIRON["line"]; after = ENVIRON["after"]
    count = split(ENVIRON["numbers"], list, " ")
    for (i = 1; i <= count; i++) selected[list[i]] = 1
    done = (line == "")
}
(NR in selected) { if (!done) { print line; done = 1 } next }
{ print }
!count && !done && after != "" && NR == after { print line; done = 1 }
END { if (!done) print line }
"""
