"""The statement about a release: an in-toto Statement v1 whose predicate is SLSA Provenance v1. Pure.

Its subjects are the manifest of the release, as the build wrote it, the other documents of its evidence, and the
volumes of its images by their content digests (``contents``). The predicate says what the build was given, what it
used, who built it, and what the tests found. Secrets are in none of them: the statement is made of the manifest, which
has none, and of digests.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from goldenami import __version__
from goldenami.evidence import contents
from goldenami.model import Architecture, ImageManifest, Package, TestReport

STATEMENT: Final = "https://in-toto.io/Statement/v1"
PREDICATE: Final = "https://slsa.dev/provenance/v1"
BUILD_TYPE: Final = "urn:goldenami:build:1"
REVISION: Final = "urn:goldenami:revision:1"
PACKAGES: Final = "goldenami.packages/1"

_MANIFEST: Final = "manifest"
_EVIDENCE: Final = "evidence/"
_VOLUME: Final = "volume/"


class NotAStatement(Exception):
    """A payload that is no statement of this kind."""


@dataclass(frozen=True, slots=True)
class Made:
    """What a build knows and a manifest does not have.

    ``files``: path -> SHA-256 of every file of the project that the build read. ``builder``: the ARN of the identity
    that built it; ``caller``: with the name of its session. ``volumes``: architecture -> device -> content digest of
    the volume that was tested. ``unread``: architecture -> why its volumes could not be read. ``finished``: when the
    statement was made, ISO 8601, UTC.
    """

    recipe_file: str
    files: Mapping[str, str]
    channel: str
    builder: str
    caller: str
    finished: str
    volumes: Mapping[Architecture, Mapping[str, str]] = field(default_factory=dict)
    unread: Mapping[Architecture, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Claims:
    """What a statement says about one release, as far as it can be compared with what is there.

    ``documents``: name of the file -> SHA-256. ``volumes``: architecture -> device -> content digest.
    """

    recipe: str
    version: str
    build_id: str
    manifest: str
    documents: Mapping[str, str]
    volumes: Mapping[str, Mapping[str, str]]
    unread: Mapping[str, str]


def packages_digest(packages: Iterable[Package]) -> str:
    """Return the SHA-256 of a list of packages: lines of name, version and architecture, sorted, in UTF-8."""
    lines = sorted(f"{one.name} {one.version} {one.architecture}\n" for one in packages)
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def make(manifest: ImageManifest, manifest_digest: str, documents: Mapping[str, str], made: Made) -> bytes:
    """Return the statement about a release as JSON. The same arguments give the same bytes.

    ``manifest_digest``: the SHA-256 of the file of the manifest. ``documents``: name -> SHA-256 of the other files of
    evidence.
    """
    form = {
        "_type": STATEMENT,
        "subject": _subjects(manifest, manifest_digest, documents, made),
        "predicateType": PREDICATE,
        "predicate": {
            "buildDefinition": {
                "buildType": BUILD_TYPE,
                "externalParameters": {
                    "recipe": manifest.recipe,
                    "recipeFile": made.recipe_file,
                    "environment": manifest.environment,
                    "channel": made.channel,
                    "variables": dict(sorted(manifest.variables.items())),
                },
                "internalParameters": {
                    "plan": {"sha256": manifest.digest},
                    "inputs": dict(sorted(manifest.inputs.items())),
                    "version": manifest.version,
                },
                "resolvedDependencies": _dependencies(manifest, made),
            },
            "runDetails": {
                "builder": {"id": made.builder, "version": {"goldenami": __version__}},
                "metadata": {
                    "invocationId": manifest.build_id,
                    "startedOn": manifest.created,
                    "finishedOn": made.finished,
                },
                "byproducts": [
                    *map(_tests, manifest.tests),
                    {"name": "caller", "annotations": {"arn": made.caller}},
                    *(
                        {"name": f"unread volumes {architecture}", "annotations": {"reason": reason}}
                        for architecture, reason in sorted(made.unread.items())
                    ),
                ],
            },
        },
    }
    return json.dumps(form, ensure_ascii=False, separators=(",", ":")).encode()


def _subjects(
    manifest: ImageManifest, manifest_digest: str, documents: Mapping[str, str], made: Made
) -> list[dict[str, Any]]:
    subjects: list[dict[str, Any]] = [
        {
            "name": _MANIFEST,
            "digest": {"sha256": manifest_digest},
            "annotations": {
                "recipe": manifest.recipe,
                "version": manifest.version,
                "images": [
                    {
                        "architecture": image.architecture,
                        "account": image.account,
                        "region": image.region,
                        "imageId": image.image_id,
                    }
                    for image in manifest.images
                ],
            },
        }
    ]
    subjects += [{"name": f"{_EVIDENCE}{name}", "digest": {"sha256": it}} for name, it in sorted(documents.items())]
    subjects += [
        {
            "name": f"{_VOLUME}{architecture}{device}",
            "digest": {contents.ALGORITHM: it},
            "annotations": {"architecture": architecture, "device": device},
        }
        for architecture, devices in sorted(made.volumes.items())
        for device, it in sorted(devices.items())
    ]
    return subjects


def _dependencies(manifest: ImageManifest, made: Made) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = [
        {"name": f"file/{path}", "digest": {"sha256": it}} for path, it in sorted(made.files.items())
    ]
    if manifest.git_commit is not None:
        commit, _, state = manifest.git_commit.partition("-")
        annotations = {"annotations": {"state": state}} if state else {}
        found.append({"name": "commit", "digest": {"gitCommit": commit}, **annotations})
    for architecture, base in sorted(manifest.base.items()):
        annotation = {"name": base.name, "owner": base.owner, "source": base.source, "creationDate": base.creation_date}
        if base.release:
            annotation["release"] = base.release
        found.append({"name": f"base/{architecture}", "uri": f"urn:aws:ami:{base.image_id}", "annotations": annotation})
    for architecture, packages in sorted(manifest.packages.items()):
        found.append(
            {
                "name": f"packages/{architecture}",
                "digest": {PACKAGES: packages_digest(packages)},
                "annotations": {"count": len(packages)},
            }
        )
    return found


def _tests(report: TestReport) -> dict[str, Any]:
    numbers = {"passed": report.passed, "flaky": report.flaky, "failed": report.failed, "skipped": report.skipped}
    without = {"notExecuted": report.not_executed} if report.not_executed else {}
    controls = {control.control: control.outcome for control in report.controls}
    return {
        "name": f"tests {report.gate} {report.architecture}",
        "annotations": {"result": "passed" if report.ok else "failed", **numbers, **without, "controls": controls},
    }


def read(payload: bytes) -> Claims:
    """Return what a statement says. Raises NotAStatement, whose text says what is wrong."""
    try:
        form = json.loads(payload)
        if form["_type"] != STATEMENT or form["predicateType"] != PREDICATE:
            raise NotAStatement(f"it is {form['_type']} with {form['predicateType']}, expected {PREDICATE}")
        run = form["predicate"]["runDetails"]
        subjects = {str(one["name"]): one for one in form["subject"]}
        first = subjects[_MANIFEST]
        volumes: dict[str, dict[str, str]] = {}
        for name, one in subjects.items():
            if name.startswith(_VOLUME):
                its = one["annotations"]
                volumes.setdefault(its["architecture"], {})[its["device"]] = one["digest"][contents.ALGORITHM]
        return Claims(
            recipe=str(first["annotations"]["recipe"]),
            version=str(first["annotations"]["version"]),
            build_id=str(run["metadata"]["invocationId"]),
            manifest=str(first["digest"]["sha256"]),
            documents={
                name.removeprefix(_EVIDENCE): str(one["digest"]["sha256"])
                for name, one in subjects.items()
                if name.startswith(_EVIDENCE)
            },
            volumes=volumes,
            unread={
                str(one["name"]).removeprefix("unread volumes "): str(one["annotations"]["reason"])
                for one in run["byproducts"]
                if str(one["name"]).startswith("unread volumes ")
            },
        )
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise NotAStatement(f"it is no statement of goldenami: {type(error).__name__}: {error}") from error


# --- revisions --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class RevisionClaims:
    """What a statement says about a revised manifest. ``manifest``, ``original``: SHA-256 of the file as it is now, and
    as the build wrote it."""

    recipe: str
    version: str
    manifest: str
    original: str


def make_revision(manifest: ImageManifest, manifest_digest: str, original_digest: str) -> bytes:
    """Return the statement about the last revision of a manifest as JSON."""
    last = manifest.revisions[-1]
    form = {
        "_type": STATEMENT,
        "subject": [
            {
                "name": _MANIFEST,
                "digest": {"sha256": manifest_digest},
                "annotations": {"recipe": manifest.recipe, "version": manifest.version},
            }
        ],
        "predicateType": REVISION,
        "predicate": {
            "original": {"sha256": original_digest},
            "revision": len(manifest.revisions),
            "at": last.at,
            "task": last.task,
            "by": last.by,
            "added": list(last.added),
            "removed": [row.image_id for row in last.removed],
        },
    }
    return json.dumps(form, ensure_ascii=False, separators=(",", ":")).encode()


def read_revision(payload: bytes) -> RevisionClaims:
    """Return what a statement says about a revision. Raises NotAStatement."""
    try:
        form = json.loads(payload)
        (subject,) = form["subject"]
        if form["_type"] != STATEMENT or form["predicateType"] != REVISION or subject["name"] != _MANIFEST:
            raise NotAStatement(f"it is {form['_type']} with {form['predicateType']}, expected {REVISION}")
        return RevisionClaims(
            str(subject["annotations"]["recipe"]),
            str(subject["annotations"]["version"]),
            str(subject["digest"]["sha256"]),
            str(form["predicate"]["original"]["sha256"]),
        )
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise NotAStatement(f"it is no statement about a revision: {type(error).__name__}: {error}") from error
