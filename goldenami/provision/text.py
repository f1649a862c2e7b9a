"""Single lines and marked blocks of lines in text files."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Literal

from pydantic import Field, model_validator

from goldenami.provision import demands
from goldenami.provision.fields import AbsolutePath, OneLine
from goldenami.provision.operation import Operation, Payload
from goldenami.provision.shell import Compilation, Script, Steps, lines, sh
from goldenami.provision.writing import VALIDATE, awk, keep_attributes, write


class _Placed(Operation):
    """The common part of ``line`` and ``block``: the file, and the position in it."""

    path: AbsolutePath = Field(description="Path of the file.")
    insert_after: OneLine | None = Field(
        None,
        description="Extended regular expression. New text is added after the last matching line, else at the end.",
    )
    insert_before: OneLine | None = Field(
        None,
        description="Extended regular expression. New text is added before the first matching line, else at the end.",
    )
    insert_at: Literal["start", "end"] = Field(
        "end", description="Position of new text without insert_after and insert_before."
    )
    state: Literal["present", "absent"] = Field("present", description="Whether the text is in the file.")
    create: bool = Field(False, description="Whether a missing file is created (owner root, mode 0644).")
    validate_with: str | None = Field(None, alias="validate", description=VALIDATE)

    @model_validator(mode="after")
    def _one_place(self) -> _Placed:
        if sum((self.insert_after is not None, self.insert_before is not None, self.insert_at == "start")) > 1:
            raise ValueError("expected at most one of insert_after, insert_before and insert_at")
        return self

    def _missing(self) -> Script:
        """Returns the code of a check for a missing file."""
        if self.state == "absent":
            return Script("return 0")
        if self.create:
            return Script("{ detail='the file is not there'; return 1; }")
        return sh("{ printf '%s\\n' @why; return 2; }", why=f"{self.path}: no such file")

    def _place(self) -> Script:
        """Returns code that sets the variables with the position for awk. It reads ``$_path``."""
        after = before = Script("")
        if self.insert_after is not None:
            after = sh('$(grep -nE -e @x -- "$_path" | cut -d: -f1 | tail -n 1)', x=self.insert_after)
        if self.insert_before is not None:
            before = sh('$(grep -nE -e @x -- "$_path" | cut -d: -f1 | head -n 1)', x=self.insert_before)
        start = "1" if self.insert_at == "start" else ""
        return sh(
            "_after=@after _before=@before _start=@start\nexport _after _before _start",
            after=after,
            before=before,
            start=start,
        )

    def _write(self, produce: Script) -> Script:
        path = Script('"$_path"')
        source = sh('if [ -e "$_path" ]; then cat -- "$_path"; fi')
        produce = sh("@source | @produce", source=source, produce=produce)
        return write(path, produce, keep_attributes(path), self.validate_with)

    def _real(self) -> Script:
        """Returns code that resolves a link, so that its target is edited."""
        return sh("_path=$(readlink -m -- @path)", path=self.path)


class Line(_Placed):
    """Adds, replaces or removes a line of a text file.

    With regexp, the first matching line is replaced by the line, and further matching lines are removed. If no line
    matches, or without regexp, the line is added unless the file contains it. Absent removes all lines that match
    regexp, or that are equal to line.
    """

    kind: ClassVar[str] = "line"
    brings_units: ClassVar[bool] = False

    line: OneLine | None = Field(None, description="The line, without its end.")
    regexp: OneLine | None = Field(
        None, description="Extended regular expression (grep -E) for the lines to replace or remove."
    )

    @model_validator(mode="after")
    def _what(self) -> Line:
        if self.state == "present" and self.line is None:
            raise ValueError("expected line with state present")
        if self.state == "absent" and (self.line is None) == (self.regexp is None):
            raise ValueError("expected either line or regexp with state absent")
        if self.line == "":
            raise ValueError("line is empty: expected a line of text")
        return self

    def title(self) -> str:
        shown = self.line if self.line is not None else f"/{self.regexp}/"
        return f"line in {self.path}: {shown}" + (" absent" if self.state == "absent" else "")

    def claims(self, payloads: Mapping[str, Payload]) -> Mapping[str, str]:
        return demands.of_file(self.path, self.line or "") if self.state == "present" else {}

    def compile(self, to: Compilation) -> Steps:
        file = sh("@path", path=self.path)
        if self.regexp is not None:
            select = sh("grep -nE -e @regexp -- @file", regexp=self.regexp, file=file)
        else:
            select = sh("grep -nxF -e @line -- @file", line=self.line or "", file=file)
        check = self._check_absent(file, select) if self.state == "absent" else self._check_present(file, select)
        apply = lines(
            self._real(),
            self._place(),
            sh(
                """_numbers='' _line=@line
