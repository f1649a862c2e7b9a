"""Decides from the text of a shell command whether it only reads the host.

A command that only reads may run in a shell beside others; see ``ahead``. A command counts as reading only if every
program in it is listed here with arguments that are known to change nothing. Whatever is not understood does not count:
expansions of the shell, redirections into files, control structures, other programs. In a test with the mark ``reads``,
which promises it, every command counts.
"""

from __future__ import annotations

import enum
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise


class Kind(enum.Enum):
    """What running a command early, or together with others, could change."""

    READS = "reads"  # nothing
    WAITS = "waits"  # it waits for a state of the host, so commands of later tests must come after it
    OTHER = "other"  # unknown, so it runs alone, in its order


class _NotUnderstoodError(Exception):
    pass


@dataclass(frozen=True, slots=True)
class _Word:
    text: str
    plain: bool = True  # no part of it was quoted


def _words(text: str) -> list[str]:
    return text.split()


_OPERATORS = ("&&", "||", "|", ";", "\n")
_PLACES = ("/bin/", "/usr/bin/", "/sbin/", "/usr/sbin/")
_ASSIGNMENT = re.compile(r"(LC_[A-Z]+|LANG|LANGUAGE|TZ)=[^/]*")
_CLOCKS = re.compile(r"\b(date|uptime|timedatectl|hwclock|chronyc|etimes?)\b")
_LOST = re.compile(r"[12]?>{1,2}\s*/dev/null(?=[\s;|&]|$)|2>&1(?=[\s;|&]|$)|[12]?>&2(?=[\s;|&]|$)")
_WAITING = re.compile(r"\s--wait\b")
_KEYWORDS = frozenset(_words("if then else elif fi for while until do done case esac in { } ! function select time"))


@lru_cache(maxsize=4096)  # a test, its rehearsal and its batch ask for the same command
def kind_of(command: str, *, is_declared: bool = False) -> Kind:
    """Return what kind of command this is. ``is_declared``: its test says that it only reads (mark ``reads``)."""
    if not is_declared:
        try:
            simple = list(_simple_commands(command))
        except _NotUnderstoodError:
            return Kind.OTHER
        if not simple or not all(_only_reads(words) for words in simple):
            return Kind.OTHER
    return Kind.WAITS if _WAITING.search(command) else Kind.READS


def is_settled(command: str, *, is_declared: bool = False) -> bool:
    """Return whether a command only reads what does not change by itself after the boot: packages, accounts,
    configuration, files of the system. Services may still start, and write where they are installed.

    ``is_declared``: its test says that it only reads (mark ``reads``). Then files in ``/opt``, ``/srv``, ``/home``,
    ``/root`` and ``/usr/local`` do not change either, apart from those of running programs (``x.pid``, ``logs/x``)."""
    if kind_of(command) is not Kind.READS or "<" in command:  # the name of a file after it is not a word
        return False
    return all(_is_settled(words, is_declared) for words in _simple_commands(command))


def is_of_the_moment(command: str) -> bool:
    """Return whether a command reads a clock of the host, which a test may compare with its own."""
    return _CLOCKS.search(command) is not None


# --- the syntax -------------------------------------------------------------------------------------------------------


def _simple_commands(command: str, depth: int = 0) -> list[list[str]]:
    """Split a command into its simple commands, each a list of words, without prefixes such as sudo and timeout."""
    if depth > 4:
        raise _NotUnderstoodError
    found: list[list[str]] = []
    words: list[_Word] = []
    for token in (*_tokens(command), ";"):
        if isinstance(token, _Word):
            words.append(token)
            continue
        if words:
            found += _unwrapped(words, depth)
        elif token not in (";", "\n"):
            raise _NotUnderstoodError
        words = []
    return found


def _tokens(command: str) -> list[_Word | str]:
    """Split a command into words and operators. Redirections that lose output or read a file are left out."""
    tokens: list[_Word | str] = []
    at, size = 0, len(command)
    while at < size:
        character = command[at]
        if character in " \t":
            at += 1
            continue
        if character == "#":
            raise _NotUnderstoodError
        redirection = _LOST.match(command, at)
        if redirection is not None:
            at = redirection.end()
            continue
        if character == "<" and command[at : at + 2] not in ("<<", "<&", "<>", "<("):
            at += 1
            while at < size and command[at] in " \t":
                at += 1
            name, at = _word(command, at)
            if name.text.startswith("/dev/") and name.text != "/dev/null":
                raise _NotUnderstoodError
            continue
        operator = next((o for o in _OPERATORS if command.startswith(o, at)), None)
        if operator is not None:
            tokens.append(operator)
            at += len(operator)
            continue
        word, at = _word(command, at)
        tokens.append(word)
    return tokens


