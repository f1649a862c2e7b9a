"""``--wait[=DURATION]``: an option whose value may be left out, and that never takes the next word for its value."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator

import click

_OPTION = "--wait"
_FOREVER = "forever"
_UNITS = {"s": 1.0, "m": 60.0, "h": 3600.0}
_DURATION = re.compile(r"([0-9]+)([smh])")


class Waiting(click.Command):
    """A command that has ``wait_option``. click alone would read ``--wait ID`` as a wait that lasts for ID."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        return super().parse_args(ctx, list(_completed(ctx, args)))


def _completed(ctx: click.Context, words: list[str]) -> Iterator[str]:
    """The command line, with a value for an option that has none."""
    for position, word in enumerate(words):
        if word == "--":
            yield from words[position:]
            return
        following = words[position + 1] if position + 1 < len(words) else ""
        if word == _OPTION and _DURATION.fullmatch(following) and not ctx.resilient_parsing:
            raise click.UsageError(f"Write {_OPTION}={following}, or put {_OPTION} behind {following!r}.", ctx)
        yield f"{_OPTION}={_FOREVER}" if word == _OPTION else word


class _Option(click.Option):
    def get_help_record(self, ctx: click.Context) -> tuple[str, str] | None:
        """As it is written: without a space before the value."""
        record = super().get_help_record(ctx)
        return record and (record[0].replace(" [=", "[="), record[1])


def _seconds(ctx: click.Context, param: click.Parameter, value: str) -> float:
    """30s, 10m, 2h as seconds; "forever"."""
    if value == _FOREVER:
        return math.inf
    found = _DURATION.fullmatch(value)
    if found is None:
        raise click.BadParameter(
            f"{value!r} is no duration: write {_OPTION}=30s, {_OPTION}=10m or {_OPTION}=2h, or {_OPTION} alone to wait "
            "as long as it takes",
            ctx,
            param,
        )
    return int(found[1]) * _UNITS[found[2]]


wait_option = click.option(
    _OPTION,
    cls=_Option,
    callback=_seconds,
    default="0s",
    metavar="[=DURATION]",
    help="Wait while somebody else builds the same recipe or works on the same build: for 30s, 10m or 2h; without a "
    "duration, as long as it takes. Default: refuse, and say who it is.",
)
