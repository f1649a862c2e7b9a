"""What a build needs besides its inputs, and what of that is missing here and now: secrets, and subnets. Reads only.

A plan tells it for all recipes at once. It is no error of a plan: the job that builds may have secrets that the job
that plans must not have.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from goldenami.aws import network, parameters
from goldenami.aws.session import Cloud
from goldenami.each import Failures
from goldenami.errors import GoldenAmiError, NotFound
from goldenami.model import Environment, Mark
from goldenami.preflight import Finding, from_error
from goldenami.recipe import Recipe
from goldenami.recipe.secrets import examine


def find(cloud: Cloud, environment: Environment, recipes: Sequence[Recipe]) -> dict[str, tuple[Finding, ...]]:
    """Return what is missing for a build of each recipe, by the name of the recipe. What cannot be read is a finding of
    the level "unknown"."""
    if not recipes:
        return {}
    home = environment.home_place
    failures = Failures[str]()
    with failures.of("subnet"):
        network.subnets(cloud, home, environment.network)
    there: Mapping[str, str] = {}
    names = {ref.key for recipe in recipes for ref in recipe.secrets if ref.source == "ssm"}
    with failures.of("secret"):
        there = parameters.find_many(cloud, home, names)  # not decrypted: only whether it exists
    mark = environment.mark("network", "subnet")
    common = [_finding("subnet", error, mark) for code, error in failures.errors.items() if code == "subnet"]
    unread = failures.errors.get("secret")
    return {recipe.name: (*common, *_secrets(recipe, there, unread)) for recipe in recipes}


def _finding(code: str, error: GoldenAmiError, mark: Mark) -> Finding:
    return from_error(code, error, level="error" if isinstance(error, NotFound) else "unknown", mark=mark)


def _secrets(recipe: Recipe, there: Mapping[str, str], unread: GoldenAmiError | None) -> list[Finding]:
    refs = [ref for ref in recipe.secrets if ref.source != "ssm" or unread is None]
    found = [
        Finding("secret", "error", one.message, one.hint or "", mark=Mark(one.file, one.line, one.column))
        for one in examine(refs, there.get)[1]
    ]
    if unread is not None:
        found += [_finding("secret", unread, ref.mark) for ref in recipe.secrets if ref.source == "ssm"]
    return found
