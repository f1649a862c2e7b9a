"""Patches: which updates of installed packages are applied, and when the host reboots for them."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field


class PatchSpec(BaseModel):
    """The ``patches`` section of a recipe."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    level: Literal["all", "security", "none"] = Field(
        "all", description="Which updates: all, those of the distribution's security archive only, or none."
    )
    exclude: tuple[str, ...] = Field(
        (), description='Packages that are left as they are: names or shell patterns such as "linux-image-*".'
    )
    reboot: Literal["if-needed", "always", "never"] = Field(
        "if-needed", description="Whether the host reboots after the patches and before anything else is done."
    )
