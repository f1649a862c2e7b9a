"""Shows events, releases and errors to people and to programs. It writes to stderr or to files; stdout is for data.

``progress`` selects the view for a terminal or a log, and adds the file of events. ``render_release``,
``render_failure`` and ``render_error`` print the summary at the end.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from rich.console import Console

from goldenami.events import Emit, Event
from goldenami.report.eventfile import EventFile
from goldenami.report.overview import NamedLines, Overview
from goldenami.report.plain import Lines
from goldenami.report.problems import render_error, render_problems, stderr_console
from goldenami.report.summary import Leftover, images_table, render_failure, render_release
from goldenami.report.tee import paused, tee
from goldenami.report.terminal import Live

__all__ = [
    "EventFile",
    "Leftover",
    "Lines",
    "Live",
    "NamedLines",
    "Overview",
    "images_table",
    "paused",
    "progress",
    "progress_of_several",
    "render_error",
    "render_failure",
    "render_problems",
    "render_release",
    "stderr_console",
    "tee",
]


@contextmanager
def progress(
    console: Console | None = None, *, events: Path | None = None, environment: Mapping[str, str] = os.environ
) -> Iterator[Emit]:
    """Provide an Emit for one build: the live view on a terminal, otherwise plain lines; and JSON lines in ``events``.

    Leave the block before you print a summary. ``environment``: the variable GITLAB_CI decides whether stages become
    sections of GitLab's log. Raises UsageError if the file of events cannot be opened.
    """
    console = console or stderr_console()
    with ExitStack() as stack:
        consumers: list[Emit] = []
        if events is not None:
            consumers.append(stack.enter_context(EventFile(events)))
        if console.is_terminal and not console.is_dumb_terminal:
            live = Live(console)
            stack.callback(live.close)
            consumers.append(live)
        else:
            lines = Lines(console.file, sections=environment.get("GITLAB_CI") == "true")
            stack.callback(lines.close)
            consumers.append(lines)
        yield tee(*consumers)


@contextmanager
def progress_of_several(
    names: Sequence[str], console: Console | None = None, *, events: Path | None = None
) -> Iterator[Callable[[str], Emit]]:
    """Provide a function that returns the Emit of a recipe's build, for builds that run side by side: one row for each
    on a terminal, otherwise lines with the recipe's name. In the file of events, each has the field ``recipe``.

    Leave the block before you print a summary. Raises UsageError if the file of events cannot be opened.
    """
    console = console or stderr_console()
    with ExitStack() as stack:
        file = stack.enter_context(EventFile(events)) if events is not None else None
        view: Overview | NamedLines
        if console.is_terminal and not console.is_dumb_terminal:
            view = Overview(console, len(names))
            stack.callback(view.close)
        else:
            view = NamedLines(console.file, list(names))

        def of(recipe: str) -> Emit:
            shown = view.of(recipe)
            if file is None:
                return shown
            return tee(lambda event: file(Event(event.kind, {"recipe": recipe, **event.fields})), shown)

        yield of
