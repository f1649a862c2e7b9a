"""Checks every call against botocore's model of its service, before the service sees it.

    log → credentials → latency, throttle, faults → validation → policies → the service

What the models contain is checked: required members, types, enumerations, lengths, ranges and patterns. Unknown
parameters are refused where the protocol does so (EC2, and elements of XML). AWS lists all problems of a request in one
message, EC2 and S3 only the first. Rules that no model contains are the services' own.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from goldenami_sandbox import constraints, models
from goldenami_sandbox.constraints import Problem
from goldenami_sandbox.ec2 import protocol as ec2
from goldenami_sandbox.ec2.context import Ec2Error
from goldenami_sandbox.http import Response
from goldenami_sandbox.protocol import Call

# The error codes of S3 for the shapes that have one of their own (Amazon S3 API reference, "Error responses").
_S3_CODES: Mapping[str, tuple[str, str]] = {
    "StorageClass": ("InvalidStorageClass", "The storage class you specified is not valid"),
    "ServerSideEncryption": (
        "InvalidEncryptionAlgorithmError",
        "The encryption request that you specified is not valid",
    ),
    "BucketLocationConstraint": ("InvalidLocationConstraint", "The specified location-constraint is not valid"),
}


class Invalid(Exception):
    """A request does not fit the model of its service. ``problems`` is empty if it could not be read."""

    def __init__(self, response: Response, problems: list[Problem]) -> None:
        super().__init__(response.status)
        self.response, self.problems = response, problems


def validate(call: Call) -> None:
    """Check a call, and note its parameters in ``call.params`` (with the names of boto3).

    Raises Invalid with the error of AWS. Nothing is checked for a service or an action that botocore does not have.
    """
    if call.protocol == "ec2":
        _validate_ec2(call)
        return
    operation = models.operation(
        call.service, call.action, call.form.get("Version") if call.protocol == "query" else None
    )
    if operation is None or operation.input_shape is None:
        return
    try:
        call.params = _read(call, operation)
    except models.Malformed as error:
        raise Invalid(_malformed(call, str(error)), []) from None
    service = operation.service_model.service_name
    found = constraints.check(service, operation.input_shape, call.params, typed=False)
    if found:
        raise Invalid(_refusal(call, operation, found), found)


def _validate_ec2(call: Call) -> None:
    try:
        call.params = ec2.parse(call.action, call.form)
    except Ec2Error as error:
        raise Invalid(call.error(error.code, error.message, error.status), []) from None


def _read(call: Call, operation: Any) -> dict[str, Any]:
    match call.protocol:
        case "query":
            return models.form_parameters(operation, call.form)
        case "json":
            if call.request.body and not call.json and call.request.body.strip() != b"{}":
                _require_object(call.request.body)
            return call.json
    return models.parameters(call.service, call.action, call.request)


def _require_object(body: bytes) -> None:
    try:
        value = json.loads(body)
    except ValueError as error:
        raise models.Malformed(str(error)) from None
    if not isinstance(value, dict):
        raise models.Malformed("the body is not a JSON object")


# --- the errors -------------------------------------------------------------------------------------------------------


def _malformed(call: Call, reason: str) -> Response:
    if call.protocol == "rest-xml":
        return call.error("MalformedXML", _NOT_XML)
    return call.error("SerializationException", reason)


_NOT_XML = "The XML you provided was not well-formed or did not validate against our published schema"


def _refusal(call: Call, operation: Any, found: list[Problem]) -> Response:
    if call.protocol == "rest-xml":
        return _s3_refusal(call, operation, found[0])
    wrong_type = next((p for p in found if p.kind == "type"), None)
    if wrong_type is not None and call.protocol != "query":
        return call.error("SerializationException", f"{wrong_type.value!r} can not be converted to {wrong_type.limit}")
    code = "ValidationError" if call.protocol == "query" else "ValidationException"
    return call.error(code, constraints.message(found))


def _s3_refusal(call: Call, operation: Any, problem: Problem) -> Response:
    member = operation.input_shape.members[problem.path[0]]
    if member.serialization.get("location") is None:
        return call.error("MalformedXML", _NOT_XML)
    name = str(member.serialization.get("name", problem.path[0]))
    if problem.kind == "missing":
        return call.error("InvalidRequest", f"Missing required header for this request: {name}")
    code, message = _S3_CODES.get(problem.shape, ("InvalidArgument", f"The value of {name} is not valid"))
    return call.error(code, f"{message}: {problem.value}")
