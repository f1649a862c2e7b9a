"""Whether the names of a new release are free: of its AMIs and of its SSM parameters. Read before anything is launched.

The names of AMIs are unique in an account and region, and the catalog knows only its own builds. So the number of a new
version is chosen after all targets were searched for images and parameters of the same day:

- A number that another build of goldenami has used is not used again, and a warning names the holder. This happens with
  a second catalog for the same accounts, or after a catalog was lost. Gaps in the numbers are normal.
- A number whose name is taken by an image that goldenami did not make is an error, since the user must decide whether
  the image or ``image_name`` changes.

A channel's parameter is moved only if it belongs to this catalog: by its tags, and by its value, which must be an image
of this catalog. Otherwise the build is refused, and the error names the holder.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import date
from typing import Any, TypeVar

from goldenami.aws import images, parameters, tags
from goldenami.aws.ownership import Owner
from goldenami.aws.parameters import Current
from goldenami.aws.session import Cloud
from goldenami.each import AT_ONCE_BESIDE, both, each
from goldenami.errors import CloudError, NameTaken, TargetsFailed
from goldenami.model import Architecture, Place, Target
from goldenami.release import names
from goldenami.release import targets as modes
from goldenami.release.catalog import Catalog
from goldenami.release.parameters import CHANNEL_PARAMETERS, NOT_OURS, parameter_name, why_not_ours
from goldenami.release.versions import Version

_R = TypeVar("_R")
ChannelValues = Mapping[Place, Mapping[str, Current]]


@dataclass(frozen=True, slots=True)
class ReleaseNames:
    """What determines the names of a recipe's releases. ``line``: MAJOR.MINOR; ``image_name``: the template.
    ``informed``: places without a target that also get parameters."""

    recipe: str
    line: str
    architectures: tuple[Architecture, ...]
    targets: tuple[Target, ...]
    image_name: str
    prefix: str
    informed: tuple[Place, ...] = ()

    def parameters(self, which: str, *what: str) -> tuple[str, ...]:
        """Return the names of the parameters of a channel or version; they are the same in each place. ``what``: their
        last parts, by default those with image ids."""
        return tuple(
            parameter_name(self.prefix, self.recipe, a, which, one)
            for a in self.architectures
            for one in what or ("image-id",)
        )


@dataclass(frozen=True, slots=True)
class Taken:
    """The numbers of a day that cannot be used, and the ``version`` whose names are free. ``warnings``: why the next
    number of the catalog is not used. ``channel``: the values of the channel's parameters, by place and name."""

    numbers: frozenset[int]
    version: str
    warnings: tuple[str, ...] = ()
    channel: ChannelValues = field(default_factory=dict)


def find_taken(
    cloud: Cloud, catalog: Catalog, wanted: ReleaseNames, day: date, channel: str, version: str | None = None
) -> Taken:
    """Search all targets for the names of this day's versions, from ``version``, by default the next one of the
    catalog. The calls read the parameters of the channel as well, for :func:`check_channel`.

    Raises NameTaken if the next number is taken by an image that goldenami did not make, and TargetsFailed if a
    required target cannot be searched.
    """
    first = Version.first(wanted.line, day)
    number = Version.parse(version or catalog.next_version(wanted.recipe, wanted.line, day)).number
    expected = str(replace(first, number=number))
    # It is nearly always free, so its parameters are read at the same time.
    held, seen = both(
        lambda: _images_of_day(cloud, wanted, first), lambda: {expected: _parameters(cloud, wanted, expected, channel)}
    )
    numbers = set(held)
    warnings: list[str] = []
    while True:
        version = str(replace(first, number=number))
        if number in held:
            foreign = [one for one in held[number] if tags.BUILD_ID not in tags.from_list(one[1].get("Tags"))]
            if foreign:
                raise _taken(wanted, version, *foreign[0])
            place, image = held[number][0]
            holder = f"{image['Name']} in {place} is {images.describe_holder(image)}"
        else:
            found, values = seen.get(version) or _parameters(cloud, wanted, version, channel)
            if not found:
                return Taken(frozenset(numbers), version, tuple(warnings), values)
            place, name, value = found[0]
            holder = f"parameter {name} in {place} exists already and has the value {value}"
            numbers.add(number)
        warnings.append(f"{wanted.recipe} {version} is not used, because its names are taken: {holder}")
        number += 1


def check_version(cloud: Cloud, wanted: ReleaseNames, version: str, build_id: str) -> None:
    """Raise NameTaken if another image has a name of a version that a build has reserved."""

    def search(place: Place) -> list[Mapping[str, Any]]:
        exact = [
            names.image_name(wanted.image_name, recipe=wanted.recipe, version=version, architecture=a)
            for a in wanted.architectures
        ]
        return list(images.own(cloud, place, {"name": exact}))

    for place, found in _ask_all(_owning(wanted), search).items():
        for image in found:
            if tags.from_list(image.get("Tags")).get(tags.BUILD_ID) != build_id:
                raise _taken(wanted, version, place, image)


