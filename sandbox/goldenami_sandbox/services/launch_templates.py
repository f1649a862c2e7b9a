"""Versions of launch templates: moto keeps them, without most of the rules of EC2 (EC2 API reference, the actions here;
"Restrictions for Amazon EC2 launch templates", EC2 User Guide).

A version never changes. Numbers count up and are not used again after a deletion. A ClientToken returns the version
that its first request made. Deletions answer with status 200, and list what they did not delete.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import Any, Final

from goldenami_sandbox.ec2.context import Ec2Error

MOST_VERSIONS: Final = 10_000  # of one template
_MOST_DELETED: Final = 200  # versions in one request
_LARGEST_PAGE: Final = 200
_LONGEST_DESCRIPTION: Final = 255
_ID: Final = re.compile(r"lt-[0-9a-f]{8,17}")
_NUMBER: Final = re.compile(r"[1-9][0-9]*")

Params = Mapping[str, Any]


def answer(action: str, params: Params, backend: Any, creator: str) -> dict[str, Any]:
    """Return the answer of an action, with the names of boto3. ``creator``: the caller's ARN. Raises Ec2Error."""
    _mend_moto()
    return _ACTIONS[action](params, backend, creator)


def _create(params: Params, backend: Any, creator: str) -> dict[str, Any]:
    template = _template(params, backend)
    description = str(params.get("VersionDescription", ""))
    if len(description) > _LONGEST_DESCRIPTION:
        raise Ec2Error(
            "InvalidParameterValue",
            f"The version description is too long: it can have up to {_LONGEST_DESCRIPTION} characters.",
        )
    tokens: dict[str, tuple[str, int]] = _state(template, "sandbox_tokens", dict)
    token = str(params.get("ClientToken", ""))
    request = json.dumps({k: v for k, v in params.items() if k not in ("ClientToken", "DryRun")}, sort_keys=True)
    if token in tokens:
        earlier, number = tokens[token]
        if earlier != request:
            raise Ec2Error(
                "IdempotentParameterMismatch",
                "The client token was used before in a request with other parameters.",
            )
        made = next((version for version in template.versions if version.number == number), None)
        if made is not None:
            return {"LaunchTemplateVersion": _described(template, made, creator)}
    data = dict(params.get("LaunchTemplateData") or {})
    if not data:
        raise Ec2Error("MissingParameter", "The request must contain the parameter LaunchTemplateData")
    if data.get("UserData"):
        from moto.ec2.utils import parse_user_data

        data["UserData"] = parse_user_data(data["UserData"])
    if params.get("SourceVersion"):
        data = {**_version(template, str(params["SourceVersion"])).data, **data}
    if len(template.versions) >= MOST_VERSIONS:
        raise Ec2Error("VersionLimitExceeded", f"The launch template {template.id} has the maximum number of versions.")
    newest = max(template.latest_version_number, _state(template, "sandbox_newest", int))
    version = template.create_version(data, description)
    version.number = newest + 1  # moto counts the versions that exist
    template.sandbox_newest = version.number
    if token:
        tokens[token] = (request, version.number)
    return {"LaunchTemplateVersion": _described(template, version, creator)}


def _modify(params: Params, backend: Any, creator: str) -> dict[str, Any]:
    template = _template(params, backend)
    wanted = params.get("DefaultVersion")
    if wanted is None:
        raise Ec2Error("MissingParameter", "The request must contain the parameter SetDefaultVersion")
    template.default_version_number = _version(template, str(wanted)).number
    return {
        "LaunchTemplate": {
            "CreateTime": template.create_time,
            "CreatedBy": creator,
            "DefaultVersionNumber": template.default_version_number,
            "LatestVersionNumber": template.latest_version_number,
            "LaunchTemplateId": template.id,
            "LaunchTemplateName": template.name,
        }
    }


def _delete(params: Params, backend: Any, _creator: str) -> dict[str, Any]:
    template = _template(params, backend)
    wanted: Sequence[str] = [str(one) for one in params.get("Versions") or ()]
    if not wanted or len(wanted) > _MOST_DELETED:
        raise Ec2Error("InvalidParameterValue", f"Expected 1 to {_MOST_DELETED} version numbers.")
    if wrong := [one for one in wanted if not _NUMBER.fullmatch(one)]:
        raise Ec2Error("InvalidParameterValue", f"Invalid launch template version number: {wrong[0]}")
    names = {"LaunchTemplateId": template.id, "LaunchTemplateName": template.name}
    deleted: list[dict[str, Any]] = []
    kept: list[dict[str, Any]] = []
    _state(template, "sandbox_newest", int)
    template.sandbox_newest = max(template.sandbox_newest, template.latest_version_number)
    for number in map(int, wanted):
        found = next((version for version in template.versions if version.number == number), None)
        if found is None:
            code, text = "launchTemplateVersionDoesNotExist", f"Version {number} does not exist."
        elif number == template.default_version_number:
            code, text = "unexpectedError", "The default version of a launch template cannot be deleted."
        else:
            template.versions.remove(found)
            deleted.append({**names, "VersionNumber": number})
            continue
        kept.append({**names, "VersionNumber": number, "ResponseError": {"Code": code, "Message": text}})
    return {
        "SuccessfullyDeletedLaunchTemplateVersions": deleted,
        "UnsuccessfullyDeletedLaunchTemplateVersions": kept,
    }


