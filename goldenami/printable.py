"""Makes texts of strangers safe to print: names, messages and outputs may have control characters."""

from __future__ import annotations

import re

# C0 without tab and newline, DEL, C1, and the characters that reorder text or cannot be written.
_CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2028\u2029\u2066-\u2069\ud800-\udfff]")


class Clean(str):
    """A text without control characters that is printed many times, and need not be looked through each time."""

    __slots__ = ()


def escaped(text: str) -> str:
    """Return a text with its control characters as escapes: they could move the cursor or change colors."""
    if type(text) is Clean:
        return text
    return _CONTROL.sub(lambda match: match[0].encode("unicode_escape").decode("ascii"), text)
