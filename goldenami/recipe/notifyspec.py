"""The section ``notify`` of an environment: who gets notifications, as model.Receiver."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, Field, StringConstraints, model_validator

from goldenami import bounded
from goldenami.model import EventBus, Program, Receiver, SecretSource, Topic, Webhook
from goldenami.notify.addresses import address_problem
from goldenami.notify.kinds import EVENTS
from goldenami.recipe.document import Document, NodePath
from goldenami.recipe.problems import Problems
from goldenami.recipe.project import Project
from goldenami.recipe.secretspec import SecretVar
from goldenami.recipe.words import BUS, HEADER, IDENTIFIER, TOPIC, Name, OneOf, Region, Spec, Timeout, seconds

LONGEST_TIMEOUT = 60  # seconds

_SENSITIVE = frozenset(
    {"authorization", "proxy-authorization", "cookie", "x-api-key", "private-token", "x-gitlab-token"}
)

Event = Annotated[str, OneOf(lambda: tuple(EVENTS))]


class EventBridgeSpec(Spec):
    """A bus of Amazon EventBridge. The source of the events is `goldenami`, the detail type `Golden AMI Release` and
    so on."""

    bus: str = Field("default", description="Name or ARN of the bus.", pattern=BUS)
    region: Region | None = Field(None, description="Region of the bus. Default: that of the ARN, or the home region.")


class SnsSpec(Spec):
    """A topic of Amazon SNS."""

    topic: str = Field(description="ARN of the topic.", pattern=TOPIC)


class WebhookSpec(Spec):
    """An address that gets a POST request."""

    url: str | SecretVar = Field(description="Address, as https://…, or `{secret: {env: NAME}}`.")
    headers: dict[Annotated[str, StringConstraints(pattern=HEADER)], str | SecretVar] = Field(
        default_factory=dict, description="More headers. A secret value: `{secret: {env: NAME}}`."
    )
    body: str | None = Field(
        None,
        description="Jinja template of the body, with the variable event. Default: JSON with title, text and event.",
    )
    allow_http: bool = Field(False, description="Allow an address without TLS that is not on this machine.")


class CommandSpec(Spec):
    """A program on the machine of goldenami. It gets the event as JSON on stdin."""

    argv: tuple[Annotated[str, StringConstraints(min_length=1)], ...] = Field(
        min_length=1,
        description="The program and its arguments. A path is relative to goldenami.yaml. No shell is used.",
    )
    environment: tuple[Annotated[str, StringConstraints(pattern=IDENTIFIER)], ...] = Field(
        (), description="Names of environment variables that it gets, in addition to PATH, HOME and the locale."
    )


def _timeout(given: str) -> str:
    if seconds(given) > LONGEST_TIMEOUT:
        raise ValueError(f"{given!r} is out of range: expected {LONGEST_TIMEOUT}s at most")
    return given


class ReceiverSpec(Spec):
    """A receiver of notifications: exactly one of eventbridge, sns, webhook and command."""

    eventbridge: EventBridgeSpec | None = Field(None, description="A bus of EventBridge.")
    sns: SnsSpec | None = Field(None, description="An SNS topic.")
    webhook: WebhookSpec | None = Field(None, description="An address that gets a POST request.")
    command: CommandSpec | None = Field(None, description="A program on the machine of goldenami.")
    on: tuple[Event, ...] = Field(
        (), description=f"Events: {'; '.join(f'{name}: {what}' for name, what in EVENTS.items())}. Default: all."
    )
    recipes: tuple[Name, ...] = Field((), description="Only events of these recipes.")
    channels: tuple[Name, ...] = Field((), description="Only events that name one of these channels.")
    timeout: Annotated[Timeout, AfterValidator(_timeout)] = Field(
        "10s", description="Time limit for one notification, with all tries: 60s at most."
    )

    @model_validator(mode="after")
    def _one(self) -> ReceiverSpec:
        if sum(one is not None for one in (self.eventbridge, self.sns, self.webhook, self.command)) != 1:
            raise ValueError("expected exactly one of eventbridge, sns, webhook and command")
        return self


def read_receivers(
    specs: Mapping[str, ReceiverSpec],
    at: NodePath,
    document: Document,
    project: Project,
    home_region: str,
    problems: Problems,
) -> tuple[Receiver, ...]:
    """Return the receivers. Adds a problem for each address, header and template that cannot be used. Sends nothing."""
    found = []
    for name, spec in specs.items():
        here = (*at, name)
        to: EventBus | Topic | Webhook | Program
        if spec.eventbridge is not None:
            bus = spec.eventbridge.bus
            of_arn = bus.split(":")[3] if bus.startswith("arn:") else None
            if spec.eventbridge.region not in (None, of_arn) and of_arn is not None:
                mark = document.mark((*here, "eventbridge", "region"))
                problems.add(
                    mark, f"region: {spec.eventbridge.region} is not {of_arn}, the region of the bus", "Remove it."
                )
            to = EventBus(bus, of_arn or spec.eventbridge.region or home_region)
        elif spec.sns is not None:
            to = Topic(spec.sns.topic)
        elif spec.webhook is not None:
            to = _webhook(spec.webhook, (*here, "webhook"), document, project, problems)
        else:
            assert spec.command is not None
            to = Program(spec.command.argv, spec.command.environment, str(project.root))
        events = frozenset(spec.on or EVENTS)
        found.append(Receiver(name, to, events, spec.recipes, spec.channels, float(seconds(spec.timeout))))
    return tuple(found)


def _webhook(spec: WebhookSpec, here: NodePath, document: Document, project: Project, problems: Problems) -> Webhook:
    if isinstance(spec.url, str):
        wrong = address_problem(spec.url, allow_http=spec.allow_http)
        if wrong is not None:
            problems.add(
                document.mark((*here, "url")),
                f"url: the address {wrong}",
                "Write https://HOST/PATH. For an address without TLS in a network that you trust: allow_http: true.",
            )
    for name, value in spec.headers.items():
        mark = document.mark((*here, "headers", name))
        if isinstance(value, str) and name.lower() in _SENSITIVE:
            problems.add(
                mark, f"{name}: a secret is written in goldenami.yaml", "Write {secret: {env: NAME}}, and set NAME."
            )
        elif isinstance(value, str) and not (value.isascii() and value.isprintable()):
            problems.add(mark, f"{name}: expected printable ASCII characters")
    if spec.body is not None:
        wrong = _template_problem(spec.body, problems)
        if wrong is not None:
            hint = "The variable is event; docs/notifications.md lists its fields."
            problems.add(document.mark((*here, "body")), f"body: {wrong}", hint)
    headers = {name: _value(value, project) for name, value in spec.headers.items()}
    return Webhook(_value(spec.url, project), headers, spec.body, spec.allow_http)


def _value(value: str | SecretVar, project: Project) -> str | SecretSource:
    if isinstance(value, str):
        return value
    source, key = value.secret.place
    if source == "file":
        key = str(project.root / Path(key).expanduser())
    return SecretSource(source, key, project.files)


def _template_problem(body: str, problems: Problems) -> str | None:
    """Return what is wrong with a template, rendered for an example in the bounded child process."""
    from goldenami.notify import template  # noqa: F401 - loaded before the child is made, and only where it is needed
    from goldenami.notify.document import make

    example = make("test", id="example", title="Example", time="2026-11-24T03:00:00Z", environment="example").to_json()
    try:
        bounded.call(problems.budget, _check, body, example)
    except bounded.TooMuch as error:
        return f"the template needs more than {error}"
    except ValueError as error:
        return str(error)
    return None


def _check(body: str, example: dict[str, Any]) -> None:
    """Raise ValueError if a template cannot be rendered. Errors of Jinja cannot be pickled."""
    from goldenami.notify.template import render

    try:
        render(body, example)
    except bounded.TooMuch:
        raise
    except Exception as error:  # an expression can raise any error
        line = getattr(error, "lineno", None)
        raise ValueError(f"the template cannot be used{f' (its line {line})' if line else ''}: {error}") from None
