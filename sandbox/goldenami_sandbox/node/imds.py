"""The instance metadata service on 169.254.169.254:80 of the sandbox's router. It identifies an instance by its
address.

As on EC2: PUT /latest/api/token with X-aws-ec2-metadata-token-ttl-seconds (1 to 21600) returns a token, and is refused
if the request was forwarded. A GET without a token is version 1, and gets a 401 if version 2 is required. A directory
is answered with its entries, one per line. (EC2 User Guide, "Use the Instance Metadata Service to access instance
metadata".)
"""

from __future__ import annotations

import secrets
import socket
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from goldenami_sandbox.node.api import InstanceSpec
from goldenami_sandbox.node.namespaces import in_network
from goldenami_sandbox.node.network import METADATA_ADDRESS, ROUTER, mac

_LONGEST_TTL = 21600  # seconds
_VERSIONS = "1.0\n2021-07-15\nlatest"


def tree(spec: InstanceSpec, address: str) -> dict[str, bytes]:
    """Return every path below ``/latest/`` with its value. Values of the caller override those of the node."""
    hardware = mac(address)
    meta: dict[str, str] = {
        "instance-id": spec.instance,
        "hostname": spec.hostname,
        "local-hostname": spec.hostname,
        "local-ipv4": address,
        "mac": hardware,
        "reservation-id": "r-" + spec.instance.removeprefix("i-"),
        "ami-launch-index": "0",
        "ami-manifest-path": "(unknown)",
        "instance-action": "none",
        "instance-life-cycle": "on-demand",
        "services/domain": "amazonaws.com",
        "services/partition": "aws",
        f"network/interfaces/macs/{hardware}/device-number": "0",
        f"network/interfaces/macs/{hardware}/local-ipv4s": address,
        f"network/interfaces/macs/{hardware}/mac": hardware,
    }
    if spec.ssh_public_key:
        meta["public-keys/0/openssh-key"] = spec.ssh_public_key.strip() + "\n"
    given = {key: value for key, value in spec.metadata.items() if not key.startswith("/")}
    meta |= given | {"local-ipv4": address, "mac": hardware, "instance-id": spec.instance}
    if spec.public:
        meta["public-ipv4"] = address
    for key, value in (spec.metadata_tags or {}).items():
        meta[f"tags/instance/{key}"] = value
    paths = {f"meta-data/{key}": value.encode() for key, value in meta.items()}
    paths |= {key.lstrip("/"): value.encode() for key, value in spec.metadata.items() if key.startswith("/")}
    if spec.user_data:
        paths["user-data"] = spec.user_data
    return paths


def look_up(paths: Mapping[str, bytes], path: str, key_name: str) -> bytes | None:
    """Return the value of a path below ``/latest/``, or the entries of a directory. None for a path that does not
    exist.
    """
    wanted = path.strip("/")
    if wanted in paths:
        return paths[wanted]
    if wanted == "meta-data/public-keys" and "meta-data/public-keys/0/openssh-key" in paths:
        return f"0={key_name}".encode()  # the only listing whose lines are not names of entries
    prefix = f"{wanted}/" if wanted else ""
    names = {
        rest.partition("/")[0] + ("/" if "/" in rest else "")
        for p in paths
        if p.startswith(prefix)
        for rest in [p[len(prefix) :]]
    }
    return "\n".join(sorted(names)).encode() if names else None


@dataclass(frozen=True, slots=True)
class _Token:
    address: str
    expires: float


class MetadataService:
    """The HTTP service, from ``start`` to ``close``. ``find`` returns the spec of the instance with an address."""

    def __init__(self, find: Callable[[str], InstanceSpec | None], clock: Callable[[], float] = time.monotonic) -> None:
        self._find = find
        self._clock = clock
        self._tokens: dict[str, _Token] = {}
        self._lock = threading.Lock()
        self._server: _Server | None = None

    def start(self) -> None:
        listener = in_network(ROUTER, _listen)
        self._server = _Server(listener, self)
        threading.Thread(target=self._server.serve_forever, args=(0.2,), name="imds", daemon=True).start()

    def close(self) -> None:
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
            self._server = None

    def answer(
        self, method: str, path: str, headers: Mapping[str, str], address: str
    ) -> tuple[int, bytes, dict[str, str]]:
        """Return status, body and headers. ``headers`` of the request have lower-case names."""
        spec = self._find(address)
        if spec is None:
            return 404, b"", {}
        if spec.imds == "disabled":
            return 403, b"", {}
        path = path.partition("?")[0]
        if method == "PUT":
            return self._new_token(path, headers, address)
        if method not in ("GET", "HEAD"):
            return 405, b"", {}
        offered = headers.get("x-aws-ec2-metadata-token")
        if offered is None:
            if spec.imds == "required":
                return 401, b"", {}
        elif not self._valid(offered, address):
            return 401, b"", {}
        if path in ("", "/"):
            return 200, _VERSIONS.encode(), {}
        version, _, rest = path.lstrip("/").partition("/")
        if version not in _VERSIONS.split():
            return 404, b"", {}
        body = look_up(tree(spec, address), rest, spec.ssh_key_name or "key")
        return (404, b"", {}) if body is None else (200, body, {})

    def _new_token(self, path: str, headers: Mapping[str, str], address: str) -> tuple[int, bytes, dict[str, str]]:
        if path != "/latest/api/token":
            return 404, b"", {}
        if "x-forwarded-for" in headers:
            return 403, b"", {}
        ttl = headers.get("x-aws-ec2-metadata-token-ttl-seconds", "")
        if not ttl.isdigit() or not 1 <= int(ttl) <= _LONGEST_TTL:
            return 400, b"", {}
        token = secrets.token_urlsafe(40)
        now = self._clock()
        with self._lock:
            self._tokens = {t: known for t, known in self._tokens.items() if known.expires > now}
            self._tokens[token] = _Token(address, now + int(ttl))
        return 200, token.encode(), {"X-Aws-Ec2-Metadata-Token-Ttl-Seconds": ttl}

    def _valid(self, offered: str, address: str) -> bool:
        with self._lock:
            token = self._tokens.get(offered)
        return token is not None and token.address == address and token.expires > self._clock()


def _listen() -> socket.socket:
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind((METADATA_ADDRESS, 80))
    listener.listen(64)
    return listener


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, listener: socket.socket, service: MetadataService) -> None:
        super().__init__((METADATA_ADDRESS, 80), _Handler, bind_and_activate=False)
        self.socket.close()
        self.socket = listener
        self.service = service


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    server_version = "EC2ws"
    sys_version = ""
    protocol_version = "HTTP/1.1"
    timeout = 10

    def _serve(self) -> None:
        headers = {name.lower(): value for name, value in self.headers.items()}
        status, body, extra = self.server.service.answer(self.command, self.path, headers, self.client_address[0])
        self.send_response(status)
        for name, value in {"Content-Type": "text/plain", "Content-Length": str(len(body)), **extra}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    do_GET = do_PUT = do_HEAD = do_POST = _serve

    def log_message(self, format: str, *args: Any) -> None:
        """Drop the log lines of http.server: requests of guests are not logged."""
