"""What an operation is, and how a recipe's YAML becomes one.

An operation is one idempotent thing done to a host. In YAML it is a map with the kind as its first key, and the common
keys beside it::

    - template: {src: files/nginx.conf.j2, dest: /etc/nginx/nginx.conf, mode: "0644"}
      name: nginx's main configuration      # common: replaces the title
      when: "{{ architecture == 'x86_64' }}" # common: decided by recipe/, never seen here
      notify: [nginx]                        # common: handlers to run at the end of the stage if this changed something

``OPERATIONS[kind]`` is the class. The map under the kind holds its fields, one to one: ``cls.model_validate(fields)``;
unknown keys are refused. Where the class has a ``shorthand``, a scalar (or a list, if that field takes one) stands for
a map with that one field: ``package: nginx`` is ``package: {name: nginx}``. Every string field is content that recipe/
has rendered already (Jinja); provision renders nothing and quotes everything.

Fields that name a file beside the recipe are listed in ``cls.sources``, with how recipe/ treats the file:

* ``"verbatim"``: bytes as they are. * ``"template"``: UTF-8 text, rendered with the recipe's variables first.

For each of them that is not None, recipe/ resolves the path against the recipe's directory and puts the result into
``BoundOperation.payloads[field]``: ``Payload.of(rendered)`` or ``Payload.read(path)``. The field itself keeps what was
written (it is what titles and messages show). Inline ``content`` needs no payload.

``place`` is file:line:column, for messages. Handlers: ``Handler(name, operations)``; a name in ``notify`` for which the
recipe defines no handler may be given ``implied_handler(name, mark)``, which reloads (or restarts) the service of that
name.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict

from goldenami.model import Mark
from goldenami.provision.shell import Compilation, Steps

SourceForm = Literal["verbatim", "template"]

_BUILT_IN = "goldenami.provision."
_REGISTRY: dict[str, type[Operation]] = {}
OPERATIONS: Mapping[str, type[Operation]] = MappingProxyType(_REGISTRY)
"""Every built-in kind of operation. Complete once ``goldenami.provision`` is imported, which imports all families.
What a project and installed packages add is in ``recipe.extensions``: two projects may have different operations."""


class Operation(BaseModel):
    """One idempotent change to a host. The docstring of a subclass is what the schema shows.

    Instances are frozen. They hold only what the recipe says, and know nothing of the host. A built-in subclass with a
    ``kind`` registers itself. ``code_digest``: the SHA-256 of the code of an operation that is not built in, which
    goldenami sets; it is part of the plan's digest.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)

    kind: ClassVar[str] = ""
    shorthand: ClassVar[str | None] = None
    sources: ClassVar[Mapping[str, SourceForm]] = {}
    code_digest: ClassVar[str] = ""

    @classmethod
    def __pydantic_init_subclass__(cls, **kwargs: Any) -> None:
        super().__pydantic_init_subclass__(**kwargs)
        if "kind" not in cls.__dict__ or not cls.__module__.startswith(_BUILT_IN):
            return
        if cls.kind in _REGISTRY:
            raise TypeError(f"two operations of the kind {cls.kind!r}")
        _REGISTRY[cls.kind] = cls

    def title(self) -> str:
        """One short line for people: ``package nginx (>=1.22)``. Holds no file contents."""
        raise NotImplementedError

    def unfit(self, os: str) -> str | None:
        """Why it cannot work on a host with this ID in /etc/os-release, told when a recipe is read; None if it can."""
        return None

    def with_fields(self, fields: Mapping[str, Any]) -> Operation:
        """The same operation with other values in its fields, all of them. Raises pydantic's ValidationError."""
        return type(self).model_validate(fields)

    @property
    def inner(self) -> Operation:
        """The operation that a recipe wrote: itself, or the one that it wraps."""
        return self

    def compile(self, to: Compilation) -> Steps:
        """The shell code that checks, applies and verifies this operation. Pure; payloads are placed through ``to``."""
        raise NotImplementedError


@dataclass(frozen=True, slots=True)
class Payload:
    """The contents of one file for the host: either ``data``, or the file at ``path``, which must not change until it
    is sent.

    ``sha256``: hex digest of the contents. ``mode``: permission bits that the source file has (what an operation that
    is given no mode uses), or None.
    """

    sha256: str
    size: int
    data: bytes | None = field(default=None, repr=False)
    path: Path | None = None
    mode: int | None = None

    @classmethod
    def of(cls, data: bytes, mode: int | None = None) -> Payload:
        return cls(hashlib.sha256(data).hexdigest(), len(data), data=data, mode=mode)

    @classmethod
    def read(cls, path: Path) -> Payload:
        """Of a file that exists; its contents are read again when they are sent. Raises OSError."""
        digest = hashlib.sha256()
        size = 0
        with path.open("rb") as stream:
            while block := stream.read(1 << 20):
                digest.update(block)
                size += len(block)
        return cls(digest.hexdigest(), size, path=path, mode=path.stat().st_mode & 0o777)

    def contents(self) -> bytes:
        if self.data is not None:
            return self.data
        assert self.path is not None
        return self.path.read_bytes()


@dataclass(frozen=True, slots=True)
class BoundOperation:
    """An operation at its place in a recipe. ``notify``: names of handlers. ``payloads``: by field name (see the
    module).
    """

    operation: Operation
    mark: Mark
    title: str = ""
    notify: tuple[str, ...] = ()
    payloads: Mapping[str, Payload] = field(default_factory=dict)

    @property
    def label(self) -> str:
        """The title that was given, else the operation's own."""
        return self.title or self.operation.title()


@dataclass(frozen=True, slots=True)
class Handler:
    """Runs once at the end of the stage, in order of definition, if an operation that notifies it has changed
    something.
    """

    name: str
    operations: tuple[BoundOperation, ...]


@dataclass(frozen=True, slots=True)
class Stage:
    """Operations that go to the host together, in order. Every name in a ``notify`` has its handler here (ValueError
    otherwise).
    """

    name: str
    operations: tuple[BoundOperation, ...]
    handlers: tuple[Handler, ...] = ()

    def __post_init__(self) -> None:
        known = {h.name for h in self.handlers}
        if len(known) != len(self.handlers):
            raise ValueError(f"stage {self.name}: two handlers of one name")
        for bound in [*self.operations, *(o for h in self.handlers for o in h.operations)]:
            for name in bound.notify:
                if name not in known:
                    raise ValueError(f"{bound.mark}: no handler is named {name!r}")


def all_operations(stage: Stage) -> Sequence[BoundOperation]:
    """The stage's operations and then its handlers', numbered as the events number them."""
    return [*stage.operations, *(o for h in stage.handlers for o in h.operations)]
