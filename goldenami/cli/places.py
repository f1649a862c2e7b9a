"""How commands report places that do not answer: in the text, in the JSON, and by exit code 6."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, TypeVar

import click

from goldenami.each import each
from goldenami.errors import GoldenAmiError, NotFound, TargetsFailed, UsageError

if TYPE_CHECKING:
    from goldenami.model import Place

_R = TypeVar("_R")


def ask(
    places: Iterable[Place], question: Callable[[Place], _R], *, anywhere: bool = True
) -> tuple[dict[Place, _R], dict[Place, str]]:
    """Query all places at the same time. Returns the answers, and the places that did not answer with the reason.

    ``anywhere``: the user's resource may exist in only one of the places. Then "not found" is raised only if every
    place answers so; a single such place is left out of the result. Without ``anywhere``, the first "not found" is
    raised. Raises errors that end the whole run.
    """
    answers = each(places, question)
    missing: list[GoldenAmiError] = [e for e in answers.errors.values() if isinstance(e, (NotFound, UsageError))]
    unreachable = {p: e.message for p, e in answers.errors.items() if not isinstance(e, (NotFound, UsageError))}
    if missing and not (anywhere and (answers.results or unreachable)):
        raise missing[0]
    return dict(answers.results), unreachable


def to_json(unreachable: Mapping[Place, str]) -> dict[str, str]:
    """Return the JSON value of ``unreachable``: "account/region" mapped to the reason."""
    return {str(place): reason for place, reason in sorted(unreachable.items())}


def tell(unreachable: Mapping[Place, str], so: str = "") -> None:
    """Print one line on stderr for each place. ``so``: the consequence ("so nothing is deleted")."""
    for place, reason in sorted(unreachable.items()):
        click.echo(f"{place} did not answer{f', {so}' if so else ''}: {reason}", err=True)


def exit_code(*failures: Mapping[Place, str] | Mapping[str, str]) -> int:
    """Return 6 if a place did not answer or a part failed, else 0."""
    return TargetsFailed.exit_code if any(failures) else 0
