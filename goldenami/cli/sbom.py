"""`goldenami sbom`: the software bill of materials of a release."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, cast

import click

from goldenami.cli import completing
from goldenami.cli.context import open_catalog, open_project
from goldenami.cli.options import environment_option
from goldenami.cli.output import write_file

if TYPE_CHECKING:
    from goldenami.model import Architecture, ImageManifest


@click.command()
@click.argument("reference", metavar="NAME@CHANNEL|NAME@VERSION|NAME@MAJOR.MINOR.x", shell_complete=completing.releases)
@click.option(
    "--format",
    "form",
    type=click.Choice(["cyclonedx", "spdx"]),
    default="cyclonedx",
    show_default=True,
    help="CycloneDX 1.6 or SPDX 2.3, in JSON.",
)
@click.option(
    "--architecture", type=click.Choice(["x86_64", "arm64"]), help="Needed for a release of several architectures."
)
@click.option(
    "-o",
    "--output",
    type=click.Path(dir_okay=False, writable=True, path_type=Path),
    help="Write to this file instead of stdout. An existing file is replaced.",
)
@environment_option
def sbom(
    reference: str, form: str, architecture: str | None, output: Path | None, environment_name: str | None
) -> None:
    """Print the software bill of materials (SBOM) of a release.

    It lists all packages of the image with source package, licence and supplier; packages of Python, npm, Go and Java
    that no package of the system owns; and files that no package owns, with digests. The same release gives the same
    bytes. A release that was revoked or retired has one, too. Reads only the catalog.
    """
    from goldenami.evidence import packages
    from goldenami.evidence.sbom import FORMATS, Subject
    from goldenami.release.versions import Reference

    _, environment = open_project(environment_name)
    catalog, parsed = open_catalog(environment), Reference.parse(reference)
    manifest = catalog.get(parsed.name, catalog.existing_version_of(parsed))
    chosen = _architecture(manifest, architecture)
    inventory = packages.loads(catalog.inventory(manifest, chosen), source=f"inventory of {manifest.label}")
    subject = Subject(manifest.recipe, manifest.version, chosen, manifest.created, manifest.description)
    text = FORMATS[form](inventory, subject)
    if output is None:
        click.echo(text, nl=False)
    else:
        write_file(output, text, "--output")
        click.echo(f"wrote {output}", err=True)


def _architecture(manifest: ImageManifest, wanted: str | None) -> Architecture:
    """Return the wanted architecture, or the only one of a release. Raises UsageError if it has several."""
    from goldenami.errors import UsageError

    if wanted is None and len(manifest.inventories) > 1:
        raise UsageError(
            f"{manifest.label} has several images: {' and '.join(manifest.inventories)}",
            hint="Choose one with --architecture.",
        )
    first = next(iter(manifest.inventories), next(iter(manifest.base), "x86_64"))
    return cast("Architecture", wanted or first)
