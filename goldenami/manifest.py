"""The JSON form of an ImageManifest: the file of a release in the catalog, and the output of ``--json``.

Its ``schema`` key has the version, "goldenami.manifest/1". Within one version, keys may be added, and a reader ignores
unknown keys. If a key is renamed, removed or gets another meaning, the version changes. A manifest of a newer version
is refused, because this program could misread it.

The text is stable: the same data gives the same bytes. Keys have the order of the dataclasses, maps and lists are
sorted (tests keep the order in which they ran), and the text ends with a newline.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from functools import cache
from typing import TYPE_CHECKING, Any

from goldenami.errors import ManifestError
from goldenami.model import MANIFEST_SCHEMA, ImageManifest

if TYPE_CHECKING:
    from pydantic import TypeAdapter

_FAMILY, _, _NUMBER = MANIFEST_SCHEMA.partition("/")
_PROBLEMS_SHOWN = 5


def canonical(manifest: ImageManifest) -> ImageManifest:
    """Return the same manifest in the order of the file: ``from_json(to_json(m)) == canonical(m)``."""
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
        variables=dict(sorted(manifest.variables.items())),
        sources=dict(sorted(manifest.sources.items())),
        updates=dict(sorted(manifest.updates.items())),
        inventories=dict(sorted(manifest.inventories.items())),
        outputs={a: dict(sorted(values.items())) for a, values in sorted(manifest.outputs.items()) if values},
    )


def to_json(manifest: ImageManifest) -> dict[str, Any]:
    """Return the manifest as JSON values, in canonical order. Raises ManifestError if a field has a wrong type."""
    if manifest.schema != MANIFEST_SCHEMA:
        raise ManifestError(f"cannot write a manifest of schema {manifest.schema!r}, only {MANIFEST_SCHEMA!r}")
    from pydantic_core import PydanticSerializationError

    try:
        form = _adapter().dump_python(canonical(manifest), mode="json", warnings="error")
    except PydanticSerializationError as error:
        raise ManifestError(f"the manifest of {manifest.label} cannot be written: {error}") from error
    assert isinstance(form, dict)
    # Keys that are newer than the schema: a manifest without these facts has the same bytes as before.
    for key in ("contents", "inventories", "restored", "sources", "updates", "variables", "revisions"):
        if not form[key]:
            del form[key]
    for report in form["tests"]:
        for key in ("facts", "place", "not_executed"):
            if not report[key]:
                del report[key]
    return form


def from_json(form: Mapping[str, Any], *, source: str = "manifest") -> ImageManifest:
    """Read a manifest from JSON values. ``source`` (a path, a URL) is the start of the ManifestError's message.

    Types are not converted: a number in quotes is an error. The message shows the first five problems.
    """
    return loads(json.dumps(form), source=source)


def dumps(manifest: ImageManifest) -> str:
    """Return the stable text: indented by two spaces, not escaped to ASCII, with one newline at the end."""
    return json.dumps(to_json(manifest), indent=2, ensure_ascii=False) + "\n"


def loads(text: str | bytes, *, source: str = "manifest") -> ImageManifest:
    """Read a manifest from text, or from bytes in UTF-8. Raises ManifestError, as :func:`from_json` does."""
    from pydantic import ValidationError  # here, because a list of releases reads no manifest

    try:
        # From the text, not from its values: in strict mode only JSON's arrays may become tuples.
        made = _adapter().validate_json(text, strict=True)
    except ValidationError as error:
        _check_text(text, source)
        problems = [f"{_path(p['loc'])}: {p['msg'][:1].lower()}{p['msg'][1:]}" for p in error.errors(include_url=False)]
        shown = "; ".join(problems[:_PROBLEMS_SHOWN])
        more = f"; and {len(problems) - _PROBLEMS_SHOWN} more" if len(problems) > _PROBLEMS_SHOWN else ""
        raise ManifestError(
            f"{source}: not a {MANIFEST_SCHEMA} manifest: {shown}{more}", hint=_damaged(source)
        ) from error
    if made.schema != MANIFEST_SCHEMA:
        _check_text(text, source)
    return made


def _check_text(text: str | bytes, source: str) -> None:
    """Raise ManifestError if a text is no JSON, or not of this schema. It is read a second time only if it is not what
    it should be."""
    try:
        form = json.loads(text)
    except ValueError as error:  # JSONDecodeError, or bytes that are not UTF-8
        raise ManifestError(f"{source}: not JSON: {error}", hint=_damaged(source)) from error
    _check_schema(form, source)


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


def prepare() -> None:
    """Load what reading and writing takes. The first call takes some hundredths of a second."""
    _adapter()


@cache
def _adapter() -> TypeAdapter[ImageManifest]:
    from pydantic import TypeAdapter

    return TypeAdapter(ImageManifest)
