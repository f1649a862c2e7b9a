"""Numbers in pydantic models."""

from __future__ import annotations

from typing import Any, get_args

from pydantic import BaseModel, ValidationInfo
from pydantic_core import PydanticCustomError


def refuse_booleans(cls: type[BaseModel], value: object, info: ValidationInfo) -> object:
    """A validator of all fields: Python, and so pydantic, takes true for the number 1."""
    if type(value) is str:  # as nearly every value
        return value
    if isinstance(value, bool) or (isinstance(value, (list, tuple)) and any(isinstance(item, bool) for item in value)):
        kinds = _leaves(cls.model_fields[str(info.field_name)].annotation)
        if bool not in kinds and not kinds.isdisjoint({int, float}):
            raise PydanticCustomError("int_type", "expected a whole number")
    return value


def _leaves(annotation: Any) -> set[Any]:
    inner = get_args(annotation)
    return set().union(*map(_leaves, inner)) if inner else {annotation}
