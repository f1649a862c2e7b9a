"""Completes a plan with what has happened since the last release: updates of its packages, and its age.

The digest of a plan covers its inputs. If a release has the same inputs, this module asks the repositories of that
release what the package manager would install now (``goldenami.updates``). An update that is due becomes an input, so
that the digest differs and a build is made. Without one, the plan gets the digest of the release.

An update that was due when the release was built, and that the build did not install, was kept back by the package
manager, for example because of a dependency. It is tried again after a week, not every night.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

from goldenami import planning
from goldenami.errors import CatalogError
from goldenami.model import Architecture, BaseImage, ImageManifest, PackageUpdate
from goldenami.planning import BuildPlan, Freshness
from goldenami.recipe.words import seconds
from goldenami.release.catalog import Catalog
from goldenami.release.marks import Same

if TYPE_CHECKING:  # the first build of a recipe looks for no updates
    from goldenami.updates.fetch import Memory
    from goldenami.updates.lookup import Found

_TRIED_AGAIN: Final = timedelta(days=7)
_SHOWN = 3  # updates in the sentence of a reason


def complete(plan: BuildPlan, catalog: Catalog, indices: Memory, *, now: datetime) -> BuildPlan:
    """Return the plan with its freshness. Reads the catalog and the repositories. ``indices``: what was read of them
    already. ``now``: by the cloud's clock.

    A repository that cannot be read is in ``Freshness.notes``; it raises no error.
    """
    releases = catalog.with_inputs(plan.recipe.name, plan.inputs)
    last = next((release for release in releases if planning.lasting(release.inputs) == plan.inputs), None)
    same = _same(plan, catalog)
    if last is None and same is not None:
        last = catalog.get(same.name, same.version)
    if same is not None and last is not None and same.version != last.version:
        same = None
    found = _since(plan, last, same, catalog, indices, now) if last is not None else _differences(plan, catalog)
    return planning.completed(plan, found)


def _same(plan: BuildPlan, catalog: Catalog) -> Same | None:
    """Return the last build if it had the inputs of the plan, and found nothing new since the last release."""
    versions = catalog.versions(plan.recipe.name) if plan.recipe.refresh.skip_same else ()
    same = catalog.marks.same(plan.recipe.name, versions[0]) if versions else None
    return same if same is not None and same.inputs == plan.inputs else None


def _since(
    plan: BuildPlan, last: ImageManifest, same: Same | None, catalog: Catalog, indices: Memory, now: datetime
) -> Freshness:
    """Return the freshness of a plan whose inputs are those of a release, or of the build after it that found nothing
    new (``same``)."""
    answers = {a: _look_up(plan, last, a, catalog, indices, now) for a in plan.recipe.architectures}
    updates = {a: found.updates for a, found in answers.items() if found.updates}
    age = now - datetime.fromisoformat(same.compared if same is not None else last.created)
    due: dict[str, Any] = {}
    reasons = []
    for architecture, every in updates.items():
        tried = same.updates.get(architecture, ()) if same is not None else ()
        kept = {*_names(last.updates.get(architecture, ())), *tried} if age < _TRIED_AGAIN else set()
        new = [update for update in every if _name(update) not in kept]
        if new:
            due[f"updates:{architecture}"] = [last.label, sorted(map(_name, new))]
            reasons.append(_sentence(last, architecture, new))
    max_age = plan.recipe.refresh.max_age
    if max_age is not None and age > timedelta(seconds=seconds(max_age)):
        due["age"] = last.label
        reasons.append(f"{last.label} is older than {max_age} (refresh.max_age)")
    carried = {} if due else {k: v for k, v in last.inputs.items() if plan.inputs.get(k) != v}
    notes = dict.fromkeys(note for found in answers.values() for note in found.unread)
    return Freshness(
        release=last.label,
        updates=updates,
        due=due,
        carried=carried,
        reasons=tuple(reasons),
        looked_up=sum(found.read for found in answers.values()),
        signed=sum(found.signed for found in answers.values()),
        notes=tuple(f"updates could not be looked up: {note}" for note in notes),
    )


def _look_up(
    plan: BuildPlan,
    last: ImageManifest,
    architecture: Architecture,
    catalog: Catalog,
    indices: Memory,
    now: datetime,
) -> Found:
    from goldenami.updates import sources as package_sources
    from goldenami.updates.fetch import Downloads, cache_directory
    from goldenami.updates.lookup import Found, find

    patches = plan.recipe.patches[architecture]
    # Packages of a day, or of a release of the distribution, do not change.
    pinned = patches.source is not None and patches.releasever != "latest"
    if patches.level == "none" or pinned or not plan.recipe.refresh.updates:
        return Found((), (), 0)
    sources = last.sources.get(architecture)
    if sources is None:
        return Found((), (f"{last.label} does not record where its packages come from",), 0)
    if patches.releasever == "latest":
        sources = package_sources.latest(sources)
    kept = {path: catalog.keyring(digest) for path, digest in sources.keyrings.items()}
    sources = replace(sources, keyrings={path: text for path, text in kept.items() if text is not None})
    return find(
        last.packages.get(architecture, ()),
        sources,
        architecture,
        level=patches.level,
        exclude=patches.exclude,
        downloads=Downloads(cache_directory(), indices),
        now=now,
    )


def _name(update: PackageUpdate) -> tuple[str, str, str]:
    return update.name, update.architecture, update.after


def _names(updates: tuple[PackageUpdate, ...]) -> frozenset[tuple[str, str, str]]:
    return frozenset(map(_name, updates))


def _sentence(last: ImageManifest, architecture: Architecture, updates: list[PackageUpdate]) -> str:
    count = len(updates)
    first = sorted(updates, key=lambda update: (not update.security, update.name))[:_SHOWN]
    shown = ", ".join(map(planning.display_update, first))
    more = f" and {count - len(first)} more" if count > len(first) else ""
    return f"{count} update{'s' if count != 1 else ''} since {last.label} ({architecture}): {shown}{more}"


# --- what differs from the last release -------------------------------------------------------------------------------


def _differences(plan: BuildPlan, catalog: Catalog) -> Freshness:
    """Return the reasons for a build whose inputs no recent release has, and the inputs that differ."""
    name = plan.recipe.name
    versions = catalog.versions(name)
    if not versions:
        return Freshness(reasons=(f"{name} has no release yet",))
    with suppress(CatalogError):
        last = catalog.get(name, versions[0])
        before = planning.lasting(last.inputs)
        changed = planning.changes(plan, before)
        bases = {f"base:{a}": a for a in plan.recipe.architectures if a in last.base or plan.awaits_base}
        moved = [] if plan.awaits_base else [bases[label] for label in changed if label in bases]
        reasons = [_moved_base(plan.facts.base[a], last.base[a], last) for a in moved]
        others = [label for label in changed if label not in bases]
        if others:
            reasons.append(f"the inputs differ from those of {last.label}: {', '.join(others)}")
        if reasons or plan.awaits_base:
            return Freshness(reasons=tuple(dict.fromkeys(reasons)), changed=tuple(changed))
    return Freshness(reasons=(f"the inputs differ from those of {name} {versions[0]}",))


def _moved_base(base: BaseImage, before: BaseImage, last: ImageManifest) -> str:
    """Return how the base differs: a newer release of the parent in its channel, or another image."""
    if base.release is not None:
        parent = base.source.partition(" ")[0]
        return f"the base {parent} is {base.release} now, and {last.label} has {before.release or before.image_id}"
    return f"the base is {base.image_id} ({base.name}) now, and {last.label} has {before.image_id} ({before.name})"
