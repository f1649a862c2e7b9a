"""Every error that the sandbox raises on purpose. The tree, with the exit code that the command line gives each class:

    SandboxError                1   the sandbox cannot do what was asked
    ├── UsageError              2   an option, argument or name that cannot be used
    ├── InvalidSettings         2   settings that are not valid: every problem at once
    ├── NotFound                3   a sandbox that does not run; an instance or image that does not exist
    ├── StateError              1   the state on disk is damaged, or of a format that this version does not read
    └── SandboxUnsupported      1   this machine lacks something (root, a kernel feature, a package)

Each carries a ``message`` and a ``hint``: the next step to take, a full sentence, or None. Errors of the AWS APIs that
the sandbox answers with are not here: they go to the client of the API (``ec2.context.Ec2Error``).
"""

from __future__ import annotations

from collections.abc import Sequence

# The console script of this distribution. Messages and hints name it; the command line shows the name that it was
# called by instead (``goldenami sandbox``).
PROGRAM = "goldenami-sandbox"


def called(text: str, program: str) -> str:
    """A message or hint with the commands in it (between backquotes) as they are called in ``program``."""
    return text.replace(f"`{PROGRAM} ", f"`{program} ")


class SandboxError(Exception):
    """The root. ``exit_code`` is the exit status of a process that ends with this error."""

    exit_code = 1

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class UsageError(SandboxError):
    """An option, an argument or a name cannot be used; the message names it and what is expected."""

    exit_code = 2


class InvalidSettings(SandboxError):
    """The settings are not valid. ``problems``: one sentence for each, in the order of the input; never empty."""

    exit_code = 2

    def __init__(self, problems: Sequence[str]) -> None:
        if not problems:
            raise ValueError("InvalidSettings needs at least one problem")
        self.problems = tuple(problems)
        count = len(self.problems)
        super().__init__(f"{count} problem{'s' if count != 1 else ''} found")


class NotFound(SandboxError):
    """The sandbox does not run, or it has no instance or image of that id."""

    exit_code = 3


class StateError(SandboxError):
    """The state directory cannot be read: damaged, or written by another version in a format of its own."""


class SandboxUnsupported(SandboxError):
    """This machine lacks something that the sandbox needs; the message lists all of it."""
