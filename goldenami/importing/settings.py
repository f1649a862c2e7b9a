"""The settings of one block while they are taken over, with a note for each that nobody took."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from typing import Any

from goldenami.importing.draft import Draft
from goldenami.importing.values import Block, UnknownValue, Value, Variable, as_text, plain


class Settings:
    """The settings of a block. What was taken is carried over; ``rest`` is what nobody took."""

    def __init__(self, block: Block, draft: Draft, variables: Mapping[str, Variable]) -> None:
        self.block = block
        self._draft = draft
        self._variables = variables
        self._taken: set[str] = set()

    def has(self, key: str) -> bool:
        return key in self.block.settings or key in self.block.blocks

    def line(self, key: str) -> int:
        found = self.block.settings.get(key)
        if found is not None:
            return found.line
        return self.block.blocks[key][0].line if key in self.block.blocks else self.block.line

    def raw(self, key: str) -> Value | None:
        """Return a value with its variables, and count it as taken."""
        self._taken.add(key)
        return self.block.settings.get(key)

    def take(self, key: str, *kinds: type) -> Any:
        """Return a value with the defaults of its variables; None, with a note, if it is unknown or of another type."""
        found = self.raw(key)
        if found is None or found.given is None:
            return None
        try:
            value = plain(found.given, self._variables)
        except UnknownValue as error:
            self.lose(key, str(error))
            return None
        value = converted(value, kinds)
        if kinds and not isinstance(value, kinds):
            self.lose(key, f"{key} has a value of another type than expected")
            return None
        return value

    def texts(self, key: str) -> list[str]:
        value = self.take(key, list, str)
        return [as_text(one) for one in ([value] if isinstance(value, str) else value or [])]

    def map(self, key: str) -> dict[str, str]:
        """Return a map of text; empty if there is none."""
        value = self.take(key, dict) or {}
        return {str(name): as_text(one) for name, one in value.items()}

    def blocks(self, key: str) -> list[Settings]:
        """Return nested blocks. A map in their place is one block."""
        self._taken.add(key)
        nested = self.block.blocks.get(key, ())
        value = self.block.settings.get(key)
        if value is not None and isinstance(value.given, dict):
            inner = {name: Value(one, value.file, value.line) for name, one in value.given.items()}
            nested = (*nested, Block(key, "", value.file, value.line, inner))
        elif value is not None and isinstance(value.given, list):
            for one in value.given:
                if isinstance(one, dict):
                    inner = {name: Value(given, value.file, value.line) for name, given in one.items()}
                    nested = (*nested, Block(key, "", value.file, value.line, inner))
        return [Settings(block, self._draft, self._variables) for block in nested]

    def ignore(self, *keys: str) -> None:
        self._taken.update(keys)

    def lose(self, key: str, text: str) -> None:
        self._draft.note("lost", self.block.file, self.line(key), f"{key}: {text}")

    def replaced(self, key: str, text: str) -> None:
        self._taken.add(key)
        self._draft.note("replaced", self.block.file, self.line(key), f"{key}: {text}")

    def finish(self, what: str, instead: Mapping[str, str] = {}) -> None:
        """Make a note for each setting that nobody took."""
        for key in [*self.block.settings, *self.block.blocks]:
            if key in self._taken:
                continue
            if instead is not None and key in instead:
                if instead[key]:
                    self.replaced(key, instead[key])
                continue
            self.lose(key, f"a recipe has nothing for this setting of {what}")


def converted(value: Any, kinds: Collection[type]) -> Any:
    """Return text as a number or bool where one is expected: JSON templates write them as text."""
    if isinstance(value, str):
        if int in kinds and re.fullmatch(r"[0-9]+", value):
            return int(value)
        if bool in kinds and value.lower() in ("true", "false"):
            return value.lower() == "true"
    if isinstance(value, int | float) and not isinstance(value, bool) and kinds == (str,):
        return as_text(value)
    if isinstance(value, bool) and bool not in kinds and kinds:
        return as_text(value) if str in kinds else None
    return value
