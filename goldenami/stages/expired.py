"""Expired resources: finds the temporary resources of builds whose machine failed and did not clean up.

Temporary resources have the tag ``goldenami:expires-at``. Parameters and grants have none: they are temporary if no
release has them. A resource is expired only if all of this is true:

- Its tags name this catalog and this environment (``aws.ownership``). Expired resources of others are listed in
  ``Left.others`` and kept, as are those whose tags name no catalog. Only the grants and parameters of others are not
  listed: without their catalog, nobody can tell whether a release has them.
- Its tags name a build, a key and a token, and their proof is right for this resource. So similar tags, or tags that
  somebody copied from a resource of ours, are not enough. It is listed in ``Left.others`` and kept.
- Its time has passed by the clock of the cloud. So a wrong clock on this machine deletes nothing early.
- No release in the catalog owns it. The catalog is read after the search, so that the release of a build that another
  machine has published meanwhile is known. If the catalog cannot be read, no resource is expired.

If this machine has the journal of the build, the clean-up of the build deletes its resources, unless another process
works on the build. Grants have no tags. They are identified by their name, which contains the token, and by their
creation date; a version's parameters by their name, tags and date. Their build reserved its version for this
environment. Grants and parameters of a build that made a release are kept, because consumers may read a parameter.
A catalog that was restored from a backup may have lost the release, and not the reservation. So a parameter is also
kept if its image is there and not temporary, and a grant if such an image of its build is beside its key. They are
listed in ``Left.others``.
The parameters of a channel are never temporary, because they only name images of releases. If a machine failed while it
moved them, they keep their values until the next move of the channel, which moves all of them.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any, Final

from goldenami.aws import errors, images, parameters, tags
from goldenami.aws.kinds import Tagged, in_order, kind_of, parameter_tags
from goldenami.aws.limits import FILTER_VALUES
from goldenami.aws.ownership import Answer, Owner, Proofs
from goldenami.aws.session import Cloud
from goldenami.each import each, parts
from goldenami.errors import CloudError
from goldenami.journal import Journals, token
from goldenami.model import MAXIMUM_LIFETIME, Environment, Place, Target
from goldenami.reconcile import TEMPORARY, Found
from goldenami.release import targets as modes
from goldenami.release.catalog import Catalog
from goldenami.release.empty import refuse_empty
from goldenami.release.parameters import parameter_of_version

_BUILD_ID: Final = re.compile(r"\d{8}-\d{6}-[0-9a-f]{4,32}")
_GRANT: Final = re.compile(rf"goldenami-([0-9a-f]{{16}}-)?(?P<build>{_BUILD_ID.pattern})-(?P<token>[0-9a-f]{{40}})")
_RESERVED: Final = ("grant", "parameter")  # kinds whose build must have reserved a version for this environment
_ARCHITECTURES: Final = ("x86_64", "arm64")
_ATTEMPTS: Final = range(1, 20)
_GRANTS: Final = range(4)  # grants of one candidate to one account: one for each key of its snapshots


@dataclass
class Left:
    """Expired resources.

    ``orphans``: resources of builds without a journal here. ``builds``: build id -> resources of builds with a journal
    here. ``unreachable``: place -> reason, for places that could not be searched. ``others``: resource -> whose it is,
    for expired resources that are not ours, or may be those of a release that the catalog does not have; they are kept.
    """

    orphans: list[Found] = field(default_factory=list)
    builds: dict[str, list[Found]] = field(default_factory=dict)
    unreachable: dict[str, str] = field(default_factory=dict)
    others: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class _Expired:
    """An expired resource, its build, and whose it is. ``lasting``: the image for which it is kept all the same, as the
    catalog may have lost its release."""

    build_id: str
    resource: Found
    answer: Answer
    lasting: str = ""


def find(cloud: Cloud, environment: Environment, catalog: Catalog, journals: Journals, proofs: Proofs) -> Left:
    """Search every account and region of the environment for expired resources, and those with parameters for images
    that are only shared with them for these. Changes nothing.

    Raises CatalogError if the catalog cannot be read, or if it is empty beside released resources. Raises AccessError
    for wrong credentials.
    """
    cloud.check_caller()
    refuse_empty(cloud, environment, catalog)
    informed = environment.informed_places
    owner = Owner(catalog.identity(), environment.name, proofs)
    versions = frozenset((name, version) for name in catalog.names() for version in catalog.versions(name))

    def search(place: Place) -> list[_Expired]:
        if place in informed:
            return list(_parameters(cloud, environment, place, owner, versions))
        return _search(cloud, environment, place, owner, versions)

    answers = each((*environment.places, *informed), search)
    # After the search: other processes may have published a build meanwhile, or begun one.
    owned, released = _owned(catalog)
    journaled = frozenset(journals.storage.names())
    left = Left(unreachable={str(place): reason for place, reason in answers.reasons.items()})
    found: dict[str, list[Found]] = defaultdict(list)
    every = [one for of_place in answers.results.values() for one in of_place]
    # Reservations are never deleted: in a bucket these can be thousands of calls.
    is_asked = any(one.resource.kind in _RESERVED for one in every)
    environments = {one.build_id: one.environment for one in catalog.all_reservations()} if is_asked else {}
    for expired in every:
        build_id, one = expired.build_id, expired.resource
        if not expired.answer.is_ours:
            left.others[str(one)] = f"{expired.answer.whose}: {expired.answer.reason}"
            continue
        # Manifests do not list grants, and a parameter has only its name. So the grants and parameters of a build that
        # made a release are kept.
        if one.id in owned or (build_id in released and not kind_of(one.kind).in_manifest):
            continue
        # The name of a grant does not contain the environment, but the reservation of the build's version does. A
        # parameter whose build has none is that of a task, which made it for a release.
        if one.kind in _RESERVED and environments.get(build_id) != environment.name:
            left.others[str(one)] = "unknown: its build has no reservation of this environment"
            continue
        if expired.lasting:
            left.others[str(one)] = (
                f"unknown: {expired.lasting} is not temporary, so it may belong to a release that the catalog has lost"
            )
            continue
        found[build_id].append(one)
    for build_id, resources in sorted(found.items()):
        if build_id in journaled:
            left.builds[build_id] = sorted(resources)
        else:
            left.orphans += sorted(resources)
    return left


def _search(
    cloud: Cloud, environment: Environment, place: Place, owner: Owner, versions: Collection[tuple[str, str]]
) -> list[_Expired]:
    return [
        *_tagged(cloud, place, owner),
        *_parameters(cloud, environment, place, owner, versions),
        *_grants(cloud, environment, place, owner),
    ]


def _tagged(cloud: Cloud, place: Place, owner: Owner) -> Iterator[_Expired]:
    for kind in in_order():
        if not kind.has_tags or not kind.expires:
            continue
        for id, one in kind.tagged(cloud, place, tags.EXPIRES_AT, None).items():
            if is_expired(one.tags, cloud.now()) and not kind.is_gone(cloud, place, id):
                answer = kind.owner_of(cloud, place, one, owner)
                yield _Expired(one.tags[tags.BUILD_ID], Found(place, kind.name, id), answer)


def is_expired(own: Mapping[str, str], now: datetime) -> bool:
    """Return whether the tags belong to a temporary resource of goldenami whose time has passed, of any owner."""
    build_id, ends = own.get(tags.BUILD_ID, ""), tags.parse_timestamp(own.get(tags.EXPIRES_AT, ""))
    if ends is None or ends > now or not _BUILD_ID.fullmatch(build_id):
        return False
    return tags.made_by(own, build_id, own.get(tags.CATALOG))


def _parameters(
    cloud: Cloud, environment: Environment, place: Place, owner: Owner, versions: Collection[tuple[str, str]]
) -> Iterator[_Expired]:
    """Yield the expired parameters of versions that are no release. ``versions``: names and versions of releases."""
    if owner.catalog is None:
        return
    kind, ours = kind_of("parameter"), {tags.CATALOG: owner.catalog, tags.ENVIRONMENT: owner.environment}
    candidates: dict[str, Tagged] = {}
    for name, changed in parameters.dates_with_tags(cloud, place, ours).items():
        of_version = parameter_of_version(name)
        if of_version is None or of_version in versions:
            continue
        # One call for each parameter, so only for those without a release.
        found = Tagged(parameter_tags(cloud, place, name), {"Name": name})
        build_id = found.tags.get(tags.BUILD_ID, "")
        if not _BUILD_ID.fullmatch(build_id) or _made(changed, build_id) + environment.lifetime > cloud.now():
            continue
        if tags.made_by(found.tags, build_id, owner.catalog):
            candidates[name] = found
    if not candidates:
        return
    values = parameters.find_many(cloud, place, candidates)
    lasting = _lasting(cloud, environment, place, set(values.values()))
    for name, value in sorted(values.items()):
        found = candidates[name]
        answer = kind.owner_of(cloud, place, found, owner)
        kept = value if value in lasting else ""
        yield _Expired(found.tags[tags.BUILD_ID], Found(place, kind.name, name), answer, kept)


def _lasting(cloud: Cloud, environment: Environment, place: Place, values: Collection[str]) -> frozenset[str]:
    """Return those of the values of parameters that are no images which are temporary or do not exist.

    Only its owner sees the tags of an image, a disabled image, and one whose share somebody has ended. The owner is the
    account of the place or the home account, so both are asked. Raises AccessError or CloudError if one of them does
    not answer: an image that is not seen would look as if it did not exist.
    """
    ids = [value for value in values if value.startswith("ami-")]
    found: dict[str, Mapping[str, Any]] = {}
    home = Place(environment.home.id, place.region)
    for at in dict.fromkeys((place, home if home in environment.places else place)):
        for id, image in images.describe_many(cloud, at, ids).items():
            if id not in found or image.get("OwnerId") == at.account:
                found[id] = image
    return frozenset(values) - {id for id in ids if id not in found or _is_temporary(found[id])}


def _is_temporary(item: Mapping[str, Any]) -> bool:
    return tags.EXPIRES_AT in tags.from_list(item.get("Tags"))


def _grants(cloud: Cloud, environment: Environment, place: Place, owner: Owner) -> Iterator[_Expired]:
    """Yield the expired grants of builds on the environment's keys.

    A build creates grants to let an account copy a candidate, and to share an image.
    """
    expired: list[_Expired] = []
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
            if name is None or _made(grant.get("CreationDate"), name["build"]) + environment.lifetime > cloud.now():
                continue
            # The grants of other catalogs are not listed: whether they belong to a release cannot be determined here.
            answer = owner.of_grant(name[0])
            if answer.is_ours and name["token"] in _grant_tokens(name["build"], environment, target):
                expired.append(_Expired(name["build"], Found(place, "grant", grant["GrantId"], arn), answer))
    if not expired:
        return
    builds = sorted({one.build_id for one in expired})
    lasting = {
        tags.from_list(image["Tags"])[tags.BUILD_ID]: str(image["ImageId"])
        for part in parts(builds, FILTER_VALUES)
        for image in images.own(cloud, place, {f"tag:{tags.BUILD_ID}": part})
        if not _is_temporary(image)
    }
    yield from (replace(one, lasting=lasting.get(one.build_id, "")) for one in expired)


def _made(created: object, build_id: str) -> datetime:
    """Return when a grant or a parameter was made: ``created``, or the start of the build, from its id, if AWS returns
    no date."""
    began = tags.start_of_build(build_id)
    if began is None:  # not the id of a build
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
