"""The ledger: all mutating calls go through it, and it makes no call without an intent in the journal.

Every method is an "ensure": the caller states what has to exist. The ledger finds out from the journal (and, after a
crash, from the cloud) which calls are still needed. So a pipeline is resumed by running it again over its journal.

For each call the ledger appends the intent, makes the call with the token as a tag (and as ClientToken where the API
has one), and appends the result. What ``create()`` does depends on the journal:

===============================  ====================================================================================
the journal has                  create()
===============================  ====================================================================================
nothing                          appends the intent, makes the call, appends the result
a result with an id              returns the id; makes no call
... that was deleted or failed   makes a new attempt, under a new token
a result with an error           makes a new attempt, under a new token: the call was refused and created nothing
an intent and no result          looks the token up. Found: adopts the resource. Not found: sends the stored request
                                 again, unchanged
===============================  ====================================================================================

The ledger does the same look-up inside one process when a reply is lost (a timeout, a reset, an internal error): the
call may have had its effect. Only calls that were refused or throttled are known to have had none.

A new resource may be unknown to the service for minutes. So a call that is refused because of that is sent again (see
``recent``), and "not found" proves that a resource is deleted only if the resource is older than that, and neither its
id nor its token is found.
"""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from typing import Any, Final, TypeVar

from goldenami.aws import errors, tags
from goldenami.aws.errors import Outcome
from goldenami.aws.guard import permitted
from goldenami.aws.kinds import Kind, kind_of
from goldenami.aws.limits import CallAttempts, Retries, Retry
from goldenami.aws.ownership import Proofs
from goldenami.aws.recent import PAUSES
from goldenami.aws.session import Cloud
from goldenami.errors import CloudError, GoldenAmiError, JournalError
from goldenami.events import Emit, emit, ignore_events
from goldenami.journal import Intent, Journal, Resource, Result, Secret, token, utc_now
from goldenami.model import DEFAULT_LIFETIME, Place, timestamp
from goldenami.nextstep import step

T = TypeVar("T")
# The clocks of two machines may differ by so much: AWS accepts signatures of clocks that are up to five minutes off.
_CLOCKS_DIFFER: Final = timedelta(minutes=10)
NOT_MADE: Final = "goldenami.NotMade"  # the code of a call of unknown outcome whose resource was not found
_SAID_AFTER: Final = 10.0  # seconds of waiting until a note reports it

# Called with the failure before each pause of a call that is tried again. An exception that it raises ends the wait.
OnWait = Callable[[GoldenAmiError], None]


@dataclass(frozen=True, slots=True)
class Call:
    """One API call: the botocore service, the API action ("RunInstances"), and its parameters.

    The parameters are JSON values. A ``journal.Secret`` among them is sent, but not written to the journal. The ledger
    adds tags, the ClientToken, and names that contain the token (see ``kinds.py``).
    """

    service: str
    operation: str
    request: Mapping[str, Any]


