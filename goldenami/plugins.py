"""Finds distributions that extend goldenami, by their entry points in the group ``goldenami.plugins``.

The only entry point is ``sandbox``, of the distribution goldenami-sandbox. It is a module (or an object) as
``SandboxPlugin`` describes it. goldenami does not import it by name.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
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

    def instances(self, endpoint_url: str) -> tuple[str, str, str, tuple[str, ...]] | None:
        """Return how instances run in the running sandbox of this machine that has an endpoint ("systemd", "namespace",
        "none"), what this machine lacks for a better way, what to do about it, and the program whose standard input and
        output is the connection to an instance, less the id (empty: TCP). None if no such sandbox has the endpoint."""

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


@dataclass(frozen=True, slots=True)
class Reach:
    """How the instances at an endpoint are reached. ``program``: its standard input and output is the connection, and
    the id of the instance is its last argument; empty: TCP. ``in_user_namespace``: instances have neither systemd nor a
    network of their own."""

    program: tuple[str, ...] = ()
    in_user_namespace: bool = False


def reach(endpoint_url: str | None, find: Find = installed) -> Reach:
    """Return how instances are reached. For AWS, for any other cloud, and without an endpoint, always by TCP, with
    systemd: only a running sandbox of this machine can say something else.

    Raises SandboxError if nothing can connect to the instances of that sandbox.
    """
    plugin = _sandbox(find) if endpoint_url else None
    found = plugin.instances(endpoint_url) if plugin is not None and endpoint_url else None
    if found is not None and found[0] == "none":
        raise SandboxError(
            f"no instance can be reached: this sandbox serves the APIs only ({found[1]})",
            hint=f"{found[2]} Then start it again with real instances: {step('sandbox reset', '--yes')}".strip(),
        )
    return Reach() if found is None else Reach(found[3], in_user_namespace=found[0] == "namespace")


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
