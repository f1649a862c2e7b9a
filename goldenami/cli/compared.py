"""What differs between two releases, as text, as JSON (``goldenami.images-diff/1``) and as Markdown."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any, Final

from goldenami.cli import notes
from goldenami.printable import escaped
from goldenami.report.text import counts

if TYPE_CHECKING:
    from goldenami.evidence.state import ChangedFile
    from goldenami.model import ImageManifest
    from goldenami.release.comparison import Changed, ChangedPackage, Comparison

SCHEMA: Final = "goldenami.images-diff/1"
_ORDER: Final = ("added", "removed", "upgraded", "downgraded", "changed")
_SIGNS: Final = {"added": "+", "removed": "-", "upgraded": "^", "downgraded": "v", "changed": "~"}
_SAME: Final = "nothing differs"


def document(found: Comparison) -> dict[str, Any]:
    """Return the JSON document of a comparison."""
    return {
        "schema": SCHEMA,
        "before": _release(found.before),
        "after": _release(found.after),
        "packages": {a: [asdict(one) for one in changed] for a, changed in found.packages.items()},
        **{name: [asdict(one) for one in changed] for name, changed in _parts(found).items()},
        "files": {a: [asdict(one) for one in changed] for a, changed in found.files.items()},
        "unknown": list(found.unknown),
    }


def text(found: Comparison, *, files: bool = False) -> list[str]:
    """Return a comparison as lines of text. ``files``: each file that differs has a line; otherwise they are
    counted."""
    lines = [_title(found, found.before.label, found.after.label)]
    for architecture, changed in found.packages.items():
        if changed:
            lines += [f"packages {architecture}: {_count(changed)}", *(f"  {_package(one)}" for one in changed)]
    for name, parts in _parts(found).items():
        if parts:
            lines += [name, *(f"  {_line(_in_words(name, one))}" for one in parts)]
    for architecture, some in found.files.items():
        if some:
            more = "" if files else " (--files lists them)"
            lines += [f"files {architecture}: {_count_files(some)}{more}"]
            lines += [f"  {_file(one)}" for one in some if files]
    lines += [_SAME] if found.same and not found.unknown else []
    return [escaped(line) for line in (*lines, *found.unknown)]


def markdown(found: Comparison, *, files: bool = False) -> list[str]:
    """Return a comparison as Markdown, for a merge request or the notes of a release. ``files``: as in ``text``."""
    lines = [f"### {_title(found, *(notes.safe(one.label) for one in (found.before, found.after)))}"]
    for architecture, changed in found.packages.items():
        if changed:
            lines += notes.folded(f"packages {architecture}: {_count(changed)}", map(_package_in_words, changed))
    for name, parts in _parts(found).items():
        if parts:
            lines += notes.folded(f"{name}: {len(parts)}", (_line_in_words(_in_words(name, one)) for one in parts))
    for architecture, some in found.files.items():
        if some:
            title = f"files {architecture}: {_count_files(some)}"
            lines += notes.folded(title, map(_file_in_words, some)) if files else ["", notes.safe(title)]
    lines += ["", _SAME] if found.same and not found.unknown else []
    return [*lines, *notes.listed(found.unknown)]


def _release(manifest: ImageManifest) -> dict[str, str]:
    return {"name": manifest.recipe, "version": manifest.version, "created": manifest.created}


def _parts(found: Comparison) -> Mapping[str, Sequence[Changed]]:
    return {
        "base": found.bases,
        "inputs": found.inputs,
        "variables": found.variables,
        "tests": found.tests,
        "controls": found.controls,
        "images": found.images,
        "services": found.services,
        "users": found.users,
        "ports": found.ports,
        "sysctls": found.sysctls,
        "measures": found.measures,
    }


def _title(found: Comparison, before: str, after: str) -> str:
    return f"{before} ({found.before.created[:10]}) → {after} ({found.after.created[:10]})"


def _count(changed: Sequence[ChangedPackage]) -> str:
    return counts(Counter(one.change for one in changed), _ORDER)


def _package(one: ChangedPackage) -> str:
    return f"{_SIGNS[one.change]} {_versions(one)}"


def _package_in_words(one: ChangedPackage) -> str:
    return f"{one.change} {_versions(one)}"


def _versions(one: ChangedPackage) -> str:
    versions = " → ".join(", ".join(side) for side in (one.before, one.after) if side)
    advisories = f" ({', '.join(one.advisories)})" if one.advisories else ""
    return f"{one.name} {versions}{advisories}"


def _line(one: Changed) -> str:
    return f"{_SIGNS[_change(one)]} {_values(one)}"


def _line_in_words(one: Changed) -> str:
    return f"{_change(one)} {_values(one)}"


def _in_words(part: str, one: Changed) -> Changed:
    """Return a change with its fields named, for people. The JSON document has the values as they are."""
    if part == "users":
        # "group NAME ARCHITECTURE" or "NAME ARCHITECTURE"; a user can be called "group".
        name = _group if one.what.count(" ") > 1 else _user
        before, after = (None if side is None else name(side) for side in (one.before, one.after))
        return replace(one, before=before, after=after)
    if part == "measures" and one.what.startswith("files "):
        return replace(one, what=f"number of {one.what}")  # told apart from the list of files
    return one


def _user(text: str) -> str:
    """Name the fields of a user: "999 999 /srv /bin/sh"."""
    number, _, rest = text.partition(" ")
    group, _, rest = rest.partition(" ")
    home, _, shell = rest.rpartition(" ")
    return f"uid {number}, gid {group}, home {home}, shell {shell}"


def _group(text: str) -> str:
    """Name the fields of a group: "999 adm,www-data"."""
    number, _, members = text.partition(" ")
    return f"gid {number}{f', members {members}' if members else ''}"


def _change(one: Changed) -> str:
    return "added" if one.before is None else "removed" if one.after is None else "changed"


def _values(one: Changed) -> str:
    values = " → ".join(side for side in (one.before, one.after) if side)
    return f"{one.what}{f': {values}' if values else ''}"


def _count_files(changed: Sequence[ChangedFile]) -> str:
    unexplained = sum(1 for one in changed if not one.why)
    return f"{counts(Counter(one.change for one in changed), _ORDER)}; {unexplained} of them not explained"


def _file(one: ChangedFile) -> str:
    return f"{_SIGNS[one.change]} {_parts_of_file(one)}"


def _file_in_words(one: ChangedFile) -> str:
    return f"{one.change} {_parts_of_file(one)}"


def _parts_of_file(one: ChangedFile) -> str:
    parts = f" ({', '.join(one.what)})" if one.what else ""
    return f"{one.path}{parts}{f': {one.why}' if one.why else ''}"
