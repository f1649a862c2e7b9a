"""Finds controls that undo what the recipe's own software and agents do.

Hardening runs after ``software``. So a control that removes a package of the recipe would win, and the image would be
released without it. Only contradictions that the recipe itself shows are found here, such as one package that is both
installed and removed, or a package that the control excludes. After the hardening a builder checks all of ``agents``
and ``software`` again (``provision.Recheck``), which finds the others.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from goldenami.hardening import Control, Excluded
from goldenami.model import Mark
from goldenami.provision import BoundOperation, Stage
from goldenami.provision.demands import NOW
from goldenami.provision.mounts import Mount
from goldenami.provision.operation import Payload, all_operations
from goldenami.recipe.problems import Problems
from goldenami.recipe.secrets import display

_FILES = frozenset(("file", "template", "tree", "link"))
"""The kinds that bring a unit only by its path."""
_STARTS_PROGRAMS = frozenset(("ansible", "command", "dropin", "script", "service", "unit"))
_READ_BYTES = 1 << 16  # of a larger file nobody knows here what it does


@dataclass(frozen=True, slots=True)
class Claim:
    """What an operation requires of the host. ``control``: that of the operation, if it is one of a control."""

    value: str
    bound: BoundOperation
    control: Control | None = None


@dataclass(frozen=True, slots=True)
class Forced:
    """What controls make of a host: their claims, and the packages that they exclude, both by name."""

    claims: Mapping[str, Claim]
    excluded: Mapping[str, tuple[Control, Excluded]]


def forced_by(controls: Iterable[Control]) -> Forced:
    """Return what controls make of a host. A control is left out if it never applies. One whose ``applies`` only the
    host can answer is not: it applies on most hosts.
    """
    applied = [control for control in controls if control.applies != "false"]
    claims = _claims((bound, control) for control in applied for bound in control.operations)
    excluded = {name: (c, one) for c in reversed(applied) for one in c.excludes for name in one.packages}
    return Forced(claims, excluded)


def check_conflicts(problems: Problems, software: Sequence[Stage], forced: Forced, *, from_recipe: bool) -> None:
    """Report each operation of ``software`` that a control undoes or excludes, with the place of both.

    ``from_recipe``: whether the base is the image of another recipe, which can have brought a unit.
    """
    by_package = not from_recipe and not any(
        _can_bring_unit(one) for stage in software for one in all_operations(stage)
    )
    wanted = _claims((bound, None) for stage in software for bound in stage.operations)
    found: dict[tuple[Mark, str], list[tuple[str, Claim, Claim]]] = {}
    for name, claim in wanted.items():
        other = forced.claims.get(name)
        if other is not None and other.value != claim.value and other.control is not None:
            found.setdefault((claim.bound.mark, other.control.id), []).append((name, claim, other))
    for group in found.values():
        _report(problems, group)
    for name, claim in wanted.items():
        package = _package(name, claim, wanted, by_package)
        if package in forced.excluded and (claim.bound.mark, forced.excluded[package][0].id) not in found:
            _report_excluded(problems, claim, package, *forced.excluded[package])
        elif name != f"package {package}":
            _report_removed(problems, claim, package, forced.claims.get(f"package {package}"))


def check_base(
    problems: Problems, software: Sequence[Stage], bases: Callable[[], Iterable[tuple[str, Forced]]]
) -> None:
    """Report each operation of ``software`` that cannot be done on the base as its own hardening left it.

    ``bases``: the recipes that the base comes from, with what their controls make of a host; it is called if an
    operation depends on that.
    """
    done: list[BoundOperation] = []
    now: list[tuple[BoundOperation, list[str], int]] = []  # with the number of operations before it
    for stage in software:
        for one in stage.operations:
            if one.operation.inner.kind == "command" and (names := _now(one)):  # only these claim something now
                now.append((one, names, len(done)))
            done.append(one)
        done += [one for handler in stage.handlers for one in handler.operations]
    if not now:
        return
    for base, forced in bases():
        for one, names, before in now:
            for folder in names:
                other = forced.claims.get(f"programs in {folder}")
                if other is None or other.control is None or _made_executable(done[:before], folder, names):
                    continue
                message = (
                    f"{one.label}: no program starts in {folder} of the base: the control {other.control.id} "
                    f"({other.bound.mark}) of {base} mounts it noexec"
                )
                hint = "Use another directory, such as /opt, or start the program with its interpreter. Or, in"
                problems.add_once(one.mark, message, f"{hint} {base}: {_hint(other.control, '')}")


def check_ssh_port(problems: Problems, controls: Iterable[Control], port: int, mark: Mark) -> None:
    """Report that a firewall closes the port of the SSH server: the image could not be reached at gate 2. ``mark``: the
    place that says which port it is.
    """
    for control in controls:
        # Where a control does not apply, nothing closes the port. Only the host knows whether it does.
        if control.opens is None or control.applies or _is_open(port, control.opens["tcp"]):
            continue
        names = [name for name, value in control.site.items() if value == list(control.opens["tcp"])]
        what = f"the control {control.id} ({control.mark}) drops the packets to port {port}/tcp"
        instead = f"Add {port} to the variable {names[0]} under hardening.variables." if names else ""
        problems.add_once(mark, f"the SSH server of the image: {what}", _hint(control, instead))


def _is_open(port: int, opens: Sequence[str]) -> bool:
    """Return whether a port is in one of the ranges that are open. A name of a service may be any port."""
    for one in opens:
        low, _, high = one.partition("-")
        if not low.isdecimal() or not (high or low).isdecimal() or int(low) <= port <= int(high or low):
            return True
    return False


def _can_bring_unit(bound: BoundOperation) -> bool:
    """Return whether an operation can bring a unit of any name: by a package, a program, or a file."""
    kind = bound.operation.inner.kind
    if kind == "package":
        return "present" in bound.claims.values()
    if kind in _FILES:
        paths = (f"{name}/" for name, value in bound.claims.items() if value != "absent")
        return any("/systemd/" in path or "/init.d/" in path for path in paths)
    return bound.operation.inner.brings_units


def _made_executable(before: Iterable[BoundOperation], folder: str, names: Iterable[str]) -> bool:
    """Return whether one of the operations before a program can be the reason why it starts, though ``folder`` of the
    base is mounted noexec. ``names``: the directories above the program.
    """
    places = {name for name in names if f"{name}/".startswith(f"{folder}/")}
    return any(_mounts_with_programs(one, places) or _links_away(one, folder) or _may_mount(one) for one in before)


def _mounts_with_programs(bound: BoundOperation, places: Iterable[str]) -> bool:
    mount = bound.operation.inner
    if not isinstance(mount, Mount) or mount.path not in places or "noexec" in mount.options:
        return False
    # Without a source, the options are added to those that the mount has.
    return mount.state == "absent" or mount.source is not None or not {"exec", "defaults"}.isdisjoint(mount.options)


def _links_away(bound: BoundOperation, folder: str) -> bool:
    return any(name.startswith(f"{folder}/") and value.startswith("a link") for name, value in bound.claims.items())


def _may_mount(bound: BoundOperation) -> bool:
    """Return whether an operation can change mounts in a way of its own: with a program, or by an edit of fstab."""
    operation = bound.operation.inner
    if operation.code_digest or operation.kind == "ansible":
        return True
    text = str(operation)
    if operation.kind not in _STARTS_PROGRAMS:
        return "fstab" in text
    return "fstab" in text or "mount" in text or any(_says_mount(payload) for payload in bound.payloads.values())


def _says_mount(payload: Payload) -> bool:
    return any(one.size > _READ_BYTES or b"mount" in one.contents() for one in _files(payload))


def _files(payload: Payload) -> Iterator[Payload]:
    if payload.tree is None:
        yield payload
    for entry in payload.tree or ():
        if entry.payload is not None:
            yield entry.payload


def _now(bound: BoundOperation) -> list[str]:
    """Return the directories in which an operation starts programs during the build."""
    return [name.removeprefix(NOW) for name in bound.claims if name.startswith(NOW)]


def _claims(operations: Iterable[tuple[BoundOperation, Control | None]]) -> dict[str, Claim]:
    """Return the claims by name. A later operation replaces the claim of an earlier one, as it does on the host."""
    return {name: Claim(value, bound, control) for bound, control in operations for name, value in bound.claims.items()}


def _package(name: str, claim: Claim, wanted: Mapping[str, Claim], by_package: bool) -> str:
    """Return the package that a claim needs; "" for none. A unit that runs needs the package of its name, unless the
    recipe says itself what is with the package. ``by_package``: whether nothing else can bring the unit.
    """
    kind, _, rest = name.partition(" ")
    if kind == "package" and claim.value == "present":
        return rest
    if not by_package or not kind.endswith(".service") or rest != "enabled" or claim.value != "yes":
        return ""
    package = kind.removesuffix(".service")
    return "" if f"package {package}" in wanted else package


def _report(problems: Problems, group: list[tuple[str, Claim, Claim]]) -> None:
    _, claim, other = group[0]
    control = other.control
    assert control is not None
    what = "; ".join(_difference(name, claim.value, other.value) for name, claim, other in group)
    message = f"{claim.bound.label}: the control {control.id} ({other.bound.mark}) undoes it ({what})"
    names = [name.partition(" ")[2] for name, _, _ in group]
    problems.add_once(claim.bound.mark, message, _hint(control, _narrower(control, names)))


def _report_removed(problems: Problems, claim: Claim, package: str, other: Claim | None) -> None:
    """Report that a control removes the package of a unit. ``other``: the claim on the package, if there is one."""
    if other is None or other.value != "absent" or other.control is None:
        return
    message = f"{claim.bound.label}: the control {other.control.id} ({other.bound.mark}) removes the package {package}"
    problems.add_once(claim.bound.mark, message, _hint(other.control, _narrower(other.control, [package])))


def _report_excluded(problems: Problems, claim: Claim, package: str, control: Control, excluded: Excluded) -> None:
    message = f"{claim.bound.label}: the control {control.id} ({control.mark}) excludes {package}: {excluded.because}"
    problems.add_once(claim.bound.mark, message, _hint(control, excluded.instead))


def _hint(control: Control, instead: str) -> str:
    """Return what to do about a conflict. ``instead``: a sentence about what is narrower than a waiver, or ""."""
    waiver = f'{control.id}: {{reason: "…", expires: YYYY-MM-DD}}'
    hint = f"Add `{waiver}` under hardening.waivers, or remove the operation."
    return f"{instead} Or: {hint[0].lower()}{hint[1:]}" if instead else hint


def _narrower(control: Control, names: list[str]) -> str:
    """Return what to do in place of a waiver, if a site variable of the control is a list with all of these names."""
    for variable, value in control.site.items():
        if isinstance(value, list) and all(name in value for name in names):
            return f"Set the variable {variable} under hardening.variables without it."
    return ""


def _difference(name: str, here: str, there: str) -> str:
    if here.startswith("contents ") and there.startswith("contents "):
        return f"{name}: other contents there"  # the claims have digests, which nobody can read
    return f"{name}: {_shown(here)} here, {_shown(there)} there"


def _shown(value: str) -> str:
    return "contents" if value.startswith("contents ") else display(value)
