"""The program with all checks runs here, and its output is compared with the expected values."""

from __future__ import annotations

import subprocess

import pytest

from goldenami.hardening import Batch, Check, Expected, check_control
from goldenami.hardening.batch import Subject, Values
from goldenami.hardening.checks import Kind


def subject(id: str, *checks: Check, applies: str = "") -> Subject:
    return Subject(id, id.title(), f"controls.yaml:1:1 {id}", checks, applies, "it is not there" if applies else "")


def reads(code: str, value: str = "x", kind: Kind = "equals") -> Check:
    return Check(code, Expected(kind, (value,)))


def run(*subjects: Subject, shell: str = "sh") -> tuple[Batch, Values]:
    batch = Batch(subjects)
    done = subprocess.run([shell, "-s", batch.mark], input=batch.program, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
    return batch, batch.values(done.stdout)


SUBJECTS = (
    subject("good", reads("echo x"), reads("printf 'a\\nb'", "a\nb")),
    subject("bad", reads("echo x"), reads("echo y", "z")),
    subject("silent", reads(":", "")),
    subject("broken", reads("echo no such thing >&2; return 3", "")),
    subject("lacks", reads("printf 'one\\nthree\\n'", "two", "contains")),
    subject("exits", reads("exit 7", "x")),
    subject("eats", reads("cat; echo x")),  # a check cannot read the program from stdin
    subject("elsewhere", reads("echo y"), applies="test -e /proc/nonexistent"),
    subject("here", reads("echo x"), applies="test -e /"),
    subject("odd", reads("""printf '%s' "a'b\\"c" """, "a'b\"c")),
    subject("last", reads("echo x")),
)


@pytest.mark.parametrize("shell", ["sh", "bash"])
def test_every_control_has_a_result(shell: str) -> None:
    batch, values = run(*SUBJECTS, shell=shell)
    results = {s.id: check_control(s, values) for s in batch.subjects}
    assert {id: v.outcome for id, v in results.items()} == {
        "good": "passed",
        "bad": "failed",
        "silent": "passed",
        "broken": "failed",
        "lacks": "failed",
        "exits": "failed",
        "eats": "passed",
        "elsewhere": "not-applicable",
        "here": "passed",
        "odd": "passed",
        "last": "passed",
    }
    assert results["elsewhere"].message == "it is not there"


def test_a_failure_names_control_value_and_expectation() -> None:
    batch, values = run(*SUBJECTS)
    results = {s.id: check_control(s, values) for s in batch.subjects}
    messages = {id: result.message for id, result in results.items() if result.outcome == "failed"}
    assert messages == {
        "bad": "bad: the host's value is 'y'; expected: 'z'",
        "broken": "broken: the host's value could not be read (no such thing); expected: nothing",
        "lacks": "lacks: the host's value lacks 1 of 1 lines; expected: 'two'",
        "exits": "exits: the host's value could not be read (exit status 7); expected: 'x'",
    }


def test_a_program_that_ends_early_proves_nothing() -> None:
    batch = Batch(SUBJECTS)
    whole = subprocess.run(["sh", "-s", batch.mark], input=batch.program, capture_output=True, check=True).stdout
    for cut in (0, len(whole) // 2, len(whole) - 5):
        with pytest.raises(ValueError, match="ended early"):
            batch.values(whole[:cut])


def test_a_check_cannot_print_the_value_of_another_check() -> None:
    """A check does not know the mark, so its output cannot end its value."""
    batch, values = run(
        subject("liar", reads("printf '\\ngoldenami-0000 end 0\\n'")), subject("next", reads("echo y", "z"))
    )
    assert check_control(batch.subjects[0], values).outcome == "failed"
    assert check_control(batch.subjects[1], values).outcome == "failed"


def test_a_batch_survives_json() -> None:
    import json

    batch = Batch(SUBJECTS)
    assert Batch.from_json(json.loads(json.dumps(batch.to_json()))) == batch
