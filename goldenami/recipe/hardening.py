"""Reads the section ``hardening`` of a recipe: profiles, choices, site variables and waivers, as a Hardening.

The controls, their values and the waivers are final when the recipe is loaded. A waiver needs a reason and a last day.
An expired waiver is a problem of the recipe.
"""

from __future__ import annotations

import datetime
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from pydantic import ValidationError

from goldenami.hardening import Check, Control, Excluded, Hardening, Waiver
from goldenami.model import Mark
from goldenami.nextstep import step
from goldenami.os import SYSTEMS, serving
from goldenami.provision import BoundOperation, Handler
from goldenami.recipe import operations
from goldenami.recipe.controls import CheckSpec, ControlSpec, Library, Profile, Written
from goldenami.recipe.document import NodePath
from goldenami.recipe.lookup import Found, Kind
from goldenami.recipe.problems import Problems
from goldenami.recipe.project import Project
from goldenami.recipe.remembered import remembered
from goldenami.recipe.rendering import Namespace, Renderer, contents
from goldenami.recipe.schema import HardeningSpec, WaiverSpec
from goldenami.recipe.scope import Scope, render_tree
from goldenami.recipe.similar import nearest, suggestion
from goldenami.recipe.words import OsId

SECTION = "hardening"


def read(scope: Scope, os: OsId | None, today: datetime.date) -> Hardening:
    """Return the recipe's hardening. Problems of the recipe, the profiles and the controls are added to the scope."""
    written = scope.document.value.get(SECTION)
    if written is None:
        return Hardening()
    rendered = render_tree(scope, written, (SECTION,))
    base = scope.renderer.context.get("base")
    key = (SECTION, contents(rendered), os, base["os"] if base is not None else None, today)
    found, lookups = remembered(scope, key, lambda: _read(scope, rendered, os, today))
    scope.lookups.update(lookups)
    return found


def _read(
    scope: Scope, rendered: Any, os: OsId | None, today: datetime.date
) -> tuple[Hardening, Mapping[tuple[Kind, str], Found]]:
    """Return the hardening, and where its profiles and files of controls were found."""
    library = Library(scope.project, scope.problems)
    spec = _spec(rendered)
    return Hardening() if spec is None else _of_spec(scope, library, spec, os, today), library.lookups


def _of_spec(scope: Scope, library: Library, spec: HardeningSpec, os: OsId | None, today: datetime.date) -> Hardening:
    found = {index: _profile(library, scope, index, name, os) for index, name in enumerate(spec.profiles)}
    profiles = {index: profile for index, profile in found.items() if profile is not None}
    if not profiles:
        return Hardening()
    union = _united(scope, profiles)
    system = os if os is not None else union.systems[0]
    union = union.within(system)
    _choose(scope, library, union, spec.choices)
    waivers = _waivers(scope, library, union, spec, today)
    site = Namespace("site", _values(scope, union, spec.variables))
    waived = {waiver.control for waiver in waivers}
    controls = [bind_control(scope, c, site, system) for id, c in union.controls.items() if id not in waived]
    chosen = tuple(control for control in controls if control is not None)
    return Hardening(union.systems, tuple(spec.profiles), chosen, tuple(waivers))


def of_profile(
    project: Project, name: str, problems: Problems, *, choices: bool = False, os: OsId | None = None
) -> Hardening:
    """Return a profile without a recipe, with its own values, for ``goldenami harden``.

    ``choices``: include the controls of exclusive groups that are not chosen. ``os``: one of the profile's systems; by
    default the first.
    """
    library = Library(project, problems)
    profile = library.profile(name, Mark(name, 0, 0))
    if profile is None:
        return Hardening()
    system = os or profile.systems[0]
    profile = profile.within(system)
    site = Namespace("site", {**_defaults(profile), **profile.variables})
    controls = [
        bind_control(Scope(project, c.document, Renderer({}), problems), c, site, system)
        for c in {**profile.controls, **(profile.others if choices else {})}.values()
    ]
    return Hardening(profile.systems, (name,), tuple(c for c in controls if c is not None))


