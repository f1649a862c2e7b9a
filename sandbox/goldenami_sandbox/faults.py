"""Applies latency, throttling and faults of the settings to calls."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeVar

from goldenami_sandbox.http import Response
from goldenami_sandbox.protocol import Call
from goldenami_sandbox.settings import Fault, Settings, Throttle

Serve = Callable[[Call], Response]
_T = TypeVar("_T")


@dataclass
class _Bucket:
    tokens: float
    filled: float


class Disturbance:
    """Wraps ``serve``. ``settings`` can be replaced at any time. The counters of faults that did not change
    are kept.
    """

    def __init__(self, clock: Callable[[], float], sleep: Callable[[float], None]) -> None:
        self._clock = clock
        self._sleep = sleep
        self._guard = threading.Lock()
        self._settings = Settings()
        self._matched_calls: dict[int, int] = {}  # calls that matched, by index of the fault
        self._buckets: dict[tuple[str, str, str], _Bucket] = {}

    def apply(self, settings: Settings) -> None:
        with self._guard:
            if settings.faults != self._settings.faults:
                self._matched_calls = {}
            if settings.throttle != self._settings.throttle:
                self._buckets = {}
            self._settings = settings

    def __call__(self, call: Call, serve: Serve) -> Response:
        settings = self._settings
        if latency := _by_action(settings.latency, call):
            self._sleep(latency)
        if self._throttled(settings, call):
            call.notes["fault"] = "throttled"
            return _throttle_error(call)
        fault = self._next_fault(settings, call)
        if fault is None:
            return serve(call)
        call.notes["fault"] = f"{fault.how} {fault.when}"
        if fault.when == "after":
            serve(call)
        if fault.how == "drop":
            return Response(0, drop=True)
        return call.error(fault.code, fault.message, fault.status)

    def _next_fault(self, settings: Settings, call: Call) -> Fault | None:
        """Return the first fault for this call. Each matching fault counts the call."""
        due: Fault | None = None
        with self._guard:
            for index, fault in enumerate(settings.faults):
                if not _matches(fault, call):
                    continue
                count = self._matched_calls[index] = self._matched_calls.get(index, 0) + 1
                if due is None and (fault.nth == 0 or fault.nth <= count < fault.nth + fault.times):
                    due = fault
        return due

    def _throttled(self, settings: Settings, call: Call) -> bool:
        throttle: Throttle | None = _by_action(settings.throttle, call)
        if throttle is None:
            return False
        now = self._clock()
        with self._guard:
            key = (call.account, call.region, f"{call.service}:{call.action}")
            bucket = self._buckets.setdefault(key, _Bucket(throttle.burst, now))
            bucket.tokens = min(throttle.burst, bucket.tokens + (now - bucket.filled) * throttle.rate)
            bucket.filled = now
            if bucket.tokens < 1:
                return True
            bucket.tokens -= 1
            return False


def _matches(fault: Fault, call: Call) -> bool:
    return (
        fault.action in (f"{call.service}:{call.action}", call.action, "*")
        and fault.account in (None, call.account)
        and fault.region in (None, call.region)
    )


def _by_action(table: Mapping[str, _T], call: Call) -> _T | None:
    if not table:
        return None
    whole = f"{call.service}:{call.action}"
    for name in (whole, call.action):
        if name in table:
            return table[name]
    # The longest pattern is the most specific one. A bucket is of one action, whatever the pattern.
    fitting = [name for name in table if name.endswith("*") and whole.startswith(name[:-1])]
    return table[max(fitting, key=len)] if fitting else None


def _throttle_error(call: Call) -> Response:
    """Return the throttling error of the service.

    EC2 returns RequestLimitExceeded (503), S3 SlowDown (503), IAM and STS Throttling, JSON services
    ThrottlingException.
    """
    if call.service == "ec2":
        return call.error("RequestLimitExceeded", "Request limit exceeded.", 503)
    if call.service == "s3":
        return call.error("SlowDown", "Please reduce your request rate.", 503)
    if call.protocol == "query":
        return call.error("Throttling", "Rate exceeded", 400)
    return call.error("ThrottlingException", "Rate exceeded", 400)
