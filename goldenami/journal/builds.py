"""The builds of an environment: what there is to list, to resume and to clean."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from goldenami.errors import JournalError, NotFound
from goldenami.journal.log import FILE
from goldenami.journal.records import Header, Resource, replay


@dataclass(frozen=True, slots=True)
class Summary:
    """One build as ``builds list`` shows it. ``ending``: None while unfinished. ``problem``: why it cannot be read."""

    build_id: str
    directory: Path
    header: Header | None
    ending: str | None
    resources: tuple[Resource, ...]
    unresolved: int
    problem: str | None = None


class Journals:
    """All builds under one directory (an environment's ``builds``)."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def list(self) -> tuple[Summary, ...]:
        """Every build, oldest first, read without its lock. A damaged one is listed with its problem."""
        if not self.directory.is_dir():
            return ()
        return tuple(self.read(path.name) for path in sorted(self.directory.iterdir()) if (path / FILE).exists())

    def read(self, build_id: str) -> Summary:
        """One build, read without its lock. Raises NotFound."""
        path = self.directory / build_id / FILE
        try:
            header, state, _, _ = replay(path.read_bytes(), path)
        except FileNotFoundError:
            raise NotFound(
                f"there is no build {build_id} in {self.directory}",
                hint="`goldenami builds list` names those there are.",
            ) from None
        except JournalError as error:
            return Summary(build_id, path.parent, None, None, (), 0, error.message)
        ending = state.ending["status"] if state.ending is not None else None
        return Summary(build_id, path.parent, header, ending, state.resources(), len(state.unresolved()))

    def unfinished(self, *, recipe: str | None = None, plan_digest: str | None = None) -> tuple[Summary, ...]:
        """Builds that did not end, or that failed and left something: those to resume or to clean. Oldest first."""
        return tuple(
            s
            for s in self.list()
            if s.header is not None
            and (s.ending is None or (s.ending == "failed" and (s.resources or s.unresolved)))
            and (recipe is None or s.header.recipe == recipe)
            and (plan_digest is None or s.header.plan_digest == plan_digest)
        )
