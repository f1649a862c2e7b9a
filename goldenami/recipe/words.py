"""Types and patterns that the models of recipes and environments share: names, ids, durations, tags."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal, get_args

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    GetCoreSchemaHandler,
    GetJsonSchemaHandler,
    StringConstraints,
    field_validator,
)
from pydantic_core import CoreSchema, PydanticCustomError, core_schema

from goldenami.numbers import refuse_booleans

NAME = r"^[a-z0-9]+(-[a-z0-9]+|\.[a-z0-9]+)*$"
ACCOUNT_ID = r"^[0-9]{12}$"
REGION = r"^[a-z]{2,}(-[a-z]+)+-[0-9]+$"
IMAGE_ID = r"^ami-([0-9a-f]{8}|[0-9a-f]{17})$"
SNAPSHOT_ID = r"^snap-([0-9a-f]{8}|[0-9a-f]{17})$"
LABEL = r"^[A-Za-z0-9._-]{1,12}$"  # of a file system; XFS has the shortest limit
MOUNT_OPTION = r"^[A-Za-z0-9_.=:/@+-]+$"
DEVICE = r"^/dev/(sd|xvd)[b-z]$"  # "Device names for volumes on Amazon EC2 instances", EC2 user guide; a is the root
INSTANCE_TYPE = r"^[a-z0-9-]+\.[a-z0-9-]+$"
USER = r"^[a-z_][a-z0-9_-]{0,31}$"
PARAMETER = r"^/?[A-Za-z0-9_./-]+$"
PARAMETER_PREFIX = r"^(/([A-Za-z0-9_.-]|\{\{ *environment\.name *\}\})+)+$"
PRINCIPAL = r"^arn:aws[a-z-]*:iam::[0-9]{12}:(role|user)/[A-Za-z0-9+=,.@_/-]+$"
CALLER = r"^arn:aws[a-z-]*:(iam|sts)::[0-9]{12}:[A-Za-z0-9+=,.@_/*-]+$"
ROLE = r"^arn:aws[a-z-]*:iam::[0-9]{12}:role/[A-Za-z0-9+=,.@_/-]+$"
ORGANIZATION = r"^arn:aws[a-z-]*:organizations::[0-9]{12}:organization/o-[a-z0-9]{10,32}$"
UNIT = r"^arn:aws[a-z-]*:organizations::[0-9]{12}:ou/o-[a-z0-9]{10,32}/ou-[0-9a-z]{4,32}-[0-9a-z]{8,32}$"
LAUNCH_TEMPLATE = r"^[a-zA-Z0-9().\-/_]{3,128}$"  # its name (CreateLaunchTemplate, EC2 API reference); ids fit, too
SUBNET = r"^subnet-[0-9a-f]+$"
ENDPOINT = r"^eice-[0-9a-f]+$"
PROFILE = r"^(arn:aws[a-z-]*:iam::[0-9]{12}:instance-profile/[A-Za-z0-9+=,.@_/-]+|[A-Za-z0-9+=,.@_-]{1,128})$"
EXTERNAL_ID = r"^[A-Za-z0-9+=,.@:/_-]{2,1224}$"
CIDR = r"^[0-9a-fA-F.:]+/[0-9]+$"
BUS = r"^([A-Za-z0-9._/-]{1,256}|arn:aws[a-z-]*:events:[a-z0-9-]+:[0-9]{12}:event-bus/[A-Za-z0-9._/-]+)$"
TOPIC = r"^arn:aws[a-z-]*:sns:[a-z0-9-]+:[0-9]{12}:[A-Za-z0-9_-]{1,256}(\.fifo)?$"
HEADER = r"^[A-Za-z0-9-]+$"
KMS_KEY = r"^(arn:aws[a-z-]*:kms:[a-z0-9-]+:[0-9]{12}:(key/|alias/)|alias/)?[A-Za-z0-9/_-]+$"
IDENTIFIER = r"^[A-Za-z_][A-Za-z0-9_]*$"

Name = Annotated[str, StringConstraints(pattern=NAME, max_length=64)]
AccountId = Annotated[str, StringConstraints(pattern=ACCOUNT_ID)]
Region = Annotated[str, StringConstraints(pattern=REGION)]
BaseKind = Literal["ssm", "filter", "id", "recipe"]
DEFAULT_CHANNEL = "stable"  # of a base that is a recipe
BASE_KINDS: tuple[BaseKind, ...] = get_args(BaseKind)


class Spec(BaseModel):
    """Base of all models of recipes and environments: unknown keys are refused, and values are frozen."""

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=False, defer_build=True)
    _no_booleans = field_validator("*", mode="before")(classmethod(refuse_booleans))


LONGEST_DURATION = 36500  # days


def _duration(given: object) -> str:
    if not isinstance(given, str) or not re.fullmatch(r"[0-9]+[smhdw]", given):
        shown = f"{given[:57]}…" if isinstance(given, str) and len(given) > 60 else given
        raise ValueError(f'{shown!r} is not a duration: a number and s, m, h, d or w, such as "15m" or "90d"')
    if len(given) > 12 or seconds(given) > LONGEST_DURATION * 86400:
        raise ValueError(f"{given[:20]} is out of range: expected {LONGEST_DURATION}d at most")
    return given


def _positive(given: str) -> str:
    if not seconds(given):
        raise ValueError(f"{given!r} is out of range: expected 1s at least")
    return given


# Checked before the type: for a bare number, the message is about the missing unit and not about missing quotes.
Duration = Annotated[str, BeforeValidator(_duration)]
Timeout = Annotated[Duration, AfterValidator(_positive)]

_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}


def seconds(duration: str) -> int:
    """Return a duration in seconds: 900 for "15m"."""
    return int(duration[:-1]) * _SECONDS[duration[-1]]


@dataclass(frozen=True)
class OneOf:
    """One name of a list that may grow after the model is defined, for example a registry. Errors and JSON Schema are
    those of a ``Literal``."""

    names: Callable[[], Sequence[str]]

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_after_validator_function(self._check, handler(source))

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        return {**handler(schema), "enum": list(self.names())}

    def _check(self, value: str) -> str:
        if value not in self.names():
            *others, last = (repr(name) for name in self.names())
            expected = f"{', '.join(others)} or {last}" if others else last
            raise PydanticCustomError("literal_error", "Input should be {expected}", {"expected": expected})
        return value


def _systems() -> Sequence[str]:
    from goldenami.os import SYSTEMS  # here, because environments name no systems

    return tuple(SYSTEMS)


OsId = Annotated[str, OneOf(_systems)]

LONGEST_PATTERN = 1000


def check_pattern(key: str, pattern: str) -> None:
    """Raises ValueError for a text that is not a regular expression, or a longer one than any form needs."""
    if len(pattern) > LONGEST_PATTERN:
        raise ValueError(f"{key} has {len(pattern)} characters, expected {LONGEST_PATTERN} at most")
    try:
        re.compile(pattern)
    except RecursionError:
        raise ValueError(f"{key} is not a regular expression: its groups are nested too deeply") from None
    except (re.error, OverflowError) as error:
        raise ValueError(f"{key} is not a regular expression: {error}") from None


def _range(given: str) -> str:
    try:
        ipaddress.ip_network(given, strict=False)
    except ValueError:
        raise ValueError(f"{given[:60]!r} is not an address range, such as 192.0.2.0/24") from None
    return given


SECURITY_GROUP = r"^sg-([0-9a-f]{8}|[0-9a-f]{17})$"
Cidr = Annotated[str, StringConstraints(pattern=CIDR), AfterValidator(_range)]


# EC2's limits. SSM accepts keys of 128 characters.
Tags = dict[
    Annotated[str, StringConstraints(min_length=1, max_length=127)], Annotated[str, StringConstraints(max_length=256)]
]


def check_tags(value: dict[str, str]) -> dict[str, str]:
    """Return the tags unchanged. Raises ValueError for a key that AWS or goldenami reserves."""
    for key in value:
        if key.lower().startswith("aws:"):
            raise ValueError(f"the tag {key!r} has the prefix aws:, which AWS reserves")
        if key.startswith("goldenami:") or key == "Name":
            raise ValueError(f"the tag {key!r} is set by goldenami, and cannot be set here")
    return value
