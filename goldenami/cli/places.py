"""What commands say of places that do not answer: in the text, in the JSON, and by the exit code 6."""

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
    """Ask all places at once: the answers, and the places that did not answer with the reason.

    ``anywhere``: what a person named may be in one of the places only, so that "not found" is an answer: it is raised
    if it is the answer of every place, and otherwise the place has no part in the result. Without it, the first "not
    found" is raised. Raises what ends everything.
    """
    answers = each(places, question)
    missing: list[GoldenAmiError] = [e for e in answers.errors.values() if isinstance(e, (NotFound, UsageError))]
    unreachable = {p: e.message for p, e in answers.errors.items() if not isinstance(e, (NotFound, UsageError))}
    if missing and not (anywhere and (answers.results or unreachable)):
        raise missing[0]
    return dict(answers.results), unreachable


def to_json(unreachable: Mapping[Place, str]) -> dict[str, str]:
    """The value of ``unreachable``: "account/region" to the reason."""
    return {str(place): reason for place, reason in sorted(unreachable.items())}


def tell(unreachable: Mapping[Place, str], so: str = "") -> None:
    """One line on stderr for each. ``so``: what follows from it ("so nothing is deleted")."""
    for place, reason in sorted(unreachable.items()):
        click.echo(f"{place} did not answer{f', {so}' if so else ''}: {reason}", err=True)


def exit_code(*failures: Mapping[Place, str] | Mapping[str, str]) -> int:
    """6 if there is a place that did not answer, or a part that failed; 0 otherwise."""
    return TargetsFailed.exit_code if any(failures) else 0
