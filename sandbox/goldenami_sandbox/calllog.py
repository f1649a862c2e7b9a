"""The log of API calls: one JSON line for each call, in the order in which the calls ended.

Fields: ``time`` (ISO 8601, UTC, when the call arrived), ``account``, ``region``, ``service``, ``action``,
``principal``, ``ids`` (all AWS resource ids in the request and the response, sorted), ``status`` (HTTP), ``result``
("ok" or the error code), ``ms``, ``request_id``, and ``fault`` if the settings caused a fault, throttling or latency.
"""

from __future__ import annotations

import json
import re
import threading
from collections import deque
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TextIO
from urllib.parse import quote_plus

from goldenami_sandbox.http import Response
from goldenami_sandbox.protocol import Call

_ID = re.compile(
    rb"\b(?:ami|snap|vol|i|key|sg|sgr|subnet|vpc|eni|lt|r|eipalloc|igw|rtb|copy|import-ami)-[0-9a-f]{8,17}\b"
)
_ID_TEXT = re.compile(_ID.pattern.decode(), re.ASCII)
_XML_CODE = re.compile(rb"<Code>([^<]+)</Code>")
_MEMORY = 10_000


class CallLog:
    """Appends to ``path`` (None: memory only). The last 10,000 entries stay in memory for ``entries``."""

    def __init__(self, path: Path | None) -> None:
        self._entries: deque[dict[str, Any]] = deque(maxlen=_MEMORY)
        self._guard = threading.Lock()
        self._file: TextIO | None = None
        if path is not None:
            self._file = path.open("a", encoding="utf-8", buffering=1)

    def write(self, call: Call, response: Response, came_in: float, seconds: float) -> None:
        entry = {
            "time": datetime.fromtimestamp(came_in, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "account": call.account,
            "region": call.region,
            "service": call.service,
            "action": call.action,
            "principal": call.principal,
            "ids": ids(call, response),
            "status": response.status,
            "result": result_code(response),
            "ms": round(seconds * 1000, 1),
            "request_id": call.request_id,
            **call.notes,
        }
        line = json.dumps(entry, ensure_ascii=False) + "\n" if self._file is not None else ""
        with self._guard:
            self._entries.append(entry)
            if self._file is not None:
                self._file.write(line)

    def entries(self) -> list[dict[str, Any]]:
        with self._guard:
            return list(self._entries)

    def load(self, entries: Iterable[dict[str, Any]]) -> None:
        """Add the ``entries`` of another log, in memory only."""
        with self._guard:
            self._entries.extend(entries)

    def close(self) -> None:
        with self._guard:
            if self._file is not None:
                self._file.close()
                self._file = None


def ids(call: Call, response: Response) -> list[str]:
    """Return the resource ids in a request and its response. Bodies of S3 objects and EBS blocks are not searched."""
    if call.service in ("s3", "ebs"):
        texts = [call.request.path.encode()]
    elif call.given is not None:  # as in the body, which is not encoded for this
        texts = [quote_plus(value).encode() for value in call.given.values() if _ID_TEXT.search(value)]
        texts.append(response.body)
    else:
        texts = [call.request.body, call.request.query.encode(), response.body]
    return sorted({match.decode() for text in texts for match in _ID.findall(text)})


def result_code(response: Response) -> str:
    """Return "ok", "dropped", or the error code of the response."""
    if response.drop:
        return "dropped"
    if response.status < 400:
        return "ok"
    if code := response.header("x-amzn-errortype"):
        return code.partition(":")[0]
    if found := _XML_CODE.search(response.body):
        return found.group(1).decode("utf-8", "replace")
    try:
        value = json.loads(response.body)
        return str(value["__type"]).rpartition("#")[2]
    except (ValueError, KeyError, TypeError):
        return str(response.status)
