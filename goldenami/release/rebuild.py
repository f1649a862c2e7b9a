"""Restores a catalog from the resources in the cloud, after the catalog was lost.

These parts are restored, and each of them only where the catalog has nothing:

- the id of the catalog: from the tag ``goldenami:catalog`` of the images
- releases: from the images that carry the id and the environment and that no clean-up may delete. The tags have name,
  version, build, commit and base. The images have accounts, regions, snapshots and keys. The launch permissions have
  the accounts that share an image.
- channels: from the values of the SSM parameters. All parameters of a channel must name images of one release. The
  earlier releases of a channel are from the history of one parameter.

The cloud does not have the digest and the inputs of a plan, test reports, lists of packages, outputs of scripts, pins
and retirements. A restored manifest says so (``ImageManifest.restored``). Its digest is empty, so no build is
"unchanged" because of it.

A record that exists is never overwritten. A second run restores what a first one could not.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final

from goldenami.aws import images, parameters, snapshots, tags
from goldenami.aws.kinds import parameter_tags
from goldenami.aws.ownership import Owner
from goldenami.aws.session import Cloud
from goldenami.each import each
from goldenami.errors import NotFound, TargetsFailed, UsageError
from goldenami.model import (
    MANIFEST_SCHEMA,
    Architecture,
    BaseImage,
    Environment,
    ImageManifest,
    ManifestImage,
    Place,
    Target,
    timestamp,
)
from goldenami.release import targets as modes
from goldenami.release.catalog import Catalog
from goldenami.release.catalogfiles import Channel, Move
from goldenami.release.verify import manifest_row
from goldenami.release.versions import is_version

NOT_RESTORED: Final = (
    "digests and inputs of plans",
    "test reports",
    "lists of packages",
    "outputs of scripts",
    "pins and retirements",
)
_BUILD_ID: Final = re.compile(r"(\d{8}-\d{6})-[0-9a-f]+")


@dataclass(frozen=True, slots=True)
class Rebuild:
    """What can be restored. ``identity``: the id of the catalog.

    ``releases`` and ``channels``: those that the catalog does not have. ``kept``: records that it has, and that are not
    changed. ``left_out``: what is in the cloud and cannot be restored -> reason. ``unreachable``: place -> reason.
    """

    identity: str
    releases: tuple[ImageManifest, ...] = ()
    channels: tuple[Channel, ...] = ()
    kept: tuple[str, ...] = ()
    left_out: Mapping[str, str] = field(default_factory=dict)
    unreachable: Mapping[Place, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class _Image:
    """An image in the place that owns it, and its tags."""

    place: Place
    item: Mapping[str, Any]
    tags: Mapping[str, str]

    @property
    def id(self) -> str:
        return str(self.item["ImageId"])


@dataclass(frozen=True, slots=True)
class _Parameter:
    place: Place
    name: str
    value: str
    recipe: str
    architecture: str
    channel: str


@dataclass(frozen=True, slots=True)
class _Found:
    images: tuple[_Image, ...]
    parameters: tuple[_Parameter, ...]


def find(
    cloud: Cloud, environment: Environment, catalog: Catalog, now: datetime, *, identity: str | None = None
) -> Rebuild:
    """Search all accounts and regions of an environment for what its catalog does not have. Changes nothing.

    ``identity``: the id of the lost catalog, needed if the resources of several catalogs are there. Raises UsageError
    if it is needed, or if the catalog has another id; NotFound if there is nothing to restore.
    """
    informed = environment.informed_places

    def search(place: Place) -> _Found:
        found = () if place in informed else _images(cloud, environment, place)
        return _Found(found, _parameters(cloud, environment, place))

    answers = each((*environment.places, *informed), search)
    every = [image for found in answers.results.values() for image in found.images]
    identity = _identity(environment, catalog, every, identity, answers.reasons)
    owner = Owner(identity, environment.name)
    left_out: dict[str, str] = {}
    releases = tuple(_releases(cloud, environment, [i for i in every if owner.of_tags(i.tags).is_ours], now, left_out))
    known = [m for m in releases if m.version not in catalog.versions(m.recipe)]
    kept = [m.label for m in releases if m.version in catalog.versions(m.recipe)]
    # A manifest of the catalog knows more than a restored one.
    owned = [catalog.get(m.recipe, m.version) if m.label in kept else m for m in releases]
    channels = []
    for channel in _channels(
        cloud, owner, owned, [p for f in answers.results.values() for p in f.parameters], left_out
    ):
        if catalog.channel(channel.name, channel.channel) is None:
            channels.append(channel)
        else:
            kept.append(f"{channel.name}@{channel.channel}")
    return Rebuild(identity, tuple(known), tuple(channels), tuple(kept), left_out, answers.reasons)


def restore(catalog: Catalog, rebuild: Rebuild) -> None:
    """Write what was found into the catalog. A second call changes nothing.

    Raises TargetsFailed, and writes nothing, if a place did not answer: a manifest is never changed, so it must have
    all images. Raises CatalogError if the catalog got another id since, or cannot be written.
    """
    if rebuild.unreachable:
        raise TargetsFailed(
            f"the catalog is not restored, because {', '.join(map(str, rebuild.unreachable))} did not answer",
            failures={str(place): reason for place, reason in rebuild.unreachable.items()},
            hint="A manifest is never changed, so all its images must be known. Try again when all places answer.",
        )
    catalog.ensure_identity(identity=rebuild.identity)
    with catalog.writing_many():
        for manifest in rebuild.releases:
            if manifest.version not in catalog.versions(manifest.recipe):
                catalog.add(manifest)
        for channel in rebuild.channels:
            catalog.restore_channel(channel)


# --- reading the cloud ------------------------------------------------------------------------------------------------


def _images(cloud: Cloud, environment: Environment, place: Place) -> tuple[_Image, ...]:
    query = {f"tag:{tags.ENVIRONMENT}": [environment.name], "tag-key": [tags.CATALOG]}
    return tuple(_Image(place, item, tags.from_list(item.get("Tags"))) for item in images.own(cloud, place, query))


def _parameters(cloud: Cloud, environment: Environment, place: Place) -> tuple[_Parameter, ...]:
    pattern = re.compile(rf"{re.escape(environment.parameter_prefix)}/([^/]+)/(x86_64|arm64)/([^/]+)/image-id")
    named = []
    for name, value in parameters.below(cloud, place, environment.parameter_prefix).items():
        match = pattern.fullmatch(name)
        if match is not None and not is_version(match[3]):
            named.append(_Parameter(place, name, value, match[1], match[2], match[3]))
    return tuple(named)


def _identity(
    environment: Environment,
    catalog: Catalog,
    found: Sequence[_Image],
    given: str | None,
    unreachable: Mapping[Place, str],
) -> str:
    counts = Counter(image.tags[tags.CATALOG] for image in found)
    present = catalog.identity()
    if present is not None and given not in (None, present):
        raise UsageError(
            f"--id is {given}, but the catalog {environment.catalog} has the id {present}",
            hint="An id never changes. Set `catalog` in goldenami.yaml to an empty place to restore another catalog.",
        )
    chosen = present or given
    if chosen is None and len(counts) > 1:
        listed = ", ".join(f"{id} ({count} images)" for id, count in counts.most_common())
        raise UsageError(
            f"images of {len(counts)} catalogs have the environment {environment.name}: {listed}",
            hint="Give the id of the catalog to restore with --id.",
        )
    if chosen is None and not counts:
        reason = "; ".join(f"{place}: {reason}" for place, reason in unreachable.items())
        raise NotFound(
            f"no image in the accounts and regions of {environment.name} has the tags of a catalog"
            + (f" ({reason})" if reason else ""),
            hint="There is nothing to restore. The first build creates the catalog.",
        )
    return chosen or next(iter(counts))


# --- releases ---------------------------------------------------------------------------------------------------------


def _releases(
    cloud: Cloud, environment: Environment, found: Sequence[_Image], now: datetime, left_out: dict[str, str]
) -> Iterator[ImageManifest]:
    groups: dict[tuple[str, str, str], list[_Image]] = defaultdict(list)
    for image in found:
        name, version = (image.tags.get(key, "") for key in (tags.RECIPE, tags.VERSION))
        build_id = image.tags.get(tags.ADDED_TO) or image.tags.get(tags.BUILD_ID, "")
        if tags.EXPIRES_AT in image.tags:
            left_out[f"image {image.id} in {image.place}"] = "it is temporary, so its build did not release it"
        elif not (name and is_version(version) and build_id):
            left_out[f"image {image.id} in {image.place}"] = "its tags do not name a release"
        else:
            groups[name, version, build_id].append(image)
    versions = Counter((name, version) for name, version, _ in groups)
    for (name, version, build_id), group in sorted(groups.items()):
        rows = [row for image in group for row in _rows(cloud, environment, image)]
        places = Counter((row.account, row.region, row.architecture) for row in rows)
        if versions[name, version] > 1:
            left_out[f"{name} {version} of build {build_id}"] = "another build has images of the same version"
        elif max(places.values()) > 1:
            left_out[f"{name} {version}"] = "an account has several of its images in one region"
        else:
            yield _manifest(cloud, environment, build_id, group, rows, now)


def _rows(cloud: Cloud, environment: Environment, image: _Image) -> Iterator[ManifestImage]:
    """Yield the row of the image's owner, and one for each target that may use the image."""
    behind = snapshots.describe_many(cloud, image.place, snapshots.of_image(image.item))
    targets = {target.place: target for target in environment.targets}
    own = targets.get(image.place)
    mode = own.mode if own is not None and modes.get_mode(own).owns_image else "copy"
    allowed = images.launch_permissions(cloud, image.place, image.id)
    yield manifest_row(image.item, behind, image.place, mode, allowed)
    for target in (t for t in environment.targets if _shares(environment, t, image.place)):
        if target.account.id in allowed:
            yield manifest_row(image.item, behind, target.place, target.mode)


