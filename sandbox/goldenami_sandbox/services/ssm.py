"""SSM parameters: public ones of vendors, and ``aws:ec2:image`` ones, which are validated.

AWS accepts a PutParameter with that data type at once and validates it afterwards. Only an available image that the
account can see becomes the parameter's value; otherwise the put has no effect. Until then, reads return the old value.
(Systems Manager user guide, "Native parameter support for Amazon Machine Image IDs".)
"""

from __future__ import annotations

import base64
import json
import re
import threading
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from goldenami_sandbox.credentials import Identity
from goldenami_sandbox.ec2.context import Ctx, Ec2Error
from goldenami_sandbox.http import Request, Response
from goldenami_sandbox.protocol import Call, json_response, new_request_id
from goldenami_sandbox.seed import IMAGE_TYPE, PublicParameter
from goldenami_sandbox.services import Service, World, parameter_rules, service, sessions

_IMAGE_ID = re.compile(r"ami-(?:[0-9a-f]{8}|[0-9a-f]{17})")


@dataclass(frozen=True, slots=True)
class _Put:
    """A put that was accepted and is not validated yet. ``ready``: seconds since the epoch."""

    account: str
    region: str
    name: str
    image: str
    body: bytes
    ready: float


@service("ssm")
class Ssm(Service):
    def __init__(self, world: World) -> None:
        super().__init__(world)
        self._surface = world.surface
        self._guard = threading.RLock()
        self._pending: list[_Put] = []
        self._sessions = sessions.Sessions(world.ec2)

    def serve(self, call: Call, identity: Identity) -> Response:
        if call.action in sessions.ACTIONS:
            return self._sessions.serve(call, identity)
        self.prime(call.account, call.region)
        if refusal := self._refuse(call):
            return refusal
        if call.action == "PutParameter":
            is_image = self._is_image(call)
            return self.world.visibility.register(
                call, self._put_image(call) if is_image else self._surface.serve(call)
            )
        with self.world.visibility.hide_new(call):
            return self._serve(call)

    def _serve(self, call: Call) -> Response:
        path = str(call.json.get("Path", ""))
        if call.action == "DescribeParameters" or (
            call.action == "GetParametersByPath" and not path.startswith("/aws")
        ):
            return self._serve_own(call)
        return self._surface.serve(call)

    def _serve_own(self, call: Call) -> Response:
        """Serve the account's own parameters. Lists contain public parameters only for requests with their path."""
        with self._surface.active():
            parameters = self._surface.backend("ssm", call.account, call.region)._parameters
            names = {public.name for public in self.world.public(call.region)} & set(parameters)
            public = {name: parameters.pop(name) for name in names}
            try:
                return self._surface.serve(call)
            finally:
                parameters.update(public)

    def _refuse(self, call: Call) -> Response | None:
        """Return the error for a call that AWS refuses and moto accepts."""
        match call.action:
            case "PutParameter":
                name = str(call.json.get("Name"))
                versions = self._versions(call.account, call.region, name)
                waiting = self._waiting(call.account, call.region, name)
                refusal = parameter_rules.refuse_put(call, versions[-1] if versions else None)
                return refusal or parameter_rules.refuse_full(call, versions, waiting)
            case "AddTagsToResource" if call.json.get("ResourceType") == "Parameter":
                name = str(call.json.get("ResourceId"))
                with self._surface.active():
                    backend = self._surface.backend("ssm", call.account, call.region)
                    tags = backend.list_tags_for_resource("Parameter", name) if name in backend._parameters else {}
                return parameter_rules.refuse_tags(
                    call, {**tags, **{tag["Key"]: tag["Value"] for tag in call.json["Tags"]}}
                )
        return None

    def settle(self) -> None:
        """Complete the puts that are due. It calls EC2, so the caller must not hold a lock that EC2 needs."""
        if not self._pending:
            return
        with self._guard:
            now = self.world.clock()
            due = [put for put in self._pending if put.ready <= now]
            if not due:
                return
            self._pending = [put for put in self._pending if put.ready > now]
            for put in due:
                if self._usable(put.account, put.region, put.image):
                    self._surface.serve(_call(put))

    def _usable(self, account: str, region: str, image: str) -> bool:
        """Return whether an account can launch an image: it exists, is visible, and is available."""
        ctx = Ctx(account, region, f"arn:aws:iam::{account}:root", new_request_id())
        try:
            reply = self.world.ec2.call(ctx, "DescribeImages", {"ImageIds": [image]})
        except Ec2Error:
            return False
        return any(item.get("State") == "available" for item in reply.get("Images", []))

    def _is_image(self, call: Call) -> bool:
        data_type = call.json.get("DataType")
        if data_type is None and call.json.get("Overwrite"):
            current = self._current(call.account, call.region, str(call.json.get("Name")))
            data_type = current.data_type if current is not None else None
        return data_type == IMAGE_TYPE

    def _put_image(self, call: Call) -> Response:
        value, name = str(call.json.get("Value", "")), str(call.json.get("Name", ""))
        if not _IMAGE_ID.fullmatch(value):
            return call.error(
                "ValidationException",
                f"The parameter value {value!r} is not a valid Amazon Machine Image ID (ami-12345abcdeEXAMPLE).",
            )
        current = self._current(call.account, call.region, name)
        if current is not None and not call.json.get("Overwrite"):
            return call.error(
                "ParameterAlreadyExists",
                "The parameter already exists. To overwrite this value, set the overwrite option in the request "
                "to true.",
            )
        with self._guard:
            waiting = self._waiting(call.account, call.region, name)
            delay = self.world.settings().pending.parameter
            body = json.dumps({**call.json, "DataType": IMAGE_TYPE}).encode()
            put = _Put(call.account, call.region, name, value, body, self.world.clock() + delay)
            if delay <= 0:
                return self._put_now(call, put)
            self._pending.append(put)
        version = (current.version if current is not None else 0) + waiting + 1
        return json_response({"Version": version, "Tier": call.json.get("Tier", "Standard")})

    def _put_now(self, call: Call, put: _Put) -> Response:
        """Validate a put without delay. As on AWS, an invalid image is accepted and never becomes the value."""
        if self._usable(put.account, put.region, put.image):
            return self._surface.serve(_call(put))
        current = self._current(put.account, put.region, put.name)
        version = (current.version if current is not None else 0) + 1
        return json_response({"Version": version, "Tier": call.json.get("Tier", "Standard")})

    def image(self, account: str, region: str, parameter: str) -> str | None:
        """Return the value of a parameter (name, name:version or name:label), or None. Implements
        ``Hooks.ssm_image``.
        """
        self.prime(account, region)
        with self._surface.active():
            backend = self._surface.backend("ssm", account, region)
            from moto.ssm.exceptions import ParameterVersionNotFound

            try:
                found = backend.get_parameter(parameter)
            except ParameterVersionNotFound:
                return None
            return None if found is None else str(found.value)

    def image_parameters(self, account: str, region: str) -> dict[str, str]:
        """Return the account's parameters of type aws:ec2:image. Implements ``Hooks.image_parameters``."""
        public = {p.name for p in self.world.public(region)}
        with self._surface.active():
            parameters = self._surface.backend("ssm", account, region)._parameters
            newest = {str(name): dict.__getitem__(parameters, name)[-1] for name in dict.keys(parameters)}
            return {
                name: str(one.value)
                for name, one in newest.items()
                if name not in public and getattr(one, "data_type", "") == "aws:ec2:image"
            }

    def prime(self, account: str, region: str) -> None:
        """Put the public parameters into moto's backend of this place. They replace moto's, whose images do not exist
        here.
        """
        known = self.world.public(region)  # calls EC2, so it must not run while moto's lock is held
        with self._surface.active():
            parameters = self._surface.backend("ssm", account, region)._parameters
            parameters.latest_amis_loaded = True
            parameters.latest_ecs_amis_loaded = True
            for public in known:
                if not dict.__contains__(parameters, public.name):
                    dict.__setitem__(parameters, public.name, [_moto_parameter(account, public, self.world.clock())])

    def _current(self, account: str, region: str, name: str) -> Any:
        versions = self._versions(account, region, name)
        return versions[-1] if versions else None

    def _versions(self, account: str, region: str, name: str) -> list[Any]:
        with self._surface.active():
            return list(self._surface.backend("ssm", account, region)._parameters.get(name) or ())

    def _waiting(self, account: str, region: str, name: str) -> int:
        """Return how many puts of a parameter were accepted and are not validated yet."""
        with self._guard:
            return sum((put.account, put.region, put.name) == (account, region, name) for put in self._pending)

    def dump(self) -> list[dict[str, Any]]:
        with self._guard:
            return [
                {
                    "account": put.account,
                    "region": put.region,
                    "name": put.name,
                    "image": put.image,
                    "body": base64.b64encode(put.body).decode(),
                    "ready": put.ready,
                }
                for put in self._pending
            ]

    def load(self, state: list[dict[str, Any]]) -> None:
        with self._guard:
            self._pending = [_Put(**{**item, "body": base64.b64decode(item["body"])}) for item in state]


def _call(put: _Put) -> Call:
    """Return the original call of a put."""
    headers = {"x-amz-target": "AmazonSSM.PutParameter", "content-type": "application/x-amz-json-1.1"}
    request = Request("POST", "/", "", headers, [*headers.items()], put.body)
    return Call(request, "", "AKIASANDBOX000000000", put.region, "ssm", None, account=put.account)


def _moto_parameter(account: str, public: PublicParameter, now: float) -> Any:
    from moto.ssm.models import Parameter

    make: Any = Parameter  # moto's class leaves two methods abstract that its own code never needs
    return make(
        account_id=account,
        name=public.name,
        value=public.value,
        parameter_type="String",
        description=None,
        allowed_pattern=None,
        keyid=None,
        last_modified_date=datetime.fromtimestamp(now, UTC),
        version=1,
        data_type=public.data_type,
    )
