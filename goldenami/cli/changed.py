"""What the files of a project change since a commit, as text, as JSON (``goldenami.changes/1``) and as Markdown."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, Final

from goldenami.ci import marks
from goldenami.cli import notes
from goldenami.cli.results import error_json

if TYPE_CHECKING:
    from goldenami.changes import Changed
    from goldenami.errors import GoldenAmiError

SCHEMA: Final = "goldenami.changes/1"
_ORDER: Final = ("added", "changed", "distributed", "follows", "removed", "unchanged")
_MARKS: Final = {
    "added": "+",
    "changed": "~",
    "distributed": "~",
    "follows": "~",
    "removed": "-",
    "unchanged": " ",
}
_WORDS: Final = {"distributed": "to distribute"}


def document(
    environment: str, ref: str, commit: str, made: Sequence[Changed], remarks: Sequence[str] = ()
) -> dict[str, Any]:
    """Return the JSON document; docs/pipelines.md describes it."""
    numbers = Counter(one.change for one in made)
    return {
        "schema": SCHEMA,
        "environment": environment,
        "ref": ref,
        "commit": commit,
        "summary": {change: numbers[change] for change in _ORDER},
        "recipes": [_json(one) for one in made],
        "notes": list(remarks),
        "error": None,
    }


def refusal(environment: str | None, ref: str, error: GoldenAmiError) -> dict[str, Any]:
    """Return the JSON document of an error."""
    empty = document("", ref, "", ())
    return {**empty, "environment": environment, "commit": None, "error": error_json(error)}


def _json(one: Changed) -> dict[str, Any]:
    return {
        "recipe": one.recipe,
        "change": one.change,
        "channel": one.channel or None,
        "why": one.why,
        "reasons": list(one.reasons),
        "changed_inputs": list(one.inputs),
        "places": [notes.place_json(place) for place in one.places],
        "no_inputs": [notes.place_json(place) for place in one.others],
        "hints": list(one.hints),
    }


def text(environment: str, ref: str, commit: str, made: Sequence[Changed]) -> list[str]:
    """Return the lines of text that ``goldenami plan --diff`` prints."""
    lines = [f"What changes in the environment {environment} since {_named(ref, commit)}:", ""]
    told = [one for one in made if one.change != "unchanged" or any(_details(one))]
    width = max((len(one.recipe) for one in told), default=0)
    for one in told:
        lines.append(f"{_MARKS[one.change]} {one.recipe:<{width}}  {_word(one.change)}")
        lines += [f"    {line}" for line in _details(one)]
    return [*lines, *([""] if told else []), _summary(made)]


def markdown(
    environment: str, ref: str, commit: str, made: Sequence[Changed], remarks: Sequence[str] = ()
) -> list[str]:
    """Return Markdown for a note: a table, and the places folded up. The same input gives the same text."""
    lines = [
        marks.mark("changes", environment),
        f"### Changes in the environment {notes.safe(environment)} since {notes.safe(_named(ref, commit))}",
        "",
        f"**{_summary(made)}**",
    ]
    if any(one.change != "unchanged" for one in made):
        lines += ["", "| recipe | change | why |", "|---|---|---|"]
    for one in made:
        if one.change != "unchanged":
            why = notes.safe(one.reasons[0]) if one.reasons else ""
            lines.append(f"| {notes.safe(one.recipe)} | {_MARKS[one.change]} {_word(one.change)} | {why} |")
    for one in made:
        if details := list(_details(one)):
            lines += notes.folded(f"{one.recipe}: {_word(one.change)}", details)
    return [*lines, *notes.listed(remarks)]


def _named(ref: str, commit: str) -> str:
    """Return a commit as people read it: the ref and the short id, or the short id alone if the ref is the id."""
    return commit[:12] if commit.startswith(ref) else f"{ref} ({commit[:12]})"


def _word(change: str) -> str:
    return _WORDS.get(change, change)


def _details(one: Changed) -> Iterator[str]:
    if one.why and one.change != "unchanged":
        yield f"compared too: {one.why}"
    yield from one.reasons
    yield from notes.signed(one.places)
    if one.others:
        yield "no input of the image:"
        yield from notes.signed(one.others)
    yield from (f"note: {hint}" for hint in one.hints)


def _summary(made: Sequence[Changed]) -> str:
    numbers = Counter(one.change for one in made)
    counts = ", ".join(f"{numbers[change]} {_word(change)}" for change in _ORDER if numbers[change])
    return f"{counts or 'no recipes'}; {sum(one.builds for one in made)} to build"
