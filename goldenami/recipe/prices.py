"""Reads the price table: prices.yaml next to goldenami.yaml, or the shipped one."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path
from typing import Annotated, Final

from pydantic import Field, StringConstraints, ValidationError

from goldenami.errors import InvalidInput
from goldenami.reading import ANYWHERE
from goldenami.recipe.document import parse, read_text
from goldenami.recipe.problems import translate
from goldenami.recipe.project import Project, shown
from goldenami.recipe.words import Region, Spec
from goldenami.snapshots.prices import Prices, Rate

FILE: Final = "prices.yaml"


Price = Annotated[float, Field(ge=0)]


class RateSpec(Spec):
    """Prices of a region: snapshots per GiB and month, transfer per GiB, instances per hour."""

    standard: float = Field(ge=0, description="Changed blocks in the standard tier.")
    archive: float = Field(ge=0, description="Full size in the archive tier.")
    transfer: Price | None = Field(None, description="A copy to another region, per GiB.")
    instances: dict[str, Price] = Field(default_factory=dict, description="Instance types, per hour.")
    fast_restore: Price | None = Field(None, description="Fast restore of a snapshot in one zone, per hour.")

    def rate(self) -> Rate:
        return Rate(self.standard, self.archive, self.transfer, self.instances, self.fast_restore)


class PricesSpec(Spec):
    """prices.yaml."""

    currency: Annotated[str, StringConstraints(pattern="^[A-Z]{3}$")] = Field(description="Code of the currency.")
    date: Annotated[str, StringConstraints(pattern=r"^\d{4}-\d{2}(-\d{2})?$")] | None = Field(
        None, description='When the prices were read: "2026-03" or "2026-03-31".'
    )
    default: RateSpec = Field(description="Prices for all other regions.")
    regions: dict[Region, RateSpec] = Field(default_factory=dict, description="Prices by region.")


def prices(project: Project, path: Path | None = None) -> Prices:
    """Return the table in ``path``, else the project's own, else the shipped one. Raises InvalidInput."""
    own = project.root / FILE
    given = path or (own if own.is_file() else None)
    if given is None:
        text, file, given = files("goldenami.snapshots").joinpath(FILE).read_text(), FILE, Path(FILE)
    else:
        file = shown(given)
        text = read_text(project.files if path is None else ANYWHERE, given, file)
    document = parse(text, given, file)
    try:
        spec = PricesSpec.model_validate(document.value)
    except ValidationError as error:
        raise InvalidInput(translate(error, document, (), PricesSpec)) from None
    regions = {region: rate.rate() for region, rate in spec.regions.items()}
    return Prices(spec.currency, spec.default.rate(), regions, spec.date or "")
