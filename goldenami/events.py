"""What a build says while it runs: plain facts, in order, for whoever renders or records them.

Producers call an ``Emit`` with an ``Event``; they never print. Consumers (``report/``) must accept kinds they do not know.
``kind`` is dotted, and the fields of each kind are its contract:

=====================  ==========================================================================
kind                   fields
=====================  ==========================================================================
build.started          recipe, version, environment, digest, targets (list of labels)
build.skipped          reason, release
build.finished         status ("released" | "failed" | "interrupted"), seconds, [error]
stage.started          stage, [architecture]
stage.finished         stage, [architecture], status ("ok" | "failed"), seconds, [detail]
operation.started      index, total, title, place, [architecture], [host]
operation.finished     index, total, title, place, status ("ok" | "changed" | "failed" | "skipped"), seconds, [detail]
operation.output       line (one line that the running operation printed), [index]
target.progress        target, architecture, state, percent (0 to 100 or None), [image_id], [detail]
test.finished          gate, name, outcome ("passed" | "failed" | "skipped" | "flaky"), seconds, [message]
cloud.call             action, account, region, [resource]      (mutations only)
note                   message, [level: "info" | "warning"]
=====================  ==========================================================================
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Event:
    """One fact. ``fields`` holds JSON values only, and never a secret. The consumer adds the time."""

    kind: str
    fields: Mapping[str, Any] = field(default_factory=dict)


Emit = Callable[[Event], None]


def silent(event: Event) -> None:
    """An Emit for callers that do not listen."""


def emit(to: Emit, kind: str, **fields: Any) -> None:
    """Send one event; fields that are None are left out."""
    to(Event(kind, {k: v for k, v in fields.items() if v is not None}))