def _word(command: str, at: int) -> tuple[_Word, int]:
    """Read one word. Raises _NotUnderstood if the shell would expand it to something that is not known here."""
    text, start, plain, size = "", at, True, len(command)
    while at < size and command[at] not in " \t\n;|&<>()":
        character = command[at]
        if character == "'":
            end = command.find("'", at + 1)
            if end < 0:
                raise _NotUnderstoodError
            text, at, plain = text + command[at + 1 : end], end + 1, False
        elif character == '"':
            end = at + 1
            while end < size and command[end] != '"':
                if command[end] in "$`":
                    raise _NotUnderstoodError
                if command[end] == "\\" and end + 1 < size:
                    if command[end + 1] in '$`"\\':
                        end += 1
                    elif command[end + 1] == "\n":
                        raise _NotUnderstoodError
                text += command[end]
                end += 1
            if end >= size:
                raise _NotUnderstoodError
            at, plain = end + 1, False
        elif character == "\\":
            if at + 1 >= size or command[at + 1] == "\n":
                raise _NotUnderstoodError
            text, at, plain = text + command[at + 1], at + 2, False
        elif character in "$`":
            raise _NotUnderstoodError
        elif character in "*?[{" and at == start:
            if character != "[" or command[at + 1 : at + 2] not in (" ", ""):
                raise _NotUnderstoodError  # a file's name could be an option
            text, at = text + character, at + 1
        else:
            text, at = text + character, at + 1
    if at == start:
        raise _NotUnderstoodError
    return _Word(text, plain), at


def _unwrapped(words: Sequence[_Word], depth: int) -> list[list[str]]:
    """Return the simple commands that one with prefixes consists of: ``sudo -n /bin/sh -c 'a; b'`` has two."""
    while words and words[0].plain and _ASSIGNMENT.fullmatch(words[0].text):
        words = words[1:]
    if not words or (words[0].plain and words[0].text in _KEYWORDS):
        raise _NotUnderstoodError
    texts = [word.text for word in words]
    program = _program(texts[0])
    rest = list(words[1:])
    if program in ("sh", "bash", "dash"):
        if texts[1:2] in (["-c"], ["-ec"]) and len(texts) == 3:
            return _simple_commands(texts[2], depth + 1)
        raise _NotUnderstoodError
    if program == "timeout":
        while rest and re.fullmatch(r"-k\d+s?|--kill-after=\d+s?|--foreground|-s[A-Z]+", rest[0].text):
            rest = rest[1:]
        if len(rest) < 2 or not re.fullmatch(r"[\d.]+[smh]?", rest[0].text):
            raise _NotUnderstoodError
        return _unwrapped(rest[1:], depth)
    if program == "sudo":
        if texts[1:2] == ["-n"]:
            rest = rest[1:]
        if rest and rest[0].text == "-u" and len(rest) > 2:
            rest = rest[2:]
        if rest and not rest[0].text.startswith("-"):
            return _unwrapped(rest, depth)
    if program == "runuser" and texts[1:2] == ["-u"] and texts[3:4] == ["--"]:
        return _unwrapped(rest[3:], depth)
    if program == "command" and rest and not rest[0].text.startswith("-"):
        return _unwrapped(rest, depth)
    return [texts]


def _program(word: str) -> str:
    """Return the name of a program, without the folder of the system's own programs."""
    for place in _PLACES:
        name = word.removeprefix(place)
        if name != word and "/" not in name:
            return name
    return word


# --- the programs -----------------------------------------------------------------------------------------------------

Check = Callable[[list[str]], bool]


def _anything(_: list[str]) -> bool:
    return True


def _nothing(arguments: list[str]) -> bool:
    return not arguments


def _without(*options: str) -> Check:
    """None of these options: short ones also inside a group (``-n`` in ``-an``), long ones also with ``=value`` and
    abbreviated, as getopt allows."""
    long = [option for option in options if option.startswith("--")]
    short = "".join(option[1:] for option in options if not option.startswith("--"))

    def check(arguments: list[str]) -> bool:
        for argument in arguments:
            name = argument.partition("=")[0]
            if argument.startswith("--"):
                if any(option.startswith(name) and len(name) > 2 for option in long):
                    return False
            elif argument.startswith("-") and set(argument[1:]) & set(short):
                return False
        return True

    return check


