"""The facts of the site, from the catalog alone."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

from goldenami.each import Failures
from goldenami.evidence.packages import SYSTEM_TYPES, Inventory
from goldenami.model import Architecture, Environment, ImageManifest
from goldenami.release import export as exports
from goldenami.release.catalog import Catalog
from goldenami.release.catalogfiles import Channel
from goldenami.release.comparison import Comparison, compare
from goldenami.release.history import HistoryEvent, history_of
from goldenami.release.listing import Filter, ListedRelease, list_releases
from goldenami.release.retention import Lifetime, Rules, lifetime
from goldenami.release.versions import Reference
from goldenami.site.fleet import Used
from goldenami.site.scan import Scanned

NEWEST: Final = 5  # releases of a name whose bills of materials can be compared, beside those in channels
_SNIPPETS: Final = {
    "terraform": "Terraform",
    "cloudformation": "CloudFormation",
    "cdk": "CDK",
    "karpenter": "Karpenter",
    "packer": "Packer",
    "env": "AWS CLI and shells",
}


@dataclass(frozen=True, slots=True)
class Snippet:
    """A snippet that uses the images of a channel. ``title``: what it is for."""

    title: str
    text: str


@dataclass(frozen=True, slots=True)
class ReleaseFacts:
    """One release. ``changes``: what differs from the release before; None for the first one. ``parents`` and
    ``children``: labels of releases. ``lifetime``: None if the project has no rules for it. ``timeline``: the build as
    an SVG, if its journal is here."""

    manifest: ImageManifest
    marks: ListedRelease
    previous: str | None
    changes: Comparison | None
    parents: tuple[str, ...]
    children: tuple[str, ...]
    used: Used | None
    lifetime: Lifetime | None = None
    timeline: str | None = None

    @property
    def size_gib(self) -> int:
        """The size of the volumes of one image."""
        return max((sum(s.volume_size_gib for s in image.snapshots) for image in self.manifest.images), default=0)

    @property
    def packages(self) -> int:
        return max(map(len, self.manifest.packages.values()), default=0)


@dataclass(frozen=True, slots=True)
class NameFacts:
    """One recipe. ``releases`` and ``history``: newest first. ``lineage``: its snapshots as an SVG, if there is a
    report of them."""

    name: str
    description: str
    owner: str
    channels: tuple[Channel, ...]
    marks: Mapping[str, ListedRelease]
    releases: tuple[str, ...]
    history: tuple[HistoryEvent, ...]
    snippets: Mapping[str, tuple[Snippet, ...]]  # by channel
    lifetimes: Mapping[str, Lifetime]  # by version; empty without rules
    lineage: str | None = None


@dataclass(frozen=True, slots=True)
class Site:
    """The whole catalog. ``made``: the time of the facts. ``accounts``: their names in the environment, by id.
    ``failures``: what could not be read."""

    title: str
    environment: Environment
    catalog: Catalog
    made: datetime
    names: tuple[NameFacts, ...]
    accounts: Mapping[str, str]
    children: Mapping[str, tuple[str, ...]]
    used: Mapping[str, Used]
    timelines: Mapping[str, str]
    scan: Scanned | None = None
    failures: Failures[str] = field(default_factory=Failures)

    def channel_names(self) -> list[str]:
        """Return all channels, those that most recipes have first."""
        count: dict[str, int] = {}
        for name in self.names:
            for channel in name.channels:
                count[channel.channel] = count.get(channel.channel, 0) + 1
        return sorted(count, key=lambda one: (-count[one], one))

    def read(self, name: NameFacts) -> Iterator[ReleaseFacts]:
        """Read the releases of a recipe from the catalog, oldest first. One that cannot be read is left out, and is in
        ``failures``."""
        previous: ImageManifest | None = None
        for version in reversed(name.releases):
            manifest = None
            with self.failures.of(f"{name.name} {version}"):
                manifest = self.catalog.get(name.name, version)
            if manifest is None:
                continue
            parents = {base.release for base in manifest.base.values() if base.release is not None}
            yield ReleaseFacts(
                manifest,
                name.marks[version],
                previous.version if previous is not None else None,
                compare(previous, manifest) if previous is not None else None,
                tuple(sorted(parents)),
                self.children.get(manifest.label, ()),
                self.used.get(manifest.label),
                name.lifetimes.get(version),
                self.timelines.get(manifest.label),
            )
            previous = manifest


def gather(
    catalog: Catalog,
    environment: Environment,
    made: datetime,
    *,
    title: str,
    used: Mapping[str, Used] | None = None,
    timelines: Mapping[str, str] | None = None,
    scan: Scanned | None = None,
    rules: Mapping[str, Rules] | None = None,
    lineages: Mapping[str, str] | None = None,
) -> Site:
    """Read what every page needs. The manifests are read later, by :meth:`Site.read`.

    ``used``: instances by label, of a report of the fleet. ``timelines``: SVG documents of builds, by label.
    ``scan``: a report of vulnerabilities. ``rules``: how long releases are kept, by recipe. ``lineages``: SVG documents
    of the snapshots, by recipe.
    """
    view = catalog.indexed()
    listed: dict[str, dict[str, ListedRelease]] = {}
    children: dict[str, set[str]] = {}
    for one in list_releases(view, Filter()):
        listed.setdefault(one.entry.name, {})[one.entry.version] = one
        for parent in one.entry.parents:
            children.setdefault(parent, set()).add(one.entry.label)
    failures = Failures[str]()
    names = tuple(
        _name(view, environment, name, marks, failures, (rules or {}).get(name), (lineages or {}).get(name))
        for name, marks in sorted(listed.items())
    )
    accounts = {account.id: account.name for account in environment.accounts.values()}
    return Site(
        title,
        environment,
        view,
        made,
        names,
        accounts,
        {parent: tuple(sorted(every)) for parent, every in children.items()},
        used or {},
        timelines or {},
        scan,
        failures=failures,
    )


def _name(
    view: Catalog,
    environment: Environment,
    name: str,
    marks: Mapping[str, ListedRelease],
    failures: Failures[str],
    rules: Rules | None,
    lineage: str | None,
) -> NameFacts:
    versions = tuple(one for one in view.versions(name) if one in marks)
    channels = tuple(sorted(view.channels(name), key=lambda one: one.channel))
    snippets = {
        channel.channel: tuple(_snippets(view, environment, name, channel, failures))
        for channel in channels
        if channel.unusable is None
    }
    newest = None
    with failures.of(f"{name} {versions[0]}"):
        newest = view.get(name, versions[0])
    return NameFacts(
        name,
        newest.description if newest is not None else "",
        newest.owner if newest is not None else "",
        channels,
        marks,
        versions,
        tuple(reversed(history_of(view, Reference.parse(name)))),
        snippets,
        _lifetimes(marks, channels, rules) if rules is not None else {},
        lineage,
    )


def _lifetimes(marks: Mapping[str, ListedRelease], channels: Collection[Channel], rules: Rules) -> dict[str, Lifetime]:
    pointed: dict[str, set[str]] = {}
    for channel in channels:
        for move in channel.history:
            pointed.setdefault(move.version, set()).add(channel.channel)
    return {
        version: lifetime(datetime.fromisoformat(one.entry.created), pointed.get(version, ()), rules)
        for version, one in marks.items()
        if one.retired is None
    }


def _snippets(
    view: Catalog, environment: Environment, name: str, channel: Channel, failures: Failures[str]
) -> Iterator[Snippet]:
    """Return snippets for the home account."""
    reference = Reference.parse(f"{name}@{channel.channel}")
    with failures.of(f"snippets of {reference}"):
        facts = exports.gather(view, environment, reference, environment.home_place.account)
        for form, title in _SNIPPETS.items():
            yield Snippet(title, exports.FORMATS[form](facts))


def data_of(manifest: ImageManifest, inventories: Mapping[Architecture, Inventory]) -> dict[str, Any]:
    """Return what the comparison of any two releases needs, as small JSON. ``components``: what the package manager of
    the system does not know, of the images whose inventories are given."""
    return {
        "version": manifest.version,
        "created": manifest.created,
        "packages": {
            architecture: {
                f"{p.name}:{p.architecture}" if p.architecture != "all" else p.name: p.version for p in every
            }
            for architecture, every in manifest.packages.items()
        },
        "components": {architecture: _components(one) for architecture, one in inventories.items()},
        "base": {architecture: f"{base.image_id} {base.name}" for architecture, base in manifest.base.items()},
        "inputs": {label: value[:12] for label, value in manifest.inputs.items()},
        "variables": {name: str(value) for name, value in manifest.variables.items()},
    }


def _components(inventory: Inventory) -> dict[str, str]:
    """Return the versions of each component: a module of npm is often there in several."""
    found: dict[str, set[str]] = {}
    for one in inventory.components:
        if one.type not in SYSTEM_TYPES:
            name = f"{one.group}:{one.name}" if one.group else one.name
            found.setdefault(f"{one.type} {name}", set()).add(one.version)
    return {name: ", ".join(sorted(versions)) for name, versions in found.items()}
