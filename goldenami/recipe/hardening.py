"""The section ``hardening`` of a recipe: profiles, choices, site variables and waivers, as a Hardening.

Everything is decided at load: which controls there are, with which values, which are waived and until when. A waiver
needs a reason and a last day, and one that has passed is a mistake like any other.
"""

from __future__ import annotations

import datetime
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from pydantic import ValidationError

from goldenami.hardening import Check, Control, Hardening, Waiver
from goldenami.model import Mark
from goldenami.os import SYSTEMS, serving
from goldenami.provision import BoundOperation, Handler
from goldenami.recipe import operations
from goldenami.recipe.controls import CheckSpec, ControlSpec, Library, Profile, Written
from goldenami.recipe.document import NodePath
from goldenami.recipe.problems import Problems
from goldenami.recipe.project import Project
from goldenami.recipe.rendering import Namespace, Renderer, nearest
from goldenami.recipe.schema import HardeningSpec, WaiverSpec
from goldenami.recipe.scope import Scope, render_tree
from goldenami.recipe.words import OsId

SECTION = "hardening"


def read(scope: Scope, os: OsId | None, today: datetime.date) -> Hardening:
    """The recipe's hardening. Problems of the recipe, of profiles and of controls go to the scope."""
    written = scope.document.value.get(SECTION)
    if written is None:
        return Hardening()
    spec = _spec(render_tree(scope, written, (SECTION,)))
    if spec is None:
        return Hardening()
    library = Library(scope.project, scope.problems, scope.lookups)
    found = {index: _profile(library, scope, index, name, os) for index, name in enumerate(spec.profiles)}
    profiles = {index: profile for index, profile in found.items() if profile is not None}
    if not profiles:
        return Hardening()
    union = _united(scope, profiles)
    system = os if os is not None else union.systems[0]
    union = union.within(system)
    _choose(scope, library, union, spec.choices)
    waivers = _waivers(scope, library, union, spec, today)
    values = _values(scope, union, spec.variables)
    waived = {waiver.control for waiver in waivers}
    controls = [bound(scope, c, values, system) for id, c in union.controls.items() if id not in waived]
    chosen = tuple(control for control in controls if control is not None)
    return Hardening(union.systems, tuple(spec.profiles), chosen, tuple(waivers))


def of_profile(
    project: Project, name: str, problems: Problems, *, choices: bool = False, os: OsId | None = None
) -> Hardening:
    """A profile by itself, with its own values: what ``goldenami harden`` shows of it. ``choices``: with the controls
    that could be chosen in place of others. ``os``: one of its systems; by default the first.
    """
    library = Library(project, problems)
    profile = library.profile(name, Mark(name, 0, 0))
    if profile is None:
        return Hardening()
    system = os or profile.systems[0]
    profile = profile.within(system)
    values = {**_defaults(profile), **profile.variables}
    controls = [
        bound(Scope(project, c.document, Renderer({}), problems), c, values, system)
        for c in {**profile.controls, **(profile.others if choices else {})}.values()
    ]
    return Hardening(profile.systems, (name,), tuple(c for c in controls if c is not None))


def check(project: Project, problems: Problems) -> None:
    """Check the project's own profiles and controls, which recipes may not use yet. Loading a recipe checks the shipped
    ones that it uses."""
    library = Library(project, problems)
    for name in project.own_names("profile"):
        profile = library.profile(name, Mark(name, 0, 0))
        if profile is None:
            continue
        values = {**_defaults(profile), **profile.variables}
        for os in profile.systems:
            own = profile.within(os)
            for written in (*own.controls.values(), *own.others.values()):
                bound(Scope(project, written.document, Renderer({}), problems), written, values, os)
    library.own()


def _spec(rendered: Any) -> HardeningSpec | None:
    """The section, without the waivers that are wrong; None if it is wrong in another way. What is wrong is told by the
    schema of the recipe as a whole; the rest is still looked at, so that every mistake is told at once."""
    if isinstance(rendered, dict) and isinstance(rendered.get("waivers"), dict):
        sound = {id: waiver for id, waiver in rendered["waivers"].items() if _is_sound(waiver)}
        rendered = {**rendered, "waivers": sound}
    try:
        return HardeningSpec.model_validate(rendered)
    except ValidationError:
        return None