_FLAGS = frozenset(
    _words("-a -l -q --all --failed --full --long --no-ask-password --no-legend --no-pager --plain --quiet --system")
    + _words("--user --value")
)
_WITH_VALUE = re.compile(r"--(property|type|state|output)=.*")


def _first_of(*words: str) -> Check:
    """The first argument that is no option is one of these. Before it are only options that are known to have no value,
    or to have it in the same argument: in ``systemctl -p show restart x``, the verb is not the word ``show``."""

    def check(arguments: list[str]) -> bool:
        for argument in arguments:
            if not argument.startswith("-"):
                return argument in words
            if argument not in _FLAGS and not _WITH_VALUE.fullmatch(argument):
                return False
        return "" in words

    return check


def _options_only(*allowed: str) -> Check:
    """No option but these, exactly as they are written here."""
    return lambda arguments: all(a in allowed for a in arguments if a.startswith("-"))


def _begins_with(*options: str) -> Check:
    """The first argument begins with one of these options."""
    return lambda arguments: bool(arguments) and arguments[0].startswith(options)


def _only(*allowed: str) -> Check:
    return lambda arguments: all(argument in allowed for argument in arguments)


def _all(*checks: Check) -> Check:
    return lambda arguments: all(check(arguments) for check in checks)


def _no_device(arguments: list[str]) -> bool:
    """Reading a device or a queue of the kernel can take something out of it."""
    return not any(a.startswith(("/dev/", "/proc/kmsg", "/proc/sysrq")) and a != "/dev/null" for a in arguments)


def _find(arguments: list[str]) -> bool:
    actions = ("-exec", "-execdir", "-ok", "-okdir", "-delete", "-fls", "-fprint", "-fprint0", "-fprintf")
    return not set(actions) & set(arguments)


def _systemctl(arguments: list[str]) -> bool:
    verbs = "is-active is-enabled is-failed is-system-running show cat status list-units list-unit-files list-timers"
    more = "list-sockets list-jobs list-dependencies get-default show-environment help"
    return _first_of(*verbs.split(), *more.split())(arguments) and _without("--root", "-H", "-M")(arguments)


def _ip(arguments: list[str]) -> bool:
    words = [a for a in arguments if not a.startswith("-")]
    objects = {"a", "addr", "address", "l", "link", "r", "route", "ro", "n", "neigh", "rule", "maddr"}
    batch = any(a.startswith(("-b", "-force")) and a != "-br" and a != "-brief" for a in arguments)
    verb = words[1] if len(words) > 1 else "show"
    verbs = {"show", "list", "ls", "get", "lst"}
    if words[:1] not in (["l"], ["link"]):  # where "s" is "set"
        verbs.add("s")
    return not batch and words[:1] != [] and words[0] in objects and verb in verbs


def _iptables(arguments: list[str]) -> bool:
    """It lists, and has no other option than those of a list: among them could be another action."""
    lists = ("--list", "--list-rules")
    options = [a for a in arguments if a.startswith("-")]
    return any(a in lists or re.fullmatch(r"-\w*[LS]\w*", a) for a in options) and all(
        a in (*lists, "--line-numbers") or re.fullmatch("-[LSntvx46w]+", a) for a in options
    )


def _nft(arguments: list[str]) -> bool:
    """One command: nft joins its arguments, and a semicolon or a line end begins the next command."""
    return (
        arguments[:1] != []
        and re.match(r"list\b", arguments[0]) is not None
        and not any(a.startswith("-") or re.search(r"[;\n]", a) for a in arguments)
    )


def _apk(arguments: list[str]) -> bool:
    return next((a for a in arguments if not a.startswith("-")), "") == "info" and _options_only("-e", "-v")(arguments)


def _pacman(arguments: list[str]) -> bool:
    """Its actions are capital letters, or long options."""
    options = [a for a in arguments if a.startswith("-")]
    return _begins_with("-Q")(arguments) and all(re.fullmatch("-Q[a-z]*|-[a-z]+", a) for a in options)


def _sysctl(arguments: list[str]) -> bool:
    return _without("-w", "-p", "-f", "--write", "--load", "--system")(arguments) and not any(
        "=" in a for a in arguments
    )


