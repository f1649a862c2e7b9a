"""The handler that a recipe need not write: reload a service."""

from __future__ import annotations

from goldenami.model import Mark
from goldenami.provision.operation import BoundOperation, Handler
from goldenami.provision.services import Service


def implied_handler(name: str, mark: Mark) -> Handler:
    """Reloads the service of that name, or restarts it if it cannot reload."""
    return Handler(name, (BoundOperation(Service(name=name, state="reloaded"), mark),))
