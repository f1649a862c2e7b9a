"""Owners and modes of existing files and directories, also recursively, and after reboots."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from typing import ClassVar

from pydantic import Field, model_validator

from goldenami.provision.fields import AbsolutePath, Account, Mode, OneLine
from goldenami.provision.operation import Operation, Payload
from goldenami.provision.shell import Compilation, Script, Steps, lines, sh
from goldenami.provision.writing import place_file

_MADE_AT_BOOT = re.compile(r"/(run|tmp|dev|var/run|var/tmp|var/log)(/|$)")
"""Paths below which systemd-tmpfiles creates files, or sets their modes, at every boot: tmpfiles.d(5), and the files
in /usr/lib/tmpfiles.d of systemd and of distributions."""


class Permissions(Operation):
    """Sets owner, group and mode of existing files and directories, also recursively.

    Each boot creates files, or sets their modes, below /run, /tmp, /dev, /var/run, /var/tmp and /var/log. There an
    entry in /etc/tmpfiles.d sets the permissions again at each boot.
    """

    kind: ClassVar[str] = "permissions"
    brings_units: ClassVar[bool] = False

    path: AbsolutePath | tuple[AbsolutePath, ...] = Field(
        description="A path, or a list of paths. Links are not followed."
    )
    files: Mode | None = Field(None, description='Mode of files, as a string: "0640". Default: not changed.')
    directories: Mode | None = Field(None, description='Mode of directories: "0750". Default: not changed.')
    at_most: bool = Field(
        False, description="Whether the modes are upper bounds: other permission bits are removed, none are added."
    )
    owner: Account | None = Field(None, description="Name or number of the owner. Default: not changed.")
    group: Account | None = Field(None, description="Name or number of the group. Default: not changed.")
    recursive: bool = Field(
        False, description="Whether everything below the paths is changed too, on the same file system."
    )
    itself: bool = Field(True, description="Whether the path itself is changed, and not only its contents.")
    match: tuple[OneLine, ...] = Field(
        (),
        description='With recursive: change only what matches one of these patterns. "*.log" is compared with names, '
        '"/var/log/*/x" with whole paths (* also matches a slash).',
    )
    exclude: tuple[OneLine, ...] = Field(
        (), description="Patterns, as for match. What matches, and everything below it, is not changed."
    )
    optional: bool = Field(False, description="Whether the paths may be missing.")
    at_boot: bool | None = Field(
        None,
        description="Whether an entry in /etc/tmpfiles.d is created, which sets exact modes even with at_most. "
        "Default: for paths whose permissions a boot would reset.",
    )

    @model_validator(mode="after")
    def _consistent(self) -> Permissions:
        if not self.paths:
            raise ValueError("expected at least one path")
        if (self.files, self.directories, self.owner, self.group) == (None,) * 4:
            raise ValueError("expected at least one of files, directories, owner and group")
        if not self.recursive and (self.match or self.exclude or not self.itself):
            raise ValueError("match, exclude and itself need recursive: true")
        if self.recursive:
            for path in self.paths:
                if path == "/" or (path.count("/") == 1 and not self.match and path != "/home"):
                    raise ValueError(f"{path} cannot be changed recursively: name the paths below it")
        if self.boot_paths and (self.match or self.exclude or not self.itself):
            raise ValueError(
                f"a boot would reset {self.boot_paths[0]}, and tmpfiles.d does not support match, exclude and itself: "
                "set at_boot to false, or name the paths"
            )
        if self.boot_paths and not self._one_mode():
            raise ValueError(
                f"a boot would reset {self.boot_paths[0]}, and tmpfiles.d uses one mode for directories, and the same "
                'without x for files: give both, such as files "0640" and directories "0750", or set at_boot to false'
            )
        return self

    @property
    def paths(self) -> tuple[str, ...]:
        return (self.path,) if isinstance(self.path, str) else self.path

    @property
    def boot_paths(self) -> tuple[str, ...]:
        """The paths that get an entry in tmpfiles.d."""
        if self.at_boot is None:
            return tuple(path for path in self.paths if _MADE_AT_BOOT.match(path))
        return self.paths if self.at_boot else ()

    def _one_mode(self) -> bool:
        """Whether one "~" mode of tmpfiles.d gives both modes: directories get it, files get it without x."""
        if self.files is None or self.directories is None:
            return not self.recursive or self.files is self.directories
        return int(self.files, 8) == int(self.directories, 8) & ~0o7111

    def title(self) -> str:
        modes = [f"{m}" for m in (self.files, self.directories) if m is not None]
        owner = ":".join(o or "" for o in (self.owner, self.group)).rstrip(":")
        below = "/**" if self.recursive else ""
        return f"permissions {' '.join(p + below for p in self.paths)}: {' '.join([*modes, owner]).strip()}"

    def claims(self, payloads: Mapping[str, Payload]) -> Mapping[str, str]:
        """Only exact values of the paths themselves: upper bounds and patterns may or may not be in conflict."""
        if self.recursive:
            return {}
        modes = {"mode of the file": self.files, "mode of the directory": self.directories} if not self.at_most else {}
        values = {**modes, "owner of": self.owner, "group of": self.group}
        return {f"the {what} {path}": value for path in self.paths for what, value in values.items() if value}

    def compile(self, to: Compilation) -> Steps:
        check = [
            self._select_existing(Script("return 2")),
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
        apply = [
            self._select_existing(Script("exit 2")),
            sh("if [ $# -gt 0 ]; then\n@change\nfi", change=self._change()),
        ]
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

    def _select_existing(self, missing: Script) -> Script:
        """Returns code that puts the existing paths into the positional parameters."""
        report = Script(":") if self.optional else sh("printf '%s: no such file\\n' \"$_path\"; @end", end=missing)
        return sh(
            """set --
