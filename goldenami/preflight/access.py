"""Checks of the credentials: the caller, the roles, and the clock of this machine."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Final

from goldenami.aws import regions
from goldenami.each import Failures, each
from goldenami.preflight.context import Context
from goldenami.preflight.finding import Finding, Level, from_error

_RISKY: Final = timedelta(minutes=1)


def check_accounts(context: Context) -> Iterator[tuple[str, Finding]]:
    """Yield the id of each account whose credentials fail, with the finding."""
    needed = {target.account.id for target in context.targets if target.required} | {context.environment.home.id}
    used = {target.account.id for target in context.targets} | {context.environment.home.id}
    accounts = [account for account in context.environment.accounts.values() if account.id in used]
    for account, error in each(accounts, lambda account: context.cloud.check_account(account.id)).errors.items():
        path = ("home",) if account.id == context.environment.home.id else ("accounts", account.name)
        level: Level = "error" if account.id in needed else "warning"
        yield account.id, from_error("role", error, level=level, mark=context.mark(*path, "role"))


def check_regions(context: Context) -> Iterator[Finding]:
    """Each region exists and is enabled in its account."""
    failures: Failures[str] = Failures()
    for place, target in context.places().items():
        with failures.of(str(place)):
            regions.check(context.cloud, {place})
        if str(place) in failures.errors:
            level: Level = "error" if target is None else context.level(target)
            path = ("home", "region") if target is None else ("targets", target.label)
            yield from_error("region", failures.errors[str(place)], level=level, place=place, mark=context.mark(*path))


def check_clock(context: Context) -> Iterator[Finding]:
    """The clock of this machine agrees with the clock of AWS.

    AWS refuses requests whose time differs by more than 5 minutes ("Elements of an AWS API request signature"). That is
    a finding of the credentials; here the requests were accepted.
    """
    there = context.cloud.now()
    ahead = datetime.now(UTC) - there
    if abs(ahead) < _RISKY:
        return
    seconds = round(abs(ahead).total_seconds())
    direction = "ahead of" if ahead > timedelta(0) else "behind"
    yield Finding(
        "clock",
        "warning",
        f"the clock of this machine is {seconds} s {direction} the clock of AWS, which allows 300 s",
        "Set the clock, for example with NTP.",
    )
