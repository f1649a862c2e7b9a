"""Quoting, as a real shell sees it."""

from __future__ import annotations

import subprocess

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from goldenami.provision.shell import Script, lines, quote, sh

words = st.text(st.characters(blacklist_characters="\0", blacklist_categories=["Cs"]), max_size=40)


def run(script: Script, *shell: str) -> bytes:
    return subprocess.run([*(shell or ("sh",)), "-c", script.text], check=True, capture_output=True).stdout


@settings(max_examples=60, deadline=None)
@given(st.lists(words, min_size=1, max_size=4))
def test_words_arrive_as_they_are(values: list[str]) -> None:
    assert run(sh("printf '%s\\0' @values", values=values)) == b"".join(v.encode() + b"\0" for v in values)


@settings(max_examples=20, deadline=None)
@given(words)
def test_a_word_within_a_command_within_a_command(value: str) -> None:
    inner = sh("printf %s @value", value=value)
    assert run(sh("sh -c @inner", inner=inner.text)) == value.encode()


def test_scripts_go_in_as_code_and_text_as_words() -> None:
    assert sh("@code; @word", code=Script("true"), word="a b").text == "true; 'a b'"
    assert sh("test @n", n=3).text == "test 3"


def test_values_are_not_searched_for_holes() -> None:
    assert sh("echo @a", a="@b").text == "echo @b"


def test_a_hole_without_value_is_a_mistake() -> None:
    with pytest.raises(KeyError):
        sh("echo @missing")


def test_nul_is_refused() -> None:
    with pytest.raises(ValueError, match="NUL"):
        quote("a\0b")


def test_empty_parts_leave_no_line() -> None:
    assert lines(Script("a"), Script(""), Script("b")).text == "a\nb"
