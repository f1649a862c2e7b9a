"""Draws the history of releases as SVG: a row for each event, and a line for each channel. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from goldenami import svg
from goldenami.release.history import HistoryEvent

MOST: Final = 60  # events; older ones are counted
_LANE: Final = 20
_TEXT: Final = 560.0  # a longer text goes on in the next line
_COLOURS: Final = (svg.BLUE, svg.ORANGE, svg.GREEN, svg.RED, svg.GREY)


def draw(events: Sequence[HistoryEvent], title: str) -> str:
    """Return an SVG document, the newest event first. ``events``: oldest first. Each event of a channel is a dot on the
    line of the channel; an event without one is a square."""
    shown = list(reversed(events))[:MOST]
    channels = list(dict.fromkeys(event.channel for event in shown if event.channel is not None))
    left = svg.MARGIN + 8 + _LANE * len(channels)
    when = svg.width_of("0000-00-00 00:00", svg.SMALL)
    text = left + 16 + when + 14
    rows: list[str] = []
    lanes: dict[str, tuple[float, float]] = {}  # channel -> its first and its last dot
    widths = [0.0]
    y = 4.0
    for event in shown:
        head = svg.wrapped(_head(event), _TEXT, bold=True)
        more = svg.wrapped(_more(event), _TEXT, svg.SMALL) if _more(event) else []
        widths += [svg.widest(head, bold=True), svg.widest(more, svg.SMALL)]
        middle = y + 8
        if event.channel is None:
            rows.append(svg.rect(left - 3, middle - 4, 8, 8, fill=svg.GREY))
        else:
            at = channels.index(event.channel)
            x = svg.MARGIN + 6 + _LANE * at
            lanes[event.channel] = (lanes.get(event.channel, (middle, middle))[0], middle)
            rows.append(f'<circle cx="{x}" cy="{middle:g}" r="5" fill="{_COLOURS[at % len(_COLOURS)]}"/>')
        rows.append(svg.text(left + 16, y + 13, event.time[:16].replace("T", " "), size=svg.SMALL, fill=svg.GREY))
        rows += svg.block(text, y + 13, head, bold=True)
        rows += svg.block(text, y + 13 + len(head) * svg.LEAD, more, size=svg.SMALL, fill=svg.GREY)
        y += (len(head) + len(more)) * svg.LEAD + 9
    lines = [
        svg.path(f"M{svg.MARGIN + 6 + _LANE * at} {lanes[name][0]:g}V{lanes[name][1]:g}", colour, width=2)
        for at, name in enumerate(channels)
        for colour in [_COLOURS[at % len(_COLOURS)]]
    ]
    hidden = len(events) - len(shown)
    summary = f"{len(events)} event{'s' if len(events) != 1 else ''}"
    summary += f", the newest {MOST} are shown" if hidden else ""
    return svg.document(max(480.0, text + max(widths) + svg.MARGIN), y + 6, title, summary, [*lines, *rows])


def _head(event: HistoryEvent) -> str:
    if event.channel is None:
        return f"{event.version}: {event.action}"
    return f"{event.channel} is {event.version}: {event.action}"


def _more(event: HistoryEvent) -> str:
    return ", ".join(filter(None, (f"by {event.by}" if event.by else "", event.reason or "")))
