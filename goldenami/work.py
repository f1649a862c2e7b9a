"""What a build and a task have in common: they work for an environment, through a ledger, and tell what they do."""

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
class Work:
    """Something that changes the cloud. Frozen; what changes is in the journal."""

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


def told(emit_to: Emit, *, prefix: str = "") -> Callable[[object, GoldenAmiError], None]:
    """What ``each`` and ``Failures`` call with a failure: it becomes a warning that begins with ``prefix``."""

    def on_failure(item: object, error: GoldenAmiError) -> None:
        emit(emit_to, "note", message=f"{prefix}{item}: {error.message}", level="warning")

    return on_failure


class Attempts:
    """Steps of which none stops the others. ``failures``: the reasons of those that failed, by step."""

    def __init__(self, emit_to: Emit = ignore_events, *, prefix: str = "") -> None:
        """``emit_to`` is told of each failure as a warning, which begins with ``prefix``."""
        collected = Failures[str](told(emit_to, prefix=prefix))
        self.failures = collected.reasons
        self.attempt = collected.of  # one step; raises what ends everything
