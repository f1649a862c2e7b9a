"""The names that expressions can use, in addition to ``vars`` (in an agent ``params``) and ``architecture``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from goldenami.model import Environment
from goldenami.os import SYSTEMS
from goldenami.recipe.rendering import Namespace


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
