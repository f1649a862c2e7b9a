"""The kinds of events, and what each of them means."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, Literal

What = Literal[
    "release",
    "failure",
    "promotion",
    "rollback",
    "revocation",
    "restoration",
    "deprecation",
    "waiver",
    "vulnerability",
    "test",
]
# What a receiver can ask for. Everybody gets a test.
EVENTS: Final[Mapping[str, str]] = {
    "release": "a build made a release, and moved its channel",
    "failure": "a build, or a command that moves a channel, failed or was interrupted",
    "promotion": "a channel was pointed to a release by `promote`, or by a build with the inputs of that release",
    "rollback": "a channel was pointed back to an earlier release",
    "revocation": "a release was revoked",
    "restoration": "the revocation of a release ended",
    "deprecation": "a release is deprecated, disabled or deleted by `retire`",
    "waiver": "a build uses a waiver of a hardening control that ends soon",
    "vulnerability": "`scan --tell` found vulnerabilities of a release that it has not told yet",
}
