"""Shows events, releases and errors to people and to programs. It writes to stderr or to files; stdout is for data.

``progress`` selects the view for a terminal or a log, and adds the file of events. ``render_release``,
``render_failure`` and ``render_error`` print the summary at the end.

The names load their modules when they are first used: a terminal library is among them, and most commands print a few
lines only.
"""

from typing import TYPE_CHECKING

from goldenami.ondemand import load_names

if TYPE_CHECKING:
    from goldenami.report.combining import paused, tee
    from goldenami.report.eventfile import EventFile
    from goldenami.report.overview import NamedLines, Overview
    from goldenami.report.plain import Lines
    from goldenami.report.problems import render_error, render_problems, stderr_console
    from goldenami.report.summary import Leftover, images_table, render_failure, render_next, render_release
    from goldenami.report.terminal import Live
    from goldenami.report.views import progress, progress_of_several

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
    "render_next",
    "render_problems",
    "render_release",
    "stderr_console",
    "tee",
]

if not TYPE_CHECKING:  # a type checker reads the imports above
    __getattr__ = load_names(
        __name__,
        {
            "eventfile": ("EventFile",),
            "overview": ("NamedLines", "Overview"),
            "plain": ("Lines",),
            "problems": ("render_error", "render_problems", "stderr_console"),
            "summary": ("Leftover", "images_table", "render_failure", "render_next", "render_release"),
            "combining": ("paused", "tee"),
            "terminal": ("Live",),
            "views": ("progress", "progress_of_several"),
        },
    )
