"""The lock files satisfy both pyproject.toml, and goldenami needs few packages."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).parents[2]
OWN = {"goldenami", "goldenami-sandbox"}
# A version, and for which interpreters it is: several lines may name one package.
_LINE = re.compile(r"^(?P<requirement>[a-z0-9].*?) \\$", re.MULTILINE)


def locked(file: str = "lock.txt") -> dict[str, list[Requirement]]:
    found: dict[str, list[Requirement]] = {}
    for match in _LINE.finditer((ROOT / ".ci" / file).read_text()):
        requirement = Requirement(match["requirement"])
        found.setdefault(canonicalize_name(requirement.name), []).append(requirement)
    return found


def required() -> list[Requirement]:
    """By both distributions, their extras and their builds."""
    texts: list[str] = []
    for file in (ROOT / "pyproject.toml", ROOT / "sandbox" / "pyproject.toml"):
        content: dict[str, Any] = tomllib.loads(file.read_text())
        texts += content["build-system"]["requires"] + content["project"]["dependencies"]
        for extra, packages in content["project"].get("optional-dependencies", {}).items():
            texts += packages if extra != "ansible" else []  # its tests are in an environment of their own
    every = [Requirement(text) for text in texts]
    return [one for one in every if canonicalize_name(one.name) not in OWN]


@pytest.mark.parametrize("wanted", required(), ids=str)
def test_the_lock_file_satisfies(wanted: Requirement) -> None:
    versions = [next(iter(one.specifier)).version for one in locked().get(canonicalize_name(wanted.name), [])]
    assert versions, f"{wanted.name} is not in .ci/lock.txt: run `make lock`"
    wrong = [version for version in versions if not wanted.specifier.contains(Version(version), prereleases=True)]
    assert not wrong, f".ci/lock.txt has {wanted.name} {wrong}, and pyproject.toml wants {wanted}: run `make lock`"


@pytest.mark.parametrize("file", ["lock.txt", "lock-demo.txt"])
def test_every_entry_is_one_version_with_hashes_from_no_certain_registry(file: str) -> None:
    text = (ROOT / ".ci" / file).read_text()
    assert "://" not in text
    assert "--index" not in text
    entries = re.split(r"^(?=[a-z0-9])", text, flags=re.MULTILINE)[1:]
    assert len(entries) == sum(map(len, locked(file).values())) > 50
    for entry in entries:
        assert re.match(r"[a-z0-9][a-z0-9._\-]*(\[[a-z,]+\])?==[^=, ]+ ", entry), entry
        assert "--hash=sha256:" in entry, entry


def test_the_demo_has_versions_of_the_lock_file() -> None:
    demo, every = locked("lock-demo.txt"), locked()
    assert {"moto", "botocore", "hatchling"} <= set(demo)
    for name, found in demo.items():
        assert {one.specifier for one in found} <= {one.specifier for one in every[name]}, f"{name}: run `make lock`"


def needs(name: str, extras: Iterable[str] = ()) -> set[str]:
    """The distributions that an installed one needs on this machine, with their own requirements."""
    found: set[str] = set()
    waiting = [Requirement(f"{name}[{','.join(extras)}]")]
    while waiting:
        parent = waiting.pop()
        for text in metadata.requires(parent.name) or []:
            child = Requirement(text)
            wanted = [{"extra": ""}, *({"extra": extra} for extra in parent.extras)]
            if child.marker and not any(child.marker.evaluate(one) for one in wanted):
                continue
            if (key := canonicalize_name(child.name)) not in found:
                found.add(key)
                waiting.append(child)
    return found


def test_goldenami_alone_needs_few_packages_and_none_of_the_sandbox() -> None:
    alone = needs("goldenami")
    assert len(alone) <= 32, sorted(alone)
    assert not alone & {"boto3", "flask", "goldenami-sandbox", "moto", "requests", "werkzeug"}
    assert {"flask", "goldenami-sandbox", "moto"} <= needs("goldenami", ["sandbox"])
