"""SSM parameters that hold image ids.

Their data type is ``aws:ec2:image``. SSM validates it *after* the answer ("Native parameter support for AMI IDs"), so a
new version may never become effective. Therefore each value is read back. SSM keeps 100 versions of a parameter.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

from goldenami.aws import errors
from goldenami.aws import tags as tagging
from goldenami.aws.ledger import Call, Ledger
from goldenami.aws.session import Cloud
from goldenami.errors import CloudError, NotFound
from goldenami.model import Place
from goldenami.polling import Interval, poll

DATA_TYPE: Final = "aws:ec2:image"
_INTERVAL: Final = Interval(0.1, 1.5, 5.0)
_AT_ONCE: Final = 10  # names of GetParameters
_EFFECTIVE_WITHIN: Final = 60.0  # seconds; SSM needs a few


def get(cloud: Cloud, place: Place, name: str, *, decrypt: bool = False) -> str:
    """Return the current value; with ``decrypt`` also of a SecureString. Raises NotFound."""
    found = find(cloud, place, name, decrypt=decrypt)
    if found is None:
        raise NotFound(f"parameter {name} does not exist in {place}")
    return found


def find(cloud: Cloud, place: Place, name: str, *, decrypt: bool = False) -> str | None:
    """Return the current value; None if the parameter does not exist."""
    request = {"Name": name, "WithDecryption": decrypt}
    try:
        return str(cloud.call(place, "ssm", "GetParameter", request)["Parameter"]["Value"])
    except CloudError as error:
        if errors.is_missing(error):
            return None
        raise


def find_many(cloud: Cloud, place: Place, names: Iterable[str], *, decrypt: bool = False) -> dict[str, str]:
    """Return the current values of the parameters that exist, by name. One call for ten names.

    A name may have a selector: NAME:VERSION or NAME:LABEL. Such names take one call each: the answer to a call for
    several names does not always say which selector a value belongs to.
    """
    every = set(names)
    selected = {name: find(cloud, place, name, decrypt=decrypt) for name in sorted(every) if ":" in name}
    wanted = sorted(every - set(selected))
    found = {name: value for name, value in selected.items() if value is not None}
    for start in range(0, len(wanted), _AT_ONCE):
        request = {"Names": wanted[start : start + _AT_ONCE], "WithDecryption": decrypt}
        for parameter in cloud.call(place, "ssm", "GetParameters", request)["Parameters"]:
            found[str(parameter["Name"])] = str(parameter["Value"])
    return found


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


def create(
    ledger: Ledger,
    key: str,
    place: Place,
    *,
    name: str,
    image_id: str,
    description: str = "",
    tags: Mapping[str, str] | None = None,
    temporary: bool = False,
) -> None:
    """Ensure that this build created a parameter that did not exist before, and that its value is effective.

    ``temporary``: adds the expiry tag, which ``settle`` removes.

    Raises CloudError if another program created the parameter (ParameterAlreadyExists), and if the value does not
    become effective.
    """
    request = {"Name": name, "Value": image_id, "Type": "String", "DataType": DATA_TYPE, "Overwrite": False}
    if description:
        request["Description"] = description[:1024]
    ledger.create(
        key, "parameter", place, Call("ssm", "PutParameter", request), name=name, tags=tags, temporary=temporary
    )
    await_value(ledger.cloud, place, name, image_id)


def settle(ledger: Ledger, key: str) -> None:
    """Ensure that a key's parameter, if it has one, is not temporary any more. Makes no call if the journal shows that
    already, or if this build did not create the parameter."""
    made = ledger.resource(key)
    if made is None or tagging.EXPIRES_AT not in tagging.from_list(made.request.get("Tags")):
        return
    request = {"ResourceType": "Parameter", "ResourceId": made.id, "TagKeys": [tagging.EXPIRES_AT]}
    call = Call("ssm", "RemoveTagsFromResource", request)
    ledger.change(f"keep/{key}", made.place, call, resource=made.id, already={"InvalidResourceId"})


def put(ledger: Ledger, key: str, place: Place, *, name: str, image_id: str) -> None:
    """Ensure that an existing parameter has this value, and that it is effective. Tags and description stay."""
    request = {"Name": name, "Value": image_id, "Type": "String", "DataType": DATA_TYPE, "Overwrite": True}
    ledger.change(key, place, Call("ssm", "PutParameter", request), resource=name, kind="parameter-value")
    await_value(ledger.cloud, place, name, image_id)


def delete(ledger: Ledger, place: Place, name: str) -> None:
    """Ensure that a parameter is deleted."""
    ledger.delete("parameter", place, name)


def await_value(cloud: Cloud, place: Place, name: str, value: str, *, timeout: float = _EFFECTIVE_WITHIN) -> None:
    """Wait until a parameter has the value ``value``. Raises CloudError after ``timeout`` seconds."""
    current: str | None = None
    for _ in poll(cloud.clock, cloud.sleep, timeout=timeout, interval=_INTERVAL):
        current = find(cloud, place, name)
        if current == value:
            return
    raise CloudError(
        f"parameter {name} in {place} is {current or 'missing'} after {timeout:.0f} seconds, expected {value}",
        code="goldenami.NotEffective",
        action="PutParameter",
        account=place.account,
        region=place.region,
        hint="The value takes effect only if the image exists and the account may use it. Check both.",
    )
