"""Expired resources: finds the temporary resources of builds whose machine failed and did not clean up.

Temporary resources have the tag ``goldenami:expires-at``. A resource is expired only if all of this is true:

- Its tags name a build, a key and a token, and the token belongs to this build and key. So similar tags, or tags that
  another program copied in part, are not enough.
- Its time has passed by the clock of the cloud. So a wrong clock on this machine deletes nothing early.
- No release in the catalog owns it. If the catalog cannot be read, no resource is expired.

If this machine has the journal of the build, the clean-up of the build deletes its resources, unless another process
works on the build. Grants have no tags. They are identified by their name, which contains the token, and by their
creation date. Grants and parameters of a build that made a release are kept, because consumers may read a parameter.
The parameters of a channel are never temporary, because they only name images of releases. If a machine failed while it
moved them, they keep their values until the next move of the channel, which moves all of them.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final

from goldenami.aws import errors, tags
from goldenami.aws.kinds import in_order, kind_of
from goldenami.aws.ownership import Owner
from goldenami.aws.session import Cloud
from goldenami.each import each
from goldenami.errors import CloudError
from goldenami.journal import Journals, token
from goldenami.model import MAXIMUM_LIFETIME, Environment, Place, Target
from goldenami.reconcile import TEMPORARY, Found
from goldenami.release import targets as modes
from goldenami.release.catalog import Catalog

_BUILD_ID: Final = re.compile(r"\d{8}-\d{6}-[0-9a-f]{4,32}")
_GRANT: Final = re.compile(rf"goldenami-([0-9a-f]{{16}})-({_BUILD_ID.pattern})-([0-9a-f]{{40}})")
_ARCHITECTURES: Final = ("x86_64", "arm64")
_ATTEMPTS: Final = range(1, 20)
_GRANTS: Final = range(4)  # grants of one candidate to one account: one for each key of its snapshots


@dataclass
class Left:
    """Expired resources.

    ``orphans``: resources of builds without a journal here. ``builds``: build id -> resources of builds with a journal
    here. ``unreachable``: place -> reason, for places that could not be searched.
    """

    orphans: list[Found] = field(default_factory=list)
    builds: dict[str, list[Found]] = field(default_factory=dict)
    unreachable: dict[str, str] = field(default_factory=dict)


def find(cloud: Cloud, environment: Environment, catalog: Catalog, journals: Journals) -> Left:
    """Search every account and region of the environment for expired resources. Changes nothing.

    Raises CatalogError if the catalog cannot be read, and AccessError for wrong credentials.
    """
    cloud.check_caller()
    owned, released = _owned(catalog)
    journaled = frozenset(journals.storage.names())
    places = sorted({environment.home_place, *(target.place for target in environment.targets)})
    owner = Owner(catalog.identity(), environment.name)
    answers = each(places, lambda place: _search(cloud, environment, place, owner))
    left = Left(unreachable={str(place): reason for place, reason in answers.reasons.items()})
    found: dict[str, list[Found]] = defaultdict(list)
    for build_id, one in (pair for pairs in answers.results.values() for pair in pairs):
        # Manifests do not list grants, and a parameter has only its name. So the grants and parameters of a build that
        # made a release are kept.
        if one.id not in owned and (kind_of(one.kind).in_manifest or build_id not in released):
            found[build_id].append(one)
    for build_id, resources in sorted(found.items()):
        if build_id in journaled:
            left.builds[build_id] = sorted(resources)
        else:
            left.orphans += sorted(resources)
    return left


def _search(cloud: Cloud, environment: Environment, place: Place, owner: Owner) -> list[tuple[str, Found]]:
    return [*_tagged(cloud, place, owner), *_grants(cloud, environment, place, owner)]


def _tagged(cloud: Cloud, place: Place, owner: Owner) -> Iterator[tuple[str, Found]]:
    for kind in in_order():
        # Builds create only kinds that exist in every place. A lifecycle policy is kept as long as it is declared.
        if not kind.has_tags or not kind.everywhere:
            continue
        for id, own in kind.tagged(cloud, place, tags.EXPIRES_AT, None).items():
            build_id = own.get(tags.BUILD_ID, "")
            if is_expired(own, cloud.now(), owner) and not kind.is_gone(cloud, place, id):
                yield build_id, Found(place, kind.name, id)


def is_expired(own: Mapping[str, str], now: datetime, owner: Owner) -> bool:
    """Return whether the tags belong to a temporary resource of the owner whose time has passed."""
    build_id, ends = own.get(tags.BUILD_ID, ""), tags.parse_timestamp(own.get(tags.EXPIRES_AT, ""))
    if ends is None or ends > now or not _BUILD_ID.fullmatch(build_id):
        return False
    return owner.of_tags(own).is_ours and tags.made_by(own, build_id, owner.catalog)


def _grants(cloud: Cloud, environment: Environment, place: Place, owner: Owner) -> Iterator[tuple[str, Found]]:
    """Yield the expired grants of builds on the environment's keys.

    A build creates grants to let an account copy a candidate, and to share an image.
    """
    for target in {
        t.kms_key: t for t in environment.targets if t.place == place and modes.get_mode(t).owns_image
    }.values():
        try:
            arn = str(cloud.call(place, "kms", "DescribeKey", {"KeyId": target.kms_key})["KeyMetadata"]["Arn"])
        except CloudError as error:
            if errors.is_missing(error):
                continue
            raise
        for grant in cloud.pages(place, "kms", "ListGrants", "Grants", {"KeyId": arn}):
            name = _GRANT.fullmatch(grant.get("Name", ""))
            if name is None or not owner.of_grant(name[0]).is_ours:
                continue
            if _made(grant, name[2]) + environment.lifetime > cloud.now():
                continue
            if name[3] in _grant_tokens(name[2], environment, target):
                yield name[2], Found(place, "grant", grant["GrantId"], arn)


def _made(grant: Mapping[str, Any], build_id: str) -> datetime:
    """Return the creation time of a grant, or the start of the build, from its id, if KMS returns no date."""
    created = grant.get("CreationDate")
    try:
        began = datetime.strptime(build_id[:15], "%Y%m%d-%H%M%S").replace(tzinfo=UTC)
    except ValueError:  # not the id of a build
        return datetime.max.replace(tzinfo=UTC) - MAXIMUM_LIFETIME
    return max(began, created.astimezone(UTC)) if isinstance(created, datetime) else began


def _grant_tokens(build_id: str, environment: Environment, target: Target) -> frozenset[str]:
    """Return the tokens of all grants that a build can create on the key of a target: see ``release.distribute``."""
    accounts = [account.id for account in environment.accounts.values()]
    lent = (
        f"{TEMPORARY}{architecture}/{account}/grant-{number}"
        for architecture in _ARCHITECTURES
        for account in accounts
        for number in _GRANTS
    )
    shared = (f"grant/{target.label}/{account}" for account in accounts)
    return frozenset(token(build_id, key, attempt) for key in (*lent, *shared) for attempt in _ATTEMPTS)


def _owned(catalog: Catalog) -> tuple[frozenset[str], frozenset[str]]:
    """Return the ids of all images and snapshots of all releases, and the ids of the builds that made the releases."""
    owned: set[str] = set()
    builds: set[str] = set()
    for name in catalog.names():
        for version in catalog.versions(name):
            manifest = catalog.get(name, version)
            builds.add(manifest.build_id)
            for image in manifest.images:
                owned |= {image.image_id, *(snapshot.snapshot_id for snapshot in image.snapshots)}
    return frozenset(owned), frozenset(builds)
