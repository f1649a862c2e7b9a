"""What differs between two releases: packages, base images, inputs, tests, controls, variables and places; and of their
hosts files, services, users, ports and kernel settings.

Everything is read from the manifests and from the states of the images (``evidence.state``). A release whose manifest
was rebuilt from the cloud has no packages and tests; then they are unknown, and not "the same".
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from goldenami.evidence.state import ChangedFile, State, changed_files
from goldenami.model import Architecture, ImageManifest, Package, TestReport
from goldenami.updates.versions import ORDERS

Change = Literal["added", "removed", "upgraded", "downgraded", "changed"]


@dataclass(frozen=True, slots=True)
class ChangedPackage:
    """A package of which one release has other versions than the other. ``before`` and ``after``: its versions, mostly
    one; empty if it is not installed. ``advisories``: of the updates that the builds in between installed."""

    name: str
    change: Change
    before: tuple[str, ...]
    after: tuple[str, ...]
    advisories: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Changed:
    """A named thing that differs. ``before`` and ``after``: as text; None if that release has no such thing."""

    what: str
    before: str | None
    after: str | None


@dataclass(frozen=True, slots=True)
class Comparison:
    """What differs from ``before`` to ``after``. ``packages`` has the architectures that both have.

    ``inputs``: what the digest of the plan covers, by label, with the first characters of its hash. ``services`` to
    ``measures``: of the hosts, as their builders had them before the capture. ``measures``: the size of the disk, the
    number of files and the time of the boot. ``files`` has the architectures whose states are known as a whole in both.
    ``unknown``: why a part could not be compared.
    """

    before: ImageManifest
    after: ImageManifest
    packages: Mapping[Architecture, tuple[ChangedPackage, ...]]
    bases: tuple[Changed, ...]
    inputs: tuple[Changed, ...]
    variables: tuple[Changed, ...]
    tests: tuple[Changed, ...]
    controls: tuple[Changed, ...]
    images: tuple[Changed, ...]
    services: tuple[Changed, ...] = ()
    users: tuple[Changed, ...] = ()
    ports: tuple[Changed, ...] = ()
    sysctls: tuple[Changed, ...] = ()
    measures: tuple[Changed, ...] = ()
    files: Mapping[Architecture, tuple[ChangedFile, ...]] = field(default_factory=dict)
    unknown: tuple[str, ...] = ()

    @property
    def same(self) -> bool:
        """Whether nothing differs, as far as the manifests and states tell. Measures differ at each build."""
        parts = (self.bases, self.inputs, self.variables, self.tests, self.controls, self.images)
        of_hosts = (self.services, self.users, self.ports, self.sysctls, *self.files.values())
        return not any(parts) and not any(of_hosts) and not any(self.packages.values())


States = Mapping[Architecture, State]


def compare(
    before: ImageManifest,
    after: ImageManifest,
    between: Iterable[ImageManifest] = (),
    states: tuple[States, States] = ({}, {}),
) -> Comparison:
    """Return what differs between two releases, of one recipe or of two.

    ``between``: other releases that were built after ``before`` and until ``after``; the advisories of the updates that
    they installed are named too. ``states``: of the images of both, as far as they are known.
    """
    builds = [*between, after]
    unknown = tuple(
        f"the packages and tests of {one.label} are unknown: its manifest was rebuilt from the cloud"
        for one in (before, after)
        if one.restored is not None
    )
    known = not unknown
    cut = {a: one.label for one, of in ((before, states[0]), (after, states[1])) for a in of if not of[a].complete}
    for architecture, label in sorted(cut.items()):
        unknown = (
            *unknown,
            f"the files, services, users and ports of {architecture} are unknown: the state of {label} is not complete",
        )
    both = sorted((states[0].keys() & states[1].keys()) - cut.keys())
    for architecture in sorted((set(before.packages) & set(after.packages)) - set(both) - cut.keys()) if known else ():
        unknown = (
            *unknown,
            f"the files, services, users and ports of {architecture} are unknown: a release has no state of its images",
        )

    def of_hosts(part: str) -> tuple[Changed, ...]:
        return _changed(_of_hosts(states[0], both, part), _of_hosts(states[1], both, part))

    return Comparison(
        before,
        after,
        {
            a: _packages(before.packages[a], after.packages[a], _order(a, after, before), _advisories(a, builds))
            for a in (sorted(set(before.packages) & set(after.packages)) if known else ())
        },
        _changed(_bases(before), _bases(after)),
        _changed(_hashes(before), _hashes(after)) if known else (),
        _changed(_texts(before.variables), _texts(after.variables)),
        _changed(_tests(before), _tests(after)) if known else (),
        _changed(_controls(before), _controls(after)) if known else (),
        _changed(_images(before), _images(after)),
        of_hosts("services"),
        of_hosts("users"),
        of_hosts("ports"),
        of_hosts("sysctls"),
        _changed(_measures(before, states[0], both), _measures(after, states[1], both)),
        {a: changed_files(states[0][a], states[1][a]) for a in both},
        unknown,
    )


def releases_between(versions: Sequence[str], before: str, after: str) -> Sequence[str]:
    """Return the versions after one release and before another one. ``versions``: of a recipe, highest first. Empty if
    one of them is not in the list."""
    if before not in versions or after not in versions:
        return ()
    return versions[versions.index(after) + 1 : versions.index(before)]


# --- packages ---------------------------------------------------------------------------------------------------------


def _packages(
    before: Sequence[Package],
    after: Sequence[Package],
    order: Callable[[str], Any] | None,
    advisories: Mapping[str, Sequence[str]],
) -> tuple[ChangedPackage, ...]:
    # Nearly all packages are the same, so only the others are gathered by name: a site compares thousands of releases.
    differ = {(one.name, one.version) for one in before} ^ {(one.name, one.version) for one in after}
    names = {name for name, _ in differ}
    old, new = _versions(before, names), _versions(after, names)
    return tuple(
        ChangedPackage(
            name,
            _change(old.get(name, ()), new.get(name, ()), order),
            old.get(name, ()),
            new.get(name, ()),
            tuple(advisories.get(name, ())),
        )
        for name in sorted(names)
    )


def _versions(packages: Sequence[Package], names: Collection[str]) -> dict[str, tuple[str, ...]]:
    """Return the versions of each of these names. Kernels are installed in several; packages of two architectures in
    one."""
    found: dict[str, set[str]] = {}
    for one in packages:
        if one.name in names:
            found.setdefault(one.name, set()).add(one.version)
    return {name: tuple(sorted(versions)) for name, versions in found.items()}


def _change(before: tuple[str, ...], after: tuple[str, ...], order: Callable[[str], Any] | None) -> Change:
    if not before:
        return "added"
    if not after:
        return "removed"
    if order is None:
        return "changed"
    old, new = max(map(order, before)), max(map(order, after))
    return "upgraded" if old < new else "downgraded" if new < old else "changed"


def _order(architecture: Architecture, *manifests: ImageManifest) -> Callable[[str], Any] | None:
    """Return the order of versions of the package manager that a manifest names; None if none of them does."""
    for one in manifests:
        if architecture in one.sources:
            return ORDERS.get(one.sources[architecture].manager)
    return None


def _advisories(architecture: Architecture, builds: Iterable[ImageManifest]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for build in builds:
        for update in build.updates.get(architecture, ()):
            known = found.setdefault(update.name, [])
            known += [one for one in update.advisories if one not in known]
    return found


# --- the rest ---------------------------------------------------------------------------------------------------------


def _changed(before: Mapping[str, str], after: Mapping[str, str]) -> tuple[Changed, ...]:
    return tuple(
        Changed(what, before.get(what), after.get(what))
        for what in sorted(before.keys() | after.keys())
        if before.get(what) != after.get(what)
    )


def _bases(manifest: ImageManifest) -> dict[str, str]:
    return {a: f"{base.release or base.name} ({base.image_id})" for a, base in manifest.base.items()}


def _hashes(manifest: ImageManifest) -> dict[str, str]:
    return {label: digest[:12] for label, digest in manifest.inputs.items()}


def _texts(variables: Mapping[str, Any]) -> dict[str, str]:
    return {name: str(value) for name, value in variables.items()}


def _tests(manifest: ImageManifest) -> dict[str, str]:
    return {f"{one.gate} {one.architecture}": _numbers(one) for one in manifest.tests}


def _numbers(report: TestReport) -> str:
    numbers = {"passed": report.passed, "flaky": report.flaky, "failed": report.failed, "skipped": report.skipped}
    counts = ", ".join(f"{number} {what}" for what, number in numbers.items() if number)
    return counts + (f", of which {report.not_executed} not executed" if report.not_executed else "")


def _controls(manifest: ImageManifest) -> dict[str, str]:
    """The outcome of each control, at the last gate that has it."""
    return {
        f"{control.control} {one.architecture}": control.outcome + (f" until {control.until}" if control.until else "")
        for one in manifest.tests
        for control in one.controls
    }


def _images(manifest: ImageManifest) -> dict[str, str]:
    """The places of the images. Their ids always differ."""
    return {f"{one.account}/{one.region} {one.architecture}": one.mode for one in manifest.images}


def _of_hosts(states: States, architectures: Iterable[Architecture], part: str) -> dict[str, str]:
    """The users have the groups with them."""
    found: dict[str, str] = {}
    for architecture in architectures:
        state = states[architecture]
        found |= {f"{name} {architecture}": value for name, value in getattr(state, part).items()}
        if part == "users":
            found |= {f"group {name} {architecture}": value for name, value in state.groups.items()}
    return found


def _measures(manifest: ImageManifest, states: States, architectures: Iterable[Architecture]) -> dict[str, str]:
    found: dict[str, str] = {}
    for architecture in architectures:
        state = states[architecture]
        found[f"used disk {architecture}"] = f"{state.used / (1 << 20):.0f} MiB"
        found[f"files {architecture}"] = str(len(state.files))
    for report in manifest.tests:
        measured = report.facts.get("performance")
        boot = measured.get("boot_seconds") if isinstance(measured, Mapping) else None
        if report.gate == "image" and not report.place and isinstance(boot, (int, float)):
            found[f"boot time {report.architecture}"] = f"{boot:.1f} s"
    for image in manifest.images:
        sizes = [f"{one.volume_size_gib} GiB" for one in image.snapshots]
        found.setdefault(f"volumes {image.architecture}", ", ".join(sizes))
    return found
