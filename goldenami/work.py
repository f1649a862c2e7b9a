"""What a build and a task have in common: they work for an environment, through a ledger, and tell what they do."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from goldenami.aws.ledger import Ledger
from goldenami.aws.session import Cloud
from goldenami.errors import GoldenAmiError, Interrupted, JournalError, UnjournaledMutation
from goldenami.events import Emit, emit, silent
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


class Attempts:
    """Steps of which none stops the others. ``failures``: the reasons of those that failed, by step."""

    def __init__(self, emit_to: Emit = silent, *, prefix: str = "") -> None:
        """``emit_to`` is told of each failure as a warning, which begins with ``prefix``."""
        self.failures: dict[str, str] = {}
        self._emit = emit_to
        self._prefix = prefix

    @contextmanager
    def attempt(self, what: str) -> Iterator[None]:
        """One step. Raises only what ends all of the work: an interruption, a journal that cannot be written, and what
        is a mistake of this program."""
        try:
            yield
        except (JournalError, UnjournaledMutation, Interrupted):
            raise
        except GoldenAmiError as error:
            self.failures[what] = error.message
            emit(self._emit, "note", message=f"{self._prefix}{what}: {error.message}", level="warning")
