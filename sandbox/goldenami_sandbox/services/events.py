"""EventBridge: the rules of PutEvents that moto does not have.

moto keeps buses and rules, and gives events to the targets of rules; a queue of SQS is one that any client can read.
(EventBridge API reference, "PutEvents" and "PutEventsResultEntry"; user guide, "Calculating Amazon EventBridge event
entry size".)
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Mapping
from typing import Any, Final

from goldenami_sandbox.credentials import Identity
from goldenami_sandbox.http import Response
from goldenami_sandbox.protocol import Call, json_response
from goldenami_sandbox.services import Service, service

LARGEST: Final = 256 * 1024  # bytes of all entries of a request
_TIME: Final = 14  # bytes that count for a Time


@service("events")
class Events(Service):
    def serve(self, call: Call, identity: Identity) -> Response | None:
        """Return the answer to PutEvents; moto answers all other actions."""
        if call.action != "PutEvents":
            return None
        entries = call.json.get("Entries", [])
        if sum(map(size, entries)) >= LARGEST:
            return call.error("ValidationException", "Total size of the entries in the request is over the limit.")
        refused = {number: reason for number, one in enumerate(entries) if (reason := self._refuse(call, one))}
        if not refused and all(self._exists(call, one) for one in entries):
            return None
        answers = [
            {"ErrorCode": refused[n][0], "ErrorMessage": refused[n][1]} if n in refused else self._put(call, one)
            for n, one in enumerate(entries)
        ]
        failed = sum("ErrorCode" in one for one in answers)
        return json_response({"FailedEntryCount": failed, "Entries": answers})

    def _refuse(self, call: Call, entry: Mapping[str, Any]) -> tuple[str, str] | None:
        if str(entry.get("Source", "")).startswith("aws."):
            return "NotAuthorizedForSourceException", "Not authorized for the source."
        try:
            detail = json.loads(entry.get("Detail") or "{}")
        except ValueError:
            return "MalformedDetail", "Detail is malformed."
        if not isinstance(detail, dict):
            return "MalformedDetail", "Detail is malformed."
        bus = str(entry.get("EventBusName", "default"))
        if bus.startswith("arn:") and bus.split(":")[3:5] != [call.region, call.account]:
            # moto has no buses that other accounts or regions may use
            return "AccessDeniedException", f"User is not authorized to put events to the event bus {bus}."
        return None

    def _exists(self, call: Call, entry: Mapping[str, Any]) -> bool:
        bus = str(entry.get("EventBusName", "default")).rpartition("event-bus/")[2]
        with self.world.surface.active():
            return bus in self.world.surface.backend("events", call.account, call.region).event_buses

    def _put(self, call: Call, entry: Mapping[str, Any]) -> dict[str, str]:
        if not self._exists(call, entry):
            return {"EventId": str(uuid.uuid4())}  # an event for a bus that does not exist is lost, without an error
        with self.world.surface.active():
            (answer,) = self.world.surface.backend("events", call.account, call.region).put_events([dict(entry)])
        return dict(answer)


def size(entry: Mapping[str, Any]) -> int:
    """Return the size of an entry as EventBridge calculates it."""
    texts = [str(entry.get(key) or "") for key in ("Source", "DetailType", "Detail")]
    texts += [str(one) for one in entry.get("Resources") or ()]
    return sum(len(text.encode()) for text in texts) + (_TIME if entry.get("Time") is not None else 0)