def check_channel(
    cloud: Cloud,
    catalog: Catalog,
    owner: Owner,
    wanted: ReleaseNames,
    channel: str,
    values: ChannelValues | None = None,
) -> None:
    """Raise CloudError if a channel's parameter in a required target does not belong to this catalog. ``values``: those
    of ``Taken.channel``; otherwise they are read."""
    every = wanted.parameters(channel, *CHANNEL_PARAMETERS)

    def search(place: Place) -> list[str]:
        found = parameters.current_of(cloud, place, every) if values is None else values.get(place, {})
        return list(why_not_ours(cloud, catalog, owner, wanted.recipe, place, found).values())

    required = {target.place for target in wanted.targets if target.required}
    answers = _ask_all(wanted.targets, search, wanted.informed)
    reasons = [reason for place, found in answers.items() if place in required | {*wanted.informed} for reason in found]
    if reasons:
        raise CloudError(
            f"{wanted.recipe}@{channel} cannot be moved. {'. '.join(reasons)}",
            code=NOT_OURS,
            hint="Nothing was changed. Set another parameter_prefix in goldenami.yaml, for example "
            f"'{wanted.prefix}/{{{{ environment.name }}}}', or use the catalog that the parameter belongs to. If no "
            "program needs the parameter any more, delete it.",
        )


# --- inside -----------------------------------------------------------------------------------------------------------


def _images_of_day(
    cloud: Cloud, wanted: ReleaseNames, first: Version
) -> Mapping[int, list[tuple[Place, Mapping[str, Any]]]]:
    """Return the images that have a name of a version of the day, by the number of the version."""
    day = f"{first.major}.{first.minor}.{first.day:08}"
    patterns = list(names.name_patterns(wanted.image_name, wanted.recipe, day, wanted.architectures))
    numbers = [re.compile(re.escape(pattern).replace(r"\*", r"([1-9]\d{0,8})")) for pattern in patterns]
    found: dict[int, list[tuple[Place, Mapping[str, Any]]]] = defaultdict(list)
    answers = _ask_all(_owning(wanted), lambda place: images.own(cloud, place, {"name": patterns}))
    for place, here in answers.items():
        for image in here:
            for number in numbers:
                match = number.fullmatch(str(image.get("Name", "")))
                if match is not None:
                    found[int(match[1])].append((place, image))
    return found


def _parameters(
    cloud: Cloud, wanted: ReleaseNames, version: str, channel: str
) -> tuple[list[tuple[Place, str, str]], ChannelValues]:
    """Return the parameters of a version that exist: place, name and value; and those of a channel."""
    names_of, others = wanted.parameters(version), wanted.parameters(channel, *CHANNEL_PARAMETERS)

    def read(place: Place) -> dict[str, Current]:
        here = parameters.current_of(cloud, place, [*names_of, *others])
        cloud.missing_parameters.difference_update((place, name) for name in here)
        cloud.missing_parameters.update((place, name) for name in others if name not in here)
        return here

    answers = _ask_all(wanted.targets, read, wanted.informed)
    found = [
        (place, name, here[name].value) for place, here in answers.items() for name in sorted(here) if name in names_of
    ]
    return found, {place: {name: here[name] for name in others if name in here} for place, here in answers.items()}


def _owning(wanted: ReleaseNames) -> tuple[Target, ...]:
    return tuple(target for target in wanted.targets if modes.get_mode(target).owns_image)


def _ask_all(targets: Iterable[Target], ask: Callable[[Place], _R], more: Iterable[Place] = ()) -> dict[Place, _R]:
    """Ask the places of all targets, and ``more``. A place of best-effort targets only that does not answer is left
    out.

    Raises the error of a required target, or TargetsFailed if there are several.
    """
    others = {place: str(place) for place in more}
    required = others | {target.place: target.label for target in targets if target.required}
    # Images and parameters are searched at the same time, beside the checks before a build.
    answers = each(sorted({target.place for target in targets} | others.keys()), ask, at_once=AT_ONCE_BESIDE)
    failed = {required[place]: error for place, error in answers.errors.items() if place in required}
    if len(failed) == 1:
        raise next(iter(failed.values()))
    if failed:
        raise TargetsFailed(
            f"{len(failed)} targets cannot be searched for the names of the release: {', '.join(failed)}",
            failures={label: error.message for label, error in failed.items()},
            hint="Nothing was changed. Remove the cause, or remove these targets from the recipe.",
        )
    return dict(answers.results)


def _taken(wanted: ReleaseNames, version: str, place: Place, image: Mapping[str, Any]) -> NameTaken:
    return NameTaken(
        f"{wanted.recipe} {version} cannot be built: the name {image.get('Name')} in {place} is taken by "
        f"{images.describe_holder(image)}",
        code="InvalidAMIName.Duplicate",
        account=place.account,
        region=place.region,
        hint="Deregister that image if no program needs it. Or set another image_name of the environment in "
        "goldenami.yaml.",
    )
