"""Checks of what a plan decides: what it refuses, for ``goldenami doctor``, and where the image is proved.

A build needs no check of the former, since its plan has read the same facts.
"""

from __future__ import annotations

from collections.abc import Iterator

from goldenami.aws import encryption, kms
from goldenami.each import each
from goldenami.errors import NotFound, UsageError
from goldenami.model import Place, Target
from goldenami.planning import proved_elsewhere
from goldenami.preflight import Context, Finding, from_error, launch
from goldenami.preflight.context import for_each_place
from goldenami.recipe import Recipe
from goldenami.release import targets as modes
from goldenami.stages import volume_keys
from goldenami.stages.facts import find_base, source_snapshots


def check_plans(context: Context) -> Iterator[Finding]:
    """Each recipe's base image exists. No image that another account uses is under the AWS managed key of EBS, be it
    named or the account's default."""
    if not context.home_answers:
        return
    cloud, environment, home = context.cloud, context.environment, context.environment.home_place
    # A base recipe without a release is built first.
    building = {recipe.name for recipe in context.recipes}
    wanted = {(r.name, a): r.base[a] for r in context.recipes for a in r.architectures}
    wanted = {key: base for key, base in wanted.items() if not (base.kind == "recipe" and base.value in building)}
    bases = each(wanted, lambda key: find_base(cloud, environment, context.catalog, wanted[key], architecture=key[1]))
    for key, error in bases.errors.items():
        yield from_error("base", error, place=home, mark=wanted[key].mark)
    owning = {t.label: t for t in context.reachable if modes.get_mode(t).owns_image}
    keys = each(owning, lambda label: kms.resolve(cloud, owning[label].place, owning[label].kms_key)).results
    defaults = encryption.read_defaults(cloud, home)
    for recipe in context.recipes:
        base = {a: image for (name, a), image in bases.results.items() if name == recipe.name}
        try:
            sources = source_snapshots(cloud, home, recipe)
            found = volume_keys.of_bases(cloud, home, base, recipe, defaults, sources)
            volume_keys.choose(recipe, home, keys, found, defaults, environment.encryption)
        except NotFound as error:
            yield from_error("base", error, place=home, mark=recipe.volumes_mark)
        except UsageError as error:
            mark = context.mark("targets")
            yield Finding("encryption", "error", error.message, error.hint or "", home, mark, error.exit_code)


def check_proofs(context: Context) -> Iterator[Finding]:
    """Instances of the image can be launched where ``distribution.prove`` says, besides the home account and region: a
    subnet, the instance types and the quota of vCPUs are there. A build finds it now, and not after all copies."""
    proved: dict[Place, tuple[Target, list[Recipe]]] = {}
    for recipe in context.recipes:
        for target in proved_elsewhere(recipe, context.environment.home_place, recipe.distribution.targets):
            if target in context.reachable:
                proved.setdefault(target.place, (target, []))[1].append(recipe)

    def check(place: Place) -> Iterator[Finding]:
        target, recipes = proved[place]
        yield from launch.check_usable(context, place, recipes, context.level(target))

    def check_room(place: Place) -> Iterator[Finding]:
        target, recipes = proved[place]
        yield from launch.check_room(context, place, recipes, context.level(target))

    # The quota apart: a role that may not read it can have a subnet.
    yield from for_each_place("instance-type", check, list(proved))
    yield from for_each_place("quota", check_room, list(proved))
