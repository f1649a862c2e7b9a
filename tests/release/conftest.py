"""Manifests, catalogs and clouds to test with."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import pytest

from goldenami.model import Architecture, ImageManifest, ManifestImage, ManifestSnapshot, Package, Place
from goldenami.release.catalog import Catalog

if TYPE_CHECKING:  # tests of the catalog do not load the cloud
    from goldenami_sandbox.testing import PaperCloud

    from tests.worlds.releases import World

HOME = "111111111111"
APPS = "222222222222"
PLACES = tuple(Place(a, r) for a in (HOME, APPS) for r in ("eu-central-1", "eu-west-1", "us-east-1"))


class ManifestFactory(Protocol):
    def __call__(
        self,
        version: str = "1.4.20261124.1",
        *,
        name: str = "debian-12-web",
        digest: str = "0" * 64,
        build_id: str = "b-1",
        architectures: Sequence[Architecture] = ("x86_64",),
        places: Sequence[Place] = PLACES,
    ) -> ImageManifest: ...


def _image(place: Place, architecture: Architecture) -> ManifestImage:
    key = f"arn:aws:kms:{place.region}:{place.account}:key/1"
    snapshot = ManifestSnapshot("snap-1", "/dev/xvda", 8, True, key)
    image_id = f"ami-{place.account[:3]}-{place.region}-{architecture}"
    return ManifestImage(architecture, place.account, place.region, image_id, "web", "copy", True, (snapshot,))


def make_manifest(
    version: str = "1.4.20261124.1",
    *,
    name: str = "debian-12-web",
    digest: str = "0" * 64,
    build_id: str = "b-1",
    architectures: Sequence[Architecture] = ("x86_64",),
    places: Sequence[Place] = PLACES,
) -> ImageManifest:
    return ImageManifest(
        schema="goldenami.manifest/1",
        recipe=name,
        version=version,
        build_id=build_id,
        digest=digest,
        environment="sandbox",
        created="2026-11-24T03:00:00Z",
        base={},
        images=tuple(_image(p, a) for a in architectures for p in places),
        tests=(),
        packages={"x86_64": (Package("nginx-light", "1.22.1-9", "amd64"),)},
        changes={},
    )


@pytest.fixture(scope="session")
def manifest() -> ManifestFactory:
    return make_manifest


@pytest.fixture
def catalog(tmp_path: Path) -> Catalog:
    return Catalog(tmp_path / "catalog")


@pytest.fixture
def world(paper_cloud: Callable[..., PaperCloud], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    """One environment over a cloud of its own; the process's credentials are those of its home account."""
    from tests.worlds.releases import World

    paper = paper_cloud()
    for name, value in paper.variables().items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("AWS_CONFIG_FILE", "/dev/null")
    return World(paper, tmp_path)
