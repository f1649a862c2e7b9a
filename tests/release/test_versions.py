from __future__ import annotations

from datetime import date

import pytest
from hypothesis import given
from hypothesis import strategies as st

from goldenami.errors import UsageError
from goldenami.release.versions import Reference, Version, check_name

numbers = st.integers(0, 999_999_999)
versions = st.builds(Version, numbers, numbers, st.integers(0, 99_999_999), st.integers(1, 999_999_999))


@given(versions)
def test_a_version_is_its_text(version: Version) -> None:
    assert Version.parse(str(version)) == version


@given(versions, versions)
def test_versions_are_ordered_by_number_not_by_text(a: Version, b: Version) -> None:
    assert (a < b) == (tuple(map(int, str(a).split("."))) < tuple(map(int, str(b).split("."))))


@given(st.text(alphabet="0123456789.-+ ١", max_size=24))
def test_only_one_text_gives_a_version(text: str) -> None:
    try:
        version = Version.parse(text)
    except UsageError:
        return
    assert str(version) == text


@pytest.mark.parametrize(
    "text", ["", "1.4", "1.4.2026.1", "01.4.20261124.1", "1.4.20261124.0", "1.4.20261124.1\n", "../1.4.20261124.1"]
)
def test_no_version(text: str) -> None:
    with pytest.raises(UsageError):
        Version.parse(text)


@pytest.mark.parametrize("line", ["1", "1.4.0", "v1.4", "1.04", ""])
def test_a_recipe_gives_two_numbers(line: str) -> None:
    with pytest.raises(UsageError):
        Version.first(line, date(2026, 11, 24))


def test_references() -> None:
    assert Reference.parse("web") == Reference("web")
    assert Reference.parse("ubuntu-24.04-base@stable") == Reference("ubuntu-24.04-base", channel="stable")
    assert Reference.parse("web@1.4.20261124.1") == Reference("web", version="1.4.20261124.1")
    assert Reference.parse("web@1.4.x") == Reference("web", line="1.4")
    assert Reference.parse("web@1.4") == Reference("web", channel="1.4")
    assert [str(Reference.parse(text)) for text in ("web@stable", "web@1.4.x")] == ["web@stable", "web@1.4.x"]


@pytest.mark.parametrize(
    "text",
    ["", "@stable", "web@", "web@a@b", "../web", "web/../../etc", ".", "..", "Web", "web@../x", "w" * 65, "web\n"],
)
def test_what_could_leave_the_directory_is_no_reference(text: str) -> None:
    with pytest.raises(UsageError):
        Reference.parse(text)


def test_a_channel_is_never_mistaken_for_a_version() -> None:
    with pytest.raises(UsageError):
        check_name("1.4.20261124.1", "channel")
    with pytest.raises(UsageError):
        check_name("1.4.x", "channel")