def check(project: Project, problems: Problems) -> None:
    """Check the project's own profiles and controls, including those that no recipe uses.

    Shipped ones are checked when a recipe that uses them is loaded.
    """
    library = Library(project, problems)
    for name in project.own_names("profile"):
        profile = library.profile(name, Mark(name, 0, 0))
        if profile is None:
            continue
        site = Namespace("site", {**_defaults(profile), **profile.variables})
        for os in profile.systems:
            own = profile.within(os)
            for written in (*own.controls.values(), *own.others.values()):
                bind_control(Scope(project, written.document, Renderer({}), problems), written, site, os)
    library.own_controls()


def _spec(rendered: Any) -> HardeningSpec | None:
    """Return the section without invalid waivers; None if it is invalid in another way.

    The schema of the whole recipe reports these problems. The rest is still checked, to report all problems at once.
    """
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
        hint = f"Profiles for {os}: {', '.join(names)}." if names else None
        systems = ", ".join(profile.systems)
        scope.problems.add(mark, f"the profile {name} is for {systems}, but the recipe's os is {os}", hint)
        return None
    return profile


def _united(scope: Scope, profiles: Mapping[int, Profile]) -> Profile:
    """Merge profiles into one. Different choices in one exclusive group are a problem, at the name of the second."""
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
                message = f"{profile.name} chooses {id}, but {first.name} chooses {before}: expected one {group}"
                scope.problems.add(
                    scope.document.mark((SECTION, "profiles", index)), message, "Remove one of the two profiles."
                )
        for id, control in profile.controls.items():
            if control.exclusive is None or union.choices.get(control.exclusive) == id:
                union.controls.setdefault(id, control)
        union.variables.update(profile.variables)
        union.others.update(profile.others)
    return union


def _choose(scope: Scope, library: Library, union: Profile, choices: tuple[str, ...]) -> None:
    """Apply the recipe's choices in exclusive groups, instead of the choices of the profile."""
    chosen: dict[str, str] = {}
    for index, id in enumerate(choices):
        mark = scope.document.mark((SECTION, "choices", index))
        control = union.others.get(id)
        group = control.exclusive if control is not None else None
        if group is not None and group in chosen:
            message = f"{chosen[group]} and {id} exclude each other: expected one {group}"
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
            message = f"the waiver of {id} expired on {waiver.expires.isoformat()}"
            hint = "Remove the waiver, so that the control is applied, or renew it with a later date."
            scope.problems.add(mark, message, hint)
        else:
            own = tuple(control.value.get("variables", {}))
            found.append(Waiver(id, str(control.value["title"]), waiver.reason, waiver.expires, own))
    return found


def _unknown(scope: Scope, library: Library, union: Profile, id: str, at: NodePath) -> None:
    mark = scope.document.key_mark(at)
    near = nearest(id, list(union.controls))
    if near is None and id in Library(library.project, Problems()).all_controls():
        message = f"the control {id} is not in the recipe's profiles"
        scope.problems.add(mark, message, "Remove the waiver. The control is not applied.")
        return
    hint = f"Did you mean {near}?" if near else f"{step('harden list', union.name)} prints the controls."
    scope.problems.add(mark, f"there is no control {id!r}", hint)


def _defaults(profile: Profile) -> dict[str, Any]:
    """Return the site variables of a profile's controls, with their defaults."""
    found: dict[str, Any] = {}
    for control in (*profile.controls.values(), *profile.others.values()):
        found.update(control.defaults)
    return found


