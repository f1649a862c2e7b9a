"""The live view of a terminal: running stages and tests at the bottom, and above them a permanent line for each result.

::

    ✓ launch builder · 2.1 s
    ✓ patches (x86_64) · 14 s · 1 changed
    ⠹ software (x86_64)  6 s   4/11 package nginx-light
        Unpacking nginx-light (1.22.1-9+deb12u3) ...

It draws at most eight times a second, cuts lines at the terminal's width, and uses no colors if NO_COLOR is set. When
it is closed, the running part is removed, and the permanent lines remain as a log.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.live import Live as RichLive
from rich.padding import Padding
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

from goldenami.events import Event
from goldenami.report.plain import (
    facts_of_operation,
    facts_of_stage,
    facts_of_test,
    facts_of_tests,
    headline,
    lines_of_test,
)
from goldenami.report.state import OPERATION_ORDER, READY, BuildState, Stage, TargetRow, Tests
from goldenami.report.text import TEST_ORDER, about, counts, duration, first_line

REDRAWS_PER_SECOND = 8
_BAR_CELLS = 20
_PERCENT_CELLS = 5
_NARROW = 70  # cells of a terminal that has no room for bars


class Drawing:
    """A part at the bottom of a terminal that is drawn again and again, below permanent lines. Close it before you
    print other text.

    A subclass has ``_view``, which is called from another thread. ``refresh`` False: draw only at ``draw`` (for tests).
    """

    def __init__(self, console: Console, *, clock: Callable[[], float] = time.monotonic, refresh: bool = True) -> None:
        self._console = console
        self._clock = clock
        self._lock = threading.RLock()
        # Rich writes what it drew without a lock: two threads at once would erase each other's lines.
        self._drawing = threading.RLock()
        self._closed = threading.Event()
        ascii_only = console.options.ascii_only
        self._marks = {"ok": "+", "bad": "x", "warning": "!"} if ascii_only else {"ok": "✓", "bad": "✗", "warning": "!"}
        self._spinner = Spinner("line" if ascii_only else "dots", style="cyan")
        self._live = RichLive(
            _Guarded(self._view),
            console=console,
            auto_refresh=False,
            transient=True,
            redirect_stdout=False,  # stdout is data
            redirect_stderr=True,  # a stray warning is printed above, not into the view
            vertical_overflow="ellipsis",
        )
        self._live.start()
        # Rich hides the cursor until its end. A process that is killed does not come to its end.
        console.show_cursor(True)
        self._redrawing = threading.Thread(target=self._redraw, name="live view", daemon=True) if refresh else None
        if self._redrawing is not None:
            self._redrawing.start()

    def _view(self) -> RenderableType:
        raise NotImplementedError

    def print(self, line: Text) -> None:
        """Print a permanent line. The caller must not hold the lock of the view: a thread that draws waits for it."""
        with self._drawing:
            self._console.print(line, soft_wrap=True, highlight=False)

    def draw(self) -> None:
        """Draw the running part now."""
        with self._drawing:
            self._live.refresh()

    def _redraw(self) -> None:
        while not self._closed.wait(1 / REDRAWS_PER_SECOND):
            self.draw()

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Remove the running part inside a ``with`` block, and draw it again after it."""
        with self._drawing:
            self._live.stop()
            try:
                yield
            finally:
                self._live.start()
                self._console.show_cursor(True)

    def close(self) -> None:
        """Remove the running part. A second call does nothing."""
        self._closed.set()
        if self._redrawing is not None:
            self._redrawing.join()
        with self._drawing:
            self._live.stop()

    def _mark(self, kind: str) -> Text:
        style = {"ok": "green", "bad": "bold red", "warning": "yellow"}[kind]
        return Text.assemble((self._marks[kind], style), " ")

    def _spinning(self, text: Text, now: float) -> RenderableType:
        frame = self._spinner.render(now)
        return _cut(Text.assemble(frame if isinstance(frame, Text) else "*", " ", text))