def _is_sound(waiver: Any) -> bool:
    try:
        WaiverSpec.model_validate(waiver)
    except ValidationError:
        return False
    return True


def _profile(library: Library, scope: Scope, index: int, name: str, os: OsId | None) -> Profile | None:
    mark = scope.document.mark((SECTION, "profiles", index))
    profile = library.profile(name, mark)
    if profile is not None and os is not None and os not in profile.systems:
        names = library.profiles_for(os)
        hint = f"Profiles for it: {', '.join(names)}." if names else None
        systems = ", ".join(profile.systems)
        scope.problems.add(mark, f"{name} is for {systems}, and this recipe's os is {os}", hint)
        return None
    return profile


def _united(scope: Scope, profiles: Mapping[int, Profile]) -> Profile:
    """Several profiles as one. Two that choose differently of one group are a problem, where the second is named."""
    (_, first), *others = profiles.items()
    union = replace(
        first,
        controls=dict(first.controls),
        choices=dict(first.choices),
        variables=dict(first.variables),
        others=dict(first.others),
    )
    for index, profile in others:
        for group, id in profile.choices.items():
            before = union.choices.setdefault(group, id)
            if before != id:
                message = f"{profile.name} chooses {id}, and {first.name} {before}: only one {group} can be"
                scope.problems.add(scope.document.mark((SECTION, "profiles", index)), message, "Name one profile.")
        for id, control in profile.controls.items():
            if control.exclusive is None or union.choices.get(control.exclusive) == id:
                union.controls.setdefault(id, control)
        union.variables.update(profile.variables)
        union.others.update(profile.others)
    return union


def _choose(scope: Scope, library: Library, union: Profile, choices: tuple[str, ...]) -> None:
    """What the recipe chooses of exclusive groups, in place of the profile's choice."""
    chosen: dict[str, str] = {}
    for index, id in enumerate(choices):
        mark = scope.document.mark((SECTION, "choices", index))
        control = union.others.get(id)
        group = control.exclusive if control is not None else None
        if group is not None and group in chosen:
            message = f"{chosen[group]} and {id} exclude each other: only one {group} can be"
            scope.problems.add(mark, message, "Keep one of them.")
        elif library.choose(union, id, mark) and group is not None:
            chosen[group] = id


def _waivers(scope: Scope, library: Library, union: Profile, spec: HardeningSpec, today: datetime.date) -> list[Waiver]:
    found = []
    for id, waiver in spec.waivers.items():
        at: NodePath = (SECTION, "waivers", id)
        control = union.controls.get(id)
        if control is None:
            _unknown(scope, library, union, id, at)
        elif waiver.expires < today:
            mark = scope.document.mark((*at, "expires"))
            message = f"the waiver of {id} has expired on {waiver.expires.isoformat()}"
            hint = "Remove it, so that the control is applied; or decide anew, with a new date."
            scope.problems.add(mark, message, hint)
        else:
            found.append(Waiver(id, str(control.value["title"]), waiver.reason, waiver.expires))
    return found


def _unknown(scope: Scope, library: Library, union: Profile, id: str, at: NodePath) -> None:
    mark = scope.document.key_mark(at)
    near = nearest(id, list(union.controls))
    if near is None and id in Library(library.project, Problems()).everything():
        message = f"the control {id} is in none of this recipe's profiles"
        scope.problems.add(mark, message, "Remove the waiver: there is nothing to waive.")
        return
    hint = f"Did you mean {near}?" if near else f"`goldenami harden list {union.name}` prints the controls."
    scope.problems.add(mark, f"there is no control {id!r}", hint)


def _defaults(profile: Profile) -> dict[str, Any]:
    """The site variables of a profile's controls."""
    found: dict[str, Any] = {}
    for control in (*profile.controls.values(), *profile.others.values()):
        found.update(control.defaults)
    return found


