"""Calls one service of moto directly, without moto's web framework.

moto's server makes an application for each service, which routes by path. Services whose calls all have the path / need
no routing, so this module calls the function of their only route, with a request that is read already. The routes of S3
for a bucket and for an object are known from the path. It also caches values that moto computes in each call although
they never change.
"""

from __future__ import annotations

import random
import re
import string
import threading
from collections.abc import Callable, Mapping
from functools import cache
from importlib import import_module
from typing import Any

from goldenami_sandbox import moto_answers
from goldenami_sandbox.http import Response
from goldenami_sandbox.protocol import Call

# By signing name, which is also the name of moto's package.
SERVICES = frozenset({"ec2", "iam", "kms", "organizations", "ssm", "sts"})
_Dispatch = Callable[[Any, str, Mapping[str, str]], Any]


class _Headers(dict[str, str]):
    """Headers by lower-case names, for lookups in any spelling."""

    def __getitem__(self, name: str) -> str:
        return super().__getitem__(name.lower())

    def __contains__(self, name: object) -> bool:
        return super().__contains__(name.lower() if isinstance(name, str) else name)

    def get(self, name: str, default: Any = None) -> Any:
        return super().get(name.lower(), default)


class _Request:
    """What moto reads of a request with a form or with JSON, in place of werkzeug's request."""

    from_wsgi_server = True
    content_encoding = None
    path = raw_path = "/"
    method = "POST"

    def __init__(self, call: Call, account: str, content_type: str) -> None:
        headers = _Headers(call.request.headers)
        headers.setdefault("host", "127.0.0.1")
        headers["user-agent"] = "client"  # moto would read a region out of it
        headers["x-moto-account-id"] = account
        headers["authorization"] = authorization(call, headers.get("authorization", ""))
        self.headers = headers
        self.content_type = content_type
        self.raw_url = f"http://{headers['host']}/"
        self.environ: dict[str, Any] = {}
        self.files: dict[str, Any] = {}
        self.form: dict[str, str] = {}
        self.data = b""
        if content_type.startswith(_FORM):
            self.form = call.form
        else:
            self.data = call.request.body
        self.values = self.form


_FORM = "application/x-www-form-urlencoded"


def authorization(call: Call, given: str = "") -> str:
    """Return the header of which moto reads the region and the access key: the given one if it has them."""
    if f"/{call.region}/" in given:
        return given
    return (
        f"AWS4-HMAC-SHA256 Credential={call.access_key}/20000101/{call.region}/{call.service}/aws4_request, "
        "SignedHeaders=host, Signature=0"
    )


def request(call: Call, account: str) -> Any:
    """Return a request for ``answer``, or None for calls that werkzeug has to read: those with parameters in the URL or
    with an encoded body."""
    headers = call.request.headers
    kind = headers.get("content-type", "")
    if (
        call.request.method != "POST"
        or call.request.path != "/"
        or call.request.query
        or not kind.startswith((_FORM, "application/x-amz-json"))
        or "content-encoding" in headers
    ):
        return None
    return _Request(call, account, kind)


def read(environ: dict[str, Any]) -> Any:
    """Return a request for ``answer``. ``environ``: the call in WSGI's form."""
    from moto.moto_server.werkzeug_app import BackendRequest

    return BackendRequest(environ)


def answer(service: str, request: Any) -> Response:
    """Return moto's response. ``service``: one of ``SERVICES``. ``request``: made by ``request`` or ``read``.

    Raises NotImplementedError for an action that moto does not have. A refused call is a response.
    """
    from botocore.exceptions import ClientError
    from werkzeug.exceptions import HTTPException

    try:
        result = _dispatch(service)(request, request.raw_url, dict(request.headers))
    except ClientError as error:
        result = 400, {}, str(error.response["Error"].get("Message", ""))
    except HTTPException as error:
        result = error.code, dict(error.get_headers()), error.get_body()
    status, headers, body = result if len(result) == 3 else (200, {}, result)
    content = body.encode() if isinstance(body, str) else bytes(body or b"")
    return Response(int(status), content, [(str(name), str(value)) for name, value in headers.items()])


