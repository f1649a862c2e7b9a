"""The signed statement of a build: reads the contents of the tested image beside the copies, and signs at the release.

Only the states of the images are kept in an environment without a signing key.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from goldenami.aws import blocks, images
from goldenami.each import both
from goldenami.errors import Interrupted, NotFound
from goldenami.evidence import contents, state
from goldenami.evidence.statement import Made
from goldenami.model import Architecture, Environment, ImageManifest, TestReport, timestamp
from goldenami.provision import Payload
from goldenami.recipe import Project, Recipe
from goldenami.release.catalog import Catalog
from goldenami.release.conditions import identity
from goldenami.stages.build import BuildContext, Candidate, Prepared

FILES = "files"  # in the header of the journal

_Reads = Callable[[], list[TestReport]]


def signs(environment: Environment) -> bool:
    """Return whether the builds of an environment sign a statement."""
    return environment.signing is not None and environment.signing.key is not None


def read_files(project: Project, recipe: Recipe) -> dict[str, str]:
    """Return the SHA-256 of every file that a recipe is made of, by its path in the project: the recipe, its tests, the
    sources of its operations, its agents, profiles and controls, and goldenami.yaml."""
    paths = {project.file, recipe.source, *(one.path for one in recipe.lookups)}
    paths |= {test.path for test in recipe.tests if test.path is not None}
    paths |= recipe.payloads
    found: dict[str, str] = {}
    for path in sorted(paths):
        if path.is_file():
            found[_name(project, path)] = Payload.read(path, project.files).sha256
    return found


def _name(project: Project, path: Path) -> str:
    for root, prefix in ((project.root, ""), (project.shipped, "shipped/")):
        if path.is_relative_to(root):
            return prefix + path.relative_to(root).as_posix()
    return path.name


def beside(build: BuildContext, candidates: Sequence[Candidate], home_image: Callable[[Architecture], str],
           prove: _Reads) -> list[TestReport]:  # fmt: skip
    """Return what ``prove`` returns; meanwhile read the contents of the images that it tests, if the build signs."""
    signing = build.environment.signing
    if not signs(build.environment) or signing is None or not signing.contents:
        return prove()

    def read() -> None:
        for one in candidates:
            _read_contents(build, one.architecture, home_image(one.architecture))

    reports, _ = both(prove, read)
    return reports


def _read_contents(build: BuildContext, architecture: Architecture, image_id: str) -> None:
    """Note the content digests of an image in the journal, or why they cannot be read."""
    record = f"contents/{architecture}"
    done = build.journal.stage(record)
    if done is not None and done["image_id"] == image_id:
        return
    image = images.describe_many(build.cloud, build.home, [image_id]).get(image_id)
    if image is None:
        raise NotFound(f"image {image_id} does not exist in {build.home}")
    began, count = time.monotonic(), 0
    volumes: dict[str, str] = {}
    unread = ""
    for device, snapshot_id in _devices(image).items():
        try:
            found = contents.of_snapshot(build.cloud, build.home, snapshot_id, lambda: _check(build))
        except blocks.NotComparable as error:
            unread = f"{snapshot_id} cannot be read: {error.detail}"
            build.note(f"the statement has no content digests of {image_id}: {unread}", "warning")
            break
        volumes[device] = found.digest
        count += found.blocks
    if not unread:
        build.note(f"read {count} blocks of {image_id} for its content digest in {time.monotonic() - began:.1f} s")
    build.journal.stage_done(record, image_id=image_id, volumes={} if unread else volumes, unread=unread)


def _check(build: BuildContext) -> None:
    if build.stop.is_set():
        raise Interrupted("interrupted")


def _devices(image: Mapping[str, Any]) -> dict[str, str]:
    return {
        str(one["DeviceName"]): str(one["Ebs"]["SnapshotId"])
        for one in image.get("BlockDeviceMappings") or ()
        if one.get("Ebs", {}).get("SnapshotId")
    }


def attester(build: BuildContext, catalog: Catalog) -> Callable[[ImageManifest], None]:
    """Return the function that keeps the documents about a release before it is made: the states of its images, and the
    signed statement."""

    def do(manifest: ImageManifest) -> None:
        _keep_states(build, catalog, manifest)
        signing = build.environment.signing
        if signing is None:
            return
        from goldenami.evidence import signing_keys  # here, because it loads cryptography, and few builds sign
        from goldenami.release.attest import attest

        signer = signing_keys.open_signer(signing, build.cloud)
        if signer is not None:
            attest(catalog, manifest, _made(build, manifest), signer)
            build.note(f"the statement about {manifest.label} is signed with the key {signer.public.id}")

    return do


def _keep_states(build: BuildContext, catalog: Catalog, manifest: ImageManifest) -> None:
    for architecture in manifest.packages:
        done = build.journal.stage(f"prepared/{architecture}")
        prepared = Prepared.from_json(architecture, done) if done is not None else None
        if prepared is not None and prepared.state:
            catalog.keep_document(manifest.recipe, manifest.version, state.file_name(architecture), prepared.state)


def _made(build: BuildContext, manifest: ImageManifest) -> Made:
    data = build.journal.header.data
    volumes: dict[Architecture, Mapping[str, str]] = {}
    unread: dict[Architecture, str] = {}
    for architecture in manifest.packages:
        done = build.journal.stage(f"contents/{architecture}")
        if done is not None and done["volumes"]:
            volumes[architecture] = dict(done["volumes"])
        else:
            unread[architecture] = str(done["unread"]) if done is not None else "the build did not read them"
    caller = build.plan.facts.caller_arn
    return Made(
        recipe_file=str(data.get("source", "")),
        files=dict(data.get(FILES, {})),
        channel=str(data["channel"]),
        builder=identity(caller),
        caller=caller,
        finished=timestamp(build.cloud.now()),
        volumes=volumes,
        unread=unread,
    )
