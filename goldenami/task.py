"""Tasks: journaled work that is not a build, for example copying a snapshot or encrypting a volume::

    with task.run(environment, "snapshot copy", {"snapshot": "snap-…"}, emit_to=emit) as job:
        job.ledger.create("copy/eu-west-1", "snapshot", place, call)

The journals of tasks are beside those of builds. The header of a task's journal has its kind and its arguments. The
resources of a task have the same tags as those of a build. So ``goldenami builds list`` shows a task, and ``goldenami
clean`` finds all its resources, even if its process was killed. A task ends in one of these ways:

- *done*: its resources belong to the user, and no clean-up deletes them. Only resources with a ledger key that begins
  with ``temporary/`` are deleted.
- *failed* or interrupted: ``undo`` restores what the task changed. Then its resources are deleted, except those that it
  handed over (``own``). With ``on_failure="keep"`` nothing is undone and nothing is deleted.
- *killed*: nothing is undone until ``goldenami clean ID`` does the same as after a failure.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any, Final, Literal

from goldenami import reconcile
from goldenami.aws import catalogs, journals, kinds, tags
from goldenami.aws.ledger import Ledger
from goldenami.aws.session import Cloud
from goldenami.each import Failures
from goldenami.errors import GoldenAmiError, Interrupted, UsageError
from goldenami.events import Emit, emit, ignore_events
from goldenami.interrupts import Interrupts
from goldenami.journal import Header, Journal, new_build_id
from goldenami.model import Environment, timestamp
from goldenami.nextstep import command, step
from goldenami.notify import delivery as notify
from goldenami.reconcile import CleanUp, Found
from goldenami.store import ensure_identity
from goldenami.work import JournaledWork

OnFailure = Literal["clean", "keep"]
MOVES: Final = ("promote", "rollback", "build")  # kinds that move one channel: they can be resumed
RESUMED: Final = (*MOVES, "distribute")  # kinds that `goldenami resume` continues
TEMPORARY: Final = "temporary/"  # ledger keys of resources that are deleted in any case

_RELEASING: Final = (*MOVES, "revoke", "restore", "retire")  # kinds whose failures are notified
_KIND: Final = "task"  # in the header's data
_DONE: Final = "task.done"  # stages of the journal
_OWNED: Final = "task.owned"


@dataclass(frozen=True, slots=True, kw_only=True)
class Task(JournaledWork):
    """One running task."""

    kind: str
    arguments: Mapping[str, Any]
    interrupts: Interrupts

    @property
    def id(self) -> str:
        """The id for ``goldenami clean``."""
        return self.journal.build_id

    def own(self, *ids: str) -> None:
        """Hand over finished resources, by id: they stay even if the task fails later. The others are handed over when
        the task is done."""
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
    """Open the journal of a new task and run the ``with`` block as the task. Call it in the main thread, which receives
    the signals.

    ``kind``: the words of the command ("snapshot copy"). ``arguments``: small JSON values without secrets, which the
    journal keeps for ``undo`` and for readers. ``undo``: restores what the task changed; it may be called several
    times, and after any part of the task. ``known``: a cloud whose clients and credentials are used again. ``cloud``: a
    cloud to use unchanged, for callers that pass their own clock (tests do).
    Raises the error of the block, after the clean-up; Interrupted after Ctrl-C.
    """
    with Interrupts() as interrupts:
        cloud = cloud or (known or Cloud.of(environment)).with_sleep(interrupts.sleep)
        caller = cloud.check_caller()
        now = cloud.now()
        identity = ensure_identity(catalogs.open_store(environment, cloud), now)
        data = {_KIND: kind, "catalog": identity, "arguments": dict(arguments), "caller": caller.arn}
        header = Header(new_build_id(now), kind, "", environment.name, now, data)
        with journals.open_journals(environment, cloud).create(header) as journal:
            job = _task(environment, journal, cloud, interrupts, emit_to)
            emit(emit_to, "task.started", task=kind, id=job.id, caller=caller.arn)
            with _ending(job, on_failure, undo):
                yield job


@contextmanager
def again(
    environment: Environment,
    journal: Journal,
    cloud: Cloud,
    interrupts: Interrupts,
    *,
    undo: Undo | None = None,
    emit_to: Emit = ignore_events,
) -> Iterator[Task]:
    """Run the ``with`` block as the task of an opened journal, whose process has ended. Its calls are not repeated if
    they have results. Raises UsageError if the task is done or was undone."""
    if journal.ending not in (None, "failed") or is_done(journal):
        ending = "done" if is_done(journal) else journal.ending
        raise UsageError(
            f"{journal.build_id} is {ending}, expected an unfinished or failed task",
            hint=f"{step('builds list')} shows the unfinished builds and tasks.",
        )
    job = _task(environment, journal, cloud, interrupts, emit_to)
    emit(emit_to, "task.started", task=job.kind, id=job.id, caller=cloud.check_caller().arn)
    reconcile.finish_deletions(job.ledger)
    with _ending(job, "clean", undo):
        yield job


@contextmanager
def _ending(job: Task, on_failure: OnFailure, undo: Undo | None) -> Iterator[None]:
    try:
        yield
        job.journal.stage_done(_DONE)
    except (KeyboardInterrupt, Interrupted) as interrupt:
        job.interrupts.clean_up()
        complete = _undo_and_delete(job, undo)
        _tell_failure(job, None)
        job.journal.finish("cleaned" if complete else "failed")
        what = "all of it was undone" if complete else "not all of it could be undone"
        raise Interrupted(
            f"{job.kind} ({job.id}) was interrupted; {what}", hint=None if complete else _clean_hint(job.id)
        ) from interrupt
    except Exception as error:  # a bug in this program must not leave resources behind either
        job.interrupts.clean_up()
        complete = _undo_and_delete(job, undo) if on_failure == "clean" else False
        _tell_failure(job, error)
        job.journal.finish("cleaned" if complete and not owned(job.journal) else "failed", error=str(error))
        if not complete and isinstance(error, GoldenAmiError) and not (error.hint and error.can_clean_up):
            error.hint = f"{error.hint or ''} {_clean_hint(job.id)}".strip()
        raise
    job.interrupts.clean_up()
    notify.deliver(job)
    left = _delete_temporary(job.ledger)
    if left.complete:
        job.journal.finish("done")
    else:
        job.note(f"some temporary resources could not be deleted. Delete them: {command('clean', job.id)}", "warning")


def _clean_hint(id: str) -> str:
    return f"To undo the rest: {command('clean', id)}"


def _tell_failure(job: Task, error: Exception | None) -> None:
    """Send that a task failed which moves channels or changes releases, after its undo. ``error`` None: it was
    interrupted, and time is short. Raises no GoldenAmiError."""
    with suppress(GoldenAmiError):  # the error may be that the journal cannot be written
        if job.kind in _RELEASING:
            notify.due(job, _failure(job, error))
        notify.deliver(job, seconds=notify.AT_INTERRUPT if error is None else notify.LONGEST)


def _failure(job: Task, error: Exception | None) -> notify.EventDocument:
    given = job.arguments
    label = " ".join(str(given[key]) for key in ("name", "version") if given.get(key)) or ", ".join(given["releases"])
    name, _, version = label.partition(", ")[0].rpartition(" ")
    channel = given.get("channel")
    what = f"{job.kind} of {label}{f' to {channel}' if channel else ''}"
    return notify.make(
        "failure",
        id=notify.id_of(job.id, "failure", notify.number_of(job.journal)),
        title=f"{what} {'was interrupted' if error is None else 'failed'}",
        time=timestamp(job.cloud.now()),
        environment=job.environment.name,
        name=name,
        version=version,
        channels=(notify.channel(channel),) if channel else (),
        by=job.journal.header.data.get("caller"),
        reason=given.get("reason"),
        error=notify.reason_of(error),
        task=job.id,
        command=command("builds show", job.id),
    )


def _undo_and_delete(job: Task, undo: Undo | None) -> bool:
    """Undo the task's changes and delete its resources. Return whether all of that succeeded. Raises no GoldenAmiError:
    it would hide the error that ended the task."""
    try:
        if undo is not None:
            undo(job)
        done = reconcile.delete_all(job.cloud, job.journal, job.ledger.proofs, keep=owned(job.journal), emit=job.emit)
    except GoldenAmiError as error:
        job.note(f"the clean-up stopped: {error.message}", "warning")
        return False
    return done.complete


# --- afterwards -------------------------------------------------------------------------------------------------------


def kind_of(header: Header) -> str | None:
    """Return the kind of a task; None for the journal of a build."""
    kind = header.data.get(_KIND)
    return kind if isinstance(kind, str) else None


def can_resume(header: Header | None) -> bool:
    """Return whether the journal is of a build, or of a task that moves a channel or distributes a release."""
    return header is None or kind_of(header) in (None, *RESUMED)


def owned(journal: Journal) -> frozenset[str]:
    """Return the ids that a task handed over before its end."""
    return frozenset((journal.stage(_OWNED) or {}).get("ids", ()))


def is_done(journal: Journal) -> bool:
    """Return whether the task was done, so that its resources belong to the user."""
    return journal.stage(_DONE) is not None


def clean(
    environment: Environment,
    journal: Journal,
    cloud: Cloud,
    interrupts: Interrupts,
    *,
    undo: Undo | None = None,
    keep: Collection[str] = (),
    dry_run: bool = False,
    emit_to: Emit = ignore_events,
) -> CleanUp:
    """Clean up a task whose process has ended, as after a failure: undo its changes and delete its resources.

    For a task that is done, only its temporary resources are deleted. ``keep``: ids of resources that a release has.
    ``dry_run``: return what would be deleted, and change nothing.
    """
    if dry_run:
        if is_done(journal):
            return CleanUp(tuple(Found(r.place, r.kind, r.id) for r in _temporary(journal)), {})
        return reconcile.find_all(
            cloud, journal, catalogs.open_proofs(environment, cloud), keep=owned(journal) | set(keep)
        )
    job = _task(environment, journal, cloud, interrupts, emit_to)
    if is_done(journal):
        notify.deliver(job)
        done = _delete_temporary(job.ledger)
        if done.complete:
            journal.finish("done")
        return done
    if undo is not None:
        undo(job)
    done = reconcile.delete_all(cloud, journal, job.ledger.proofs, keep=owned(journal) | set(keep), emit=emit_to)
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
) -> list[str]:
    """End the unfinished tasks of a kind and keep their results. Return the ids of these tasks.

    First the outcome of each unresolved call is found out. This is for tasks that find their remaining work by the tags
    of resources when they run again. ``arguments``: only tasks that have these arguments.
    """
    ended = unfinished(environment, cloud, [kind], arguments)
    for id in ended:
        conclude_one(environment, cloud, id, emit_to=emit_to)
    return ended


def unfinished(
    environment: Environment, cloud: Cloud, kinds: Collection[str], arguments: Mapping[str, Any] | None = None
) -> list[str]:
    """Return the ids of the environment's unfinished tasks of some kinds. ``arguments``: only tasks that have these."""
    found = []
    for summary in journals.open_journals(environment, cloud).unfinished():
        header = summary.header
        if header is None or kind_of(header) not in kinds or header.environment != environment.name:
            continue
        given = header.data.get("arguments", {})
        if all(given.get(name) == value for name, value in (arguments or {}).items()):
            found.append(summary.build_id)
    return found


