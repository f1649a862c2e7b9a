"""The handler that recipes can notify without defining it: reload a service."""

from __future__ import annotations

from goldenami.model import Mark
from goldenami.provision.operation import BoundOperation, Handler
from goldenami.provision.services import Service


def implied_handler(name: str, mark: Mark) -> Handler:
    """Return a handler that reloads the service of that name, or restarts it if it cannot reload."""
    return Handler(name, (BoundOperation(Service(name=name, state="reloaded"), mark),))
