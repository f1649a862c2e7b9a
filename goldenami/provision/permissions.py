"""Owners and modes of what is there already, recursively; kept over a reboot where a reboot would undo them."""

from __future__ import annotations

import hashlib
import re
from typing import ClassVar

from pydantic import Field, model_validator

from goldenami.provision.fields import AbsolutePath, Account, Mode, OneLine
from goldenami.provision.operation import Operation
from goldenami.provision.shell import Compilation, Script, Steps, lines, sh
from goldenami.provision.writing import place_file

_MADE_AT_BOOT = re.compile(r"/(run|tmp|dev|var/run|var/tmp|var/log)(/|$)")
"""Where systemd-tmpfiles makes things, or sets their modes, at every boot: tmpfiles.d(5), and the files in
/usr/lib/tmpfiles.d of systemd and of distributions."""


class Permissions(Operation):
    """Owner, group and mode of files and directories that are there, recursively if asked.

    Below /run, /tmp, /dev and /var/log, where each boot makes things anew or sets their modes, an entry in
    /etc/tmpfiles.d does it again at each boot.
    """

    kind: ClassVar[str] = "permissions"

    path: AbsolutePath | tuple[AbsolutePath, ...] = Field(
        description="A path, or a list of paths. Links are not followed."
    )
    files: Mode | None = Field(None, description='Mode of files, as a string: "0640". By default left as it is.')
    directories: Mode | None = Field(None, description='Mode of directories: "0750". By default left as it is.')
    at_most: bool = Field(
        False, description="Whether the modes are bounds: what they do not grant is taken away, and nothing is added."
    )
    owner: Account | None = Field(None, description="Name or number of the owner. By default left as it is.")
    group: Account | None = Field(None, description="Name or number of the group. By default left as it is.")
    recursive: bool = Field(False, description="Whether everything below is meant too, on the same file system.")
    itself: bool = Field(True, description="Whether the path itself is meant, and not only what is below.")
    match: tuple[OneLine, ...] = Field(
        (),
        description='Patterns, with recursive: only what matches one of them. "*.log" is compared with names, '
        '"/var/log/*/x" with whole paths (where * matches a slash too).',
    )
    exclude: tuple[OneLine, ...] = Field(
        (), description="Patterns, as for match: what matches, and everything below it, is left as it is."
    )
    optional: bool = Field(False, description="Whether the paths may be missing.")
    at_boot: bool | None = Field(
        None,
        description="Whether an entry in /etc/tmpfiles.d is made, which sets modes even with at_most. By default where "
        "a boot would undo it.",
    )

    @model_validator(mode="after")
    def _consistent(self) -> Permissions:
        if not self.paths:
            raise ValueError("expected at least one path")
        if (self.files, self.directories, self.owner, self.group) == (None,) * 4:
            raise ValueError("expected files, directories, owner or group")
        if not self.recursive and (self.match or self.exclude or not self.itself):
            raise ValueError("match, exclude and itself mean something with recursive only")
        if self.recursive:
            for path in self.paths:
                if path == "/" or (path.count("/") == 1 and not self.match and path != "/home"):
                    raise ValueError(f"{path} is the system's: name what is meant in it")
        if self.boot_paths and (self.match or self.exclude or not self.itself):
            raise ValueError(
                f"a boot would undo this below {self.boot_paths[0]}, and tmpfiles.d knows no match or exclude: "
                "set at_boot to false, or name the paths"
            )
        if self.boot_paths and not self._one_mode():
            raise ValueError(
                f"a boot would undo this below {self.boot_paths[0]}, and tmpfiles.d takes one mode, which files have "
                'without x: give both, such as files "0640" and directories "0750", or set at_boot to false'
            )
        return self

    @property
    def paths(self) -> tuple[str, ...]:
        return (self.path,) if isinstance(self.path, str) else self.path

    @property
    def boot_paths(self) -> tuple[str, ...]:
        """Those that get an entry in tmpfiles.d."""
        if self.at_boot is None:
            return tuple(path for path in self.paths if _MADE_AT_BOOT.match(path))
        return self.paths if self.at_boot else ()

    def _one_mode(self) -> bool:
        """Whether tmpfiles.d's "~" mode says both: that of directories, and without x for files that have none."""
        if self.files is None or self.directories is None:
            return not self.recursive or self.files is self.directories
        return int(self.files, 8) == int(self.directories, 8) & ~0o7111

    def title(self) -> str:
        modes = [f"{m}" for m in (self.files, self.directories) if m is not None]
        owner = ":".join(o or "" for o in (self.owner, self.group)).rstrip(":")
        below = "/**" if self.recursive else ""
        return f"permissions {' '.join(p + below for p in self.paths)}: {' '.join([*modes, owner]).strip()}"

    def compile(self, to: Compilation) -> Steps:
        check = [
            self._those_there(Script("return 2")),
            sh(
                """if [ $# -gt 0 ]; then
_found=$(@find -printf '%p is %m %u:%g' -quit) || { detail='cannot be compared'; return 1; }
[ -z "$_found" ] || { detail=$_found; return 1; }
@otherwise
fi""",
                find=self._find(),
                otherwise=Script("" if self.boot_paths else "else skip 'is not there'"),
            ),
        ]
        apply = [self._those_there(Script("exit 2")), sh("if [ $# -gt 0 ]; then\n@change\nfi", change=self._change())]
        if self.boot_paths:
            file, text = self._boot_file()
            contents = to.place(text.encode())
            check.append(
                sh(
                    "cmp -s -- @contents @file || { detail='is not set at boot'; return 1; }",
                    contents=contents,
                    file=file,
                )
            )
            apply.append(place_file(file, contents))
        return Steps(lines(*check), lines(*apply))

    def _those_there(self, missing: Script) -> Script:
        """Makes the paths that are there the positional parameters."""
        said = Script(":") if self.optional else sh("printf '%s: no such file\\n' \"$_path\"; @end", end=missing)
        return sh(
            """set --
for _path in @paths; do
if [ -e "$_path" ]; then set -- "$@" "$_path"; else @said; fi
done""",
            paths=self.paths,
            said=said,
        )

    def _find(self, typed: str = "", wrong: Script | None = None) -> Script:
        """The find command up to the tests for what is not as asked."""
        depth = [] if self.recursive else ["-maxdepth", "0"]
        if not self.itself:
            depth += ["-mindepth", "1"]
        parts = [sh('find "$@" -xdev @depth', depth=depth)]
        if self.exclude:
            parts.append(sh("\\( @tests \\) -prune -o", tests=_patterns(self.exclude)))
        if self.match:
            parts.append(sh("\\( @tests \\)", tests=_patterns(self.match)))
        if typed:
            parts.append(sh("-type @type", type=typed))
        parts.append(wrong or self._wrong())
        return Script(" ".join(part.text for part in parts))

    def _wrong(self) -> Script:
        tests = []
        for typed, mode in (("f", self.files), ("d", self.directories)):
            if mode is not None:
                tests.append(sh("\\( -type @typed @test \\)", typed=typed, test=self._mode_test(mode)))
        if ownership := self._ownership_test():
            tests.append(ownership)
        return sh("\\( @tests \\)", tests=Script(" -o ".join(test.text for test in tests)))

    def _mode_test(self, mode: str) -> Script:
        if self.at_most:
            return sh("-perm @over", over=f"/{0o7777 & ~int(mode, 8):04o}")
        return sh("! -perm @mode", mode=mode)

    def _ownership_test(self) -> Script | None:
        tests = []
        if self.owner is not None:
            tests.append(sh("! @test @owner", test=Script(_number_or_name("u", self.owner)), owner=self.owner))
        if self.group is not None:
            tests.append(sh("! @test @group", test=Script(_number_or_name("g", self.group)), group=self.group))
        return sh("\\( @tests \\)", tests=Script(" -o ".join(t.text for t in tests))) if tests else None

    def _change(self) -> Script:
        steps = []
        if ownership := self._ownership_test():
            to = (self.owner or "") + (f":{self.group}" if self.group is not None else "")
            # Before chmod: it takes away setuid and setgid.
            steps.append(sh("@find -exec chown -h -- @to {} +", find=self._find(wrong=ownership), to=to))
        for typed, mode in (("f", self.files), ("d", self.directories)):
            if mode is None:
                continue
            # To an octal mode, chmod adds the setgid bit that a directory has; said with "=" it does not.
            change = _without(mode) if self.at_most else f"={mode}"
            find = self._find(typed, self._mode_test(mode))
            steps.append(sh("@find -exec chmod -- @change {} +", find=find, change=change))
        return lines(*steps)

    def _boot_file(self) -> tuple[str, str]:
        """Path and contents of the file for tmpfiles.d. It is read late, so that it has the last word of each path."""
        kind = "Z" if self.recursive else "z"
        mode = self.directories or self.files or "-"
        if self.directories is not None and (self.recursive or self.files is not None):
            mode = f"~{mode}"
        rest = f"{mode} {self.owner or '-'} {self.group or '-'}\n"
        entries = "".join(f"{kind} {_tmpfiles_word(path)} {rest}" for path in self.boot_paths)
        # Another operation may be about the same path, in another way.
        identity = hashlib.sha256("\0".join((kind, *self.paths)).encode()).hexdigest()[:8]
        name = re.sub(r"[^A-Za-z0-9.]+", "-", self.boot_paths[0]).strip("-") + f"-{identity}"
        return f"/etc/tmpfiles.d/zz-goldenami-{name}.conf", entries


