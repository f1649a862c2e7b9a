"""Ends a build: it was released, it failed, or it was interrupted. Deletes what the build does not need any more."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

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
from goldenami.reading import Files
from goldenami.recipe.recipe import TestRef
from goldenami.release.catalog import Catalog
from goldenami.stages import logins, notices
from goldenami.stages.build import BuildContext
from goldenami.stages.opening import owned_by_release
from goldenami.stages.tools import Decide, Tools

_R = TypeVar("_R")

# Kinds that a resume uses again. Instances cost money, and groups and key pairs give access: a resume creates new ones.
_REUSABLE = frozenset({"image", "snapshot", "grant", "parameter"})


def to_the_end(
    build: BuildContext,
    tools: Tools,
    project: Path,
    work: Callable[[], _R],
    *,
    status: Callable[[_R], str],
    exit_code: Callable[[_R], int],
) -> _R:
    """Run the work of a build, clean up after it, and return its result.

    After an error of the recipe or its tests, all resources of the build are deleted. After an error of the cloud, a
    host or single targets, the images are kept for a resume, if one may succeed (``can_resume``). ``on_failure`` "keep"
    deletes nothing, and emits how to log in. A function as ``on_failure`` decides; after "retry" the work runs again in
    this process, which skips what is done, as a resume does. Nothing is deleted either if the credentials expired or
    the journal cannot be written, because a clean-up would be incomplete then. ``project``: its directory.
    ``status``, ``exit_code``: return how the build ended with a result, and the exit code of its command.
    """
    started = time.monotonic()

    def finished(how: str, code: int, error: Exception | None = None) -> None:
        seconds, reason = round(time.monotonic() - started, 1), str(error) if error is not None else None
        emit(build.emit, "build.finished", status=how, seconds=seconds, exit_code=code, error=reason)

    while True:
        try:
            with build.asides:  # also after an error: it must not delete the same as the clean-up
                result = work()
        except (KeyboardInterrupt, Interrupted) as interrupt:
            tools.interrupts.clean_up()
            build.note("interrupted: deleting the resources of this build", "warning")
            complete = _delete(build, tools.catalog, keep_images=False)
            notices.failed(build, None)
            _finish(build, "cleaned" if complete else "failed")
            finished("interrupted", Interrupted.exit_code)
            what = "everything it made is deleted" if complete else "not everything it made could be deleted"
            hint = None if complete else f"{step('clean', build.journal.build_id)} deletes the rest."
            raise Interrupted(f"build {build.journal.build_id} was interrupted; {what}", hint=hint) from interrupt
        except Exception as error:  # also after a defect of this program: no instance may keep running
            if isinstance(error, GoldenAmiError) and not error.can_clean_up:
                # An incomplete clean-up would make a resume impossible, so all resources are kept.
                _tell(build, tools, error)
                _finish(build, "failed", error=str(error))
                finished("failed", error.exit_code, error)
                error.hint = f"{error.hint or ''} Then: {step('resume', build.journal.build_id)}".strip()
                raise
            choice = (
                tools.on_failure
                if isinstance(tools.on_failure, str)
                else _decided(build, tools.on_failure, error, project)
            )
            if choice == "retry":
                continue
            tools.interrupts.clean_up()
            resumable = isinstance(error, (TargetsFailed, CloudError, HostLost)) and error.can_resume
            if choice == "clean":
                _delete(build, tools.catalog, keep_images=resumable)
            else:
                logins.announce(build, tools.journals, project)
            _tell(build, tools, error)
            hopeless = isinstance(error, GoldenAmiError) and not error.can_resume
            _finish(build, "failed", error=str(error), **({"can_resume": False} if hopeless else {}))
            code = error.exit_code if isinstance(error, GoldenAmiError) else GoldenAmiError.exit_code
            finished("failed", code, error)
            raise
        finished(status(result), exit_code(result))
        return result


def _decided(build: BuildContext, decide: Decide, error: Exception, project: Path) -> str:
    """Return what to do after an error. A retry is refused if it would test with other files than those of the plan."""
    while True:
        choice = decide(error)
        if choice != "retry":
            return choice
        if isinstance(error, GoldenAmiError) and not error.can_resume:
            build.note("a retry would fail in the same way: choose clean or keep", "warning")
            continue
        changed = [test.name for test in build.recipe.tests if _has_changed(test, project)]
        if not changed:
            build.note("the work runs again; what is done is skipped, and a builder that is not sealed is replaced")
            return choice
        build.note(f"{', '.join(changed)} changed since the plan, so this build cannot use it: build again", "warning")


def _has_changed(test: TestRef, project: Path) -> bool:
    """Return whether the file of a test has changed since the recipe was loaded."""
    if test.path is None:
        return False
    files = Files([project, test.path.parent])
    try:
        return hashlib.sha256(files.read_bytes(test.path)).hexdigest() != test.sha256
    except OSError:
        return True


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
