"""Botocore clients that call a cloud in the same process, without HTTP.

    direct = Direct(cloud.serve)
    direct.attach(client)

Most of the client stays in use: botocore validates parameters, runs handlers of ``before-call``, serializes the
request, gets and renews credentials, and raises its errors. Signature and HTTP are omitted, and so is XML for EC2's own
service. A call then takes a millisecond or less, which thousands of test cases need. Unsigned calls still use HTTP.

A dropped response raises ConnectionClosedError, as over HTTP. A response that is later than the read timeout raises
ReadTimeoutError at once; the call has had its effect.
"""

from __future__ import annotations

import io
import time
from collections.abc import Callable, Mapping
from email.utils import formatdate
from functools import cache, lru_cache
from types import SimpleNamespace
from typing import Any
from urllib.parse import quote, urlencode, urlsplit

from botocore.awsrequest import HeadersDict
from botocore.exceptions import ConnectionClosedError, ReadTimeoutError
from botocore.handlers import add_recursion_detection_header
from botocore.httpchecksum import apply_request_checksum
from botocore.model import OperationModel
from botocore.parsers import ResponseParserFactory
from botocore.response import StreamingBody
from botocore.utils import parse_timestamp as read_time

from goldenami_sandbox.ec2 import protocol as ec2
from goldenami_sandbox.http import Request, Response
from goldenami_sandbox.protocol import Call, new_request_id
from goldenami_sandbox.times import http_time, iso_time

_Answer = tuple[Any, dict[str, Any]]  # what a before-call handler returns: the HTTP response and the parsed one


class Direct:
    """Answers the calls of clients. ``serve`` is the ``serve`` of a cloud, or a function around it."""

    def __init__(self, serve: Callable[[Call], Response]) -> None:
        self._serve = serve

    def attach(self, client: Any) -> None:
        """Answer all calls of a botocore client here. Handlers of ``before-call`` that are already registered run
        first.
        """
        events = client.meta.events
        events.register_last("before-call", self._answer)
        events.unregister("before-call", add_recursion_detection_header)  # it reads variables of AWS Lambda
        if client.meta.service_model.service_name not in _WITH_OWN_ENDPOINTS and client._ruleset_resolver is not None:
            client._ruleset_resolver = _Endpoints(client._ruleset_resolver)
        agent = client._user_agent_creator
        agent.to_string = cache(agent.to_string)

    def _answer(
        self,
        model: OperationModel,
        params: Mapping[str, Any],
        request_signer: Any,
        context: Mapping[str, Any],
        **_: Any,
    ) -> _Answer | None:
        if context.get("auth_type") == "none" or request_signer._credentials is None:
            return None  # without credentials, the client raises its error when it signs
        call = _call(params, request_signer)
        response = self._serve(call)
        if response.drop:
            raise ConnectionClosedError(endpoint_url=params["url"])
        if response.late > context["client_config"].read_timeout:
            raise ReadTimeoutError(endpoint_url=params["url"], error="the answer is late")
        # Handlers of S3 read the body once more.
        http = SimpleNamespace(status_code=response.status, content=response.body, raw=response.body)
        return http, _parsed(model, response, call.request_id)


# Their endpoints depend on the names of buckets, which handlers change.
_WITH_OWN_ENDPOINTS = frozenset({"s3", "s3control"})


class _Endpoints:
    """The resolver of a client's endpoints. It keeps the endpoint of operations without parameters in their host or
    path: a twentieth of a call.
    """

    def __init__(self, resolver: Any) -> None:
        self._resolver = resolver
        self._known: Any = None

    def construct_endpoint(self, operation_model: OperationModel, **call: Any) -> Any:
        model: Any = operation_model
        if model.static_context_parameters or model.context_parameters or model.operation_context_parameters:
            return self._resolver.construct_endpoint(operation_model=operation_model, **call)
        if self._known is None:
            self._known = self._resolver.construct_endpoint(operation_model=operation_model, **call)
        return self._known

    def __getattr__(self, name: str) -> Any:
        return getattr(self._resolver, name)


def _call(params: Mapping[str, Any], signer: Any) -> Call:
    """Return the call for a request that botocore serialized."""
    keys = signer._credentials.get_frozen_credentials()  # as for a signature: this renews expired credentials
    apply_request_checksum(params)
    body: Any = params["body"]
    form: dict[str, str] | None = None
    if isinstance(body, dict):  # the query protocols: a form
        body = form = {name: str(value) for name, value in body.items()}
    elif hasattr(body, "read"):
        body = body.read()
    url = urlsplit(params["url"])
    headers = {name.lower(): _text(value) for name, value in params["headers"].items()}
    make: type[Request] = Request if form is None else _FormRequest
    request = make(
        method=params["method"],
        path=quote(url.path or "/", safe="/%~"),
        query=url.query,
        headers=headers,
        raw_headers=list(headers.items()),
        body=body.encode() if isinstance(body, str) else body if form is not None else bytes(body),
    )
    return Call(
        request=request,
        request_id=new_request_id(),
        access_key=keys.access_key,
        region=signer.region_name,
        service=signer.signing_name,
        token=keys.token,
        wire=False,
        given=form,
    )


class _FormRequest(Request):
    """A request whose body is a form. It is encoded when somebody reads it: most services read ``Call.given``."""

    __slots__ = ("_given",)

    @property
    def body(self) -> bytes:
        return urlencode(self._given).encode() if isinstance(self._given, dict) else self._given

    @body.setter
    def body(self, value: Any) -> None:
        self._given = value


def _text(value: str | bytes) -> str:
    return value.decode("latin-1") if isinstance(value, bytes) else value


# --- answers ----------------------------------------------------------------------------------------------------------


def _parsed(model: OperationModel, response: Response, request_id: str) -> dict[str, Any]:
    """Return the answer in the form of botocore's parsers."""
    headers = {name.lower(): value for name, value in response.headers}
    headers.setdefault("date", _date(int(time.time())))
    if response.answer is not None:
        is_ec2 = model.service_model.service_name == "ec2"  # its answers are not in the client's form yet
        parsed = ec2.parsed(model.name, response.answer) if is_ec2 else dict(response.answer)
        parsed["ResponseMetadata"] = {"RequestId": request_id, "HTTPStatusCode": response.status}
    else:
        body: Any = response.body
        if model.has_streaming_output and response.status < 300:
            body = StreamingBody(io.BytesIO(body), len(body))
        raw = {"status_code": response.status, "headers": HeadersDict(headers), "body": body}
        parse = _parser(model.service_model.resolved_protocol)
        parsed = parse(raw, model.output_shape)
        if response.status >= 300:  # the members that the model has for this error
            shape = model.service_model.shape_for_error_code(parsed.get("Error", {}).get("Code"))
            parsed |= {} if shape is None else parse(raw, shape)
    parsed["ResponseMetadata"] |= {"HTTPHeaders": headers, "RetryAttempts": 0}
    return parsed


@cache
def _parser(protocol: str) -> Any:
    factory = ResponseParserFactory()
    factory.set_parser_defaults(timestamp_parser=lambda value: iso_time(value) or http_time(value) or read_time(value))
    return factory.create_parser(protocol).parse


@lru_cache(maxsize=1)
def _date(seconds: int) -> str:
    return formatdate(seconds, usegmt=True)
