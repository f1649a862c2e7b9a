"""Files of shell checks: the form, and what is said about files that do not have it."""

from __future__ import annotations

import subprocess

import pytest

from goldenami.shellchecks import InvalidCheckError, ShellCheck, parse

FILE = """\
# Checks of the web server.
port=8080
answer() {
  echo "$1"
}

@test "first" {
  test "$(answer 8080)" = "$port"
}
# goldenami: root, reads, alone, gate=image, retry=5
@test 'the second, with a "quote"' {
  run false
  [ "$status" -eq 1 ]
  false
  echo never
}
"""


def run(check: ShellCheck) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["sh", "-ec", check.script], capture_output=True, text=True, timeout=120)


def test_a_check_has_what_stands_before_it_and_its_options() -> None:
    with pytest.raises(InvalidCheckError):
        parse(FILE)  # a quote inside of the name
    first, second = parse(FILE.replace('"quote"', "quote"))
    assert (first.name, first.line, first.is_root, first.retries) == ("first", 7, False, None)
    assert (second.name, second.line) == ("the second, with a quote", 11)
    assert (second.is_root, second.is_reading, second.is_alone) == (True, True, True)
    assert (second.gate, second.retries) == ("image", 5)
    assert run(first).returncode == 0
    done = run(second)
    assert (done.returncode, done.stdout) == (1, "")


def test_messages_of_the_shell_have_the_lines_of_the_file() -> None:
    (check,) = parse('# one\n@test "broken" {\n  echo a\n  no-such-program\n}\n')
    assert "4:" in run(check).stderr


def test_a_check_can_be_skipped() -> None:
    (check,) = parse('@test "skips" {\n  skip no cloud here\n}\n')
    done = run(check)
    assert (done.returncode, done.stdout) == (77, "no cloud here\n")


@pytest.mark.parametrize(
    ("text", "line", "message"),
    [
        ('@test "a" {\n  true\n', 1, "the check 'a' has no end"),
        ('@test "a" {\n@test "b" {\n}\n', 1, "the check 'a' has no end"),
        ("@test a {\n}\n", 1, "expected @test"),
        ('@test "a"\n{\n}\n', 1, "expected @test"),
        ('@test "a" {\n}\n@test "a" {\n}\n', 3, "two checks have the name 'a'"),
        ('# goldenami: as root\n@test "a" {\n}\n', 1, "unknown option 'as root'"),
        ('# goldenami: gate=third\n@test "a" {\n}\n', 1, "unknown option 'gate=third'"),
        ('@test "a" {\n}\n\nhelper() { true; }\n', 4, "belongs to no check"),
    ],
)
def test_another_form_is_refused_with_its_line(text: str, line: int, message: str) -> None:
    with pytest.raises(InvalidCheckError, match=message) as caught:
        parse(text)
    assert caught.value.line == line
    assert caught.value.hint


def test_a_file_without_a_check_has_none() -> None:
    assert parse("# nothing\n") == ()