def _describe(params: Params, backend: Any, creator: str) -> dict[str, Any]:
    size = int(params.get("MaxResults") or _LARGEST_PAGE)
    if not 1 <= size <= _LARGEST_PAGE:
        raise Ec2Error("InvalidParameterValue", f"MaxResults must be between 1 and {_LARGEST_PAGE}.")
    wanted = [str(one) for one in params.get("Versions") or ()]
    if params.get("LaunchTemplateId") or params.get("LaunchTemplateName"):
        template = _template(params, backend)
        every = _in_template(template, wanted, params)
    else:
        if not wanted or {one.lower() for one in wanted} - {"$latest", "$default"}:
            raise Ec2Error(
                "InvalidParameterValue" if wanted else "MissingParameter",
                "Specify a launch template, or only $Latest and $Default as versions.",
            )
        every = [pair for one in backend.launch_templates.values() for pair in _in_template(one, wanted, params)]
    chosen = [pair for pair in every if all(_matches(*pair, one) for one in params.get("Filters") or ())]
    start = int(params.get("NextToken") or 0)
    page = chosen[start : start + size]
    found: dict[str, Any] = {"LaunchTemplateVersions": [_described(one, version, creator) for one, version in page]}
    if start + size < len(chosen):
        found["NextToken"] = str(start + size)
    return found


def _in_template(template: Any, wanted: Sequence[str], params: Params) -> list[tuple[Any, Any]]:
    """Return the chosen versions of a template, the newest first."""
    if wanted:
        chosen = {version.number: version for version in (_version(template, one) for one in wanted)}
    else:
        low, high = int(params.get("MinVersion") or 1), int(params.get("MaxVersion") or MOST_VERSIONS**2)
        chosen = {version.number: version for version in template.versions if low <= version.number <= high}
    return [(template, version) for _, version in sorted(chosen.items(), reverse=True)]


def _matches(template: Any, version: Any, filter: Params) -> bool:
    values = [str(value) for value in filter.get("Values") or ()]
    match filter.get("Name"):
        case "image-id":
            return str(version.data.get("ImageId", "")) in values
        case "instance-type":
            return str(version.data.get("InstanceType", "")) in values
        case "is-default-version":
            return str(template.is_default(version)).lower() in values
        case name:
            raise Ec2Error("InvalidParameterValue", f"The filter '{name}' is invalid")


def _template(params: Params, backend: Any) -> Any:
    id, name = params.get("LaunchTemplateId"), params.get("LaunchTemplateName")
    if bool(id) == bool(name):
        code = "InvalidParameterCombination" if id else "MissingParameter"
        raise Ec2Error(code, "Specify either the launch template ID or the launch template name.")
    if id and not _ID.fullmatch(str(id)):
        raise Ec2Error("InvalidLaunchTemplateId.Malformed", f"Invalid launch template ID: {id}")
    found = backend.launch_templates.get(id or backend.launch_template_name_to_ids.get(name))
    if found is None and id:
        raise Ec2Error(
            "InvalidLaunchTemplateId.NotFound",
            f"The specified launch template, with template ID {id}, does not exist.",
        )
    if found is None:
        raise Ec2Error(
            "InvalidLaunchTemplateName.NotFoundException",
            f"The specified launch template, with template name {name}, does not exist.",
        )
    return found


def _version(template: Any, wanted: str) -> Any:
    numbers = {"$latest": template.latest_version_number, "$default": template.default_version_number}
    number = numbers.get(wanted.lower(), int(wanted) if _NUMBER.fullmatch(wanted) else 0)
    found = next((version for version in template.versions if version.number == number), None)
    if found is None:
        raise Ec2Error(
            "InvalidLaunchTemplateId.VersionNotFound",
            f"Could not find the specified version {wanted} for the launch template with ID {template.id}.",
        )
    return found


def _described(template: Any, version: Any, creator: str) -> dict[str, Any]:
    found = {
        "LaunchTemplateId": template.id,
        "LaunchTemplateName": template.name,
        "VersionNumber": version.number,
        "CreateTime": version.create_time,
        "CreatedBy": creator,
        "DefaultVersion": template.is_default(version),
        "LaunchTemplateData": {name: value for name, value in version.data.items() if value is not None},
    }
    return {**found, "VersionDescription": version.description} if version.description else found


def _state(template: Any, name: str, kind: Callable[[], Any]) -> Any:
    """Return what the sandbox keeps beside moto's own fields of a template."""
    if not hasattr(template, name):
        setattr(template, name, kind())
    return getattr(template, name)


@cache
def _mend_moto() -> None:
    """moto takes the number of a version for an index, which is wrong after a deletion."""
    from moto.ec2.models.launch_templates import LaunchTemplate

    replaced: Mapping[str, Callable[..., Any]] = {
        "get_version": lambda self, num: _version(self, str(num)),
        "default_version": lambda self: _version(self, "$Default"),
    }
    for name, method in replaced.items():
        setattr(LaunchTemplate, name, method)


_ACTIONS: Final[Mapping[str, Callable[[Params, Any, str], dict[str, Any]]]] = {
    "CreateLaunchTemplateVersion": _create,
    "ModifyLaunchTemplate": _modify,
    "DeleteLaunchTemplateVersions": _delete,
    "DescribeLaunchTemplateVersions": _describe,
}
ACTIONS: Final = frozenset(_ACTIONS)
