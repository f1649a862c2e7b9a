"""The JSON form of an ImageManifest: what a release is stored as, and what ``--json`` prints.

The form is versioned by its ``schema`` key, "goldenami.manifest/1". Within a number, keys may be added, and a reader
ignores those it does not know; nothing is renamed, removed or given another meaning without a new number. A manifest of
a newer number is refused: it may say things that this program would get wrong.

The text is stable: the same facts give the same bytes. Keys come in the order in which the dataclasses declare them,
maps and rows are sorted (tests keep the order in which they ran), and the last line ends with a newline.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from functools import cache
from typing import Any

from pydantic import TypeAdapter, ValidationError
from pydantic_core import PydanticSerializationError

from goldenami.errors import ManifestError
from goldenami.model import MANIFEST_SCHEMA, ImageManifest

_FAMILY, _, _NUMBER = MANIFEST_SCHEMA.partition("/")
_PROBLEMS_SHOWN = 5


def canonical(manifest: ImageManifest) -> ImageManifest:
    """The same facts in the order in which they are written: ``from_json(to_json(m)) == canonical(m)``."""
    images = (
        replace(image, snapshots=tuple(sorted(image.snapshots, key=lambda s: (s.device_name, s.snapshot_id))))
        for image in manifest.images
    )
    return replace(
        manifest,
        base=dict(sorted(manifest.base.items())),
        images=tuple(sorted(images, key=lambda i: (i.architecture, i.account, i.region, i.image_id))),
        packages={
            architecture: tuple(sorted(packages, key=lambda p: (p.name, p.architecture, p.version)))
            for architecture, packages in sorted(manifest.packages.items())
        },
        changes={
            architecture: tuple(sorted(changes, key=lambda c: (c.name, c.before or "", c.after or "")))
            for architecture, changes in sorted(manifest.changes.items())
        },
        inputs=dict(sorted(manifest.inputs.items())),
        outputs={a: dict(sorted(values.items())) for a, values in sorted(manifest.outputs.items()) if values},
    )


def to_json(manifest: ImageManifest) -> dict[str, Any]:
    """JSON values only, in canonical order. Raises ManifestError where a field holds what its type does not allow."""
    if manifest.schema != MANIFEST_SCHEMA:
        raise ManifestError(f"cannot write a manifest of schema {manifest.schema!r}, only {MANIFEST_SCHEMA!r}")
    try:
        form = _adapter().dump_python(canonical(manifest), mode="json", warnings="error")
    except PydanticSerializationError as error:
        raise ManifestError(f"the manifest of {manifest.label} cannot be written: {error}") from error
    assert isinstance(form, dict)
    return form


def from_json(form: Mapping[str, Any], *, source: str = "manifest") -> ImageManifest:
    """The manifest that ``form`` says. ``source`` (a path, a URL) opens the message of the ManifestError.

    Types are not bent: a number in quotes is an error. Every problem is found at once; the message shows the first few.
    """
    return loads(json.dumps(form), source=source)


def dumps(manifest: ImageManifest) -> str:
    """The stable text: two spaces of indentation, non-ASCII kept, one newline at the end."""
    return json.dumps(to_json(manifest), indent=2, ensure_ascii=False) + "\n"


def loads(text: str | bytes, *, source: str = "manifest") -> ImageManifest:
    """As ``from_json``, from text; UTF-8 where it is bytes."""
    try:
        form = json.loads(text)
    except ValueError as error:  # JSONDecodeError, or bytes that are not UTF-8
        raise ManifestError(f"{source}: not JSON: {error}", hint=_damaged(source)) from error
    _check_schema(form, source)
    try:
        # From the text, not from ``form``: in strict mode only JSON's arrays may become tuples.
        return _adapter().validate_json(text, strict=True)
    except ValidationError as error:
        problems = [f"{_path(p['loc'])}: {p['msg'][:1].lower()}{p['msg'][1:]}" for p in error.errors(include_url=False)]
        shown = "; ".join(problems[:_PROBLEMS_SHOWN])
        more = f"; and {len(problems) - _PROBLEMS_SHOWN} more" if len(problems) > _PROBLEMS_SHOWN else ""
        raise ManifestError(
            f"{source}: not a {MANIFEST_SCHEMA} manifest: {shown}{more}", hint=_damaged(source)
        ) from error


def _check_schema(form: object, source: str) -> None:
    schema = form.get("schema") if isinstance(form, dict) else None
    if schema == MANIFEST_SCHEMA:
        return
    family, _, number = schema.partition("/") if isinstance(schema, str) else ("", "", "")
    if family == _FAMILY and number.isascii() and number.isdigit() and int(number) > int(_NUMBER):
        raise ManifestError(
            f"{source}: schema {schema!r} is newer than {MANIFEST_SCHEMA!r}, the newest that this goldenami reads",
            hint="Update goldenami to the version that wrote this manifest, or a newer one.",
        )
    found = "no schema" if schema is None else f"schema {schema!r}"
    raise ManifestError(f"{source}: {found}, expected {MANIFEST_SCHEMA!r}", hint=_damaged(source))


def _damaged(source: str) -> str:
    return f"Restore {source} from a backup or from another copy of the catalog. A manifest must not be edited."


def _path(location: tuple[int | str, ...]) -> str:
    """``("images", 0, "encrypted")`` → ``images[0].encrypted``."""
    parts = (f"[{step}]" if isinstance(step, int) or step == "[key]" else f".{step}" for step in location)
    return "".join(parts).removeprefix(".").replace("[[key]]", " (key)")


@cache
def _adapter() -> TypeAdapter[ImageManifest]:
    return TypeAdapter(ImageManifest)
