"""Calls moto's server for everything that the sandbox does not implement.

moto keeps its state in module-level dictionaries, one set per process. A ``Surface`` owns such a set and installs it
while one of its calls runs, so several clouds can share a process (tests do that). One lock serves all clouds, because
moto is not thread-safe. moto's calls take a millisecond.

Code that holds ``active`` must not wait for a call into the EC2 service, because EC2 calls moto through its hooks.
"""

from __future__ import annotations

import contextlib
import importlib
import io
import logging
import os
import pickle
import sys
import threading
import types
from collections import defaultdict
from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any, ClassVar

from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

from goldenami_sandbox import models, moto_calls
from goldenami_sandbox.http import Request, Response
from goldenami_sandbox.protocol import Call

_log = logging.getLogger(__name__)
_LOCK = threading.RLock()

# moto reads these at import, or at each use. moto's own AMIs are switched off, because the sandbox has others.
_ENVIRONMENT = {
    "MOTO_EC2_LOAD_DEFAULT_AMIS": "false",
    "MOTO_DISABLE_GLOBAL_CORS": "true",
    "MOTO_S3_ALLOW_CROSSACCOUNT_ACCESS": "true",
}


class Unsupported(Exception):
    """Neither the sandbox nor moto has this action or service."""


class Surface:
    """The moto state of one cloud. The first call imports moto."""

    _current: ClassVar[Surface | None] = None

    def __init__(self) -> None:
        self._stash: list[tuple[Any, dict[str, Any], dict[str, Any]]] = []

    @contextlib.contextmanager
    def active(self) -> Iterator[None]:
        """Install this cloud's state in moto's dictionaries until the block ends. Re-entrant within a thread."""
        with _LOCK:
            if Surface._current is not self:
                _prepare()
                if Surface._current is not None:
                    Surface._current._put_away()
                self._take_out()
                Surface._current = self
            yield

    def backend(self, service: str, account: str, region: str) -> Any:
        """Return moto's backend object of a service. Use it only while ``active``. Global services have the region
        "aws".
        """
        return _dictionary(service)[account][region]

    def bucket_owner(self, name: str) -> str | None:
        """Return the account of a bucket of S3, or None if there is none. Use it only while ``active``."""
        found = _dictionary("s3").bucket_accounts.get(name)
        return None if found is None else str(found[1])

    def serve(self, call: Call, account: str | None = None) -> Response:
        """Return moto's answer, on behalf of ``account`` (default: the caller's)."""
        with self.active():
            from botocore.model import OperationNotFoundError

            account = account or call.account
            try:
                if call.service in moto_calls.SERVICES:
                    request = moto_calls.request(call, account) or moto_calls.read(_environ(call, account))
                    return moto_calls.answer(call.service, request)
                environ = _environ(call, account)
                made = moto_calls.object_store(environ) if call.service == "s3" else None
                return _run(made or _application(), environ)
            except (NotImplementedError, OperationNotFoundError) as error:
                raise Unsupported(f"the sandbox does not have {call.service}:{call.action}") from error

    def close(self) -> None:
        """Discard this cloud's state."""
        with _LOCK:
            if Surface._current is self:
                self._put_away()
                Surface._current = None
            self._stash = []

    def _put_away(self) -> None:
        for backends in list(in_use()):
            extra = {name: getattr(backends, name) for name in _EXTRA if hasattr(backends, name)}
            self._stash.append((backends, dict(backends), extra))
            backends.clear()
            for name in extra:
                setattr(backends, name, {})
        in_use().clear()

    def _take_out(self) -> None:
        for backends, content, extra in self._stash:
            backends.update(content)
            for name, value in extra.items():
                setattr(backends, name, value)
            in_use().append(backends)
        self._stash = []

    def dump(self) -> dict[str, bytes]:
        """Return the state by service, pickled. Objects that cannot be pickled are left out, with a line in the log."""
        result: dict[str, bytes] = {}
        with self.active():
            for backends in list(in_use()):
                try:
                    result[backends.service_name] = _dump_service(backends)
                except (pickle.PicklingError, TypeError, AttributeError) as error:
                    _log.warning(
                        "the state of %s cannot be saved and is lost at a restart: %s", backends.service_name, error
                    )
        return result

    @contextlib.contextmanager
    def undone(self, service: str) -> Iterator[None]:
        """Undo every change of a service's state at the end of the block, for dry runs."""
        with self.active():
            before = _dump_service(_dictionary(service))
            try:
                yield
            finally:
                _dictionary(service).clear()
                self.load({service: before})

    def load(self, state: Mapping[str, bytes]) -> None:
        """Restore the result of ``dump``."""
        with self.active():
            for service, data in state.items():
                backends = _dictionary(service)
                # The sandbox wrote the file, in a directory that only its owner can write, so unpickling is safe.
                content, extra = pickle.loads(data)
                for account, regions in content.items():
                    for region, backend in regions.items():
                        dict.__setitem__(backends[account], region, backend)
                for name, value in extra.items():
                    setattr(backends, name, value)


