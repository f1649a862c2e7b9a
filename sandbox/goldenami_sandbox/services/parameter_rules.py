"""Rules of parameters that neither botocore's model nor moto has (PutParameter; "Creating parameter names", "Managing
parameter tiers", Systems Manager user guide).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

from goldenami_sandbox.http import Response
from goldenami_sandbox.protocol import Call

MOST_LEVELS: Final = 15
MOST_VERSIONS: Final = 100
MOST_TAGS: Final = 50
LONGEST_ARN: Final = 1011  # the name with the ARN in front of it
_VALUE_LIMITS: Final = {"Standard": 4096, "Advanced": 8192}
_NAME = re.compile(r"[a-zA-Z0-9_.\-/]+")


def refuse_put(call: Call, current: Any) -> Response | None:
    """Return the error for a put, or None. ``current``: moto's object of the current version, or None."""
    name, before = str(call.json["Name"]).strip(), getattr(current, "tier", None)
    tier = call.json.get("Tier") or before or "Standard"
    if refusal := _refuse_name(call, name):
        return refusal
    if current is None and "Type" not in call.json:
        return call.error("ValidationException", "A parameter type is required when you create a parameter.")
    tags = {tag["Key"]: tag for tag in call.json.get("Tags", ())}
    if tags and call.json.get("Overwrite"):
        return call.error(
            "ValidationException",
            "Invalid request: tags and overwrite can't be used together. To create a parameter with tags, please "
            "remove overwrite flag. To update tags for an existing parameter, please use AddTagsToResource or "
            "RemoveTagsFromResource.",
        )
    if refusal := refuse_tags(call, tags):
        return refusal
    value = str(call.json["Value"])
    if "{{" in value and "}}" in value:
        return call.error(
            "ValidationException", f"Parameter value: {value} can't be nested: a value cannot refer to a parameter."
        )
    if getattr(current, "tier", None) == "Advanced" and tier == "Standard" and "Tier" in call.json:
        return call.error(
            "ValidationException",
            "This parameter uses the advanced-parameter tier. You can't downgrade it to Standard.",
        )
    tier = getattr(current, "tier", None) or tier if "Tier" not in call.json else tier
    limit = _VALUE_LIMITS.get(tier, _VALUE_LIMITS["Advanced"])  # Intelligent-Tiering chooses by the length
    if len(value) > limit:
        advice = (
            " To create a larger parameter value, upgrade the parameter to use the advanced-parameter tier."
            if limit == _VALUE_LIMITS["Standard"]
            else ""
        )
        kind = "Standard" if limit == _VALUE_LIMITS["Standard"] else "Advanced"
        return call.error(
            "ValidationException",
            f"{kind} tier parameters support a maximum parameter value of {limit} characters.{advice}",
        )
    return None


def refuse_full(call: Call, versions: Sequence[Any], waiting: int) -> Response | None:
    """Return the error for a put that would delete a version with a label, or None.

    moto knows the rule, but the puts of image ids reach it only after they were validated. ``versions``: moto's
    objects, oldest first. ``waiting``: the number of puts that are not validated yet.
    """
    if not call.json.get("Overwrite"):
        return None
    for oldest in versions[: max(0, len(versions) + waiting + 1 - MOST_VERSIONS)]:
        if oldest.labels:
            return call.error(
                "ParameterMaxVersionLimitExceeded",
                f"You attempted to create a new version of {oldest.name} by calling the PutParameter API with the "
                f"overwrite flag. Version {oldest.version}, the oldest version, can't be deleted because it has a "
                "label associated with it. Move the label to another version of the parameter, and try again.",
            )
    return None


def _refuse_name(call: Call, name: str) -> Response | None:
    first = name.lower().lstrip("/")
    if name.lower().startswith("/aws") and name.count("/") > 1:
        return call.error("AccessDeniedException", f"No access to reserved parameter name: {name}.")
    if not _NAME.fullmatch(name) or first.startswith(("aws", "ssm")) or "//" in name or name.endswith("/"):
        return call.error(
            "ValidationException",
            'Parameter name: can\'t be prefixed with "aws" or "ssm" (case-insensitive). If formed as a path, it can '
            "consist of sub-paths divided by slash symbol; each sub-path can be formed as a mix of letters, numbers "
            "and the following 3 symbols .-_",
        )
    if "/" in name and not name.startswith("/"):
        return call.error("ValidationException", "Parameter name must be a fully qualified name.")
    if len(name.strip("/").split("/")) > MOST_LEVELS:
        return call.error(
            "HierarchyLevelLimitExceededException",
            f"Hierarchy levels exceeded. A hierarchy can have a maximum of {MOST_LEVELS} levels.",
        )
    arn = f"arn:aws:ssm:{call.region}:{call.account}:parameter/{name.lstrip('/')}"
    if len(arn) > LONGEST_ARN:
        return call.error(
            "ValidationException",
            f"Parameter name with its ARN has {len(arn)} characters. The maximum length is {LONGEST_ARN}.",
        )
    return None


def refuse_tags(call: Call, tags: Mapping[str, Any]) -> Response | None:
    """Return the error for all tags that a parameter would have, or None."""
    if len(tags) > MOST_TAGS:
        return call.error(
            "TooManyTagsError", f"The parameter would have {len(tags)} tags. The maximum is {MOST_TAGS} tags."
        )
    reserved = [key for key in tags if key.lower().startswith("aws:")]
    if reserved:
        return call.error("ValidationException", f"Tag keys can't begin with aws: ({', '.join(reserved)}).")
    return None
