"""Finds distributions that extend goldenami, by their entry points in the group ``goldenami.plugins``.

The only entry point is ``sandbox``, of the distribution goldenami-sandbox. It is a module (or an object) as
``SandboxPlugin`` describes it. goldenami does not import it by name.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, cast

from goldenami.errors import SandboxError, UsageError
from goldenami.nextstep import step
from goldenami.packages import entry_points

if TYPE_CHECKING:
    import click

GROUP = "goldenami.plugins"
INSTALL = "pip install 'goldenami[sandbox]'"


class Loadable(Protocol):
    """An entry point, of ``packages`` or of the standard library."""

    @property
    def name(self) -> str:
        """The name that the package gives it."""

    def load(self) -> Any:
        """Import the object."""


Find = Callable[[], Iterable[Loadable]]


class SandboxPlugin(Protocol):
    """The interface of the entry point ``sandbox``. ``Error``: the base class of its errors, with ``message``, ``hint``
    and ``exit_code``."""

    Error: type[Exception]

    def command(self) -> click.Command:
        """Return the command group ``goldenami sandbox``."""

    def is_up(self) -> bool:
        """Return whether the sandbox runs now. Starts nothing."""

    def directory(self, endpoint_url: str | None) -> Path | None:
        """Return the directory for files that must live and end with a sandbox of this machine: of the default one, or
        of the one at an endpoint. None if no sandbox of this machine has that endpoint. Creates and starts nothing."""

    def instances(self, endpoint_url: str) -> tuple[str, str, str] | None:
        """Return how instances run in the running sandbox of this machine that has an endpoint ("systemd", "none"),
        what this machine lacks for a better way, and what to do about it. None if no such sandbox has it."""

    def variables(self, region: str, progress: Callable[[str], None]) -> Mapping[str, str]:
        """Start the sandbox if it does not run, and return the environment variables that direct an AWS client to it.
        Raises ``Error``."""


def installed() -> Iterable[Loadable]:
    """Return the entry points of the group in this Python environment."""
    return entry_points(GROUP)


def sandbox(find: Find = installed) -> SandboxPlugin:
    """Import the sandbox and return it. Raises UsageError if it is not installed."""
    plugin = _sandbox(find)
    if plugin is None:
        raise UsageError(f"the sandbox is not installed. Install it with: {INSTALL}")
    return plugin


def _sandbox(find: Find) -> SandboxPlugin | None:
    """Import the sandbox and return it; None if it is not installed. The entry points are read once: with many
    distributions, that takes a while."""
    return next((cast(SandboxPlugin, entry.load()) for entry in find() if entry.name == "sandbox"), None)


def sandbox_is_up(find: Find = installed) -> bool:
    """Return whether the sandbox runs now. Returns False if it is not installed. Starts nothing."""
    plugin = _sandbox(find)
    return plugin is not None and plugin.is_up()


def sandbox_directory(endpoint_url: str | None, find: Find = installed) -> Path | None:
    """Return the directory for files that live and end with the sandbox: with the default one, or with the one at an
    endpoint.

    Returns None if the sandbox is not installed, or if no sandbox of this machine has that endpoint. Starts nothing.
    """
    plugin = _sandbox(find)
    return plugin.directory(endpoint_url or None) if plugin is not None else None


def require_instances(endpoint_url: str | None, find: Find = installed) -> None:
    """Raises SandboxError if the endpoint is a sandbox of this machine to whose instances nothing can connect.

    Does nothing for AWS, for any other cloud, and without an endpoint.
    """
    plugin = _sandbox(find) if endpoint_url else None
    found = plugin.instances(endpoint_url) if plugin is not None and endpoint_url else None
    if found is not None and found[0] == "none":
        raise SandboxError(
            f"no instance can be reached: this sandbox serves the APIs only ({found[1]})",
            hint=f"{found[2]} Then start it again with real instances: {step('sandbox reset', '--yes')}".strip(),
        )


def sandbox_variables(region: str, progress: Callable[[str], None], find: Find = installed) -> dict[str, str]:
    """Start the sandbox if it does not run, and return the environment variables that direct an AWS client to it.

    Raises UsageError if the sandbox is not installed, and SandboxError if it does not start.
    """
    plugin = sandbox(find)
    try:
        return dict(plugin.variables(region, progress))
    except plugin.Error as error:
        original: Any = error
        translated = SandboxError(original.message, hint=original.hint)
        translated.exit_code = original.exit_code
        raise translated from error
