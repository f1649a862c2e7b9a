"""Work that is not a build, journaled like one: a snapshot that is copied, a volume that is encrypted, a retirement.

    with task.run(environment, "snapshot copy", {"snapshot": "snap-…"}, emit_to=emit) as job:
        job.ledger.create("copy/eu-west-1", "snapshot", place, call)

A task owns a journal beside the builds' ones, with a header that says what it is and what it was asked for. What it
makes carries the same tags as what a build makes, so that `goldenami builds list` shows it and `goldenami clean` finds
all of it, whatever became of the process. How it ends:

- *done*: what it made is its user's from then on, and no later clean-up deletes it. Only what has a key that begins
  with ``temporary/`` is deleted.
- *failed*, or interrupted: first what it changed is put back (``undo``), then what it made is deleted, except what it
  had handed over already (``own``), and except all of it where the caller wants to look at it (``on_failure="keep"``).
- *killed*: nothing happens until `goldenami clean ID` does the same as after a failure.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final, Literal

from goldenami import reconcile
from goldenami.aws import journals, kinds, tags
from goldenami.aws.ledger import Ledger, Patience
from goldenami.aws.session import Cloud
from goldenami.each import Failures
from goldenami.errors import GoldenAmiError, Interrupted, UsageError
from goldenami.events import Emit, emit, ignore_events
from goldenami.interrupts import Interrupts
from goldenami.journal import Header, Journal, new_build_id
from goldenami.model import Environment
from goldenami.reconcile import CleanUp, Found
from goldenami.work import Work

OnFailure = Literal["clean", "keep"]
TEMPORARY: Final = "temporary/"  # ledger keys of what is deleted in any case

_KIND: Final = "task"  # in the header's data
_DONE: Final = "task.done"  # stages of the journal
_OWNED: Final = "task.owned"


@dataclass(frozen=True, slots=True, kw_only=True)
class Task(Work):
    """One piece of work under way."""

    kind: str
    arguments: Mapping[str, Any]
    interrupts: Interrupts

    @property
    def id(self) -> str:
        """What `goldenami clean` takes."""
        return self.journal.build_id

    def own(self, *ids: str) -> None:
        """Hand over what is finished: it stays, even if the task fails later. Anything else is handed over at the
        end."""
        self.journal.stage_done(_OWNED, ids=sorted({*owned(self.journal), *ids}))


Undo = Callable[[Task], None]


@contextmanager
def run(
    environment: Environment,
    kind: str,
    arguments: Mapping[str, Any],
    *,
    cloud: Cloud | None = None,
    known: Cloud | None = None,
    emit_to: Emit = ignore_events,
    on_failure: OnFailure = "clean",
    undo: Undo | None = None,
) -> Iterator[Task]:
    """Open the journal of a new task, and carry it out inside of this (in the main thread, which hears the signals).

    ``kind``: the words of the command ("snapshot copy"). ``arguments``: small JSON values, no secrets; they are what
    ``undo`` and a reader of the journal know of what was asked for. ``undo``: puts back what the task changed; it may
    be called several times, and for a task of which any part has happened. ``known``: a cloud that is logged in, whose
    clients serve again; ``cloud``: the one to use as it is, for who drives a task in a time of his own.
    Raises what the work raises, after the clean-up; Interrupted after Ctrl-C.
    """
    with Interrupts() as interrupts:
        cloud = cloud or (known or Cloud.of(environment)).with_sleep(interrupts.sleep)
        caller = cloud.check_caller()
        now = datetime.now(UTC)
        data = {_KIND: kind, "arguments": dict(arguments), "caller": caller.arn}
        header = Header(new_build_id(now), kind, "", environment.name, now, data)
        with journals.of(environment, cloud).create(header) as journal:
            job = _task(environment, journal, cloud, interrupts, emit_to)
            emit(emit_to, "task.started", task=kind, id=job.id, caller=caller.arn)
            with _ending(job, on_failure, undo):
                yield job


@contextmanager
def _ending(job: Task, on_failure: OnFailure, undo: Undo | None) -> Iterator[None]:
    try:
        yield
        job.journal.stage_done(_DONE)
    except (KeyboardInterrupt, Interrupted) as interrupt:
        job.interrupts.clean_up()
        complete = _take_back(job, undo)
        job.journal.finish("cleaned" if complete else "failed")
        what = "all of it was undone" if complete else "not all of it could be undone"
        raise Interrupted(
            f"{job.kind} ({job.id}) was interrupted; {what}", hint=None if complete else _rest(job.id)
        ) from interrupt
    except Exception as error:  # a mistake of this program must not leave anything behind either
        job.interrupts.clean_up()
        complete = _take_back(job, undo) if on_failure == "clean" else False
        job.journal.finish("cleaned" if complete and not owned(job.journal) else "failed", error=str(error))
        if not complete and isinstance(error, GoldenAmiError) and not (error.hint and error.can_clean_up):
            error.hint = f"{error.hint or ''} {_rest(job.id)}".strip()
        raise
    job.interrupts.clean_up()
    left = _delete_temporary(job.ledger)
    if left.complete:
        job.journal.finish("done")
    else:
        job.note(f"some temporary resources could not be deleted. Delete them: goldenami clean {job.id}", "warning")


def _rest(id: str) -> str:
    return f"To undo the rest: goldenami clean {id}"


def _take_back(job: Task, undo: Undo | None) -> bool:
    """Whether nothing is left. A failure here must not hide the one that made it necessary."""
    try:
        if undo is not None:
            undo(job)
        done = reconcile.delete_all(job.cloud, job.journal, keep=owned(job.journal), emit=job.emit)
    except GoldenAmiError as error:
        job.note(f"the clean-up stopped: {error.message}", "warning")
        return False
    return done.complete


# --- afterwards -------------------------------------------------------------------------------------------------------


def kind_of(header: Header) -> str | None:
    """The kind of a task; None for the journal of a build."""
    kind = header.data.get(_KIND)
    return kind if isinstance(kind, str) else None


def owned(journal: Journal) -> frozenset[str]:
    """The ids that a task handed over before its end."""
    return frozenset((journal.stage(_OWNED) or {}).get("ids", ()))


def is_done(journal: Journal) -> bool:
    """Whether the work was done: what it made is not the task's any more."""
    return journal.stage(_DONE) is not None


