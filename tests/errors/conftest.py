"""Commands on a cloud of paper, with the gate that can disturb any call."""

from __future__ import annotations

from tests.snapshots.conftest import estate as estate
from tests.snapshots.conftest import public as public
