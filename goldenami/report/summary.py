"""Prints the summary of a build: its images; or the error, the resources left behind and the next commands."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from rich.console import Console
from rich.table import Table
from rich.text import Text

from goldenami.errors import GoldenAmiError
from goldenami.model import ImageManifest, ManifestImage
from goldenami.report.problems import ReadSource, read_source, render_error
from goldenami.report.text import TEST_NUMBERS, counts, counts_of_tests, duration

_WIDE = 150  # cells; from this width on, whole key ARNs fit


@dataclass(frozen=True, slots=True, order=True)
class Leftover:
    """A resource that a build created and that still exists. ``place``: "account/region"."""

    kind: str
    id: str
    place: str


def render_release(
    manifest: ImageManifest,
    console: Console,
    *,
    accounts: Mapping[str, str] | None = None,
    notes: Mapping[str, str] | None = None,
    seconds: float | None = None,
    tests: bool = True,
) -> None:
    """Print a release and its images. ``accounts``: the environment's account names by account id. ``notes``: a text
    before the key of an image, by the mode of its target. ``seconds``: the duration of the build; None: not shown.
    ``tests`` False: show only how many were not executed, since all were shown while they ran.
    """
    took = f" · {duration(seconds)}" if seconds is not None else ""
    facts = f" · {manifest.digest[:12]}{took}"
    title = Text.assemble((manifest.label, "bold green"), (facts, "dim"))
    console.print()
    console.print(title, soft_wrap=True, highlight=False)
    for row in images_table(manifest.images, accounts or {}, console.width, notes or {}):
        console.print(row, soft_wrap=True, highlight=False)
    for report in manifest.tests if tests else ():
        numbers = {name: getattr(report, name) for name in TEST_NUMBERS}
        line = f"tests at gate {report.gate} ({report.architecture}): {counts_of_tests(numbers)}"
        console.print(Text(line), soft_wrap=True, highlight=False)
    for report in manifest.tests if not tests else ():
        if report.not_executed:
            where = ", ".join(part for part in (report.architecture, report.place) if part)
            line = f"tests not executed at gate {report.gate} ({where}): {report.not_executed}, they prove nothing"
            console.print(Text(line, style="yellow"), soft_wrap=True, highlight=False)
    for lost in manifest.replacements:
        line = f"lost on the way and replaced: {lost.purpose} {lost.instance_id} ({lost.architecture}): {lost.reason}"
        console.print(Text(line, style="yellow"), soft_wrap=True, highlight=False)
    for architecture, changes in sorted(manifest.changes.items()):
        added = sum(1 for change in changes if change.before is None)
        removed = sum(1 for change in changes if change.after is None)
        numbers = {"added": added, "removed": removed, "updated": len(changes) - added - removed}
        total = len(manifest.packages.get(architecture, ()))
        against = counts(numbers, ("added", "updated", "removed")) or "no change"
        line = f"packages ({architecture}): {total}, against the base image {against}"
        console.print(Text(line), soft_wrap=True, highlight=False)


def render_next(
    console: Console, *, channel: str = "", parameters: Sequence[str] = (), next_steps: Mapping[str, str] | None = None
) -> None:
    """Print what a build means for the users of its images. ``channel``: its move, "candidate: 1.0.1 → 1.0.2".
    ``parameters``: the names of those with the image ids. ``next_steps``: the command by its purpose."""
    lines = [Text.assemble("channel ", (channel, "bold"))] if channel else []
    lines += [Text.assemble("parameter ", (name, "cyan")) for name in parameters]
    lines += _commands(next_steps or {})
    for line in lines:
        console.print(line, soft_wrap=True, highlight=False)


def _commands(steps: Mapping[str, str]) -> list[Text]:
    return [Text.assemble(f"to {purpose}: ", (command, "bold cyan")) for purpose, command in steps.items()]


def images_table(
    images: Sequence[ManifestImage], accounts: Mapping[str, str], width: int, notes: Mapping[str, str]
) -> list[Text]:
    """Return a heading and one line per image, ordered by account, region and architecture, ``width`` cells wide.

    Image ids are never cut. Keys are cut to the width, but not below eight characters.
    """
    wide = width >= _WIDE
    headings = ("ACCOUNT", "REGION", "ARCH", "IMAGE", "ENCRYPTED", "KEY")
    rows = [tuple(Text(heading, style="bold") for heading in headings)]
    for image in sorted(images, key=lambda i: (accounts.get(i.account, i.account), i.region, i.architecture)):
        name = accounts.get(image.account)
        keys = sorted({snapshot.kms_key_id for snapshot in image.snapshots if snapshot.kms_key_id})
        shown = ", ".join(key if wide else key.rsplit("/", 1)[-1] for key in keys)
        rows.append(
            (
                Text(f"{name} {image.account}" if name and wide else name or image.account),
                Text(image.region),
                Text(image.architecture),
                Text(image.image_id, style="cyan"),
                Text("yes", style="green") if image.encrypted else Text("NO", style="bold red"),
                Text(", ".join(part for part in (notes.get(image.mode), shown) if part)),
            )
        )
    widths = [max(row[column].cell_len for row in rows) for column in range(len(headings) - 1)]
    room = max(8, width - sum(widths) - 2 * len(widths))
    lines = []
    for *cells, key in rows:
        for cell, cells_wide in zip(cells, widths, strict=True):
            cell.pad_right(cells_wide - cell.cell_len + 2)
        key.truncate(room, overflow="ellipsis")
        lines.append(Text.assemble(*cells, key))
    return lines


def render_failure(
    error: GoldenAmiError,
    console: Console,
    *,
    leftovers: Sequence[Leftover] = (),
    next_steps: Mapping[str, str] | None = None,
    read: ReadSource = read_source,
    tests: bool = True,
) -> None:
    """Print an error, the resources that are left behind, and the next commands. ``next_steps``: the command by its
    purpose ("continue", "clean up"). ``tests``: as in ``render_error``.
    """
    console.print()
    render_error(error, console, read=read, tests=tests)
    if leftovers:
        console.print(Text(f"left behind ({len(leftovers)}):", style="bold"), highlight=False)
        table = Table.grid(padding=(0, 2))
        for item in sorted(leftovers):
            table.add_row(f"  {item.kind}", Text(item.id, style="cyan"), item.place)
        console.print(table)
    elif next_steps is not None:
        console.print(Text("nothing is left behind"), highlight=False)
    for line in _commands(next_steps or {}):
        console.print(line, soft_wrap=True, highlight=False)