def _shares(environment: Environment, target: Target, owner: Place) -> bool:
    mode = modes.get_mode(target)
    if mode.owns_image:
        return False
    sources = [other for other in environment.targets if other.label == mode.source(target)]
    return any(source.place == owner for source in sources)


def _manifest(
    cloud: Cloud,
    environment: Environment,
    build_id: str,
    group: Sequence[_Image],
    rows: Sequence[ManifestImage],
    now: datetime,
) -> ImageManifest:
    first = min(group, key=lambda image: (image.place != environment.home_place, image.place, image.id))
    return ImageManifest(
        schema=MANIFEST_SCHEMA,
        recipe=first.tags[tags.RECIPE],
        version=first.tags[tags.VERSION],
        build_id=build_id,
        digest="",
        environment=environment.name,
        created=_created(build_id) or str(first.item.get("CreationDate", "")),
        base=_base(cloud, environment, group),
        images=tuple(sorted(rows, key=lambda row: (row.architecture, row.account, row.region))),
        tests=(),
        packages={},
        changes={},
        git_commit=first.tags.get(tags.GIT_COMMIT),
        description=_description(first),
        restored=timestamp(now),
    )


def _description(image: _Image) -> str:
    """Return the description of the recipe. For a recipe without one, EC2 writes its own text ("CopyImage")."""
    text = str(image.item.get("Description") or "")
    return "" if text.startswith("[Copied ami-") else text


