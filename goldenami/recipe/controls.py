"""Reads profiles and controls: ``hardening/profiles/NAME.yaml`` and ``hardening/controls/FILE.yaml``, of the project or
shipped.

A profile names files of controls. It takes the controls for its system, up to its level. It may extend another profile.
This module finds the controls and values of a profile by id; ``hardening.py`` applies them to a recipe.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import Field, StringConstraints, ValidationError, model_validator

from goldenami.hardening import Check, Expected
from goldenami.model import Mark
from goldenami.nextstep import step
from goldenami.os import LIKENESSES, SYSTEMS
from goldenami.recipe.document import Document, NodePath
from goldenami.recipe.keptdocuments import keeping_controls
from goldenami.recipe.lookup import Found, Kind
from goldenami.recipe.problems import Problems, translate
from goldenami.recipe.project import Project
from goldenami.recipe.schema import OperationList
from goldenami.recipe.similar import suggestion
from goldenami.recipe.words import IDENTIFIER, NAME, Name, OsId, Spec, check_pattern

Variables = dict[Annotated[str, StringConstraints(pattern=IDENTIFIER)], Any]


class CheckSpec(Spec):
    """The check of a control: reads, and exactly one of expected, matches, at_least, at_most and contains."""

    reads: str = Field(
        min_length=1,
        description="Shell code that runs as root. Its output is the value. Functions for it: docs/hardening.md.",
    )
    expected: str | int | list[str | int] | None = Field(
        None, description='The whole value. A list: one of these. "": no output.'
    )
    matches: str | None = Field(None, description="Regular expression that the whole value matches.")
    at_least: int | None = Field(None, description="Lowest value, a whole number.")
    at_most: int | None = Field(None, description="Highest value, a whole number.")
    contains: list[str] | None = Field(None, min_length=1, description="Lines that the value must have, all of them.")

    @model_validator(mode="after")
    def _one(self) -> CheckSpec:
        forms = ("expected", "matches", "at_least", "at_most", "contains")
        if sum(getattr(self, form) is not None for form in forms) != 1:
            raise ValueError("expected exactly one of expected, matches, at_least, at_most and contains")
        if self.matches is not None:
            check_pattern("matches", self.matches)
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
    """The condition for a control to apply to a host."""

    when: str = Field(
        min_length=1, description="Shell code that runs as root. If it fails, the control does not apply."
    )
    otherwise: str = Field(min_length=1, description="Why the control does not apply then. The manifest records it.")


class ExcludesSpec(Spec):
    """Packages that cannot be used together with a control."""

    packages: list[str] | str = Field(
        description="Names of the packages: a list, or an expression that gives one. A recipe that installs one of "
        "them is refused, also by an agent."
    )
    because: str = Field(min_length=1, description="Why they cannot be used: a part of a sentence.")
    instead: str | None = Field(
        None, min_length=1, description="What to do in place of a waiver: a sentence. Default: a waiver."
    )


class OpensSpec(Spec):
    """Ports that other machines can reach. Each value is a list of numbers and ranges, or an expression for one."""

    tcp: list[str | int] | str = Field(default_factory=list, description="Ports of TCP.")
    udp: list[str | int] | str = Field(default_factory=list, description="Ports of UDP.")


class ControlSpec(Spec):
    """One control: its reason, its operations and its check."""

    id: Name = Field(description="Name of the control. Never change it, because waivers and manifests refer to it.")
    title: str = Field(min_length=1, description="What the control ensures, in one line.")
    why: str = Field(min_length=1, description="Reason for the control, in one or two sentences.")
    level: Literal[1, 2] = Field(
        1, description="2: it reduces function or performance. Only profiles of level 2 take it."
    )
    references: tuple[str, ...] = Field((), description='Sections of public benchmarks: "CIS Debian 12 5.1.20".')
    os: tuple[OsId, ...] = Field(
        tuple(SYSTEMS), min_length=1, description="Systems that the control is for. Default: all."
    )
    variables: Variables = Field(
        default_factory=dict,
        description="Values that a recipe may change, with their defaults. Use them as {{ site.NAME }}.",
    )
    packages: list[str] = Field(
        default_factory=list, description="Packages that the control needs. They are installed first."
    )
    operations: OperationList | dict[OsId, OperationList] = Field(
        description=f"Operations that apply the control: a list, or lists by system ({LIKENESSES})."
    )
    check: Annotated[list[Any], Field(min_length=1)] | dict[str, Any] = Field(
        description="Check of the control: one, or a list."
    )
    needs: tuple[Literal["reboot"], ...] = Field(
        (), description="reboot: the control is effective only after the next boot."
    )
    last: Literal[False, True, "of-all"] = Field(
        False, description="true: apply it after the other controls. of-all: apply it after those as well."
    )
    applies: AppliesSpec | None = Field(
        None, description="Condition for the control to apply. Default: it always applies."
    )
    excludes: tuple[ExcludesSpec, ...] = Field(
        (), description="Packages that cannot be used together with the control."
    )
    opens: OpensSpec | None = Field(
        None, description="For a firewall: the ports that other machines can reach. It drops packets to all others."
    )
    exclusive: Name | None = Field(
        None, description="Name of an exclusive group, such as firewall. Exactly one control of the group is chosen."
    )


class ControlsSpec(Spec):
    """A file of controls."""

    variables: Variables = Field(default_factory=dict, description="Values that several controls of the file use.")
    handlers: dict[str, Any] = Field(
        default_factory=dict, description="Operations that the operations of controls can notify."
    )
    controls: list[Any] = Field(min_length=1, description="Controls, in order.")


class ProfileSpec(Spec):
    """A set of controls for a system."""

    name: Name = Field(description="Name of the profile: the file's name without .yaml.")
    title: str = Field(description="Title of the profile, in one line.")
    os: OsId | Annotated[tuple[OsId, ...], Field(min_length=1)] = Field(
        description="System of the profile (the ID in /etc/os-release), or a list of them."
    )
    level: Literal[1, 2] = Field(description="Highest level of its controls.")
    extends: Name | None = Field(None, description="Another profile. Its controls and values are taken first.")
    files: tuple[Name, ...] = Field((), description="Files of hardening/controls, without .yaml, in order.")
    choices: tuple[Name, ...] = Field((), description="The chosen control of each exclusive group.")
    without: tuple[Name, ...] = Field((), description="Controls of its files that the profile leaves out.")
    variables: Variables = Field(default_factory=dict, description="Values of site variables for this profile.")

    @property
    def systems(self) -> tuple[OsId, ...]:
        return (self.os,) if isinstance(self.os, str) else self.os


@dataclass(frozen=True, slots=True)
class Written:
    """A control as it is written in its file. Its expressions are not rendered yet."""

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
        """Return whether the control is for one of these systems."""
        return any(os in self.value.get("os", (os,)) for os in systems)


@dataclass
class Profile:
    """A profile, merged with the profiles that it extends."""

    name: str
    title: str
    systems: tuple[OsId, ...]
    level: int
    mark: Mark
    controls: dict[str, Written] = field(
        default_factory=dict
    )  # by id, in order; of an exclusive group only the chosen one
    choices: dict[str, str] = field(default_factory=dict)  # by group
    variables: dict[str, Any] = field(default_factory=dict)
    others: dict[str, Written] = field(default_factory=dict)  # all controls of exclusive groups

    def within(self, os: OsId) -> Profile:
        """Return the profile with only the controls for one of its systems."""
        return replace(
            self,
            controls={id: control for id, control in self.controls.items() if control.is_for((os,))},
            others={id: control for id, control in self.others.items() if control.is_for((os,))},
        )


class _Kept(NamedTuple):
    """A profile without problems, all files that the library has read after it, and where its parts were found."""

    profile: Profile | None
    files: dict[str, dict[str, Written]]
    lookups: dict[tuple[Kind, str], Found]


@dataclass
class Library:
    """The profiles and controls of the project, and the shipped ones. Each file is read once, and its problems are
    reported once.

    ``lookups``: where the needed profiles and files of controls were found.
    """

    project: Project
    problems: Problems
    lookups: dict[tuple[Kind, str], Found] = field(default_factory=dict)
    _files: dict[str, dict[str, Written]] = field(default_factory=dict)
    _asked: tuple[str, ...] = ()

    @property
    def folder(self) -> str:
        return self.project.shown(self.project.hardening)

    def profile_names(self) -> list[str]:
        return self.project.names("profile")

    def profiles_for(self, os: OsId) -> list[str]:
        """Return the names of the profiles for a system. Problems in the files are not reported."""
        library = Library(self.project, Problems())
        found = {name: library.profile(name, Mark(name, 0, 0)) for name in self.profile_names()}
        return [name for name, profile in found.items() if profile is not None and os in profile.systems]

    def file_names(self) -> list[str]:
        return self.project.names("controls")

    def profile(self, name: str, mark: Mark) -> Profile | None:
        """Return a profile by name, or None if it does not exist or is wrong. The problem is reported.

        ``mark``: where a name that does not exist is reported. Nobody may change the result, because it is kept for
        other libraries of the same project, unless there was a problem.
        """
        self._asked = (*self._asked, name)  # two files with a control of the same id are reported in this order
        kept: dict[tuple[str, ...], _Kept] = self.project.kept.setdefault("profiles", {})
        if self._asked in kept:
            profile, files, lookups = kept[self._asked]
            self._files.update(files)
            self.lookups.update(lookups)
            return profile
        before, found = len(self.problems.found), Library(self.project, self.problems, _files=self._files)
        with keeping_controls(self.project):
            profile = found._profile(name, mark, ())
        self.lookups.update(found.lookups)
        if len(self.problems.found) == before:
            kept[self._asked] = _Kept(profile, dict(self._files), found.lookups)
        return profile

    def _profile(self, name: str, mark: Mark, above: tuple[str, ...]) -> Profile | None:
        """``above``: the profiles that extend this one."""
        if name in above:
            self.problems.add(mark, f"the profiles extend each other: {'→'.join((*above, name))}")
            return None
        place = self.project.find("profile", name)
        if place is None:
            hint = suggestion(name, self.profile_names(), self.project.known("profile"))
            self.problems.add(mark, f"there is no profile {name!r}", hint)
            return None
        self.lookups["profile", name] = place
        path = place.path
        document = self.project.document(path, self.problems)
        spec = self._spec(document, ProfileSpec, ()) if document is not None else None
        if document is None or spec is None:
            return None
        if spec.name != name:
            self.problems.add(
                document.mark(("name",)),
                f"name is {spec.name}, expected {name}, the name of the file",
                f"Write {name}.",
            )
        found = Profile(spec.name, spec.title, spec.systems, spec.level, document.mark(()))
        if spec.extends is not None:
            base = self._profile(spec.extends, document.mark(("extends",)), (*above, name))
            if base is not None:
                found.controls, found.choices = dict(base.controls), dict(base.choices)
                found.variables, found.others = dict(base.variables), dict(base.others)
        found.variables.update(spec.variables)
        self._take(found, spec, document)
        return found

    def _take(self, profile: Profile, spec: ProfileSpec, document: Document) -> None:
        """Add the controls of the profile's own files, and apply its choices and exceptions."""
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
                self.report_unknown(id, profile, document.mark(("without", index)))
        for key in spec.variables:
            if not any(key in c.defaults for c in (*profile.controls.values(), *profile.others.values())):
                mark = document.key_mark(("variables", key))
                self.problems.add(mark, f"no control of this profile has a variable {key!r}")

    def choose(self, profile: Profile, id: str, mark: Mark) -> bool:
        """Choose a control of an exclusive group, instead of the earlier choice. Returns whether that worked."""
        control = profile.others.get(id)
        if control is None:
            if id in profile.controls:
                self.problems.add(
                    mark, f"{id} is not in an exclusive group: the profile has it in any case", "Remove it."
                )
            else:
                self.report_unknown(id, profile, mark, choices=True)
            return False
        group = str(control.exclusive)
        profile.controls.pop(profile.choices.get(group, ""), None)
        profile.choices[group] = id
        profile.controls[id] = control
        return True

    def report_unknown(self, id: str, profile: Profile, mark: Mark, *, choices: bool = False) -> None:
        """Report that a profile has no control (or no choice) of this id."""
        known = list(profile.others) if choices else list(profile.controls)
        hint = suggestion(id, known)
        if hint is None and choices:
            hint = f"Choices: {', '.join(known) or 'none'}."
        if hint is None:
            hint = f"{step('harden list', profile.name)} prints the controls."
        self.problems.add(mark, f"{profile.name} has no {'choice' if choices else 'control'} {id!r}", hint)

    def file(self, name: str, mark: Mark) -> dict[str, Written]:
        """Return the controls of a file by id. A file that does not exist is reported at ``mark``."""
        if name in self._files:
            return self._files[name]
        place = self.project.find("controls", name)
        if place is None:
            hint = suggestion(name, self.file_names(), self.project.known("controls"))
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
                self.problems.add(
                    document.mark(at),
                    "expected a control: a mapping with the keys id, title, why, operations and check",
                )
                continue
            if self._spec(document, ControlSpec, at, "control") is None:
                continue
            id = value["id"]
            written = Written(id, document, at, value, {**spec.variables, **value.get("variables", {})})
            others = [file[id] for file in self._files.values() if id in file]
            if others:
                where = f"The other one is in {others[0].mark}. Change one of the ids."
                self.problems.add(document.mark((*at, "id")), f"two controls have the id {id}", where)
                continue
            found[id] = written
        return found

    def all_controls(self) -> dict[str, Written]:
        """Return all controls by id, including the shipped ones."""
        return self._in_files(self.file_names())

    def own_controls(self) -> dict[str, Written]:
        """Return the controls in the project's own files, by id."""
        return self._in_files(self.project.own_names("controls"))

    def _in_files(self, names: list[str]) -> dict[str, Written]:
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
