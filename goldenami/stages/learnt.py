"""What a command learnt of its environment, kept for the next command of this user: how long the waits of a build took,
and when the roles had all permissions of a simulation of IAM.

The first look of a wait comes when the resource is probably ready (``aws.waiters.Ahead``). Without the last durations
a command would begin with short intervals each time, and be late by the length of the last one. Builds of a day ask
IAM's simulator once. Nothing else depends on either: a wrong one costs a look, or a warning of a build.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from goldenami import usercache
from goldenami.aws.session import Cloud
from goldenami.model import Environment

_MOST: Final = 100  # environments
_LONGEST: Final = 7 * 86_400.0  # seconds; what is longer is no duration of a wait
_LAST: Final = 1e11  # seconds since the epoch; what is later is no time
_SIMULATIONS: Final = 5000  # the newest ones; an account takes about three


@contextmanager
def kept(environment: Environment, cloud: Cloud) -> Iterator[None]:
    """Give a cloud what the last command for this environment learnt, and keep what this one learns at the end."""
    path = _path(environment)
    if path is None:
        yield
        return
    known = _read(path)
    cloud.durations.update(_numbers(known.get("durations"), _LONGEST))
    cloud.allowed.update(_numbers(known.get("allowed"), _LAST))
    try:
        yield
    finally:
        newest = sorted(dict(cloud.allowed).items(), key=lambda one: one[1])[-_SIMULATIONS:]
        found = {"durations": dict(cloud.durations), "allowed": dict(newest)}
        if found != known:
            usercache.write(path, json.dumps(found).encode(), _MOST)


def _path(environment: Environment) -> Path | None:
    folder = usercache.folder("learnt")
    name = json.dumps([environment.name, str(environment.home_place), environment.catalog])
    return folder and folder / f"{hashlib.sha256(name.encode()).hexdigest()}.json"


def _read(path: Path) -> Mapping[str, object]:
    try:
        found = json.loads(usercache.read(path) or b"{}")
    except (ValueError, RecursionError):  # it is damaged: numbers of any length, lists of any depth
        return {}
    return found if isinstance(found, Mapping) else {}


def _numbers(found: object, most: float) -> dict[str, float]:
    every = found.items() if isinstance(found, Mapping) else ()
    return {name: float(number) for name, number in every if _is_number(number, most)}


def _is_number(number: object, most: float) -> bool:
    return isinstance(number, (int, float)) and not isinstance(number, bool) and 0.0 < number <= most
