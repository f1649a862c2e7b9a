"""Every error that the sandbox raises on purpose, with the exit code of the command line for each class.

    SandboxError                1   the sandbox cannot do what the caller requested
    ├── UsageError              2   an option, argument or name that cannot be used
    ├── InvalidSettings         2   settings that are not valid; all problems at once
    ├── NotFound                3   the sandbox is not running; an instance or image does not exist
    ├── StateError              1   the state on disk is damaged, or this version cannot read its format
    └── SandboxUnsupported      1   this machine lacks something (root, a kernel feature, a package)

Each error has a ``message`` and a ``hint``. The hint is the next step as a full sentence, or None. Error answers of the
AWS APIs are not in this module: they go to the client of the API (``ec2.context.Ec2Error``).
"""

from __future__ import annotations

from collections.abc import Sequence

# The console script of this distribution. Messages and hints contain this name. The command line replaces it by the
# name that the user typed (``goldenami sandbox``).
PROGRAM = "goldenami-sandbox"


def called(text: str, program: str) -> str:
    """Replace the program's name in the commands of a message or hint (between backquotes) by ``program``."""
    return text.replace(f"`{PROGRAM} ", f"`{program} ")


class SandboxError(Exception):
    """The base class of all errors here. ``exit_code`` is the exit status of a process that ends with this error."""

    exit_code = 1

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class UsageError(SandboxError):
    """An option, an argument or a name cannot be used. The message names it and the expected form."""

    exit_code = 2


class InvalidSettings(SandboxError):
    """The settings are not valid. ``problems`` has one sentence for each, in the order of the input, and is never
    empty.
    """

    exit_code = 2

    def __init__(self, problems: Sequence[str]) -> None:
        if not problems:
            raise ValueError("InvalidSettings needs at least one problem")
        self.problems = tuple(problems)
        count = len(self.problems)
        super().__init__(f"{count} problem{'s' if count != 1 else ''} found")


class NotFound(SandboxError):
    """The sandbox is not running, or it has no instance or image with that id."""

    exit_code = 3


class StateError(SandboxError):
    """The state directory cannot be read: it is damaged, or another version wrote it in an unknown format."""


class SandboxUnsupported(SandboxError):
    """This machine lacks something that the sandbox needs. The message lists everything that is missing."""


class VolumeInUse(SandboxError):
    """The guest has mounted a volume, or a program of the guest has it open."""


class NoRoom(SandboxError):
    """The disk, or the limit of the settings, has no room for what was asked."""