def _sed(arguments: list[str]) -> bool:
    address = r"(\d+|\$|/[^/]*/)"
    script = (
        rf"({address}(,{address})?)?!?[pdq=]|s/[^/]*/[^/]*/[gpI\d]*|s,[^,]*,[^,]*,[gpI\d]*|s\|[^|]*\|[^|]*\|[gpI\d]*"
    )
    options = [a for a in arguments if a.startswith("-")]
    scripts = [a for a in arguments if not a.startswith("-")][:1]
    return set(options) <= {"-n", "-E", "-r"} and bool(scripts) and re.fullmatch(script, scripts[0]) is not None


def _awk(arguments: list[str]) -> bool:
    while arguments and re.match(r"-[Fv]", arguments[0]):
        arguments = arguments[1 if len(arguments[0]) > 2 else 2 :]
    program = arguments[0] if arguments else ""
    return bool(program) and not program.startswith("-") and not re.search(r"[>|@]|system|getline|close", program)


def _uniq(arguments: list[str]) -> bool:
    return len([a for a in arguments if not a.startswith("-")]) <= 1  # the second one is a file that it writes


def _openssl(arguments: list[str]) -> bool:
    writing = ("-out", "-keyout", "-CAcreateserial", "-CAserial", "-rand", "-writerand", "-signkey", "-req")
    reading = arguments[:1] in (["version"], ["x509"], ["crl"], ["verify"], ["ciphers"])
    return reading and not any(a.removeprefix("-").startswith(tuple(w[1:] for w in writing)) for a in arguments)


_DPKG_LISTS = _words(
    "-l -s -S -L -p -V -C --list --status --search --listfiles --verify --audit --get-selections --print-avail "
    "--print-architecture --print-foreign-architectures --compare-versions --version"
)
_PROGRAMS: dict[str, Check] = {
    **dict.fromkeys(
        _words("true false : test [ echo printf pwd uname arch id groups whoami who w uptime free"), _anything
    ),
    **dict.fromkeys(_words("nproc lscpu lsblk df du stat ls readlink realpath basename dirname namei"), _anything),
    **dict.fromkeys(_words("getent lsmod modinfo ps pgrep pidof which type getcap getfacl lsattr lspci"), _anything),
    **dict.fromkeys(_words("systemd-detect-virt findmnt dpkg-query getenforce sestatus locale logname tty"), _anything),
    **dict.fromkeys(_words("cut tr wc grep egrep fgrep zgrep head md5sum sha1sum sha224sum"), _no_device),
    **dict.fromkeys(
        _words("sha256sum sha384sum sha512sum b2sum cksum sum cat zcat cmp comm diff od tac nl"), _no_device
    ),
    "tail": _all(_no_device, _without("-f", "-F", "--follow", "--retry", "--pid")),
    "sort": _all(_no_device, _without("-o", "-T", "--output", "--compress-program", "--temporary-directory")),
    "uniq": _uniq,
    "find": _find,
    "sed": _sed,
    "awk": _awk,
    "mawk": _awk,
    "gawk": _awk,
    "command": _begins_with("-v", "-V"),
    "env": _only("-0", "--null"),
    "printenv": _anything,
    "date": lambda arguments: all(a.startswith("+") or a in ("-u", "-R", "-I", "--utc") for a in arguments),
    "hostname": _only(*_words("-f -s -d -i -I -A -a --fqdn --short --domain")),
    "hostnamectl": _all(_first_of("", "status"), _without("-H", "-M")),
    "timedatectl": _all(_first_of("", "status", "show", "list-timezones"), _without("-H", "-M")),
    "localectl": _all(_first_of("", "status"), _without("-H", "-M")),
    "loginctl": _first_of("list-sessions", "list-users", "show-session", "show-user"),
    "resolvectl": _only("status"),
    "systemctl": _systemctl,
    "systemd-analyze": _first_of("verify", "blame", "time", "critical-chain", "cat-config"),
    "journalctl": _without(
        *_words("-f --follow --vacuum-size --vacuum-time --vacuum-files --rotate --flush --sync --relinquish-var"),
        *_words("--smart-relinquish-var --setup-keys --update-catalog --cursor-file"),
    ),
    "ip": _ip,
    "ss": _without("-K", "-E", "-D", "--kill", "--events", "--diag"),
    "netstat": _without("-c", "--continuous"),
    "mount": _nothing,
    "sysctl": _sysctl,
    "lsof": _without("-r", "+r"),
    "dpkg": _all(_begins_with("-"), _options_only(*_DPKG_LISTS, "--no-pager")),
    "rpm": _all(
        _begins_with("-q", "-V", "--query", "--verify"),
        _without("-E", "-D", "--eval", "--define", "--pipe"),
        # Aliases that pipe into a shell, and other actions.
        _without(*_words("--setperms --setugids --setcaps --restore --import --initdb --rebuilddb --erase --install")),
        _without(*_words("--upgrade --freshen --reinstall")),
    ),
    "apk": _apk,
    "pacman": _pacman,
    "apt-cache": _first_of("policy", "show", "madison", "showpkg", "depends", "rdepends"),
    "apt-mark": _first_of("showhold", "showauto", "showmanual"),
    "pip": _first_of("list", "show", "freeze", "check"),
    "pip3": _first_of("list", "show", "freeze", "check"),
    "update-alternatives": _all(_begins_with("--"), _options_only("--display", "--query", "--list")),
    "crontab": _all(_options_only("-l", "-u"), lambda arguments: "-l" in arguments),
    "chage": _all(_begins_with("-l", "--list"), _options_only("-l", "--list", "-i", "--iso8601")),
    "passwd": _all(_begins_with("-S", "--status"), _options_only("-S", "--status", "-a", "--all")),
    "swapon": _only("-s", "--show", "--summary", "--noheadings"),
    "sshd": _all(_begins_with("-T", "-t"), _only("-T", "-t")),
    "visudo": _all(_begins_with("-c"), _without("-f", "-x", "--export")),
    "iptables": _iptables,
    "ip6tables": _iptables,
    "nft": _nft,
    "ufw": _begins_with("status"),
    "auditctl": _only("-l", "-s"),
    "getsebool": _anything,
    "cloud-init": _first_of("status"),
    "openssl": _openssl,
}


