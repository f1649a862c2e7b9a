"""Operations: one idempotent change to a host each, and the YAML form of an operation.

In YAML an operation is a map with its kind as the first key, and the common keys beside it::

    - template: {src: files/nginx.conf.j2, dest: /etc/nginx/nginx.conf, mode: "0644"}
      name: nginx's main configuration      # common: replaces the title
      when: "{{ architecture == 'x86_64' }}" # common: recipe/ evaluates it and removes it
      notify: [nginx]                        # common: handlers to run at the end of the stage if this changed something
      retries: 3                             # common: how often it is tried again after a failure

``families.OPERATIONS[kind]`` is the class. The map under the kind holds its fields, one to one:
``cls.model_validate(fields)``; unknown keys are refused. If the class has a ``shorthand``, a scalar (or a list, if that
field accepts one) is read as a map with that one field: ``package: nginx`` is ``package: {name: nginx}``. recipe/ has
rendered every string field already (Jinja); provision/ renders nothing and quotes all values for the shell.

``cls.sources`` lists the fields that name a file beside the recipe, with the form in which recipe/ passes the file:

* ``"verbatim"``: bytes as they are. * ``"template"``: UTF-8 text, rendered with the recipe's variables first.
* ``"tree"``: a directory. * ``"any"``: a file as it is, or a directory. * ``"bundle"``: a list of both.

For each of these fields that is not None, recipe/ resolves the path against the recipe's directory and puts the result
into ``BoundOperation.payloads[field]``: ``Payload.of(rendered)``, ``Payload.read(path, files)`` or the payloads of
``trees``. The field itself keeps the text of the recipe, for titles and messages. Inline ``content`` needs no payload.

``mark`` is file:line:column, for messages. Handlers: ``Handler(name, operations)``. If the recipe defines no handler
for a name in ``notify``, ``implied_handler(name, mark)`` reloads or restarts the service of that name.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, field_validator

from goldenami.model import Mark, SshEndpoint
from goldenami.numbers import refuse_booleans
from goldenami.provision.shell import Compilation, Steps
from goldenami.reading import Files, Source

SourceForm = Literal["verbatim", "template", "tree", "any", "bundle"]

_BUILT_IN = "goldenami.provision."
_REGISTRY: dict[str, type[Operation]] = {}
REGISTERED: Mapping[str, type[Operation]] = MappingProxyType(_REGISTRY)
"""The built-in operations of the families that are loaded, by kind. ``families.OPERATIONS`` has all of them."""


class Operation(BaseModel):
    """One idempotent change to a host. The docstring of a subclass is its description in the schema.

    Instances are frozen. They hold only the data of the recipe and nothing about the host. A built-in subclass with a
    ``kind`` registers itself. ``code_digest``: the SHA-256 of the code of an operation that is not built in. goldenami
    sets it; it is part of the plan's digest. ``brings_units``: whether it can bring a unit of systemd of any name, by a
    package, a program or a file; a later operation may then concern a unit that nobody else declared.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True, defer_build=True)
    _no_booleans = field_validator("*", mode="before")(classmethod(refuse_booleans))

    kind: ClassVar[str] = ""
    shorthand: ClassVar[str | None] = None
    sources: ClassVar[Mapping[str, SourceForm]] = {}
    code_digest: ClassVar[str] = ""
    brings_units: ClassVar[bool] = True
    programs: ClassVar[Mapping[str, str]] = {}  # programs that it needs on this machine: how to install them, by name

    @classmethod
    def __pydantic_init_subclass__(cls, **kwargs: Any) -> None:
        super().__pydantic_init_subclass__(**kwargs)
        if "kind" not in cls.__dict__ or not cls.__module__.startswith(_BUILT_IN):
            return
        if cls.kind in _REGISTRY:
            raise TypeError(f"two operations have the kind {cls.kind!r}: rename one of them")
        _REGISTRY[cls.kind] = cls

    def title(self) -> str:
        """Return one short line for users: ``package nginx (>=1.22)``. It contains no file contents."""
        raise NotImplementedError

    def unfit(self, os: str) -> str | None:
        """Return the reason why the operation cannot run on a host with this ID in /etc/os-release; None if it can.
        It is called when a recipe is read.
        """
        return None

    def claims(self, payloads: Mapping[str, Payload]) -> Mapping[str, str]:
        """Return what the operation requires of the host, by name: ``{"package nginx": "present"}``.

        Two operations that claim different values for one name undo each other. ``payloads``: as in BoundOperation.
        """
        return {}

    def misfit(self, payloads: Mapping[str, Payload]) -> str | None:
        """Return the reason why the operation cannot be done with these payloads; None if it can. It is called when a
        recipe is read.
        """
        return None

    def with_fields(self, fields: Mapping[str, Any]) -> Operation:
        """Return the same operation with these values for all of its fields. Raises pydantic's ValidationError."""
        return type(self).model_validate(fields)

    @property
    def inner(self) -> Operation:
        """The operation that the recipe contains: this one, or the one that it wraps."""
        return self

    def compile(self, to: Compilation) -> Steps:
        """Return the shell code that checks, applies and verifies this operation. It has no side effects except that
        ``to`` collects the payloads. Raises ValueError if a payload is missing.
        """
        raise NotImplementedError

    def run_here(self, payloads: Mapping[str, Payload], work: WorkHere) -> DoneHere:
        """Do the operation from this machine, for an operation whose steps are ``here``. A failed operation raises no
        error, except that ``work.check`` may raise any. A second run changes nothing.
        """
        raise NotImplementedError


