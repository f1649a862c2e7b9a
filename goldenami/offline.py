"""Plans recipes without any network: from the files of the project, and from the catalog if it is in a directory.

What only the cloud knows is taken from the last release: the images of bases that are no recipes, and the keys that an
alias means. Each such assumption is said. Updates, and whether images still exist, are not looked up.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace

from goldenami import many, planning
from goldenami.errors import NotFound
from goldenami.many import Step, Work
from goldenami.model import Architecture, Environment, ImageManifest
from goldenami.nextstep import step as next_step
from goldenami.plans import Planned
from goldenami.recipe import BaseRef, Project
from goldenami.release import targets as modes
from goldenami.release.catalog import Catalog
from goldenami.release.versions import Reference
from goldenami.stages import deciding

_NOT_ASKED = "not asked: updates of packages, and whether the images exist"


def make(project: Project, environment: Environment, work: Work) -> tuple[Planned, ...]:
    """Return what is planned for each recipe, a base before its children. Bases without a release are added.

    If the catalog is in a bucket, no recipe can be compared, and all are "unknown".
    """
    if environment.catalog.startswith("s3://"):
        return tuple(_unknown(step, environment) for step in work.steps)
    catalog = Catalog(environment.catalog)
    steps = many.with_missing_bases(work, project, environment, catalog).steps
    run = _Run(environment, catalog)
    for step in steps:
        run.done[step.name] = run.plan(step)
    return tuple(run.done[step.name] for step in steps)


def _unknown(step: Step, environment: Environment) -> Planned:
    reason = f"the catalog is in {environment.catalog}, which is not read offline"
    hint = f"{next_step('plan', '--diff', 'REF')} says what the files change since a commit, without credentials"
    return Planned(step.name, "unknown", step.recipe.distribution.channel, step.why, (reason,), hints=(hint,))


@dataclass(frozen=True, slots=True)
class _Assumed:
    """What stands for the bases and keys of a recipe, and the sentences that say so."""

    bases: Mapping[Architecture, str]
    keys: Mapping[str, str]
    said: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Run:
    environment: Environment
    catalog: Catalog
    done: dict[str, Planned] = field(default_factory=dict)

    def plan(self, step: Step) -> Planned:
        recipe, catalog = step.recipe, self.catalog
        channel = recipe.distribution.channel
        pointer, versions = catalog.channel(recipe.name, channel), catalog.versions(recipe.name)
        before = pointer.current if pointer is not None else None
        planned = Planned(step.name, "build", channel, step.why, before=before)
        if not versions:
            reason = f"{recipe.name} has no release in the catalog {self.environment.catalog}"
            return replace(planned, reasons=(*self._built_first(step), reason))
        last = catalog.get(recipe.name, versions[0])
        assumed = self._assume(step, last)
        inputs = planning.inputs_with(recipe, self.environment, assumed.bases, assumed.keys)
        planned = replace(planned, hints=assumed.said)
        same = next((r for r in catalog.with_inputs(recipe.name, inputs) if planning.lasting(r.inputs) == inputs), None)
        first = tuple(self._built_first(step))
        if first or same is None:
            old = planning.lasting(last.inputs)
            changed = tuple(sorted(label for label in {*inputs, *old} if inputs.get(label) != old.get(label)))
            differ = (f"the inputs differ from those of {last.label}: {', '.join(changed)}",) if changed else ()
            return replace(planned, reasons=(*first, *differ), changed=changed)
        kept = deciding.stays(pointer, same)
        moves = not kept and before != same.version
        reason = f"{same.label} was built from the same inputs, as far as the files show"
        return replace(
            planned,
            action="move" if moves else "unchanged",
            reasons=tuple(filter(None, (reason, kept))),
            hints=(*assumed.said, _NOT_ASKED),
            release=same,
            after=same.version if moves else before,
        )

    def _above(self, step: Step) -> tuple[Planned, BaseRef] | None:
        """Return what is planned for the base of a recipe, if that moves the channel that the recipe is built on."""
        above = self.done.get(step.base or "")
        ref = next((ref for ref in step.recipe.base.values() if ref.kind == "recipe"), None)
        if above is None or ref is None or ref.channel != above.channel or not above.changes:
            return None
        return above, ref

    def _built_first(self, step: Step) -> Iterator[str]:
        found = self._above(step)
        if found is not None and found[0].action == "build":
            yield f"its base {found[0].recipe} is built first"

    def _assume(self, step: Step, last: ImageManifest) -> _Assumed:
        said: list[str] = []
        bases = {a: self._base(step, a, ref, last, said) for a, ref in step.recipe.base.items()}
        return _Assumed(bases, self._keys(step, last, said), tuple(dict.fromkeys(said)))

    def _base(self, step: Step, architecture: Architecture, ref: BaseRef, last: ImageManifest, said: list[str]) -> str:
        if ref.kind == "id":
            return ref.value
        if ref.kind == "recipe":
            above = self._above(step)
            version = above[0].after if above is not None else None
            reference = Reference(ref.value, channel=None if version else ref.channel, version=version)
            try:
                return self.catalog.resolve(reference, self.environment.home_place, architecture).image_id
            except NotFound as error:
                said.append(f"not known: the base {ref}: {error.message}")
                return str(ref)
        there = last.base.get(architecture)
        assumed = f"{there.image_id} of {last.label} is assumed" if there is not None else "none is known"
        said.append(f"not asked: the base image by {ref} ({ref.mark}): {assumed}")
        return there.image_id if there is not None else str(ref)

    def _keys(self, step: Step, last: ImageManifest, said: list[str]) -> dict[str, str]:
        """Return the keys of the targets: as written if that is an ARN, else those of the images of the last
        release."""
        rows = ((row.place, disk.kms_key_id) for row in last.images for disk in row.snapshots if modes.owns(row))
        used = {place: key for place, key in rows if key is not None}
        keys = {}
        for target in step.recipe.distribution.targets:
            if not modes.get_mode(target).owns_image:
                continue
            written = target.kms_key
            known = written.startswith("arn:") and ":key/" in written
            keys[target.label] = written if known else used.get(target.place, written)
            if not known and target.place in used:
                said.append(f"not asked: keys by alias or id; those of {last.label} are assumed")
        return keys