def _tmpfiles_word(path: str) -> str:
    """A path as tmpfiles.d has it: quoted, without specifiers, and without patterns."""
    word = re.sub(r"([\\\"])", r"\\\1", path).replace("%", "%%")
    return f'"{word}"' if re.search(r"\s", path) else word


def _patterns(patterns: tuple[str, ...]) -> Script:
    tests = [sh("@test @pattern", test=Script("-path" if "/" in p else "-name"), pattern=p).text for p in patterns]
    return Script(" -o ".join(tests))


def _number_or_name(letter: str, account: str) -> str:
    named = {"u": "-user", "g": "-group"}[letter]
    return f"-{letter}id" if account.isdigit() else named


def _without(mode: str) -> str:
    """What takes away all that an octal mode does not grant, in the words of chmod: "u-x,g-w,o-rwx"."""
    bits = int(mode, 8)
    found = []
    for letter, shift, special in (("u", 6, 0o4000), ("g", 3, 0o2000), ("o", 0, 0o1000)):
        gone = "".join(name for name, bit in (("r", 4), ("w", 2), ("x", 1)) if not bits >> shift & bit)
        if not bits & special:
            gone += "t" if letter == "o" else "s"
        if gone:
            found.append(f"{letter}-{gone}")
    return ",".join(found)
