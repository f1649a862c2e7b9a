"""Errors for people: what is wrong, where, and the next step, in the form that compilers taught everyone to read.

::

    recipes/web.yaml:12:5: error: unknown key 'packges'
       12 |   - packges: {name: nginx}
          |     ^~~~~~~
          = hint: did you mean 'package'?

The first line of each problem is ``file:line:column: error: message``, so that editors and CI systems can jump to it.
Sources are read again when they are shown; one that cannot be read is shown without its excerpt. Everything is printed
as it is: no markup is interpreted in it, and nothing is wrapped (a long source line is cut around the column).
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Sequence

from rich.cells import cell_len
from rich.console import Console
from rich.text import Text

from goldenami import shipped
from goldenami.errors import (
    CloudError,
    GoldenAmiError,
    InvalidInput,
    OperationFailed,
    Problem,
    TargetsFailed,
)

ReadSource = Callable[[str], str | None]

_TAB = "    "
_WORD = re.compile(r"""'[^']*'|"[^"]*"|\{\{.*?\}\}|[\w./@%+*-]+""")
_PLACE = re.compile(r"^(?P<file>.+?):(?P<line>\d+)(?::(?P<column>\d+))?$")
_OUTPUT_LINES = 25  # of a failed operation; the end is what matters


_LOG_WIDTH = 160  # where stderr is no terminal, and COLUMNS does not say otherwise


def stderr_console() -> Console:
    """The console of progress and errors. Rich itself respects NO_COLOR, TERM=dumb and a stderr that is no terminal."""
    console = Console(stderr=True, highlight=False)
    if not console.is_terminal and not os.environ.get("COLUMNS"):
        console.width = _LOG_WIDTH
    return console


def read_source(file: str) -> str | None:
    """The text of a file that a problem points into, or None where it cannot be had."""
    try:
        return shipped.path_of(file).read_text(encoding="utf-8", errors="replace")
    except (OSError, ValueError):
        return None


def render_error(error: GoldenAmiError, console: Console | None = None, *, read: ReadSource = read_source) -> None:
    """Print an error with everything it knows, to stderr unless told otherwise. Never raises for what it is given."""
    console = console or stderr_console()
    if isinstance(error, InvalidInput):
        render_problems(error.problems, console, read=read)
        _print(console, Text(error.message, style="bold red"))
    else:
        first, _, rest = error.message.partition("\n")
        _print(console, Text.assemble(("error: ", "bold red"), (first, "bold"), f"\n{rest}" if rest else ""))
        for line in _details(error, read):
            _print(console, line)
    if error.hint:
        _print(console, _hint(error.hint))


def render_problems(problems: Sequence[Problem], console: Console, *, read: ReadSource = read_source) -> None:
    """Print every problem with its source line and a caret; each file is read once."""
    sources: dict[str, str | None] = {}
    for problem in problems:
        if problem.file not in sources:
            sources[problem.file] = read(problem.file)
        place = ":".join([problem.file, *(str(n) for n in (problem.line, problem.column) if n)])
        head = Text.assemble((f"{place}: ", "bold"), ("error: ", "bold red"), problem.message)
        _print(console, head)
        for line in _excerpt(sources[problem.file], problem.line, problem.column, console.width):
            _print(console, line)
        if problem.hint:
            _print(console, Text.assemble((" " * 6 + "= ", "blue"), _hint(problem.hint)))


def _details(error: GoldenAmiError, read: ReadSource) -> list[Text]:
    """What the subclasses know beyond their message."""
    if isinstance(error, OperationFailed):
        return _operation_details(error, read)
    if isinstance(error, TargetsFailed):
        return [Text.assemble((f"  {target}: ", "bold"), reason) for target, reason in sorted(error.failures.items())]
    if isinstance(error, CloudError):
        facts = {
            "action": error.action,
            "code": error.code,
            "account": error.account,
            "region": error.region,
        }
        known = ", ".join(f"{name} {value}" for name, value in facts.items() if value and value not in error.message)
        return [Text(f"  {known}", style="dim")] if known else []
    return []


def _operation_details(error: OperationFailed, read: ReadSource) -> list[Text]:
    lines: list[Text] = []
    place = _PLACE.match(error.place)
    if place:
        lines.append(Text.assemble("  at ", (error.place, "bold")))
        lines += _excerpt(read(place["file"]), int(place["line"]), int(place["column"] or 0), 120)
    elif error.place:
        lines.append(Text(f"  at {error.place}"))
    if error.status is not None and str(error.status) not in error.message:
        lines.append(Text(f"  exit status {error.status}"))
    output = error.output.rstrip().splitlines()
    if len(output) > _OUTPUT_LINES:
        lines.append(Text(f"  | … {len(output) - _OUTPUT_LINES} lines before", style="dim"))
    lines += [Text.assemble(("  | ", "blue"), _printable(line)) for line in output[-_OUTPUT_LINES:]]
    return lines


def _excerpt(source: str | None, line: int, column: int, width: int) -> list[Text]:
    """The source line and, where the column is known, a caret under it; nothing where there is no such line."""
    if source is None or line < 1:
        return []
    lines = source.splitlines()
    if line > len(lines):
        return []
    raw = lines[line - 1]
    start = min(max(column - 1, 0), len(raw))
    word = _WORD.match(raw, start)
    before = _printable(raw[:start])
    marked = _printable(word.group()) if word else ""
    text = _printable(raw)
    room = max(width - 9, 20)
    if cell_len(text) > room:
        # Keep the marked place in sight: cut from the left only as far as needed.
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
    while cell_len(text) > cells - 1:
        text = text[:-1]
    return text + "…"


def _printable(text: str) -> str:
    """Tabs as spaces, and no control character that could move the cursor or change colours."""
    return "".join(c if c.isprintable() else "�" for c in text.replace("\t", _TAB))


def _hint(text: str) -> Text:
    return Text.assemble(("hint: ", "cyan"), text)


def _print(console: Console, text: Text) -> None:
    console.print(text, soft_wrap=True, highlight=False)