def _only_reads(words: list[str]) -> bool:
    program, arguments = _program(words[0]), words[1:]
    if arguments in (["--version"], ["-V"]) and re.fullmatch(r"[A-Za-z0-9_.+-]+", program):
        return True
    check = _PROGRAMS.get(program)
    if program == "sudo":
        return _all(_without("-u", "-s", "-i", "-e"), lambda a: "-l" in a)(arguments)
    return check is not None and check(arguments)


# --- what does not change by itself -----------------------------------------------------------------------------------

# Their operands are no files, or those of packages.
_SETTLED_PROGRAMS = frozenset(
    _words("true false echo uname arch id groups dpkg-query rpm command which type tr sshd visudo update-alternatives")
    + _words("chage passwd crontab")
)
# Their operands are files: the program, and its short options that have a value in the next argument.
_SETTLED_READERS = {
    **dict.fromkeys(_words("cat readlink realpath namei wc sha256sum sha512sum md5sum cmp diff getcap getfacl"), ""),
    **dict.fromkeys(_words("ls find test ["), ""),
    **dict.fromkeys(_words("grep egrep fgrep"), "emABC"),
    **dict.fromkeys(_words("head tail"), "nc"),
    "stat": "c",
    "cut": "bcdf",
    "sort": "kt",
    "uniq": "fsw",
    "sed": "e",
    "awk": "Fv",
}
_WITH_SCRIPT = frozenset(_words("grep egrep fgrep sed awk"))  # the first operand is no file, if no option -e is there
_OF_THIS_FOLDER = frozenset(_words("ls find"))  # without an operand; so does grep -r
_HARMLESS_OPTIONS = re.compile(
    r"--(format|printf|showformat|queryformat|qf|lines|bytes|max-count|delimiter|fields|key|regexp|color|value)=[^/]*"
)
_UNKNOWN_FILES = ("--file", "--regexp", "--check", "--file-system")  # so with -f or -c of the same programs
_SETTLED_PLACES = re.compile(r"/(etc|usr|bin|sbin|lib(32|64|x32)?|boot)(/.*)?")
_DECLARED_PLACES = re.compile(r"/(opt|srv|root|home)(/.*)?")
_LOCAL = re.compile(r"/usr(/local(/.*)?)?")  # administrators and programs write there
_UNSETTLED_FILES = ("/etc/mtab", "/etc/resolv.conf")  # of mounts, and of the network
# Of running programs: in a folder for that, or by the name.
_OF_PROGRAMS = re.compile(
    r"(?i)(.*/)?((\.?(logs?|run|tmp|temp|cache|locks?|pids?|socks?|\.))(/.*)?|[^/]*\.(pid|sock|log|lock|out)([.-]?\d[^/]*|\.gz)?)"
)
_DATABASES = ("passwd", "group", "shadow", "gshadow", "services", "protocols", "rpc")  # not those of names of hosts
_OF_TIME = re.compile(r"-([acm](min|time)|newer.*|[ac]newer|used)")
_FILE_CHECKS = frozenset(f"-{letter}" for letter in "abcdefghkLGOrsuwx")  # of test; -a and -o also join two others
_UNSETTLED_CHECKS = frozenset(_words("-S -p -t -N -nt -ot"))  # sockets, pipes, terminals, times


