"""The SSM parameters that goldenami writes: image ids, and texts about them.

The data type of an image id is ``aws:ec2:image``. SSM validates it *after* the answer ("Native parameter support for
AMI IDs"), so a new version may never become effective. Therefore each value is read back.

SSM keeps 100 versions of a parameter, and a new version deletes the oldest. But it refuses the new version if the
oldest one has a label ("ParameterMaxVersionLimitExceeded", Systems Manager API reference).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from goldenami.aws import errors
from goldenami.aws.ledger import Call, Ledger
from goldenami.aws.session import Cloud
from goldenami.each import parts
from goldenami.errors import CloudError, NotFound
from goldenami.model import Place
from goldenami.polling import Interval, poll

IMAGE: Final = "aws:ec2:image"  # the data types
TEXT: Final = "text"
MOST_VERSIONS: Final = 100  # that SSM keeps of one parameter
_INTERVAL: Final = Interval(0.1, 1.5, 5.0)
_AT_ONCE: Final = 10  # names of GetParameters
_IN_A_FILTER: Final = 50  # values of a filter of DescribeParameters
_EFFECTIVE_WITHIN: Final = 90.0  # seconds; SSM needs a few


@dataclass(frozen=True, slots=True)
class Current:
    """The value of a parameter, and the number of its version, which counts from 1."""

    value: str
    version: int


def get(cloud: Cloud, place: Place, name: str, *, decrypt: bool = False) -> str:
    """Return the current value; with ``decrypt`` also of a SecureString. Raises NotFound."""
    found = find(cloud, place, name, decrypt=decrypt)
    if found is None:
        raise NotFound(f"parameter {name} does not exist in {place}")
    return found


def find(cloud: Cloud, place: Place, name: str, *, decrypt: bool = False) -> str | None:
    """Return the current value; None if the parameter does not exist."""
    found = current(cloud, place, name, decrypt=decrypt)
    return None if found is None else found.value


def current(cloud: Cloud, place: Place, name: str, *, decrypt: bool = False) -> Current | None:
    """Return the current value and the number of its version; None if the parameter does not exist."""
    request = {"Name": name, "WithDecryption": decrypt}
    try:
        found = cloud.call(place, "ssm", "GetParameter", request)["Parameter"]
        return Current(str(found["Value"]), int(found["Version"]))
    except CloudError as error:
        if errors.is_missing(error):
            return None
        raise


def find_many(cloud: Cloud, place: Place, names: Iterable[str], *, decrypt: bool = False) -> dict[str, str]:
    """Return the current values of the parameters that exist, by name. One call for ten names.

    A name may have a selector: NAME:VERSION or NAME:LABEL. Such names take one call each: the answer to a call for
    several names does not always say which selector a value belongs to.
    """
    return {name: one.value for name, one in current_of(cloud, place, names, decrypt=decrypt).items()}


def current_of(cloud: Cloud, place: Place, names: Iterable[str], *, decrypt: bool = False) -> dict[str, Current]:
    """Return the values and versions of the parameters that exist, by name, as :func:`find_many` does."""
    every = set(names)
    selected = {name: current(cloud, place, name, decrypt=decrypt) for name in sorted(every) if ":" in name}
    wanted = sorted(every - set(selected))
    found = {name: one for name, one in selected.items() if one is not None}
    for part in parts(wanted, _AT_ONCE):
        request = {"Names": part, "WithDecryption": decrypt}
        for parameter in cloud.call(place, "ssm", "GetParameters", request)["Parameters"]:
            found[str(parameter["Name"])] = Current(str(parameter["Value"]), int(parameter["Version"]))
    return found


def with_tags(cloud: Cloud, place: Place, names: Iterable[str], wanted: Mapping[str, str]) -> frozenset[str]:
    """Return those of the names whose parameters have all these tags. One call for many names. A parameter that is new
    may be missing."""
    listed = sorted(names)
    by_tags = [{"Key": f"tag:{key}", "Values": [value]} for key, value in sorted(wanted.items())]
    found: set[str] = set()
    for part in parts(listed, _IN_A_FILTER):
        by_name = {"Key": "Name", "Option": "Equals", "Values": part}
        query = {"ParameterFilters": [by_name, *by_tags]}
        found |= {str(one["Name"]) for one in cloud.pages(place, "ssm", "DescribeParameters", "Parameters", query)}
    return frozenset(found)


def dates_with_tags(cloud: Cloud, place: Place, wanted: Mapping[str, str]) -> dict[str, Any]:
    """Return the dates of the last changes of all parameters that have all these tags, by name."""
    by_tags = [{"Key": f"tag:{key}", "Values": [value]} for key, value in sorted(wanted.items())]
    found = cloud.pages(place, "ssm", "DescribeParameters", "Parameters", {"ParameterFilters": by_tags})
    return {str(one["Name"]): one.get("LastModifiedDate") for one in found}


def below(cloud: Cloud, place: Place, path: str) -> dict[str, str]:
    """Return the current values of all parameters below a path, by name."""
    query = {"Path": path, "Recursive": True}
    pages = cloud.pages(place, "ssm", "GetParametersByPath", "Parameters", query)
    return {str(parameter["Name"]): str(parameter["Value"]) for parameter in pages}


def history(cloud: Cloud, place: Place, name: str) -> list[dict[str, Any]]:
    """Return all versions of a parameter, oldest first, as GetParameterHistory returns them; empty if the parameter
    does not exist."""
    try:
        return list(cloud.pages(place, "ssm", "GetParameterHistory", "Parameters", {"Name": name}))
    except CloudError as error:
        if errors.is_missing(error):
            return []
        raise


def why_full(cloud: Cloud, place: Place, name: str, puts: int) -> str | None:
    """Return why SSM would refuse one of the next ``puts`` versions of a parameter, and what to do; or None."""
    versions = history(cloud, place, name)
    for oldest in versions[: max(0, len(versions) + puts - MOST_VERSIONS)]:
        if oldest.get("Labels"):
            labels, version = " ".join(oldest["Labels"]), oldest["Version"]
            return (
                f"Parameter {name} in {place} has {len(versions)} versions. A new one deletes version {version}, and "
                f"SSM keeps that one because it has the label {labels}. The owner of the label must move or remove it: "
                f"`aws ssm unlabel-parameter-version --region {place.region} --name {name} --parameter-version "
                f"{version} --labels {labels}`"
            )
    return None


def create(
    ledger: Ledger,
    key: str,
    place: Place,
    *,
    name: str,
    value: str,
    data_type: str = IMAGE,
    description: str = "",
    tags: Mapping[str, str] | None = None,
) -> None:
    """Ensure that this build created a parameter that did not exist before. :func:`await_values` waits until its value
    is effective.

    Raises CloudError if another program created the parameter (ParameterAlreadyExists).
    """
    request = {"Name": name, "Value": value, "Type": "String", "DataType": data_type, "Overwrite": False}
    if description:
        request["Description"] = description[:1024]
    ledger.create(key, "parameter", place, Call("ssm", "PutParameter", request), name=name, tags=tags)


def put(ledger: Ledger, key: str, place: Place, *, name: str, value: str, data_type: str = IMAGE) -> None:
    """Ensure that an existing parameter gets this value. Tags and description stay. :func:`await_values` waits until
    it is effective.

    Raises CloudError if SSM would have to delete a version with a label.
    """
    request = {"Name": name, "Value": value, "Type": "String", "DataType": data_type, "Overwrite": True}
    ledger.change(key, place, Call("ssm", "PutParameter", request), resource=name, kind="parameter-value")


def delete(ledger: Ledger, place: Place, name: str) -> None:
    """Ensure that a parameter is deleted."""
    ledger.delete("parameter", place, name)


def await_values(
    cloud: Cloud,
    place: Place,
    values: Mapping[str, str],
    *,
    beside: Iterable[str] = (),
    timeout: float = _EFFECTIVE_WITHIN,
) -> dict[str, Current]:
    """Wait until parameters have these values (name -> value). One call for ten names and round. Returns what was read
    of the parameters ``beside``, which the first of these calls reads as well. Raises CloudError after ``timeout``
    seconds."""
    found = current_of(cloud, place, {*values, *beside})
    others = {name: one for name, one in found.items() if name not in values}
    wrong = dict(values)
    for number, _ in enumerate(poll(cloud.clock, cloud.sleep, timeout=timeout, interval=_INTERVAL)):
        if number:
            found |= current_of(cloud, place, wrong)
        wrong = {name: value for name, value in values.items() if name not in found or found[name].value != value}
        if not wrong:
            return others
    name = min(wrong)
    raise CloudError(
        f"parameter {name} in {place} is {found[name].value if name in found else 'missing'} after {timeout:.0f} "
        f"seconds, expected {wrong[name]}",
        code="goldenami.NotEffective",
        action="PutParameter",
        account=place.account,
        region=place.region,
        hint="The value takes effect only if the image exists and the account may use it. Check both.",
    )
