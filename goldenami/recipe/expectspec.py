"""The section ``expect``: what a recipe or an agent says about instances of the image, for the built-in suites."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, StringConstraints, WithJsonSchema

from goldenami.recipe.words import USER, Spec, Timeout, seconds

_PORT = re.compile(r"([0-9]{1,5})(?:-([0-9]{1,5}))?(?:/(tcp|udp))?")


def _port(given: object) -> str:
    """Return a port in its full form: 80 and "80" are "80/tcp"."""
    match = _PORT.fullmatch(str(given)) if isinstance(given, (int, str)) else None
    first, last = (int(match[1]), int(match[2] or match[1])) if match else (0, 0)
    if match is None or not 1 <= first <= last <= 65535:
        shown = str(given)[:60]
        raise ValueError(f'{shown!r} is not a port, such as 80, "53/udp" or "8000-8010/tcp"')
    return (f"{first}" if first == last else f"{first}-{last}") + f"/{match[3] or 'tcp'}"


Port = Annotated[str, BeforeValidator(_port), WithJsonSchema({"anyOf": [{"type": "integer"}, {"type": "string"}]})]
Path = Annotated[str, StringConstraints(pattern=r"^/[^\x00-\x1f]*$", max_length=1024)]
Account = Annotated[str, StringConstraints(pattern=USER)]
Unit = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9:_.@\\-]{1,255}$")]


class AgentExpectSpec(Spec):
    """What software adds to an image that the suite hygiene reports otherwise. Paths may have * and ?."""

    ports: tuple[Port, ...] = Field(
        (),
        description='Ports on which the image may listen for other machines: 80, "53/udp", "8000-8010/tcp". The port '
        "of SSH and those of DHCP clients are always expected.",
    )
    set_id: tuple[Path, ...] = Field(
        (), description="Files with the set-user-ID or set-group-ID bit that the base image does not have."
    )
    world_writable: tuple[Path, ...] = Field(
        (), description="Files, and directories without the sticky bit, that every account may write to."
    )
    private_keys: tuple[Path, ...] = Field(
        (), description="Files with a private key or with credentials that belong into every instance."
    )


class ExpectSpec(AgentExpectSpec):
    """What is expected of instances of the image, beside what its agents say. The suites hygiene and performance
    report everything else."""

    authorized_keys: tuple[Account, ...] = Field(
        (), description="Accounts that have SSH keys in the image, so that these keys open every instance."
    )
    boot: Timeout = Field("5m", description="Longest time from the start of the kernel to the end of the boot.")
    unit: Timeout = Field("60s", description="Longest time that one unit may take to start.")
    slow_units: tuple[Unit, ...] = Field((), description="Units that may take longer.")
    tolerance: int = Field(
        50,
        ge=0,
        le=10000,
        description="Percent by which time of the boot, memory and disk space may be above those of the last release.",
    )


@dataclass(frozen=True, slots=True)
class Expected:
    """What is expected of instances of an image, with what its agents say. Times are seconds."""

    ports: tuple[str, ...] = ()
    set_id: tuple[str, ...] = ()
    world_writable: tuple[str, ...] = ()
    private_keys: tuple[str, ...] = ()
    authorized_keys: tuple[str, ...] = ()
    boot: int = 300
    unit: int = 60
    slow_units: tuple[str, ...] = ()
    tolerance: int = 50

    @classmethod
    def of(cls, spec: ExpectSpec, agents: Iterable[AgentExpectSpec]) -> Expected:
        """Join what a recipe and its agents say."""
        every = (spec, *agents)
        return cls(
            ports=_distinct(one.ports for one in every),
            set_id=_distinct(one.set_id for one in every),
            world_writable=_distinct(one.world_writable for one in every),
            private_keys=_distinct(one.private_keys for one in every),
            authorized_keys=spec.authorized_keys,
            boot=seconds(spec.boot),
            unit=seconds(spec.unit),
            slow_units=spec.slow_units,
            tolerance=spec.tolerance,
        )

    def to_json(self) -> dict[str, Any]:
        return {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(self).items()}


def _distinct(lists: Iterable[tuple[str, ...]]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(value for one in lists for value in one))
