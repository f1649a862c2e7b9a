"""Messages to EventBridge and SNS. They create no resource; after a lost reply they are sent again, so a receiver may
get one twice, with the same event id."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final

from botocore.exceptions import ClientError

from goldenami.aws import errors
from goldenami.aws.ledger import Call, Ledger
from goldenami.errors import CloudError, NotFound
from goldenami.journal import NOTIFICATION
from goldenami.model import Place

# "Subject" of Publish, SNS API reference: less than 100 characters.
LONGEST_SUBJECT: Final = 99


def put_event(ledger: Ledger, key: str, place: Place, bus: str, detail_type: str, detail: str) -> str:
    """Send one event to a bus, with the source ``goldenami``. Return its id at EventBridge; empty if it was sent
    before.

    PutEvents answers with status 200 even if it refuses the entry. Raises the error of the entry then.
    """
    _require_bus(ledger, place, bus)
    entry = {"Source": "goldenami", "DetailType": detail_type, "Detail": detail, "EventBusName": bus}
    ids: list[str] = []

    def check(answer: Mapping[str, Any]) -> None:
        (result,) = answer["Entries"]
        if answer["FailedEntryCount"]:
            raise errors.translate(_error(result), service="events", action="PutEvents", place=place)
        ids.append(str(result["EventId"]))

    ledger.change(key, place, Call("events", "PutEvents", {"Entries": [entry]}), kind=NOTIFICATION, check=check)
    return "".join(ids)


def _require_bus(ledger: Ledger, place: Place, bus: str) -> None:
    """Raise NotFound for a bus that does not exist: PutEvents answers with an id for it, and the event is lost."""
    if bus.startswith("arn:") and bus.split(":")[4] != place.account:
        return  # the policy of another account's bus allows PutEvents only
    try:
        ledger.cloud.call(place, "events", "DescribeEventBus", {"Name": bus})
    except CloudError as error:
        if error.code != "ResourceNotFoundException":
            raise
        raise NotFound(f"the bus {bus} does not exist in {place}") from error


def _error(result: Mapping[str, Any]) -> ClientError:
    return ClientError({"Error": {"Code": result["ErrorCode"], "Message": result.get("ErrorMessage", "")}}, "PutEvents")


def publish(
    ledger: Ledger,
    key: str,
    place: Place,
    topic: str,
    *,
    subject: str,
    text: str,
    detail: str,
    attributes: Mapping[str, str],
    id: str,
    group: str,
) -> str:
    """Publish a message: ``text`` for e-mail, ``detail`` for all other subscribers. Return its id at SNS.

    ``attributes``: for the filter policies of subscriptions. ``id`` and ``group``: for topics with FIFO, which drop a
    second message of an id.
    """
    request: dict[str, Any] = {
        "TopicArn": topic,
        "Subject": one_line(subject),
        "Message": json.dumps({"default": detail, "email": text}),
        "MessageStructure": "json",
        "MessageAttributes": {
            name: {"DataType": "String", "StringValue": value} for name, value in attributes.items() if value
        },
    }
    if topic.endswith(".fifo"):
        request |= {"MessageGroupId": group, "MessageDeduplicationId": id}
    answer = ledger.change(key, place, Call("sns", "Publish", request), kind=NOTIFICATION)
    return str(answer.get("MessageId", ""))


def one_line(text: str) -> str:
    """Return a text as the subject of a message: printable ASCII, short enough."""
    plain = "".join(c if c.isascii() and c.isprintable() else "?" for c in " ".join(text.split()))
    return plain if len(plain) <= LONGEST_SUBJECT else f"{plain[: LONGEST_SUBJECT - 3]}..."
