"""The commands about builds and tasks: list them, show one, and who holds its lock."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from goldenami.cli.build import next_steps
from goldenami.cli.context import open_journals, open_project, print_json
from goldenami.cli.options import environment_option, json_option

if TYPE_CHECKING:
    from datetime import datetime

    from goldenami.journal import Holder, Intent, Result, Summary


@click.group()
def builds() -> None:
    """List builds and tasks, or show one."""


@builds.command("list")
@environment_option
@click.option("--unfinished", is_flag=True, help="Only those that can be resumed or cleaned.")
@json_option
def builds_list(environment_name: str | None, unfinished: bool, as_json: bool) -> None:
    """List builds and tasks, oldest first. A task has its kind in the column of the recipe."""
    _, environment = open_project(environment_name)
    journals = open_journals(environment)
    found = journals.unfinished() if unfinished else journals.list()
    holders = {s.build_id: journals.holder(s.build_id) for s in found if s.ending is None}
    if as_json:
        rows = [_summary_json(s, holders.get(s.build_id)) for s in found]
        print_json({"schema": "goldenami.builds/1", "builds": rows})
        return
    for summary in found:
        header, holder = summary.header, holders.get(summary.build_id)
        what = f"{header.recipe} {header.data.get('version', '')}".rstrip() if header else str(summary.problem)
        state = "running" if holder else summary.ending or ("unfinished" if header else "damaged")
        left = f"  {len(summary.resources)} resources" if state in ("unfinished", "failed") else ""
        who = f"  {holder}" if holder else ""
        age = f"  {_age(header.created)}" if header else ""
        click.echo(f"{summary.build_id}  {state:<10}  {what}{age}{left}{who}")


@builds.command("show")
@click.argument("build_id")
@environment_option
@json_option
def builds_show(build_id: str, environment_name: str | None, as_json: bool) -> None:
    """Show one build: how it ended, which process works on it, every call with its result, and what still exists."""
    _, environment = open_project(environment_name)
    journals = open_journals(environment)
    summary = journals.read(build_id)
    holder = journals.holder(build_id)
    document = _summary_json(summary, holder)
    if as_json:
        print_json({"schema": "goldenami.build/1", **document, "calls": [_call_json(i, r) for i, r in summary.calls]})
        return
    for key, value in document.items():
        if key == "holder":
            value = str(holder) if holder else None
        if key != "resources" and value is not None:
            click.echo(f"{key:<12} {value}")
    if summary.header:
        click.echo(f"{'age':<12} {_age(summary.header.created)}")
    click.echo(f"calls ({len(summary.calls)}):")
    for intent, result in summary.calls:
        click.echo(f"  {intent.operation:<28} {intent.place}  {intent.key}: {_outcome(intent, result)}")
    click.echo(f"resources ({len(summary.resources)}):")
    for resource in summary.resources:
        spoiled = f"  must not be used: {resource.spoiled}" if resource.spoiled else ""
        click.echo(f"  {resource.kind:<16} {resource.id:<24} {resource.place}{spoiled}")
    if summary.ending in (None, "failed") and not holder and summary.header is not None:
        for purpose, command in next_steps([summary]).items():
            click.echo(f"to {purpose}: {command}", err=True)


def _age(created: datetime) -> str:
    """Return the age in its largest unit: "3 h ago"."""
    from datetime import UTC, datetime

    seconds = max(0.0, (datetime.now(UTC) - created).total_seconds())
    for unit, length in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= length:
            return f"{seconds // length:.0f} {unit} ago"
    return "just now"


def _outcome(intent: Intent, result: Result | None) -> str:
    if result is None:
        return "unresolved: the reply was never read"
    if result.error is not None:
        return f"refused: {result.error['code']}: {result.error['message']}"
    return f"{result.id or intent.resource or 'done'}{' (found by its token)' if result.adopted else ''}"


def _call_json(intent: Intent, result: Result | None) -> dict[str, object]:
    return {
        "key": intent.key,
        "attempt": intent.attempt,
        "action": intent.action,
        "kind": intent.kind,
        "place": str(intent.place),
        "operation": f"{intent.service}:{intent.operation}",
        "status": "unresolved" if result is None else "refused" if result.error else "ok",
        "id": (result.id if result else None) or intent.resource,
        "adopted": result.adopted if result else False,
        "error": dict(result.error) if result and result.error else None,
    }


def _summary_json(summary: Summary, holder: Holder | None = None) -> dict[str, object]:
    header = summary.header
    return {
        "build_id": summary.build_id,
        "status": summary.ending or ("unfinished" if header else "damaged"),
        "recipe": header.recipe if header and header.data.get("task") is None else None,
        "task": header.data.get("task") if header else None,
        "version": header.data.get("version") if header else None,
        "environment": header.environment if header else None,
        "digest": header.plan_digest if header else None,
        "created": header.created.strftime("%Y-%m-%dT%H:%M:%SZ") if header else None,
        "problem": summary.problem,
        "unresolved": summary.unresolved,
        "holder": holder.to_json() if holder else None,
        "resources": [{"kind": r.kind, "id": r.id, "place": str(r.place), "key": r.key} for r in summary.resources],
    }
