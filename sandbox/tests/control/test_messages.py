"""EventBridge and SNS: what AWS refuses is refused, and any client can read in a queue what came."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from botocore.exceptions import ClientError

Client = Callable[..., Any]
SIZE = 256 * 1024


def queue(client: Client, name: str) -> tuple[Any, str, str]:
    sqs = client("sqs")
    url = sqs.create_queue(QueueName=name)["QueueUrl"]
    return sqs, url, sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]


def came(sqs: Any, url: str) -> list[dict[str, Any]]:
    return [
        json.loads(m["Body"]) for m in sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=10).get("Messages", [])
    ]


def entry(**more: Any) -> dict[str, Any]:
    return {"Source": "tests", "DetailType": "A test", "Detail": "{}", **more}


def test_a_queue_gets_the_events_of_a_bus(client: Client) -> None:
    sqs, url, arn = queue(client, "of-a-bus")
    events = client("events")
    events.create_event_bus(Name="images")
    events.put_rule(Name="all", EventBusName="images", EventPattern='{"source": ["tests"]}')
    events.put_targets(Rule="all", EventBusName="images", Targets=[{"Id": "1", "Arn": arn}])
    answer = events.put_events(Entries=[entry(EventBusName="images", Detail='{"n": 1}'), entry(Source="others")])
    assert answer["FailedEntryCount"] == 0
    (event,) = came(sqs, url)
    assert (event["detail-type"], event["detail"], event["id"]) == ("A test", {"n": 1}, answer["Entries"][0]["EventId"])


@pytest.mark.parametrize(
    ("bad", "code"),
    [
        (entry(Source="aws.ec2"), "NotAuthorizedForSourceException"),
        (entry(Detail="{"), "MalformedDetail"),
        (entry(Detail="[]"), "MalformedDetail"),
        (entry(EventBusName="arn:aws:events:eu-central-1:222222222222:event-bus/x"), "AccessDeniedException"),
    ],
)
def test_a_bad_entry_is_counted_and_the_others_are_sent(client: Client, bad: dict[str, Any], code: str) -> None:
    answer = client("events").put_events(Entries=[entry(), bad])
    assert answer["FailedEntryCount"] == 1
    assert "EventId" in answer["Entries"][0]
    assert answer["Entries"][1]["ErrorCode"] == code


def test_an_event_for_a_bus_that_does_not_exist_is_lost_without_an_error(client: Client) -> None:
    answer = client("events").put_events(Entries=[entry(EventBusName="none-such")])
    assert answer["FailedEntryCount"] == 0
    with pytest.raises(ClientError) as error:
        client("events").describe_event_bus(Name="none-such")
    assert error.value.response["Error"]["Code"] == "ResourceNotFoundException"


@pytest.mark.parametrize("entries", [[entry()] * 11, [entry(Detail=json.dumps({"x": "y" * SIZE}))]])
def test_too_many_or_too_large_entries_are_refused(client: Client, entries: list[dict[str, Any]]) -> None:
    with pytest.raises(ClientError) as error:
        client("events").put_events(Entries=entries)
    assert error.value.response["Error"]["Code"] == "ValidationException"


def test_a_queue_gets_the_messages_of_a_topic(client: Client) -> None:
    sqs, url, arn = queue(client, "of-a-topic")
    sns = client("sns")
    topic = sns.create_topic(Name="images")["TopicArn"]
    sns.subscribe(TopicArn=topic, Protocol="sqs", Endpoint=arn)
    message = json.dumps({"default": '{"n": 1}', "email": "one"})
    sns.publish(TopicArn=topic, Subject="A" * 99, Message=message, MessageStructure="json")
    (got,) = came(sqs, url)
    assert (got["Subject"], got["Message"]) == ("A" * 99, '{"n": 1}')


@pytest.mark.parametrize(
    ("more", "code"),
    [
        ({"Subject": "A" * 100}, "InvalidParameter"),
        ({"Subject": "naïve"}, "InvalidParameter"),
        ({"Subject": "two\nlines"}, "InvalidParameter"),
        ({"Subject": " x"}, "InvalidParameter"),
        ({"Message": "x" * (SIZE + 1)}, "InvalidParameter"),
        ({"Message": "{}", "MessageStructure": "json"}, "InvalidParameter"),
        ({"Message": "{", "MessageStructure": "json"}, "InvalidParameter"),
        ({"TopicArn": "arn:aws:sns:eu-central-1:111111111111:none-such"}, "NotFound"),
        ({"TopicArn": "arn:aws:sns:eu-west-1:111111111111:rules"}, "InvalidParameter"),
        ({"TopicArn": "arn:aws:sns:eu-central-1:222222222222:rules"}, "AuthorizationError"),
        ({"MessageDeduplicationId": "1"}, "InvalidParameter"),
    ],
)
def test_sns_refuses(client: Client, more: dict[str, Any], code: str) -> None:
    sns = client("sns")
    topic = sns.create_topic(Name="rules")["TopicArn"]
    with pytest.raises(ClientError) as error:
        sns.publish(**{"TopicArn": topic, "Message": "x", **more})
    assert error.value.response["Error"]["Code"] == code
