"""The names that expressions can use, in addition to ``vars`` (in an agent ``params``) and ``architecture``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from goldenami.model import Environment
from goldenami.os import SYSTEMS
from goldenami.recipe.rendering import Namespace
from goldenami.recipe.secrets import Secret

IMAGE_FACTS: Final = ("image_id", "image_name", "image_owner", "image_created", "root_device_name")
"""The facts of the base image, as DescribeImages gives them."""

HOST_FACTS: Final[Mapping[str, str]] = {
    "kernel": "uname -r",
    "os_version": '. /etc/os-release; printf %s "${VERSION_ID-}"',
    "os_name": '. /etc/os-release; printf %s "${PRETTY_NAME-}"',
    "root_device": "findmnt -nro SOURCE /",
}
"""The facts that the base image has when its builder has booted, and the shell code that prints each."""


def fact_key(name: str) -> str:
    """Return the name of the placeholder of a fact. No variable can have it, since it has a dot."""
    return f"facts.{name}"


def fact_names() -> Namespace:
    """Return ``facts``: placeholders for what is known only when a builder runs. As with secrets, ``fill`` inserts the
    values, and expressions cannot compare them.
    """
    return Namespace("facts", {name: Secret(fact_key(name)) for name in (*IMAGE_FACTS, *HOST_FACTS)})


def environment_names(environment: Environment) -> Namespace:
    """Return ``environment``: name, home account and region, tags, parameter_prefix."""
    return Namespace(
        "environment",
        {
            "name": environment.name,
            "account": environment.home.id,
            "region": environment.home_region,
            "tags": Namespace("environment.tags", environment.tags),
            "parameter_prefix": environment.parameter_prefix,
        },
    )


def recipe_names(value: Mapping[str, Any]) -> Namespace:
    """Return ``recipe``: name, version, description and owner, as written in the file."""
    return Namespace("recipe", {key: value.get(key) or "" for key in ("name", "version", "description", "owner")})


def base_names(kind: str, reference: str, channel: str, os: str | None) -> Namespace:
    """Return ``base``: kind (ssm, filter, id, recipe), reference, os, package_manager, recipe and channel.

    It has no AMI id, because that is found later.
    """
    names = {
        "kind": kind,
        "reference": reference,
        "recipe": reference if kind == "recipe" else "",
        "channel": channel,
        "os": os or "",
        "package_manager": SYSTEMS[os].manager.name if os else "",
    }
    return Namespace("base", names)
