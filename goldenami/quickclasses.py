"""Makes dataclasses quickly, for a process of the command line.

``dataclasses`` compiles five or six methods for each class, although most commands compare and print few of them: that
took a third of `goldenami plan`. Here, only ``__init__`` is compiled at once, and each other method when it is first
called. From Python 3.13 on, ``dataclasses`` compiles all methods of a class together, and nothing is changed.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

_Create = Callable[..., Callable[..., Any]]


def install() -> None:
    """Make the dataclasses from here on quickly."""
    create: _Create | None = getattr(dataclasses, "_create_fn", None)
    if create is not None and create.__module__ == dataclasses.__name__:
        setattr(dataclasses, "_create_fn", _later(create))  # noqa: B010 - a name that type checkers do not know


def _later(create: _Create) -> _Create:
    """Return the function that makes a method, so that it is compiled when it is called."""

    def create_later(name: str, *given: Any, **named: Any) -> Callable[..., Any]:
        if name == "__init__":
            return create(name, *given, **named)

        def method(self: Any, *arguments: Any) -> Any:
            made = create(name, *given, **named)
            made.__qualname__ = method.__qualname__
            for owner in type(self).__mro__:
                if owner.__dict__.get(name) is method:
                    setattr(owner, name, made)
            return made(self, *arguments)

        method.__name__ = name
        return method

    return create_later
