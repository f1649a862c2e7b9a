"""What can be set on a running sandbox: how long things take, and what goes wrong.

The JSON form (``goldenami-sandbox settings``, and PUT /_sandbox/settings) has the keys of ``Settings``; a PUT
replaces the keys it names and leaves the others. Example::

    {"pending": {"image": 5}, "latency": {"*": 0.02, "ec2:RunInstances": 0.5},
     "throttle": {"ec2:CopyImage": {"rate": 1, "burst": 2}},
     "faults": [{"action": "ec2:CreateImage", "nth": 1, "when": "after", "how": "drop"}]}

Actions are named ``service:Action`` or ``Action``; ``*`` is every action.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any, Literal

from goldenami_sandbox.errors import InvalidSettings

PENDING_KINDS = ("instance", "stop", "status", "image", "snapshot", "volume", "copy", "parameter", "tier")


@dataclass(frozen=True, slots=True)
class Throttle:
    """A token bucket per account and region, as EC2's: ``burst`` calls at once, refilled by ``rate`` a second."""

    rate: float
    burst: float


@dataclass(frozen=True, slots=True)
class Fault:
    """Make calls of an action fail.

    ``nth``: which matching call fails, counted from 1 since the fault was set; 0 means every one. ``when``: before
    the call has its effect, or after it. ``how``: answer with the error ``code`` and HTTP ``status``, or drop the
    connection without an answer. ``times``: how many calls in a row from the nth on.
    """

    action: str
    nth: int = 1
    account: str | None = None
    region: str | None = None
    when: Literal["before", "after"] = "before"
    how: Literal["error", "drop"] = "error"
    code: str = "InternalError"
    status: int = 500
    message: str = "An internal error has occurred"
    times: int = 1


@dataclass(frozen=True, slots=True)
class Settings:
    """Seconds throughout.

    ``pending``: how long a kind of resource takes to become ready, beyond the work itself. ``visibility_delay``: for
    how long describes and lists do not know a new thing yet (eventual consistency). ``concurrent_snapshot_copies``:
    AWS's quota per destination region; ``concurrent_image_copies``: the same for CopyImage, whose quota AWS does not
    publish. ``latency``: added to each call of an action.
    """

    pending: Mapping[str, float] = field(default_factory=lambda: dict.fromkeys(PENDING_KINDS, 0.0))
    visibility_delay: float = 0.0
    concurrent_snapshot_copies: int = 20
    concurrent_image_copies: int = 100
    latency: Mapping[str, float] = field(default_factory=dict)
    throttle: Mapping[str, Throttle] = field(default_factory=dict)
    faults: tuple[Fault, ...] = ()

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    def merged(self, change: object) -> Settings:
        """These settings with the keys of ``change`` (the JSON form) replaced; ``pending`` by kind.

        Raises InvalidSettings with every problem.
        """
        reader = _Reader()
        settings = reader.settings(self, change)
        if reader.problems:
            raise InvalidSettings(reader.problems)
        return settings


class _Reader:
    """Reads the JSON form and collects what is wrong with it."""

    def __init__(self) -> None:
        self.problems: list[str] = []

    def settings(self, base: Settings, change: object) -> Settings:
        known = {f.name for f in fields(Settings)}
        if not isinstance(change, dict):
            self.problems.append("a JSON object is expected")
            return base
        for key in sorted(set(change) - known):
            self.problems.append(f"unknown setting {key!r} (there are: {', '.join(sorted(known))})")
        result = base
        if "pending" in change:
            pending = self.seconds("pending", change["pending"])
            for kind in sorted(set(pending) - set(PENDING_KINDS)):
                self.problems.append(f"pending: unknown kind {kind!r} (there are: {', '.join(PENDING_KINDS)})")
            result = replace(result, pending={**base.pending, **pending})
        if "visibility_delay" in change:
            result = replace(result, visibility_delay=self.number("visibility_delay", change["visibility_delay"]))
        if "concurrent_snapshot_copies" in change:
            result = replace(result, concurrent_snapshot_copies=self.count(change, "concurrent_snapshot_copies"))
        if "concurrent_image_copies" in change:
            result = replace(result, concurrent_image_copies=self.count(change, "concurrent_image_copies"))
        if "latency" in change:
            result = replace(result, latency=self.seconds("latency", change["latency"]))
        if "throttle" in change:
            result = replace(result, throttle=self.throttles(change["throttle"]))
        if "faults" in change:
            result = replace(result, faults=self.faults(change["faults"]))
        return result

    def number(self, where: str, value: object) -> float:
        if isinstance(value, bool) or not isinstance(value, int | float) or value < 0:
            self.problems.append(f"{where}: a number of at least 0 is expected, not {value!r}")
            return 0.0
        return float(value)

    def count(self, change: Mapping[str, object], key: str) -> int:
        return int(self.number(key, change[key]))

    def seconds(self, where: str, value: object) -> dict[str, float]:
        if not isinstance(value, dict):
            self.problems.append(f"{where}: an object of names and seconds is expected")
            return {}
        return {str(key): self.number(f"{where}.{key}", item) for key, item in value.items()}

    def throttles(self, value: object) -> dict[str, Throttle]:
        if not isinstance(value, dict):
            self.problems.append("throttle: an object of actions is expected")
            return {}
        result = {}
        for action, item in value.items():
            if not isinstance(item, dict) or set(item) != {"rate", "burst"}:
                self.problems.append(f"throttle.{action}: an object with rate and burst is expected")
                continue
            result[str(action)] = Throttle(
                self.number(f"throttle.{action}.rate", item["rate"]),
                self.number(f"throttle.{action}.burst", item["burst"]),
            )
        return result

    def faults(self, value: object) -> tuple[Fault, ...]:
        if not isinstance(value, list):
            self.problems.append("faults: a list is expected")
            return ()
        return tuple(fault for index, item in enumerate(value) if (fault := self.fault(f"faults[{index}]", item)))

    def fault(self, where: str, item: object) -> Fault | None:
        known = {f.name: f for f in fields(Fault)}
        if not isinstance(item, dict) or not isinstance(item.get("action"), str):
            self.problems.append(f"{where}: an object with at least an action is expected")
            return None
        before = len(self.problems)
        for key, entry in item.items():
            if key not in known:
                self.problems.append(f"{where}: unknown key {key!r} (there are: {', '.join(known)})")
            elif key in ("nth", "status", "times"):
                if isinstance(entry, bool) or not isinstance(entry, int) or entry < 0:
                    self.problems.append(f"{where}.{key}: a whole number is expected")
            elif not isinstance(entry, str) and not (key in ("account", "region") and entry is None):
                self.problems.append(f"{where}.{key}: a string is expected")
        if item.get("when", "before") not in ("before", "after"):
            self.problems.append(f'{where}.when: "before" or "after" is expected')
        if item.get("how", "error") not in ("error", "drop"):
            self.problems.append(f'{where}.how: "error" or "drop" is expected')
        return Fault(**item) if len(self.problems) == before else None
