"""The services that the sandbox implements, wholly or in part, one module each.

To add a service, put a module with a class like this into this package. No other change is needed::

    @service("rbin")                          # the name that requests are signed for
    class RecycleBin(Service):
        def serve(self, call, identity): ...  # a response, or None: moto answers this action

Each cloud makes one object of the class, with a ``World``: what a service may use. ``Modelled`` (``modelled.py``) is a
``Service`` for REST services; its actions are methods that take the parameters of botocore's model. The calls of all
services fit their models, because ``validation`` refuses the others. Modules that register no service are helpers of
the others.

moto answers the services of all other names.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any, TypeVar

from goldenami_sandbox.authorization import Authorization
from goldenami_sandbox.credentials import Credentials, Identity
from goldenami_sandbox.ec2.service import Ec2
from goldenami_sandbox.http import Response
from goldenami_sandbox.node.api import Node
from goldenami_sandbox.optin import OptIns
from goldenami_sandbox.protocol import Call
from goldenami_sandbox.seed import PublicParameter
from goldenami_sandbox.settings import Settings
from goldenami_sandbox.surface import Surface
from goldenami_sandbox.validation import Invalid
from goldenami_sandbox.visibility import Visibility

S = TypeVar("S", bound="Service")


@dataclass(frozen=True)
class World:
    """What a service may use. ``settings``: returns the current settings.

    ``public``: returns the vendors' SSM parameters of a region, after its public images were created.
    """

    surface: Surface
    ec2: Ec2
    node: Node
    credentials: Credentials
    authorization: Authorization
    visibility: Visibility
    clock: Callable[[], float]
    settings: Callable[[], Settings]
    public: Callable[[str], list[PublicParameter]]
    optins: OptIns = field(default_factory=OptIns)


class Service:
    """A service of one cloud. Calls come from any number of threads."""

    def __init__(self, world: World) -> None:
        self.world = world

    def serve(self, call: Call, identity: Identity) -> Response | None:
        """Return the response to a call, or None to leave the call to moto."""
        raise NotImplementedError

    def refuse(self, call: Call, invalid: Invalid) -> Response:
        """Return the response to a call that does not fit the model of its service."""
        return invalid.response

    def settle(self) -> None:
        """Do the work that is due. It is called before every call of any service, so it must be fast if
        nothing is due.
        """

    def dump(self) -> Any:
        """Return the service's state as JSON values, or None if it has none."""

    def load(self, state: Any) -> None:
        """Restore the result of ``dump``, before the first call."""


_registered: dict[str, type[Service]] = {}


def service(name: str) -> Callable[[type[S]], type[S]]:
    """Register the class as the service for requests signed with this name. Raises ValueError for a second
    registration.
    """

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
    """Return all service classes by name. The first call imports their modules."""
    _import_all()
    return _registered


class Services:
    """The services of a cloud, by the name that requests are signed for."""

    def __init__(self, world: World, kinds: Mapping[str, type[Service]] | None = None) -> None:
        self._all = {name: kind(world) for name, kind in (registered() if kinds is None else kinds).items()}
        self._settling = [one for one in self._all.values() if type(one).settle is not Service.settle]

    def __iter__(self) -> Iterator[Service]:
        return iter(self._all.values())

    def get(self, name: str) -> Service | None:
        return self._all.get(name)

    def of(self, kind: type[S]) -> S:
        """Return the service of this class. Raises LookupError if the cloud does not have it."""
        for one in self._all.values():
            if type(one) is kind:
                return one
        raise LookupError(f"this cloud has no {kind.__name__}")

    def settle(self) -> None:
        for one in self._settling:
            one.settle()

    def dump(self) -> dict[str, Any]:
        """Return the state of the services that have state, by name."""
        states = {name: one.dump() for name, one in self._all.items()}
        return {name: state for name, state in states.items() if state is not None}

    def load(self, states: Mapping[str, Any]) -> None:
        """Restore the result of ``dump``. A service that is not in it starts empty."""
        for name, one in self._all.items():
            if name in states:
                one.load(states[name])