[ ! -e "$_path" ] || _numbers=$(@select | cut -d: -f1 | tr '\\n' ' ')
export _numbers _line""",
                line="" if self.state == "absent" else self.line or "",
                select=select,
            ),
            self._write(awk(to, "line")),
        )
        return Steps(check, apply)

    def _check_absent(self, file: Script, select: Script) -> Script:
        return sh(
            """[ -e @file ] || @missing
! _found=$(@select | head -n 1 | grep .) || { detail="has ${_found#*:}"; return 1; }""",
            file=file,
            select=select,
            missing=self._missing(),
        )

    def _check_present(self, file: Script, select: Script) -> Script:
        return sh(
            """[ -f @file ] || @missing
_found=$(@select | cut -d: -f2-)
[ "$_found" = @line ] || {
[ -z "$_found" ] && grep -qxF -e @line -- @file || {
detail=$(printf '%s\\n' "$_found" | head -n 1)
detail=${detail:+"has $detail"} detail=${detail:-'no such line'}
return 1
}
}""",
            file=file,
            missing=self._missing(),
            select=select,
            line=self.line or "",
        )


class Block(_Placed):
    """Adds or removes a block of lines in a text file, between the lines `# BEGIN marker` and `# END marker`.

    The operation writes both marker lines. The lines between them are exactly the content. All other lines are kept.
    """

    kind: ClassVar[str] = "block"
    brings_units: ClassVar[bool] = False

    content: str | None = Field(None, description="The lines.")
    marker: OneLine = Field(
        "goldenami", min_length=1, description="Name of the block in the marker lines, unique in the file."
    )
    comment: OneLine = Field("#", description="The start of a comment in this file, for the marker lines.")
    comment_end: OneLine = Field("", description='The end of a comment, if the format needs one: "-->".')

    @model_validator(mode="after")
    def _what(self) -> Block:
        if (self.state == "present") != (self.content is not None):
            raise ValueError("expected content" if self.state == "present" else "an absent block has no content")
        return self

    def title(self) -> str:
        return f"block {self.marker} in {self.path}" + (" absent" if self.state == "absent" else "")

    def claims(self, payloads: Mapping[str, Payload]) -> Mapping[str, str]:
        return demands.of_file(self.path, self.content or "")

    def compile(self, to: Compilation) -> Steps:
        begin, end = (f"{self.comment} {word} {self.marker} {self.comment_end}".strip() for word in ("BEGIN", "END"))
        block = Script("''")
        if self.content is not None:
            block = to.place((self.content.rstrip("\n") + "\n").encode() if self.content.strip("\n") else b"")
        filtered = sh(
            "_begin=@begin _end=@end _block=@block @awk", begin=begin, end=end, block=block, awk=awk(to, "block")
        )
        check = sh(
            """[ -e @path ] || @missing
_have=$(grep -cxF -e @begin -- @path) || :
_text=$(sed -n '\\,^'@begin_re'$,,\\,^'@end_re'$,p' <@path)
@compare""",
            path=self.path,
            missing=self._missing(),
            begin=begin,
            begin_re=_basic(begin),
            end_re=_basic(end),
            compare=self._compare(block, begin, end),
        )
        return Steps(check, lines(self._real(), self._place(), self._write(filtered)))

    def _compare(self, block: Script, begin: str, end: str) -> Script:
        if self.state == "absent":
            return Script("""[ "$_have" -eq 0 ] || { detail='the block is there'; return 1; }""")
        return sh(
            """[ "$_have" -eq 1 ] || { detail="is there $_have times"; return 1; }
_wanted=$(printf '%s\\n' @begin; cat @block; printf '%s\\n' @end)
[ "$_text" = "$_wanted" ] || { detail='its lines differ'; return 1; }""",
            block=block,
            begin=begin,
            end=end,
        )


def _basic(text: str) -> str:
    """Returns a basic regular expression, for use between commas, that matches exactly this text."""
    return "".join("\\" + c if c in r"\.[]*^$," else c for c in text)