class Ledger:
    """Creates, changes and deletes resources for one build, through its journal. Methods may be called from any thread;
    two calls with the same key run one after the other."""

    def __init__(
        self,
        cloud: Cloud,
        journal: Journal,
        tags: Mapping[str, str] | None = None,
        *,
        proofs: Proofs,
        emit: Emit = ignore_events,
        lifetime: timedelta = DEFAULT_LIFETIME,
        began: datetime | None = None,
        retry: Retry | None = None,
    ) -> None:
        """``tags``: the tags of every resource (see ``tags.build_tags``). The ledger adds the tags of the owner: the
        catalog and the environment in the journal's header. ``proofs``: of that environment; every resource gets one.
        ``lifetime``: how long after ``began`` temporary resources
        expire (goldenami:expires-at); then ``goldenami clean --expired`` may delete them. ``began``: when this run of
        the build began, by the cloud's clock. Default: the start of the build. ``retry``: other limits for retries than
        those of the cloud."""
        self.cloud = cloud
        self._retries = cloud.retry if retry is None else Retries(retry, cloud.clock, cloud.sleep, random.Random())
        self.journal = journal
        self.proofs = proofs
        self.tags = dict(tags or {})
        self._emit = emit
        self._locks: dict[str, tuple[threading.RLock, int]] = {}  # and how many calls hold it or wait for it
        self._mutex = threading.Lock()
        self.expires_at: datetime = max(journal.header.created, began or journal.header.created) + lifetime
        self._absent: set[tuple[Place, str]] = set()
        self._back: set[tuple[Place, str]] = set()
        # An earlier process may have sent calls whose outcome it did not record.
        self.is_continued = bool(journal.places())
        self.doubtful: set[Place] = set()  # where a creating call had an unknown outcome
        self._learn_from_journal()

    # --- creating -----------------------------------------------------------------------------------------------------

    def create(
        self,
        key: str,
        kind: str,
        place: Place,
        call: Call,
        *,
        name: str = "",
        tags: Mapping[str, str] | None = None,
        temporary: bool = False,
        on_wait: OnWait | None = None,
    ) -> str:
        """Ensure that the resource named ``key`` exists; returns its id (for a parameter: its name).

        ``kind``: see ``kinds.KINDS``. ``name``: the Name tag; the key if it is empty. ``tags``: more tags for this
        resource. ``temporary``: adds the expiry tag, which ``settle`` removes. ``on_wait``: see ``OnWait``; if it ends
        the wait, the call stays in the journal with an unknown outcome.

        If the key already has its resource, no call is made, and ``call`` is ignored. Raises the translated error of
        the service. After a refused call, another call under the same key is a new attempt: so instance types are tried
        in order.
        """
        with self._lock(key):
            known = self.existing(key)
            if known is not None:
                return known
            latest = self.journal.latest(key)
            if latest is not None and latest[1] is None and latest[0].action == "create":
                resolved = self._resolve(latest[0], on_wait)
                if not self._is_unusable(place, resolved):
                    return resolved
            attempt = self.journal.attempts(key) + 1
            mark = token(self.journal.build_id, key, attempt)
            definition = kind_of(kind)
            every = self._tags_for(key, mark, name or key, tags, temporary=temporary)
            prove = partial(self._prove, place)
            request = definition.mark(call.operation, dict(call.request), mark, self.journal.build_id, every, prove)
            intent = Intent(key, "create", kind, place, mark, call.service, call.operation, request, attempt)
            self.journal.intend(intent)
            return self._send_create(intent, definition, on_wait)

    def existing(self, key: str) -> str | None:
        """Return the id of a key's resource, if it is neither deleted nor spoiled. Reads the journal only."""
        latest = self.journal.latest(key)
        if latest is None or latest[1] is None or latest[1].id is None:
            return None
        return None if self._is_unusable(latest[0].place, latest[1].id) else latest[1].id

    def next_name(self, key: str) -> str:
        """Return a name for the next resource of a key, unique in an account and region. Each attempt has its own name:
        a call of a killed process that creates or deletes an earlier resource may take effect late, and what is being
        deleted may keep its name for a while."""
        return f"goldenami-{self.journal.build_id}-{key.replace('/', '-')}-{self.journal.attempts(key) + 1}"

    def resource(self, key: str) -> Resource | None:
        """Return a key's resource, with its kind, place and request, if it is neither deleted nor spoiled."""
        id, latest = self.existing(key), self.journal.latest(key)
        if id is None or latest is None or latest[0].action != "create":
            return None
        made = latest[0]
        return Resource(made.kind, made.place, id, key, made.token, made.request)

    def spoiled_resource(self, key: str) -> Resource | None:
        """Return a key's resource that must not be used and is not deleted yet. It must be deleted before another one
        is created, since it may have the same name. Reads the journal only."""
        return self.journal.spoiled(key)

    def resolve(self, intent: Intent) -> str | None:
        """Find out the outcome of a creating call, and record it. Return the id if the resource exists, or None.
        Creates nothing: clean-ups use it."""
        return self.resolve_all([intent])[intent.token]

    def resolve_all(self, intents: Sequence[Intent]) -> dict[str, str | None]:
        """Do :meth:`resolve` for many calls, and wait once for all resources that may not be visible yet. Return the
        ids by token."""
        found: dict[str, str | None] = {}
        waiting = list(intents)
        long_ago = self._old_before(self.cloud.patience.visible)
        for number, _ in enumerate(self.cloud.rounds() if waiting else ()):
            for intent in list(waiting):
                id = self._find(intent)
                if id is not None:
                    found[intent.token] = self._adopt(intent, id)
                    waiting.remove(intent)
            recent = sorted({intent.operation for intent in waiting if not self._is_before(long_ago, intent)})
            if not recent:
                break
            if not number:
                message = (
                    f"the answer to {', '.join(recent)} is missing. What it may have created is looked for, up to "
                    f"{self.cloud.patience.visible:.0f} s, because a new resource can be hidden for some time"
                )
                emit(self._emit, "note", message=message)
        for intent in waiting:
            self.journal.record_refusal(intent.token, code=NOT_MADE, message="nothing carries this token")
            found[intent.token] = None
        return found

    # --- changing and deleting ----------------------------------------------------------------------------------------

    def change(
        self,
        key: str,
        place: Place,
        call: Call,
        *,
        resource: str | None = None,
        kind: str = "change",
        already: Collection[str] = (),
        check: Callable[[Mapping[str, Any]], None] | None = None,
    ) -> Mapping[str, Any]:
        """Ensure that an idempotent call that creates nothing was made. Return the simple values of its answer.

        If the last call under this key had the same parameters and succeeded, nothing is sent, and its answer is
        returned. If its outcome is unknown, it is sent again, so ``call`` must be safe to repeat.
        ``already``: error codes that count as success, since the change was made before
        ("InvalidPermission.Duplicate"). ``check`` raises the error that an answer with status 200 contains, as those of
        batches do.
        """
        with self._lock(key):
            latest = self.journal.latest(key)
            if latest is not None and latest[0].request == _plain(call.request) and latest[0].place == place:
                previous, result = latest
                if result is not None and result.ok:
                    return result.data
                if result is None:
                    return self._send_change(previous, already, check)
            attempt = self.journal.attempts(key) + 1
            mark = token(self.journal.build_id, key, attempt)
            intent = Intent(
                key, "change", kind, place, mark, call.service, call.operation, call.request, attempt, resource
            )
            self.journal.intend(intent)
            return self._send_change(intent, already, check)

    def delete(self, kind: str, place: Place, id: str, *, parent: str | None = None) -> None:
        """Ensure that a resource is deleted, or is being deleted (an instance is "shutting-down" when this returns).

        If the journal has it as deleted, nothing is sent. A resource that does not exist counts as deleted, but "not
        found" is no proof of that while the resource may be too new to be found: the call is sent again until then, and
        afterwards neither its id nor its token may be found. Raises CloudError if the service does not delete a
        resource that it lists. ``parent``: for a grant, the ARN of its key. The snapshots of an image stay:
        ``images.delete`` deletes both.
        """
        key = f"delete/{kind}/{place}/{id}"
        with self._lock(key):
            if self.is_deleted(place, id):
                return
            definition = kind_of(kind)
            call = Call(definition.service, definition.delete_operation, definition.delete_request(id, parent))
            attempt = self.journal.attempts(key) + 1
            mark = token(self.journal.build_id, key, attempt)
            intent = Intent(key, "delete", kind, place, mark, call.service, call.operation, call.request, attempt, id)
            self.journal.intend(intent)
            self._send_delete(intent, definition, id, parent)
            self.journal.record_deleted(kind, place, id)
            self.cloud.recent.deleted(place, id)
            self._back.discard((place, id))

    def is_deleted(self, place: Place, id: str) -> bool:
        """Return whether the journal has a resource as deleted, and :meth:`found_again` does not know better."""
        return self.journal.is_gone(place, id) and (place, id) not in self._back

    def found_again(self, place: Place, id: str) -> None:
        """Tell that a resource of the build was found. If the journal has it as deleted (somebody restored it from the
        Recycle Bin), the next :meth:`delete` deletes it again. A resource that this process has just deleted may still
        be listed; for it this does nothing."""
        if not self.cloud.recent.was_deleted(place, id):
            self._back.add((place, id))

    def has_deleted(self, place: Place, id: str) -> bool:
        """Return whether this process sent the deletion of a resource that existed, and AWS confirmed it."""
        return self.cloud.recent.was_deleted(place, id) and not self.was_absent(place, id)

    def was_absent(self, place: Place, id: str) -> bool:
        """Return whether :meth:`delete` of this process found that a resource did not exist."""
        return (place, id) in self._absent

    def look(
        self, kind: Kind, place: Place, id: str, find: Callable[[], T | None], *, also_unknown: bool = False
    ) -> T | None:
        """Call ``find`` until it returns a true value, or the resource is so old that it would be visible. Return its
        last value. There is at least one call. ``also_unknown``: wait also for a resource of unknown age."""
        seconds = self._proof_takes(kind, place, id) if also_unknown else self.cloud.recent.seconds_left(place, id)
        return self.cloud.look(find, seconds)

    def delete_key(self, key: str) -> None:
        """Delete a key's resource, if it has one. The next ``create`` of the key creates a new resource."""
        with self._lock(key):
            found = self.resource(key)
            if found is not None:
                self.delete(found.kind, found.place, found.id, parent=kind_of(found.kind).parent(found.request))

    def spoil(self, kind: str, place: Place, id: str, reason: str) -> None:
        """Record that a resource exists but must not be used (a copy that failed). The next ``create`` of its key is a
        new attempt. The clean-up deletes the spoiled resource."""
        self.journal.record_spoiled(kind, place, id, reason)

    def settle(self, key: str, place: Place, ids: Collection[str]) -> None:
        """Remove the expiry tag from resources that stay because they belong to a release now."""
        request = {"Resources": sorted(ids), "Tags": [{"Key": tags.EXPIRES_AT}]}
        self.change(key, place, Call("ec2", "DeleteTags", request))

    def owner_tags(self) -> dict[str, str]:
        """Return the tags that say whose a resource is: those of its catalog and environment."""
        return {tags.CATALOG: self._catalog(), tags.ENVIRONMENT: self.journal.header.environment}

    # --- the calls ----------------------------------------------------------------------------------------------------

    def _send_create(
        self, intent: Intent, definition: Kind, on_wait: OnWait | None, *, sent_before: bool = False
    ) -> str:
        """Send the intent's request until its outcome is known, or until the limit for retries is reached.

        ``sent_before``: an earlier process may have sent it.
        """
        retry, news = self._retries.start(), _Pauses(self, intent)
        while True:
            try:
                response = self._send(intent)
            except GoldenAmiError as error:
                if self.cloud.recent.may_pass(error, intent.request):
                    if on_wait is not None:
                        on_wait(error)
                    news.wait(error)
                    continue
                outcome = errors.outcome(error)
                if isinstance(error, CloudError) and error.code in definition.duplicate_codes:
                    # An earlier try of this intent created it, or another program did. Only the token shows which. It
                    # exists, so it is looked for until it is visible in any case.
                    found = self._find(intent, self._visible_within(definition) if sent_before else 0.0)
                    if found is not None:
                        return self._adopt(intent, found)
                if outcome is Outcome.REFUSED:
                    code = error.code if isinstance(error, CloudError) else type(error).__name__
                    self.journal.record_refusal(intent.token, code=code, message=error.message)
                    raise
                if outcome is Outcome.UNKNOWN:
                    sent_before = True
                    self.doubtful.add(intent.place)
                    found = self._find(intent, self._doubt_lasts(intent))
                    if found is not None:
                        return self._adopt(intent, found)
                if on_wait is not None:
                    on_wait(error)
                if not retry.wait(error):
                    raise
            else:
                id = definition.id_of(intent.operation, response, intent.request)
                self.journal.record_success(intent.token, id=id, data=_simple(response))
                self._learn(intent, id)
                self._tell(intent, id)
                return id

    def _send_change(
        self, intent: Intent, already: Collection[str], check: Callable[[Mapping[str, Any]], None] | None
    ) -> Mapping[str, Any]:
        retry, news = self._retries.start(), _Pauses(self, intent)
        while True:
            try:
                response = self._send(intent)
                if check is not None:
                    check(response)
            except GoldenAmiError as error:
                if self.cloud.recent.may_pass(error, intent.request):
                    news.wait(error)
                    continue
                if isinstance(error, CloudError) and error.code in already:
                    response = {}
                else:
                    self._wait_or_raise(intent, error, retry)
                    continue
            data = _simple(response)
            self.journal.record_success(intent.token, data=data)
            self._learn(intent, None)
            self._tell(intent, intent.resource)
            return data

    def _send_delete(self, intent: Intent, definition: Kind, id: str, parent: str | None) -> None:
        """Send a deletion until it is made, or until the resource provably does not exist."""
        retry, busy = self._retries.start(), self.cloud.rounds(definition.busy_for)
        proof = _Absence(self, definition, intent.place, id, parent)
        next(busy)  # the time runs from here
        while True:
            try:
                response = self._send(intent)
            except GoldenAmiError as error:
                code = error.code if isinstance(error, CloudError) else ""
                if code in definition.missing_codes | definition.uncertain_codes:
                    if not proof.is_given(intent, error):
                        continue
                    response = {}
                    self._absent.add((intent.place, id))
                elif code in definition.busy_codes | definition.unready_codes and next(busy, None) is not None:
                    if code in definition.busy_codes:
                        proof.found()
                    continue
                else:
                    self._wait_or_raise(intent, error, retry)
                    continue
            else:
                if not definition.was_deleted(response):
                    if not proof.is_given(intent, None):
                        continue
                    self._absent.add((intent.place, id))
            self.journal.record_success(intent.token, data=_simple(response))
            self._tell(intent, id)
            return

    def _wait_or_raise(self, intent: Intent, error: GoldenAmiError, retry: CallAttempts) -> None:
        """Pause before the next try of a change. Raises the error if there is none, and records a refusal."""
        if errors.outcome(error) is Outcome.REFUSED:
            code = error.code if isinstance(error, CloudError) else type(error).__name__
            self.journal.record_refusal(intent.token, code=code, message=error.message)
            raise error
        if not retry.wait(error):
            raise error

    def _send(self, intent: Intent) -> Mapping[str, Any]:
        # The intent may be old (throttling, retries), and another process may have taken the build over since.
        self.journal.check()
        catalog = self._catalog() if intent.action == "create" else ""
        with permitted(intent.service, intent.operation, intent.token, catalog=catalog):
            return self.cloud.send(intent.place, intent.service, intent.operation, _plain(intent.request))

    # --- the outcome of a call ----------------------------------------------------------------------------------------

    def _resolve(self, intent: Intent, on_wait: OnWait | None) -> str:
        definition = kind_of(intent.kind)
        found = self._find(intent, self._doubt_lasts(intent))
        if found is not None:
            return self._adopt(intent, found)
        return self._send_create(intent, definition, on_wait, sent_before=True)

    def _doubt_lasts(self, intent: Intent) -> float:
        """Return for how many seconds the resource of a call of unknown outcome is looked for, before the call is sent
        again: 0 if a repeated call cannot create a second resource, or if the first would be visible by now."""
        is_old = self._is_before(self._old_before(self.cloud.patience.visible), intent)
        return 0.0 if is_old or kind_of(intent.kind).repeatable(intent.operation) else self.cloud.patience.visible

    def _find(self, intent: Intent, seconds: float = 0.0) -> str | None:
        """Return the id of the resource with the intent's token. Looks once, and again for some seconds."""
        definition = kind_of(intent.kind)

        def find() -> str | None:
            return definition.find(self.cloud, intent.place, intent.token, intent.request, self.proofs)

        return self.cloud.look(find, seconds)

    def _adopt(self, intent: Intent, id: str) -> str:
        self.journal.record_success(intent.token, id=id, adopted=True)
        self._learn(intent, id)
        if kind_of(intent.kind).is_gone(self.cloud, intent.place, id):
            self.journal.record_deleted(intent.kind, intent.place, id)
        self._tell(intent, id)
        return id

    def _is_unusable(self, place: Place, id: str) -> bool:
        return self.journal.is_gone(place, id) or self.journal.is_spoiled(place, id)

    # --- what is new --------------------------------------------------------------------------------------------------

    def _learn(self, intent: Intent, id: str | None) -> None:
        """Record what a successful call created or shared."""
        recent = self.cloud.recent
        if intent.action == "create" and id is not None:
            kind = kind_of(intent.kind)
            recent.created(intent.place, id, kind.codes_while_new(), within=self._visible_within(kind))
            if kind.name == "grant":
                recent.granted(str(intent.request["KeyId"]))
        elif intent.action == "change" and intent.kind == "permission" and intent.resource is not None:
            recent.shared(intent.resource)

    def _learn_from_journal(self) -> None:
        """Record what earlier processes created or shared. The times in a journal are those of other clocks, so all
        that may be new counts as created now."""
        for intent, result in self.journal.done_since(self._old_before(self.cloud.patience.known)):
            if result.id is None or not self.journal.is_gone(intent.place, result.id):
                self._learn(intent, result.id)

    def _old_before(self, seconds: float) -> datetime:
        """Return the time before which a record is certainly older than some seconds."""
        return utc_now() - timedelta(seconds=seconds) - _CLOCKS_DIFFER

    def _is_before(self, moment: datetime, intent: Intent) -> bool:
        at = self.journal.intended_at(intent.token)
        return at is not None and at < moment

    def _visible_within(self, kind: Kind) -> float:
        """Return the seconds after which calls find a resource that was created."""
        return min(kind.visible_within, self.cloud.patience.known)

    def _proof_takes(self, kind: Kind, place: Place, id: str) -> float:
        """Return for how many seconds "not found" does not prove that a resource is deleted."""
        if self.journal.created(kind.name, place, id):
            return self.cloud.recent.seconds_left(place, id)  # 0: it is in the journal, and old
        return max(self.cloud.recent.seconds_left(place, id), min(self.cloud.patience.visible, kind.visible_within))

    # --- helpers ------------------------------------------------------------------------------------------------------

    def _tags_for(
        self, key: str, mark: str, name: str, more: Mapping[str, str] | None, *, temporary: bool
    ) -> dict[str, str]:
        every = {**self.tags, **(more or {}), tags.NAME: name, **self.owner_tags()}
        every |= {tags.BUILD_ID: self.journal.build_id, tags.TOKEN: mark, tags.KEY: key}
        if temporary:
            every[tags.EXPIRES_AT] = timestamp(self.expires_at)
        return tags.checked(every)

    def _prove(self, place: Place, type: str, every: Mapping[str, str], facts: str) -> str:
        return self.proofs.make(type, place, every, facts)

    def _catalog(self) -> str:
        """Return the id of the catalog that owns what is created. Raises JournalError if the journal has none."""
        build_id, found = self.journal.build_id, self.journal.header.catalog
        if found is None:
            raise JournalError(
                f"the journal of {build_id} has no id of a catalog, so nothing is created for it",
                hint=f"An earlier version of goldenami began it. Run {step('clean', build_id)}, and start it again.",
            )
        return found

    def _tell(self, intent: Intent, id: str | None) -> None:
        place = intent.place
        emit(self._emit, "cloud.call", action=intent.operation, account=place.account, region=place.region, resource=id)

    @contextmanager
    def _lock(self, key: str) -> Iterator[None]:
        """Let one thread work at a key. Nothing stays of a key that nobody works at: there can be very many."""
        with self._mutex:
            lock, users = self._locks.get(key, (None, 0))
            lock = lock or threading.RLock()
            self._locks[key] = lock, users + 1
        try:
            with lock:
                yield
        finally:
            with self._mutex:
                lock, users = self._locks.pop(key)
                if users > 1:
                    self._locks[key] = lock, users - 1


