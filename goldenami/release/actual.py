"""The actual state of releases, as the cloud returns it. Reads only.

All releases are read together: one describe call for the images of a place and one for their snapshots, one for the
permissions of each image and snapshot, one for the grants of each key, and one for ten parameters. A place that does
not answer is listed with the reason; the others are read.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from goldenami.aws import kms, parameters
from goldenami.aws.kinds import grant_prefix
from goldenami.aws.ownership import Owner
from goldenami.aws.parameters import Current
from goldenami.aws.session import Cloud
from goldenami.each import each
from goldenami.model import Environment, ImageManifest, Place
from goldenami.release import consumers, shared_tags
from goldenami.release import fast_restore as fast_restores
from goldenami.release import targets as modes
from goldenami.release.catalog import Catalog
from goldenami.release.declared import Declared, key_of
from goldenami.release.distribute import account_root
from goldenami.release.parameters import why_not_ours
from goldenami.release.templates import Follower
from goldenami.release.templates import read_images as read_template_images
from goldenami.release.verify import Actual, read_images

Grant = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class State:
    """What was read. ``images``: by id. ``grants``: of each key, by its ARN. ``surplus``: by key, the ids of grants
    that goldenami made for a release and that no release needs, with their principals. ``aws_managed``: keys of AWS.
    ``parameters``: the values of those that exist. ``foreign``: why a parameter with another value is not ours.
    ``fast_restore``: of each place. ``old``: label of the release -> snapshots of earlier releases of its recipe whose
    fast restore must end. ``templates``: the images of launch templates; None: the template does not exist.
    ``shared_tags``: of images and snapshots that are shared, as each place sees them, by id.
    ``unreachable``: places that did not answer -> reason."""

    owner: Owner
    now: datetime
    images: Mapping[str, Actual] = field(default_factory=dict)
    grants: Mapping[str, tuple[Grant, ...]] = field(default_factory=dict)
    surplus: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    aws_managed: frozenset[str] = frozenset()
    parameters: Mapping[tuple[Place, str], str] = field(default_factory=dict)
    foreign: Mapping[tuple[Place, str], str] = field(default_factory=dict)
    templates: Mapping[Follower, str | None] = field(default_factory=dict)
    shared_tags: Mapping[Place, Mapping[str, Mapping[str, str]]] = field(default_factory=dict)
    fast_restore: Mapping[Place, fast_restores.Found] = field(default_factory=dict)
    old: Mapping[str, tuple[fast_restores.Old, ...]] = field(default_factory=dict)
    unreachable: Mapping[Place, str] = field(default_factory=dict)


def read(cloud: Cloud, environment: Environment, catalog: Catalog, releases: Collection[Declared]) -> State:
    """Read the state of releases in all accounts and regions. Changes nothing."""
    owner = Owner(catalog.identity(), environment.name)
    by_place: dict[Place, list[str]] = defaultdict(list)
    for declared in releases:
        for one in declared.images:
            by_place[one.owner].append(one.image_id)
    images_of = each(sorted(by_place), lambda place: read_images(cloud, place, by_place[place]))
    keys = sorted({key for declared in releases for key in _keys(declared.manifest)})
    grants = each(keys, lambda at: tuple(kms.grants(cloud, *at)))
    every = {key: found for (_, key), found in grants.results.items()}
    needs = (need for one in releases for need in one.needs)
    missing = {(need.owner, need.key) for need in needs if not has_grant(every.get(need.key, ()), owner, need)}
    managers = each(sorted(missing), lambda at: kms.manager(cloud, *at))
    values, foreign, refused = _parameters(cloud, catalog, owner, releases)
    templates = read_template_images(cloud, [one for declared in releases for one in declared.every_template])
    images = {id: one for found in images_of.results.values() for id, one in found.items()}
    wanted: dict[Place, list[str]] = {place: [] for place in images_of.results}
    for one in (one for declared in releases for one in declared.images if one.fast_restore and one.image_id in images):
        wanted[one.owner] += images[one.image_id].behind
    fast = each(sorted(wanted), lambda place: fast_restores.read(cloud, place, wanted[place]))
    shared = shared_tags.read(cloud, sorted({at for one in releases for at in visible(one, images)}))
    unreachable = {**refused, **{follower.place: reason for follower, reason in templates.reasons.items()}}
    unreachable |= {place: reason for (place, _), reason in (grants.reasons | managers.reasons).items()}
    return State(
        owner=owner,
        now=cloud.now(),
        images=images,
        grants=every,
        surplus=_surplus(catalog, releases, owner, every),
        aws_managed=frozenset(key for (_, key), manager in managers.results.items() if manager == "AWS"),
        parameters=values,
        foreign=foreign,
        templates=templates.results,
        shared_tags=shared.results,
        fast_restore=fast.results,
        old=_old(catalog, releases, owner, fast.results),
        unreachable={**unreachable, **images_of.reasons, **fast.reasons, **shared.reasons},
    )


def has_grant(grants: Iterable[Grant], owner: Owner, need: consumers.Need) -> bool:
    """Return whether a consumer has its grant, among all grants of the key."""
    if owner.catalog is None:
        return False
    wanted = consumers.grant_name(owner.catalog, owner.environment, need.principal), need.principal
    return any((grant.get("Name"), grant.get("GranteePrincipal")) == wanted for grant in grants)


def visible(declared: Declared, found: Mapping[str, Actual]) -> Iterator[tuple[Place, str]]:
    """Yield every image and snapshot of a release that is shared with an account of the environment, with the place
    that sees it."""
    for one in declared.images:
        if (actual := found.get(one.image_id)) is None or actual.image is None:
            continue
        for account in sorted(actual.launch_permissions & declared.accounts - {one.owner.account}):
            for id in (one.image_id, *actual.snapshots):
                yield Place(account, one.owner.region), id


def _old(
    catalog: Catalog, releases: Iterable[Declared], owner: Owner, found: Mapping[Place, fast_restores.Found]
) -> dict[str, tuple[fast_restores.Old, ...]]:
    """Return the snapshots whose fast restore must end, each for one release of its recipe."""
    first: dict[str, str] = {}
    for declared in releases:
        first.setdefault(declared.manifest.recipe, declared.manifest.label)
    old: dict[str, list[fast_restores.Old]] = defaultdict(list)
    for place, one in found.items():
        for snapshot in fast_restores.find_old(one, place, catalog, owner, first):
            old[first[snapshot.recipe]].append(snapshot)
    return {label: tuple(every) for label, every in old.items()}


def _keys(manifest: ImageManifest) -> set[tuple[Place, str]]:
    rows = (row for row in manifest.images if modes.owns(row))
    return {(Place(key.split(":")[4], row.region), key) for row in rows if (key := key_of(row))}


def _parameters(
    cloud: Cloud, catalog: Catalog, owner: Owner, releases: Iterable[Declared]
) -> tuple[dict[tuple[Place, str], str], dict[tuple[Place, str], str], dict[Place, str]]:
    """Return the values of all parameters, why some are not ours, and the places that did not answer."""
    wanted: dict[Place, dict[str, tuple[str, str | None]]] = defaultdict(dict)  # name -> recipe, value
    for declared in releases:
        recipe = declared.manifest.recipe
        for p in declared.every_parameter:
            wanted[p.place][p.name] = recipe, p.value
        for p in declared.leaving_parameters:
            wanted[p.place][p.name] = recipe, None

    def ask(place: Place) -> tuple[dict[str, str], dict[str, str]]:
        found = parameters.current_of(cloud, place, wanted[place])
        differing: dict[str, dict[str, Current]] = defaultdict(dict)  # by recipe
        for name, one in found.items():
            recipe, expected = wanted[place][name]
            if one.value != expected:
                differing[recipe][name] = one
        foreign: dict[str, str] = {}
        for recipe, every in differing.items():
            foreign |= why_not_ours(cloud, catalog, owner, recipe, place, every)
        return {name: one.value for name, one in found.items()}, foreign

    answers = each(sorted(wanted), ask)
    values = {(place, name): value for place, (found, _) in answers.results.items() for name, value in found.items()}
    foreign = {(place, name): text for place, (_, every) in answers.results.items() for name, text in every.items()}
    return values, foreign, answers.reasons


def _surplus(
    catalog: Catalog, releases: Iterable[Declared], owner: Owner, grants: Mapping[str, Iterable[Grant]]
) -> dict[str, dict[str, str]]:
    """Return the grants that goldenami made and that nobody needs, because no release shares its images with their
    account any more: those of a build or of `distribute` for an account, and those of the account's consumers.

    Key -> id of the grant -> principal. The other releases are read only if there is a candidate.
    """
    needed: set[tuple[str, str]] = set()
    allowed: set[tuple[str, str]] = set()  # key, account
    for declared in releases:
        for one in declared.images:
            needed |= {(one.kms_key, account_root(one.kms_key, account)) for account in one.users}
            allowed |= {(one.kms_key, account) for account in one.users}
        needed |= {(need.key, need.principal) for need in declared.needs}
        allowed |= {(need.key, need.place.account) for need in declared.needs}
    candidates = [
        (key, grant)
        for key, found in grants.items()
        for grant in found
        if account_of(grant) not in ("", key.split(":")[4])
        and (key, grant.get("GranteePrincipal")) not in needed
        and (str(grant["GranteePrincipal"]).endswith(":root") or (key, account_of(grant)) not in allowed)
        and owner.of_grant(str(grant.get("Name", ""))).is_ours
    ]
    if not candidates:
        return {}
    mine = {declared.manifest.label for declared in releases}
    every = consumers.live(catalog)
    for manifest in (one for one in every if one.label not in mine):
        for row in manifest.images:
            key = key_of(row)
            users = set(row.shared_with) if modes.owns(row) else {row.account}
            users = {account for account in users if key and not account.startswith("arn:")}
            needed |= {(key, account_root(key, account)) for account in users}
            allowed |= {(key, account) for account in users}
    prefixes = tuple(grant_prefix(id, owner.catalog) for manifest in every for id in makers(manifest))
    of_consumers = consumers.grant_prefix(owner.catalog, owner.environment) if owner.catalog else None
    found: dict[str, dict[str, str]] = defaultdict(dict)
    for key, grant in candidates:
        principal, name = str(grant["GranteePrincipal"]), str(grant["Name"])
        of_account = name.startswith(prefixes) and (key, principal) not in needed
        of_consumer = of_consumers is not None and name.startswith(of_consumers)
        if of_account or (of_consumer and (key, account_of(grant)) not in allowed):
            found[key][str(grant["GrantId"])] = principal
    return dict(found)


def account_of(grant: Grant) -> str:
    """Return the account of a grant's principal; empty for a service of AWS."""
    parts = str(grant.get("GranteePrincipal", "")).split(":")
    return parts[4] if len(parts) > 5 else ""


def makers(manifest: ImageManifest) -> tuple[str, ...]:
    """Return the ids of the build and the tasks that made the resources of a release."""
    return (manifest.build_id, *(revision.task for revision in manifest.revisions))
