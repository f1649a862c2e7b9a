"""The hook that refuses a mutating call which has no intent in the journal.

It sits on every client's ``before-call`` event, in production too: a forgotten intent is an error in the first test
that comes that way, and not a leak in somebody's account.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import unquote

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

# What keeping a journal, a lock or a catalog in a bucket takes.
_BOOKKEEPING: Final = frozenset({"PutObject", "DeleteObject"})


@dataclass(frozen=True, slots=True)
class _Permit:
    """``token``: of the intent. ``object``: the one S3 object, by its key, that bookkeeping may touch."""

    service: str
    operation: str
    token: str = ""
    object: str | None = None


_permit: ContextVar[_Permit | None] = ContextVar("goldenami_permit", default=None)


def reads_only(service: str, operation: str) -> bool:
    """Whether a call cannot change anything. What is not known to be harmless is not."""
    return operation.startswith(_READING_VERBS) or (service, operation) in _READING_CALLS


@contextlib.contextmanager
def permitted(service: str, operation: str, token: str) -> Iterator[None]:
    """Inside, this thread may make this one kind of call, for the intent of that token. For the ledger only."""
    with _permitting(_Permit(service, operation, token)):
        yield


@contextlib.contextmanager
def bookkeeping(operation: str, key: str) -> Iterator[None]:
    """Inside, this thread may make this one kind of S3 call on this one object: for the journal itself, its locks and
    the catalog, which an intent cannot come before. For ``s3`` only."""
    if operation not in _BOOKKEEPING:
        raise UnjournaledMutation(f"s3:{operation} is not one of {', '.join(sorted(_BOOKKEEPING))}")
    with _permitting(_Permit("s3", operation, object=key)):
        yield


@contextlib.contextmanager
def _permitting(permit: _Permit) -> Iterator[None]:
    previous = _permit.set(permit)
    try:
        yield
    finally:
        _permit.reset(previous)


def refuse_unjournaled(model: OperationModel, params: Mapping[str, Any] | None = None, **_: Any) -> None:
    """The handler for ``before-call``. Raises UnjournaledMutation; nothing is sent then."""
    service, operation = model.service_model.service_name, model.name
    if reads_only(service, operation):
        return
    permit = _permit.get()
    if permit is None or (permit.service, permit.operation) != (service, operation) or not _is_object(permit, params):
        raise UnjournaledMutation(
            f"{service}:{operation} was about to be sent without an intent in the journal",
            hint="This is a bug in goldenami. The call was not sent. Please report it.",
        )


def _is_object(permit: _Permit, params: Mapping[str, Any] | None) -> bool:
    """A permit for one object is good for that one only; the key is the end of the request's path, in both styles of
    addressing a bucket."""
    return permit.object is None or unquote(str((params or {}).get("url_path", ""))).endswith(f"/{permit.object}")
