"""What several parts of the program need for addresses and requests of the web."""

from __future__ import annotations

import ipaddress
import urllib.request
from typing import Any


def is_loopback(host: str) -> bool:
    """Return whether a host name or address is this machine."""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


class NoRedirects(urllib.request.HTTPRedirectHandler):
    """A handler for openers whose requests have a secret: it is for one address only."""

    def redirect_request(self, *_: Any) -> None:
        return None
