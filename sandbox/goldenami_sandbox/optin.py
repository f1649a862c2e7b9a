"""The regions that each account has enabled.

The regions of ``DEFAULT`` are enabled in every account. The others are enabled by ``account:EnableRegion``. ("Enable or
disable AWS Regions in your account", Account Management Reference Guide.)
"""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from typing import Final

DEFAULT: Final = frozenset(
    {
        "ap-northeast-1",
        "ap-northeast-2",
        "ap-northeast-3",
        "ap-south-1",
        "ap-southeast-1",
        "ap-southeast-2",
        "ca-central-1",
        "eu-central-1",
        "eu-north-1",
        "eu-west-1",
        "eu-west-2",
        "eu-west-3",
        "sa-east-1",
        "us-east-1",
        "us-east-2",
        "us-west-1",
        "us-west-2",
    }
)


class OptIns:
    """The enabled regions of all accounts. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._enabled: dict[str, set[str]] = {}

    def is_enabled(self, account: str, region: str) -> bool:
        return region in DEFAULT or region in self._enabled.get(account, ())

    def enable(self, account: str, region: str) -> None:
        with self._lock:
            self._enabled.setdefault(account, set()).add(region)

    def disable(self, account: str, region: str) -> None:
        with self._lock:
            self._enabled.get(account, set()).discard(region)

    def dump(self) -> dict[str, list[str]]:
        with self._lock:
            return {account: sorted(regions) for account, regions in self._enabled.items()}

    def load(self, state: Mapping[str, Sequence[str]]) -> None:
        with self._lock:
            self._enabled = {account: set(regions) for account, regions in state.items()}
