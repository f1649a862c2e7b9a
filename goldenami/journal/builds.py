"""The journals of an environment: list, create, open and lock them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from goldenami.each import all_of, parts
from goldenami.errors import JournalError, NotFound
from goldenami.journal.log import Journal
from goldenami.journal.records import Header, Intent, Resource, Result, replay, utc_now, walk
from goldenami.journal.storage import Storage
from goldenami.nextstep import step
from goldenami.store import Holder, Wait

_AT_ONCE: Final = Wait()
_BATCH: Final = 32  # journals that are read together
_READERS: Final = 8  # threads; to read a journal in a bucket takes some requests


@dataclass(frozen=True, slots=True)
class Summary:
    """One build or task as ``builds list`` shows it. ``ending``: None while unfinished. ``problem``: why the journal
    cannot be read. ``directory``: where this machine keeps its reports. ``calls``: all mutating calls, in order.
    ``can_resume``: False if the build failed for a reason that would stop a resume as well."""

    build_id: str
    directory: Path
    header: Header | None
    ending: str | None
    resources: tuple[Resource, ...]
    unresolved: int
    problem: str | None = None
    calls: tuple[tuple[Intent, Result | None], ...] = ()
    can_resume: bool = True


class Journals:
    """All journals of an environment. ``aws.journals.open_journals`` returns them. A directory can be given too.

    An opened or created journal is locked for this process until it is closed (use ``with``).
    """

    def __init__(self, where: Path | Storage, *, now: Callable[[], datetime] = utc_now) -> None:
        self.storage = Storage.in_directory(where, now=now) if isinstance(where, Path) else where
        self._now = now

    def where(self) -> str:
        """Return the address of the journals for messages: a path, or an s3:// URL."""
        return self.storage.where()

    def create(self, header: Header, *, secrets: Mapping[str, bytes] | None = None) -> Journal:
        """Create the journal of a new build or task, and lock it. ``secrets``: see ``Journal.create``. Raises
        JournalError if it exists or cannot be written."""
        return Journal.create(self.storage, header, secrets=secrets, now=self._now)

    def open(self, build_id: str, turn: Wait = _AT_ONCE) -> Journal:
        """Lock a journal, replay it and prepare it for more records. Raises NotFound, JournalError if it is damaged,
        and Busy if another process still holds the lock after ``turn``."""
        return turn.take(lambda: Journal.open_in(self.storage, build_id, now=self._now))

    def list(self) -> tuple[Summary, ...]:
        """Return all builds and tasks, oldest first, read without their locks. A damaged one has a ``problem``."""
        return self._read_all(self.storage.names())

    def newest(self, since: datetime | None = None) -> Iterator[Summary]:
        """Yield builds and tasks, newest first, read when they are needed. ``since``: only those that began then or
        later. A damaged one has a ``problem``."""
        names = sorted(self.storage.names(), reverse=True)
        # Ids begin with the time. A damaged journal has no other time.
        first = f"{since.astimezone(UTC):%Y%m%d-%H%M%S}" if since is not None else ""
        names = [name for name in names if name >= first]
        for part in parts(names, _BATCH):
            yield from self._read_all(part)

    def forget_events(self, before: datetime, *, dry_run: bool = False) -> tuple[str, ...]:
        """Delete the logs of events of builds that ended, if their last run began before a time. Their journals stay.
        Return the ids of these builds. ``dry_run``: delete nothing."""
        done = []
        for build_id in self.storage.names():
            if build_id >= f"{before.astimezone(UTC):%Y%m%d-%H%M%S}":
                continue
            events = self.storage.events(build_id)
            started = events.started()
            if started is None or started >= before:
                continue
            found = self._read(build_id)
            if found is not None and found.header is not None and found.ending not in (None, "failed"):
                if not dry_run:
                    events.delete()
                done.append(build_id)
        return tuple(done)

    def read(self, build_id: str) -> Summary:
        """Return one build or task, read without its lock. Raises NotFound."""
        found = self._read(build_id)
        if found is None:
            raise NotFound(
                f"there is no build {build_id} in {self.where()}",
                hint=f"Run {step('builds list')} to see all builds.",
            )
        return found

    def holder(self, build_id: str) -> Holder | None:
        """Return the process that holds the lock of a build; None if the lock is free."""
        return self.storage.holder(build_id)

    def unfinished(self, *, recipe: str | None = None, plan_digest: str | None = None) -> tuple[Summary, ...]:
        """Return the builds to resume or to clean, oldest first: those without an end, and those that failed and left
        resources or unresolved calls."""
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
        """Hold the lock of a name inside a ``with`` block (the name of a recipe: one build of it at a time). Raises
        Busy, with the holder, if another process still holds the lock after ``turn``."""
        with ExitStack() as stack:
            turn.take(lambda: stack.enter_context(self.storage.lock(name)))
            yield

    def _read_all(self, names: Sequence[str]) -> tuple[Summary, ...]:
        return tuple(s for s in all_of(names, self._read, at_once=_READERS) if s is not None)

    def _read(self, build_id: str) -> Summary | None:
        directory = self.storage.directory(build_id)
        try:
            content = self.storage.read(build_id)
            if content is None:
                return None
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
            can_resume=state.ending is None or bool(state.ending.get("data", {}).get("can_resume", True)),
        )
