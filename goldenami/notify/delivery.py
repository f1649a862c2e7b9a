"""Records events in the journal, and sends them to the receivers of the environment::

    notify.due(work, make("release", …))     the state is true: record the event in the journal of the build or task
    notify.deliver(work)                     send what is recorded and was not sent yet

A notification never makes work fail, and has a time limit: a failure is a warning, and :func:`unsent` returns it. An
event is sent at least once. If the process is killed between the two calls, or in the second one, the next process that
opens the journal sends it (``resume``, ``clean``, or the next task of the same kind), with the same id.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping, Sequence
from typing import Final

from goldenami.aws import secretsources
from goldenami.aws.ledger import Ledger
from goldenami.aws.limits import Retry
from goldenami.errors import GoldenAmiError, Interrupted
from goldenami.journal import Journal
from goldenami.model import Environment, Receiver, SecretSource, Webhook
from goldenami.notify.document import EventDocument, EventWaiver, channel, id_of, make, reason_of
from goldenami.notify.senders import Post, send
from goldenami.work import JournaledWork

__all__ = [
    "EventDocument",
    "EventWaiver",
    "answers",
    "channel",
    "deliver",
    "drop",
    "due",
    "id_of",
    "is_wanted",
    "make",
    "number_of",
    "reason_of",
    "unsent",
]

LONGEST: Final = 60.0  # seconds for all notifications of a build or task
AT_INTERRUPT: Final = 3.0  # the same after Ctrl-C
_MARGIN: Final = 0.5  # seconds after which a sender that passed its own limit is left behind

# The names of stages in the journal.
_INDEX, _EVENT, _SENT, _UNSENT = "notify", "notify/event/", "notify/sent/", "notify/unsent"


def is_wanted(environment: Environment, event: EventDocument) -> bool:
    """Return whether a receiver of the environment gets an event."""
    return any(_gets(receiver, event) for receiver in environment.notify)


def _gets(receiver: Receiver, event: EventDocument) -> bool:
    if event.event == "test":
        return True
    return (
        event.event in receiver.on
        and (not receiver.recipes or event.name in receiver.recipes)
        and (not receiver.channels or any(one.name in receiver.channels for one in event.channels))
    )


def due(work: JournaledWork, event: EventDocument) -> None:
    """Record an event whose state is true. A second call with the same id, or one that nobody gets, does nothing."""
    ids = _ids(work.journal)
    if event.id not in ids and is_wanted(work.environment, event):
        work.journal.stage_done(f"{_EVENT}{event.id}", event=event.to_json())
        work.journal.stage_done(_INDEX, ids=[*ids, event.id])


def number_of(journal: Journal) -> int:
    """Return how many events a journal has, for the id of one that can happen again."""
    return len(_ids(journal))


def _ids(journal: Journal) -> list[str]:
    return list((journal.stage(_INDEX) or {}).get("ids", ()))


def drop(journal: Journal) -> None:
    """Forget the recorded events: the end of the task does not try again what failed."""
    journal.stage_done(_INDEX, ids=[])


def unsent(journal: Journal) -> Mapping[str, str]:
    """Return the receivers that did not get a notification of a build or task, with the reasons."""
    return dict((journal.stage(_UNSENT) or {}).get("receivers", {}))


def answers(journal: Journal) -> Mapping[str, str]:
    """Return what the receivers of the last event answered, by name."""
    return _sent(journal, _ids(journal)[-1]) if _ids(journal) else {}


def _sent(journal: Journal, id: str) -> dict[str, str]:
    return dict((journal.stage(f"{_SENT}{id}") or {}).get("receivers", {}))


def deliver(work: JournaledWork, *, seconds: float = LONGEST, only: str | None = None) -> None:
    """Send the recorded events to the receivers that did not get them yet, for at most so many seconds.

    ``only``: the name of one receiver. Raises no GoldenAmiError. A receiver that failed gets no further event of this
    call.
    """
    failures: dict[str, str] = {}
    try:
        _deliver(work, time.monotonic() + seconds, only, failures)
    except (KeyboardInterrupt, Interrupted):
        work.note("interrupted: not all notifications were sent", "warning")
    except GoldenAmiError as error:  # the journal cannot be written; the work itself meets that too
        work.note(f"notifications were not sent: {error.message}", "warning")


def _deliver(work: JournaledWork, deadline: float, only: str | None, failures: dict[str, str]) -> None:
    journal = work.journal
    for id in _ids(journal):
        event = EventDocument.model_validate((journal.stage(f"{_EVENT}{id}") or {})["event"])
        sent = _sent(journal, id)
        chosen = [
            one
            for one in work.environment.notify
            if _gets(one, event) and one.name not in {*sent, *failures} and only in (None, one.name)
        ]
        if not chosen:
            continue
        new, failed = _send_all(work, event, chosen, deadline)
        if new:
            journal.stage_done(f"{_SENT}{id}", receivers={**sent, **new})
            work.note(f"notified of {event.event}: {', '.join(sorted(new))}")
        for name, reason in failed.items():
            work.note(f"notify: {name} did not get the event {event.event}: {reason}", "warning")
        failures |= failed
    if failures or unsent(journal):
        journal.stage_done(_UNSENT, receivers=failures)


def _send_all(
    work: JournaledWork, event: EventDocument, receivers: Sequence[Receiver], deadline: float
) -> tuple[dict[str, str], dict[str, str]]:
    """Send an event to all receivers at once. Return their answers, and the reasons of failures, by name."""
    ledger = _hurried(work)
    results: dict[str, str | BaseException] = {}

    def run(receiver: Receiver, until: float) -> None:
        try:
            post = Post(
                ledger,
                work.environment.home.id,
                f"notify/{event.id}/{receiver.name}",
                _secrets(work, receiver),
                until,
            )
            results[receiver.name] = send(receiver.to, event, post)
        except BaseException as error:  # raised in the caller's thread, or told
            results[receiver.name] = error

    threads = []
    for receiver in receivers:
        until = min(deadline, time.monotonic() + receiver.timeout)
        thread = threading.Thread(target=run, args=(receiver, until), name=f"notify {receiver.name}", daemon=True)
        thread.start()
        threads.append((receiver, thread, until + _MARGIN))
    for _, thread, until in threads:
        thread.join(max(0.0, until - time.monotonic()))
    found = {receiver.name: results.get(receiver.name) for receiver in receivers}
    for result in found.values():
        if isinstance(result, BaseException) and not isinstance(result, Exception):
            raise result
    sent = {name: result for name, result in found.items() if isinstance(result, str)}
    failed = {name: _reason(result) for name, result in found.items() if not isinstance(result, str)}
    return sent, failed


def _reason(error: BaseException | None) -> str:
    if error is None:
        return "it did not answer in time"
    if isinstance(error, GoldenAmiError):
        return error.message
    return f"it failed ({type(error).__name__})"  # the text of any other error may have an address with a secret


def _hurried(work: JournaledWork) -> Ledger:
    """Return the ledger of the work with short limits for retries."""
    retry = Retry(throttled=5.0, unreachable=5.0, queued=5.0)
    return Ledger(work.cloud, work.journal, proofs=work.ledger.proofs, emit=work.emit, retry=retry)


def _secrets(work: JournaledWork, receiver: Receiver) -> dict[SecretSource, str]:
    """Read the secrets of a receiver. Raises NotFound for one that is missing or empty."""
    if not isinstance(receiver.to, Webhook):
        return {}
    every = [one for one in (receiver.to.url, *receiver.to.headers.values()) if isinstance(one, SecretSource)]
    return {one: secretsources.read(work.cloud, one) for one in every}
