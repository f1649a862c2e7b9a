"""What the node remembers of blocks: enough for the next images, and not more with each snapshot."""

from __future__ import annotations

from goldenami_sandbox.node.reuse import Reuse

_KEPT = 64


def test_pairs_are_known_in_both_directions() -> None:
    reuse = Reuse()
    reuse.translated(None, {0: "a", 1: "b"}, "key", {0: "A", 1: "B"})
    assert reuse.translate(None, {0: "a", 1: "other"}, "key") == {0: "A"}
    assert reuse.translate("key", {1: "B"}, None) == {1: "b"}


def test_only_the_pairs_of_the_newest_copies_are_kept() -> None:
    reuse = Reuse()
    for number in range(3 * _KEPT):  # each under a key of its own
        reuse.translated(None, {0: f"a{number}"}, f"key{number}", {0: f"A{number}"})
    known = [n for n in range(3 * _KEPT) if reuse.translate(None, {0: f"a{n}"}, f"key{n}")]
    assert known == list(range(2 * _KEPT, 3 * _KEPT))
    assert [n for n in range(3 * _KEPT) if reuse.translate(f"key{n}", {0: f"A{n}"}, None)] == known


def test_a_block_of_each_night_stays_known() -> None:
    reuse = Reuse()
    for number in range(3 * _KEPT):
        reuse.translated(None, {0: "same", 1: f"a{number}"}, "key", {0: "SAME", 1: f"A{number}"})
    newest = 3 * _KEPT - 1
    assert reuse.translate(None, {0: "same", 1: f"a{newest}"}, "key") == {0: "SAME", 1: f"A{newest}"}
