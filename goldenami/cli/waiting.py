"""The option ``--wait[=DURATION]``. Its value is optional, and it never reads the next argument as its value."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator

import click

_OPTION = "--wait"
_FOREVER = "forever"
_UNITS = {"s": 1.0, "m": 60.0, "h": 3600.0}
_DURATION = re.compile(r"([0-9]{1,9})([smh])")


class Waiting(click.Command):
    """A command with ``wait_option``. Without this class, click reads ID in ``--wait ID`` as the duration."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        return super().parse_args(ctx, list(_completed(ctx, args)))


def _completed(ctx: click.Context, words: list[str]) -> Iterator[str]:
    """Yield the arguments. ``--wait`` without a value gets the value ``forever``."""
    for position, word in enumerate(words):
        if word == "--":
            yield from words[position:]
            return
        following = words[position + 1] if position + 1 < len(words) else ""
        if word == _OPTION and _DURATION.fullmatch(following) and not ctx.resilient_parsing:
            raise click.UsageError(
                f"{_OPTION} {following}: write {_OPTION}={following} for a duration, or put {_OPTION} after "
                f"{following!r}.",
                ctx,
            )
        yield f"{_OPTION}={_FOREVER}" if word == _OPTION else word


class _Option(click.Option):
    def get_help_record(self, ctx: click.Context) -> tuple[str, str] | None:
        """Return the help without a space before the value, as users have to write it."""
        record = super().get_help_record(ctx)
        return record and (record[0].replace(" [=", "[="), record[1])


def _seconds(ctx: click.Context, param: click.Parameter, value: str) -> float:
    """Convert 30s, 10m or 2h to seconds, and "forever" to infinity. Raises click.BadParameter for other text."""
    if value == _FOREVER:
        return math.inf
    found = _DURATION.fullmatch(value)
    if found is None:
        raise click.BadParameter(
            f"found {value[:60]!r}, expected a duration: {_OPTION}=30s, {_OPTION}=10m or {_OPTION}=2h; or {_OPTION} "
            "alone to wait without a limit",
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
    help="Wait while another process builds the same recipe or works on the same build: for 30s, 10m or 2h. Without a "
    "duration, wait without a limit. Default: fail immediately and name that process.",
)
