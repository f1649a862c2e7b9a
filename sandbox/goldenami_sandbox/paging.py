"""Pages for the lists that moto returns whole, whatever page size the call asks for.

Which operations have pages, and under which names, is in botocore's models. An answer that has a token already, or no
more items than the page, stays as it is.
"""

from __future__ import annotations

import json
import re
import xml.etree.ElementTree as ET
from collections.abc import Mapping
from functools import cache
from typing import Any

from botocore.model import StructureShape

from goldenami_sandbox import models
from goldenami_sandbox.http import Response
from goldenami_sandbox.protocol import Call

_TOKEN = re.compile(r"page-from-(\d+)")


def paged(call: Call, response: Response) -> Response:
    """Return the page of an answer that the call asks for, with the token of the next page."""
    params = call.params or {}
    names = _names(call.service, call.action) if response.status == 200 and response.body else None
    if names is None:
        return response
    size = str(params.get(names["limit_key"], ""))
    begins = _TOKEN.fullmatch(str(params.get(names["input_token"], "")))
    start = int(begins[1]) if begins is not None else 0
    wanted = int(size) if size.isdigit() else None
    if start == 0 and (wanted is None or _most(response.body) <= wanted):
        return response
    cut = _cut_xml if response.body.lstrip().startswith(b"<") else _cut_json
    body = cut(response.body, names, start, wanted)
    if body is None:
        return response
    headers = [(name, value) for name, value in response.headers if name.lower() != "content-length"]
    return Response(response.status, body, headers)


@cache
def _names(service: str, action: str) -> Mapping[str, str] | None:
    """Return the names of an operation's pages, as they are in answers; None if it has none."""
    from botocore.exceptions import BotoCoreError

    operation = models.operation(service, action)
    if operation is None or not isinstance(operation.output_shape, StructureShape):
        return None
    try:
        found = models.session().get_paginator_model(operation.service_model.service_name).get_paginator(action)
    except (BotoCoreError, ValueError):
        return None
    output, result = found.get("output_token"), found.get("result_key")
    if not (isinstance(output, str) and isinstance(result, str) and "limit_key" in found):
        return None
    members = operation.output_shape.members
    if output not in members or result not in members:
        return None
    sent = {name: str(members[name].serialization.get("name", name)) for name in (output, result)}
    return {
        "limit_key": str(found["limit_key"]),
        "input_token": str(found["input_token"]),
        "output_token": sent[output],
        "result_key": sent[result],
    }


def _most(body: bytes) -> int:
    """Return a number that is not below the number of items, without reading the body."""
    return max(
        body.count(b"<item>") + body.count(b"<member>"), 0 if body.lstrip()[:1] == b"<" else body.count(b",") + 1
    )


def _cut_json(body: bytes, names: Mapping[str, str], start: int, size: int | None) -> bytes | None:
    answer: dict[str, Any] = json.loads(body)
    items = answer.get(names["result_key"])
    if answer.get(names["output_token"]) or not isinstance(items, list):
        return None
    end = len(items) if size is None else start + size
    answer[names["result_key"]] = items[start:end]
    if end < len(items):
        answer[names["output_token"]] = f"page-from-{end}"
    return json.dumps(answer).encode()


def _cut_xml(body: bytes, names: Mapping[str, str], start: int, size: int | None) -> bytes | None:
    root = ET.fromstring(body)
    space = root.tag.partition("}")[0] + "}" if root.tag.startswith("{") else ""
    above = next((e for e in root.iter() if e.find(space + names["result_key"]) is not None), None)
    if above is None:
        return None
    token, listed = above.find(space + names["output_token"]), above.find(space + names["result_key"])
    if listed is None or (token is not None and token.text):
        return None
    if token is not None:
        above.remove(token)
    items = list(listed)
    end = len(items) if size is None else start + size
    for item in items[:start] + items[end:]:
        listed.remove(item)
    if end < len(items):
        ET.SubElement(above, space + names["output_token"]).text = f"page-from-{end}"
    text: bytes = ET.tostring(root, encoding="utf-8", xml_declaration=True, default_namespace=space.strip("{}") or None)
    return text