@cache
def _application() -> Any:
    """Return moto's WSGI application for all services. It selects the service of each request. It has no state, so all
    clouds share it. Call it only while a surface is ``active``.
    """
    from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app

    moto_calls.remember()
    make: Any = create_backend_app

    def found(backend: str | None) -> Any:
        if backend is None:
            raise NotImplementedError
        return make(backend)

    return DomainDispatcherApplication(found)


# Attributes of moto's backend dictionaries that are state besides their content: who owns a bucket; who is in an
# organization.
_EXTRA = ("bucket_accounts",)


def _dump_service(backends: Any) -> bytes:
    """Return the state of one service, pickled. Raises PicklingError, TypeError or AttributeError."""
    content = {account: dict(regions) for account, regions in backends.items()}
    extra = {name: getattr(backends, name) for name in _EXTRA if hasattr(backends, name)}
    buffer = io.BytesIO()
    _Pickler(buffer, protocol=pickle.HIGHEST_PROTOCOL).dump((content, extra))
    return buffer.getvalue()


def _dictionary(service: str) -> Any:
    """Return moto's dictionary of a service's backends, by account and region."""
    from moto import backends

    find: Any = backends.get_backend  # overloaded for every name; ours is a variable
    return find(service)


def in_use() -> list[Any]:
    """Return moto's list of the dictionaries that have contents."""
    from moto.core import base_backend

    instances: list[Any] = base_backend.BackendDict.__dict__["_instances"]
    return instances


def _prepare() -> None:
    for name, value in _ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    if "moto.ec2" not in sys.modules:
        _load_ec2()
    moto_calls.remember()


def _load_ec2() -> None:
    """Load moto's EC2, which other services of moto need, too. It asks three new sessions of boto3 for the regions, and
    each would read the model of EC2 anew. Here they are the session that has read it: half of the time.
    """
    import boto3

    usual, loading = boto3.Session, threading.get_ident()

    def session(*given: Any, **named: Any) -> boto3.Session:
        if threading.get_ident() == loading and not given and not named:
            return usual(botocore_session=models.session())
        return usual(*given, **named)  # of clients in another thread

    vars(boto3)["Session"] = session
    try:
        importlib.import_module("moto.ec2")
    finally:
        vars(boto3)["Session"] = usual
        for name, module in list(sys.modules.items()):
            # Only the load has the shared session: whoever asks later may have other variables.
            if name.startswith("moto.") and vars(module).get("Session") is session:
                vars(module)["Session"] = usual


def _nested_dicts() -> dict[Any, Any]:
    return defaultdict(dict)


class _Pickler(pickle.Pickler):
    """Pickles objects that pickle cannot: private keys, a local function of moto, and a dictionary with its own
    constructor.
    """

    def reducer_override(self, obj: Any) -> Any:
        if isinstance(obj, types.FunctionType) and obj.__name__ == "<lambda>":
            if obj.__qualname__ == "SimpleSystemManagerBackend.__init__.<locals>.<lambda>":
                return (_restore_nested_dicts, ())
            raise pickle.PicklingError(f"cannot pickle {obj.__module__}.{obj.__qualname__}")
        if isinstance(obj, RSAPrivateKey | EllipticCurvePrivateKey):
            pem = obj.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
            return (_restore_private_key, (pem,))
        if type(obj).__name__ == "ParameterDict" and type(obj).__module__ == "moto.ssm.models":
            return (_restore_parameters, (obj.account_id, obj.region_name, dict(obj.__dict__), dict(obj)))
        return NotImplemented


