"""The facts that a plan needs from the cloud and the catalog: base images, keys, the caller. Reads only."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from goldenami.aws import images, kms, regions
from goldenami.aws.session import Cloud
from goldenami.each import all_of, each
from goldenami.errors import NotFound, TargetsFailed
from goldenami.model import Architecture, BaseImage, Environment, Target
from goldenami.planning import Facts
from goldenami.recipe import BaseRef, Recipe
from goldenami.release import targets as modes
from goldenami.release.catalog import Catalog
from goldenami.release.versions import Reference


def gather(cloud: Cloud, environment: Environment, catalog: Catalog, recipe: Recipe) -> Facts:
    """Resolve everything that the recipe and the environment name. Changes nothing.

    Raises AccessError for wrong credentials, and NotFound for a region, key or base that does not exist.
    """
    regions.check_home(cloud)
    caller = cloud.check_identity()
    targets = recipe.distribution.targets
    regions.check(cloud, {environment.home_place, *(t.place for t in targets)})
    owning = [t for t in targets if modes.get_mode(t).owns_image]
    bases = all_of(
        recipe.architectures, lambda a: find_base(cloud, environment, catalog, recipe.base[a], architecture=a)
    )
    return Facts(
        base=dict(zip(recipe.architectures, bases, strict=True)),
        kms_keys=_keys(cloud, owning),
        caller_arn=caller.arn,
        git_commit=git_commit(recipe.source.parent),
    )


def _keys(cloud: Cloud, owning: Sequence[Target]) -> dict[str, str]:
    """Return the ARN of each target's key, by label."""
    by_label = {target.label: target for target in owning}
    answers = each(by_label, lambda label: kms.resolve(cloud, by_label[label].place, by_label[label].kms_key).arn)
    for error in answers.errors.values():
        if isinstance(error, NotFound) or not answers.results:
            raise error
    if answers.errors:
        raise TargetsFailed(
            f"{len(answers.errors)} of {len(by_label)} targets cannot be used: {', '.join(answers.errors)}",
            failures=answers.reasons,
            hint="Give the caller access to the keys of these targets, or remove these targets from the recipe.",
        )
    return dict(answers.results)


def find_base(
    cloud: Cloud, environment: Environment, catalog: Catalog, base: BaseRef, architecture: Architecture
) -> BaseImage:
    """The image that a recipe's ``base`` means, in the home region. Raises NotFound."""
    home = environment.home_place
    match base.kind:
        case "ssm":
            return images.base_by_parameter(cloud, home, base.value, architecture=architecture)
        case "id":
            return images.base_by_id(cloud, home, base.value, architecture=architecture)
        case "filter":
            return images.find_base(
                cloud, home, architecture=architecture, filters={"name": [base.value]}, owners=base.owners
            )
        case "recipe":
            return _released_base(cloud, environment, catalog, base, architecture)


def _released_base(
    cloud: Cloud, environment: Environment, catalog: Catalog, base: BaseRef, architecture: Architecture
) -> BaseImage:
    reference = Reference(base.value, channel=base.channel)
    home = environment.home_place
    try:
        release = catalog.find(reference)
        image = catalog.resolve(reference, home, architecture)
    except NotFound as error:
        raise NotFound(
            f"{base.mark}: the base {reference} has no {architecture} image in {home}: {error.message}",
            hint=f"Build the base first: goldenami build {base.value}",
        ) from error
    found = images.base_by_id(
        cloud, home, image.image_id, architecture=architecture, source=f"{reference} {release.version}"
    )
    return replace(found, release=release.label)


def git_commit(directory: Path) -> str | None:
    """Return the checked-out commit of a directory, or None outside a Git repository.

    The suffix ``-dirty`` means that files differ from the commit.
    """
    command = ["git", "-C", str(directory), "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    try:
        answer = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return answer.stdout.strip() or None
