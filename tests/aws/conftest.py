"""The room's world: a cloud without contents, and the ledger of one build."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from goldenami.journal import Header, Journal
from tests.worlds.ledgers import BUILD, CATALOG, Trap, World, have_only, make_ledger

if TYPE_CHECKING:
    from goldenami_sandbox.testing import PaperCloud


@pytest.fixture
def world(paper_cloud: Callable[..., PaperCloud], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    paper = paper_cloud()
    have_only(paper.variables(), monkeypatch)
    trap = Trap()
    header = Header(BUILD, "debian-12-web", "d" * 64, "sandbox", datetime.now(UTC), {"catalog": CATALOG})
    journal = Journal.create(tmp_path / "builds", header, sync=trap)
    made = World(paper, tmp_path / "builds", journal, make_ledger(journal), trap)
    yield made
    made.journal.close()