def clean(
    environment: Environment,
    journal: Journal,
    cloud: Cloud,
    interrupts: Interrupts,
    *,
    undo: Undo | None = None,
    dry_run: bool = False,
    emit_to: Emit = ignore_events,
    patience: Patience | None = None,
) -> CleanUp:
    """What a failure would have done, for a task whose process is gone: put back, and delete what it made. For one that
    was done, only its temporary things are deleted. ``dry_run``: only say what would be deleted."""
    if dry_run:
        if is_done(journal):
            return CleanUp(tuple(Found(r.place, r.kind, r.id) for r in _temporary(journal)), {})
        return reconcile.find_all(cloud, journal, keep=owned(journal))
    job = _task(environment, journal, cloud, interrupts, emit_to)
    if is_done(journal):
        done = _delete_temporary(job.ledger)
        if done.complete:
            journal.finish("done")
        return done
    if undo is not None:
        undo(job)
    done = reconcile.delete_all(cloud, journal, keep=owned(journal), emit=emit_to, patience=patience)
    if done.complete:
        journal.finish("cleaned")
    return done


def conclude(
    environment: Environment,
    cloud: Cloud,
    kind: str,
    *,
    arguments: Mapping[str, Any] | None = None,
    emit_to: Emit = ignore_events,
    patience: Patience | None = None,
) -> list[str]:
    """End the tasks of a kind whose process is gone, where what they did is to stay: for work that finds by its own
    marks what is left to be done, as soon as it is known whether the last call had its effect.

    ``arguments``: only tasks that were given these. Returns their ids.
    """
    ended = []
    journals_of = journals.of(environment, cloud)
    for summary in journals_of.unfinished():
        if summary.header is None or kind_of(summary.header) != kind:
            continue
        given = summary.header.data.get("arguments", {})
        if any(given.get(name) != value for name, value in (arguments or {}).items()):
            continue
        with journals_of.open(summary.build_id) as journal:
            Ledger(cloud, journal, emit=emit_to, patience=patience or Patience()).resolve_all(journal.unresolved())
            journal.finish("done")
        ended.append(summary.build_id)
    return ended


def refuse_resume(header: Header) -> None:
    """Raise UsageError for a task: it is run again, not continued."""
    kind = kind_of(header)
    if kind is not None:
        raise UsageError(
            f"{header.build_id} is a task ({kind}). Only a build can be resumed",
            hint=f"First run `goldenami clean {header.build_id}` to undo the task. Then run `goldenami {kind}` again.",
        )


def _task(environment: Environment, journal: Journal, cloud: Cloud, interrupts: Interrupts, to: Emit) -> Task:
    kind = kind_of(journal.header) or ""
    every = tags.task_tags(kind=kind, build_id=journal.build_id, own=environment.tags)
    arguments = journal.header.data.get("arguments", {})
    return Task(
        kind=kind,
        arguments=arguments,
        environment=environment,
        ledger=Ledger(cloud, journal, every, emit=to),
        interrupts=interrupts,
        emit=to,
    )


def _temporary(journal: Journal) -> list[Any]:
    return [r for r in journal.resources() if r.key.startswith(TEMPORARY)]


def _delete_temporary(ledger: Ledger) -> CleanUp:
    """Delete what a task that is done needed on the way; newest first, since later things are made of earlier ones."""
    deleted: list[Found] = []
    failures = Failures[str]()
    unresolved = [i for i in ledger.journal.unresolved() if i.key.startswith(TEMPORARY)]
    if unresolved:
        ledger.resolve_all(unresolved)
    for resource in reversed(_temporary(ledger.journal)):
        found = Found(resource.place, resource.kind, resource.id)
        with failures.of(str(found)):
            parent = kinds.kind_of(resource.kind).parent(resource.request)
            ledger.delete(resource.kind, resource.place, resource.id, parent=parent)
            deleted.append(found)
    return CleanUp(tuple(deleted), failures.reasons)
