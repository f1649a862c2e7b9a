"""The events of botocore have the names that it gives them, found without a look at each name that it changed."""

from __future__ import annotations

from typing import Any

import botocore.session
import pytest
from botocore.hooks import EventAliaser, HierarchicalEmitter
from botocore.utils import EVENT_ALIASES

from goldenami.aws.session import _bare_session
from goldenami.model import Connection

NAMES = [
    "before-call.ssm.PutParameter",
    "before-parameter-build.ec2.DescribeImages",
    "before-send",
    *(f"before-call.{name}.Operation" for name in EVENT_ALIASES),
    *(f"before-call.{name}x.Operation" for name in EVENT_ALIASES),
    *EVENT_ALIASES,
]


def events() -> Any:
    return _bare_session(botocore.session.Session, Connection(), None).get_component("event_emitter")


@pytest.mark.parametrize("again", [False, True])
def test_they_are_those_of_botocore(again: bool) -> None:
    ours: Any = events()
    theirs: Any = EventAliaser(HierarchicalEmitter())
    for name in NAMES * (1 + again):
        assert ours._alias_event_name(name) == theirs._alias_event_name(name)


def test_the_table_is_not_read_for_a_name_that_did_not_change(monkeypatch: pytest.MonkeyPatch) -> None:
    ours = events()
    monkeypatch.setattr(ours, "_event_aliases", None)
    assert ours._alias_event_name("before-call.ssm.NeverCalled") == "before-call.ssm.NeverCalled"
