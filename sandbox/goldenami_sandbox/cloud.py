"""The cloud: it answers requests. Each request passes these layers in order.

    log → credentials → latency, throttle, faults → validation → policies → the service that the request is signed for,
    or moto

``services`` has the services that the sandbox implements. moto (``surface``) answers all other services, and the
actions that a service does not handle. ``Cloud`` has no process and no port, and its only file is its log. ``daemon``
uses it with a real node and saves its state; ``testing`` uses it with a paper node.
"""

from __future__ import annotations

import logging
import secrets
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from goldenami_sandbox import paging, seed
from goldenami_sandbox.accounts import ACCOUNTS
from goldenami_sandbox.authorization import Authorization
from goldenami_sandbox.calllog import CallLog
from goldenami_sandbox.credentials import NOBODY, Credentials, Identity, Refused, unknown_key
from goldenami_sandbox.ec2.service import Ec2
from goldenami_sandbox.faults import Disturbance
from goldenami_sandbox.http import Request, Response
from goldenami_sandbox.optin import OptIns
from goldenami_sandbox.protocol import Call, error_response, new_request_id, parse, parse_unsigned, regions
from goldenami_sandbox.services import Service, Services, World
from goldenami_sandbox.services.lookups import Lookups
from goldenami_sandbox.settings import Settings
from goldenami_sandbox.surface import Surface, Unsupported
from goldenami_sandbox.validation import Invalid, validate
from goldenami_sandbox.visibility import Visibility

_log = logging.getLogger(__name__)

_REQUEST_ID = frozenset({"x-amzn-requestid", "x-amz-request-id"})


