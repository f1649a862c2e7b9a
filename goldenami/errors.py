"""The errors that goldenami raises. The tree, with the exit code of the command line for each class::

    GoldenAmiError                      1
    ├── UsageError                      2   a wrong option, argument or combination
    ├── InvalidInput                    2   mistakes in recipes or goldenami.yaml: all of them, each with its place
    ├── NotFound                        3   a recipe, release, image, region or key that does not exist
    ├── AccessError                     4   credentials are missing or lack a permission; an unknown account
    │   └── CredentialsRefused        ! 4   AWS does not accept the credentials any more: no call is possible
    ├── TestsFailed                     5   tests failed at a gate
    ├── ConditionsUnmet                 5   a channel cannot be moved: conditions of goldenami.yaml are not met
    ├── TargetsFailed                   6   some targets have their image, others failed
    ├── Interrupted                 ! 130   Ctrl-C, SIGTERM or SIGHUP, after clean-up
    ├── CloudError                      1   an API call was refused or failed (with code, action and place)
    │   ├── NameTaken                   1   another resource has the name that a new one must have
    │   ├── Throttled                   1   the service throttled the call until the retries ended
    │   └── Unreachable                 1   the endpoint gave no usable answer
    │       └── PlaceUnreachable        1   a service of a place answers no call: further calls are not made
    ├── BuilderError                    1   the temporary instance did not start, or is unreachable
    │   ├── ConnectionLost              1   the SSH connection ended during an operation
    │   └── HostLost                    1   the instance ended or became unreachable
    ├── OperationFailed                 1   one operation of a recipe failed on the host
    │   └── OperationDoubtful           1   the operation has an unknown outcome
    ├── JournalError                  ! 1   the journal cannot be read or written, or is damaged
    │   ├── LeaseLost                 ! 1   another process may have taken the journal over
    │   └── Busy                        1   another process holds the lock
    ├── UnjournaledMutation           ! 1   a bug: a mutating call without an intent
    ├── UnscopedRead              ! 1   a bug: a search of all public images or snapshots
    ├── OutputFailed                    7   a file that the user named for the output cannot be written
    ├── CatalogError                    1   the catalog cannot be read, written or locked, or is damaged
    │   └── ManifestError               1   a manifest is damaged, or newer than this program
    └── SandboxError                    1   the sandbox cannot start or work on this machine

``!`` marks errors that end the whole run (``ends_everything``). Every other error belongs to one item or place, and the
run continues with the others. Only ``goldenami/each.py`` catches such an error and continues.

Each error has a ``hint``: the next step to take, as a full sentence; None if the message is enough. Errors of boto3 and
paramiko are translated in ``aws/errors.py`` and ``ssh/``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Self


class GoldenAmiError(Exception):
    """The base class of all errors. ``exit_code``: the exit code of the process.

    ``ends_everything``: the error ends the whole run. False: it ends only the item or place that raised it.
    ``can_clean_up``: created resources can be deleted after the error. False: no call is possible any more, or the
    journal cannot be written.
    ``can_resume``: a resume of the same build may succeed. False: it would fail in the same way, so no resume is
    offered, and nothing is kept for one.
    """

    exit_code = 1
    ends_everything: ClassVar[bool] = False
    can_clean_up: ClassVar[bool] = True
    can_resume: bool = True

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def at(self, mark: object) -> Self:
        """Return this error with the place of its cause in a file, once, before the message."""
        if str(mark) and not self.message.startswith(f"{mark}: "):
            self.message = f"{mark}: {self.message}"
            self.args = (self.message,)
        return self


class UsageError(GoldenAmiError):
    """An option, an argument or their combination is wrong."""

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
    """Files that a user wrote have mistakes. ``problems``: all of them, sorted by place; at least one."""

    exit_code = 2

    def __init__(self, problems: Sequence[Problem]) -> None:
        ordered = tuple(sorted(set(problems), key=lambda p: (p.file, p.line, p.column, p.message)))
        if not ordered:
            raise ValueError("InvalidInput needs at least one problem")
        count = len(ordered)
        super().__init__(f"{count} problem{'s' if count != 1 else ''} found")
        self.problems = ordered


class OutputFailed(GoldenAmiError):
    """A file that the user named for the output cannot be written. The work itself is done."""

    exit_code = 7


class NotFound(GoldenAmiError):
    """A resource, release or file does not exist, or is not visible to the caller."""

    exit_code = 3


class AccessError(GoldenAmiError):
    """Credentials are missing, expired, for the wrong account, or do not allow the call."""

    exit_code = 4


class CredentialsRefused(AccessError):
    """The credentials have expired, were revoked or cannot be renewed, or this machine's clock is wrong.

    AWS would refuse every further call too. So a build stops at once, without clean-up.
    """

    ends_everything = True
    can_clean_up = False


class TestsFailed(GoldenAmiError):
    """Tests failed at a gate. The image is not published. ``details``: the lines about each failed test.
    ``headline``: the message without them."""

    exit_code = 5
    __test__ = False  # the name starts like a test class; pytest must not collect it

    def __init__(self, message: str, *, hint: str | None = None, details: Sequence[str] = ()) -> None:
        super().__init__("\n".join([f"{message}:", *details]) if details else message, hint=hint)
        self.headline = message


class ConditionsUnmet(GoldenAmiError):
    """A channel cannot be moved to a release. ``reasons``: the conditions that are not met, as text."""

    exit_code = 5

    def __init__(self, message: str, *, reasons: Sequence[str], hint: str | None = None) -> None:
        super().__init__(f"{message}: {'; '.join(reasons)}", hint=hint)
        self.reasons = tuple(reasons)


class TargetsFailed(GoldenAmiError):
    """Some targets have their image and others failed. ``failures``: the reason, by the target's label."""

    exit_code = 6

    def __init__(
        self, message: str, *, failures: dict[str, str], hint: str | None = None, can_resume: bool = True
    ) -> None:
        super().__init__(message, hint=hint)
        self.failures = failures
        self.can_resume = can_resume


