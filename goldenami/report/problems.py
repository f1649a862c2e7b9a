"""Prints errors in the format of compilers: the place, the message, the source line and the next step.

::

    recipes/web.yaml:12:5: error: unknown key 'packges'
       12 |   - packges: {name: nginx}
          |     ^~~~~~~
          = hint: did you mean 'package'?

The first line of each problem is ``file:line:column: error: message``, so that editors and CI systems can jump to it.
Source files are read again when a problem is printed. Only the lines of files that were already read as files of the
project are printed. Rich's markup in texts is not interpreted. Lines are not wrapped; a long source line is cut around
the column.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable, Sequence

from rich.cells import cell_len
from rich.console import Console
from rich.text import Text

from goldenami import reading, shipped
from goldenami.errors import (
    CloudError,
    GoldenAmiError,
    InvalidInput,
    OperationFailed,
    Problem,
    TargetsFailed,
    TestsFailed,
)
from goldenami.printable import escaped

ReadSource = Callable[[str], str | None]

_TAB = "    "
_MOST = 200  # problems that are shown: more do not help, and each takes about a millisecond
_LONGEST = 4000  # characters of a message or hint that are shown
_WORD = re.compile(r"""'[^']*'|"[^"]*"|\{\{.*?\}\}|[\w./@%+*-]+""")
_PLACE = re.compile(r"^(?P<file>.+?):(?P<line>\d+)(?::(?P<column>\d+))?$")
_OUTPUT_LINES = 25  # of a failed operation: the last lines, which usually contain the cause


_LOG_WIDTH = 160  # if stderr is not a terminal and COLUMNS is not set
_LEAST_WIDTH = 20
_SIZE = re.compile(r"[1-9][0-9]{0,3}")


def stderr_console() -> Console:
    """Return the console of progress and errors. Rich supports NO_COLOR, TERM=dumb and a stderr without a terminal.

    FORCE_COLOR gives a stderr without a terminal colors, but nothing that moves: it is not interactive. COLUMNS and
    LINES count only if they are numbers from 1 to 9999.
    """
    useless = {name for name in ("COLUMNS", "LINES") if not _SIZE.fullmatch(os.environ.get(name, ""))}
    environment = {name: value for name, value in os.environ.items() if name not in useless}
    console = Console(stderr=True, highlight=False, _environ=environment)
    if sys.stderr is None or not sys.stderr.isatty():
        console.is_interactive = False
    if not console.is_interactive and "COLUMNS" in useless:
        console.width = _LOG_WIDTH
    if console.width < _LEAST_WIDTH:
        console.width = _LEAST_WIDTH
    return console


def has_colours(console: Console) -> bool:
    """Return whether texts for a console have colors."""
    return console.color_system is not None and not console.no_color


def read_source(file: str) -> str | None:
    """Return the text of the file of a problem. None: this process has not read that file, or it cannot be read."""
    return reading.read_again(shipped.path_of(file))


def render_error(
    error: GoldenAmiError, console: Console | None = None, *, read: ReadSource = read_source, tests: bool = True
) -> None:
    """Print an error with its details and hint, by default to stderr. Any text is accepted; none raises an error.
    ``tests`` False: the failed tests were printed while they ran, so only their number is."""
    console = console or stderr_console()
    if isinstance(error, InvalidInput):
        render_problems(error.problems, console, read=read)
        _print(console, _line((error.message, "bold red")))
    else:
        message = error.headline if isinstance(error, TestsFailed) and not tests else error.message
        first, _, rest = message.partition("\n")
        _print(console, _line(("error: ", "bold red"), (first, "bold"), f"\n{rest}" if rest else ""))
        for line in _details(error, read):
            _print(console, line)
    if error.hint:
        _print(console, _hint(error.hint))


def render_problems(
    problems: Sequence[Problem], console: Console, *, read: ReadSource = read_source, warnings: bool = False
) -> None:
    """Print the first problems, each with its source line and a caret. Each file is read once."""
    label = ("warning: ", "bold yellow") if warnings else ("error: ", "bold red")
    sources: dict[str, list[str]] = {}
    for problem in problems[:_MOST]:
        if problem.file not in sources:
            sources[problem.file] = (read(problem.file) or "").splitlines()
        place = ":".join([problem.file, *(str(n) for n in (problem.line, problem.column) if n)])
        head = _line((f"{place}: ", "bold"), label, problem.message)
        _print(console, head)
        for line in _excerpt(sources[problem.file], problem.line, problem.column, console.width):
            _print(console, line)
        if problem.hint:
            _print(console, Text.assemble((" " * 6 + "= ", "blue"), _hint(problem.hint)))
    if len(problems) > _MOST:
        _print(console, Text(f"… and {len(problems) - _MOST} more problems. The option --json of validate has all."))


