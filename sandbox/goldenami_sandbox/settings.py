"""What can be set on a running sandbox: how long things take, and what goes wrong.

The JSON form (``goldenami-sandbox settings``, and PUT /_sandbox/settings) has the keys of ``Settings``; a PUT
replaces the keys it names and leaves the others. Example::

    {"pending": {"image": 5}, "latency": {"*": 0.02, "ec2:RunInstances": 0.5},
     "throttle": {"ec2:CopyImage": {"rate": 1, "burst": 2}},
     "faults": [{"action": "ec2:CreateImage", "nth": 1, "when": "after", "how": "drop"}]}

Actions are named ``service:Action`` or ``Action``; ``*`` is every action. Values are immutable: a change makes new
settings (``merged``).
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
    """For how many seconds at least a new thing of each kind is in its first state; real work may take longer."""

    instance: Seconds = 0.0
    stop: Seconds = 0.0  # stopping and shutting-down
    status: Seconds = 0.0  # from running to status checks "ok"; "initializing" before
    image: Seconds = 0.0
    snapshot: Seconds = 0.0
    volume: Seconds = 0.0
    copy: Seconds = 0.0  # snapshots and images made by CopySnapshot and CopyImage
    parameter: Seconds = 0.0  # the check of a parameter of type aws:ec2:image
    tier: Seconds = 0.0  # moves to the archive tier and back


PENDING_KINDS = tuple(f.name for f in fields(Pending))


@dataclass(frozen=True, slots=True, config=_CONFIG)
class Throttle:
    """A token bucket per account and region, as EC2's: ``burst`` calls at once, refilled by ``rate`` a second."""

    rate: Number
    burst: Number


@dataclass(frozen=True, slots=True, config=_CONFIG)
class Fault:
    """Make calls of an action fail.

    ``nth``: which matching call fails, counted from 1 since the fault was set; 0 means every one. ``when``: before
    the call has its effect, or after it. ``how``: answer with the error ``code`` and HTTP ``status``, or drop the
    connection without an answer. ``times``: how many calls in a row from the nth on.
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
class Settings:
    """Seconds throughout.

    ``pending``: how long a kind of resource takes to become ready, beyond the work itself. ``visibility_delay``: for
    how long describes and lists do not know a new thing yet (eventual consistency). ``concurrent_snapshot_copies``:
    AWS's quota per account and destination region; ``concurrent_image_copies``: the same for CopyImage, whose quota AWS
    does not publish. ``latency``: added to each call of an action.

    New settings count for what begins from then on; what is under way keeps its moment of readiness.
    """

    pending: Pending = field(default_factory=Pending)
    visibility_delay: Seconds = 0.0
    concurrent_snapshot_copies: Count = 20
    concurrent_image_copies: Count = 100
    latency: dict[str, Seconds] = field(default_factory=dict)
    throttle: dict[str, Throttle] = field(default_factory=dict)
    faults: tuple[Fault, ...] = ()

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    def merged(self, change: object) -> Settings:
        """These settings with the keys of ``change`` (the JSON form) replaced; ``pending`` by kind.

        Raises InvalidSettings with every problem.
        """
        if not isinstance(change, dict):
            raise InvalidSettings([f"a JSON object is expected, not {_shown(change)}"])
        now = self.to_json()
        merged = {**now, **change}
        if isinstance(change.get("pending"), dict):
            merged["pending"] = {**now["pending"], **change["pending"]}
        try:
            return _ADAPTER.validate_json(json.dumps(merged))
        except ValidationError as error:
            raise InvalidSettings(list(_problems(error))) from error
        except (TypeError, ValueError) as error:
            raise InvalidSettings([f"this is not JSON: {error}"]) from error


_ADAPTER = TypeAdapter(Settings)


# --- problems ---------------------------------------------------------------------------------------------------------

_EXPECTED: Final = {
    "dataclass_type": "an object",
    "dict_type": "an object",
    "tuple_type": "a list",
    "float_type": "a number",
    "finite_number": "a finite number",
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "string_type": "a string",
}


def _problems(error: ValidationError) -> Iterator[str]:
    """One sentence for each problem: the key, what was found, what is expected."""
    for one in error.errors(include_url=False):
        *outer, last = loc = one["loc"]
        kind, context = one["type"], one.get("ctx", {})
        if kind in ("unexpected_keyword_argument", "extra_forbidden"):
            known = _keys_at(outer)
            near = difflib.get_close_matches(str(last), known, n=1)
            hint = f"did you mean {near[0]!r}? " if near else ""
            where = f"{_path(outer)}: " if outer else ""
            yield f"{where}unknown key {last!r} ({hint}there are: {', '.join(known)})"
        elif kind in ("missing", "missing_argument"):
            yield f"{_path(outer)}: the key {last!r} is missing"
        else:
            if kind == "greater_than_equal":
                expected = f"a number of at least {context['ge']:g}"
            elif kind == "literal_error":
                expected = str(context["expected"]).replace("'", '"')
            else:
                expected = _EXPECTED.get(kind, one["msg"])
            yield f"{_path(loc)}: {expected} is expected, not {_shown(one['input'])}"


def _path(loc: Any) -> str:
    text = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in loc)
    return text.removeprefix(".") or "settings"


def _keys_at(loc: Any) -> list[str]:
    """The keys of the object at a place of the settings."""
    here: Any = Settings
    for part in loc:
        if is_dataclass(here):
            here = get_type_hints(here).get(str(part))
        else:  # a dict's value, or a tuple's item
            here = get_args(here)[0 if isinstance(part, int) else 1]
    return [f.name for f in fields(here)] if is_dataclass(here) else []


def _shown(value: object) -> str:
    text = json.dumps(value, default=str)
    return text if len(text) <= 60 else text[:59] + "…"
