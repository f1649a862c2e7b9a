"""A recipe that is being made from a template, the files that go with it, and the notes about what differs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any, Literal

import yaml

Kind = Literal["lost", "replaced"]


@dataclass(frozen=True, slots=True)
class Note:
    """One setting of a template that the recipe does not have. ``lost``: nothing does it now. ``replaced``: goldenami
    does it in another way, or it belongs to the environment. ``line``: 0 if the note is about the whole file."""

    kind: Kind
    file: str
    line: int
    text: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line}: {self.text}" if self.line else f"{self.file}: {self.text}"


@dataclass(frozen=True, slots=True)
class Content:
    """A file that goes with a recipe."""

    contents: bytes
    executable: bool = False


@dataclass(slots=True)
class Draft:
    """A recipe to write. ``recipe``: its keys, in the order of work. ``files``: those beside it, by
    path relative to the recipe. ``environment``: what belongs into goldenami.yaml."""

    name: str
    recipe: dict[str, Any]
    source: str
    files: dict[str, Content] = field(default_factory=dict)
    environment: dict[str, Any] = field(default_factory=dict)
    notes: list[Note] = field(default_factory=list)

    def note(self, kind: Kind, file: str, line: int, text: str) -> None:
        note = Note(kind, file, line, text)
        if note not in self.notes:
            self.notes.append(note)

    @property
    def lost(self) -> list[Note]:
        """The notes about what nothing does now, in the order of the template."""
        return sorted((one for one in self.notes if one.kind == "lost"), key=lambda one: (one.file, one.line))

    @property
    def replaced(self) -> list[Note]:
        """The other notes, in the order of the template."""
        return sorted((one for one in self.notes if one.kind == "replaced"), key=lambda one: (one.file, one.line))

    def add_file(self, name: str, contents: bytes, executable: bool = False) -> str:
        """Keep a file, and return its path relative to the recipe. Another file of that name gets a number."""
        content = Content(contents, executable)
        path = PurePosixPath("files") / self.name / name
        number = 1
        while self.files.get(str(path), content) != content:
            number += 1
            path = path.with_name(f"{PurePosixPath(name).stem}-{number}{PurePosixPath(name).suffix}")
        self.files[str(path)] = content
        return str(path)

    def free_folder(self, name: str) -> str:
        """Return the path of a folder for files that has none yet, relative to the recipe."""
        folder = free = f"files/{self.name}/{name}"
        number = 1
        while any(f"{file}/".startswith(f"{free}/") for file in self.files):
            number += 1
            free = f"{folder}-{number}"
        return free

    def to_yaml(self) -> str:
        """Return the text of the recipe, which begins with what was lost."""
        head = [f"# Imported from {self.source}."]
        if self.lost:
            head += ["# Not carried over; delete these lines when you have decided about them:"]
            head += [f"#   {' '.join(str(note).split())}" for note in self.lost]
        return "\n".join(head) + "\n" + to_yaml(self.recipe)


class _Dumper(yaml.SafeDumper):
    """Writes as a person would: text of several lines as a block, lists of single words on one line, no anchors."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def _text(dumper: yaml.SafeDumper, value: str) -> yaml.ScalarNode:
    # PyYAML writes a block only if no line ends with a space.
    block = "\n" in value and not any(line.endswith((" ", "\t")) for line in value.split("\n"))
    node = dumper.represent_scalar("tag:yaml.org,2002:str", value, style="|" if block else None)
    if not block and dumper.resolve(yaml.ScalarNode, value, (True, False)) != node.tag:  # type: ignore[no-untyped-call]
        node.style = '"'  # a number, date or bool without quotes
    return node


def _list(dumper: yaml.SafeDumper, value: list[Any]) -> yaml.SequenceNode:
    short = all(not isinstance(one, dict | list) and "\n" not in str(one) for one in value)
    return dumper.represent_sequence("tag:yaml.org,2002:seq", value, flow_style=short)


_Dumper.add_representer(str, _text)
_Dumper.add_representer(list, _list)


def to_yaml(value: Mapping[str, Any]) -> str:
    """Return a document whose keys have the given order."""
    return yaml.dump(value, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=120)
