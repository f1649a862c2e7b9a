"""How one notification gets to one receiver: EventBridge, SNS, a webhook, a program.

Each function returns what the receiver answered, and raises GoldenAmiError. No text of them has a secret: neither the
address nor the headers of a webhook, which may contain one, are in a message.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import ssl
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from http.client import HTTPException
from typing import Any, Final
from urllib.parse import urlsplit

import goldenami
from goldenami.aws import messages
from goldenami.aws.ledger import Ledger
from goldenami.childenv import clean_environment
from goldenami.errors import GoldenAmiError
from goldenami.events import mask
from goldenami.model import EventBus, Place, Program, SecretSource, Topic, Webhook
from goldenami.notify.addresses import address_problem
from goldenami.notify.document import EventDocument
from goldenami.notify.template import default_body, render
from goldenami.polling import Interval, poll
from goldenami.redirects import NoRedirects
from goldenami.web import is_loopback

_TRIES: Final = Interval(0.5, 2.0, 4.0)  # the pauses between tries of a webhook
_MOST_TRIES: Final = 4
_ANSWER: Final = 2000  # characters of an answer that are read


@dataclass(frozen=True, slots=True)
class Post:
    """What one try needs. ``deadline``: of time.monotonic()."""

    ledger: Ledger
    home: str  # account
    key: str  # in the ledger
    secrets: Mapping[SecretSource, str]
    deadline: float


def send(to: EventBus | Topic | Webhook | Program, event: EventDocument, post: Post) -> str:
    """Send an event to a receiver. Return its answer in a few words."""
    match to:
        case EventBus():
            return _event_bus(to, event, post)
        case Topic():
            return _topic(to, event, post)
        case Webhook():
            return _webhook(to, event, post)
        case Program():
            return _program(to, event, post)


def _event_bus(to: EventBus, event: EventDocument, post: Post) -> str:
    place, detail = Place(post.home, to.region), json.dumps(event.to_json())
    id = messages.put_event(post.ledger, post.key, place, to.bus, f"Golden AMI {event.event.capitalize()}", detail)
    return f"event {id}" if id else "sent before"


def _topic(to: Topic, event: EventDocument, post: Post) -> str:
    id = messages.publish(
        post.ledger,
        post.key,
        Place(post.home, to.region),
        to.arn,
        subject=event.title,
        text=event.text,
        detail=json.dumps(event.to_json()),
        attributes={"event": event.event, "environment": event.environment, "name": event.name or ""},
        id=event.id,
        group=event.name or event.environment,
    )
    return f"message {id}"


# --- webhooks ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Answer:
    """``again``: another try may help."""

    text: str
    ok: bool = False
    again: bool = False


def _webhook(to: Webhook, event: EventDocument, post: Post) -> str:
    def plain(value: str | SecretSource) -> str:
        return post.secrets[value].strip() if isinstance(value, SecretSource) else value

    url = plain(to.url)
    problem = address_problem(url, allow_http=to.allow_http)
    if problem is not None:
        raise GoldenAmiError(f"the address {problem}")
    document = event.to_json()
    body = default_body(document) if to.body is None else render(to.body, document)
    headers = {
        "Content-Type": "application/json",
        "User-Agent": f"goldenami/{goldenami.__version__}",
        "Goldenami-Event-Id": event.id,
        **{name: plain(value) for name, value in to.headers.items()},
    }
    for name, value in headers.items():
        if not (value.isascii() and value.isprintable()):  # http.client would quote the value
            raise GoldenAmiError(f"the header {name} has a line break or another character that is not printable ASCII")
    request = urllib.request.Request(url, body.encode(), headers, method="POST")
    handlers: list[Any] = [NoRedirects]
    if is_loopback(urlsplit(url).hostname or ""):
        handlers.append(urllib.request.ProxyHandler({}))
    opener = urllib.request.build_opener(*handlers)
    answer = _Answer("no try was made: the time is over")
    timeout = post.deadline - time.monotonic()
    for number, _ in enumerate(poll(time.monotonic, time.sleep, timeout=timeout, interval=_TRIES), 1):
        answer = _post(opener, request, max(0.1, post.deadline - time.monotonic()))
        if not answer.again or number == _MOST_TRIES:
            break
    text = mask(answer.text, tuple(post.secrets.values()))
    if not answer.ok:
        raise GoldenAmiError(text)
    return text


def _post(opener: urllib.request.OpenerDirector, request: urllib.request.Request, timeout: float) -> _Answer:
    """Send a request once. The messages of urllib are not used, because they may contain the address or a header."""
    try:
        with opener.open(request, timeout=timeout) as response:
            said = response.read(_ANSWER).decode(errors="replace").strip().partition("\n")[0]
            return _Answer(f"status {response.status}{f': {said[:200]}' if said else ''}", ok=True)
    except urllib.error.HTTPError as error:
        error.close()
        if 300 <= error.code < 400:
            return _Answer(f"status {error.code}, a redirect, which is not followed")
        return _Answer(f"status {error.code}", again=error.code == 429 or error.code >= 500)
    except TimeoutError:
        return _Answer(f"no answer within {timeout:.0f} s", again=True)
    except urllib.error.URLError as error:
        reason = error.reason
        if isinstance(reason, TimeoutError):
            return _Answer(f"no connection within {timeout:.0f} s", again=True)
        if isinstance(reason, ssl.SSLError):
            return _Answer(f"TLS failed ({reason.reason})")
        return _Answer(f"no connection ({type(reason).__name__})", again=True)
    except (OSError, HTTPException) as error:
        return _Answer(f"the connection ended without an answer ({type(error).__name__})", again=True)


# --- programs ---------------------------------------------------------------------------------------------------------


def _program(to: Program, event: EventDocument, post: Post) -> str:
    """Run a program with the event on stdin, in a session of its own: Ctrl-C does not reach it, and all its children
    end with it if it takes too long."""
    given = [os.environ[name] for name in to.environment if name in os.environ]
    first, *rest = to.arguments
    if "/" in first:
        first = os.path.join(to.directory, first)  # noqa: PTH118  an absolute path stays
    with tempfile.TemporaryFile() as output:
        try:
            process = subprocess.Popen(
                [first, *rest],
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=clean_environment(to.environment),
                cwd=to.directory,
                start_new_session=True,
            )
        except OSError as error:
            raise GoldenAmiError(f"the program cannot be started: {error.strerror}") from None
        limit = max(0.1, post.deadline - time.monotonic())
        late = False
        try:
            process.communicate(json.dumps(event.to_json()).encode(), timeout=limit)
        except subprocess.TimeoutExpired:
            late = True
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)  # also what it left running
            process.wait()
        size = output.seek(0, os.SEEK_END)
        output.seek(max(0, size - _ANSWER))
        said = mask(output.read().decode(errors="replace").strip(), given).rpartition("\n")[2][:200]
    last = f": {said}" if said else ""
    if late:
        raise GoldenAmiError(f"the program did not end within {limit:.0f} s{last}")
    if process.returncode:
        raise GoldenAmiError(f"the program ended with status {process.returncode}{last}")
    return f"status 0{last}"
