"""Outputs of scripts: declared, read as facts, and what is said of those that are wrong."""

from __future__ import annotations

import pytest

from goldenami.errors import BuilderError
from goldenami.provision import Stage, outputs
from goldenami.provision.program import compile_program
from tests.provision.examples import bind

SCRIPT = bind("script", at=3, content="true", outputs={"schema": "cat '/srv/a b'", "count": "echo 3"})


def test_outputs_become_facts_of_the_program() -> None:
    stages = [Stage("software", (SCRIPT,))]
    found = outputs.output_facts(stages)
    assert [f.name for f in found] == ["output:schema", "output:count"]
    assert "sh -c 'cat '\"'\"'/srv/a b'\"'\"'' 2>&1" in compile_program([*stages, *found]).text


def test_values_are_read_without_their_line_end_and_without_secrets() -> None:
    facts = {"packages": "x", "output:schema": "7\n\n", "output:key": "it is s3cret\n"}
    assert outputs.read_outputs(facts, ["s3cret"]) == {"schema": "7", "key": "it is (secret)"}
    with pytest.raises(BuilderError, match="output long has 5000 characters, expected at most 4096"):
        outputs.read_outputs({"output:long": "x" * 5000})


def test_two_scripts_with_the_same_output_are_found() -> None:
    other = bind("script", at=9, content="true", outputs={"count": "echo 4"})
    assert [
        (m.line, name, first.line) for m, name, first in outputs.duplicate_outputs([Stage("s", (SCRIPT, other))])
    ] == [(9, "count", 3)]
    assert outputs.duplicate_outputs([Stage("s", (SCRIPT,))]) == []
