"""The values of ``facts`` in expressions of a recipe: what is known only when a builder of the base image runs.

A recipe has placeholders for them, like those of secrets, so no plan needs an instance. Facts of the host are read over
its connection; those of the base image come from the plan.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from goldenami import ssh
from goldenami.errors import BuilderError, UsageError
from goldenami.model import BaseImage
from goldenami.provision import Stage, all_operations
from goldenami.recipe.context import HOST_FACTS, IMAGE_FACTS, fact_key
from goldenami.recipe.secrets import names_in


def of_image(base: BaseImage) -> dict[str, str]:
    """Return the facts of a base image, by the names of their placeholders."""
    values = {
        "image_id": base.image_id,
        "image_name": base.name,
        "image_owner": base.owner,
        "image_created": base.creation_date,
        "root_device_name": base.root_device_name,
    }
    return {fact_key(name): values[name] for name in IMAGE_FACTS}


def read(connection: ssh.Connection, stages: Iterable[Stage], known: Mapping[str, str]) -> dict[str, str]:
    """Return the facts for stages, by the names of their placeholders. ``known``: the values of secrets, and facts that
    are known already. The host is asked only for facts that the stages have.

    Raises UsageError for a fact of the base image if there is none, BuilderError if the host has no value.
    """
    wanted = {name for stage in stages for name in _names(stage)} - set(known)
    for name in IMAGE_FACTS:
        if fact_key(name) in wanted:
            raise UsageError(
                f"the recipe uses facts.{name}, which only a build knows",
                hint="Use a fact of the host instead: " + ", ".join(f"facts.{one}" for one in HOST_FACTS),
            )
    names = [name for name in HOST_FACTS if fact_key(name) in wanted]
    if not names:
        return {}
    script = "\n".join(f"printf '%s\\n' \"$({HOST_FACTS[name]})\"" for name in names)
    found = connection.run(script, timeout=60).stdout.decode(errors="replace").split("\n")
    values = {name: value.strip() for name, value in zip(names, found, strict=False)}
    for name in names:
        if not values.get(name):
            raise BuilderError(
                f"{connection.endpoint.address} has no value for facts.{name}",
                hint=f"It is read by: {HOST_FACTS[name]}",
            )
    return {fact_key(name): value for name, value in values.items()}


def _names(stage: Stage) -> Iterable[str]:
    for bound in all_operations(stage):
        yield from names_in(bound.operation.model_dump_json())
        yield from names_in(bound.title)
        for payload in bound.payloads.values():
            if payload.data is not None:
                yield from names_in(payload.data.decode(errors="replace"))
