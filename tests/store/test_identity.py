"""The id of a catalog: created once, the same for every process, and never changed."""

from __future__ import annotations

import json
import stat
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path

import pytest

from goldenami.aws.envelope import Envelopes
from goldenami.errors import CatalogError
from goldenami.release.catalog import Catalog
from goldenami.store import DirectoryStore, Seal, SecretKey, Store, ensure_identity, is_identity, read_identity
from tests.worlds.builds import World

NOW = datetime(2026, 11, 24, 3, tzinfo=UTC)


@pytest.fixture(params=["directory", "bucket"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    if request.param == "directory":
        yield DirectoryStore(tmp_path / "catalog", error=CatalogError)
        return
    from goldenami.aws.catalogs import open_store

    world: World = request.getfixturevalue("build_world")
    world.fresh(bucket=True)
    yield open_store(world.environment, world.cloud)


def test_it_is_created_once(store: Store) -> None:
    assert read_identity(store) is None
    made = ensure_identity(store, NOW)
    assert is_identity(made)
    assert ensure_identity(store, NOW) == read_identity(store) == made
    found = store.read("catalog.json")
    assert found is not None
    assert json.loads(found.data) == {"schema": "goldenami.catalog/1", "id": made, "created": "2026-11-24T03:00:00Z"}


def test_processes_that_race_get_the_same_id(store: Store) -> None:
    with ThreadPoolExecutor(8) as pool:
        found = set(pool.map(lambda _: ensure_identity(store, NOW), range(16)))
    assert found == {read_identity(store)}


def test_a_restored_catalog_has_the_given_id(store: Store) -> None:
    assert ensure_identity(store, NOW, identity="0123456789abcdef") == "0123456789abcdef"
    assert ensure_identity(store, NOW, identity="0123456789abcdef") == "0123456789abcdef"
    with pytest.raises(CatalogError, match="the id is 0123456789abcdef, expected fedcba9876543210"):
        ensure_identity(store, NOW, identity="fedcba9876543210")


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ("{", "not JSON"),
        ("[]", "the schema is None"),
        ('{"schema": "goldenami.catalog/2", "id": "0123456789abcdef"}', "the schema is 'goldenami.catalog/2'"),
        ('{"schema": "goldenami.catalog/1"}', "the id is None"),
        ('{"schema": "goldenami.catalog/1", "id": "0123456789ABCDEF"}', "the id is '0123456789ABCDEF'"),
    ],
)
def test_a_damaged_record_is_refused(tmp_path: Path, content: str, problem: str) -> None:
    (tmp_path / "catalog.json").write_text(content)
    catalog = Catalog(tmp_path)
    for read in (catalog.identity, catalog.ensure_identity):
        with pytest.raises(CatalogError, match=problem) as caught:
            read()
        assert "catalog.json" in caught.value.message
    assert (tmp_path / "catalog.json").read_text() == content


def test_reading_a_catalog_does_not_create_its_id(tmp_path: Path) -> None:
    catalog = Catalog(tmp_path / "catalog")
    assert catalog.identity() is None
    assert catalog.names() == ()
    assert not (tmp_path / "catalog").exists()


def test_the_key_of_an_environment_is_created_once_and_private(
    store: Store, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    if isinstance(store, DirectoryStore):
        keys = [SecretKey(store, "test", None, CatalogError) for _ in range(16)]
    else:
        world: World = request.getfixturevalue("build_world")
        keys = [SecretKey(store, "test", seal_of(world, "test"), CatalogError) for _ in range(16)]
    assert keys[0].read() is None
    with ThreadPoolExecutor(16) as pool:
        (key,) = set(pool.map(lambda one: one.ensure(), keys))
    assert len(key) == 32
    assert keys[0].read() == key
    found = store.read("keys/test")
    assert found is not None
    if isinstance(store, DirectoryStore):
        assert stat.S_IMODE((tmp_path / "catalog/keys").stat().st_mode) == 0o700
        assert stat.S_IMODE((tmp_path / "catalog/keys/test").stat().st_mode) == 0o600
        (tmp_path / "catalog/keys/test").write_text("0123")
        with pytest.raises(CatalogError, match="is damaged"):
            keys[0].read()
        return
    assert key.hex().encode() not in found.data, "encrypted"
    with pytest.raises(CatalogError, match="was not written for this"):
        SecretKey(store, "test", seal_of(world, "other"), CatalogError).read()


def seal_of(world: World, environment: str) -> Seal:
    return Envelopes(
        world.cloud,
        world.environment.home_place,
        "alias/golden-ami",
        environment=environment,
        purpose="catalog",
        error=CatalogError,
    )
