"""Reads the service, region, action and access key of a request, and writes errors in the form of each service.

AWS signs the region and the service into every request (SigV4's credential scope). So one endpoint serves all services,
and the signature selects the service. The action is a form field (EC2 and the query protocols), a header (the JSON
protocols), or the method and path (S3, EBS direct APIs and others).

Responses of this module have no request-id header. The cloud adds it to all responses.
"""

from __future__ import annotations

import json
import random
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property, lru_cache
from typing import Any
from urllib.parse import parse_qsl
from xml.sax.saxutils import escape

from goldenami_sandbox import models
from goldenami_sandbox.http import Request, Response

_SCOPE = re.compile(r"Credential=([^/,\s]+)/(\d{8})/([^/,\s]+)/([^/,\s]+)/aws4_request")

# The services whose global endpoint signs for one fixed region, or for a pseudo region.
_PSEUDO_REGIONS = frozenset({"aws-global"})
_REST_XML = frozenset({"s3", "route53", "cloudfront", "s3control"})


@lru_cache(maxsize=1)
def regions() -> frozenset[str]:
    """Return all EC2 regions of the partition ``aws``, from botocore's endpoint data."""
    return frozenset(models.session().get_available_regions("ec2"))


@dataclass
class Call:
    """One API call. ``account`` and ``principal`` (the caller's ARN) are set after the access key is identified."""

    request: Request
    request_id: str
    access_key: str
    region: str
    service: str
    token: str | None
    account: str = ""
    principal: str = ""
    notes: dict[str, Any] = field(default_factory=dict)  # fields that layers add to the log
    wire: bool = True  # whether the answer must be bytes; in-process calls also accept ``Response.answer``
    given: Mapping[str, str] | None = None  # the form, if it is available without reading the body
    params: Mapping[str, Any] | None = None  # the parameters, with the names of boto3; ``validation`` sets them

    @cached_property
    def form(self) -> dict[str, str]:
        """The parameters of a query-protocol call, flat, as they were sent."""
        if self.given is not None:
            return dict(self.given)
        kind = self.request.headers.get("content-type", "")
        text = self.request.query
        if kind.startswith("application/x-www-form-urlencoded") and self.request.body:
            text = f"{text}&{self.request.body.decode('utf-8', 'replace')}"
        return dict(parse_qsl(text, keep_blank_values=True))

    @cached_property
    def json(self) -> dict[str, Any]:
        """The parameters of a JSON-protocol call, or an empty dict if the body is not a JSON object."""
        try:
            value = json.loads(self.request.body or b"{}")
        except ValueError:
            return {}
        return value if isinstance(value, dict) else {}

    @cached_property
    def protocol(self) -> str:
        """The protocol that decides the form of errors: "ec2", "query", "json", "rest-xml" or "rest-json"."""
        if self.service == "ec2":
            return "ec2"
        if "x-amz-target" in self.request.headers:
            return "json"
        if self.service in _REST_XML:
            return "rest-xml"
        return "query" if "Action" in self.form else "rest-json"

    @cached_property
    def action(self) -> str:
        """The action's name in the API reference of the service. If no action of a REST service matches: method and
        path.
        """
        if "x-amz-target" in self.request.headers:
            return self.request.headers["x-amz-target"].rpartition(".")[2]
        if self.protocol in ("ec2", "query"):
            return self.form.get("Action", "")
        return models.action(self.service, self.request) or f"{self.request.method} {self.request.path}"

    @property
    def mutating(self) -> bool:
        """Whether the call may change something, judged by the verb of its name, as in AWS's read-only policies."""
        if self.protocol in ("ec2", "query", "json"):
            return not self.action.startswith(_READ_VERBS)
        return self.request.method not in ("GET", "HEAD")

    def error(self, code: str, message: str, status: int = 400) -> Response:
        """Return an error in the form of the service."""
        return error_response(self.protocol, code, message, status, self.request_id)


_READ_VERBS = ("Describe", "Get", "List", "Lookup", "Search", "Simulate", "Decode", "BatchGet")


_ids = random.Random()  # a request id is no secret: it need not cost a system call