@dataclass(frozen=True, slots=True)
class WorkHere:
    """What an operation gets that runs on this machine. ``endpoint``: the host. ``dry``: change nothing, and report
    what would change. ``timeout``: seconds, or None. ``on_line``: gets each line of output; ``on_silence``: is told
    about every minute how many seconds there was none. ``check``: raises the error of an interruption.
    """

    endpoint: SshEndpoint
    dry: bool
    timeout: float | None
    on_line: Callable[[str], None]
    on_silence: Callable[[float], None]
    check: Callable[[], None]


@dataclass(frozen=True, slots=True)
class DoneHere:
    """The end of an operation on this machine. ``exit_status``: of its program."""

    status: Literal["ok", "changed", "failed"]
    detail: str = ""
    exit_status: int = 0


@dataclass(frozen=True, slots=True)
class Payload:
    """The contents of one file for the host: either ``data``, or the file ``source``, which must not change before it
    is sent. Or those of a directory: ``tree``, parents before what they contain.

    ``sha256``: hex digest of the contents. ``mode``: permission bits of the source file, or None. An operation without
    a mode uses them. ``path``: the file that the contents were made from, for messages; None if they are no file.
    """

    sha256: str
    size: int
    data: bytes | None = field(default=None, repr=False)
    source: Source | None = None
    mode: int | None = None
    path: Path | None = field(default=None, compare=False)
    tree: tuple[Entry, ...] | None = None

    @classmethod
    def of(cls, data: bytes, mode: int | None = None, path: Path | None = None) -> Payload:
        return cls(hashlib.sha256(data).hexdigest(), len(data), data=data, mode=mode, path=path)

    @classmethod
    def read(cls, path: Path, files: Files) -> Payload:
        """Return the payload of an existing file. Its contents are read again when they are sent. Raises OSError."""
        source = Source(path, files)
        digest = hashlib.sha256()
        with source.open() as stream:
            status = os.fstat(stream.fileno())
            size = status.st_size
            while block := stream.read(min(1 << 20, size)):
                digest.update(block)
                size -= len(block)
        return cls(digest.hexdigest(), status.st_size, source=source, mode=status.st_mode & 0o777, path=path)

    def contents(self) -> bytes:
        if self.data is not None:
            return self.data
        assert self.source is not None
        with self.source.open() as stream:
            return stream.read(self.size)

    @property
    def paths(self) -> tuple[Path, ...]:
        """The files that the contents were made from."""
        own = () if self.path is None or self.tree is not None else (self.path,)
        return (*own, *(path for entry in self.tree or () if entry.payload for path in entry.payload.paths))


@dataclass(frozen=True, slots=True)
class Entry:
    """A file (with ``payload``), a directory or a link (with ``target``) of a directory. ``path``: from its top."""

    path: str
    kind: Literal["file", "directory", "link"]
    payload: Payload | None = None
    target: str = ""

    @property
    def executable(self) -> bool:
        """Whether the source is a program: the only permission that version control keeps."""
        return self.payload is not None and bool((self.payload.mode or 0) & 0o100)


@dataclass(frozen=True, slots=True)
class BoundOperation:
    """An operation at its place in a recipe. ``notify``: names of handlers. ``payloads``: by field name (see the
    module). ``retries``: how often it is tried again after a failure.
    """

    operation: Operation
    mark: Mark
    title: str = ""
    notify: tuple[str, ...] = ()
    payloads: Mapping[str, Payload] = field(default_factory=dict)
    retries: int = 0

    @property
    def label(self) -> str:
        """The title in the recipe, else the title of the operation."""
        return self.title or self.operation.title()

    @property
    def claims(self) -> Mapping[str, str]:
        """What the operation requires of the host; see ``Operation.claims``."""
        return self.operation.inner.claims(self.payloads)


@dataclass(frozen=True, slots=True)
class Handler:
    """Operations that run once at the end of a stage, if an operation that notifies the handler changed something.
    Handlers run in the order of their definition.
    """

    name: str
    operations: tuple[BoundOperation, ...]


@dataclass(frozen=True, slots=True)
class Stage:
    """Operations that run on the host together, in order. Raises ValueError if a name in ``notify`` has no handler
    here, or if two handlers have the same name.
    """

    name: str
    operations: tuple[BoundOperation, ...]
    handlers: tuple[Handler, ...] = ()

    def __post_init__(self) -> None:
        known = {h.name for h in self.handlers}
        if len(known) != len(self.handlers):
            raise ValueError(f"stage {self.name}: two handlers have the same name: rename one of them")
        for bound in [*self.operations, *(o for h in self.handlers for o in h.operations)]:
            for name in bound.notify:
                if name not in known:
                    raise ValueError(f"{bound.mark}: no handler is named {name!r}")


def all_operations(stage: Stage) -> Sequence[BoundOperation]:
    """Return the operations of a stage, then those of its handlers, in the order of their numbers in events."""
    return [*stage.operations, *(o for h in stage.handlers for o in h.operations)]
