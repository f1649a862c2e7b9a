"""Calls one service of moto directly, without moto's web framework.

moto's server makes an application for each service, which routes by path. Services whose calls all have the path / need
no routing, so this module calls the function of their only route. That halves the time of a call. It also caches values
that moto computes in each call although they never change.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache
from importlib import import_module
from typing import Any

from goldenami_sandbox.http import Response

# By signing name, which is also the name of moto's package.
SERVICES = frozenset({"ec2", "iam", "kms", "organizations", "ssm", "sts"})
_Dispatch = Callable[[Any, str, Mapping[str, str]], Any]


def answer(service: str, environ: dict[str, Any]) -> Response:
    """Return moto's response. ``service``: one of ``SERVICES``. ``environ``: the call in WSGI's form.

    Raises NotImplementedError for an action that moto does not have. A refused call is a response.
    """
    from botocore.exceptions import ClientError
    from moto.moto_server.werkzeug_app import BackendRequest
    from werkzeug.exceptions import HTTPException

    request = BackendRequest(environ)
    try:
        result = _dispatch(service)(request, request.raw_url, dict(request.headers))
    except ClientError as error:
        result = 400, {}, str(error.response["Error"].get("Message", ""))
    except HTTPException as error:
        result = error.code, dict(error.get_headers()), error.get_body()
    status, headers, body = result if len(result) == 3 else (200, {}, result)
    content = body.encode() if isinstance(body, str) else bytes(body or b"")
    return Response(int(status), content, [(str(name), str(value)) for name, value in headers.items()])


@cache
def _dispatch(service: str) -> _Dispatch:
    remember()
    (dispatch,) = import_module(f"moto.{service}.urls").url_paths.values()
    found: _Dispatch = dispatch
    return found


@cache
def remember() -> None:
    """Which modules moto has, which methods a class has, and which errors a service: functions of their arguments, a
    third of each call."""
    from moto import backends
    from moto.core import errors, responses

    of_moto: Any = backends
    of_moto.list_of_moto_modules = cache(lambda found=of_moto.list_of_moto_modules: frozenset(found()))

    of_classes: Any = responses
    of_classes.method_names_from_class = cache(of_classes.method_names_from_class)
    of_services: Any = errors.ErrorLookupFactory
    of_services._create_error_lut = staticmethod(cache(of_services._create_error_lut))
