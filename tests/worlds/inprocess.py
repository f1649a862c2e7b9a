"""Clients that call a cloud of this process directly, whoever makes them.

A call over HTTP on loopback takes four times the processor time of a direct one (``goldenami_sandbox.direct``).
``test_wire`` and ``test_direct`` hold the two side by side.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

import pytest
from botocore.client import ClientCreator
from goldenami_sandbox.direct import Direct
from goldenami_sandbox.http import Response
from goldenami_sandbox.protocol import Call

_SERVED: dict[str, Callable[[Call], Response]] = {}  # by endpoint


@contextmanager
def called_directly(endpoint: str, serve: Callable[[Call], Response]) -> Iterator[None]:
    """Inside the block, new clients of an endpoint hand their calls to ``serve``."""
    _attach_to_clients()
    _SERVED[endpoint] = serve
    try:
        yield
    finally:
        del _SERVED[endpoint]


@cache
def _attach_to_clients() -> None:
    creator: Any = ClientCreator
    create = creator.create_client

    def create_client(self: Any, *arguments: Any, **options: Any) -> Any:
        client = create(self, *arguments, **options)
        serve = _SERVED.get(client.meta.endpoint_url)
        if serve is not None:
            Direct(serve).attach(client)
        return client

    pytest.MonkeyPatch().setattr(creator, "create_client", create_client)
