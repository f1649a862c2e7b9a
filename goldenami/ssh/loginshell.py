"""Runs commands in the same way behind every login shell, and separates their output from what the shell prints itself.

sshd starts each command as ``SHELL -c COMMAND``. The shell may be one with another syntax (fish, csh), and it may print
a banner from its start-up file first. So each command is wrapped into words that all shells read alike. The wrapper
starts sh (or bash, if that is the login shell), which prints a mark before the command. What comes before the mark is
the login shell's own output.
"""

from __future__ import annotations

import secrets

_WORD = "goldenami"
# The characters that some shell changes inside single quotes: csh "!" and line ends, fish the backslash.
_ENCODED = str.maketrans({"\\": r"\0134", "'": r"\0047", "!": r"\0041", "\n": r"\0012"})
# $1-$2: the mark, in two words, so that a shell that prints the commands it runs does not print the mark. The letter
# after it: "t" if the command would run on a terminal, which changes its input and its output, else "p". $3: the
# command. bash would read its start-up file a second time without --norc.
_WRAPPER = (
    "if [ -t 0 ] || [ -t 1 ]; then m=$1-${2}t; else m=$1-${2}p; fi; "
    'printf %s "$m"; printf %s "$m" >&2; case $m in *t) exit 97;; esac; '
    'c=$(printf %b "$3"); case ${SHELL##*/} in bash) exec "$SHELL" --norc -c "$c";; esac; exec sh -c "$c"'
)
_SHOWN = 300  # characters of the login shell's own output in an error
_KEPT = 4096  # bytes of it that are kept

_NO_TERMINAL = b"must have a tty"  # sudo(8), with requiretty in sudoers


def new_mark() -> str:
    """Return the random part of the mark of one command."""
    return secrets.token_hex(8)


def wrapped(command: str, mark: str) -> str:
    """Return the command line for sshd that prints the mark on stdout and stderr, and then runs the command."""
    return f"exec /bin/sh -c '{_WRAPPER}' sh {_WORD} {mark} '{command.translate(_ENCODED)}'"


class Head:
    """Removes what is before the mark from a stream. ``found``: the mark was there. ``on_terminal``: the command would
    run on a terminal, so the wrapper did not run it."""

    def __init__(self, mark: str) -> None:
        self._mark = f"{_WORD}-{mark}".encode()
        self._data = b""
        self._first = b""
        self.found = False
        self.on_terminal = False

    def feed(self, data: bytes) -> bytes:
        """Return the part of the data that comes after the mark."""
        if self.found:
            return data
        self._data += data
        _, mark, after = self._data.partition(self._mark)
        if not mark or not after:
            if len(self._first) < _KEPT:
                self._first += data[:_KEPT]
            self._data = self._data[-len(self._mark) - _KEPT :]
            return b""
        self.found, self.on_terminal, self._data = True, after[:1] == b"t", b""
        return after[1:]

    @property
    def printed(self) -> str:
        """What was printed although the mark never came, as one short line."""
        text = " ".join(
            "".join(c for c in self._first.decode(errors="replace") if c.isprintable() or c == "\n").split()
        )
        return text if len(text) <= _SHOWN else f"{text[: _SHOWN - 1]}…"


def needs_terminal(status: int, stderr: bytes) -> bool:
    """Return whether sudo refused a command because it has no terminal. sudo has not started the command then."""
    return status == 1 and _NO_TERMINAL in stderr


def with_terminal(command: str) -> str:
    """Return a command for sh that runs another one with a controlling terminal, which ``requiretty`` in sudoers asks
    for. Its input and output stay those of the caller: the terminal of script(1) carries nothing."""
    quoted = "'" + f"{command} <&3 >&4 2>&5".replace("'", "'\\''") + "'"
    return (
        "command -v script >/dev/null || { echo 'sudo: requiretty in sudoers asks for a terminal, and the program "
        "script is not installed' >&2; exit 1; }; "
        f"SHELL=/bin/sh script -qefc {quoted} /dev/null 3<&0 4>&1 5>&2 </dev/null >/dev/null 2>&1"
    )
