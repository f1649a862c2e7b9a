"""The addresses that a webhook can have."""

from __future__ import annotations

from urllib.parse import urlsplit

from goldenami.web import is_loopback


def address_problem(url: str, *, allow_http: bool) -> str | None:
    """Return why a webhook cannot have an address, as the end of a sentence; None if it can."""
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError:
        return "is not a URL"
    if parts.scheme not in ("http", "https") or not host or not url.isprintable() or " " in url:
        return "is not a URL that begins with https://"
    if parts.username is not None or parts.password is not None:
        return "has a user or a password in it, which is not supported: use a header"
    if parts.scheme == "http" and not allow_http and not is_loopback(host):
        return "does not begin with https://"
    return None
