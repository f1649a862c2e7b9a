"""Records of the catalog that are read without pydantic: exactly those that pydantic accepts, with the same values."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from goldenami import forms
from goldenami.model import Account
from goldenami.release.catalogfiles import Channel, Move, Reservation
from goldenami.release.marks import Pin, Retirement, Revocation

from .conftest import ManifestFactory

KINDS: list[Any] = [Channel, Reservation, Pin, Retirement, Revocation]
VALUES: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers(-2, 2) | st.text(max_size=3) | st.sampled_from(["build", "retired"]),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from(["version", "moved"]), inner),
    max_leaves=5,
)


def channel(manifest: ManifestFactory) -> dict[str, Any]:
    history = (Move("1.4.20261124.1", "2026-11-24T03:00:00Z"), Move("1.4.20261124.2", "x", "b", "promote", "y", "ü"))
    made = Channel("web", "stable", "1.4.20261124.2", None, history, manifest().images)
    form: dict[str, Any] = json.loads(json.dumps(asdict(made)))
    return form


def expected(kind: Any, form: object) -> object:
    """Return what pydantic reads, None for what it refuses."""
    try:
        return TypeAdapter(kind).validate_json(json.dumps(form), strict=True)
    except ValidationError:
        return None


def test_a_record_is_read_as_it_was_written(manifest: ManifestFactory) -> None:
    form = channel(manifest)
    made = forms.build(Channel, form)
    assert made is not None
    assert made == expected(Channel, form)
    assert made.images == manifest().images
    assert made.history[1].reason == "ü"
    assert forms.build(Channel, {**form, "later": 1}) == made  # a key of a newer version


@given(st.data())
def test_what_is_built_is_what_pydantic_accepts(manifest: ManifestFactory, data: st.DataObject) -> None:
    kind = data.draw(st.sampled_from(KINDS))
    form = channel(manifest) if kind is Channel else dict.fromkeys(TypeAdapter(kind).json_schema()["required"], "x")
    for key in data.draw(st.lists(st.sampled_from([*form, "status", "finished"]), max_size=3)):
        form[key] = data.draw(VALUES)
    for key in data.draw(st.lists(st.sampled_from([*form]), max_size=1)):
        del form[key]
    assert forms.build(kind, form) == expected(kind, form)


@pytest.mark.parametrize("form", [[], None, "x", {}, {"name": "a\ud800", "id": "1"}, {"name": "a", "id": True}])
def test_other_values_are_left_to_pydantic(form: object) -> None:
    assert forms.build(Account, form) is None
