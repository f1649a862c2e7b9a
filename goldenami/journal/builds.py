"""The builds of an environment: what there is to list, to resume and to clean."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Final

from goldenami.each import all_of
from goldenami.errors import JournalError, NotFound
from goldenami.journal.log import Journal
from goldenami.journal.records import Header, Intent, Resource, Result, replay, utc_now, walk
from goldenami.journal.storage import Storage
from goldenami.store import Holder, Wait

_AT_ONCE: Final = Wait()
_READERS: Final = 8  # threads; journals in a bucket are a few requests away each


@dataclass(frozen=True, slots=True)
class Summary:
    """One build as ``builds list`` shows it. ``ending``: None while unfinished. ``problem``: why it cannot be read.
    ``directory``: where this machine keeps what else belongs to it. ``calls``: all of them, in order."""

    build_id: str
    directory: Path
    header: Header | None
    ending: str | None
    resources: tuple[Resource, ...]
    unresolved: int
    problem: str | None = None
    calls: tuple[tuple[Intent, Result | None], ...] = ()


class Journals:
    """All journals of an environment. ``aws.journals.open_journals(environment)`` returns them; a directory works too.

    A journal that is opened or created is locked for this process until it is closed (use ``with``).
    """

    def __init__(self, where: Path | Storage, *, now: Callable[[], datetime] = utc_now) -> None:
        self.storage = Storage.in_directory(where, now=now) if isinstance(where, Path) else where
        self._now = now

    def where(self) -> str:
        """How a person finds them."""
        return self.storage.where()

    def create(self, header: Header) -> Journal:
        """Start the journal of a new build, or of any work that is to survive its process. Raises JournalError."""
        return Journal.create(self.storage, header, now=self._now)

    def open(self, build_id: str, turn: Wait = _AT_ONCE) -> Journal:
        """Lock a journal, replay it and make it ready for more. Raises NotFound, JournalError for damage, and Busy when
        the patience with who works on it is at its end."""
        return turn.take(lambda: Journal.open_in(self.storage, build_id, now=self._now))

    def list(self) -> tuple[Summary, ...]:
        """Every build, oldest first, read without its lock. A damaged one is listed with its problem."""
        return self._read_all(self.storage.names())

    def read(self, build_id: str) -> Summary:
        """One build, read without its lock. Raises NotFound."""
        found = self._read(build_id)
        if found is None:
            raise NotFound(
                f"there is no build {build_id} in {self.where()}",
                hint="Run `goldenami builds list` to see all builds.",
            )
        return found

    def holder(self, build_id: str) -> Holder | None:
        """Who works on a build now; None if nobody does."""
        return self.storage.holder(build_id)

    def unfinished(self, *, recipe: str | None = None, plan_digest: str | None = None) -> tuple[Summary, ...]:
        """Builds that did not end, or that failed and left something: those to resume or to clean. Oldest first."""
        return tuple(
            s
            for s in self._read_all(self.storage.names(unfinished=True))
            if s.header is not None
            and (s.ending is None or (s.ending == "failed" and (s.resources or s.unresolved)))
            and (recipe is None or s.header.recipe == recipe)
            and (plan_digest is None or s.header.plan_digest == plan_digest)
        )

    @contextmanager
    def exclusive(self, name: str, turn: Wait = _AT_ONCE) -> Iterator[None]:
        """Hold the lock of a name (a recipe's: one build of it at a time). Raises Busy, which says who holds it, when
        the patience is at its end."""
        with ExitStack() as stack:
            turn.take(lambda: stack.enter_context(self.storage.lock(name)))
            yield

    def _read_all(self, names: Sequence[str]) -> tuple[Summary, ...]:
        return tuple(s for s in all_of(names, self._read, at_once=_READERS) if s is not None)

    def _read(self, build_id: str) -> Summary | None:
        content = self.storage.read(build_id)
        if content is None:
            return None
        directory = self.storage.directory(build_id)
        try:
            header, state, _, _ = replay(content, self.storage.where(build_id))
        except JournalError as error:
            return Summary(build_id, directory, None, None, (), 0, error.message)
        ending = state.ending["status"] if state.ending is not None else None
        return Summary(
            build_id,
            directory,
            header,
            ending,
            state.resources(),
            len(state.unresolved()),
            calls=tuple(walk(state)),
        )
