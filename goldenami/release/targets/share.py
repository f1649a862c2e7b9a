"""Mode ``share``: the target's account may use the image of the home account in the same region."""

from __future__ import annotations

from typing import ClassVar

from goldenami.model import Target
from goldenami.release.targets.mode import Delivery, Mode, home_label, register


@register
class Share(Mode):
    """Launch permission on the home account's image, permission on its snapshots, and a grant on its key."""

    name: ClassVar[str] = "share"
    summary: ClassVar[str] = "use of the home account's image in the same region."
    owns_image: ClassVar[bool] = False
    note: ClassVar[str] = "shared"
    verb: ClassVar[str] = "shares"
    without_source: ClassVar[str] = "nothing to share"

    def source(self, target: Target) -> str | None:
        return home_label(target.region)

    def plan(self, target: Target, key: str) -> str:
        return f"use of {self.source(target)}"

    def deliver(self, to: Delivery) -> None:
        for architecture in to.architectures:
            image_id = to.source_image(architecture)
            to.allow_source(architecture, image_id)
            to.arrived(architecture, image_id, "shared")
