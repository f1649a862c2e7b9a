"""`goldenami verify`: is a release what was built, tested and signed, in all accounts and regions?"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from goldenami.cli import completing, places
from goldenami.cli.context import account_id, open_catalog, open_project, print_json, print_table, reach
from goldenami.cli.options import environment_option, json_option
from goldenami.errors import ConditionsUnmet, UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from goldenami.aws.session import Cloud
    from goldenami.evidence.signing import PublicKey
    from goldenami.model import Environment
    from goldenami.release.audit import Audit

SCHEMA: Final = "goldenami.verify/1"


@click.command()
@click.argument("reference", metavar="NAME@VERSION|NAME@CHANNEL", shell_complete=completing.releases)
@click.option("--image-id", metavar="AMI", help="Only this image, which must be one of the release's.")
@click.option("--region", metavar="REGION", help="Only images in this region.")
@click.option(
    "--account", metavar="ACCOUNT", help="Only images of this account: a name of goldenami.yaml, or 12 digits."
)
@click.option(
    "--key",
    "key_files",
    metavar="FILE",
    type=click.Path(path_type=Path),
    multiple=True,
    help="Trust this public key, and not those of goldenami.yaml. Can be repeated.",
)
@click.option(
    "--contents/--no-contents",
    default=True,
    help="Read all blocks of the images, and compare them with the image that was tested. Default: yes.",
)
@click.option(
    "--images/--no-images",
    "with_images",
    default=True,
    help="Read the images. Without them, only the documents in the catalog are verified, and no account is asked.",
)
@environment_option
@json_option
def verify(
    reference: str,
    image_id: str | None,
    region: str | None,
    account: str | None,
    key_files: tuple[Path, ...],
    contents: bool,
    with_images: bool,
    environment_name: str | None,
    as_json: bool,
) -> int:
    """Verify that a release is what was built, tested and signed, and that its images still are.

    Verified are: the signature of the statement; the manifest and the other documents, byte by byte; each image: that
    it exists and is the manifest's, its snapshots, their key, its tags, and who may use it; and its contents, block by
    block, against those of the image that was tested. Each deviation is one line on stdout. Where contents cannot be
    read, a line says so.

    Nothing is changed. The exit code is 5 for a deviation, and 6 if an account or region did not answer.

    Examples: `goldenami verify web@stable`, `goldenami verify web@1.0.20261124.1 --image-id ami-… --region eu-west-1`
    """
    from goldenami.release import audit as audits
    from goldenami.release.versions import Reference

    if not with_images and (image_id or region or account):
        raise UsageError("found --no-images with --image-id, --region or --account, expected only one of them")
    _, environment = open_project(environment_name)
    catalog = open_catalog(environment)
    parsed = Reference.parse(reference)
    version = catalog.version_of(parsed)
    cloud = None
    if with_images:
        cloud = _cloud(environment)
        cloud.check_caller()
    trusted = _trusted(environment, key_files, cloud)
    place = account_id(environment, account) if account is not None else None
    wanted = audits.Wanted(place, region, image_id, contents)
    found = audits.audit(catalog, parsed.name, version, trusted, cloud, wanted)
    if as_json:
        print_json(_to_json(found, parsed.name, version, trusted))
    else:
        _print(found)
    places.tell(found.unreachable)
    if found.deviations:
        return ConditionsUnmet.exit_code
    return places.exit_code(found.unreachable)


def _cloud(environment: Environment) -> Cloud:
    from goldenami.aws.session import Cloud

    reach(environment)
    return Cloud.of(environment)


def _trusted(environment: Environment, files: tuple[Path, ...], cloud: Cloud | None) -> Mapping[str, PublicKey]:
    """Return the trusted keys: those of the files, or those of goldenami.yaml. Raises UsageError if there are none."""
    from goldenami.evidence import signing_keys
    from goldenami.evidence.signing import read_public_key
    from goldenami.model import KmsSigningKey
    from goldenami.reading import ANYWHERE, describe

    found: dict[str, PublicKey] = {}
    for path in files:
        try:
            found[str(path)] = read_public_key(ANYWHERE.read_bytes(path).decode())
        except OSError as error:
            raise UsageError(f"--key {describe(error, str(path))}", hint="Name a file with a public key.") from error
        except ValueError as error:
            raise UsageError(f"--key {path}: {error}", hint="Name a file that begins with BEGIN PUBLIC KEY.") from error
    if found:
        return found
    signing = environment.signing
    if signing is None:
        raise UsageError(
            f"no key is trusted: the environment {environment.name} has no section signing",
            hint="Add it to goldenami.yaml, or name a public key: --key FILE.",
        )
    if not signing.trusted and (isinstance(signing.key, KmsSigningKey) or cloud is None):
        cloud = cloud or _cloud(environment)
    return signing_keys.trusted_keys(signing, cloud or _cloud(environment))


def _print(found: Audit) -> None:
    for deviation in found.deviations:
        click.echo(str(deviation))
    checked = found.checked
    if checked.signers and not found.deviations:
        click.echo(f"{found.label} is signed with {', '.join(checked.signers)}, and its documents are as signed")
    if found.images:
        rows = [
            [one.row.architecture, one.row.account, one.row.region, one.row.image_id, one.contents]
            for one in found.images
        ]
        print_table(["ARCHITECTURE", "ACCOUNT", "REGION", "IMAGE", "CONTENTS"], rows)
    for one in found.images:
        if one.contents == "unknown":
            click.echo(f"{one.row.image_id} in {one.row.place}: its contents were not compared: {one.why}", err=True)
    for note in checked.notes:
        click.echo(f"note: {note}", err=True)
    count = len(found.deviations)
    if count:
        click.echo(f"{found.label}: {count} deviation{'s' if count != 1 else ''}", err=True)


def _to_json(found: Audit, name: str, version: str, trusted: Mapping[str, PublicKey]) -> dict[str, Any]:
    checked = found.checked
    return {
        "schema": SCHEMA,
        "name": name,
        "version": version,
        "verified": not found.deviations and not found.unreachable,
        "signed_by": [{"key": key, "id": trusted[key].id} for key in checked.signers],
        "deviations": [
            {"what": one.what, "detail": one.detail, "where": one.where or None} for one in found.deviations
        ],
        "images": [
            {
                "architecture": one.row.architecture,
                "account": one.row.account,
                "region": one.row.region,
                "image_id": one.row.image_id,
                "contents": one.contents,
                "why": one.why or None,
            }
            for one in found.images
        ],
        "notes": list(checked.notes),
        "unreachable": places.to_json(found.unreachable),
    }
