"""What a build finds out before it creates anything: its plan, what would make it fail, and the names of its release.

The checks and the names need nothing of the plan. So for a recipe that is surely built, they are read while the facts
of the plan are: a build waits for the longest chain of reads, and not for their sum. Otherwise the plan comes first,
since most builds of a night end with it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from goldenami import preflight, ssh
from goldenami.aws import regions
from goldenami.each import beside, both
from goldenami.errors import GoldenAmiError, Interrupted
from goldenami.events import emit
from goldenami.model import Environment, Target
from goldenami.planning import BuildPlan
from goldenami.preflight import Finding
from goldenami.recipe import Recipe
from goldenami.release.catalog import Catalog
from goldenami.stages import deciding, facts, hosts, opening
from goldenami.stages.build import BuildContext
from goldenami.stages.checks import check_proofs
from goldenami.stages.tools import Tools


@dataclass(frozen=True, slots=True)
class Looked:
    """What was found out without the plan. ``names``: those of the release, or why they cannot be read."""

    findings: tuple[Finding, ...]
    names: opening.Names | GoldenAmiError


def plan(
    recipe: Recipe, environment: Environment, tools: Tools, *, surely_built: bool
) -> tuple[BuildPlan, Looked | None]:
    """Make the plan of a build. ``surely_built``: what :func:`require` needs is read at the same time, and returned."""
    cloud, targets = tools.cloud, recipe.distribution.targets
    regions.check_home(cloud)
    # In a region that does not exist, calls would take long to fail. The plan says so at once.
    if not surely_built or not {target.region for target in targets} <= cloud.known_regions():
        return deciding.plan_for(recipe, environment, tools, builds=True), None
    facts.sign_in(cloud, targets)
    return beside(
        lambda: deciding.plan_for(recipe, environment, tools, builds=True),
        lambda: _look(recipe, environment, targets, tools),
    )


def require(plan: BuildPlan, looked: Looked | None, tools: Tools) -> opening.Names:
    """Raise PreflightFailed with all reasons for which the build of a plan would fail. Makes only reads. Returns the
    names of the release; their error is raised if there is no other.

    ``looked``: what :func:`plan` returned with the plan.
    """
    recipe, environment, targets = plan.recipe, plan.environment, opening.usable(plan)
    if looked is None:
        looked = _look(recipe, environment, targets, tools)
    elif len(targets) < len(plan.targets):  # the plan left some out
        looked = Looked(looked.findings, _names(recipe, environment, targets, tools))
    keys = preflight.find_keys(tools.cloud, environment, tools.catalog, recipe, plan.facts.kms_keys)
    findings = preflight.ordered([*looked.findings, *keys])
    preflight.require(findings)
    for finding in findings:
        if finding.level == "warning":
            emit(tools.emit, "note", message=str(finding), level="warning")
    if isinstance(looked.names, GoldenAmiError):
        raise looked.names
    return looked.names


def tell_permissions(build: BuildContext, catalog: Catalog) -> None:
    """Warn of the permissions that the roles of a build lack, while it launches a builder, or after it failed. A lack
    stops no build, so no launch waits for IAM's simulations, the largest part of what is read before it. An error of
    theirs is a warning, too: it changes nothing of how the build ends.

    After a failure, every account is still asked, because what its role lacks may be the cause. The end of a release
    waits for the first accounts at most, and for those that were asked already."""
    build.is_launching.wait()
    if build.stop.is_set():
        return
    try:
        found = preflight.find_permissions(
            build.cloud,
            build.environment,
            catalog,
            build.recipe,
            is_wanted=lambda: not (build.stop.is_set() or build.is_ending.is_set()),
        )
    except Interrupted:
        raise
    except GoldenAmiError as error:
        build.note(f"the permissions of the roles could not be checked: {error.message}", "warning")
        return
    for finding in found:
        build.note(str(finding), "warning")


def has_launched(build: BuildContext) -> bool:
    """Return whether this build has launched a builder, or tried to, in this process or in an earlier one."""
    keys = [hosts.key_of("builder", architecture) for architecture in build.recipe.architectures]
    return build.is_launching.is_set() or any(build.journal.intents(key) for key in keys)


def _look(recipe: Recipe, environment: Environment, targets: Sequence[Target], tools: Tools) -> Looked:
    def check() -> tuple[Finding, ...]:
        return preflight.find(tools.cloud, environment, tools.catalog, [recipe], builds=True, more=[check_proofs])

    def names() -> opening.Names | GoldenAmiError:
        found = _names(recipe, environment, targets, tools)
        ssh.preload_keys()  # a launch begins with them, and the checks take longer than the names
        return found

    return Looked(*both(check, names))


def _names(
    recipe: Recipe, environment: Environment, targets: Sequence[Target], tools: Tools
) -> opening.Names | GoldenAmiError:
    try:
        return opening.read_names(recipe, environment, targets, tools)
    except GoldenAmiError as error:
        return error
