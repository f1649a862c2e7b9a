"""Tests the receivers of an environment's notifications."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from goldenami import task
from goldenami.aws.session import Cloud
from goldenami.events import Emit, ignore_events
from goldenami.model import Environment, EventBus, Program, Topic, Webhook, timestamp
from goldenami.notify import delivery as notify

KIND: Final = "notify test"
_KINDS: Final = {EventBus: "eventbridge", Topic: "sns", Webhook: "webhook", Program: "command"}


@dataclass(frozen=True, slots=True)
class Tested:
    """What a receiver answered to a test, or why it did not get it."""

    name: str
    kind: str
    sent: bool
    answer: str


def send_test(
    environment: Environment,
    *,
    only: str | None = None,
    cloud: Cloud | None = None,
    emit_to: Emit = ignore_events,
) -> tuple[str, tuple[Tested, ...]]:
    """Send a test event to all receivers, or to one. Return the id of the task, and the answers."""
    with task.run(environment, KIND, {"to": only}, cloud=cloud, emit_to=emit_to) as job:
        event = notify.make(
            "test",
            id=notify.id_of(job.id, "test"),
            title="This is a test of the notifications",
            time=timestamp(job.cloud.now()),
            environment=environment.name,
            by=job.journal.header.data.get("caller"),
            task=job.id,
        )
        notify.due(job, event)
        notify.deliver(job, only=only)
        sent, unsent = notify.answers(job.journal), notify.unsent(job.journal)
        notify.drop(job.journal)
    return job.id, tuple(
        Tested(one.name, _KINDS[type(one.to)], one.name in sent, sent.get(one.name) or unsent.get(one.name, ""))
        for one in environment.notify
        if only in (None, one.name)
    )
