"""The hooks that refuse a mutating call without an intent in the journal, and a read of all public resources.

They handle events of every client, in production too. So a missing intent is an error in the first test that makes the
call, and does not leave an unknown resource in a user's account.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import unquote

from botocore.model import OperationModel

from goldenami.errors import UnjournaledMutation, UnscopedRead

_READING_VERBS: Final = ("Describe", "Get", "List", "Head", "Search", "BatchGet", "Lookup", "Simulate", "Validate")

# Calls with other verbs that change no resource: they return credentials, compute an answer, or open and end a session
# to an instance, which costs nothing.
_READING_CALLS: Final = frozenset(
    {
        ("sts", "AssumeRole"),
        ("sts", "DecodeAuthorizationMessage"),
        ("kms", "Decrypt"),
        ("kms", "Encrypt"),
        ("kms", "GenerateDataKey"),
        ("kms", "GenerateDataKeyWithoutPlaintext"),
        ("kms", "Sign"),
        ("ssm", "StartSession"),
        ("ssm", "TerminateSession"),
    }
)

_BUG: Final = "This is a bug in goldenami. The call was not sent. Please report it."

# The calls for a journal, a lock or a catalog in a bucket.
_BOOKKEEPING: Final = frozenset({"PutObject", "DeleteObject"})


@dataclass(frozen=True, slots=True)
class _Permit:
    """Permits one mutating call. ``token``: the token of its intent. ``object``: the key of the one S3 object that
    bookkeeping may change. ``catalog``: the id of the catalog that the request of a creating call must contain."""

    service: str
    operation: str
    token: str = ""
    object: str | None = None
    catalog: str = ""


_permit: ContextVar[_Permit | None] = ContextVar("goldenami_permit", default=None)


def reads_only(service: str, operation: str) -> bool:
    """Return whether a call is known to change nothing. An unknown call counts as mutating."""
    return operation.startswith(_READING_VERBS) or (service, operation) in _READING_CALLS


@contextlib.contextmanager
def permitted(service: str, operation: str, token: str, *, catalog: str = "") -> Iterator[None]:
    """Permit this thread one kind of call inside a ``with`` block, for the intent with that token. ``catalog``: the
    request must contain this id, since the call creates a resource. For the ledger only."""
    with _permitting(_Permit(service, operation, token, catalog=catalog)):
        yield


@contextlib.contextmanager
def bookkeeping(operation: str, key: str) -> Iterator[None]:
    """Permit this thread one kind of S3 call on one object inside a ``with`` block: for the journal itself, its locks
    and the catalog, which cannot have intents. For ``s3`` only."""
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
    """Handle ``before-call``. Raises UnjournaledMutation for a mutating call without a permit, and for a creating call
    without the id of the catalog that owns the resource. The call is not sent then."""
    service, operation = model.service_model.service_name, model.name
    if reads_only(service, operation):
        return
    permit = _permit.get()
    if permit is None or (permit.service, permit.operation) != (service, operation) or not _is_object(permit, params):
        raise UnjournaledMutation(
            f"{service}:{operation} was about to be sent without an intent in the journal",
            hint=_BUG,
        )
    if permit.catalog not in str((params or {}).get("body", "")):
        raise UnjournaledMutation(
            f"{service}:{operation} was about to create a resource without the id of its catalog, {permit.catalog}",
            hint=_BUG,
        )


# What limits the answer: parameters, and filters.
_SCOPES: Final[Mapping[tuple[str, str], tuple[frozenset[str], frozenset[str]]]] = {
    ("ec2", "DescribeImages"): (
        frozenset({"Owners", "ImageIds", "ExecutableUsers"}),
        frozenset({"image-id", "owner-id", "owner-alias"}),
    ),
    ("ec2", "DescribeSnapshots"): (
        frozenset({"OwnerIds", "SnapshotIds", "RestorableByUserIds"}),
        frozenset({"snapshot-id", "owner-id", "owner-alias", "volume-id"}),
    ),
}


def refuse_unscoped(params: Mapping[str, Any], model: OperationModel, **_: Any) -> None:
    """Handle ``before-parameter-build``. Raises UnscopedRead for a call that would search the images or snapshots of
    all accounts: AWS has a smaller rate for it, and it takes long ("Request throttling for the Amazon EC2 API"). The
    call is not sent then."""
    service, operation = model.service_model.service_name, model.name
    names, filters = _SCOPES.get((service, operation), (None, frozenset()))
    if names is None or any(params.get(name) for name in names):
        return
    if not filters & {f.get("Name") for f in params.get("Filters") or ()}:
        raise UnscopedRead(
            f"{service}:{operation} was about to be sent without {', '.join(sorted(names))}",
            hint=_BUG,
        )


def _is_object(permit: _Permit, params: Mapping[str, Any] | None) -> bool:
    """Return whether a request is for the object of a permit. The key is the end of the request's path, in both styles
    of addressing a bucket."""
    return permit.object is None or unquote(str((params or {}).get("url_path", ""))).endswith(f"/{permit.object}")
