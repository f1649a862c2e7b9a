"""Profiles and controls as they are written: ``hardening/profiles/NAME.yaml`` and ``hardening/controls/FILE.yaml``, the
project's own or shipped.

A profile names the files whose controls it takes, those of its level and below that are for its system; it may extend
another one. What an id means, in which profile, and with which values, is decided here; ``hardening.py`` does it for a
recipe.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Annotated, Any, Literal

from pydantic import Field, StringConstraints, ValidationError, model_validator

from goldenami.hardening import Check, Expected
from goldenami.model import Mark
from goldenami.os import LIKENESSES, SYSTEMS
from goldenami.recipe.document import Document, NodePath
from goldenami.recipe.lookup import Found, Kind
from goldenami.recipe.problems import Problems, translate
from goldenami.recipe.project import Project
from goldenami.recipe.rendering import nearest
from goldenami.recipe.schema import OperationList
from goldenami.recipe.words import IDENTIFIER, NAME, Name, OsId, Spec

Variables = dict[Annotated[str, StringConstraints(pattern=IDENTIFIER)], Any]


class CheckSpec(Spec):
    """How a control is proven: what is read on the host, and exactly one of expected, matches, at_least, at_most and
    contains."""

    reads: str = Field(
        min_length=1,
        description="Shell code, run by root; what it prints is the value. Functions for it: docs/hardening.md.",
    )
    expected: str | int | list[str | int] | None = Field(
        None, description='What the value must be, as a whole; a list: one of these. "": nothing may be printed.'
    )
    matches: str | None = Field(None, description="A regular expression that all of the value must match.")
    at_least: int | None = Field(None, description="The value is a whole number, and no smaller.")
    at_most: int | None = Field(None, description="The value is a whole number, and no larger.")
    contains: list[str] | None = Field(None, min_length=1, description="Lines that must all be in the value.")

    @model_validator(mode="after")
    def _one(self) -> CheckSpec:
        forms = ("expected", "matches", "at_least", "at_most", "contains")
        if sum(getattr(self, form) is not None for form in forms) != 1:
            raise ValueError("exactly one of expected, matches, at_least, at_most and contains says what is right")
        if self.matches is not None:
            try:
                re.compile(self.matches)
            except re.error as error:
                raise ValueError(f"matches is no regular expression: {error}") from None
        return self

    def check(self) -> Check:
        return Check(self.reads, self._expected())

    def _expected(self) -> Expected:
        if self.matches is not None:
            return Expected("matches", (self.matches,))
        if self.at_least is not None:
            return Expected("at least", (str(self.at_least),))
        if self.at_most is not None:
            return Expected("at most", (str(self.at_most),))
        if self.contains is not None:
            return Expected("contains", tuple(self.contains))
        if isinstance(self.expected, list):
            return Expected("one of", tuple(str(value) for value in self.expected))
        return Expected("equals", (str(self.expected),))


class AppliesSpec(Spec):
    """Where a control makes sense."""

    when: str = Field(min_length=1, description="Shell code, run by root; where it fails, the control does not apply.")
    otherwise: str = Field(min_length=1, description="Why it does not apply then; stands in the manifest.")


class ControlSpec(Spec):
    """One rule: why, how, and how it is proven."""

    id: Name = Field(description="Its name, the same for ever: waivers and manifests refer to it.")
    title: str = Field(min_length=1, description="What holds, in one line.")
    why: str = Field(min_length=1, description="What it is good for, in a sentence or two.")
    level: Literal[1, 2] = Field(1, description="2: costs function or performance; only in profiles of level 2.")
    references: tuple[str, ...] = Field((), description='Sections of public benchmarks: "CIS Debian 12 5.1.20".')
    os: tuple[OsId, ...] = Field(tuple(SYSTEMS), min_length=1, description="Systems that it is for. Default: all.")
    variables: Variables = Field(
        default_factory=dict, description="Values that a site may change, with defaults; used as {{ site.NAME }}."
    )
    packages: list[str] = Field(default_factory=list, description="Packages that it needs; they are installed first.")
    operations: OperationList | dict[OsId, OperationList] = Field(
        description=f"Operations that bring it about; by system where they differ ({LIKENESSES})."
    )
    check: Annotated[list[Any], Field(min_length=1)] | dict[str, Any] = Field(
        description="How it is proven: one check, or a list."
    )
    needs: tuple[Literal["reboot"], ...] = Field((), description="reboot: it holds only after the next boot.")
    last: Literal[False, True, "of-all"] = Field(
        False, description="Whether it comes after the others, whose work it looks at; of-all: after those, too."
    )
    applies: AppliesSpec | None = Field(None, description="Where it makes sense; by default everywhere.")
    exclusive: Name | None = Field(
        None, description="A choice, such as firewall: of the controls with this word, exactly one is chosen."
    )


class ControlsSpec(Spec):
    """A file of controls."""

    variables: Variables = Field(default_factory=dict, description="Values that several of its controls use.")
    handlers: dict[str, Any] = Field(default_factory=dict, description="Operations that its operations can notify.")
    controls: list[Any] = Field(min_length=1, description="The controls, in order.")


class ProfileSpec(Spec):
    """A set of controls for a system."""

    name: Name = Field(description="Name of the profile: the file's name without .yaml.")
    title: str = Field(description="What it is, in one line.")
    os: OsId | Annotated[tuple[OsId, ...], Field(min_length=1)] = Field(
        description="The ID in /etc/os-release of the system that it is for, or a list: of systems that differ in name."
    )
    level: Literal[1, 2] = Field(description="The highest level of the controls that it takes.")
    extends: Name | None = Field(None, description="Another profile, whose controls and values it takes first.")
    files: tuple[Name, ...] = Field((), description="Files of hardening/controls, without .yaml, in order.")
    choices: tuple[Name, ...] = Field((), description="The control that is chosen of each exclusive group.")
    without: tuple[Name, ...] = Field((), description="Controls of its files that make no sense here.")
    variables: Variables = Field(default_factory=dict, description="Values of site variables for this profile.")

    @property
    def systems(self) -> tuple[OsId, ...]:
        return (self.os,) if isinstance(self.os, str) else self.os


@dataclass(frozen=True, slots=True)
class Written:
    """A control as it stands in its file; its expressions are not rendered yet."""

    id: str
    document: Document
    path: NodePath
    value: Mapping[str, Any]
    defaults: Mapping[str, Any]  # of its variables, the file's included

    @property
    def mark(self) -> Mark:
        return self.document.mark(self.path)

    @property
    def level(self) -> object:
        return self.value.get("level", 1)

    @property
    def exclusive(self) -> str | None:
        group = self.value.get("exclusive")
        return group if isinstance(group, str) else None

    def is_for(self, systems: tuple[OsId, ...]) -> bool:
        """Whether it is for one of these."""
        return any(os in self.value.get("os", (os,)) for os in systems)


@dataclass
class Profile:
    """A profile with what it extends: everything that it says of its controls."""

    name: str
    title: str
    systems: tuple[OsId, ...]
    level: int
    mark: Mark
    controls: dict[str, Written] = field(default_factory=dict)  # by id, in order; of exclusive ones the chosen
    choices: dict[str, str] = field(default_factory=dict)  # by group
    variables: dict[str, Any] = field(default_factory=dict)
    others: dict[str, Written] = field(default_factory=dict)  # exclusive ones that could be chosen

    def within(self, os: OsId) -> Profile:
        """The profile with those of its controls that are for one of its systems."""
        return replace(
            self,
            controls={id: control for id, control in self.controls.items() if control.is_for((os,))},
            others={id: control for id, control in self.others.items() if control.is_for((os,))},
        )


@dataclass
class Library:
    """The profiles and controls of the project and those that are shipped. Files are read once, and their mistakes are
    reported once.

    ``lookups``: where each profile and file of controls was found that a profile needed.
    """

    project: Project
    problems: Problems
    lookups: dict[tuple[Kind, str], Found] = field(default_factory=dict)
    _files: dict[str, dict[str, Written]] = field(default_factory=dict)

    @property
    def folder(self) -> str:
        return self.project.shown(self.project.hardening)

    def profile_names(self) -> list[str]:
        return self.project.names("profile")

    def profiles_for(self, os: OsId) -> list[str]:
        """The names of the profiles that are for a system. What is wrong in others is not told here."""
        library = Library(self.project, Problems())
        found = {name: library.profile(name, Mark(name, 0, 0)) for name in self.profile_names()}
        return [name for name, profile in found.items() if profile is not None and os in profile.systems]

    def file_names(self) -> list[str]:
        return self.project.names("controls")

    def profile(self, name: str, mark: Mark, above: tuple[str, ...] = ()) -> Profile | None:
        """The profile; None if there is none of the name, or it is wrong, and then that is reported (at ``mark``)."""
        if name in above:
            self.problems.add(mark, f"the profiles extend each other: {'→'.join((*above, name))}")
            return None
        place = self.project.find("profile", name)
        if place is None:
            near = nearest(name, self.profile_names())
            hint = f"Did you mean {near}?" if near else self.project.known("profile")
            self.problems.add(mark, f"there is no profile {name!r}", hint)
            return None
        self.lookups["profile", name] = place
        path = place.path
        document = self.project.document(path, self.problems)
        spec = self._spec(document, ProfileSpec, ()) if document is not None else None
        if document is None or spec is None:
            return None
        if spec.name != name:
            self.problems.add(document.mark(("name",)), f"name: the file is called {path.name}", f"Write {name}.")
        found = Profile(spec.name, spec.title, spec.systems, spec.level, document.mark(()))
        if spec.extends is not None:
            base = self.profile(spec.extends, document.mark(("extends",)), (*above, name))
            if base is not None:
                found.controls, found.choices = dict(base.controls), dict(base.choices)
                found.variables, found.others = dict(base.variables), dict(base.others)
        found.variables.update(spec.variables)
        self._take(found, spec, document)
        return found

    def _take(self, profile: Profile, spec: ProfileSpec, document: Document) -> None:
        """Add what the profile's own files, choices and exceptions say."""
        for index, name in enumerate(spec.files):
            at = document.mark(("files", index))
            for control in self.file(name, at).values():
                if not control.is_for(spec.systems) or control.level not in range(1, spec.level + 1):
                    continue
                target = profile.others if control.exclusive else profile.controls
                target.setdefault(control.id, control)
        for index, id in enumerate(spec.choices):
            self.choose(profile, id, document.mark(("choices", index)))
        for index, id in enumerate(spec.without):
            if profile.controls.pop(id, None) is None:
                self.unknown(id, profile, document.mark(("without", index)))
        for key in spec.variables:
            if not any(key in c.defaults for c in (*profile.controls.values(), *profile.others.values())):
                mark = document.key_mark(("variables", key))
                self.problems.add(mark, f"no control of this profile has a variable {key!r}")

    def choose(self, profile: Profile, id: str, mark: Mark) -> bool:
        """Take the control of an exclusive group, in place of the one that was chosen before."""
        control = profile.others.get(id)
        if control is None:
            if id in profile.controls:
                self.problems.add(mark, f"{id} is no choice: it is in the profile anyway", "Remove it.")
            else:
                self.unknown(id, profile, mark, choices=True)
            return False
        group = str(control.exclusive)
        profile.controls.pop(profile.choices.get(group, ""), None)
        profile.choices[group] = id
        profile.controls[id] = control
        return True

    def unknown(self, id: str, profile: Profile, mark: Mark, *, choices: bool = False) -> None:
        known = list(profile.others) if choices else list(profile.controls)
        near = nearest(id, known)
        hint = f"Did you mean {near}?" if near else None
        if hint is None and choices:
            hint = f"Choices: {', '.join(known) or 'none'}."
        if hint is None:
            hint = f"goldenami harden list {profile.name} prints them."
        self.problems.add(mark, f"{profile.name} has no {'choice' if choices else 'control'} {id!r}", hint)

    def file(self, name: str, mark: Mark) -> dict[str, Written]:
        """The controls of a file by id. A file that does not exist is reported, at ``mark``."""
        if name in self._files:
            return self._files[name]
        place = self.project.find("controls", name)
        if place is None:
            near = nearest(name, self.file_names())
            hint = f"Did you mean {near}?" if near else self.project.known("controls")
            self.problems.add(mark, f"there is no file {name}.yaml in {self.folder}/controls", hint)
            return {}
        self.lookups["controls", name] = place
        path = place.path
        found: dict[str, Written] = {}
        self._files[name] = found
        document = self.project.document(path, self.problems)
        spec = self._spec(document, ControlsSpec, ()) if document is not None else None
        if document is None or spec is None:
            return found
        for index, value in enumerate(spec.controls):
            at: NodePath = ("controls", index)
            if not isinstance(value, dict):
                self.problems.add(document.mark(at), "expected a control: a mapping with id, title, why, …")
                continue
            if self._spec(document, ControlSpec, at, "control") is None:
                continue
            id = value["id"]
            written = Written(id, document, at, value, {**spec.variables, **value.get("variables", {})})
            others = [file[id] for file in self._files.values() if id in file]
            if others:
                where = f"It is in {others[0].mark}, too."
                self.problems.add(document.mark((*at, "id")), f"two controls are called {id}", where)
                continue
            found[id] = written
        return found

    def everything(self) -> dict[str, Written]:
        """All controls by id, those in the shipped files included."""
        return self._of(self.file_names())

    def own(self) -> dict[str, Written]:
        """The controls by id in the project's own files."""
        return self._of(self.project.own_names("controls"))

    def _of(self, names: list[str]) -> dict[str, Written]:
        found: dict[str, Written] = {}
        for name in names:
            found.update(self.file(name, Mark(self.folder, 0, 0)))
        return found

    def _spec(self, document: Document, model: type[Spec], path: NodePath, what: str = "") -> Any:
        value = document.value
        for entry in path:
            value = value[entry]
        try:
            return model.model_validate(value)
        except ValidationError as error:
            self.problems.extend(translate(error, document, path, model, what=what))
            return None


__all__ = ["NAME", "CheckSpec", "ControlSpec", "ControlsSpec", "Library", "Profile", "ProfileSpec", "Written"]