class _Pauses:
    """The pauses of a call that names something new. A note reports a long wait once."""

    def __init__(self, ledger: Ledger, intent: Intent) -> None:
        self._ledger = ledger
        self._intent = intent
        self._next = PAUSES.first
        self._waited = 0.0
        self._said = False

    def wait(self, error: GoldenAmiError | None) -> None:
        """Pause before the call is sent again."""
        if not self._said and self._waited >= _SAID_AFTER:
            self._said = True
            why = f": {error.message}" if error is not None else ""
            text = f"{self._intent.operation} is repeated until AWS finds what is new{why}"
            emit(self._ledger._emit, "note", message=text, level="info")
        self._ledger.cloud.sleep(self._next)
        self._waited += self._next
        self._next = min(self._next * PAUSES.factor, PAUSES.longest)


class _Absence:
    """The proof that a resource does not exist: the deleting call does not find it while it may be too new to be found,
    and then neither its id nor its token is found. A resource of unknown age that the deleting call has found in use is
    not too new."""

    def __init__(self, ledger: Ledger, kind: Kind, place: Place, id: str, parent: str | None) -> None:
        self._ledger = ledger
        self._kind = kind
        self._place = place
        self._id = id
        self._parent = parent
        self._was_found = False
        self._until: float | None = None
        self._listed_until: float | None = None
        self._pauses: _Pauses | None = None

    def found(self) -> None:
        """Record that the deleting call has found the resource, which was in use. EC2 may delete it next: a volume,
        with its instance."""
        self._was_found = True
        self._until = None

    def is_given(self, intent: Intent, error: GoldenAmiError | None) -> bool:
        """Return whether "not found" proves that the resource does not exist. False after a pause: the call must be
        sent again. Raises CloudError if reads show the resource for as long as a new one may be invisible.
        ``error``: the answer; None if the call succeeded without a resource.
        """
        ledger = self._ledger
        now = ledger.cloud.clock()
        if self._until is None or self._pauses is None:
            known = ledger.cloud.recent.seconds_left(self._place, self._id)
            takes = known if self._was_found else ledger._proof_takes(self._kind, self._place, self._id)
            self._until = now + takes
            self._pauses = _Pauses(ledger, intent)
        if now >= self._until:
            if not self._is_listed():
                return True
            self._listed_until = self._listed_until or now + ledger._visible_within(self._kind)
            if now >= self._listed_until:
                place = self._place
                answer = error.message if error is not None else f"{intent.operation} found nothing"
                code = error.code if isinstance(error, CloudError) else "goldenami.NotDeleted"
                ledger.journal.record_refusal(intent.token, code=code, message=answer)
                raise CloudError(
                    f"{self._kind.name} {self._id} in {place} exists, but {intent.operation} does not delete it: "
                    f"{answer}",
                    code="goldenami.NotDeleted",
                    action=intent.operation,
                    account=place.account,
                    region=place.region,
                    hint="Try again later. If it stays so, look at the state of the resource in the console.",
                )
        self._pauses.wait(error)
        return False

    def _is_listed(self) -> bool:
        kind, cloud, place = self._kind, self._ledger.cloud, self._place
        if kind.is_there(cloud, place, self._id, self._parent):
            return True
        for intent in self._ledger.journal.created(kind.name, place, self._id):
            if kind.has_tags:
                found: Collection[str | None] = kind.tagged(cloud, place, tags.TOKEN, intent.token)
            else:
                found = (kind.find(cloud, place, intent.token, intent.request, self._ledger.proofs),)
            if self._id in found and not kind.is_gone(cloud, place, self._id):
                return True
        return False


def _plain(value: Any) -> Any:
    """Return a request with its secrets in plain text."""
    if type(value) is str:
        return value
    if isinstance(value, Secret):
        return value.value
    if isinstance(value, Mapping):
        return {k: v if type(v) is str else _plain(v) for k, v in value.items()}  # a request can have many tags
    if isinstance(value, (list, tuple)):
        return [_plain(v) for v in value]
    return value


def _simple(response: Mapping[str, Any]) -> dict[str, Any]:
    """Return the top-level strings, numbers and booleans of an answer, for the journal."""
    return {k: v for k, v in response.items() if isinstance(v, (str, int, float, bool))}


__all__ = ["NOT_MADE", "Call", "Intent", "Ledger", "OnWait", "Result"]
