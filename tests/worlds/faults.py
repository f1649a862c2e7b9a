"""What can happen to a call on its way, and when it happens."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable
from dataclasses import replace

from goldenami_sandbox.http import Response
from goldenami_sandbox.protocol import Call

from tests.worlds.builds import TIMEOUT, Label

Fault = Callable[[Call, Callable[[], Response]], Response]


def throttled(call: Call, serve: Callable[[], Response]) -> Response:
    if call.service == "ec2":
        return call.error("RequestLimitExceeded", "Request limit exceeded.", 503)
    return call.error("ThrottlingException" if call.service != "sts" else "Throttling", "Rate exceeded", 400)


def broken(call: Call, serve: Callable[[], Response]) -> Response:
    return call.error("InternalError", "An internal error has occurred", 500)


def broken_after(call: Call, serve: Callable[[], Response]) -> Response:
    serve()
    return broken(call, serve)


def reset(call: Call, serve: Callable[[], Response]) -> Response:
    return Response(0, drop=True)


def lost(call: Call, serve: Callable[[], Response]) -> Response:
    serve()
    return Response(0, drop=True)


def denied(call: Call, serve: Callable[[], Response]) -> Response:
    code = {"ec2": "UnauthorizedOperation", "sts": "AccessDenied"}.get(call.service, "AccessDeniedException")
    return call.error(code, "You are not authorized to perform this operation.", 403)


def unanswered(call: Call, serve: Callable[[], Response]) -> Response:
    """The effect is there, and the client has hung up when the answer comes."""
    return replace(serve(), late=TIMEOUT + 0.3)


PASSING = (throttled, broken, broken_after, reset, lost, unanswered)
FAULTS = (*PASSING, denied)


class Once:
    """One call meets a fault."""

    def __init__(self, label: Label, fault: Fault) -> None:
        self.label, self.fault = label, fault

    def __call__(self, label: Label, call: Call, serve: Callable[[], Response]) -> Response:
        if label != self.label:
            return serve()
        return self.fault(call, serve)


class FromThenOn(Once):
    """That call meets a fault, and so do all of its kind and place that come after it."""

    def __call__(self, label: Label, call: Call, serve: Callable[[], Response]) -> Response:
        if label[:4] != self.label[:4] or label.ordinal < self.label.ordinal:
            return serve()
        return self.fault(call, serve)


class Storm:
    """Any call may meet any fault."""

    def __init__(self, seed: int, rate: float) -> None:
        self._random = random.Random(seed)
        self._rate = rate
        self._guard = threading.Lock()

    def __call__(self, label: Label, call: Call, serve: Callable[[], Response]) -> Response:
        with self._guard:
            fault = self._random.choice(PASSING) if self._random.random() < self._rate else None
        if fault is None:
            return serve()
        return fault(call, serve)
