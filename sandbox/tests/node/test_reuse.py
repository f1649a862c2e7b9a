"""What the node remembers of snapshots, and the keys of their blocks."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from goldenami_sandbox.node import blocks
from goldenami_sandbox.node.api import BLOCK_SIZE, DataKey
from goldenami_sandbox.node.crypto import BlockCipher, Sealing, seal, unseal
from goldenami_sandbox.node.reuse import Reuse

_KEPT = 8


def test_the_newest_snapshots_of_each_form_are_known() -> None:
    reuse = Reuse()
    for number in range(3 * _KEPT):
        reuse.stored(f"plain{number}", encrypted=False)
        reuse.stored(f"encrypted{number}", encrypted=True)
    reuse.stored("plain20", encrypted=False)  # known already
    assert reuse.newest(encrypted=False) == [f"plain{n}" for n in reversed(range(2 * _KEPT, 3 * _KEPT))]
    assert reuse.newest(encrypted=True) == [f"encrypted{n}" for n in reversed(range(2 * _KEPT, 3 * _KEPT))]


def test_the_key_of_a_block_follows_from_its_contents_and_its_place(tmp_path: Path) -> None:
    sealing, other = Sealing.of(tmp_path / "one"), Sealing.of(tmp_path / "other")
    plain = blocks.token(os.urandom(BLOCK_SIZE))
    block = sealing.block(7, plain)
    assert block == Sealing.of(tmp_path / "one").block(7, plain)
    strangers = [sealing.block(8, plain), sealing.block(7, blocks.token(bytes(9))), other.block(7, plain)]
    assert len({block.key, *(one.key for one in strangers)}) == 4
    assert len({plain, block.token, *(one.token for one in strangers)}) == 5
    assert (tmp_path / "one").stat().st_mode & 0o777 == 0o600


def test_only_the_data_key_opens_a_seal() -> None:
    key, sealing = DataKey(os.urandom(32)), Sealing(os.urandom(32))
    made = [sealing.block(index, blocks.token(os.urandom(16))) for index in range(3)]
    sealed = seal(key, made)
    assert unseal(key, sealed) == [(block.key, block.plain) for block in made]
    assert seal(key, made) != sealed  # each seal has a nonce of its own
    with pytest.raises(ValueError, match="damaged"):
        unseal(DataKey(os.urandom(32)), sealed)
    contents = os.urandom(BLOCK_SIZE)
    stored = BlockCipher(made[1].key).encrypt(1, contents)
    assert stored != contents
    assert BlockCipher(unseal(key, sealed)[1][0]).decrypt(1, stored) == contents
