"""The events of a build or task while it runs, in order.

Producers call an ``Emit`` with an ``Event``; they never print. Consumers (``report/``) print or record the events, and
must accept unknown kinds. The kinds and their fields:

=====================  ==========================================================================
kind                   fields
=====================  ==========================================================================
build.started          recipe, version, environment, digest, targets (list of labels)
build.skipped          reason, release
build.finished         status ("released" | "failed" | "interrupted"), seconds, [error]
task.started           task (the words of the command), id, caller
stage.started          stage, [architecture]
stage.finished         stage, [architecture], status ("ok" | "failed"), seconds, [detail]
operation.started      index (from 1), total, title, place, [architecture], [host]
operation.finished     index, total, title, place, status ("ok" | "changed" | "failed" | "skipped"), seconds, [detail]
operation.output       line (one line that the running operation printed), [index]
target.progress        target, architecture, state, percent (0 to 100 or None), [image_id], [detail]
tests.started          gate, total, architecture
test.started           gate, name, architecture
test.finished          gate, name, outcome ("passed" | "failed" | "skipped" | "flaky"), seconds, [message],
                       [architecture], [place]
tests.finished         gate, passed, failed, skipped, flaky, seconds, architecture
host.replaced          purpose ("builder" | "proof"), architecture, instance_id, reason, number, limit
cloud.call             action, account, region, [resource]      (mutations only)
note                   message, [level: "info" | "warning"]
=====================  ==========================================================================
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from goldenami.masking import masker


@dataclass(frozen=True, slots=True)
class Event:
    """One event. ``fields`` contains JSON values only, and no secret. The consumer adds the time."""

    kind: str
    fields: Mapping[str, Any] = field(default_factory=dict)


Emit = Callable[[Event], None]


def ignore_events(event: Event) -> None:
    """Ignore an event: the Emit of callers that need no events."""


def emit(to: Emit, kind: str, **fields: Any) -> None:
    """Send one event to a consumer. Fields that are None are omitted."""
    to(Event(kind, {k: v for k, v in fields.items() if v is not None}))


_MASK = "********"
_SHORTEST_SECRET = 4  # characters; a shorter secret may be part of many ordinary words


def mask(text: str, secrets: Sequence[str]) -> str:
    """Replace secrets in a text by asterisks, also line by line and in the forms of ``masking``."""
    return masker(frozenset(secrets), _MASK, _SHORTEST_SECRET)(text)


def masked(to: Emit, secrets: Sequence[str]) -> Emit:
    """Return an Emit that masks secrets in all fields of an event, nested ones too, and passes the event on."""

    def clean(value: Any) -> Any:
        if isinstance(value, str):
            return mask(value, secrets)
        if isinstance(value, Mapping):
            return {key: clean(inner) for key, inner in value.items()}
        if isinstance(value, list | tuple):
            return [clean(inner) for inner in value]
        return value

    return lambda event: to(Event(event.kind, clean(event.fields)))
