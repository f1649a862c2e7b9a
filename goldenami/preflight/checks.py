"""Runs all checks, and returns their findings. It makes only calls that change nothing.

To add a check, write a function that takes a ``Context`` and yields ``Finding`` objects, and add it to ``CHECKS``. A
test demands a case for each code in ``CODES``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Final

from goldenami.aws.session import Cloud
from goldenami.each import each
from goldenami.model import Environment
from goldenami.preflight import access, images, launch
from goldenami.preflight.context import Check, Context
from goldenami.preflight.finding import Finding, PreflightFailed
from goldenami.preflight.keys import check_keys, check_signing_key
from goldenami.preflight.permissions import check_permissions
from goldenami.preflight.programs import check_programs
from goldenami.preflight.templates import check_launch_templates
from goldenami.recipe import Recipe
from goldenami.release.catalog import Catalog

CHECKS: Final[tuple[Check, ...]] = (
    access.check_regions,
    access.check_clock,
    check_permissions,
    check_keys,
    check_signing_key,
    launch.check_builders,
    launch.check_quotas,
    images.check_allowed_images,
    images.check_public_access,
    check_launch_templates,
    check_programs,
)
# Checks of what the plan of a build finds, and of risks that do not stop it. Those of its keys and of its permissions
# follow: ``find_keys``, ``find_permissions``.
_NOT_BEFORE: Final = (access.check_regions, images.check_public_access, check_keys, check_permissions)
# What each code checks, for the documentation and for --help.
CODES: Final = {
    "role": "the credentials of each account work and belong to it",
    "region": "each region exists and is enabled in its account",
    "clock": "the clock of this machine agrees with AWS",
    "permission": "the policies of the roles have what builds need",
    "key": "each target's key exists there, can encrypt snapshots, and may be used by the target's role",
    "signing-key": "the key that signs statements can be read or used, and is trusted",
    "base": "the base images exist",
    "encryption": "no image that another account uses is encrypted under the AWS managed key of EBS",
    "subnet": "the network has a subnet for builders",
    "way-out": "builders reach package archives",
    "instance-type": "the instance types exist and fit the architecture",
    "zone": "an instance type is offered in a zone of the subnets",
    "quota": "the quota of vCPUs has room for the builders",
    "allowed-images": "the Allowed AMIs settings permit the base image, and the released image where it is shared",
    "program": "the programs that operations run on this machine are installed",
    "launch-template": "the launch templates that follow channels exist",
    "public-access": "images cannot be made public by mistake",
}


def find(
    cloud: Cloud,
    environment: Environment,
    catalog: Catalog,
    recipes: Sequence[Recipe] = (),
    *,
    builds: bool = False,
    more: Sequence[Check] = (),
) -> tuple[Finding, ...]:
    """Run all checks at the same time, and return the findings: errors first, then in the order of ``CODES``.

    ``recipes``: those to build; without recipes, only the environment is checked. ``builds``: a build of them begins,
    whose plan finds regions and keys: only the rest is checked, and no permissions, which stop no build. This needs
    nothing of the plan. ``more``: checks of the caller. Raises only errors that end everything, such as credentials of
    the caller that AWS refuses.
    """
    checks = [check for check in CHECKS if check not in _NOT_BEFORE] if builds else CHECKS
    context = Context(cloud, environment, catalog, tuple(recipes), builds=builds, remembering=cloud.remembering())
    return _run(context, [*checks, *more])


def find_keys(
    cloud: Cloud, environment: Environment, catalog: Catalog, recipe: Recipe, keys: Mapping[str, str]
) -> tuple[Finding, ...]:
    """Check the use of the keys that the plan of a build has found. ``keys``: the ARN of each target's key, by label.
    Makes no call for a key that was used to find it."""
    context = Context(cloud, environment, catalog, (recipe,), builds=True, keys=keys, remembering=cloud.remembering())
    return _run(context, [check_keys])


def find_permissions(
    cloud: Cloud, environment: Environment, catalog: Catalog, recipe: Recipe, *, is_wanted: Callable[[], bool]
) -> tuple[Finding, ...]:
    """Return the permissions that the roles of a build lack, as warnings: a policy of another shape can be enough for
    one recipe. And, as unknown, what could not be checked. Nothing is told of a role that cannot be assumed:
    :func:`find` tells it.

    ``is_wanted``: see ``Context``. Raises errors that end everything, and that of a check of no single account.
    """
    context = Context(
        cloud, environment, catalog, (recipe,), builds=True, remembering=cloud.remembering(), is_wanted=is_wanted
    )
    # With the patience of the build: credentials are renewed by the cloud that was the first to ask for them.
    refused = frozenset(account for account, _ in access.check_accounts(context))
    return ordered(check_permissions(replace(context, cloud=cloud.hurried(), refused=refused)))


def _run(context: Context, checks: Sequence[Check]) -> tuple[Finding, ...]:
    refused = list(access.check_accounts(context))
    context = replace(context, refused=frozenset(account for account, _ in refused))
    found = [finding for _, finding in refused]
    answers = each(checks, lambda check: list(check(context)))
    for results in answers.results.values():
        found += results
    for check, error in answers.errors.items():
        found.append(Finding(check.__name__.removeprefix("check_"), "unknown", error.message, error.hint or ""))
    return ordered(found)


def ordered(findings: Iterable[Finding]) -> tuple[Finding, ...]:
    """Return findings without repetitions: errors first, then in the order of ``CODES``."""
    order = list(CODES)
    rank = {"error": 0, "warning": 1, "unknown": 2}
    return tuple(
        sorted(
            dict.fromkeys(findings),
            key=lambda f: (rank[f.level], order.index(f.code) if f.code in order else len(order), str(f)),
        )
    )


def require(findings: Sequence[Finding]) -> None:
    """Raise PreflightFailed if a finding is an error."""
    if any(finding.level == "error" for finding in findings):
        raise PreflightFailed(findings)
