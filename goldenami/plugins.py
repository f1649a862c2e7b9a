"""Other distributions that add to goldenami, found by their entry points in the group ``goldenami.plugins``.

There is one so far: ``sandbox``, the embedded cloud, of the distribution goldenami-sandbox. Its entry point is a module
(or an object) as ``SandboxPlugin`` describes it. goldenami imports nothing of it by name.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, Protocol, cast

from goldenami.errors import SandboxError, UsageError

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

    import click

GROUP = "goldenami.plugins"
INSTALL = "pip install 'goldenami[sandbox]'"

Find = Callable[[], "Iterable[EntryPoint]"]


class SandboxPlugin(Protocol):
    """What the entry point ``sandbox`` is. ``Error``: its errors, with ``message``, ``hint`` and ``exit_code``."""

    Error: type[Exception]

    def command(self) -> click.Command:
        """The command (a group) that the command line lists as ``sandbox``."""

    def is_up(self) -> bool:
        """Whether the sandbox runs now. Starts nothing."""

    def variables(self, region: str, progress: Callable[[str], None]) -> Mapping[str, str]:
        """Start the sandbox if need be; the environment variables that point an AWS client at it. Raises ``Error``."""


def installed() -> Iterable[EntryPoint]:
    """The entry points of the group in this Python environment."""
    from importlib.metadata import entry_points

    return entry_points(group=GROUP)


def sandbox(find: Find = installed) -> SandboxPlugin:
    """The sandbox, imported. Raises UsageError where it is not installed."""
    for entry in find():
        if entry.name == "sandbox":
            return cast(SandboxPlugin, entry.load())
    raise UsageError("the sandbox is not installed", hint=f"Install it: {INSTALL}")


def sandbox_is_up(find: Find = installed) -> bool:
    """Whether a sandbox runs now; False where it is not installed. Starts nothing."""
    return any(entry.name == "sandbox" for entry in find()) and sandbox(find).is_up()


def sandbox_variables(region: str, progress: Callable[[str], None], find: Find = installed) -> dict[str, str]:
    """The environment variables that point an AWS client at a running sandbox, which is started if need be.

    Raises UsageError where the sandbox is not installed, SandboxError where it does not start.
    """
    plugin = sandbox(find)
    try:
        return dict(plugin.variables(region, progress))
    except plugin.Error as error:
        said: Any = error
        translated = SandboxError(said.message, hint=said.hint)
        translated.exit_code = said.exit_code
        raise translated from error
