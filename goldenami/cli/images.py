"""The commands about releases: what there is, what is in it, and which image id to use.

`resolve` reads the catalog alone. `images list` and `images show` also ask every place whether the images are there.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

from goldenami.cli import places
from goldenami.cli.context import account_id, is_up, open_catalog, open_project, print_json, print_table, reach
from goldenami.cli.options import environment_option, json_option
from goldenami.each import Failures
from goldenami.errors import UsageError
from goldenami.nextstep import step

if TYPE_CHECKING:
    from goldenami.model import (
        Architecture,
        ControlResult,
        Environment,
        ImageManifest,
        ManifestImage,
        PackageChange,
    )
    from goldenami.release.presence import Presence

RELEASES_SCHEMA = "goldenami.releases/1"
IMAGE_OF_SCHEMA = "goldenami.image-of/1"
RESOLVE_SCHEMA = "goldenami.resolve/1"


@click.group()
def images() -> None:
    """List releases, or show one."""


check_option = click.option(
    "--check/--no-check",
    default=None,
    help="Query the state of the images in every account and region. Default: yes if there are credentials; in the "
    "sandbox, if it is up.",
)


@images.command("list")
@click.option("--name", "only", metavar="NAME", help="Only the releases of this recipe.")
@check_option
@environment_option
@json_option
def list_releases(only: str | None, check: bool | None, environment_name: str | None, as_json: bool) -> int:
    """List all releases, newest first, with their channels and the state of their images.

    A release that cannot be read is named on stderr; the others are listed, and the exit code is 1. The exit code is 6
    if an account or region did not answer.
    """
    _, environment = open_project(environment_name)
    catalog = open_catalog(environment)
    if only is not None and not catalog.versions(only):
        from goldenami.release.versions import Reference

        catalog.find(Reference(only))  # raises NotFound, with the nearest name
    rows: list[dict[str, Any]] = []
    there: list[ImageManifest] = []
    damaged = Failures[tuple[str, str]]()
    for name in [only] if only is not None else catalog.names():
        pointers: dict[str, list[str]] = {}
        for channel in catalog.channels(name):
            pointers.setdefault(channel.current, []).append(channel.channel)
        for version in catalog.versions(name):
            with damaged.of((name, version)):
                manifest = catalog.get(name, version)
                row = _summary(manifest, pointers.get(version, []))
                retirement, pinned = catalog.marks.retirement(name, version), catalog.marks.pinned(name, version)
                revocation = catalog.marks.revocation(name, version)
                marks = {
                    "revoked": revocation.reason if revocation is not None else None,
                    "retired": retirement.status if retirement is not None else None,
                    "pinned": pinned.reason if pinned is not None else None,
                }
                rows.append(row | marks)
                there.append(manifest)
    presence = _look(environment, [m for m, row in zip(there, rows, strict=True) if not row["retired"]], check)
    if presence is not None:
        for manifest, row in zip(there, rows, strict=True):
            row["states"] = [_state(image, presence) for image in manifest.images] if not row["retired"] else []
    if as_json:
        unreachable = {"unreachable": places.to_json(presence.unreachable)} if presence is not None else {}
        print_json({"schema": RELEASES_SCHEMA, "releases": rows, **unreachable})
    elif rows:
        for row in rows:
            row["images"] = _count(row)
        columns = ("name", "version", "channels", "created", "architectures", "images")
        for row in rows:  # these words go into the column of channels
            row["channels"] = [*row["channels"], *(w for w in ("revoked", "retired", "pinned") if row[w])]
        print_table([c.upper() for c in columns], [[_cell(row[c]) for c in columns] for row in rows])
    elif not damaged.reasons:
        click.echo(f"There are no releases yet. {step('build', 'RECIPE')} makes one.", err=True)
    for reason in damaged.reasons.values():
        click.echo(f"error: {reason}", err=True)
    failed = next((error.exit_code for error in damaged.errors.values()), 0)
    return failed or _print_unreachable(presence)


@images.command("show")
@click.argument("reference", metavar="NAME[@CHANNEL|@VERSION]")
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
    from goldenami.release.versions import Reference

    _, environment = open_project(environment_name)
    catalog = open_catalog(environment)
    manifest = catalog.find(Reference.parse(reference))
    if as_json:
        from goldenami import manifest as codec

        click.echo(codec.dumps(manifest), nl=False)
        return 0
    if list_changes:
        print_table(["ARCHITECTURE", "PACKAGE", "BASE", "IMAGE"], _change_rows(manifest))
        return 0
    presence = _look(environment, [manifest], check)
    pointing = [c.channel for c in catalog.channels(manifest.recipe) if c.current == manifest.version]
    for line in _description(manifest, pointing):
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


@images.command("of")
@click.argument("id", metavar="AMI|INSTANCE")
@click.option("--region", metavar="REGION", help="Region of the instance. Default: the home region.")
@click.option("--account", metavar="ACCOUNT", help="Account of the instance: a name or 12 digits. Default: home.")
@environment_option
@json_option
def release_of_image(
    id: str, region: str | None, account: str | None, environment_name: str | None, as_json: bool
) -> None:
    """Show which release an image belongs to, or the image that an instance runs: its channels, its age, and how many
    releases are newer.

    For an image only the catalog is read. An instance is described in its account and region.
    """
    from datetime import UTC, datetime

    from goldenami.errors import NotFound

    _, environment = open_project(environment_name)
    image_id = id
    if id.startswith("i-"):
        image_id = _image_of_instance(environment, id, region, account)
    elif not id.startswith("ami-"):
        raise UsageError(f"found {id!r}, expected the id of an image (ami-…) or of an instance (i-…)")
    catalog = open_catalog(environment)
    manifest = catalog.with_image(image_id)
    if manifest is None:
        raise NotFound(
            f"{image_id} is no image of this catalog",
            hint="It can be a base image, or of another environment or team. Its tags in EC2 show who made it.",
        )
    name, version = manifest.recipe, manifest.version
    channels = catalog.channels(name)
    newer = [v for v in catalog.versions(name) if catalog.marks.why_unusable(name, v) is None]
    form = {
        "image_id": image_id,
        "instance": id if id != image_id else None,
        "name": name,
        "version": version,
        "channels": [c.channel for c in channels if c.current == version],
        "was_in": sorted({c.channel for c in channels for m in c.history if m.version == version}),
        "created": manifest.created,
        "age_days": (datetime.now(UTC) - datetime.fromisoformat(manifest.created)).days,
        "newer_releases": newer.index(version) if version in newer else len(newer),
        "newest": newer[0] if newer else None,
        "unusable": catalog.marks.why_unusable(name, version),
    }
    if as_json:
        print_json({"schema": IMAGE_OF_SCHEMA, **form})
        return
    for key, value in form.items():
        if value not in (None, []):
            click.echo(f"{key.replace('_', ' '):<14}  {', '.join(value) if isinstance(value, list) else value}")


def _image_of_instance(environment: Environment, id: str, region: str | None, account: str | None) -> str:
    from goldenami.aws import instances
    from goldenami.aws.session import Cloud
    from goldenami.cli.tasks import find_place
    from goldenami.errors import NotFound

    place = find_place(environment, region, account)
    reach(environment)
    cloud = Cloud.of(environment)
    cloud.check_caller()
    found = instances.describe_many(cloud, place, [id]).get(id)
    if found is None:
        raise NotFound(f"there is no instance {id} in {place}", hint="Give its --region and --account.")
    return found.image_id


@click.command()
@click.argument("reference", metavar="NAME@CHANNEL|NAME@VERSION|NAME@MAJOR.MINOR.x")
@click.option("--region", required=True, metavar="REGION", help="Region to use the image in.")
@click.option(
    "--account", metavar="ACCOUNT", help="Account to use it in: a name of goldenami.yaml or 12 digits. Default: home."
)
@click.option(
    "--architecture",
    type=click.Choice(["x86_64", "arm64"]),
    help="Needed only where the release has images of both.",
)
@click.option(
    "--parameter",
    "by_parameter",
    is_flag=True,
    help="Read the SSM parameter in the account of your credentials, without goldenami.yaml.",
)
@click.option("--prefix", metavar="PATH", help="Prefix of the parameters, with --parameter. Default: /golden-ami.")
@environment_option
@json_option
def resolve(
    reference: str,
    region: str,
    account: str | None,
    architecture: Architecture | None,
    by_parameter: bool,
    prefix: str | None,
    environment_name: str | None,
    as_json: bool,
) -> None:
    """Print the id of the image behind NAME@CHANNEL or NAME@VERSION for a region and an account, and nothing else.

    NAME@1.4.x means the newest release of version 1.4, and NAME alone the newest of all. Revoked and retired releases
    do not count. --json also prints the release and the channels that point to it.

    With --parameter, a consumer needs only ssm:GetParameters on the parameters of NAME@CHANNEL or NAME@VERSION.
    """
    from goldenami.model import Place
    from goldenami.release.versions import Reference

    if by_parameter:
        _resolve_by_parameter(reference, region, account, architecture, prefix, as_json=as_json)
        return
    if prefix is not None:
        raise UsageError("--prefix is used with --parameter only", hint="Add --parameter, or remove --prefix.")
    _, environment = open_project(environment_name)
    place = Place(account_id(environment, account), region)
    catalog, parsed = open_catalog(environment), Reference.parse(reference)
    image = catalog.resolve(parsed, place, architecture)
    if not as_json:
        click.echo(image.image_id)
        return
    manifest = catalog.find(parsed)
    form = {
        "image_id": image.image_id,
        "name": manifest.recipe,
        "version": manifest.version,
        "created": manifest.created,
        "architecture": image.architecture,
        "account": image.account,
        "region": image.region,
        "channels": [c.channel for c in catalog.channels(manifest.recipe) if c.current == manifest.version],
    }
    print_json({"schema": RESOLVE_SCHEMA, **form})


def _resolve_by_parameter(
    text: str,
    region: str,
    account: str | None,
    architecture: Architecture | None,
    prefix: str | None,
    *,
    as_json: bool,
) -> None:
    from goldenami.release import published
    from goldenami.release.versions import Reference

    if account is not None:
        raise UsageError(
            "--account cannot be used with --parameter, which reads in the account of your credentials",
            hint="Remove --account, and use credentials of that account.",
        )
    reference = Reference.parse(text)
    cloud = published.open_caller(region)
    prefix = prefix or published.DEFAULT_PREFIX
    found = published.read_published(cloud, reference, prefix=prefix, architecture=architecture)
    if not as_json:
        click.echo(found.image_id)
        return
    form = {
        "image_id": found.image_id,
        "name": reference.name,
        "version": found.version,
        "created": found.created,
        "architecture": found.architecture,
        "account": found.place.account,
        "region": found.place.region,
        "channels": [reference.channel] if reference.channel else [],
    }
    print_json({"schema": RESOLVE_SCHEMA, **form})


def _look(environment: Environment, manifests: Sequence[ImageManifest], check: bool | None) -> Presence | None:
    """Read the states of the images of these releases. None with --no-check, and if no cloud can be called."""
    from goldenami.aws.session import Cloud
    from goldenami.errors import Unreachable
    from goldenami.release import presence

    if not manifests or check is False or (check is None and not is_up(environment)):
        return None
    reach(environment)
    cloud = Cloud.of(environment)
    if check is None and not cloud.has_credentials():
        click.echo("The images were not checked: there are no credentials.", err=True)
        return None
    try:
        cloud.check_caller()
    except Unreachable as error:
        every = {image.place for manifest in manifests for image in manifest.images}
        return presence.Presence({}, dict.fromkeys(sorted(every), error.message))
    return presence.read_presence(cloud, manifests)


def _print_unreachable(presence: Presence | None) -> int:
    """Print the places that did not answer, and return the exit code."""
    if presence is None:
        return 0
    places.tell(presence.unreachable)
    return places.exit_code(presence.unreachable)


def _state(image: ManifestImage, presence: Presence) -> dict[str, str]:
    return {
        "account": image.account,
        "region": image.region,
        "architecture": image.architecture,
        "image_id": image.image_id,
        "state": presence.state_of(image),
    }


def _count(row: dict[str, Any]) -> str:
    """Count the images; by state if the states were read: "5 available, 1 missing"."""
    states = Counter(one["state"] for one in row.get("states", ()))
    return ", ".join(f"{count} {state}" for state, count in sorted(states.items())) or str(row["images"])


def _summary(manifest: ImageManifest, channels: Sequence[str]) -> dict[str, Any]:
    return {
        "name": manifest.recipe,
        "version": manifest.version,
        "channels": list(channels),
        "created": manifest.created,
        "architectures": sorted({image.architecture for image in manifest.images}),
        "images": len(manifest.images),
        "build_id": manifest.build_id,
        "digest": manifest.digest,
    }


def _description(manifest: ImageManifest, channels: Sequence[str]) -> list[str]:
    facts = {
        "channels": ", ".join(channels) or "none points to it",
        "description": manifest.description,
        "owner": manifest.owner,
        "created": manifest.created,
        "build": manifest.build_id,
        "digest": manifest.digest,
        "commit": manifest.git_commit or "",
        "restored": f"{manifest.restored} from the cloud; its digest, inputs, tests and packages are unknown"
        if manifest.restored
        else "",
    }
    for architecture, base in manifest.base.items():
        facts[f"base {architecture}"] = f"{base.image_id} {base.name} ({base.source})"
    for architecture, packages in manifest.packages.items():
        words = change_words(manifest.changes.get(architecture, ()))
        facts[f"packages {architecture}"] = f"{len(packages)}; against the base {words or 'no change'}"
    for report in manifest.tests:
        flaky = f", {report.flaky} flaky" if report.flaky else ""
        facts[f"tests {report.gate} {report.architecture}"] = (
            f"{report.passed} passed, {report.failed} failed, {report.skipped} skipped{flaky} in {report.seconds:.1f} s"
        )
        if report.gate == "image" and report.controls:
            facts[f"controls {report.architecture}"] = _controls(report.controls)
    width = max(len(label) for label in facts)
    return [manifest.label, *(f"  {k:<{width}}  {v}" for k, v in facts.items() if v)]


def _controls(results: Sequence[ControlResult]) -> str:
    """Count the hardening controls by outcome, and list the waived ones with their expiry dates."""
    counts = Counter(result.outcome.replace("-", " ") for result in results)
    waived = [f"{result.control} until {result.until}" for result in results if result.outcome == "waived"]
    summary = ", ".join(f"{count} {outcome}" for outcome, count in sorted(counts.items(), key=lambda c: -c[1]))
    return summary + (f" ({'; '.join(waived)})" if waived else "")


def change_words(changes: Sequence[PackageChange]) -> str:
    """Return "3 new, 13 updated, 1 removed"; a count of zero is left out."""
    new = sum(1 for c in changes if c.before is None)
    gone = sum(1 for c in changes if c.after is None)
    numbers = {"new": new, "updated": len(changes) - new - gone, "removed": gone}
    return ", ".join(f"{number} {word}" for word, number in numbers.items() if number)


def _change_rows(manifest: ImageManifest) -> list[list[str]]:
    return [
        [architecture, change.name, change.before or "-", change.after or "-"]
        for architecture, changes in sorted(manifest.changes.items())
        for change in changes
    ]


def _cell(value: object) -> str:
    return (" ".join(map(str, value)) or "-") if isinstance(value, list) else str(value)