def _is_settled(words: list[str], is_declared: bool) -> bool:
    program, arguments = _program(words[0]), words[1:]
    if program == "systemctl":
        return _first_of("is-enabled", "list-unit-files", "cat", "get-default")(arguments)
    if program == "getent":
        return arguments[:1] != [] and arguments[0] in _DATABASES
    if program in _SETTLED_READERS:
        files = _files(program, arguments)
    elif program in _SETTLED_PROGRAMS:
        if program == "rpm" and any(re.fullmatch(r"-\w*[pV]\w*|--(package|verify)", a) for a in arguments):
            return False  # a file of a package, or the present files of one
        is_text = program in ("echo", "tr")
        files = [] if is_text else [a for a in arguments if "/" in a or a.startswith(("~", "."))]
    else:
        return False
    return files is not None and all(_is_settled_file(file, is_declared) for file in files)


def _is_settled_file(path: str, is_declared: bool) -> bool:
    if path in _UNSETTLED_FILES or _OF_PROGRAMS.fullmatch(path) or set("*?[{") & set(path):
        return False
    if _LOCAL.fullmatch(path) or _DECLARED_PLACES.fullmatch(path):
        return is_declared
    return _SETTLED_PLACES.fullmatch(path) is not None


def _files(program: str, arguments: list[str]) -> list[str] | None:
    """Return the files that a program reads. None if that is not known, or if it reads the folder where it runs."""
    if program in ("test", "["):
        return _tested_files(arguments)
    if program == "find":
        return _found_files(arguments)
    operands: list[str] = []
    has_script = program not in _WITH_SCRIPT
    is_deep = program in _OF_THIS_FOLDER
    at = 0
    while at < len(arguments):
        argument = arguments[at]
        at += 1
        if argument == "--":
            operands += arguments[at:]
            break
        if argument.startswith("--"):
            if argument.partition("=")[0] in _UNKNOWN_FILES or (
                "=" in argument and not _HARMLESS_OPTIONS.fullmatch(argument)
            ):
                return None
            has_script = has_script or argument.startswith("--regexp=")
            is_deep = is_deep or "recursive" in argument
        elif argument.startswith("-") and argument != "-":
            name = next((letter for letter in argument[1:] if letter in _SETTLED_READERS[program]), "")
            flags, _, value = argument[1:].partition(name) if name else (argument[1:], "", "")
            unknown = "f" if program in _WITH_SCRIPT or program == "stat" else "c" if program.endswith("sum") else "/"
            if "/" in flags or unknown in flags:
                return None
            has_script = has_script or name == "e"
            is_deep = is_deep or (program in ("grep", "egrep", "fgrep") and bool({"r", "R"} & set(flags)))
            at += bool(name) and not value
        else:
            operands.append(argument)
    files = operands if has_script else operands[1:]
    return None if is_deep and not files else [file for file in files if file != "-"]  # what another program writes


def _tested_files(arguments: list[str]) -> list[str] | None:
    if not _UNSETTLED_CHECKS.isdisjoint(arguments):
        return None
    pairs = list(pairwise(arguments))
    files = [value for check, value in pairs if check in _FILE_CHECKS and value not in ("]", "!", "(", *_FILE_CHECKS)]
    files += [value for pair in pairs if "-ef" in pair for value in pair if value != "-ef"]
    return files + [a for a in arguments if a.startswith("/")]


def _found_files(arguments: list[str]) -> list[str] | None:
    while arguments and arguments[0] in ("-H", "-L", "-P"):
        arguments = arguments[1:]
    end = next((at for at, a in enumerate(arguments) if a.startswith(("-", "(", "!"))), len(arguments))
    asked = arguments[end:]
    if end == 0 or any(_OF_TIME.fullmatch(a) or _OF_PROGRAMS.fullmatch(a) or a == "-files0-from" for a in asked):
        return None
    return [*arguments[:end], *(a for a in asked if a.startswith("/"))]
