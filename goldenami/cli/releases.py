"""The options that choose releases."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from functools import wraps
from typing import TYPE_CHECKING, Any, TypeVar, cast

import click

from goldenami.cli import completing
from goldenami.cli.context import account_id
from goldenami.cli.moments import moments
from goldenami.cli.options import with_options

if TYPE_CHECKING:
    from goldenami.model import Environment
    from goldenami.release.listing import Filter, State

_R = TypeVar("_R")
_moment = moments("hdw", "an age (30d), a date (2026-11-24) or a time (2026-11-24T03:00:00Z)")


@dataclass(frozen=True, slots=True)
class Filters:
    """The values of the options; None for an option that is not given."""

    channel: str | None
    architecture: str | None
    region: str | None
    account: str | None
    state: str | None
    since: datetime | None
    before: datetime | None

    def to_filter(self, environment: Environment, name: str | None) -> Filter:
        """Return the filter. Raises NotFound for an account that the environment does not name."""
        from goldenami.release.listing import Filter

        return Filter(
            name,
            self.channel,
            self.architecture,
            self.region,
            account_id(environment, self.account) if self.account is not None else None,
            cast("State | None", None if self.state == "deprecated" else self.state),
            self.since,
            self.before,
        )


def filter_options(command: Callable[..., _R]) -> Callable[..., _R]:
    """Add the options that choose releases; the command receives them as ``chosen``."""

    @wraps(command)
    def with_filters(
        *,
        channel: str | None,
        architecture: str | None,
        region: str | None,
        account: str | None,
        state: str | None,
        since: datetime | None,
        before: datetime | None,
        **others: Any,
    ) -> _R:
        return command(chosen=Filters(channel, architecture, region, account, state, since, before), **others)

    return with_options(
        with_filters,
        click.option(
            "--channel",
            metavar="CHANNEL",
            shell_complete=completing.channels,
            help="Only releases that this channel points to.",
        ),
        click.option(
            "--architecture", type=click.Choice(["x86_64", "arm64"]), help="Only releases with such an image."
        ),
        click.option("--region", metavar="REGION", help="Only releases with an image in this region."),
        click.option("--account", metavar="ACCOUNT", help="Only releases with an image in this account."),
        click.option(
            "--state",
            type=click.Choice(["usable", "revoked", "retired", "pinned", "deprecated"]),
            help="Only releases in this state. Usable: neither revoked nor retired.",
        ),
        click.option(
            "--since",
            metavar="TIME",
            callback=_moment,
            help="Only releases built since this date, or in this time (30d).",
        ),
        click.option(
            "--before",
            metavar="TIME",
            callback=_moment,
            help="Only releases built before this date, or longer ago (30d).",
        ),
    )