def _base(cloud: Cloud, environment: Environment, group: Sequence[_Image]) -> dict[Architecture, BaseImage]:
    """Return the base that the tag of the images names. The images of several architectures have no such tag."""
    named = {image.tags[tags.BASE_AMI] for image in group if tags.BASE_AMI in image.tags}
    architectures = {str(image.item["Architecture"]) for image in group}
    if len(named) != 1 or len(architectures) != 1:
        return {}
    (image_id,) = named
    source = f"tag {tags.BASE_AMI}"
    item = images.describe_many(cloud, environment.home_place, [image_id]).get(image_id)
    if item is not None:
        base = images.base_image(item, source)
        return {base.architecture: base}
    architecture: Architecture = group[0].item["Architecture"]
    # The base is deleted, or not visible any more. Only its id is known.
    return {architecture: BaseImage(image_id, "", "", architecture, "", 0, "", source)}


def _created(build_id: str) -> str | None:
    """Return the time in the id of a build."""
    match = _BUILD_ID.fullmatch(build_id)
    return timestamp(datetime.strptime(match[1], "%Y%m%d-%H%M%S").replace(tzinfo=UTC)) if match else None


# --- channels ---------------------------------------------------------------------------------------------------------


def _channels(
    cloud: Cloud,
    owner: Owner,
    releases: Sequence[ImageManifest],
    found: Sequence[_Parameter],
    left_out: dict[str, str],
) -> Iterator[Channel]:
    of_image = {(m.recipe, row.image_id): m for m in releases for row in m.images}
    groups: dict[tuple[str, str], list[_Parameter]] = defaultdict(list)
    for parameter in found:
        answer = owner.of_tags(parameter_tags(cloud, parameter.place, parameter.name))
        if answer.is_ours:
            groups[parameter.recipe, parameter.channel].append(parameter)
        else:
            left_out[f"parameter {parameter.name} in {parameter.place}"] = f"it is {answer.reason}"
    for (name, channel), group in sorted(groups.items()):
        values = {p: of_image.get((name, p.value)) for p in group}
        unknown = [p for p, release in values.items() if release is None]
        versions = sorted({release.version for release in values.values() if release is not None})
        if unknown:
            left_out[f"{name}@{channel}"] = (
                f"parameter {unknown[0].name} in {unknown[0].place} has the value {unknown[0].value}, which is not an "
                "image of a release"
            )
        elif len(versions) > 1:
            left_out[f"{name}@{channel}"] = f"its parameters name several versions: {', '.join(versions)}"
        else:
            yield _channel(cloud, name, channel, versions[0], group, of_image)


def _channel(
    cloud: Cloud,
    name: str,
    channel: str,
    version: str,
    group: Sequence[_Parameter],
    of_image: Mapping[tuple[str, str], ImageManifest],
) -> Channel:
    """Return a channel with the moves that the history of its first parameter has. Moves to releases that do not exist
    any more are left out."""
    first = min(group, key=lambda p: (p.place, p.name))
    moves: list[Move] = []
    for one in parameters.history(cloud, first.place, first.name):
        release = of_image.get((name, str(one["Value"])))
        if release is not None and (not moves or moves[-1].version != release.version):
            moves.append(Move(release.version, timestamp(one["LastModifiedDate"])))
    if not moves or moves[-1].version != version:
        release = of_image[name, first.value]
        moves.append(Move(version, release.created))
    return Channel(name, channel, version, moves[-2].version if len(moves) > 1 else None, tuple(moves))
