"""The pydantic models of a secret: where its value is, never the value."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from goldenami.recipe.words import IDENTIFIER, Spec


class SecretSource(Spec):
    """Where the value of a secret comes from; exactly one."""

    env: str | None = Field(None, description="Name of an environment variable.", pattern=IDENTIFIER)
    file: str | None = Field(None, description="Path of a file, relative to the file that names it.", min_length=1)
    ssm: str | None = Field(None, description="Name of an SSM SecureString parameter in the home region.", min_length=1)

    @model_validator(mode="after")
    def _one_source(self) -> SecretSource:
        if sum(value is not None for value in (self.env, self.file, self.ssm)) != 1:
            raise ValueError("expected exactly one of env, file and ssm")
        return self

    @property
    def place(self) -> tuple[Literal["env", "file", "ssm"], str]:
        """The kind of source, and its name or path."""
        if self.env is not None:
            return "env", self.env
        return ("ssm", self.ssm) if self.ssm is not None else ("file", str(self.file))


class SecretVar(Spec):
    """A variable whose value is not written in the recipe. The recipe says where to read it."""

    secret: SecretSource = Field(description="Where the value comes from.")
    in_image: bool = Field(
        False,
        description="Whether the image may contain the value. If not, a build fails that leaves it on the disk.",
    )
