"""What was created or shared within the last minutes, and so may be unknown to a service for a while.

EC2, KMS and SSM are eventually consistent: for some time after the creating call, another call that names the new
resource, a change as well as a read, is answered as if there were no such resource. A new permission has no effect for
some time either ("Eventual consistency in the Amazon EC2 API", EC2 developer guide; "Grants in AWS KMS"). AWS names no
limit, and recommends retries over "up to a few minutes".

This module decides for all calls which errors may be of that kind, and for how long:

- :meth:`Recent.may_pass`: a refused call is sent again if it names something that is new.
- :meth:`Recent.seconds_left`: how long "not found" is no proof that a resource is deleted.
- :meth:`Recent.key_may_come`: whether a copy failed only because the grant on a key is new.

Only resources are known here that this process created or shared, or that the journals say that it opened. A call that
names any other resource fails at once.
"""

from __future__ import annotations

import threading
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from goldenami.aws import errors
from goldenami.errors import GoldenAmiError
from goldenami.model import Place
from goldenami.polling import Clock, Interval

# Seconds. KMS: "usually less than five minutes" (CreateGrant, KMS API reference). EC2: "up to a few minutes".
LONGEST: Final = 300.0

# The pauses between two tries of a call.
PAUSES: Final = Interval(0.5, 1.5, 10.0)

# What a call answers that names an image or a snapshot of another account, if the account may not use it.
_NOT_SHARED: Final = frozenset({"InvalidAMIID.NotFound", "InvalidSnapshot.NotFound"})


_TIDY: Final = 10.0  # seconds between two removals of what is old
_LOOKS: Final = Interval(0.25, 1.5, 4.0)


@dataclass(frozen=True, slots=True)
class Patience:
    """For how many seconds a cloud may hide what it created or shared.

    ``visible``: how long a resource may be missing in describes if it is not known whether it exists (EC2 is eventually
    consistent; its documentation gives no limit, and a few seconds are usual). Clean-ups wait for it, and a call of
    unknown outcome if a repeated call could create a second resource. With a ClientToken or a unique name the repeated
    call returns the first resource.
    ``known``: the same for a resource that is known to have been created, from its creation on.
    ``pauses``: the pauses between two looks.
    """

    visible: float = 60.0
    known: float = LONGEST
    pauses: Interval = _LOOKS


@dataclass(frozen=True, slots=True)
class _New:
    """``since``: by the clock of the process. ``codes``: the errors of calls that name the resource too early."""

    since: float
    within: float
    codes: frozenset[str]


class Recent:
    """The new resources, permissions and grants of one process. Thread-safe."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._mutex = threading.Lock()
        self._created: dict[tuple[Place, str], _New] = {}
        self._tidied = clock()
        self._deleted: dict[tuple[Place, str], float] = {}
        self._shared: dict[str, float] = {}
        self._granted: dict[str, float] = {}

    # --- what is new --------------------------------------------------------------------------------------------------

    def created(self, place: Place, id: str, codes: Collection[str], *, within: float = LONGEST) -> None:
        """Record that a resource was created now. ``codes``: the errors of calls that name it before it is visible.
        ``within``: after so many seconds it is visible. A second call changes nothing."""
        with self._mutex:
            self._forget_old(now_and_then=True)
            now, known = self._clock(), self._created.get((place, id))
            if known is None or now - known.since >= known.within:
                self._created[place, id] = _New(now, within, frozenset(codes))

    def shared(self, id: str) -> None:
        """Record that an image or a snapshot was shared with an account now."""
        with self._mutex:
            self._shared[id] = self._clock()

    def granted(self, key: str) -> None:
        """Record that a grant on a KMS key was created now. ``key``: its ARN. A second call changes nothing."""
        with self._mutex:
            self._granted.setdefault(key, self._clock())

    def deleted(self, place: Place, id: str) -> None:
        """Record that a resource does not exist any more."""
        with self._mutex:
            self._created.pop((place, id), None)
            self._deleted[place, id] = self._clock()

    def _forget_old(self, *, now_and_then: bool = False) -> None:
        """Forget what is old. ``now_and_then``: not each time, since a release can have thousands of new resources."""
        now = self._clock()
        if now_and_then and now - self._tidied < _TIDY:
            return
        self._tidied = now
        self._created = {k: new for k, new in self._created.items() if now - new.since < new.within}
        for times in (self._shared, self._granted):
            for id in [id for id, since in times.items() if now - since >= LONGEST]:
                del times[id]
        self._deleted = {one: since for one, since in self._deleted.items() if now - since < LONGEST}

    # --- decisions ----------------------------------------------------------------------------------------------------

    def seconds_left(self, place: Place, id: str) -> float:
        """Return for how many seconds calls may not find a resource, although it exists; 0 for an old or unknown
        one."""
        with self._mutex:
            new = self._created.get((place, id))
            return 0.0 if new is None else max(0.0, new.within - (self._clock() - new.since))

    def was_deleted(self, place: Place, id: str) -> bool:
        """Return whether this process deleted a resource so recently that reads may still show it."""
        with self._mutex:
            since = self._deleted.get((place, id))
            return since is not None and self._clock() - since < LONGEST

    def ids(self, prefix: str) -> dict[Place, list[str]]:
        """Return the ids of new resources that begin with a prefix ("snap-"), by place."""
        with self._mutex:
            self._forget_old()
            found: dict[Place, list[str]] = {}
            for place, id in sorted(self._created):
                if id.startswith(prefix):
                    found.setdefault(place, []).append(id)
            return found

    def may_pass(self, error: GoldenAmiError, request: Mapping[str, Any]) -> bool:
        """Return whether a call was refused because it names something that is new, so that a repeated call may
        succeed. It becomes false when the new thing is old."""
        code = errors.code_of(error)
        named = set(_strings(request))
        with self._mutex:
            now = self._clock()
            for (_, id), new in self._created.items():
                if id in named and code in new.codes and now - new.since < new.within:
                    return True
            is_permission = _is_permission(code, error.message)
            return is_permission and any(now - self._shared[id] < LONGEST for id in named & self._shared.keys())

    def key_may_come(self, reason: str, keys: Collection[str]) -> bool:
        """Return whether a copy failed because it may not use a key, and a grant on one of its keys is so new that it
        may have no effect yet. EC2 accepts such a copy and fails it later ("Given key ID is not accessible").
        ``reason``: why it failed. ``keys``: the ARNs of the keys that it reads with."""
        with self._mutex:
            now = self._clock()
            is_new = any(now - self._granted[key] < LONGEST for key in keys if key in self._granted)
        return is_new and "key" in reason.lower()


def _is_permission(code: str, message: str) -> bool:
    """Return whether an error says that the caller's account may not use an image or a snapshot."""
    if code == "AuthFailure":
        return "Not authorized for" in message
    # CopyImage of an image whose snapshots are not shared.
    return code in _NOT_SHARED or (code == "InvalidRequest" and "permission to access the storage" in message)


def _strings(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for one in value.values():
            yield from _strings(one)
    elif isinstance(value, (list, tuple)):
        for one in value:
            yield from _strings(one)