def conclude_one(environment: Environment, cloud: Cloud, id: str, *, emit_to: Emit = ignore_events) -> None:
    """End one unfinished task and keep its results. Raises Busy if its process still runs."""
    with journals.open_journals(environment, cloud).open(id) as journal:
        proofs = catalogs.open_proofs(environment, cloud)
        Ledger(cloud, journal, proofs=proofs, emit=emit_to).resolve_all(journal.unresolved())
        if is_done(journal):
            with Interrupts(signals=False) as interrupts:
                notify.deliver(_task(environment, journal, cloud, interrupts, emit_to))
        journal.finish("done")


def refuse_resume(header: Header) -> None:
    """Raise UsageError for the journal of a task that is not resumed but run again."""
    kind = kind_of(header)
    if kind not in (None, *MOVES):
        raise UsageError(
            f"{header.build_id} is a task ({kind}). It cannot be resumed",
            hint=f"First run {step('clean', header.build_id)} to undo the task. Then run the command again ({kind}).",
        )


def _task(environment: Environment, journal: Journal, cloud: Cloud, interrupts: Interrupts, to: Emit) -> Task:
    kind = kind_of(journal.header) or ""
    every = tags.task_tags(kind=kind, build_id=journal.build_id, own=environment.tags)
    arguments = journal.header.data.get("arguments", {})
    return Task(
        kind=kind,
        arguments=arguments,
        environment=environment,
        ledger=Ledger(
            cloud,
            journal,
            every,
            proofs=catalogs.open_proofs(environment, cloud),
            emit=to,
            lifetime=environment.lifetime,
        ),
        interrupts=interrupts,
        emit=to,
    )


def _temporary(journal: Journal) -> list[Any]:
    return [r for r in journal.resources() if r.key.startswith(TEMPORARY)]


def _delete_temporary(ledger: Ledger) -> CleanUp:
    """Delete the temporary resources of a task that is done. The newest is deleted first, since it may depend on an
    older one."""
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
            if ledger.has_deleted(resource.place, resource.id):
                deleted.append(found)
    return CleanUp(tuple(deleted), failures.reasons)
