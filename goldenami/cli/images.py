"""The commands about releases: what there is, and what is in it.

`images list`, `images show` and `images of` also ask the accounts and regions about the images.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from goldenami.cli import completing, places
from goldenami.cli.context import (
    is_up,
    keeping_memory,
    open_catalog,
    open_project,
    print_json,
    print_table,
    reach,
)
from goldenami.cli.options import environment_option, history_svg_option, json_option
from goldenami.cli.releases import Filters, filter_options
from goldenami.each import Failures
from goldenami.errors import NotFound, UsageError
from goldenami.nextstep import step

if TYPE_CHECKING:
    from goldenami.model import Environment, ImageManifest
    from goldenami.release.catalog import Catalog
    from goldenami.release.index import IndexedImage, IndexedRelease
    from goldenami.release.listing import Filter, ListedRelease
    from goldenami.release.presence import Presence, WithImages

IMAGE_LINEAGE_SCHEMA = "goldenami.image-lineage/1"
RELEASES_SCHEMA = "goldenami.releases/1"
IMAGE_OF_SCHEMA = "goldenami.image-of/1"


@click.group()
def images() -> None:
    """List releases, or show one, its relatives and its history; or what differs between two."""


check_option = click.option(
    "--check/--no-check",
    default=None,
    help="Query the state of the images in every account and region. Default: yes if there are credentials; in the "
    "sandbox, if it is up.",
)


@images.command("list")
@click.option(
    "--name",
    "only",
    metavar="NAME",
    shell_complete=completing.names,
    help="Only releases of this recipe, or of a pattern such as `web-*`.",
)
@filter_options
@check_option
@environment_option
@json_option
@keeping_memory()
def list_releases(
    only: str | None, chosen: Filters, check: bool | None, environment_name: str | None, as_json: bool
) -> int:
    """List releases, newest first, with their channels and the state of their images.

    All options that choose releases must match. The images are counted, and queried, in the chosen account and region
    only. --state deprecated needs the state of the images, and so credentials.

    A release that cannot be read is named on stderr; the others are listed, and the exit code is 1. The exit code is 6
    if an account or region did not answer.

    Example: `goldenami images list --name 'web-*' --channel stable --since 30d`
    """
    from goldenami.release import listing
    from goldenami.release.versions import Reference

    _, environment = open_project(environment_name)
    literal = only if only is not None and not listing.is_pattern(only) else None
    wanted = chosen.to_filter(environment, only)
    if chosen.state == "deprecated" and check is False:
        raise UsageError(
            "found --no-check with --state deprecated, expected only one of them",
            hint="EC2 has the time of the deprecation, not the catalog.",
        )
    catalog = open_catalog(environment).indexed(literal)
    if literal is not None and not catalog.versions(literal):
        catalog.find(Reference(literal))  # raises NotFound, with the nearest name
    damaged = Failures[tuple[str, str]]()
    listed = list(listing.list_releases(catalog, wanted, damaged))
    presence = _look(environment, lambda: _existing(listed, wanted), True if chosen.state == "deprecated" else check)
    if chosen.state == "deprecated" and presence is not None:
        listed = [one for one in listed if _is_deprecated(one.entry.images, presence)]
    if as_json:
        unreachable = {"unreachable": places.to_json(presence.unreachable)} if presence is not None else {}
        rows = [_summary(one, wanted, presence) for one in listed]
        print_json({"schema": RELEASES_SCHEMA, "releases": rows, **unreachable})
    elif listed:
        print_table(
            ["NAME", "VERSION", "CHANNELS", "CREATED", "ARCHITECTURES", "IMAGES"],
            [_cells(one, wanted, presence) for one in listed],
        )
    elif not damaged.reasons:
        found = (
            "No release matches."
            if catalog.names()
            else f"There are no releases yet. {step('build', 'RECIPE')} makes one."
        )
        click.echo(found, err=True)
    for reason in damaged.reasons.values():
        click.echo(f"error: {reason}", err=True)
    failed = next((error.exit_code for error in damaged.errors.values()), 0)
    return failed or _print_unreachable(presence)


@images.command("show")
@click.argument("reference", metavar="NAME[@CHANNEL|@VERSION]", shell_complete=completing.recipes_or_releases)
@click.option(
    "--changes",
    "list_changes",
    is_flag=True,
    help="List the packages that differ from the base image, with both versions.",
)
@check_option
@environment_option
@json_option
def show_release(
    reference: str, list_changes: bool, check: bool | None, environment_name: str | None, as_json: bool
) -> int:
    """Show one release: its images and their states, its inputs and its tests.

    NAME alone means its newest release. --json prints the manifest as it is in the catalog, and queries no
    place. The exit code is 6 if an account or region did not answer.
    """
    from goldenami.cli import described
    from goldenami.release.versions import Reference

    _, environment = open_project(environment_name)
    catalog = open_catalog(environment)
    manifest = catalog.find(Reference.parse(reference))
    if as_json:
        from goldenami import manifest as codec

        click.echo(codec.dumps(manifest), nl=False)
        return 0
    if list_changes:
        print_table(["ARCHITECTURE", "PACKAGE", "BASE", "IMAGE"], described.change_rows(manifest))
        return 0
    presence = _look(environment, lambda: [manifest], check)
    pointing = [c.channel for c in catalog.channels(manifest.recipe) if c.current == manifest.version]
    for line in described.text(manifest, pointing):
        click.echo(line)
    click.echo()
    state = ["STATE"] if presence is not None else []
    print_table(
        ["ARCHITECTURE", "ACCOUNT", "REGION", "IMAGE", *state, "MODE", "ENCRYPTED", "SNAPSHOTS"],
        [
            [
                image.architecture,
                image.account,
                image.region,
                image.image_id,
                *([presence.state_of(image)] if presence is not None else []),
                image.mode,
                "yes" if image.encrypted else "no",
                " ".join(snapshot.snapshot_id for snapshot in image.snapshots),
            ]
            for image in manifest.images
        ],
    )
    return _print_unreachable(presence)


@images.command("lineage")
@click.argument("reference", metavar="NAME[@CHANNEL|@VERSION]", shell_complete=completing.recipes_or_releases)
@environment_option
@json_option
def show_lineage(reference: str, environment_name: str | None, as_json: bool) -> None:
    """Show the releases that a release is built on, and all releases that are built on it.

    Parents come first. Reads only the catalog, so a base image of another owner has no row.
    """
    from goldenami.release import listing
    from goldenami.release.versions import Reference

    _, environment = open_project(environment_name)
    catalog = open_catalog(environment).indexed()
    parsed = Reference.parse(reference)
    version = catalog.version_of(parsed)
    if version not in catalog.versions(parsed.name):
        catalog.get(parsed.name, version)  # raises NotFound
    relatives = listing.descent(catalog, parsed.name, version)
    rows: list[dict[str, Any]] = [
        {
            "distance": one.distance,
            "name": one.release.entry.name,
            "version": one.release.entry.version,
            "channels": list(one.release.channels),
            "created": one.release.entry.created,
            "states": list(one.release.states),
            "built_on": list(one.built_on),
        }
        for one in relatives
    ]
    if as_json:
        print_json({"schema": IMAGE_LINEAGE_SCHEMA, "name": parsed.name, "version": version, "releases": rows})
        return
    words = {-1: "parent", 0: "this release", 1: "child"}
    print_table(
        ["RELATION", "RELEASE", "CHANNELS", "STATES", "CREATED", "BUILT ON"],
        [
            [
                words[max(-1, min(1, row["distance"]))],
                f"{row['name']} {row['version']}",
                _cell(row["channels"]),
                _cell(row["states"]),
                row["created"],
                ", ".join(row["built_on"]) or "-",
            ]
            for row in rows
        ],
    )


@images.command("history")
@click.argument("reference", metavar="NAME[@CHANNEL|@VERSION]", shell_complete=completing.recipes_or_releases)
@environment_option
@history_svg_option
@json_option
def show_history(reference: str, environment_name: str | None, svg: Path | None, as_json: bool) -> None:
    """Show what happened to the releases of a recipe: the same as `goldenami history`."""
    from goldenami.cli.channels import print_history

    print_history(reference, environment_name, svg, as_json=as_json)


@images.command("diff")
@click.argument("before", metavar="RELEASE|AMI", shell_complete=completing.recipes_or_releases)
@click.argument("after", metavar="[RELEASE|AMI]", required=False, shell_complete=completing.recipes_or_releases)
@click.option("--files", is_flag=True, help="List each file that differs, and why it may. Otherwise they are counted.")
@click.option("--markdown", "as_markdown", is_flag=True, help="Print Markdown, for the notes of a release.")
@environment_option
@json_option
def diff_releases(
    before: str, after: str | None, files: bool, as_markdown: bool, environment_name: str | None, as_json: bool
) -> None:
    """Show what differs between two releases: packages with their advisories, base images, inputs, variables, tests,
    controls and places; and of their hosts files, services, users, groups, listening ports, kernel settings, the used
    disk and the time of the boot.

    A release is NAME@CHANNEL, NAME@VERSION, NAME (the newest), or the id of one of its images. With one release, it is
    compared with the release before it. Reads only the catalog.

    Examples: `goldenami images diff web@stable web@candidate`, `goldenami images diff web@stable`
    """
    from goldenami.cli import compared
    from goldenami.release import comparison

    if as_markdown and as_json:
        raise UsageError("found --markdown and --json, expected one of them")
    _, environment = open_project(environment_name)
    catalog = open_catalog(environment)
    first = _release_of(catalog, before)
    versions = catalog.versions(first.recipe)
    if after is None:
        earlier = versions[versions.index(first.version) + 1 :]
        if not earlier:
            raise NotFound(
                f"{first.label} is the first release of {first.recipe}",
                hint="Name two releases: the one before, and the one after.",
            )
        old, new = catalog.get(first.recipe, earlier[0]), first
    else:
        old, new = first, _release_of(catalog, after)
    same_recipe = old.recipe == new.recipe
    between = comparison.releases_between(versions, old.version, new.version) if same_recipe else ()
    others = [catalog.get(old.recipe, version) for version in reversed(between)]
    found = comparison.compare(old, new, others, (catalog.states(old), catalog.states(new)))
    if as_json:
        print_json(compared.document(found))
        return
    for line in compared.markdown(found, files=files) if as_markdown else compared.text(found, files=files):
        click.echo(line)


def _release_of(catalog: Catalog, text: str) -> ImageManifest:
    """Return the release of a reference, or of the id of an image. Raises NotFound."""
    from goldenami.release.versions import Reference

    if not text.startswith("ami-"):
        return catalog.find(Reference.parse(text))
    entry = _entry_of(catalog, text)
    return catalog.get(entry.name, entry.version)


def _entry_of(catalog: Catalog, image_id: str) -> IndexedRelease:
    """Return the release that has an image. Raises NotFound."""
    entry = catalog.entry_with_image(image_id)
    if entry is None:
        raise NotFound(
            f"{image_id} is no image of this catalog",
            hint="It can be a base image, or of another environment or team. Its tags in EC2 show who made it.",
        )
    return entry


@images.command("of")
@click.argument("id", metavar="AMI|INSTANCE")
@click.option("--region", metavar="REGION", help="Region of the instance. Default: the home region.")
@click.option("--account", metavar="ACCOUNT", help="Account of the instance: a name or 12 digits. Default: home.")
@check_option
@environment_option
@json_option
def release_of_image(
    id: str,
    region: str | None,
    account: str | None,
    check: bool | None,
    environment_name: str | None,
    as_json: bool,
) -> int:
    """Show which release an image belongs to, or the image that an instance runs: its channels, its age, and how many
    releases are newer.

    Also how far it is behind each channel that it was in, and when it is deprecated. An instance is described in its
    account and region, and an image where it is. The exit code is 6 if that place did not answer; then the time of the
    deprecation is unknown.
    """
    from datetime import UTC, datetime

    from goldenami.release import listing

    _, environment = open_project(environment_name)
    image_id = id
    if id.startswith("i-"):
        image_id = _image_of_instance(environment, id, region, account)
    elif not id.startswith("ami-"):
        raise UsageError(f"found {id!r}, expected the id of an image (ami-…) or of an instance (i-…)")
    catalog = open_catalog(environment).indexed()
    entry = _entry_of(catalog, image_id)
    name, version = entry.name, entry.version
    channels = catalog.channels(name)
    newer = listing.newer(catalog, name, version)
    versions = catalog.versions(name)
    presence = _look(environment, lambda: [_OneImage(tuple(i for i in entry.images if i.image_id == image_id))], check)
    form: dict[str, Any] = {
        "image_id": image_id,
        "instance": id if id != image_id else None,
        "name": name,
        "version": version,
        "channels": [c.channel for c in channels if c.current == version],
        "was_in": sorted({c.channel for c in channels for m in c.history if m.version == version}),
        "created": entry.created,
        "age_days": (datetime.now(UTC) - datetime.fromisoformat(entry.created)).days,
        "newer_releases": len(newer),
        "newest": newer[0] if newer else (version if catalog.marks.why_unusable(name, version) is None else None),
        "behind": {
            c.channel: {"current": c.current, "releases": _between(versions, c.current, version)}
            for c in channels
            if c.current != version and any(move.version == version for move in c.history)
        },
        "unusable": catalog.marks.why_unusable(name, version),
    }
    if presence is not None:
        form["deprecated"] = _deprecated(entry.images, presence)
        form["unreachable"] = places.to_json(presence.unreachable)
    if as_json:
        print_json({"schema": IMAGE_OF_SCHEMA, **form})
    else:
        form.pop("unreachable", None)
        form["behind"] = [f"{c} by {one['releases']} ({one['current']})" for c, one in form["behind"].items()]
        for key, value in form.items():
            if value not in (None, []):
                click.echo(f"{key.replace('_', ' '):<14}  {', '.join(value) if isinstance(value, list) else value}")
    return _print_unreachable(presence)


def _between(versions: Sequence[str], current: str, version: str) -> int | None:
    """Return how many releases a version is behind the current one of a channel; negative if it is newer."""
    if current not in versions or version not in versions:
        return None
    return versions.index(version) - versions.index(current)


def _image_of_instance(environment: Environment, id: str, region: str | None, account: str | None) -> str:
    from goldenami.aws import instances
    from goldenami.aws.session import Cloud
    from goldenami.cli.tasks import find_place

    place = find_place(environment, region, account)
    reach(environment)
    cloud = Cloud.of(environment)
    cloud.check_caller()
    found = instances.describe_many(cloud, place, [id]).get(id)
    if found is None:
        raise NotFound(f"there is no instance {id} in {place}", hint="Give its --region and --account.")
    return found.image_id


@dataclass(frozen=True, slots=True)
class _OneImage:
    """Some images of a release, whose state is read."""

    images: Sequence[IndexedImage]


def _existing(listed: Sequence[ListedRelease], wanted: Filter) -> list[_OneImage]:
    """Return the images to query: those of releases that are not retired, in the chosen places."""
    return [
        _OneImage([image for image in one.entry.images if wanted.matches_image(image)])
        for one in listed
        if one.retired is None
    ]


def _look(
    environment: Environment, existing: Callable[[], Sequence[WithImages]], check: bool | None
) -> Presence | None:
    """Read the states of the images of these releases. None with --no-check, and if no cloud can be called."""
    if check is False or (check is None and not is_up(environment)):
        return None
    releases = existing()
    if not releases:
        return None
    from goldenami.aws.session import Cloud
    from goldenami.errors import Unreachable
    from goldenami.release import presence

    reach(environment)
    cloud = Cloud.of(environment)
    if check is None and not cloud.has_credentials():
        click.echo("The images were not checked: there are no credentials.", err=True)
        return None
    try:
        cloud.check_caller()
    except Unreachable as error:
        every = {image.place for one in releases for image in one.images}
        return presence.Presence({}, {}, dict.fromkeys(sorted(every), error.message))
    return presence.read_presence(cloud, releases)


def _deprecated(images: Sequence[IndexedImage], presence: Presence) -> str | None:
    """Return when the first of some images is or was deprecated (ISO 8601), or None."""
    return min((at for image in images if (at := presence.deprecation_of(image))), default=None)


def _is_deprecated(images: Sequence[IndexedImage], presence: Presence) -> bool:
    """Return whether one of some images is deprecated by now. Most have a time for that in the future."""
    from datetime import UTC, datetime

    at = _deprecated(images, presence)
    return at is not None and datetime.fromisoformat(at) <= datetime.now(UTC)


def _print_unreachable(presence: Presence | None) -> int:
    """Print the places that did not answer, and return the exit code."""
    if presence is None:
        return 0
    places.tell(presence.unreachable)
    return places.exit_code(presence.unreachable)


def _state(image: IndexedImage, presence: Presence) -> dict[str, str]:
    return {
        "account": image.place.account,
        "region": image.place.region,
        "architecture": image.architecture,
        "image_id": image.image_id,
        "state": presence.state_of(image),
    }


def _cells(release: ListedRelease, wanted: Filter, presence: Presence | None) -> list[str]:
    """Return the row of a release in the table. Its states are words in the column of channels, and its images are
    counted, by state if the states were read: "5 available, 1 missing"."""
    entry, images = release.entry, _chosen(release, wanted, presence)
    words = [*release.channels]
    words += ["revoked"] if release.revoked else []
    words += ["retired"] if release.retired else []
    words += ["pinned"] if release.pinned else []
    count = str(_number(release, wanted))
    if presence is not None and images:
        words += ["deprecated"] if _is_deprecated(images, presence) else []
        states = Counter(presence.state_of(image) for image in images)
        count = ", ".join(f"{number} {state}" for state, number in sorted(states.items()))
    return [entry.name, entry.version, _cell(words), entry.created, _cell(entry.architectures), count]


def _summary(release: ListedRelease, wanted: Filter, presence: Presence | None) -> dict[str, Any]:
    entry, images = release.entry, _chosen(release, wanted, presence)
    found = {
        "name": entry.name,
        "version": entry.version,
        "channels": list(release.channels),
        "created": entry.created,
        "architectures": list(entry.architectures),
        "images": _number(release, wanted),
        "build_id": entry.build_id,
        "digest": entry.digest,
        "revoked": release.revoked,
        "retired": release.retired,
        "pinned": release.pinned,
    }
    if presence is not None:
        found["states"] = [_state(image, presence) for image in images]
        found["deprecated"] = _deprecated(images, presence)
    return found


def _number(release: ListedRelease, wanted: Filter) -> int:
    """Return how many images of a release are in the chosen account and region."""
    in_places = wanted.region or wanted.account or wanted.architecture
    return sum(map(wanted.matches_image, release.entry.images)) if in_places else len(release.entry.rows)


def _chosen(release: ListedRelease, wanted: Filter, presence: Presence | None) -> list[IndexedImage]:
    """Return the images whose states are shown: none of a retired release, and none if the states were not read."""
    if presence is None or release.retired:
        return []
    return [image for image in release.entry.images if wanted.matches_image(image)]


def _cell(words: Sequence[str]) -> str:
    return " ".join(words) or "-"
