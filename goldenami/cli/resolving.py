"""The command that prints the id of the image to use. It reads the catalog, or a parameter, and nothing else."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from goldenami.cli import completing
from goldenami.cli.context import account_id, in_bucket, keeping_memory, open_catalog, open_project, print_json
from goldenami.cli.options import environment_option, json_option
from goldenami.errors import NotFound, UsageError

if TYPE_CHECKING:
    from goldenami.model import Architecture
    from goldenami.release.consume import ResolvedImage
    from goldenami.release.versions import Reference

RESOLVE_SCHEMA = "goldenami.resolve/1"


@click.command()
@click.argument("reference", metavar="NAME@CHANNEL|NAME@VERSION|NAME@MAJOR.MINOR.x", shell_complete=completing.releases)
@click.option(
    "--region",
    required=True,
    metavar="REGION",
    envvar="AWS_REGION",
    help="Region to use the image in. Default: $AWS_REGION.",
)
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
@click.option(
    "--catalog",
    "where",
    metavar="S3_URL|DIRECTORY",
    help="Read this catalog, without goldenami.yaml. Then the default of --account is the account of the caller.",
)
@environment_option
@json_option
@keeping_memory()
def resolve(
    reference: str,
    region: str,
    account: str | None,
    architecture: Architecture | None,
    by_parameter: bool,
    prefix: str | None,
    where: str | None,
    environment_name: str | None,
    as_json: bool,
) -> None:
    """Print the id of the image behind NAME@CHANNEL or NAME@VERSION for a region and an account, and nothing else.

    NAME@1.4.x means the newest release of version 1.4, and NAME alone the newest of all. Revoked and retired releases
    do not count. --json also prints the release and the channels that point to it.

    With --parameter, a consumer needs only ssm:GetParameters on the parameters of NAME@CHANNEL or NAME@VERSION.

    With --catalog, a consumer needs s3:GetObject on one object: channels/NAME/CHANNEL.json for NAME@CHANNEL, otherwise
    index/catalog.json. Then --json prints only the channels that these objects name.

    Example: goldenami resolve debian-12-web@stable --catalog s3://acme-golden-ami/catalog --region eu-central-1
    """
    from goldenami.model import Place
    from goldenami.release.consume import ResolvedImage
    from goldenami.release.versions import Reference

    if by_parameter and where is not None:
        raise UsageError(
            "found --parameter and --catalog, expected one of them",
            hint="--parameter reads the parameters of the release, --catalog its record in the catalog.",
        )
    if by_parameter:
        _resolve_by_parameter(reference, region, account, architecture, prefix, as_json=as_json)
        return
    if prefix is not None:
        raise UsageError("--prefix is used with --parameter only", hint="Add --parameter, or remove --prefix.")
    parsed = Reference.parse(reference)
    if where is not None:
        found = _resolve_for_consumer(where, parsed, region, account, architecture)
    else:
        _, environment = open_project(environment_name)
        place = Place(account_id(environment, account), region)
        catalog = open_catalog(environment)
        if not as_json and (parsed.channel or parsed.version):
            click.echo(catalog.resolve(parsed, place, architecture).image_id)
            return
        catalog = catalog.indexed(parsed.name)
        entry, image = catalog.resolve_entry(parsed, place, architecture)
        channels = tuple(c.channel for c in catalog.channels(entry.name) if c.current == entry.version)
        found = ResolvedImage(
            image.image_id, entry.name, entry.version, entry.created, image.architecture, image.place, channels
        )
    _print_resolved(found, as_json)


def _print_resolved(found: ResolvedImage, as_json: bool) -> None:
    if not as_json:
        click.echo(found.image_id)
        return
    form = {
        "image_id": found.image_id,
        "name": found.name,
        "version": found.version,
        "created": found.created,
        "architecture": found.architecture,
        "account": found.place.account,
        "region": found.place.region,
        "channels": list(found.channels),
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
    from goldenami.release.consume import ResolvedImage
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
    channels = (reference.channel,) if reference.channel else ()
    _print_resolved(
        ResolvedImage(
            found.image_id, reference.name, found.version, found.created, found.architecture, found.place, channels
        ),
        as_json,
    )


def _resolve_for_consumer(
    where: str, reference: Reference, region: str, account: str | None, architecture: Architecture | None
) -> ResolvedImage:
    from goldenami.aws import catalogs
    from goldenami.release import consume

    if account is not None and not (account.isascii() and account.isdigit() and len(account) == 12):
        raise UsageError(
            f"--account is {account!r}, expected 12 digits", hint="With --catalog there are no names of accounts."
        )
    if not in_bucket(where) and not Path(where).is_dir():
        raise NotFound(f"--catalog {where} is no directory", hint="Write s3://BUCKET/PREFIX, or a directory.")
    store, caller = catalogs.open_for_consumer(where, region)
    return consume.resolve_in(store, reference, region, account, architecture, caller)
