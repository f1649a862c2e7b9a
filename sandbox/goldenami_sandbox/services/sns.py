"""SNS: the rules of Publish that moto does not have. moto keeps topics and subscriptions, and gives messages to queues
of SQS, which any client can read. (SNS API reference, "Publish"; "Amazon SNS message attributes".)"""

from __future__ import annotations

import json
from typing import Final

from goldenami_sandbox.credentials import Identity
from goldenami_sandbox.http import Response
from goldenami_sandbox.protocol import Call
from goldenami_sandbox.services import Service, service

LARGEST: Final = 256 * 1024  # bytes of a message with its attributes
LONGEST_SUBJECT: Final = 100  # characters; a subject has less


@service("sns")
class Sns(Service):
    def serve(self, call: Call, identity: Identity) -> Response | None:
        """Return the error of a Publish that SNS refuses; moto answers the rest."""
        return self._refuse(call) if call.action == "Publish" else None

    def _refuse(self, call: Call) -> Response | None:
        form = call.form
        topic = form.get("TopicArn") or form.get("TargetArn")
        message = form.get("Message", "")
        if not message:
            return call.error("InvalidParameter", "Invalid parameter: Empty message")
        if topic and ":" in topic:
            parts = topic.split(":")
            if len(parts) != 6 or parts[3] != call.region:
                return call.error("InvalidParameter", "Invalid parameter: TopicArn")
            if parts[4] != call.account:  # moto has no policies of topics
                return call.error(
                    "AuthorizationError", f"User is not authorized to perform: SNS:Publish on resource: {topic}", 403
                )
            with self.world.surface.active():
                if topic not in self.world.surface.backend("sns", call.account, call.region).topics:
                    return call.error("NotFound", "Topic does not exist", 404)
        subject = form.get("Subject")
        if subject is not None and _is_bad(subject):
            return call.error("InvalidParameter", "Invalid parameter: Subject")
        if form.get("MessageStructure") == "json":
            try:
                content = json.loads(message)
            except ValueError:
                return call.error(
                    "InvalidParameter", "Invalid parameter: Message Structure - JSON message body failed to parse"
                )
            if not isinstance(content, dict) or not isinstance(content.get("default"), str):
                return call.error(
                    "InvalidParameter", "Invalid parameter: Message Structure - No default entry in JSON message body"
                )
        attributes = [v for k, v in form.items() if k.startswith("MessageAttributes.")]
        if any(k.endswith(".StringValue") and not v for k, v in form.items()):
            return call.error("ParameterValueInvalid", "The message attribute must contain a non-empty value.")
        if len(message.encode()) + sum(len(one.encode()) for one in attributes) > LARGEST:
            return call.error("InvalidParameter", "Invalid parameter: Message too long")
        return None


def _is_bad(subject: str) -> bool:
    """Return whether a text cannot be a subject: ASCII that begins with a letter, digit or punctuation mark, without
    line breaks and control characters, and with less than 100 characters."""
    return (
        not subject
        or len(subject) >= LONGEST_SUBJECT
        or not (subject.isascii() and subject.isprintable())
        or subject[0].isspace()
    )
