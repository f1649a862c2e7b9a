"""The undo function of each kind of task. Kinds that only create resources have none."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from goldenami import task
from goldenami.release import channels, redistribute
from goldenami.snapshots import copy, exchange
from goldenami.task import Undo

UNDO: Final[Mapping[str, Undo]] = {
    **dict.fromkeys(task.MOVES, channels.put_back),
    redistribute.KIND: redistribute.hand_over,
    "snapshot copy": copy.take_back,
    "snapshot register": copy.take_back,
    "snapshot restore": exchange.put_back,
    "volume encrypt": exchange.put_back,
}
