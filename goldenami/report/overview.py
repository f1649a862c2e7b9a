"""The views of several builds at once: one row for each on a terminal, or lines that begin with the recipe's name."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable

from rich.console import Console, Group, RenderableType
from rich.text import Text

from goldenami.events import Emit, Event
from goldenami.report.combining import tee
from goldenami.report.plain import Lines, Stream, facts_of_operation, facts_of_test, lines_of_test
from goldenami.report.state import BuildState
from goldenami.report.terminal import Drawing
from goldenami.report.text import about, duration, first_line


class Overview(Drawing):
    """Draws a row for each running build. ``of`` returns the Emit of one recipe."""

    def __init__(
        self, console: Console, total: int, *, clock: Callable[[], float] = time.monotonic, refresh: bool = True
    ) -> None:
        self._total = total
        self._states: dict[str, BuildState] = {}
        self._ended: dict[str, str] = {}  # recipe -> how it ended
        super().__init__(console, clock=clock, refresh=refresh)

    def of(self, recipe: str) -> Emit:
        """Return the Emit for the events of a recipe's build."""
        return tee(lambda event: self._take(recipe, event))

    def _take(self, recipe: str, event: Event) -> None:
        with self._lock:
            self._states.setdefault(recipe, BuildState()).apply(event, self._clock())
            line = self._line(recipe, event)
        if line is not None:
            self.print(line)

    def _line(self, recipe: str, event: Event) -> Text | None:
        """Return the permanent line for an event that a person wants to see while other builds run."""
        fields = event.fields
        match event.kind:
            case "build.finished":
                status = str(fields.get("status"))
                self._ended[recipe] = status
                took = duration(float(fields.get("seconds") or 0))
                return self._told("ok" if status in ("released", "unchanged") else "bad", recipe, status, took)
            case "build.skipped":
                self._ended[recipe] = "unchanged"
                return self._told("ok", recipe, "nothing to build", str(fields.get("reason", "")))
            case "operation.finished" if fields.get("status") == "failed":
                return self._told("bad", recipe, *facts_of_operation(fields))
            case "test.finished" if fields.get("outcome") == "failed":
                line = self._told("bad", recipe, *facts_of_test(fields))
                return line.append("".join(f"\n      {text}" for text in lines_of_test(fields)))
            case "note" if fields.get("level") == "warning":
                return self._told("warning", recipe, first_line(str(fields.get("message", ""))))
        return None

    def _told(self, mark: str, recipe: str, *parts: str) -> Text:
        return Text.assemble(self._mark(mark), (recipe, "bold"), *(f" · {part}" for part in parts if part))

    def _view(self) -> RenderableType:
        with self._lock:
            now = self._clock()
            running = {recipe: state for recipe, state in self._states.items() if recipe not in self._ended}
            width = max(map(len, running), default=0)
            rows = [self._row(recipe.ljust(width), state, now) for recipe, state in sorted(running.items())]
            numbers = Counter(self._ended.values())
            waiting = self._total - len(self._ended) - len(running)
            words = [*(f"{count} {status}" for status, count in sorted(numbers.items())), f"{waiting} waiting"]
            return Group(*rows, Text(f"  {len(running)} running, {', '.join(words)}", style="dim"))

    def _row(self, recipe: str, state: BuildState, now: float) -> RenderableType:
        tests = {(f"test {one.gate}", one.architecture): one for one in state.tests.values()}
        parts = []
        for key, stage in state.stages.items():
            of = tests.get(key)
            parts.append(stage.label if of is None else f"{stage.label} {of.done}/{of.total}")
        if state.targets:
            states = Counter(row.state for row in state.targets.values())
            parts.append(", ".join(f"{count} {word}" for word, count in sorted(states.items())))
        left = state.left(now)
        outlook = f"{about(left)} left · " if left is not None else ""
        took = duration(now - (state.started if state.started is not None else now))
        head = Text.assemble((recipe, "bold"), (f"  {took:>12}  {outlook}", "dim"), " · ".join(parts))
        return self._spinning(head.append(f" · {state.build_id}" if state.build_id else "", style="dim"), now)


class NamedLines:
    """Prints the lines of ``Lines`` for several builds. Each line begins with the name of the recipe."""

    def __init__(self, stream: Stream, names: list[str], *, colours: bool = False) -> None:
        self._stream = stream
        self._colours = colours
        self._width = max(map(len, names), default=0)

    def of(self, recipe: str) -> Emit:
        """Return the Emit for the events of a recipe's build."""
        return tee(Lines(_Named(self._stream, f"{recipe:<{self._width}}  "), colours=self._colours))


class _Named:
    """A stream that writes a name before each line."""

    def __init__(self, stream: Stream, name: str) -> None:
        self._stream = stream
        self._name = name

    def write(self, line: str, /) -> object:
        return self._stream.write(f"{self._name}{line}")

    def flush(self) -> None:
        self._stream.flush()
