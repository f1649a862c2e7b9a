"""Real receivers: an HTTP server on loopback, a program, and queues of the sandbox behind a bus and a topic."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from goldenami import recipe as recipes
from tests.worlds.builds import PLACES, World

TOPIC = "arn:aws:sns:eu-central-1:111111111111:images"


@dataclass
class Hook:
    """A server. ``answers``: the statuses of the next requests, then 200. ``gate``: a request waits for it."""

    url: str = ""
    got: list[tuple[dict[str, str], str]] = field(default_factory=list)
    answers: list[int] = field(default_factory=list)
    gate: threading.Event | None = None
    location: str = ""

    def events(self) -> list[dict[str, Any]]:
        return [json.loads(body)["event"] for _, body in self.got]


@contextmanager
def serving() -> Iterator[Hook]:
    hook = Hook()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"])).decode()
            if hook.gate is not None:
                hook.gate.wait(600)
            hook.got.append((dict(self.headers), body))
            self.send_response(hook.answers.pop(0) if hook.answers else 200)
            if hook.location:
                self.send_header("Location", hook.location)
            with suppress(BrokenPipeError):
                self.end_headers()
            with suppress(BrokenPipeError):  # the client has given up
                self.wfile.write(f"thanks for {self.headers.get('Authorization')}".encode())

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    hook.url = f"http://127.0.0.1:{server.server_port}/hook"
    try:
        yield hook
    finally:
        if hook.gate is not None:
            hook.gate.set()
        server.shutdown()
        server.server_close()


def notify(world: World, text: str) -> None:
    """Write the section of the environment, and read the project again."""
    file = world.path / "goldenami.yaml"
    lines = "".join(f"      {line}\n" for line in text.strip().splitlines())
    file.write_text(f"{file.read_text()}    notify:\n{lines}")
    world.project = recipes.load_project(world.path)
    world.environment = recipes.environment(world.project, "test")


class Queues:
    """A bus, ``images``, and a topic, ``images``, with a queue each."""

    def __init__(self, world: World) -> None:
        self.sqs, events, sns = (world.client(name, PLACES[0]) for name in ("sqs", "events", "sns"))
        self.urls = {}
        arns = {}
        for name in ("bus", "topic"):
            self.urls[name] = self.sqs.create_queue(QueueName=name)["QueueUrl"]
            given = self.sqs.get_queue_attributes(QueueUrl=self.urls[name], AttributeNames=["QueueArn"])
            arns[name] = given["Attributes"]["QueueArn"]
        events.create_event_bus(Name="images")
        events.put_rule(Name="all", EventBusName="images", EventPattern='{"source": ["goldenami"]}')
        events.put_targets(Rule="all", EventBusName="images", Targets=[{"Id": "1", "Arn": arns["bus"]}])
        sns.create_topic(Name="images")
        sns.subscribe(TopicArn=TOPIC, Protocol="sqs", Endpoint=arns["topic"])

    def read(self, name: str) -> list[dict[str, Any]]:
        found = []
        while batch := self.sqs.receive_message(QueueUrl=self.urls[name], MaxNumberOfMessages=10).get("Messages"):
            found += [json.loads(message["Body"]) for message in batch]
        return found

    def of_bus(self) -> list[dict[str, Any]]:
        return [one["detail"] for one in self.read("bus")]


def program(path: Path, text: str) -> Path:
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return path