class Live(Drawing):
    """An Emit that draws one build on a terminal.

    ``clock``: seconds, monotonic. ``refresh`` False: draw only at events and at ``draw`` (for tests).
    """

    def __init__(self, console: Console, *, clock: Callable[[], float] = time.monotonic, refresh: bool = True) -> None:
        self._state = BuildState()
        self._bar_cells = ("#", ".") if console.options.ascii_only else ("━", "─")
        super().__init__(console, clock=clock, refresh=refresh)

    def __call__(self, event: Event) -> None:
        self.take(event, self._clock())

    def take(self, event: Event, now: float) -> None:
        """Show an event that happened at a time of the clock."""
        with self._lock:
            subject = self._state.apply(event, now)
            line = self._result_line(event.kind, event.fields, subject)
        if line is not None:
            self.print(line)

    # --- permanent lines ----------------------------------------------------------------------------------------------

    def _result_line(
        self, kind: str, fields: Mapping[str, Any], subject: Stage | Tests | TargetRow | None
    ) -> Text | None:
        match kind:
            case "build.started":
                return _join(Text(), headline(fields), "bold")
            case "build.skipped":
                return _join(self._mark("ok"), ["nothing to build", str(fields.get("reason", ""))])
            case "build.finished":
                status = str(fields.get("status") or "finished")
                return _join(
                    self._mark("ok" if status in ("released", "unchanged") else "bad"),
                    [status, duration(float(fields.get("seconds") or 0))],
                    "bold",
                )
            case "stage.finished" if isinstance(subject, Stage):
                return _join(
                    self._mark("ok" if fields.get("status") == "ok" else "bad"), facts_of_stage(subject, fields)
                )
            case "operation.finished" if fields.get("status") == "failed":
                return _join(Text.assemble("  ", self._mark("bad")), facts_of_operation(fields))
            case "test.finished" if fields.get("outcome") in ("failed", "flaky"):
                mark = self._mark("bad" if fields.get("outcome") == "failed" else "warning")
                flaky = ["flaky"] if fields.get("outcome") == "flaky" else []
                line = _join(Text.assemble("  ", mark), flaky + facts_of_test(fields))
                return line.append("".join(f"\n      {text}" for text in lines_of_test(fields)))
            case "tests.finished" if isinstance(subject, Tests):
                return _join(self._mark("bad" if fields.get("failed") else "ok"), facts_of_tests(subject, fields))
            case "target.progress" if isinstance(subject, TargetRow) and subject.failed:
                return _join(self._mark("bad"), [subject.label, subject.state, first_line(subject.detail)])
            case "note":
                warning = fields.get("level") == "warning"
                message = first_line(str(fields.get("message", "")))
                return _join(self._mark("warning") if warning else Text("  "), [message])
        return None

    # --- the running part ---------------------------------------------------------------------------------------------

    def _view(self) -> RenderableType:
        with self._lock:
            now = self._clock()
            rows: list[RenderableType] = []
            stages = dict(self._state.stages)
            for tests in self._state.tests.values():
                rows.append(self._tests(tests, stages.pop((f"test {tests.gate}", tests.architecture), None), now))
            rows[:0] = [row for stage in stages.values() for row in self._stage(stage, now)]
            rows += self._targets()
            return Group(*rows, *self._outlook(now))

    def _outlook(self, now: float) -> list[RenderableType]:
        """Return what follows, how long the build has taken, and how long it probably takes still."""
        state = self._state
        if not state.build_id:
            return []
        names = list(dict.fromkeys(one.name for one in state.upcoming))
        rows = [Text(f"  next: {', '.join(names)}", style="dim")] if names else []
        left = state.left(now)
        parts = [duration(max(0.0, now - (state.started or now)))]
        parts += [f"{about(left)} left"] if left is not None else []
        parts += [f"{purpose} {instance}" for (purpose, _), instance in state.instances.items()]
        rows.append(Text(f"  {' · '.join([*parts, f'build {state.build_id}'])}", style="dim"))
        return [_cut(row) for row in rows]

    @staticmethod
    def _head(stage: Stage, now: float) -> Text:
        return Text.assemble((stage.label, "bold"), (f"  {duration(max(0.0, now - stage.started))}", "dim"))

    def _stage(self, stage: Stage, now: float) -> list[RenderableType]:
        head = self._head(stage, now)
        operation = stage.operation
        if operation is None:
            done = counts(stage.operations, OPERATION_ORDER)
            return [self._spinning(Text.assemble(head, (f"  {done}" if done else "", "dim")), now)]
        number = f"{operation.index}/{operation.total} " if operation.total else ""
        line = Text.assemble(head, (f"  {number}", "cyan"), operation.title)
        rows: list[RenderableType] = [self._spinning(line, now)]
        if operation.line:
            rows.append(_cut(Text(f"    {first_line(operation.line)}", style="dim")))
        return rows

    def _tests(self, tests: Tests, stage: Stage | None, now: float) -> RenderableType:
        """Return the row of a run of tests. ``stage``: the one that it is the work of."""
        total = f"/{tests.total}" if tests.total else ""
        unusual = counts({k: v for k, v in tests.outcomes.items() if k != "passed"}, TEST_ORDER)
        numbers, warning = (f"  {tests.done}{total}", "cyan"), (f"  {unusual}" if unusual else "", "yellow")
        head = Text(tests.label, style="bold") if stage is None else self._head(stage, now)
        return self._spinning(Text.assemble(head, numbers, warning, f"  {tests.running}"), now)

    def _targets(self) -> list[RenderableType]:
        shown = self._state.shown_targets()
        table = Table.grid(padding=(0, 2))
        widest = max((len(row.state) for row in shown.rows), default=0)
        for least in (None, widest, _PERCENT_CELLS):  # on a narrow terminal, names and ids are cut first
            table.add_column(no_wrap=True, overflow="ellipsis", min_width=least)
        for row in shown.rows:
            style = "red" if row.failed else "green" if row.state in READY else "cyan"
            has_bar = row.percent is not None and row.moving
            id = "" if self._console.width < _NARROW else row.image_id
            last = self._progress(row.percent or 0.0) if has_bar else Text(first_line(row.detail) or id)
            table.add_row(Text(f"  {row.label}"), Text(row.state, style=style), last)
        lines: list[RenderableType] = [Padding(Text(shown.summary), (0, 0, 0, 2))] if shown.summary else []
        lines += [table] if shown.rows else []
        return lines + ([_cut(Text(f"  and {shown.more} more", style="dim"))] if shown.more else [])

    def _progress(self, percent: float) -> Text:
        """Return a bar with the percentage, or on a narrow terminal the percentage."""
        if self._console.width < _NARROW:
            return Text(f"{percent:3.0f} %")
        full, empty = self._bar_cells
        done = round(percent / 100 * _BAR_CELLS)
        return Text.assemble((full * done, "cyan"), (empty * (_BAR_CELLS - done), "dim"), f" {percent:3.0f} %")


class _Guarded:
    """A view that draws nothing after an exception. Rich draws in a thread, and an exception would end that thread."""

    def __init__(self, view: Callable[[], RenderableType]) -> None:
        self._view = view

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        try:
            lines = list(console.render(self._view(), options))
        except Exception:
            return
        yield from lines


def _join(mark: Text, parts: list[str], style: str = "") -> Text:
    """Return ``mark first · second · …``, with the first part in ``style``."""
    kept = [part for part in parts if part]
    text = mark.copy()
    for position, part in enumerate(kept):
        if position:
            text.append(" · ", style="dim")
        text.append(part, style=style if position == 0 else "")
    return text


def _cut(text: Text) -> Text:
    text.no_wrap = True
    text.overflow = "ellipsis"
    return text
