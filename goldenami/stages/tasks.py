"""What a clean-up has to know of each kind of task: how to put back what it changed. Most kinds only make things."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from goldenami.snapshots import copy, exchange
from goldenami.task import Undo

UNDO: Final[Mapping[str, Undo]] = {
    "snapshot copy": copy.take_back,
    "snapshot restore": exchange.put_back,
    "volume encrypt": exchange.put_back,
}