class Interrupted(GoldenAmiError):
    """The run was ended by a signal (Ctrl-C, SIGTERM, SIGHUP), and the clean-up is done."""

    exit_code = 130
    ends_everything = True


class CloudError(GoldenAmiError):
    """An API call was refused or failed. ``code``: the service's error code. ``action``: the API action.
    ``reason``: a second code that some services (EBS) return for the same ``code``."""

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


class NameTaken(CloudError):
    """Another resource has the name that a new resource must have, so every repeated call is refused, too.

    The message names the holder: its id, its owner and its tags.
    """

    can_resume = False


class Throttled(CloudError):
    """The service throttled the call for longer than the limit for retries."""


class Unreachable(CloudError):
    """The endpoint gave no usable answer: its name does not resolve, or the connection failed or timed out."""


class PlaceUnreachable(Unreachable):
    """A service of a place has answered no call for so long that its calls are not made for a while."""

    def copy(self) -> PlaceUnreachable:
        """Return the same error, to raise it in another thread."""
        return PlaceUnreachable(
            self.message,
            code=self.code,
            action=self.action,
            account=self.account,
            region=self.region,
            hint=self.hint,
        )


class BuilderError(GoldenAmiError):
    """A temporary instance did not start, is unreachable or was lost."""


class ConnectionLost(BuilderError):
    """The SSH connection ended while an operation ran. The operation has an unknown outcome."""


class HostLost(BuilderError):
    """A temporary instance ended or became unreachable, not because of the recipe. Another instance can replace it.

    ``reason``: what happened to it, in a few words. ``reclaimed``: EC2 reclaimed a spot instance.
    """

    def __init__(
        self, message: str, *, instance_id: str, reason: str, reclaimed: bool = False, hint: str | None = None
    ) -> None:
        super().__init__(message, hint=hint)
        self.instance_id = instance_id
        self.reason = reason
        self.reclaimed = reclaimed


class OperationFailed(GoldenAmiError):
    """An operation failed on the host. ``place``: file:line:column in the recipe. ``output``: its last lines."""

    def __init__(
        self, message: str, *, place: str = "", status: int | None = None, output: str = "", hint: str | None = None
    ) -> None:
        super().__init__(message, hint=hint)
        self.place = place
        self.status = status
        self.output = output


class OperationDoubtful(OperationFailed):
    """An operation has an unknown outcome, because the host was lost while it ran. It is not repeated."""


class JournalError(GoldenAmiError):
    """The journal is missing or damaged, cannot be written, or belongs to another build."""

    ends_everything = True
    can_clean_up = False


class LeaseLost(JournalError):
    """The lease on a journal expired, and another process may hold it. This process must not change anything."""


class Busy(JournalError):
    """Another process holds the lock of a build or a recipe. Waiting may help."""

    ends_everything = False  # the process may work on the other builds


class UnjournaledMutation(GoldenAmiError):
    """A mutating call has no intent in the journal, so it was not sent. This is a bug in goldenami."""

    ends_everything = True


class UnscopedRead(GoldenAmiError):
    """A call would list all public images or snapshots, so it was not sent. This is a bug in goldenami."""

    ends_everything = True


class CatalogError(GoldenAmiError):
    """The catalog is damaged, locked by another process, or on a full disk; or an immutable file would change."""


class ManifestError(CatalogError):
    """A manifest is damaged, or has a schema that this version of goldenami cannot read."""


class SandboxError(GoldenAmiError):
    """The sandbox cannot start. ``plugins`` translates the sandbox's own errors into this one, with their message, hint
    and exit code."""