for _path in @paths; do
if [ -e "$_path" ]; then set -- "$@" "$_path"; else @report; fi
done""",
            paths=self.paths,
            report=report,
        )

    def _find(self, typed: str = "", wrong: Script | None = None) -> Script:
        """Returns the find command with the tests that select paths with wrong permissions."""
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
            # With a plain octal mode, chmod keeps the setgid bit of a directory. With "=" it does not.
            change = _without(mode) if self.at_most else f"={mode}"
            find = self._find(typed, self._mode_test(mode))
            steps.append(sh("@find -exec chmod -- @change {} +", find=find, change=change))
        return lines(*steps)

    def _boot_file(self) -> tuple[str, str]:
        """Returns path and contents of the file for tmpfiles.d. Its name sorts late: the last entry of a path wins."""
        kind = "Z" if self.recursive else "z"
        mode = self.directories or self.files or "-"
        if self.directories is not None and (self.recursive or self.files is not None):
            mode = f"~{mode}"
        rest = f"{mode} {self.owner or '-'} {self.group or '-'}\n"
        entries = "".join(f"{kind} {_tmpfiles_word(path)} {rest}" for path in self.boot_paths)
        # Another operation may change the same path in another way, so the name needs a hash.
        identity = hashlib.sha256("\0".join((kind, *self.paths)).encode()).hexdigest()[:8]
        name = re.sub(r"[^A-Za-z0-9.]+", "-", self.boot_paths[0]).strip("-") + f"-{identity}"
        return f"/etc/tmpfiles.d/zz-goldenami-{name}.conf", entries


def _tmpfiles_word(path: str) -> str:
    """Returns a path in the syntax of tmpfiles.d: quoted if necessary, with escaped specifiers."""
    word = re.sub(r"([\\\"])", r"\\\1", path).replace("%", "%%")
    return f'"{word}"' if re.search(r"\s", path) else word


def _patterns(patterns: tuple[str, ...]) -> Script:
    tests = [sh("@test @pattern", test=Script("-path" if "/" in p else "-name"), pattern=p).text for p in patterns]
    return Script(" -o ".join(tests))


def _number_or_name(letter: str, account: str) -> str:
    named = {"u": "-user", "g": "-group"}[letter]
    return f"-{letter}id" if account.isdigit() else named


def _without(mode: str) -> str:
    """Returns chmod's symbolic mode that removes all bits an octal mode does not grant: "u-x,g-w,o-rwx"."""
    bits = int(mode, 8)
    found = []
    for letter, shift, special in (("u", 6, 0o4000), ("g", 3, 0o2000), ("o", 0, 0o1000)):
        gone = "".join(name for name, bit in (("r", 4), ("w", 2), ("x", 1)) if not bits >> shift & bit)
        if not bits & special:
            gone += "t" if letter == "o" else "s"
        if gone:
            found.append(f"{letter}-{gone}")
    return ",".join(found)