def new_request_id() -> str:
    """Return a random UUID of version 4."""
    digits = f"{_ids.getrandbits(128):032x}"
    return f"{digits[:8]}-{digits[8:12]}-4{digits[13:16]}-a{digits[17:20]}-{digits[20:]}"


def parse(request: Request, request_id: str) -> Call | None:
    """Return the call of a signed request, or None if it has no SigV4 signature."""
    scope = _SCOPE.search(request.headers.get("authorization", ""))
    token = request.headers.get("x-amz-security-token")
    if scope is None and "X-Amz-Credential" in request.query:  # a presigned URL
        query = dict(parse_qsl(request.query, keep_blank_values=True))
        scope = _SCOPE.search(f"Credential={query.get('X-Amz-Credential', '')}")
        token = query.get("X-Amz-Security-Token")
    if scope is None:
        return None
    key, _, region, service = scope.groups()
    if region in _PSEUDO_REGIONS:
        region = "us-east-1"
    return Call(
        request=request, request_id=request_id, access_key=key, region=region, service=service.lower(), token=token
    )


def parse_unsigned(request: Request, request_id: str) -> Call | None:
    """Return the call of a request whose action takes no signature, but a token of an identity provider; None for any
    other request."""
    call = Call(request=request, request_id=request_id, access_key="", region="us-east-1", service="sts", token=None)
    named = call.form.get("Action"), call.form.get("Version")
    return call if named == ("AssumeRoleWithWebIdentity", "2011-06-15") else None


def error_response(protocol: str, code: str, message: str, status: int, request_id: str) -> Response:
    if protocol in ("json", "rest-json"):
        # SSM, KMS and the like put the code into the body, the REST services into a header; clients look for both.
        body = json.dumps({"__type": code, "message": message, "Message": message}).encode()
        kind = "application/x-amz-json-1.1" if protocol == "json" else "application/json"
        return Response(status, body, [("Content-Type", kind), ("x-amzn-ErrorType", code)])
    code, message = escape(code), escape(message)
    if protocol == "ec2":
        text = (
            f"<Response><Errors><Error><Code>{code}</Code><Message>{message}</Message></Error></Errors>"
            f"<RequestID>{request_id}</RequestID></Response>"
        )
    elif protocol == "query":
        fault = "Sender" if status < 500 else "Receiver"
        text = (
            f"<ErrorResponse><Error><Type>{fault}</Type><Code>{code}</Code><Message>{message}</Message></Error>"
            f"<RequestId>{request_id}</RequestId></ErrorResponse>"
        )
    else:
        text = f"<Error><Code>{code}</Code><Message>{message}</Message><RequestId>{request_id}</RequestId></Error>"
    body = f'<?xml version="1.0" encoding="UTF-8"?>\n{text}'.encode()
    return Response(status, body, [("Content-Type", "text/xml")])


def xml_response(action: str, namespace: str, result: str, request_id: str) -> Response:
    """Return a query-protocol response. ``result`` is the XML inside ``<ActionResult>``."""
    text = (
        f'<{action}Response xmlns="{namespace}"><{action}Result>{result}</{action}Result>'
        f"<ResponseMetadata><RequestId>{request_id}</RequestId></ResponseMetadata></{action}Response>"
    )
    return Response(200, text.encode(), [("Content-Type", "text/xml")])


def json_response(value: object) -> Response:
    return Response(200, json.dumps(value).encode(), [("Content-Type", "application/x-amz-json-1.1")])


def rest_json_response(value: Mapping[str, Any], status: int = 200, code: str | None = None) -> Response:
    """Return a response of a REST-JSON service. With ``code`` it is a modeled error whose members are in ``value``."""
    headers = [("Content-Type", "application/json")]
    if code is not None:
        headers.append(("x-amzn-ErrorType", code))
    return Response(status, json.dumps(value).encode(), headers)


def replace_body(call: Call, body: bytes) -> Call:
    """Return the same call with another body."""
    headers = {**call.request.headers, "content-length": str(len(body))}
    return replace(call, request=replace(call.request, body=body, headers=headers), given=None, params=None)