def _details(error: GoldenAmiError, read: ReadSource) -> list[Text]:
    """Return the lines for the additional fields of error classes: place, output, targets, AWS action."""
    if isinstance(error, OperationFailed):
        return _operation_details(error, read)
    if isinstance(error, TargetsFailed):
        return [_line((f"  {target}: ", "bold"), reason) for target, reason in sorted(error.failures.items())]
    if isinstance(error, CloudError):
        facts = {
            "action": error.action,
            "code": error.code,
            "account": error.account,
            "region": error.region,
        }
        known = ", ".join(f"{name} {value}" for name, value in facts.items() if value and value not in error.message)
        return [_line((f"  {known}", "dim"))] if known else []
    return []


def _operation_details(error: OperationFailed, read: ReadSource) -> list[Text]:
    lines: list[Text] = []
    place = _PLACE.match(error.place)
    if place:
        lines.append(_line("  at ", (error.place, "bold")))
        lines += _excerpt((read(place["file"]) or "").splitlines(), int(place["line"]), int(place["column"] or 0), 120)
    elif error.place:
        lines.append(_line(f"  at {error.place}"))
    if error.status is not None and str(error.status) not in error.message:
        lines.append(Text(f"  exit status {error.status}"))
    output = error.output.rstrip().splitlines()
    if len(output) > _OUTPUT_LINES:
        lines.append(Text(f"  | … {len(output) - _OUTPUT_LINES} lines before", style="dim"))
    lines += [Text.assemble(("  | ", "blue"), _printable(line)) for line in output[-_OUTPUT_LINES:]]
    return lines


def _excerpt(lines: Sequence[str], line: int, column: int, width: int) -> list[Text]:
    """Return the source line, with a caret below it if the column is known. Empty if the line does not exist."""
    if not 0 < line <= len(lines):
        return []
    room = min(max(width - 9, 20), 1000)
    start = min(max(column - 1, 0), len(lines[line - 1]))
    left = max(0, start - room)  # of a long line, only the part around the column is processed
    raw = ("…" if left else "") + lines[line - 1][left : start + room]
    start -= left - bool(left)
    word = _WORD.match(raw, start)
    before = _printable(raw[:start])
    marked = _printable(word.group()) if word else ""
    text = _printable(raw)
    if cell_len(text) > room:
        # Keep the marked word visible: cut from the left only as much as needed.
        cut = max(0, len(before) + min(len(marked), 20) - room + 4)
        if cut:
            text, before = "…" + text[cut:], "…" + before[cut:]
        text = _shorten(text, room)
    shown = [Text.assemble((f"{line:>5} | ", "blue"), text)]
    if column:
        span = max(1, min(cell_len(marked), room - cell_len(before)))
        shown.append(Text.assemble(("      | ", "blue"), (" " * cell_len(before) + "^" + "~" * (span - 1), "bold red")))
    return shown


def _shorten(text: str, cells: int) -> str:
    width = 0
    for position, character in enumerate(text):
        width += cell_len(character)
        if width > cells - 1:
            return text[:position] + "…"
    return text + "…"


def _printable(text: str) -> str:
    """Replace tabs by spaces, and control characters, which could move the cursor or change colors."""
    return "".join(c if c.isprintable() else "�" for c in text.replace("\t", _TAB))


def _line(*parts: str | tuple[str, str]) -> Text:
    """Return texts, some of them with a style, as one line: escaped, and cut if they are very long."""
    pairs = [(part, "") if isinstance(part, str) else part for part in parts]
    return Text.assemble(
        *((escaped(text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…"), style) for text, style in pairs)
    )


def _hint(text: str) -> Text:
    return _line(("hint: ", "cyan"), text)


def _print(console: Console, text: Text) -> None:
    console.print(text, soft_wrap=True, highlight=False)
