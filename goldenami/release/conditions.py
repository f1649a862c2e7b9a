"""Conditions for moving a channel (``channels`` in goldenami.yaml). Pure: reads no file and makes no API call."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from fnmatch import fnmatchcase
from typing import Final

from goldenami.model import ChannelRules, ImageManifest
from goldenami.release.catalogfiles import Channel, Move

_ASSUMED: Final = re.compile(r"(arn:aws[a-z-]*):sts::(\d{12}):assumed-role/([^/]+)/(.+)")
_SSO: Final = "AWSReservedSSO_"  # roles of IAM Identity Center, which sets the session name to the user's name


def unmet(
    rules: ChannelRules,
    manifest: ImageManifest,
    channels: Mapping[str, Channel],
    *,
    caller: str,
    reason: str | None,
    now: datetime,
    unsigned: Sequence[str] = (),
    vulnerabilities: Callable[[], Sequence[str]] | None = None,
) -> list[str]:
    """Return the conditions that a release and a caller do not meet, as text; empty if all are met.

    ``channels``: all channels of the release's name. ``caller``: an ARN, as GetCallerIdentity returns it.
    ``unsigned``: what is wrong with the signature of the release and the documents that it covers, if one is required.
    ``vulnerabilities``: returns what the policy of the environment does not accept; None: nobody can tell it. It is
    called only if all other conditions are met, because it takes longest.
    """
    found = [
        *_about_caller(rules, caller, reason),
        *(f"a trusted signature is required: {problem}" for problem in unsigned),
        *_about_source(rules, manifest, channels, now),
        *_about_second_person(rules, manifest, channels, caller),
    ]
    if rules.vulnerabilities and not found:
        return ["its vulnerabilities were not looked for"] if vulnerabilities is None else list(vulnerabilities())
    return found


def unmet_by_rollback(rules: ChannelRules, *, caller: str, reason: str | None) -> list[str]:
    """Return the conditions of a rollback that are not met: only those about the caller and the reason."""
    return _about_caller(rules, caller, reason)


def identity(arn: str) -> str:
    """Return the part of a caller's ARN that a caller cannot choose.

    The name of a role session is chosen by whoever assumes the role, except for roles of IAM Identity Center.
    """
    match = _ASSUMED.fullmatch(arn)
    if match is None or match[3].startswith(_SSO):
        return arn
    return f"{match[1]}:iam::{match[2]}:role/{match[3]}"


def _about_caller(rules: ChannelRules, caller: str, reason: str | None) -> list[str]:
    found = []
    names = {caller, identity(caller)}
    if rules.approvers and not any(fnmatchcase(name, pattern) for name in names for pattern in rules.approvers):
        found.append(f"{caller} is none of the approvers ({', '.join(rules.approvers)})")
    if rules.reason and not (reason or "").strip():
        found.append("a reason is required (--reason)")
    return found


def _about_source(
    rules: ChannelRules, manifest: ImageManifest, channels: Mapping[str, Channel], now: datetime
) -> list[str]:
    since = datetime.fromisoformat(manifest.created)
    where = "was built"
    if rules.sources:
        entered, problems = _entered(rules.sources, manifest.version, channels)
        if entered is None:
            return problems
        since = datetime.fromisoformat(entered[1].moved)
        where = f"came into {entered[0]}"
    left = rules.soak - (now - since)
    if left > timedelta():
        return [f"it {where} {_text(now - since)} ago, expected at least {_text(rules.soak)} ({_text(left)} are left)"]
    return []


def _entered(
    sources: tuple[str, ...], version: str, channels: Mapping[str, Channel]
) -> tuple[tuple[str, Move] | None, list[str]]:
    """Return the channel that a release came into first, with that move; or None and the reasons."""
    moves: list[tuple[str, Move]] = []
    rolled_back = []
    for name in sources:
        channel = channels.get(name)
        if channel is None:
            continue
        away = channel.rolled_back(version)
        if away is not None:
            rolled_back.append(f"it was moved out of {name} by a {away.action}" + _because(away))
            continue
        moves += [(name, move) for move in channel.history if move.version == version]
    if moves:
        return min(moves, key=lambda one: one[1].moved), []
    return None, rolled_back or [f"it was never in {' or '.join(sources)}"]


def _because(move: Move) -> str:
    return f": {move.reason}" if move.reason else ""


def _about_second_person(
    rules: ChannelRules, manifest: ImageManifest, channels: Mapping[str, Channel], caller: str
) -> list[str]:
    if not rules.second_person:
        return []
    builders = {
        move.by
        for channel in channels.values()
        for move in channel.history
        if move.version == manifest.version and move.action == "build" and move.build_id == manifest.build_id
    }
    known = {identity(by) for by in builders if by is not None}
    if not known:
        return ["a second person is required, and no record says who built it"]
    return [f"a second person is required, and {identity(caller)} built it"] if identity(caller) in known else []


def _text(span: timedelta) -> str:
    """Return a time span with its two largest units: "1 d 4 h", "35 min"."""
    minutes = -(-int(span.total_seconds()) // 60)
    days, hours, rest = minutes // 1440, minutes // 60 % 24, minutes % 60
    units = [(days, "d"), (hours, "h"), (rest, "min")]
    shown = [f"{number} {unit}" for number, unit in units if number][:2]
    return " ".join(shown) or "0 min"
