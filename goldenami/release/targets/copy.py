"""Mode ``copy``: the target's account owns an encrypted copy of the candidate."""

from __future__ import annotations

from typing import ClassVar

from goldenami.model import Target
from goldenami.release.targets.mode import Delivery, Mode, register


@register
class Copy(Mode):
    """One CopyImage straight from the candidate in the home region, under the target's own key."""

    name: ClassVar[str] = "copy"
    summary: ClassVar[str] = "an image of its own under its own key."

    def plan(self, target: Target, key: str) -> str:
        return f"copy encrypted under {key}"

    def deliver(self, to: Delivery) -> None:
        to.copy(to.lend_candidate)
