"""Operations of a control that does not apply are skipped, with its reason; where it does, they are as they were."""

from __future__ import annotations

from typing import Literal

import pytest

from goldenami.hardening import Check, Control, Expected, stages
from goldenami.model import Mark
from goldenami.provision import OPERATIONS, BoundOperation
from goldenami.provision.program import compile_stage

MARK = Mark("controls.yaml", 1, 1)


def control(id: str, *, last: Literal[False, True, "of-all"] = False, applies: str = "") -> Control:
    operation = OPERATIONS["file"].model_validate({"dest": f"/{id}", "content": id})
    return Control(
        id=id,
        title=id,
        why="",
        level=1,
        references=(),
        operations=(BoundOperation(operation, MARK),),
        handlers=(),
        checks=(Check("true", Expected("equals", ("",))),),
        mark=MARK,
        applies=applies,
        otherwise="no such thing here" if applies else "",
        last=last,
    )


def test_what_comes_last_is_a_stage_of_its_own_and_so_is_what_comes_last_of_all() -> None:
    made = stages([control("aide", last="of-all"), control("ssh"), control("audit", last=True), control("sudo")])
    assert [(s.name, [o.label for o in s.operations]) for s in made] == [
        ("hardening", ["ssh: file /ssh", "sudo: file /sudo"]),
        ("hardening-last", ["audit: file /audit"]),
        ("hardening-last-of-all", ["aide: file /aide"]),
    ]


@pytest.mark.parametrize("last", [False, True, "of-all"])
def test_no_stage_without_operations(last: Literal[False, True, "of-all"]) -> None:
    assert len(stages([control("one", last=last)])) == 1
    assert stages([]) == ()


def test_the_condition_comes_before_the_check() -> None:
    [plain] = stages([control("one")])
    [guarded] = stages([control("one", applies="test -d '/a b'")])
    before, after = compile_stage(plain).steps[0], compile_stage(guarded).steps[0]
    assert after.apply == before.apply
    assert after.verify == (before.verify or before.check)
    first, _, rest = after.check.text.partition("\n")
    assert rest == before.check.text
    assert "skip 'no such thing here'" in first
    # The digest of a plan is made of the operation's fields: the condition, and what it is for, are among them.
    dumped = guarded.operations[0].operation.model_dump(mode="json")
    assert dumped["applies"] == "test -d '/a b'"
    assert dumped["operation"]["dest"] == "/one"
    # Secrets are filled into these fields, and the operation is made anew of them.
    operation = guarded.operations[0].operation
    assert operation.with_fields(operation.model_dump()) == operation
