"""Everything goldenami raises on purpose. The tree, with the exit code that the command line gives each branch::

    GoldenAmiError                      1
    ├── UsageError                      2   a wrong option, argument or combination
    ├── InvalidInput                    2   recipes or goldenami.yaml: every problem at once, each with its place
    ├── NotFound                        3   a recipe, release, image, region or key that does not exist
    ├── AccessError                     4   credentials missing or not allowed; an account nobody named
    │   └── CredentialsRefused        ! 4   ... or not accepted any more: no call can be made with them
    ├── TestsFailed                     5   a gate of validation said no
    ├── TargetsFailed                   6   some targets have their image, some do not
    ├── Interrupted                 ! 130   Ctrl-C or SIGTERM, after clean-up
    ├── CloudError                      1   the cloud refused or failed a call (code, action and place are kept)
    │   ├── Throttled                   1   ... and kept on throttling
    │   └── Unreachable                 1   no usable answer from the endpoint
    ├── BuilderError                    1   the temporary instance did not start, or could not be reached
    │   ├── ConnectionLost              1   SSH ended in the middle of something
    │   └── HostLost                    1   the instance itself ended, or does not answer any more
    ├── OperationFailed                 1   one operation of a recipe failed on the host
    │   └── OperationDoubtful           1   ... or nobody knows whether it did
    ├── JournalError                  ! 1   the journal cannot be read, written or trusted
    │   ├── LeaseLost                 ! 1   ... or was taken over by another process
    │   └── Busy                        1   ... or another process has its lock at the moment
    ├── UnjournaledMutation           ! 1   a bug: a mutating call without an intent
    ├── CatalogError                    1   the catalog cannot be read, written, locked or trusted
    │   └── ManifestError               1   a manifest is damaged, or newer than this program
    └── SandboxError                    1   the embedded cloud cannot start or work here

``!`` marks what ends everything (``ends_everything``): after it, nothing else can be done, or must be. Every other
error is that of one item or place, and the work goes on with the others. Only ``goldenami/each.py`` catches it there.

Each carries a ``hint``: the next step to take, a full sentence, or None where there is no better advice than the
message itself. Errors of boto3 and paramiko are translated where they enter (``aws/errors.py``, ``ssh/``).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar


class GoldenAmiError(Exception):
    """The root. ``exit_code`` is what a process that ends with this error exits with.

    ``ends_everything``: whether the whole run ends by it, and not only the item or place that raised it.
    ``can_clean_up``: whether what was made can be deleted afterwards; False where no call can be made any more, or none
    be written down.
    """

    exit_code = 1
    ends_everything: ClassVar[bool] = False
    can_clean_up: ClassVar[bool] = True

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class UsageError(GoldenAmiError):
    """The command line asks for something that makes no sense."""

    exit_code = 2


@dataclass(frozen=True, slots=True, order=True)
class Problem:
    """One mistake in a file that a person wrote. Lines and columns count from 1; 0 means unknown."""

    file: str
    line: int
    column: int
    message: str
    hint: str | None = None

    def __str__(self) -> str:
        place = ":".join([self.file, *(str(n) for n in (self.line, self.column) if n)])
        return f"{place}: {self.message}"


class InvalidInput(GoldenAmiError):
    """What was written cannot be used. ``problems`` holds all of them, ordered by place; it is never empty."""

    exit_code = 2

    def __init__(self, problems: Sequence[Problem]) -> None:
        ordered = tuple(sorted(set(problems), key=lambda p: (p.file, p.line, p.column, p.message)))
        if not ordered:
            raise ValueError("InvalidInput needs at least one problem")
        count = len(ordered)
        super().__init__(f"{count} problem{'s' if count != 1 else ''} found")
        self.problems = ordered


class NotFound(GoldenAmiError):
    """Something that was named does not exist (or is not visible to the caller)."""

    exit_code = 3


class AccessError(GoldenAmiError):
    """Credentials are missing, expired, for the wrong account, or do not allow the call."""

    exit_code = 4


class CredentialsRefused(AccessError):
    """The credentials have expired, were withdrawn, or cannot be renewed (or the clock that signs is wrong): every
    further call would be refused as well, so that nothing is to be tried, and a build stops where it is."""

    ends_everything = True
    can_clean_up = False


class TestsFailed(GoldenAmiError):
    """A gate of validation failed: the image is not published."""

    exit_code = 5
    __test__ = False  # the name starts like a test class; pytest must not collect it


class TargetsFailed(GoldenAmiError):
    """Some targets have their image and some do not; ``failures`` maps the target's label to its reason."""

    exit_code = 6

    def __init__(self, message: str, *, failures: dict[str, str], hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.failures = failures


class Interrupted(GoldenAmiError):
    """A signal asked for the end, and clean-up is done."""

    exit_code = 130
    ends_everything = True


class CloudError(GoldenAmiError):
    """The cloud refused or failed a call. ``code`` is the service's own error code, ``action`` the API action.
    ``reason``: what some services (EBS) tell apart within one code, in their words."""

    def __init__(
        self,
        message: str,
        *,
        code: str = "",
        action: str = "",
        account: str = "",
        region: str = "",
        hint: str | None = None,
        reason: str = "",
    ) -> None:
        super().__init__(message, hint=hint)
        self.code = code
        self.reason = reason
        self.action = action
        self.account = account
        self.region = region


class Throttled(CloudError):
    """The service kept on throttling for longer than the budget for retries."""


class Unreachable(CloudError):
    """No usable answer: the endpoint does not resolve, refuses, resets or times out."""


class BuilderError(GoldenAmiError):
    """A temporary instance did not start, could not be reached, or went away."""


class ConnectionLost(BuilderError):
    """The SSH connection ended in the middle of something that may or may not have happened."""


class HostLost(BuilderError):
    """A temporary instance that was there is not any more: through no fault of the recipe, so another one may serve.

    ``reason``: what happened to it, in few words. ``reclaimed``: EC2 took a spot instance back.
    """

    def __init__(
        self, message: str, *, instance_id: str, reason: str, reclaimed: bool = False, hint: str | None = None
    ) -> None:
        super().__init__(message, hint=hint)
        self.instance_id = instance_id
        self.reason = reason
        self.reclaimed = reclaimed


class OperationFailed(GoldenAmiError):
    """An operation failed on the host. ``place`` is file:line:column in the recipe, ``output`` its last lines."""

    def __init__(
        self, message: str, *, place: str = "", status: int | None = None, output: str = "", hint: str | None = None
    ) -> None:
        super().__init__(message, hint=hint)
        self.place = place
        self.status = status
        self.output = output


class OperationDoubtful(OperationFailed):
    """The host went away while an operation ran that cannot tell whether it was done: it is not repeated."""


class JournalError(GoldenAmiError):
    """The journal is missing, torn in the middle, locked by another process, or not of this build."""

    ends_everything = True
    can_clean_up = False


class LeaseLost(JournalError):
    """The lease on a journal expired, and another process may have taken it over: this one must not change anything."""


class Busy(JournalError):
    """Another process holds the lock of a build or a recipe: waiting may help."""

    ends_everything = False  # the other builds are free


class UnjournaledMutation(GoldenAmiError):
    """A mutating call was about to be sent without an intent in the journal. A bug in goldenami, never user error."""

    ends_everything = True


class CatalogError(GoldenAmiError):
    """The catalog is damaged, locked by another process, on a full disk, or would have to change what is immutable."""


class ManifestError(CatalogError):
    """A manifest is damaged, or of a schema that this version of goldenami does not know."""


class SandboxError(GoldenAmiError):
    """The embedded cloud cannot start. It is a distribution of its own: ``plugins`` translates its errors to this one,
    with their message, hint and exit code."""