def _values(scope: Scope, union: Profile, given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the site variables. The recipe's values replace those of profiles, and these replace the defaults."""
    values = {**_defaults(union), **union.variables}
    for name in given:
        if name not in values:
            hint = suggestion(name, values, f"Variables: {', '.join(sorted(values)) or 'none'}.")
            mark = scope.document.key_mark((SECTION, "variables", name))
            scope.problems.add(mark, f"no control of these profiles has a variable {name!r}", hint)
        elif type(given[name]) is not type(values[name]) and values[name] is not None:
            mark = scope.document.mark((SECTION, "variables", name))
            scope.problems.add(mark, f"{name}: expected {_kind(values[name])}, like its default {values[name]!r}")
    return {**values, **given}


def _kind(value: object) -> str:
    kinds: dict[type, str] = {bool: "true or false", int: "a whole number", str: "a string", list: "a list"}
    return kinds.get(type(value), "a mapping")


def bind_control(scope: Scope, written: Written, site: Namespace, os: OsId) -> Control | None:
    """Return a control with its expressions rendered; None after a problem with it.

    Expressions can use ``site`` (the variables), ``os``, ``package_manager`` (of that system) and, in a recipe, the
    names of the recipe's expressions except ``vars``.
    """
    site = site.advising(f"Declare it under variables: of {written.id} or of its file.")
    manager = SYSTEMS[os].manager.name
    names = {"site": site, "os": os, "package_manager": manager}
    inner = scope.within(written.document, scope.renderer.inside(names))
    base = scope.renderer.context.get("base")
    key = ("control", written.document.path, written.path, os, base["os"] if base is not None else None)
    return remembered(inner, key, lambda: _bound(inner, written, site, os))


def _bound(inner: Scope, written: Written, site: Namespace, os: OsId) -> Control | None:
    spec = ControlSpec.model_validate(written.value)
    if spec.variables:
        inner.renderer.used.add("site")  # the result has their values
    found = _operations(inner, written, spec, os)
    checks = _checks(inner, written)
    excludes = _excludes(inner, written, spec)
    applies = render_tree(inner, spec.applies.when if spec.applies else "", (*written.path, "applies", "when"))
    if found is None or checks is None or excludes is None:
        return None
    # All files of controls share one stage, so the names of their handlers get the name of the file as a prefix.
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
        site={name: site[name] for name in spec.variables if name in site},
        excludes=excludes,
        opens=_opens(inner, written, spec),
    )


def _opens(scope: Scope, written: Written, spec: ControlSpec) -> dict[str, tuple[str, ...]] | None:
    """Return the ports that a firewall opens; None for other controls, and after a problem."""
    if spec.opens is None:
        return None
    found: dict[str, tuple[str, ...]] = {}
    for protocol, given in (("tcp", spec.opens.tcp), ("udp", spec.opens.udp)):
        at: NodePath = (*written.path, "opens", protocol)
        ports = render_tree(scope, given, at)
        if not isinstance(ports, list):
            scope.problems.add(written.document.mark(at), f"{protocol}: expected a list of ports")
            return None
        found[protocol] = tuple(str(port) for port in ports)
    return found


def _excludes(scope: Scope, written: Written, spec: ControlSpec) -> tuple[Excluded, ...] | None:
    """Return the packages that cannot be used together with a control; None after a problem."""
    found: list[Excluded] = []
    for index, one in enumerate(spec.excludes):
        at: NodePath = (*written.path, "excludes", index, "packages")
        names = render_tree(scope, one.packages, at)
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            scope.problems.add(written.document.mark(at), "packages: expected a list of names of packages")
            return None
        found.append(Excluded(tuple(names), one.because, one.instead or ""))
    return tuple(found)


def _operations(
    scope: Scope, written: Written, spec: ControlSpec, os: OsId
) -> tuple[tuple[BoundOperation, ...], tuple[Handler, ...]] | None:
    """Return the control's operations for a system, after those that install its packages. None after a problem."""
    path: NodePath = (*written.path, "operations")
    items: Any = written.value["operations"]
    if isinstance(items, dict):
        family = serving(os, items)
        if family is None:
            known = f"It has operations for {', '.join(items)}. Add operations for {os}, or set os to its systems."
            scope.problems.add(written.document.mark(path), f"{written.id} has no operations for {os}", known)
            return None
        path, items = (*path, family), items[family]
    before: tuple[BoundOperation, ...] = ()
    if spec.packages:
        packages = render_tree(scope, list(spec.packages), (*written.path, "packages"))
        before = operations.packages_needed(scope, packages, written.document.mark((*written.path, "packages")))
    own, handlers = operations.read_with_handlers(scope, items, path)
    if not items:
        scope.problems.add(written.document.mark(path), f"{written.id} has no operations", "Add an operation.")
        return None
    return (*before, *own), handlers


def _checks(scope: Scope, written: Written) -> tuple[Check, ...] | None:
    """Return the control's checks; None after a problem with one."""
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
