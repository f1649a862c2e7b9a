"""Events and output, told apart."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from goldenami import ssh
from goldenami.errors import BuilderError
from goldenami.model import Package, PackageChange
from goldenami.provision import hints, runner
from goldenami.provision.facts import package_changes, parse_packages
from goldenami.provision.follower import UNWRITTEN
from goldenami.provision.program import compile_program
from goldenami.provision.stream import (
    Begun,
    Ended,
    FactBegun,
    FactRead,
    Finished,
    Message,
    Reader,
    RebootDue,
    StageStarted,
    Started,
)


def read(text: str) -> tuple[list[Message], list[str]]:
    messages: list[Message] = []
    output: list[str] = []
    reader = Reader("MARK", messages.append, output.append)
    for line in text.split("\n"):
        reader.feed(line)
    return messages, output


def test_events() -> None:
    messages, output = read(
        "\nMARK start 3 1.50\n\nMARK changed 3 2.00 0 was not there\n\nMARK failed 4 2.50 7 \n"
        "\nMARK reboot 4\n\nMARK end ok"
    )
    assert messages == [
        Started(3, 1.5),
        Finished(3, 2.0, "changed", 0, "was not there"),
        Finished(4, 2.5, "failed", 7, ""),
        RebootDue(4),
        Ended(True),
    ]
    assert output == []


def test_facts_are_no_output() -> None:
    messages, output = read(
        "\nMARK begin 7f-3\n\nMARK fact packages\na\n\nb\nMARK read packages 0\n"
        "\nMARK stage 1 2.5\nsaid\n\nMARK fact none\n\nMARK read none 3"
    )
    assert messages == [
        Begun("7f-3"),
        FactBegun("packages"),
        FactRead("packages", 0, "a\n\nb"),
        StageStarted(1, 2.5),
        FactBegun("none"),
        FactRead("none", 3, ""),
    ]
    assert output == ["said"]


def test_output_keeps_its_own_empty_lines() -> None:
    messages, output = read("a\n\n\nb\n\nMARK start 0 1\nc")
    assert output == ["a", "", "", "b", "c"]
    assert messages == [Started(0, 1.0)]


def test_output_without_a_line_end_is_no_part_of_an_event() -> None:
    messages, output = read("half\nMARK end ok")
    assert (messages, output) == ([Ended(True)], ["half"])


def test_words_that_look_like_events_are_output() -> None:
    assert read("MARKS start 0 1\n MARK end ok")[0] == []


def test_an_unknown_event_is_an_error() -> None:
    with pytest.raises(ValueError, match="not an event"):
        read("MARK dance 1")


def test_packages_are_those_that_are_installed() -> None:
    text = "ii |bash|5.2-15|amd64\nrc |nano|7.2|amd64\nhi |hello|2.10|amd64\nii |libc6|2.36|i386\nii |libc6|2.36|amd64"
    assert parse_packages(text) == (
        Package("bash", "5.2-15", "amd64"),
        Package("hello", "2.10", "amd64"),
        Package("libc6", "2.36", "amd64"),
        Package("libc6", "2.36", "i386"),
    )


def test_changes_of_packages() -> None:
    before = [Package("a", "1", "x"), Package("b", "1", "x"), Package("c", "1", "x")]
    after = [Package("a", "1", "x"), Package("b", "2", "x"), Package("d", "1", "x")]
    assert package_changes(before, after) == (
        PackageChange("b", "1", "2"),
        PackageChange("c", "1", None),
        PackageChange("d", None, "1"),
    )


@pytest.mark.parametrize(
    ("output", "part"),
    [
        ("Reading…\nE: Unable to locate package ngnix", "check the name"),
        ("E: Version '9' for 'bash' was not found", "apt-cache policy"),
        ("tar: write error: No space left on device", "size_gib"),
        ("nothing special", None),
    ],
)
def test_hints(output: str, part: str | None) -> None:
    hint = hints.find_hint(output)
    assert hint is None if part is None else part in (hint or "")


def test_a_log_in_memory_that_is_full_needs_more_memory() -> None:
    """The program that seals a host has no log on the disk."""
    full = Ended(False, str(UNWRITTEN))
    assert "size_gib" in str(runner._reason(full, on_disk=True))
    assert runner._reason(full, on_disk=False)[1] == hints.MORE_MEMORY


@pytest.mark.parametrize(("seconds", "advised"), [(3600.0, True), (600.0, False)])
def test_more_time_is_advised_where_a_recipe_can_give_it(seconds: float, advised: bool) -> None:
    """The freezing, and the facts that it waits for, have a limit of their own."""

    def lost(*_: object, **__: object) -> None:
        raise BuilderError("the connection is lost")

    host: Any = SimpleNamespace(endpoint=SimpleNamespace(address="10.0.0.1", user="root"), as_root=str, run=lost)
    nothing: Any = None
    run = runner._Run(host, compile_program([]), nothing, str, "apply", 3600.0, 1.0, nothing, False)
    run._deadline = ssh.Deadline(seconds)
    assert ("builder.timeout" in (run._took_too_long("/run/x").hint or "")) is advised
