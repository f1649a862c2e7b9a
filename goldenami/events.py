"""The events of a build or task while it runs, in order.

Producers call an ``Emit`` with an ``Event``; they never print. Consumers (``report/``) print or record the events, and
must accept unknown kinds. The kinds and their fields:

=====================  ==========================================================================
kind                   fields
=====================  ==========================================================================
build.started          recipe, version, environment, digest, build_id, caller, targets (list of labels),
                       expected (the stages in their order; each has stage, architecture or "", and, if past builds
                       are known, seconds and left: how long it took, and the time from its start to the build's end)
build.skipped          reason, release
build.finished         status ("released" | "unchanged" | "failed" | "interrupted"), seconds, exit_code, [error]
task.started           task (the words of the command), id, caller
stage.started          stage, [architecture], [beside (True: other stages run at the same time)]
stage.finished         stage, [architecture], status ("ok" | "failed"), seconds, [detail]
operation.started      index (from 1), total, title, place, [architecture], [host]
operation.finished     index, total, title, place, status ("ok" | "changed" | "failed" | "skipped"), seconds, [detail]
operation.output       line (one line that the running operation printed), [index]
target.progress        target, architecture, state, percent (0 to 100 or None), [image_id], [detail]
tests.started          gate, total, architecture
test.started           gate, name, architecture
test.finished          gate, name, outcome ("passed" | "failed" | "skipped" | "flaky"), seconds, [message],
                       [architecture], [place]
tests.finished         gate, passed, failed, skipped, flaky, not_executed (of the skipped), seconds, architecture
host.launched          purpose ("builder" | "proof"), architecture, instance_id
host.replaced          purpose ("builder" | "proof"), architecture, instance_id, reason, number, limit
cloud.call             action, account, region, [resource]      (mutations only)
note                   message, [level: "info" | "warning"]
=====================  ==========================================================================
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final

from goldenami.masking import masker

SCHEMA: Final = "goldenami.events/1"
"""The schema of events as JSON lines. Readers must ignore kinds and fields that they do not support."""


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


def to_line(event: Event, at: datetime) -> str:
    """Return an event as one line of JSON: schema, time (ISO 8601, UTC, milliseconds), kind, and its fields."""
    moment = at.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    record = {"schema": SCHEMA, "time": moment, "kind": event.kind}
    return json.dumps(record | {k: v for k, v in event.fields.items() if k not in record}, default=str) + "\n"


def from_line(line: str | bytes) -> tuple[datetime, Event] | None:
    """Return the time and the event of a line of ``to_line``; None for another line, for example a torn one."""
    try:
        record = json.loads(line)
        at = datetime.fromisoformat(record.pop("time"))
        known = record.pop("schema") == SCHEMA and at.tzinfo is not None
        return (at, Event(str(record.pop("kind")), record)) if known else None
    except (ValueError, KeyError, TypeError, AttributeError):
        return None


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
