"""How long the waits of a build took, kept for the next command of this user.

The first look of a wait comes when the resource is probably ready (``aws.waiters.Ahead``). Without the last durations
a command would begin with short intervals each time, and be late by the length of the last one. Nothing else depends on
them: a wrong one costs a look.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from goldenami import usercache
from goldenami.aws.session import Cloud
from goldenami.model import Environment

_MOST: Final = 100  # environments
_LONGEST: Final = 7 * 86_400.0  # seconds; what is longer is no duration of a wait


@contextmanager
def kept(environment: Environment, cloud: Cloud) -> Iterator[None]:
    """Give a cloud the durations of the last command for this environment, and keep its own at the end."""
    path = _path(environment)
    if path is None:
        yield
        return
    known = _read(path)
    cloud.durations.update(known)
    try:
        yield
    finally:
        if cloud.durations != known:
            usercache.write(path, json.dumps(cloud.durations).encode(), _MOST)


def _path(environment: Environment) -> Path | None:
    folder = usercache.folder("durations")
    name = json.dumps([environment.name, str(environment.home_place), environment.catalog])
    return folder and folder / f"{hashlib.sha256(name.encode()).hexdigest()}.json"


def _read(path: Path) -> dict[str, float]:
    try:
        found = json.loads(usercache.read(path) or b"{}")
        every = found.items() if isinstance(found, Mapping) else ()
        return {kind: float(seconds) for kind, seconds in every if _is_duration(seconds)}
    except (ValueError, OverflowError, RecursionError):  # it is damaged: numbers of any length, lists of any depth
        return {}


def _is_duration(seconds: object) -> bool:
    if isinstance(seconds, bool) or not isinstance(seconds, (int, float)):
        return False
    return math.isfinite(seconds) and 0.0 < seconds <= _LONGEST
