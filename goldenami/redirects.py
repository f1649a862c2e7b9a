"""What several parts of the program need for requests of the web. Apart from ``web``, because to load it takes long."""

from __future__ import annotations

import urllib.request
from typing import Any


class NoRedirects(urllib.request.HTTPRedirectHandler):
    """A handler for openers whose requests have a secret: it is for one address only."""

    def redirect_request(self, *_: Any) -> None:
        return None