def _restore_private_key(pem: bytes) -> Any:
    return load_pem_private_key(pem, None)


def _restore_nested_dicts() -> Any:
    return _nested_dicts


def _restore_parameters(account: str, region: str, attributes: dict[str, Any], content: dict[str, Any]) -> Any:
    from moto.ssm.models import ParameterDict

    parameters = ParameterDict(account, region)
    parameters.__dict__.update(attributes)
    parameters.update(content)
    return parameters


def _environ(call: Call, account: str) -> dict[str, Any]:
    """Return the WSGI environment of a call. It fixes the values that moto derives from it: account,
    region, service.
    """
    request = call.request
    environ: dict[str, Any] = {
        "wsgi.version": (1, 0),
        "wsgi.url_scheme": "http",
        "wsgi.input": io.BytesIO(request.body),
        "wsgi.errors": io.StringIO(),
        "wsgi.multithread": True,
        "wsgi.multiprocess": False,
        "wsgi.run_once": False,
        "REQUEST_METHOD": request.method,
        "SCRIPT_NAME": "",
        "PATH_INFO": _unquote(request.path),
        "QUERY_STRING": request.query,
        "RAW_URI": request.path + (f"?{request.query}" if request.query else ""),
        "REQUEST_URI": request.path,
        "REMOTE_ADDR": request.peer[0],
        "REMOTE_PORT": str(request.peer[1]),
        "SERVER_NAME": "127.0.0.1",
        "SERVER_PORT": "80",
        "SERVER_PROTOCOL": "HTTP/1.1",
    }
    _add_headers(environ, request)
    environ.pop("HTTP_TRANSFER_ENCODING", None)
    environ["CONTENT_LENGTH"] = str(len(request.body))
    environ.setdefault("HTTP_HOST", "127.0.0.1")
    environ["HTTP_USER_AGENT"] = "client"  # moto would read a region out of it
    environ["HTTP_X_MOTO_ACCOUNT_ID"] = account
    environ["HTTP_AUTHORIZATION"] = moto_calls.authorization(call, environ.get("HTTP_AUTHORIZATION", ""))
    return environ


def _add_headers(environ: dict[str, Any], request: Request) -> None:
    from moto.core.request import PRESERVED_HEADER_NAMES_ENVIRON_KEY, should_preserve_original_header_name

    preserved: dict[str, str] = {}
    for name, value in request.raw_headers:
        key = name.upper().replace("-", "_")
        if key not in ("CONTENT_TYPE", "CONTENT_LENGTH"):
            key = f"HTTP_{key}"
        if "_" in name:
            # WSGI cannot tell x-amz-meta-my_key from x-amz-meta-my-key; moto keeps the spelling of the former beside
            # it.
            if not should_preserve_original_header_name(name):
                continue
            preserved.setdefault(key, name)
        environ[key] = f"{environ[key]},{value}" if key in environ else value
    environ[PRESERVED_HEADER_NAMES_ENVIRON_KEY] = preserved


def _unquote(path: str) -> str:
    """Decode percent-encoding to the form that WSGI expects: the bytes as Latin-1 text."""
    from urllib.parse import unquote_to_bytes

    return unquote_to_bytes(path).decode("latin-1")


def _no_write(_: bytes) -> None:
    """The second way of WSGI to send a body. Nothing here uses it."""


def _run(app: Any, environ: dict[str, Any]) -> Response:
    started: list[tuple[str, list[tuple[str, str]]]] = []

    def start_response(status: str, headers: list[tuple[str, str]], *_: object) -> Any:
        started.append((status, headers))
        return _no_write

    result = app(environ, start_response)
    try:
        body = b"".join(result)
    finally:
        if hasattr(result, "close"):
            result.close()
    status, headers = started[-1]
    return Response(int(status.split(" ", 1)[0]), body, list(headers))
