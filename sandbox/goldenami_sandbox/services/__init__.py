"""The services of the cloud that the sandbox answers itself, wholly or in part; a module each.

To add one, put a module into this package with a class like this; nothing else needs to know of it::

    @service("rbin")                          # the name that requests are signed for
    class RecycleBin(Service):
        def serve(self, call, identity): ...  # a response, or None: moto answers this action

The class is made once for each cloud, with a ``World``: what a service may use. ``Modelled`` (``modelled.py``) is a
``Service`` for REST services whose actions are methods over the parameters of botocore's model. Modules here that
register nothing are helpers of the others.

Services of other names are answered by moto alone.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, TypeVar

from goldenami_sandbox.credentials import Credentials, Identity
from goldenami_sandbox.ec2.service import Ec2
from goldenami_sandbox.http import Response
from goldenami_sandbox.node.api import Node
from goldenami_sandbox.protocol import Call
from goldenami_sandbox.seed import PublicParameter
from goldenami_sandbox.settings import Settings
from goldenami_sandbox.surface import Surface
from goldenami_sandbox.visibility import Visibility

S = TypeVar("S", bound="Service")


@dataclass(frozen=True)
class World:
    """What a service may use. ``settings``: those of this moment. ``public``: the vendors' SSM parameters in a region,
    after its public images were made."""

    surface: Surface
    ec2: Ec2
    node: Node
    credentials: Credentials
    visibility: Visibility
    clock: Callable[[], float]
    settings: Callable[[], Settings]
    public: Callable[[str], list[PublicParameter]]


class Service:
    """One service of one cloud. Calls come from any number of threads."""

    def __init__(self, world: World) -> None:
        self.world = world

    def serve(self, call: Call, identity: Identity) -> Response | None:
        """The response to a call; None leaves the call to moto."""
        raise NotImplementedError

    def settle(self) -> None:
        """Do what is due by now. Called before every call of any service, so that no client sees what should have
        been done; it must be cheap where nothing is due."""

    def dump(self) -> Any:
        """The service's own state as JSON values; None where it has none."""

    def load(self, state: Any) -> None:
        """Take over what ``dump`` gave, before the first call."""


_registered: dict[str, type[Service]] = {}


def service(name: str) -> Callable[[type[S]], type[S]]:
    """Register the class as the service that requests of this name are signed for. Raises ValueError for a second."""

    def register(kind: type[S]) -> type[S]:
        if _registered.setdefault(name, kind) is not kind:
            raise ValueError(f"the service {name} is registered twice: {_registered[name]} and {kind}")
        return kind

    return register


@cache
def _import_all() -> None:
    for module in pkgutil.iter_modules(__path__):
        importlib.import_module(f"{__name__}.{module.name}")


def registered() -> Mapping[str, type[Service]]:
    """All services, by name. The first call imports their modules."""
    _import_all()
    return _registered


class Services:
    """The services of one cloud, by the name that requests are signed for."""

    def __init__(self, world: World, kinds: Mapping[str, type[Service]] | None = None) -> None:
        self._all = {name: kind(world) for name, kind in (registered() if kinds is None else kinds).items()}

    def __iter__(self) -> Iterator[Service]:
        return iter(self._all.values())

    def get(self, name: str) -> Service | None:
        return self._all.get(name)

    def of(self, kind: type[S]) -> S:
        """The service of this class. Raises LookupError where the cloud does not have it."""
        for one in self._all.values():
            if type(one) is kind:
                return one
        raise LookupError(f"this cloud has no {kind.__name__}")

    def settle(self) -> None:
        for one in self._all.values():
            one.settle()

    def dump(self) -> dict[str, Any]:
        """The state of those that have any, by name."""
        states = {name: one.dump() for name, one in self._all.items()}
        return {name: state for name, state in states.items() if state is not None}

    def load(self, states: Mapping[str, Any]) -> None:
        """Take over what ``dump`` gave. A service that is new since then begins empty."""
        for name, one in self._all.items():
            if name in states:
                one.load(states[name])
