"""Calls without a wire: botocore clients whose requests go to a cloud in the same process.

    direct = Direct(cloud.serve)
    direct.attach(client)

What a client does with a call stays as it is: parameters are checked, what listens to ``before-call`` may refuse, the
request is made by botocore's serializers, credentials are asked for and renewed, errors are botocore's. What falls away
is the signature, HTTP, and XML where EC2's own service answers. That takes a call from milliseconds to a few tenths of
one, which is what thousands of cases need. S3, EBS blocks and unsigned calls still take the wire.

A response that is dropped is the ConnectionClosedError that it would be over HTTP, and one that comes later than the
client waits, a ReadTimeoutError: at once, and with the effect that the call has had.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from email.utils import formatdate
from functools import cache
from types import SimpleNamespace
from typing import Any
from urllib.parse import quote, urlencode

from botocore.exceptions import ConnectionClosedError, ReadTimeoutError
from botocore.model import OperationModel
from botocore.parsers import create_parser

from goldenami_sandbox.ec2 import protocol as ec2
from goldenami_sandbox.http import Request, Response
from goldenami_sandbox.protocol import Call, new_request_id

# Bodies of these are streams, in one direction or the other.
_OVER_THE_WIRE = frozenset({"s3", "ebs"})
_Answer = tuple[Any, dict[str, Any]]  # what botocore's before-call takes for one: (an HTTP response, the parsed one)


class Direct:
    """``serve``: a cloud's, or what stands in front of it."""

    def __init__(self, serve: Callable[[Call], Response]) -> None:
        self._serve = serve

    def attach(self, client: Any) -> None:
        """Have all calls of a botocore client answered here. Who listens to ``before-call`` already is heard first."""
        client.meta.events.register_last("before-call", self._answer)

    def _answer(
        self,
        model: OperationModel,
        params: Mapping[str, Any],
        request_signer: Any,
        context: Mapping[str, Any],
        **_: Any,
    ) -> _Answer | None:
        if request_signer.signing_name in _OVER_THE_WIRE or context.get("auth_type") == "none":
            return None
        call = _call(params, request_signer)
        response = self._serve(call)
        if response.drop:
            raise ConnectionClosedError(endpoint_url=params["url"])
        if response.late > context["client_config"].read_timeout:
            raise ReadTimeoutError(endpoint_url=params["url"], error="the answer is late")
        return SimpleNamespace(status_code=response.status), _parsed(model, response, call.request_id)


def _call(params: Mapping[str, Any], signer: Any) -> Call:
    """The call that botocore's serialised request makes."""
    keys = signer._credentials.get_frozen_credentials()  # as for a signature, which renews what has expired
    body, form = params["body"], None
    if isinstance(body, dict):  # the query protocols: a form
        form = {name: str(value) for name, value in body.items()}
        body = urlencode(form)
    headers = {name.lower(): _text(value) for name, value in params["headers"].items()}
    request = Request(
        method=params["method"],
        path=quote(params["url_path"], safe="/%~"),
        query=urlencode(params["query_string"], doseq=True),
        headers=headers,
        raw_headers=list(headers.items()),
        body=body.encode() if isinstance(body, str) else bytes(body),
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


def _text(value: str | bytes) -> str:
    return value.decode("latin-1") if isinstance(value, bytes) else value


# --- answers ----------------------------------------------------------------------------------------------------------


def _parsed(model: OperationModel, response: Response, request_id: str) -> dict[str, Any]:
    """The answer as botocore's parsers make it."""
    headers = {name.lower(): value for name, value in response.headers}
    headers.setdefault("date", formatdate(usegmt=True))
    if response.answer is not None:
        parsed = ec2.parsed(model.name, response.answer)
        parsed["ResponseMetadata"] = {"RequestId": request_id, "HTTPStatusCode": response.status}
    else:
        raw = {"status_code": response.status, "headers": headers, "body": response.body}
        parsed = _parser(model.service_model.resolved_protocol)(raw, model.output_shape)
    parsed["ResponseMetadata"] |= {"HTTPHeaders": headers, "RetryAttempts": 0}
    return parsed


@cache
def _parser(protocol: str) -> Any:
    return create_parser(protocol).parse
