"""Collecting for a machine that never came back: what is temporary, past its time, and of no journal at hand.

Temporary resources carry ``goldenami:expires-at``. Something is collected only if all of this is true:

- its tags name a build, a key and a token, and the token is the one that this build and key give (tags that look alike,
  or that somebody copied in part, do not pass);
- its time has passed by the cloud's own clock: a clock that is wrong here deletes nothing early;
- no release in the catalog owns it (and if the catalog cannot be read, nothing is collected at all).

Where the build's journal is at hand after all, it is the journal's business: the build is cleaned by it, unless
somebody works on it. Grants have no tags: they are known by their name, which holds the token, and by the date of their
creation; those of a build that made a release stay. So do its parameters: somebody may follow one. A channel's are
never temporary, since all that they ever name is an image of a release: where a machine died that was moving them, they
are left as they are until the channel's next move, which moves them all.
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
from goldenami.aws.ledger import DEFAULT_LIFETIME
from goldenami.aws.session import Cloud
from goldenami.each import each
from goldenami.errors import CloudError
from goldenami.journal import Journals, token
from goldenami.model import Environment, Place, Target
from goldenami.reconcile import TEMPORARY, Found
from goldenami.release import targets as modes
from goldenami.release.catalog import Catalog

_BUILD_ID: Final = re.compile(r"\d{8}-\d{6}-[0-9a-f]{4,32}")
_GRANT: Final = re.compile(rf"goldenami-({_BUILD_ID.pattern})-([0-9a-f]{{40}})")
_ARCHITECTURES: Final = ("x86_64", "arm64")
_ATTEMPTS: Final = range(1, 20)
_GRANTS: Final = range(4)  # of one candidate to one account: one for each key of its snapshots


@dataclass
class Left:
    """What dead machines left. ``orphans``: of builds without a journal here. ``builds``: those that have one.
    ``unreachable``: places that could not be searched, with the reason."""

    orphans: list[Found] = field(default_factory=list)
    builds: dict[str, list[Found]] = field(default_factory=dict)
    unreachable: dict[str, str] = field(default_factory=dict)


def find(cloud: Cloud, environment: Environment, catalog: Catalog, journals: Journals) -> Left:
    """Look in every account and region of the environment. Changes nothing. Raises CatalogError and AccessError."""
    cloud.check_caller()
    owned, released = _owned(catalog)
    known = frozenset(journals.storage.names())
    places = sorted({environment.home_place, *(target.place for target in environment.targets)})
    answers = each(places, lambda place: _look(cloud, environment, place))
    left = Left(unreachable={str(place): reason for place, reason in answers.reasons.items()})
    found: dict[str, list[Found]] = defaultdict(list)
    for build_id, one in (pair for those in answers.results.values() for pair in those):
        # Which grants a release needs is in no manifest, and a parameter is known by its name only: those of a build
        # that made a release stay.
        if one.id not in owned and (kind_of(one.kind).in_manifest or build_id not in released):
            found[build_id].append(one)
    for build_id, those in sorted(found.items()):
        if build_id in known:
            left.builds[build_id] = sorted(those)
        else:
            left.orphans += sorted(those)
    return left


def _look(cloud: Cloud, environment: Environment, place: Place) -> list[tuple[str, Found]]:
    return [*_tagged(cloud, place), *_grants(cloud, environment, place)]


def _tagged(cloud: Cloud, place: Place) -> Iterator[tuple[str, Found]]:
    for kind in in_order():
        # What is not made everywhere is no build's: a policy stays for as long as it is declared.
        if not kind.has_tags or not kind.everywhere:
            continue
        for id, own in kind.tagged(cloud, place, tags.EXPIRES_AT, None).items():
            build_id = own.get(tags.BUILD_ID, "")
            if is_expired(own, cloud.now()) and not kind.is_gone(cloud, place, id):
                yield build_id, Found(place, kind.name, id)


def is_expired(own: Mapping[str, str], now: datetime) -> bool:
    """Whether these are the tags of something temporary that goldenami made and whose time has passed."""
    build_id, ends = own.get(tags.BUILD_ID, ""), tags.parse_timestamp(own.get(tags.EXPIRES_AT, ""))
    if ends is None or ends > now or not _BUILD_ID.fullmatch(build_id):
        return False
    return tags.made_by(own, build_id)


def _grants(cloud: Cloud, environment: Environment, place: Place) -> Iterator[tuple[str, Found]]:
    """Those on the environment's keys that a build made: to lend a candidate's key to the accounts that were to copy
    it, or to share an image."""
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
            if name is None or _made(grant, name[1]) + DEFAULT_LIFETIME > cloud.now():
                continue
            if name[2] in _grant_tokens(name[1], environment, target):
                yield name[1], Found(place, "grant", grant["GrantId"], arn)


def _made(grant: Mapping[str, Any], build_id: str) -> datetime:
    """When a grant was made; the build's own moment, which is in its id, where KMS does not say."""
    told = grant.get("CreationDate")
    try:
        began = datetime.strptime(build_id[:15], "%Y%m%d-%H%M%S").replace(tzinfo=UTC)
    except ValueError:  # no build has such an id
        return datetime.max.replace(tzinfo=UTC) - DEFAULT_LIFETIME
    return max(began, told.astimezone(UTC)) if isinstance(told, datetime) else began


def _grant_tokens(build_id: str, environment: Environment, target: Target) -> frozenset[str]:
    """The tokens of all grants that a build may have made on a target's key: see ``release.distribute``."""
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
    """The ids of all images and snapshots of all releases; and of the builds that made them."""
    owned: set[str] = set()
    builds: set[str] = set()
    for name in catalog.names():
        for version in catalog.versions(name):
            manifest = catalog.get(name, version)
            builds.add(manifest.build_id)
            for image in manifest.images:
                owned |= {image.image_id, *(snapshot.snapshot_id for snapshot in image.snapshots)}
    return frozenset(owned), frozenset(builds)
