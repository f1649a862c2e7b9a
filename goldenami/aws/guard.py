"""The hook that refuses a mutating call which has no intent in the journal.

It sits on every client's ``before-call`` event, in production too: a forgotten intent is an error in the first test
that comes that way, and not a leak in somebody's account.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, Final

from botocore.model import OperationModel

from goldenami.errors import UnjournaledMutation

_READING_VERBS: Final = ("Describe", "Get", "List", "Head", "Search", "BatchGet", "Lookup", "Simulate", "Validate")

# Calls that change nothing though their verb does not say so: they hand out credentials or compute an answer.
_READING_CALLS: Final = frozenset(
    {
        ("sts", "AssumeRole"),
        ("sts", "DecodeAuthorizationMessage"),
        ("kms", "Decrypt"),
        ("kms", "Encrypt"),
        ("kms", "GenerateDataKey"),
        ("kms", "GenerateDataKeyWithoutPlaintext"),
    }
)


@dataclass(frozen=True, slots=True)
class _Permit:
    service: str
    operation: str
    token: str


_permit: ContextVar[_Permit | None] = ContextVar("goldenami_permit", default=None)


def reads_only(service: str, operation: str) -> bool:
    """Whether a call cannot change anything. What is not known to be harmless is not."""
    return operation.startswith(_READING_VERBS) or (service, operation) in _READING_CALLS


@contextlib.contextmanager
def permitted(service: str, operation: str, token: str) -> Iterator[None]:
    """Inside, this thread may make this one kind of call, for the intent of that token. For the ledger only."""
    previous = _permit.set(_Permit(service, operation, token))
    try:
        yield
    finally:
        _permit.reset(previous)


def refuse_unjournaled(model: OperationModel, **_: Any) -> None:
    """The handler for ``before-call``. Raises UnjournaledMutation; nothing is sent then."""
    service, operation = model.service_model.service_name, model.name
    if reads_only(service, operation):
        return
    permit = _permit.get()
    if permit is None or (permit.service, permit.operation) != (service, operation):
        raise UnjournaledMutation(
            f"{service}:{operation} was about to be sent without an intent in the journal",
            hint="This is a bug in goldenami; nothing was sent. Please report it.",
        )
