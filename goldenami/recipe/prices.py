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


class RateSpec(Spec):
    """Prices per GiB and month."""

    standard: float = Field(ge=0, description="Changed blocks in the standard tier.")
    archive: float = Field(ge=0, description="Full size in the archive tier.")


class PricesSpec(Spec):
    """prices.yaml."""

    currency: Annotated[str, StringConstraints(pattern="^[A-Z]{3}$")] = Field(description="Code of the currency.")
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
    return Prices(
        spec.currency,
        Rate(spec.default.standard, spec.default.archive),
        {region: Rate(rate.standard, rate.archive) for region, rate in spec.regions.items()},
    )
