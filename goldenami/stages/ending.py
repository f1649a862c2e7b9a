"""How a build ends: released; failed, with what is of no use deleted; or interrupted, with everything deleted."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from goldenami import reconcile
from goldenami.errors import (
    CloudError,
    GoldenAmiError,
    HostLost,
    Interrupted,
    TargetsFailed,
)
from goldenami.events import emit
from goldenami.journal import Ending
from goldenami.release.catalog import Catalog
from goldenami.stages.build import BuildContext
from goldenami.stages.opening import owned_by_release
from goldenami.stages.tools import Tools

# What a resume can use again. The rest (instances, groups, key pairs) costs money or is a way in, and is made anew.
_WORTH_KEEPING = frozenset({"image", "snapshot", "grant", "parameter"})


@contextmanager
def ending(build: BuildContext, tools: Tools) -> Iterator[None]:
    """Carry out a build inside of this. After a failure of the recipe or its tests everything the build made is
    deleted; after one of the cloud, a host or single targets, images are kept for a resume. "keep" deletes nothing,
    and so does the end of the credentials or of the journal, after which nothing could be deleted properly."""
    started = time.monotonic()

    def finished(status: str, error: str | None = None) -> None:
        emit(build.emit, "build.finished", status=status, seconds=round(time.monotonic() - started, 1), error=error)

    try:
        yield
    except (KeyboardInterrupt, Interrupted) as interrupt:
        tools.interrupts.clean_up()
        build.note("interrupted: deleting what this build made", "warning")
        complete = _delete(build, tools.catalog, keep_images=False)
        _finish(build, "cleaned" if complete else "failed")
        finished("interrupted")
        what = "everything it made is deleted" if complete else "not everything it made could be deleted"
        hint = None if complete else f"To delete the rest: goldenami clean {build.journal.build_id}"
        raise Interrupted(f"build {build.journal.build_id} was interrupted; {what}", hint=hint) from interrupt
    except Exception as error:  # a mistake of this program must not leave anything running either
        if isinstance(error, GoldenAmiError) and not error.can_clean_up:
            # Nothing is deleted by halves: all is left for a resume.
            _finish(build, "failed", error=str(error))
            finished("failed", str(error))
            error.hint = f"{error.hint or ''} Then: `goldenami resume {build.journal.build_id}`".strip()
            raise
        tools.interrupts.clean_up()
        resumable = isinstance(error, (TargetsFailed, CloudError, HostLost))
        if tools.on_failure == "clean":
            _delete(build, tools.catalog, keep_images=resumable)
        _finish(build, "failed", error=str(error))
        finished("failed", str(error))
        raise
    else:
        finished("released")


def _finish(build: BuildContext, status: Ending, **data: str) -> None:
    """Write down how it ended, if that is possible: what cannot be written stays unfinished, and is found as such."""
    with suppress(GoldenAmiError):
        build.journal.finish(status, **data)


def _delete(build: BuildContext, catalog: Catalog, *, keep_images: bool) -> bool:
    """Whether all of it is gone. A failure to clean up must not hide the failure that made it necessary."""
    try:
        keep = owned_by_release(catalog, build.journal)
        if keep_images:
            keep |= {r.id for r in build.journal.resources() if r.kind in _WORTH_KEEPING}
        return reconcile.delete_all(build.cloud, build.journal, keep=keep, emit=build.emit).complete
    except GoldenAmiError as error:
        build.note(f"the clean-up stopped: {error.message}", "warning")
        return False
