"""The traces of a builder, as its host prints them."""

from __future__ import annotations

import pytest

from goldenami.errors import BuilderError
from goldenami.validate import Traces, parse_traces

KEY = "ssh-ed25519 AAAAlogin"
HOST_KEY = "ssh-ed25519 AAAAhost root@builder"
FILE = "/etc/systemd/system/goldenami-builder-lifetime.service"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (f"0123\n--\n{HOST_KEY}\n--\n{FILE}\n", Traces(KEY, (HOST_KEY,), "0123", (FILE,))),
        (f"0123\n--\n{HOST_KEY}\n--", Traces(KEY, (HOST_KEY,), "0123", ())),
        ("\n--\n\n--\n", Traces(KEY, (), "", ())),
    ],
    ids=["all", "no file, without a last line break", "empty"],
)
def test_traces_are_read(text: str, expected: Traces) -> None:
    assert parse_traces(text, KEY + "\n") == expected


@pytest.mark.parametrize("text", ["", "0123", f"0123\n--\n{HOST_KEY}", "0123\n--\n--\n--\n"])
def test_another_text_is_refused(text: str) -> None:
    with pytest.raises(BuilderError, match="expected lines -- between"):
        parse_traces(text, KEY)
