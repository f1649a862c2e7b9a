"""The control endpoints on the port of the AWS APIs, for `goldenami-sandbox` and for tests.

    GET  /_sandbox/status             instances, images and snapshots with their sizes, settings, uptime
    GET  /_sandbox/settings           the settings; PUT merges a change into them
    GET  /_sandbox/calls              the last calls, as in the call log
    GET  /_sandbox/console/<id>       the console output of an instance, as bytes
    POST /_sandbox/reclaim            {instance, notice}: interrupt a spot instance; notice is in seconds
    POST /_sandbox/gc                 {dry_run}: delete contents that no record has
    POST /_sandbox/export             {image, output, form}: write an image's contents

They act as root on the host's files. So each request must have the token of process.json, which only the owner of the
sandbox can read.
"""

from __future__ import annotations

import hmac
import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

from goldenami_sandbox import browsers, contents
from goldenami_sandbox.cloud import Cloud
from goldenami_sandbox.ec2.service import Ec2Error
from goldenami_sandbox.errors import InvalidSettings, NotFound, SandboxError
from goldenami_sandbox.http import Request, Response
from goldenami_sandbox.node.api import Node

_log = logging.getLogger(__name__)
PREFIX = "/_sandbox/"
TOKEN_HEADER = "x-sandbox-token"


class ControlPoint:
    """The application of the daemon's HTTP server. It answers control endpoints and passes all other requests to the
    cloud.
    """

    def __init__(self, cloud: Cloud, node: Node, name: str, token: str, clock: Callable[[], float]) -> None:
        self._cloud = cloud
        self._node = node
        self._name = name
        self._token = token
        self._clock = clock
        self._started = clock()

    def __call__(self, request: Request) -> Response:
        reason = browsers.refusal(request)
        if reason is not None:
            return _error(403, f"the sandbox does not answer this request: {reason}")
        if not request.path.startswith(PREFIX):
            return self._cloud(request)
        if not hmac.compare_digest(request.headers.get(TOKEN_HEADER, ""), self._token):
            return _error(403, f"the header {TOKEN_HEADER} is missing or its token is wrong")
        try:
            return self._serve(request)
        except InvalidSettings as error:
            return _error(400, error.message, problems=error.problems)
        except NotFound as error:
            return _error(404, error.message, hint=error.hint)
        except (SandboxError, Ec2Error) as error:
            return _error(409, error.message)
        except Exception as error:
            _log.exception("%s %s failed", request.method, request.path)
            return _error(500, f"{type(error).__name__}: {error}")

    def _serve(self, request: Request) -> Response:
        match request.method, request.path.removeprefix(PREFIX).split("/"):
            case "GET", ["status"]:
                return _json(self._status())
            case "GET", ["settings"]:
                return _json(self._cloud.settings.to_json())
            case "PUT", ["settings"]:
                return _json(self._cloud.change(_body(request)).to_json())
            case "GET", ["calls"]:
                return _json(self._cloud.log.entries())
            case "GET", ["console", instance]:
                return Response(200, contents.console(self._cloud, self._node, instance))
            case "POST", ["reclaim"]:
                body = _body(request)
                self._cloud.ec2.reclaim(str(body["instance"]), float(body.get("notice", 120)))
                return _json({})
            case "POST", ["gc"]:
                return _json(self._collect(dry_run=bool(_body(request).get("dry_run"))))
            case "POST", ["export"]:
                body = _body(request)
                contents.export(self._cloud, self._node, str(body["image"]), Path(str(body["output"])), body["form"])
                return _json({})
        return _error(404, f"there is no {request.method} {request.path}")

    def _status(self) -> dict[str, Any]:
        space = self._node.space()
        limit = self._cloud.settings.storage_gib
        return {
            "name": self._name,
            "uptime_seconds": round(self._clock() - self._started, 1),
            "accounts": self._cloud.accounts,
            "settings": self._cloud.settings.to_json(),
            "storage": {
                "used_bytes": space.used,
                "free_bytes": space.free,
                "limit_bytes": None if limit is None else int(limit * 2**30),
                "kinds": {kind: size for kind, size in self._node.usage().items() if kind != "unreachable"},
            },
            **contents.inventory(self._cloud),
        }

    def _collect(self, *, dry_run: bool) -> dict[str, Any]:
        """Delete volumes and snapshots that nothing reaches, and return them, with the bytes that they alone have."""
        ec2 = self._cloud.ec2
        lost = ec2.unreachable()
        size = self._node.usage([id for ids in lost.values() for id in ids])["unreachable"]
        return {**(lost if dry_run else ec2.remove_unreachable()), "bytes": size}


def _body(request: Request) -> dict[str, Any]:
    try:
        value = json.loads(request.body)
    except ValueError:
        value = None
    if not isinstance(value, dict):
        raise InvalidSettings(["the body of the request is not a JSON object"])
    return value


def _json(value: object) -> Response:
    return Response(200, json.dumps(value).encode(), [("Content-Type", "application/json")])


def _error(status: int, message: str, **more: Any) -> Response:
    return Response(status, json.dumps({"error": message, **more}).encode(), [("Content-Type", "application/json")])
