"""The settings of a running sandbox: pending times, latency, throttling and faults.

The JSON form (``goldenami-sandbox settings``, and PUT /_sandbox/settings) has the keys of ``Settings``. A PUT replaces
the keys that it contains and keeps the others. Example::

    {"pending": {"image": 5}, "latency": {"*": 0.02, "ec2:RunInstances": 0.5},
     "throttle": {"ec2:CopyImage": {"rate": 1, "burst": 2}},
     "faults": [{"action": "ec2:CreateImage", "nth": 1, "when": "after", "how": "drop"}]}

Actions are named ``service:Action`` or ``Action``. In ``latency`` and ``throttle``, ``service:Prefix*`` is every action
that begins so, and ``*`` every action. Settings are immutable: ``merged`` returns new settings.
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterator
from dataclasses import asdict, field, fields, is_dataclass
from typing import Annotated, Any, Final, Literal, get_args, get_type_hints

from pydantic import ConfigDict, Field, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass

from goldenami_sandbox.errors import InvalidSettings

_CONFIG: Final = ConfigDict(extra="forbid", strict=True)
Number = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Seconds = Number
Count = Annotated[int, Field(ge=0)]


@dataclass(frozen=True, slots=True, config=_CONFIG)
class Pending:
    """The minimum seconds that a new resource of each kind stays in its first state. Real work may take longer."""

    instance: Seconds = 0.0
    stop: Seconds = 0.0  # stopping and shutting-down, also for CreateImage of a running instance
    status: Seconds = 0.0  # from running to status checks "ok"; "initializing" before
    image: Seconds = 0.0
    snapshot: Seconds = 0.0
    volume: Seconds = 0.0
    copy: Seconds = 0.0  # snapshots and images made by CopySnapshot and CopyImage
    parameter: Seconds = 0.0  # the check of a parameter of type aws:ec2:image
    tier: Seconds = 0.0  # moves to the archive tier and back


_VCPUS: Final[dict[str, int]] = {"L-1216C47A": 64, "L-34B43A08": 64}
# AWS's default limits of EC2, as settings ("Request token bucket sizes and refill rates", EC2 developer guide).
EC2_THROTTLE: Final[dict[str, dict[str, float]]] = {
    "ec2:*": {"rate": 5, "burst": 50},
    "ec2:Describe*": {"rate": 20, "burst": 100},
    "ec2:CopyImage": {"rate": 1, "burst": 100},
    "ec2:RunInstances": {"rate": 2, "burst": 5},
}
PENDING_KINDS = tuple(f.name for f in fields(Pending))


@dataclass(frozen=True, slots=True, config=_CONFIG)
class Throttle:
    """A token bucket per account and region, as in EC2: ``burst`` calls at once, ``rate`` new calls per second."""

    rate: Number
    burst: Number


@dataclass(frozen=True, slots=True, config=_CONFIG)
class Fault:
    """Makes calls of an action fail.

    ``nth``: the first call that fails, counted over matching calls from 1 since the fault was set; 0 means every call.
    ``when``: the call fails before it has its effect, or after it. ``how``: the sandbox answers with the error ``code``
    and the HTTP ``status``, or closes the connection without an answer. ``times``: the number of calls in a row that
    fail.
    """

    action: str
    nth: Count = 1
    account: str | None = None
    region: str | None = None
    when: Literal["before", "after"] = "before"
    how: Literal["error", "drop"] = "error"
    code: str = "InternalError"
    status: Count = 500
    message: str = "An internal error has occurred"
    times: Count = 1


@dataclass(frozen=True, slots=True, config=_CONFIG)
class Organization:
    """An organization. ``accounts``: account -> its organizational units, the outermost first ("ou-ab12-11111111/
    ou-ab12-22222222"); an empty text means directly in the root. The management account is a member."""

    id: str
    management: str
    accounts: dict[str, str] = field(default_factory=dict)
    root: str = "r-ab12"


@dataclass(frozen=True, slots=True, config=_CONFIG)
class InspectorFinding:
    """What Amazon Inspector finds in each running instance of an image. ``fixed``: empty: no fix is known."""

    image: str
    id: str
    package: str
    version: str
    fixed: str = ""
    severity: str = "HIGH"
    status: str = "ACTIVE"


@dataclass(frozen=True, slots=True, config=_CONFIG)
class Settings:
    """All settings of a sandbox. Times are in seconds.

    ``pending``: how long a kind of resource takes to become ready, in addition to the real work. ``visibility_delay``:
    how long calls do not find a new resource, and a new permission has no effect (eventual consistency).
    ``grant_delay``: how long a new grant on a KMS key has no effect. ``concurrent_snapshot_copies``: AWS's quota per
    account and destination region. ``concurrent_image_copies``: the same for CopyImage; AWS does not publish this
    quota. ``vcpu_quotas``: vCPUs of Standard instances in an account and region, by the codes of Service Quotas:
    on-demand and spot. ``no_capacity``: launches that find no capacity, as patterns of MARKET/TYPE/ZONE:
    ``spot/*``, ``on-demand/t3.small/eu-central-1a``. ``latency``: time added to each call of an action.
    ``enforce_policies``: every call is evaluated against the identity policies of its caller; without it, every
    principal has full rights within its account.
    ``organizations``: the accounts' organizations. ``inspector``: the places (ACCOUNT/REGION) where Amazon Inspector
    scans instances, with what it finds. ``storage_gib``: what volumes and snapshots use at most, in GiB;
    None: what the disk has, except a reserve.

    New settings apply to work that begins later. Work in progress keeps its time of completion.
    """

    pending: Pending = field(default_factory=Pending)
    visibility_delay: Seconds = 0.0
    grant_delay: Seconds = 0.0
    concurrent_snapshot_copies: Count = 20
    concurrent_image_copies: Count = 100
    enforce_policies: bool = False
    vcpu_quotas: dict[str, Count] = field(default_factory=lambda: dict(_VCPUS))
    no_capacity: tuple[str, ...] = ()
    latency: dict[str, Seconds] = field(default_factory=dict)
    throttle: dict[str, Throttle] = field(default_factory=dict)
    faults: tuple[Fault, ...] = ()
    organizations: tuple[Organization, ...] = ()
    storage_gib: Number | None = None
    inspector: dict[str, tuple[InspectorFinding, ...]] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    def merged(self, change: object) -> Settings:
        """Return these settings with the keys of ``change`` (the JSON form) replaced. ``pending`` and
        ``vcpu_quotas`` are replaced key by key.

        Raises InvalidSettings with all problems.
        """
        if not isinstance(change, dict):
            raise InvalidSettings([f"a JSON object is expected, not {_shown(change)}"])
        now = self.to_json()
        merged = {**now, **change}
        for key in ("pending", "vcpu_quotas"):
            if isinstance(change.get(key), dict):
                merged[key] = {**now[key], **change[key]}
        try:
            return _ADAPTER.validate_json(json.dumps(merged))
        except ValidationError as error:
            raise InvalidSettings(list(_problems(error))) from error
        except (TypeError, ValueError) as error:
            raise InvalidSettings([f"not JSON: {error}"]) from error


_ADAPTER = TypeAdapter(Settings)


# --- problems ---------------------------------------------------------------------------------------------------------

_EXPECTED: Final = {
    "dataclass_type": "an object",
    "dict_type": "an object",
    "tuple_type": "a list",
    "bool_type": "true or false",
    "float_type": "a number",
    "finite_number": "a finite number",
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "string_type": "a string",
}


def _problems(error: ValidationError) -> Iterator[str]:
    """Yield one sentence for each problem: the key, what was found, what is expected."""
    for detail in error.errors(include_url=False):
        *outer, last = loc = detail["loc"]
        kind, context = detail["type"], detail.get("ctx", {})
        if kind in ("unexpected_keyword_argument", "extra_forbidden"):
            known = _keys_at(outer)
            near = difflib.get_close_matches(str(last), known, n=1)
            suggestion = f"did you mean {near[0]!r}? " if near else ""
            where = f"{_path(outer)}: " if outer else ""
            yield f"{where}unknown key {last!r} ({suggestion}valid keys: {', '.join(known)})"
        elif kind in ("missing", "missing_argument"):
            yield f"{_path(outer)}: the key {last!r} is missing"
        else:
            if kind == "greater_than_equal":
                expected = f"a number of at least {context['ge']:g}"
            elif kind == "literal_error":
                expected = str(context["expected"]).replace("'", '"')
            else:
                expected = _EXPECTED.get(kind, detail["msg"])
            yield f"{_path(loc)}: {expected} is expected, not {_shown(detail['input'])}"


def _path(loc: Any) -> str:
    text = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in loc)
    return text.removeprefix(".") or "settings"


def _keys_at(loc: Any) -> list[str]:
    """Return the keys of the object at a path in the settings."""
    current: Any = Settings
    for part in loc:
        if is_dataclass(current):
            current = get_type_hints(current).get(str(part))
        else:  # a dict's value, or a tuple's item
            current = get_args(current)[0 if isinstance(part, int) else 1]
    return [f.name for f in fields(current)] if is_dataclass(current) else []


def _shown(value: object) -> str:
    text = json.dumps(value, default=str)
    return text if len(text) <= 60 else text[:59] + "…"
