"""The forms in which a secret can occur in a text, for everything that masks secrets.

A secret is written into commands, JSON, URLs and HTML, and programs print these. So a masker removes each form, not
only the value.
"""

from __future__ import annotations

import base64
import html
import json
import re
import shlex
from collections.abc import Callable, Iterable, Iterator
from functools import cache, lru_cache
from typing import Final
from urllib.parse import quote, quote_plus

_SHORTEST_FORM: Final = 4  # characters of a value; a shorter one, encoded, may be part of many ordinary words
_SHORTEST_BASE64: Final = 6  # characters
_SHORTEST_LINE: Final = 4  # characters of one line of a secret


def forms(secret: str) -> frozenset[str]:
    """Return a secret, and its lines, as they are and quoted for a shell, Python, JSON, YAML, a URL and HTML, and in
    base64, at any position of a longer text."""
    texts = {secret}
    if "\n" in secret:
        texts |= {part for part in secret.splitlines() if len(part.strip()) >= _SHORTEST_LINE and part[:5] != "-----"}
    found = {form for text in texts if text.strip() for form in (text, *_encoded(text))}
    return frozenset(form for form in found if form.strip())


def _encoded(text: str) -> Iterator[str]:
    if len(text) < _SHORTEST_FORM:
        return
    yield shlex.quote(text).removeprefix("'").removesuffix("'")
    yield repr(text)[1:-1]
    yield text.replace("\\", "\\\\").replace('"', '\\"')
    yield text.replace("'", "''")
    for ascii in (True, False):
        escaped = json.dumps(text, ensure_ascii=ascii)[1:-1]
        yield from (escaped, escaped.replace("/", "\\/"))
        # As Jinja's filter tojson writes it.
        for character in "<>&'":
            escaped = escaped.replace(character, f"\\u{ord(character):04x}")
        yield escaped
    for encoded in (quote(text, safe=""), quote(text), quote_plus(text)):
        yield from (encoded, re.sub("%..", lambda match: match[0].lower(), encoded))
    yield html.escape(text)
    yield html.escape(text).replace("&#x27;", "&#39;").replace("&quot;", "&#34;")
    yield from _base64(text.encode())


def _base64(data: bytes) -> Iterator[str]:
    """Yield the characters of base64 that the data alone determines, for each number of bytes before it."""
    for before in range(3):
        text = base64.b64encode(bytes(before) + data).decode()
        form = text[-(-before * 8 // 6) : (before + len(data)) * 8 // 6]
        if len(form) >= _SHORTEST_BASE64:
            yield from (form, form.translate(str.maketrans("+/", "-_")))


@lru_cache(maxsize=64)
def masker(secrets: frozenset[str], mask: str, shortest: int = 1) -> Callable[[str], str]:
    """Return a function that replaces each form of the secrets by ``mask``. ``shortest``: characters; a shorter secret
    is not masked."""
    every = {form for secret in secrets if len(secret) >= shortest for form in forms(secret)}
    if not every:
        return lambda text: text

    @cache
    def pattern() -> re.Pattern[str]:
        # The longest first, because one form can contain another.
        return re.compile("|".join(map(re.escape, sorted(every, key=lambda form: (-len(form), form)))))

    def masked(text: str) -> str:
        # Nearly every text has none, and to compile the pattern of a private key takes longer than all of them.
        return pattern().sub(lambda _: mask, text) if any(form in text for form in every) else text

    return masked


def masked_by(secrets: Iterable[str], mask: str) -> Callable[[str], str]:
    """Return :func:`masker` for secrets in any collection."""
    return masker(frozenset(secrets), mask)
