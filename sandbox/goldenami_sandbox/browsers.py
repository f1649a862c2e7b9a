"""Which requests a browser may have sent for a page of another origin.

A page can send requests to 127.0.0.1 and to any name that its owner points there (DNS rebinding). No client of AWS is a
browser, so such requests are refused before anything reads them. (Fetch standard: ``Origin``, and the fetch metadata
``Sec-Fetch-Site``.)
"""

from __future__ import annotations

from typing import Final
from urllib.parse import urlsplit

from goldenami_sandbox.http import Request

_LOOPBACK: Final = frozenset({"127.0.0.1", "localhost", "::1"})


def refusal(request: Request) -> str | None:
    """Return why a request is refused; None if it can be one of a client of this machine.

    The port is not compared, since SSH may forward another one. ``*.localhost`` is where clients find the buckets of an
    endpoint that is named localhost.
    """
    host = _name(f"//{request.headers.get('host', '')}")
    if not _is_ours(host):
        return f"the header Host is {request.headers.get('host', '')!r}, expected 127.0.0.1 or localhost"
    origin = request.headers.get("origin")
    if origin is not None and not _is_ours(_name(origin)):
        return f"it comes from a page of {origin}"
    site = request.headers.get("sec-fetch-site", "none")
    if site not in ("none", "same-origin"):
        return f"it comes from a page of another origin ({site})"
    return None


def _name(url: str) -> str:
    try:
        return urlsplit(url).hostname or ""
    except ValueError:
        return ""


def _is_ours(name: str) -> bool:
    return name in _LOOPBACK or name.endswith(".localhost")
