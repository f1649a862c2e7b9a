"""The bodies of webhooks: a Jinja template over the event, in a sandbox."""

from __future__ import annotations

import json
from typing import Any

from jinja2 import StrictUndefined
from jinja2.sandbox import ImmutableSandboxedEnvironment


def render(source: str, event: dict[str, Any]) -> str:
    """Return the body for an event, whose fields are attributes of ``event``. Raises a TemplateError of Jinja, or any
    error of an expression."""
    environment = ImmutableSandboxedEnvironment(undefined=StrictUndefined, autoescape=False)
    environment.filters["json"] = lambda value: json.dumps(value, ensure_ascii=False)
    environment.filters["tojson"] = environment.filters["json"]
    return environment.from_string(source).render(event=event)


def default_body(event: dict[str, Any]) -> str:
    """Return the body without a template. Slack, Mattermost and Teams show ``text``; GitLab's alerts need ``title``."""
    return json.dumps({"title": event["title"], "text": event["text"], "event": event}, ensure_ascii=False)
