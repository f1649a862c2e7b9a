"""What several operations can require of a host: kernel settings, modules, settings of the SSH server, and programs in
a directory.

A kernel setting can be that of the operation ``sysctl``, or a line of a file in /etc/sysctl.d. Here both are one claim,
so that contradictions between a recipe and a control are found, whatever form each of them has
(``Operation.claims``). A form that is not known here claims nothing.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import PurePosixPath

from goldenami.provision.operation import Payload

_EVERY = ("all", "default")
"""The members of net/ipv4/conf and its like that are there on every host, for a name with ``*``."""
NOW = "programs of the build in "
"""The beginning of the claims of ``executed_now``; then the directory."""
_PROGRAMS = "programs in "
_SSH_TIMES = ("clientaliveinterval", "logingracetime")
_SSH_WORDS = {
    **{word: word for word in ("yes", "no", "none", "prohibit-password", "forced-commands-only")},
    "without-password": "prohibit-password",
}
_UNIT_SECONDS = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}
_OTHER_ROOTS = (
    "BindPaths|BindReadOnlyPaths|ExecPaths|ExtensionDirectories|ExtensionImages|MountImages|RootDirectory|RootImage|"
    "TemporaryFileSystem"
)
"""Settings of a unit that can give its programs other mounts than the host has."""
_SETTINGS_BYTES = 1 << 16  # a larger file is no file of settings


def kernel_setting(name: str, value: str) -> dict[str, str]:
    """Return the claims of a setting that is written with dots or slashes (sysctl.d(5))."""
    parts = setting_path(name.removeprefix("-")).split("/")
    names = [".".join(parts)]
    if "*" in parts:
        names = [".".join(every if part == "*" else part for part in parts) for every in _EVERY]
    return {f"the kernel setting {one}": _plain(value) for one in names}


def setting_path(name: str) -> str:
    """Return the path of a setting below /proc/sys. The first dot or slash in the name decides which of them is the
    separator (sysctl.d(5)).
    """
    separator = re.search(r"[./]", name)
    dotted = separator is not None and separator[0] == "."
    return name.translate(str.maketrans("./", "/.")) if dotted else name


def kernel_module(name: str, state: str) -> dict[str, str]:
    """Return the claim of a module: ``loaded``, ``disabled`` or ``default``."""
    return {f"the kernel module {name.replace('-', '_')}": state}


def ssh_setting(key: str, value: str) -> dict[str, str]:
    """Return the claim of a setting of the SSH server outside of its Match sections, in any of its files. The claim is
    the same for each spelling of a value that the server reads as the same (sshd_config(5)).
    """
    name, value = key.lower(), _plain(value)
    value = _SSH_WORDS.get(value.lower(), value)
    if name == "loglevel":
        value = value.lower()
    elif name in _SSH_TIMES:
        value = _seconds(value)
    return {f"{name} of the SSH server": value}


def _plain(value: str) -> str:
    """Return a value without a comment after it, quotes, and more than one space between words."""
    return " ".join(word.strip("\"'") for word in re.sub(r"\s#.*", "", f" {value}").split())


def _seconds(value: str) -> str:
    """Return a time such as "1h30m" in seconds; another text as it is."""
    if not re.fullmatch(r"(?:[0-9]{1,9}[smhdwSMHDW])*(?:[0-9]{1,9})?", value) or not value:
        return value
    parts = re.findall(r"([0-9]+)([a-z]?)", value.lower())
    return str(sum(int(number) * _UNIT_SECONDS[unit] for number, unit in parts))


def is_ssh_server(path: str) -> bool:
    """Return whether a path is a file of settings of the SSH server."""
    return re.fullmatch(r"/etc/ssh/sshd_config(\.d/[^/]+\.conf)?", path) is not None


def executed(program: str) -> dict[str, str]:
    """Return the claims of a program that is started by its path: it needs each directory above it."""
    path = PurePosixPath(program)
    if not path.is_absolute():
        return {}
    return {f"{_PROGRAMS}{folder}": "started" for folder in path.parents if folder.name}


def executed_now(program: str) -> dict[str, str]:
    """Return the claims of a program that the recipe itself starts: before its own hardening, and after that of its
    base.
    """
    return {f"{NOW}{name.removeprefix(_PROGRAMS)}": value for name, value in executed(program).items()}


def not_executed(folder: str) -> dict[str, str]:
    """Return the claim of a mount that lets no program start."""
    return {f"{_PROGRAMS}{folder}": "never started"}


def of_file(path: str, contents: str | Payload) -> dict[str, str]:
    """Return the claims of the contents of a file, or of some lines of it. A file that is too large for settings claims
    nothing.
    """
    read = next((read for pattern, read in _FILES if re.fullmatch(pattern, path)), None)
    if read is None:
        return {}
    if isinstance(contents, str):
        return read(contents)
    return read(contents.contents().decode(errors="replace")) if contents.size <= _SETTINGS_BYTES else {}


def _lines(text: str, comments: str = "#;") -> list[str]:
    return [line for raw in text.splitlines() if (line := raw.strip()) and line[0] not in comments]


def _sysctl(text: str) -> dict[str, str]:
    found: dict[str, str] = {}
    for line in _lines(text):
        name, equals, value = line.partition("=")
        if equals and re.fullmatch(r"-?[A-Za-z0-9_*]+([./][A-Za-z0-9_@:*-]+)+", name.strip()):
            found.update(kernel_setting(name.strip(), value))
    return found


def _loaded(text: str) -> dict[str, str]:
    return _merged(kernel_module(line.split()[0], "loaded") for line in _lines(text))


def _modprobe(text: str) -> dict[str, str]:
    words = (line.split() for line in _lines(text))
    # A program in place of the module is the only form in which it cannot be loaded by its name, either.
    return _merged(
        kernel_module(found[1], "disabled")
        for found in words
        if len(found) > 2 and found[0] == "install" and found[2].endswith(("/false", "/true"))
    )


def _sshd(text: str) -> dict[str, str]:
    found: dict[str, str] = {}
    for line in _lines(text, "#"):
        key, *value = re.split(r"[\s=]+", line, maxsplit=1)
        if key.lower() == "match":
            break
        for name, one in ssh_setting(key, value[0].strip() if value else "").items():
            found.setdefault(name, one)  # the server uses the value that it reads first
    return found


def _unit(text: str) -> dict[str, str]:
    if re.search(rf"(?m)^[ \t]*(?:{_OTHER_ROOTS})[ \t]*=[ \t]*\S", text):
        return {}
    lines = re.finditer(r"(?m)^[ \t]*Exec(?:Start|Stop|Reload|Condition)\w*[ \t]*=(.+)$", text)
    programs = (re.match(r"[\s@:+!|-]*\"?(/[^\s\"]+)", line[1]) for line in lines)
    return _merged(executed(program[1]) for program in programs if program)


def shell_programs(text: str) -> dict[str, str]:
    """Return the claims of a shell command: those of the programs that it starts by their path. They are looked for
    up to the first quote, comment or expansion: what is after it can be a text that starts nothing.
    """
    plain = re.split(r"[\\\"'`$]|(?:^|\s)#|\[\[|\bcase\b|<<|[<>]\(", text, maxsplit=1)[0]
    plain = re.sub(r"[<>][&|]", ">", plain)  # the & and | of a redirection end no command
    starts = re.finditer(r"(?:^|[;&|])[ \t]*(?:exec[ \t]+)?(?:\w+=[^\s;&|]*[ \t]+)*(/[^\s;&|<>()]+)", plain)
    return _merged(executed(match[1]) for match in starts)


def _cron(text: str) -> dict[str, str]:
    fields = (line.split(None, 2 if line.startswith("@") else 6) for line in _lines(text, "#"))
    # Lines with fewer fields, or with = in the first ones, set variables. After % is the input of the command.
    jobs = (found[-1] for found in fields if len(found) == (3 if found[0][0] == "@" else 7) and _is_job(found))
    return _merged(shell_programs(job.partition("%")[0]) for job in jobs)


def _is_job(fields: list[str]) -> bool:
    return "=" not in fields[0] and not fields[1].startswith("=")


def _merged(claims: Iterable[Mapping[str, str]]) -> dict[str, str]:
    return {name: value for one in claims for name, value in one.items()}


_FILES: tuple[tuple[str, Callable[[str], dict[str, str]]], ...] = (
    (r"(/etc|/usr/lib|/usr/local/lib)/sysctl\.d/[^/]+\.conf|/etc/sysctl\.conf", _sysctl),
    (r"(/etc|/usr/lib)/modules-load\.d/[^/]+\.conf|/etc/modules", _loaded),
    (r"(/etc|/usr/lib)/modprobe\.d/[^/]+\.conf", _modprobe),
    (r"/etc/ssh/sshd_config(\.d/[^/]+\.conf)?", _sshd),
    (r"(/etc|/usr/lib|/usr/local/lib)/systemd/system/[^/]+\.(service|socket)(\.d/[^/]+\.conf)?", _unit),
    (r"/etc/cron\.d/[^/]+|/etc/crontab", _cron),
)
