"""Selects the view for the events of a command: a live one on a terminal, otherwise lines; and the file of events."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from rich.console import Console

from goldenami.events import Emit, Event
from goldenami.report.combining import tee
from goldenami.report.eventfile import EventFile
from goldenami.report.overview import NamedLines, Overview
from goldenami.report.plain import Lines
from goldenami.report.problems import has_colours, stderr_console
from goldenami.report.terminal import Live


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
        if console.is_interactive:
            live = Live(console)
            stack.callback(live.close)
            consumers.append(live)
        else:
            sections = environment.get("GITLAB_CI") == "true"
            lines = Lines(console.file, sections=sections, colours=has_colours(console))
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
        if console.is_interactive:
            view = Overview(console, len(names))
            stack.callback(view.close)
        else:
            view = NamedLines(console.file, list(names), colours=has_colours(console))

        def of(recipe: str) -> Emit:
            shown = view.of(recipe)
            if file is None:
                return shown
            return tee(lambda event: file(Event(event.kind, {"recipe": recipe, **event.fields})), shown)

        yield of
