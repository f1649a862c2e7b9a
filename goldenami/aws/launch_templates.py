"""Versions of launch templates.

A version never changes, and cannot have tags. So the description of a version that goldenami makes ends with a mark:
the catalog, the build or task, and a digest of the step. By it, the version is found again after a lost answer, and no
other version is ever deleted. Numbers are not used again ("Restrictions for Amazon EC2 launch templates", EC2 User
Guide).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from goldenami.aws.ledger import Call, Ledger
from goldenami.aws.session import Cloud
from goldenami.errors import CloudError
from goldenami.journal import token
from goldenami.model import Place

VERSION_KIND: Final = "launch-template-version"  # the kinds of the calls in a journal
DEFAULT_KIND: Final = "launch-template-default"
_ID: Final = re.compile(r"lt-[0-9a-f]{8,17}")
_MARK: Final = re.compile(r"\[goldenami \S+ \S+ [0-9a-f]{12}\]$")  # see ``_mark``
_LONGEST_DESCRIPTION: Final = 255  # characters (CreateLaunchTemplateVersion, EC2 API reference)
_NO_TEMPLATE: Final = frozenset({"InvalidLaunchTemplateId.NotFound", "InvalidLaunchTemplateName.NotFoundException"})


@dataclass(frozen=True, slots=True)
class Version:
    """``data``: the launch parameters, with the names of the API. ``description``: empty if there is none."""

    number: int
    data: Mapping[str, Any]
    description: str
    default: bool

    @property
    def image_id(self) -> str:
        """The image, or "resolve:ssm:" and the name of a parameter; empty if the template names none."""
        return str(self.data.get("ImageId", ""))


@dataclass(frozen=True, slots=True)
class Template:
    """A launch template with two of its versions, which may be the same."""

    id: str
    default: Version
    latest: Version


def find(cloud: Cloud, place: Place, template: str) -> Template | None:
    """Return a launch template by its id (lt-…) or its name; None if it does not exist."""
    request = {**_named(template), "Versions": ["$Default", "$Latest"]}
    try:
        found = cloud.call(place, "ec2", "DescribeLaunchTemplateVersions", request)["LaunchTemplateVersions"]
    except CloudError as error:
        if error.code in _NO_TEMPLATE:
            return None
        raise
    every = sorted((_version(one) for one in found), key=lambda version: version.number)
    default = next(version for version in every if version.default)
    return Template(str(found[0]["LaunchTemplateId"]), default, every[-1])


def with_image(cloud: Cloud, place: Place, template_id: str, image_id: str) -> list[Version]:
    """Return the versions that name an image, the newest first."""
    query = {"LaunchTemplateId": template_id, "Filters": [{"Name": "image-id", "Values": [image_id]}]}
    found = cloud.pages(place, "ec2", "DescribeLaunchTemplateVersions", "LaunchTemplateVersions", query)
    return sorted((_version(one) for one in found), key=lambda version: version.number, reverse=True)


def create_version(
    ledger: Ledger, key: str, place: Place, template_id: str, *, source: int, image_id: str, description: str
) -> None:
    """Make a version with the launch parameters of version ``source`` and another image. If the outcome of an earlier
    call is unknown, the same call is sent again: its ClientToken makes only one version. ``key``: a new one for each
    version."""
    mark = _mark(ledger, key)
    request = {
        "LaunchTemplateId": template_id,
        "SourceVersion": str(source),
        "LaunchTemplateData": {"ImageId": image_id},
        "VersionDescription": f"{description[: _LONGEST_DESCRIPTION - len(mark) - 1]} {mark}",
        "ClientToken": token(ledger.journal.build_id, key, 1),
    }
    call = Call("ec2", "CreateLaunchTemplateVersion", request)
    ledger.change(key, place, call, resource=template_id, kind=VERSION_KIND)


def is_made_by(ledger: Ledger, key: str, version: Version) -> bool:
    """Return whether the call of :func:`create_version` with this key made a version."""
    return version.description.endswith(_mark(ledger, key))


def set_default(ledger: Ledger, key: str, place: Place, template_id: str, number: int) -> None:
    """Make a version the default one."""
    request = {"LaunchTemplateId": template_id, "DefaultVersion": str(number)}
    ledger.change(key, place, Call("ec2", "ModifyLaunchTemplate", request), resource=template_id, kind=DEFAULT_KIND)


def delete_version(ledger: Ledger, key: str, place: Place, template_id: str, number: int) -> None:
    """Ensure that a version does not exist. Raises CloudError if EC2 keeps it: the default version, for example."""

    def check(answer: Mapping[str, Any]) -> None:
        for one in answer.get("UnsuccessfullyDeletedLaunchTemplateVersions") or ():
            error = one.get("ResponseError") or {}
            if error.get("Code") != "launchTemplateVersionDoesNotExist":
                raise CloudError(
                    f"version {number} of launch template {template_id} in {place} was not deleted: "
                    f"{error.get('Message') or error.get('Code')}",
                    code=str(error.get("Code")),
                    action="DeleteLaunchTemplateVersions",
                    account=place.account,
                    region=place.region,
                )

    request = {"LaunchTemplateId": template_id, "Versions": [str(number)]}
    call = Call("ec2", "DeleteLaunchTemplateVersions", request)
    ledger.change(key, place, call, resource=template_id, kind=VERSION_KIND, already=_NO_TEMPLATE, check=check)


def is_ours(description: str) -> bool:
    """Return whether goldenami made a version with this description, for any catalog."""
    return _MARK.search(description) is not None


def _mark(ledger: Ledger, key: str) -> str:
    header = ledger.journal.header
    return f"[goldenami {header.catalog} {header.build_id} {token(header.build_id, key, 1)[:12]}]"


def _named(template: str) -> dict[str, str]:
    return {"LaunchTemplateId" if _ID.fullmatch(template) else "LaunchTemplateName": template}


def _version(found: Mapping[str, Any]) -> Version:
    return Version(
        int(found["VersionNumber"]),
        found.get("LaunchTemplateData") or {},
        str(found.get("VersionDescription", "")),
        bool(found.get("DefaultVersion")),
    )
