"""What is planned for several recipes, as text, as JSON (``goldenami.plan/2``) and as Markdown."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Final

from goldenami.ci import marks
from goldenami.cli import notes
from goldenami.cli.results import LONGEST_NAME, error_json
from goldenami.errors import GoldenAmiError
from goldenami.report.text import first_line
from goldenami.sharedjson import Parts

if TYPE_CHECKING:
    from goldenami.plans import Planned
    from goldenami.preflight import Finding

SCHEMA: Final = "goldenami.plan/2"
_ORDER: Final = ("build", "move", "unchanged", "unknown", "failed", "skipped")
_NAMED: Final = 3  # updates in a reason (``stages.freshness``)
_MARKS: Final = {"build": "+", "move": "~", "unchanged": " ", "unknown": "?", "failed": "!", "skipped": "!"}


# --- JSON -------------------------------------------------------------------------------------------------------------


def document(environment: str, made: Sequence[Planned], remarks: Sequence[str] = ()) -> dict[str, Any]:
    """Return the JSON document of some plans; docs/pipelines.md describes it."""
    plans = [
        {key: dict(value.items()) if isinstance(value, Parts) else value for key, value in plan(one).items()}
        for one in made
    ]
    return {**frame(environment, made, remarks), "plans": plans}


def frame(environment: str, made: Sequence[Planned], remarks: Sequence[str] = ()) -> dict[str, Any]:
    """Return the JSON document of some plans, without the plans."""
    numbers = Counter(one.action for one in made)
    return {
        "schema": SCHEMA,
        "environment": environment,
        "summary": {action: numbers[action] for action in _ORDER},
        "plans": [],
        "notes": list(remarks),
        "error": None,
    }


def refusal(environment: str | None, error: GoldenAmiError) -> dict[str, Any]:
    """Return the JSON document of an error before the first plan, or that ended all plans."""
    return {**document("", ()), "environment": environment, "error": error_json(error)}


def plan(one: Planned) -> dict[str, Any]:
    """Return one plan of the document. The inputs are ``Parts``, which several plans have in common."""
    from goldenami import planning

    details = planning.to_long_json(one.plan) if one.plan is not None else {}
    return {
        **details,
        "recipe": one.recipe,
        "action": one.action,
        "why": one.why,
        "reasons": list(one.reasons),
        "changed_inputs": list(one.changed),
        "places": [notes.place_json(place) for place in one.places],
        "hints": list(one.hints),
        "digest": one.digest,
        "release": one.release.label if one.release is not None else None,
        "channel": one.channel,
        "channel_before": one.before,
        "channel_after": one.after,
        "missing": [finding.to_json() for finding in one.missing],
        "parameters": list(one.parameters),
        "launch_templates": list(one.templates),
        "shared_with": {"added": list(one.gaining), "removed": list(one.losing)},
        "estimated_seconds": round(one.seconds) if one.seconds is not None else None,
        "cost": asdict(one.cost) if one.cost is not None else None,
        "error": error_json(one.error) if one.error is not None else None,
    }


# --- text -------------------------------------------------------------------------------------------------------------


def text(environment: str, made: Sequence[Planned], in_full: str | None = None, *, offline: bool = False) -> list[str]:
    """Return some plans as the lines of text that ``goldenami plan`` prints. ``in_full``: the recipe whose inputs,
    images and targets are listed too. ``offline``: nothing was looked up."""
    from goldenami import planning

    lines: list[str] = []
    for one in made:
        if one.recipe == in_full and one.plan is not None:
            lines += [*planning.describe(one.plan, decided=True), ""]
    known = ", as far as it is known offline" if offline else ""
    lines += [f"What a build would do in the environment {environment}{known}:", ""]
    width = min(max(len(one.recipe) for one in made), LONGEST_NAME)
    for one in made:
        lines.append(f"{_MARKS[one.action]} {one.recipe:<{width}}  {one.action:<9}  {_headline(one)}".rstrip())
        lines += [f"    {line}" for line in _details(one)]
    lines += ["", f"{_summary(made)}{_minutes(made)}", *_costs(made)]
    lacking = list(_missing(made))
    return [*lines, "", "Missing for these builds:", *(f"  {line}" for line in lacking)] if lacking else lines


def _headline(one: Planned) -> str:
    if one.action == "build":
        return ", ".join(filter(None, (f"{one.channel}: {_moves(one)}", _counts(one), _about(one.seconds))))
    if one.action == "move":
        return f"{one.channel}: {_moves(one)}"
    return f"{one.channel}: {one.before or 'none'}" if one.action == "unchanged" else ""


def _moves(one: Planned) -> str:
    return f"{one.before or 'none'} -> {one.after or 'a new version'}"


def _counts(one: Planned) -> str:
    if one.plan is None:
        return ""
    targets, architectures = len(one.plan.targets), len(one.plan.recipe.architectures)
    return f"{targets} target{'' if targets == 1 else 's'}" + (
        f" for {architectures} architectures" if architectures > 1 else ""
    )


def _about(seconds: float | None) -> str:
    return "" if seconds is None else f"about {max(1, round(seconds / 60))} min"


def _details(one: Planned) -> Iterator[str]:
    if one.why:
        yield f"planned too: {one.why}"
    yield from one.reasons
    yield from notes.signed(one.places)
    for update in _updates(one):
        yield f"- {update}"
    for name in one.parameters:
        yield f"sets {name}"
    yield from (f"moves the launch template {name}" for name in one.templates)
    yield from (f"shares the images with {who}" for who in one.gaining)
    yield from (f"no longer shares the images with {who}" for who in one.losing)
    yield from (f"note: {hint}" for hint in one.hints)


def _updates(one: Planned) -> Iterator[str]:
    """Yield the updates that are due, if the reason does not name all of them."""
    from goldenami import planning

    if one.action == "build" and one.plan is not None:
        for updates in one.plan.facts.freshness.updates.values():
            if len(updates) > _NAMED:
                yield from map(planning.display_update, updates)


def _summary(made: Iterable[Planned]) -> str:
    """Return the counts: "3 to build, 1 to move, 12 unchanged"."""
    words = {"build": "to build", "move": "to move"}
    numbers = Counter(one.action for one in made)
    return ", ".join(f"{numbers[action]} {words.get(action, action)}" for action in _ORDER if numbers[action])


def _minutes(made: Sequence[Planned]) -> str:
    builds = [one for one in made if one.action == "build"]
    known = [one.seconds for one in builds if one.seconds is not None]
    if not known:
        return ""
    of_some = "" if len(known) == len(builds) else f" for {len(known)} of {len(builds)} builds"
    return f"; {_about(sum(known))} of building{of_some}, by the median of past builds"


def _missing(made: Sequence[Planned]) -> Iterator[str]:
    """Yield what builds lack, each once, with the recipes that need it."""
    needed_by: dict[Finding, list[str]] = {}
    for one in made:
        for finding in one.missing:
            needed_by.setdefault(finding, []).append(one.recipe)
    for finding, names in needed_by.items():
        shown = ", ".join(names[:_NAMED]) + (f" and {len(names) - _NAMED} more" if len(names) > _NAMED else "")
        unknown = "not checked: " if finding.level == "unknown" else ""
        yield f"{unknown}{finding} ({shown})"


def _costs(made: Iterable[Planned]) -> Iterator[str]:
    """Yield the line with what all builds cost together, if there are any."""
    from goldenami import costs

    cost = costs.total(one.cost for one in made if one.cost is not None)
    if cost is not None:
        yield str(cost)


# --- Markdown ---------------------------------------------------------------------------------------------------------


def markdown(environment: str, made: Sequence[Planned], remarks: Sequence[str] = ()) -> list[str]:
    """Return some plans as Markdown: a table, and the details of what changes, folded up. The same plans give the same
    text."""
    lines = [
        marks.mark("plan", environment),
        f"### Plan of the environment {notes.safe(environment)}",
        "",
        "; ".join((f"**{_summary(made)}**{_minutes(made)}", *map(notes.safe, _costs(made)))),
        "",
        "| recipe | plan | channel | why |",
        "|---|---|---|---|",
    ]
    for one in made:
        channel = f"{one.channel}: {_moves(one) if one.changes else one.before or 'none'}"
        why = first_line(one.reasons[0]) if one.reasons else ""
        lines.append(f"| {notes.safe(one.recipe)} | {one.action} | {notes.safe(channel)} | {notes.safe(why)} |")
    for one in made:
        if one.action == "unchanged" and not one.hints:
            continue
        details = [*filter(None, (_headline(one),)), *_details(one)]
        if one.error is not None and one.error.hint:
            details.append(one.error.hint)
        lines += notes.folded(f"{one.recipe}: {one.action}", details)
    lacking = [f"- {notes.safe(line)}" for line in _missing(made)]
    lines += ["", "Missing for these builds:", "", *lacking] if lacking else []
    return [*lines, *notes.listed(remarks)]