# Other paths, and methods that the web framework answers itself, are its.
_PATH = re.compile(r"/(?!latest/|moto-api/|v20180820/)[a-z0-9][a-z0-9.-]+(?P<key>/[^/].*)?/?", re.ASCII)
_METHODS = frozenset({"DELETE", "GET", "HEAD", "POST", "PUT"})


def object_store(environ: dict[str, Any]) -> Any:
    """Return moto's response to a call of S3 for a bucket or an object: a WSGI application. None for other calls, which
    moto's web framework has to route."""
    path = environ["PATH_INFO"]
    found = _PATH.fullmatch(path)
    if (
        found is None
        or "//" in path
        or environ["REQUEST_METHOD"] not in _METHODS
        or "s3-control" in environ["HTTP_HOST"]
    ):
        return None
    return _of_bucket_or_object(read(environ), found["key"] is not None)


def _of_bucket_or_object(request: Any, has_key: bool) -> Any:
    """Return the response, made as moto makes it for its web framework."""
    from botocore.exceptions import ClientError
    from flask import Response as Made
    from moto.s3.responses import S3Response
    from werkzeug.exceptions import HTTPException

    remember()
    dispatch: _Dispatch = S3Response.key_dispatch if has_key else S3Response.ambiguous_dispatch
    try:
        result = dispatch(request, request.raw_url, dict(request.headers))
    except ClientError as error:
        result = 400, {}, str(error.response["Error"]["Message"])
    except HTTPException as error:
        return error.get_response(request.environ)
    status, headers, content = result if len(result) == 3 else (200, {}, result)
    made = Made(response=content, status=status, headers=headers)
    if request.method == "HEAD" and "content-length" in headers:
        made.headers["Content-Length"] = headers["content-length"]
    return made


_ids = random.Random()


def _request_id(headers: dict[str, Any]) -> str:
    """Add a new request id to the headers of an answer, and return it."""
    made = "".join(_ids.choices(string.ascii_letters + string.digits, k=52))
    headers["x-amzn-requestid"] = made
    return made


@cache
def _dispatch(service: str) -> _Dispatch:
    remember()
    (dispatch,) = import_module(f"moto.{service}.urls").url_paths.values()
    found: _Dispatch = dispatch
    return found


_remembering = threading.Lock()
_REMEMBERS = "_goldenami_sandbox_remembers"


def remember() -> None:
    """Keep which modules moto has, which methods a class has, and which errors and regions a service: functions of
    their arguments, a third of each call. Other functions of moto are replaced by faster ones with the same results.
    Only the first call in a process does that; a call from another thread returns when it is done."""
    from moto import backends

    of_moto: Any = backends
    with _remembering:
        # moto itself is marked, before it is changed: a second change of a part would keep the first one's results.
        if not hasattr(of_moto, _REMEMBERS):
            setattr(of_moto, _REMEMBERS, True)
            _replace(of_moto)


def _replace(of_moto: Any) -> None:
    from moto.core import base_backend, errors, responses

    of_moto.list_of_moto_modules = cache(lambda found=of_moto.list_of_moto_modules: frozenset(found()))

    of_classes: Any = responses
    of_classes.method_names_from_class = cache(of_classes.method_names_from_class)
    of_services: Any = errors.ErrorLookupFactory
    of_services._create_error_lut = staticmethod(cache(of_services._create_error_lut))
    of_accounts: Any = base_backend.AccountSpecificBackend  # it asks anew for each account of each cloud
    find = of_accounts._generate_regions.__wrapped__
    of_accounts._generate_regions = staticmethod(cache(lambda service: tuple(find(of_accounts, service))))
    of_classes.gen_amzn_requestid_long = _request_id
    moto_answers.quicken()