class Cloud:
    """A complete cloud. ``accounts``: ids by name. ``kinds``: service classes by name, by default all registered ones.

    ``secret``: that of the administrators' keys; by default a new one. ``changed`` is called after each call that may
    have changed the state. ``services`` are the services of this cloud. ``ec2`` is the EC2 that several of them use.
    """

    def __init__(
        self,
        node: Any,
        *,
        accounts: Mapping[str, str] = ACCOUNTS,
        clock: Callable[[], float],
        sleep: Callable[[float], None],
        log: Path | None = None,
        settings: Settings | None = None,
        changed: Callable[[], None] = lambda: None,
        kinds: Mapping[str, type[Service]] | None = None,
        secret: str | None = None,
    ) -> None:
        self.accounts = dict(accounts)
        self.log = CallLog(log)
        self.surface = Surface()
        self._node = node
        self._clock = clock
        self._changed = changed
        self._settings = settings or Settings()
        self._disturbance = Disturbance(clock, sleep)
        self._guard = threading.Lock()
        self._public: dict[str, list[seed.PublicParameter]] = {}
        self.credentials = Credentials(self.accounts, self.surface, clock, secret or secrets.token_hex(32))
        self._optins = OptIns()
        visibility = Visibility(self.surface, clock, lambda: self._settings)
        lookups = Lookups(self.surface, visibility, lambda: self.services)
        self.ec2 = Ec2(node, clock=clock, hooks=lookups, settings=self._settings)
        self.authorization = Authorization(self.surface, self.ec2, self.credentials, lambda: self._settings)
        self.services = Services(
            World(
                surface=self.surface,
                ec2=self.ec2,
                node=node,
                credentials=self.credentials,
                authorization=self.authorization,
                visibility=visibility,
                clock=clock,
                settings=lambda: self._settings,
                public=self._public_parameters,
                optins=self._optins,
            ),
            kinds,
        )
        self.apply(self._settings)

    # --- serving ------------------------------------------------------------------------------------------------------

    def __call__(self, request: Request) -> Response:
        """Serve one request. Never raises: an internal error is answered with InternalError, and its traceback is
        logged.
        """
        request_id = new_request_id()
        call = parse(request, request_id) or parse_unsigned(request, request_id)
        if call is not None:
            return self.serve(call)
        return self._finished(
            Call(request, request_id, "", "", "", None), _unsigned(request, request_id), self._clock()
        )

    def serve(self, call: Call) -> Response:
        """Serve one call, parsed from a request or made by ``direct``. Never raises."""
        came_in = self._clock()
        try:
            response = self._serve(call)
        except Unsupported as error:
            code = "InvalidAction" if call.protocol in ("ec2", "query") else "UnknownOperationException"
            response = call.error(code, str(error), 400)
        except Exception:
            _log.exception("%s %s failed", call.service, call.action)
            response = call.error(
                "InternalError", "An internal error of the sandbox has occurred. Its daemon.log has the traceback.", 500
            )
        self._finished(call, response, came_in)
        if call.mutating:
            self._changed()
        return response

    def _finished(self, call: Call, response: Response, came_in: float) -> Response:
        """Add the request's id to the response if moto did not, and write the call to the log."""
        if not response.drop and not any(name.lower() in _REQUEST_ID for name, _ in response.headers):
            response.headers.append(("x-amzn-RequestId", call.request_id))
        self.log.write(call, response, came_in, self._clock() - came_in)
        return response

    def _serve(self, call: Call) -> Response:
        if call.region not in regions():
            return call.error("InvalidRegion", f"There is no region named {call.region!r}.", 400)
        if not call.access_key:
            return self._disturbance(call, lambda call: self._answer(call, NOBODY))
        try:
            identity = self.credentials.identify(call)
        except Refused as refused:
            return refused.response
        if not self._optins.is_enabled(identity.account, call.region):
            return unknown_key(call)  # AWS knows no credentials of the account in this region
        call.account, call.principal = identity.account, identity.arn
        return self._disturbance(call, lambda call: self._answer(call, identity))

    def _answer(self, call: Call, identity: Identity) -> Response:
        self.services.settle()
        service = self.services.get(call.service)
        try:
            validate(call)
        except Invalid as invalid:
            return service.refuse(call, invalid) if service is not None else invalid.response
        if refusal := self.authorization.refuse(call, identity):
            return refusal
        response = service.serve(call, identity) if service is not None else None
        return self.authorization.after(call, identity, paging.paged(call, response or self.surface.serve(call)))

    def settle(self, timeout: float = 60.0) -> bool:
        """Do the work that is due, and wait until no work is in progress. Returns False after a timeout (seconds)."""
        self.services.settle()
        return self.ec2.settle(timeout)

    def _public_parameters(self, region: str) -> list[seed.PublicParameter]:
        """Return the vendors' SSM parameters of a region. The first call for a region creates its public images."""
        if region not in self._public:
            with self._guard:
                if region not in self._public:
                    self._public[region] = seed.public_images(self.ec2, region)
        return self._public[region]

    # --- settings and state -------------------------------------------------------------------------------------------

    @property
    def settings(self) -> Settings:
        return self._settings

    def apply(self, settings: Settings) -> None:
        """Use other settings from now on."""
        self._settings = settings
        self._disturbance.apply(settings)
        self.ec2.settings = settings
        limit = settings.storage_gib
        self._node.limit_storage(None if limit is None else int(limit * 2**30))

    def change(self, change: object) -> Settings:
        """Merge a change in JSON form into the settings. Raises InvalidSettings."""
        self.apply(self._settings.merged(change))
        self._changed()
        return self._settings

    def seed(self) -> None:
        """Create accounts, roles and keys. Existing ones are kept."""
        seed.accounts(self.surface, self.accounts)

    def dump(self) -> tuple[dict[str, Any], dict[str, bytes]]:
        """Return all state: JSON values, and moto's services pickled."""
        own = {
            "accounts": self.accounts,
            "settings": self._settings.to_json(),
            "sessions": self.credentials.dump(),
            "services": self.services.dump(),
        }
        return own, self.surface.dump()

    def load(self, own: Mapping[str, Any], services: Mapping[str, bytes]) -> None:
        """Restore dumped state, before the first call. Instances that were running are started again."""
        self.surface.load(services)
        self.credentials.load(own["sessions"])
        self.change(own["settings"])
        self.services.load(own["services"])

    def close(self) -> None:
        """Stop the background work. The caller closes the node."""
        self.ec2.close()
        self.surface.close()
        self.log.close()


def _unsigned(request: Request, request_id: str) -> Response:
    """Return the error for a request without a signature, in the form that its client most likely reads."""
    message = "Request is missing Authentication Token. Sign it with the keys that `goldenami-sandbox env` prints"
    if "x-amz-target" in request.headers:
        return error_response("json", "MissingAuthenticationTokenException", message, 400, request_id)
    text = f"{request.query}&{request.body[:65536].decode('utf-8', 'replace')}"
    if "Action=" in text:
        protocol = "ec2" if "Version=2016-11-15" in text else "query"
        return error_response(protocol, "MissingAuthenticationToken", message, 403, request_id)
    return error_response("rest-xml", "AccessDenied", message, 403, request_id)