def _values(scope: Scope, union: Profile, given: Mapping[str, Any]) -> dict[str, Any]:
    """The site variables: the controls' defaults, then the profiles' values, then the recipe's."""
    values = {**_defaults(union), **union.variables}
    for name in given:
        if name not in values:
            near = nearest(name, values)
            hint = f"Did you mean {near}?" if near else f"Variables: {', '.join(sorted(values)) or 'none'}."
            mark = scope.document.key_mark((SECTION, "variables", name))
            scope.problems.add(mark, f"no control of these profiles has a variable {name!r}", hint)
        elif type(given[name]) is not type(values[name]) and values[name] is not None:
            mark = scope.document.mark((SECTION, "variables", name))
            scope.problems.add(mark, f"{name}: expected {_kind(values[name])}, as its default {values[name]!r} is")
    return {**values, **given}


def _kind(value: object) -> str:
    kinds: dict[type, str] = {bool: "true or false", int: "a whole number", str: "a string", list: "a list"}
    return kinds.get(type(value), "a mapping")


def bound(scope: Scope, written: Written, values: Mapping[str, Any], os: OsId) -> Control | None:
    """A control with its expressions rendered; None after a problem with it.

    An expression sees ``site`` (the variables), ``os``, ``package_manager`` (of that system) and, in a recipe, what the
    recipe's own see.
    """
    context = {key: value for key, value in scope.renderer.context.items() if key != "vars"}
    site = Namespace("site", values, f"Declare it under variables: of {written.id} or of its file.")
    manager = SYSTEMS[os].manager.name
    inner = scope.within(written.document, Renderer({**context, "site": site, "os": os, "package_manager": manager}))
    spec = ControlSpec.model_validate(written.value)
    found = _operations(inner, written, spec, os)
    checks = _checks(inner, written)
    applies = render_tree(inner, spec.applies.when if spec.applies else "", (*written.path, "applies", "when"))
    if found is None or checks is None:
        return None
    # Files of controls share a stage; the names of their handlers must not meet.
    stem = written.document.path.stem
    return Control(
        id=spec.id,
        title=spec.title,
        why=" ".join(spec.why.split()),
        level=spec.level,
        references=spec.references,
        operations=tuple(replace(o, notify=tuple(f"{stem}/{name}" for name in o.notify)) for o in found[0]),
        handlers=tuple(replace(handler, name=f"{stem}/{handler.name}") for handler in found[1]),
        checks=checks,
        mark=written.mark,
        applies=applies,
        otherwise=spec.applies.otherwise if spec.applies else "",
        reboot="reboot" in spec.needs,
        last=spec.last,
        exclusive=spec.exclusive or "",
    )


def _operations(
    scope: Scope, written: Written, spec: ControlSpec, os: OsId
) -> tuple[tuple[BoundOperation, ...], tuple[Handler, ...]] | None:
    """Its operations for a system, those that install its packages first. None after a problem: there are none."""
    path: NodePath = (*written.path, "operations")
    items: Any = written.value["operations"]
    if isinstance(items, dict):
        family = serving(os, items)
        if family is None:
            known = f"It knows {', '.join(items)}; os: says for which systems it is."
            scope.problems.add(written.document.mark(path), f"{written.id} has no operations for {os}", known)
            return None
        path, items = (*path, family), items[family]
    before: tuple[BoundOperation, ...] = ()
    if spec.packages:
        packages = render_tree(scope, list(spec.packages), (*written.path, "packages"))
        before = operations.packages_needed(scope, packages, written.document.mark((*written.path, "packages")))
    own, handlers = operations.read_with_handlers(scope, items, path)
    if not items:
        scope.problems.add(written.document.mark(path), f"{written.id} has no operations", "A control does something.")
        return None
    return (*before, *own), handlers


def _checks(scope: Scope, written: Written) -> tuple[Check, ...] | None:
    """Its checks; None after a problem with one."""
    value = written.value["check"]
    listed = isinstance(value, list)
    found: list[Check] = []
    whole = True
    for index, item in enumerate(value if listed else [value]):
        at: NodePath = (*written.path, "check", index) if listed else (*written.path, "check")
        try:
            found.append(CheckSpec.model_validate(render_tree(scope, item, at)).check())
        except ValidationError as error:
            scope.reject(error, at, CheckSpec, "check")
            whole = False
    return tuple(found) if whole else None
