"""``goldenami snapshot lineage``: which snapshot stores which blocks, what its deletion frees, and what it costs."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from goldenami.cli import completing, places
from goldenami.cli.context import account_id, open_catalog, open_project, print_json, reach
from goldenami.cli.options import environment_option, json_option
from goldenami.cli.output import write_file
from goldenami.errors import NotFound, UsageError

if TYPE_CHECKING:
    from goldenami.aws.session import Cloud
    from goldenami.model import Environment, Place
    from goldenami.snapshots.lineage import Lineage, Member
    from goldenami.snapshots.prices import Prices

SCHEMA = "goldenami.lineage/1"


@click.command()
@click.argument("subject", metavar="VOLUME|SNAPSHOT|IMAGE|RELEASE", shell_complete=completing.releases)
@environment_option
@click.option("--region", metavar="REGION", help="Region of VOLUME, SNAPSHOT or IMAGE. Default: home.")
@click.option("--account", metavar="ACCOUNT", help="Account of it: a name in goldenami.yaml, or an id. Default: home.")
@click.option(
    "--prices",
    "price_file",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="Price table. Default: prices.yaml.",
)
@click.option("--svg", type=click.Path(path_type=Path, dir_okay=False), help="Draw the lineage into this file.")
@json_option
def lineage(
    subject: str,
    environment_name: str | None,
    region: str | None,
    account: str | None,
    price_file: Path | None,
    svg: Path | None,
    as_json: bool,
) -> int:
    """Show which blocks each snapshot stores, and what its deletion frees.

    Sizes are computed from the blocks (EBS direct APIs). "stored" is what a snapshot adds to the earlier ones, "full"
    is the size of its contents, and "frees" is what the deletion of this snapshot alone would free. If two snapshots
    cannot be compared, the reason is printed. VOLUME may be a Name tag. RELEASE is NAME@CHANNEL or NAME@VERSION; then
    the snapshots of all releases of NAME are shown, in every target. Prices are read from prices.yaml beside
    goldenami.yaml; without this file, the shipped prices are used. The exit code is 6 if an account or region did not
    answer.
    """
    from goldenami.aws.session import Cloud
    from goldenami.recipe.prices import prices as read_prices

    project, environment = open_project(environment_name)
    prices = read_prices(project, price_file)
    reach(environment)
    cloud = Cloud.of(environment)
    cloud.check_caller()
    found, unreachable = _lineages(cloud, environment, subject, region, account)
    if svg is not None:
        _draw(svg, subject, found, prices)
    if as_json:
        rows = [_json(p, one, prices) for p, one in found.items()]
        answer = {"schema": SCHEMA, "subject": subject, "lineages": rows}
        print_json({**answer, "unreachable": places.to_json(unreachable)})
    else:
        for place, one in found.items():
            for line in _text(place, one, prices):
                click.echo(line)
    places.tell(unreachable)
    return places.exit_code(unreachable)


def _lineages(
    cloud: Cloud, environment: Environment, subject: str, region: str | None, account: str | None
) -> tuple[dict[Place, Lineage], dict[Place, str]]:
    """Return the lineage of each place, and the reason for each place that did not answer."""
    from goldenami.model import Place
    from goldenami.snapshots import family

    place = Place(account_id(environment, account), region or environment.home_region)
    if subject.startswith("vol-"):
        return _of_volume(cloud, place, subject)
    if subject.startswith("ami-"):
        return places.ask([place], lambda place: family.of_image(cloud, place, subject))
    if subject.startswith("snap-"):
        return places.ask([place], lambda place: family.of_snapshots(cloud, place, [subject]))
    try:
        if region is not None or account is not None:
            raise UsageError(
                f"found --region or --account with {subject}, which is no Name tag of a volume in {place}",
                hint="Omit both options for a release: its snapshots are found in all its targets.",
            )
        ids = _snapshots_of(environment, subject)
    except (NotFound, UsageError):
        volume = _volume_of(cloud, place, subject)
        if volume is None:
            raise
        return _of_volume(cloud, place, volume)
    return places.ask(sorted(ids), lambda place: family.of_snapshots(cloud, place, ids[place]), anywhere=False)


def _of_volume(cloud: Cloud, place: Place, id: str) -> tuple[dict[Place, Lineage], dict[Place, str]]:
    from goldenami.snapshots import family

    return places.ask([place], lambda place: family.of_volume(cloud, place, id))


def _volume_of(cloud: Cloud, place: Place, name: str) -> str | None:
    """Return the id of the volume with a Name tag, or None if there is none."""
    from goldenami.snapshots import names

    try:
        return names.volume(cloud, place, name).id
    except NotFound:
        return None


def _snapshots_of(environment: Environment, subject: str) -> dict[Place, list[str]]:
    """Return the snapshot ids of all releases of the referenced recipe, by the place that owns them."""
    from goldenami.release import targets as modes
    from goldenami.release.versions import Reference

    catalog = open_catalog(environment)
    name = catalog.find(Reference.parse(subject)).recipe
    places: dict[Place, list[str]] = {}
    for version in reversed(catalog.versions(name)):
        for image in catalog.get(name, version).images:
            if modes.owns(image):
                ids = places.setdefault(image.place, [])
                ids.extend(s.snapshot_id for s in image.snapshots if s.snapshot_id not in ids)
    return places


def _draw(path: Path, subject: str, found: dict[Place, Lineage], prices: Prices) -> None:
    from goldenami.snapshots import chart

    sections = [chart.Section(str(place), one, prices.rate(place.region)) for place, one in found.items()]
    if not sections:
        raise NotFound(f"--svg: no account or region answered about {subject}, so there is nothing to draw")
    write_file(path, chart.draw(sections, f"Snapshots of {subject}", prices.currency), "--svg")
    click.echo(f"Drew {path}", err=True)


# --- rendering --------------------------------------------------------------------------------------------------------


def _text(place: Place, found: Lineage, prices: Prices) -> Iterator[str]:
    from goldenami.snapshots import prices as costs
    from goldenami.snapshots.chart import summary

    rate = prices.rate(place.region)
    cost, certain = costs.total(found, rate)
    yield f"{place}  {summary(found)}, {'' if certain else 'at most '}{cost:.4f} {prices.currency} a month"
    for member in found.members:
        snapshot = member.snapshot
        name = f"  {snapshot.name}" if snapshot.name else ""
        tier = "" if snapshot.tier == "standard" else f"  {snapshot.tier}"
        yield f"  {snapshot.id}  {snapshot.started}  {snapshot.volume_id}{tier}{name}"
        yield f"      {_weights(member, rate, prices.currency)}"
        if member.broken:
            yield f"      {member.broken}"


def _weights(member: Member, rate: Any, currency: str) -> str:
    from goldenami.snapshots import prices as costs
    from goldenami.snapshots.words import size

    if member.stored_bytes is None or member.freed_bytes is None:
        full = size(member.full_bytes) if member.full_bytes is not None else "unknown"
        return f"full {full}  stored unknown  frees unknown"
    refers = " and ".join(f"{size(n)} of {id}" for id, n in (member.refers or {}).items())
    saved = costs.saved(member, rate)
    return (
        f"full {size(member.full_bytes or 0)}  stored {size(member.stored_bytes)}"
        + (f"  refers to {refers}" if refers else "")
        + f"  frees {size(member.freed_bytes)}"
        + (f" ({saved:.4f} {currency} a month)" if saved else "")
    )


def _json(place: Place, found: Lineage, prices: Prices) -> dict[str, Any]:
    from goldenami.snapshots import prices as costs

    rate = prices.rate(place.region)
    cost, certain = costs.total(found, rate)
    return {
        "account": place.account,
        "region": place.region,
        "stored_bytes": found.stored_bytes,
        "full_bytes": found.full_bytes,
        "monthly_cost": {"amount": cost, "currency": prices.currency, "certain": certain},
        "rate": {"standard": rate.standard, "archive": rate.archive},
        "snapshots": [
            {
                "snapshot_id": m.id,
                "name": m.snapshot.name,
                "volume_id": m.snapshot.volume_id,
                "started": m.snapshot.started,
                "tier": m.snapshot.tier,
                "encrypted": m.snapshot.encrypted,
                "parent": m.parent,
                "not_comparable": m.broken,
                "full_bytes": m.full_bytes,
                "stored_bytes": m.stored_bytes,
                "refers": None if m.refers is None else dict(m.refers),
                "freed_bytes": m.freed_bytes,
                "monthly_cost": costs.monthly(m, rate),
                "monthly_saving": costs.saved(m, rate),
            }
            for m in found.members
        ],
    }
