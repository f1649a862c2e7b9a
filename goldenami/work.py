"""The base class of builds and tasks: journaled work for an environment, through a ledger, that emits events."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from goldenami.aws.ledger import Ledger
from goldenami.aws.session import Cloud
from goldenami.each import Failures
from goldenami.errors import GoldenAmiError
from goldenami.events import Emit, emit, ignore_events
from goldenami.journal import Journal
from goldenami.model import Environment


@dataclass(frozen=True, slots=True, kw_only=True)
class JournaledWork:
    """Work that changes the cloud: a build or a task. The object is frozen; its state is in the journal."""

    environment: Environment
    ledger: Ledger
    emit: Emit

    @property
    def cloud(self) -> Cloud:
        return self.ledger.cloud

    @property
    def journal(self) -> Journal:
        return self.ledger.journal

    def note(self, message: str, level: str = "info") -> None:
        emit(self.emit, "note", message=message, level=level)


def failure_warnings(emit_to: Emit, *, prefix: str = "") -> Callable[[object, GoldenAmiError], None]:
    """Return an ``on_failure`` function for ``each`` and ``Failures``. It emits each failure as a warning that begins
    with ``prefix``."""

    def on_failure(item: object, error: GoldenAmiError) -> None:
        emit(emit_to, "note", message=f"{prefix}{item}: {error.message}", level="warning")

    return on_failure


class Attempts:
    """Runs steps that do not stop each other. ``failures``: the reasons of the failed steps, by step."""

    def __init__(self, emit_to: Emit = ignore_events, *, prefix: str = "") -> None:
        """``emit_to`` gets each failure as a warning that begins with ``prefix``."""
        collected = Failures[str](failure_warnings(emit_to, prefix=prefix))
        self.failures = collected.reasons
        self.attempt = collected.of  # runs one step (``with``); raises errors that end everything
