"""The answers to reads, for a command that asks about many recipes and must not ask for the same fact twice."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from typing import Any, Final

from goldenami.errors import AccessError, CloudError, Throttled, Unreachable
from goldenami.model import Place

# S3 is left out: its answers are streams, which can be read once, and the catalog locks what it changes.
SERVICES: Final = frozenset({"ec2", "kms", "ssm"})

Answer = dict[str, Any]


class Answers:
    """Keeps each answer, and each refusal, under its place and request. Thread-safe: who asks while the call is under
    way, waits for it."""

    def __init__(self) -> None:
        self._known: dict[tuple[Place, str, str, str], Future[Answer]] = {}
        self._mutex = threading.Lock()

    def get(
        self, place: Place, service: str, operation: str, request: Mapping[str, Any], ask: Callable[[], Answer]
    ) -> Answer:
        """Return the answer to a request, from ``ask`` the first time. Raises the error that ``ask`` raised.

        An error is kept if AWS refused the request. After any other one, the next caller asks again.
        """
        key = (place, service, operation, json.dumps(request, sort_keys=True, default=str))
        with self._mutex:
            known = self._known.get(key)
            answer = known or self._known.setdefault(key, Future())
        if known is not None:
            return known.result()
        try:
            answer.set_result(ask())
        except BaseException as error:
            if not isinstance(error, (CloudError, AccessError)) or isinstance(error, (Throttled, Unreachable)):
                with self._mutex:
                    del self._known[key]
            answer.set_exception(error)
        return answer.result()
