"""Session Manager: StartSession and TerminateSession of SSM. A session carries no data: nothing serves its stream.

An instance counts as connected to Systems Manager if it runs and has an instance profile. On AWS, it needs an SSM agent
as well, and the profile's permissions. (Systems Manager API reference, "StartSession".)
"""

from __future__ import annotations

import re
import secrets
import threading
from typing import Any

from goldenami_sandbox.credentials import Identity
from goldenami_sandbox.ec2.context import Ctx, Ec2Error
from goldenami_sandbox.ec2.service import Ec2
from goldenami_sandbox.http import Response
from goldenami_sandbox.protocol import Call, json_response

ACTIONS = ("StartSession", "TerminateSession")
_INSTANCE = re.compile(r"i-[0-9a-f]{8,17}")
_DOCUMENTS = {"SSM-SessionManagerRunShell", "AWS-StartSSHSession", "AWS-StartPortForwardingSession"}


class Sessions:
    """The open sessions of a cloud."""

    def __init__(self, ec2: Ec2) -> None:
        self._ec2 = ec2
        self._lock = threading.Lock()
        self._open: dict[str, str] = {}  # session -> account

    def serve(self, call: Call, identity: Identity) -> Response:
        params: dict[str, Any] = dict(call.json)
        return self._start(call, identity, params) if call.action == "StartSession" else self._terminate(call, params)

    def _start(self, call: Call, identity: Identity, params: dict[str, Any]) -> Response:
        target, document = str(params["Target"]), params.get("DocumentName", "SSM-SessionManagerRunShell")
        if document not in _DOCUMENTS:
            return call.error("InvalidDocument", f"Document with name {document} does not exist.")
        if not _INSTANCE.fullmatch(target) or not self._is_connected(call, identity, target):
            return call.error("TargetNotConnected", f"{target} is not connected.")
        user = identity.arn.rsplit("/", 1)[-1]
        session = f"{user}-{secrets.token_hex(9)}"
        with self._lock:
            self._open[session] = call.account
        stream = f"wss://ssmmessages.{call.region}.amazonaws.com/v1/data-channel/{session}?role=publish_subscribe"
        return json_response({"SessionId": session, "TokenValue": secrets.token_urlsafe(48), "StreamUrl": stream})

    def _terminate(self, call: Call, params: dict[str, Any]) -> Response:
        # As on AWS, the call succeeds again for a session that has ended.
        with self._lock:
            if self._open.get(params["SessionId"]) == call.account:
                del self._open[params["SessionId"]]
        return json_response({"SessionId": params["SessionId"]})

    def _is_connected(self, call: Call, identity: Identity, instance_id: str) -> bool:
        ctx = Ctx(call.account, call.region, identity.arn, call.request_id)
        try:
            reply = self._ec2.call(ctx, "DescribeInstances", {"InstanceIds": [instance_id]})
        except Ec2Error:
            return False
        found = [instance for r in reply["Reservations"] for instance in r["Instances"]]
        return any(i["State"]["Name"] == "running" and i.get("IamInstanceProfile") for i in found)
