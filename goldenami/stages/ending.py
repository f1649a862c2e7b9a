"""Ends a build: it was released, it failed, or it was interrupted. Deletes what the build does not need any more."""

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
from goldenami.nextstep import step
from goldenami.release.catalog import Catalog
from goldenami.stages import notices
from goldenami.stages.build import BuildContext
from goldenami.stages.opening import owned_by_release
from goldenami.stages.tools import Tools

# Kinds that a resume uses again. Instances cost money, and groups and key pairs give access: a resume creates new ones.
_REUSABLE = frozenset({"image", "snapshot", "grant", "parameter"})


@contextmanager
def ending(build: BuildContext, tools: Tools) -> Iterator[None]:
    """Run a build inside this context, and clean up after it.

    After an error of the recipe or its tests, all resources of the build are deleted. After an error of the cloud, a
    host or single targets, the images are kept for a resume, if one may succeed (``can_resume``). ``on_failure`` "keep"
    deletes nothing. Nothing is deleted either if the credentials expired or the journal cannot be written, because a
    clean-up would be incomplete then.
    """
    started = time.monotonic()

    def finished(status: str, error: str | None = None) -> None:
        emit(build.emit, "build.finished", status=status, seconds=round(time.monotonic() - started, 1), error=error)

    try:
        yield
    except (KeyboardInterrupt, Interrupted) as interrupt:
        tools.interrupts.clean_up()
        build.note("interrupted: deleting the resources of this build", "warning")
        complete = _delete(build, tools.catalog, keep_images=False)
        notices.failed(build, None)
        _finish(build, "cleaned" if complete else "failed")
        finished("interrupted")
        what = "everything it made is deleted" if complete else "not everything it made could be deleted"
        hint = None if complete else f"{step('clean', build.journal.build_id)} deletes the rest."
        raise Interrupted(f"build {build.journal.build_id} was interrupted; {what}", hint=hint) from interrupt
    except Exception as error:  # also after a defect of this program: no instance may keep running
        if isinstance(error, GoldenAmiError) and not error.can_clean_up:
            # An incomplete clean-up would make a resume impossible, so all resources are kept.
            _tell(build, tools, error)
            _finish(build, "failed", error=str(error))
            finished("failed", str(error))
            error.hint = f"{error.hint or ''} Then: {step('resume', build.journal.build_id)}".strip()
            raise
        tools.interrupts.clean_up()
        resumable = isinstance(error, (TargetsFailed, CloudError, HostLost)) and error.can_resume
        if tools.on_failure == "clean":
            _delete(build, tools.catalog, keep_images=resumable)
        _tell(build, tools, error)
        hopeless = isinstance(error, GoldenAmiError) and not error.can_resume
        _finish(build, "failed", error=str(error), **({"can_resume": False} if hopeless else {}))
        finished("failed", str(error))
        raise
    else:
        finished("released")


def _tell(build: BuildContext, tools: Tools, error: Exception) -> None:
    tools.told.append(error)
    notices.failed(build, error)


def _finish(build: BuildContext, status: Ending, **data: object) -> None:
    """Record how the build ended. If the journal cannot be written, the build stays unfinished."""
    with suppress(GoldenAmiError):
        build.journal.finish(status, **data)


def _delete(build: BuildContext, catalog: Catalog, *, keep_images: bool) -> bool:
    """Delete the resources of the build; return whether all are deleted.

    An error of the clean-up is a note, so that it does not hide the error of the build.
    """
    try:
        keep = owned_by_release(catalog, build.journal)
        if keep_images:
            keep |= {r.id for r in build.journal.resources() if r.kind in _REUSABLE}
        return reconcile.delete_all(
            build.cloud, build.journal, build.ledger.proofs, keep=keep, emit=build.emit
        ).complete
    except GoldenAmiError as error:
        build.note(f"the clean-up stopped: {error.message}", "warning")
        return False
