"""One node per worker for the tests that only need one; ``new_node`` for those that end theirs."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from goldenami_sandbox.node import leftovers

_SPEC = importlib.util.spec_from_file_location("enclosed_node", Path(__file__).with_name("enclosed_node.py"))
assert _SPEC is not None
assert _SPEC.loader is not None
enclosed_node = importlib.util.module_from_spec(_SPEC)
sys.modules["enclosed_node"] = enclosed_node
_SPEC.loader.exec_module(enclosed_node)

Node = Any


def cache_directory() -> Path:
    """Base roots are cached where users' are, so that they are made once."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "goldenami"


@pytest.fixture
def new_node() -> Iterator[Callable[[Path], Node]]:
    nodes: list[Node] = []

    def make(state: Path) -> Node:
        state.mkdir(parents=True, exist_ok=True)
        node = enclosed_node.Remote(state, cache_directory())
        nodes.append(node)
        node.call("start")
        return node

    yield make
    for node in nodes:
        node.end()


@pytest.fixture(scope="session")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    state = tmp_path_factory.mktemp("node")
    node = enclosed_node.Remote(state, cache_directory())
    try:
        node.call("start")
        yield node
    finally:
        node.end()
        leftovers.clear(node.sandbox)


@pytest.fixture(scope="session")
def identity(tmp_path_factory: pytest.TempPathFactory) -> Path:
    key = tmp_path_factory.mktemp("ssh") / "id"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "test", "-f", str(key)], check=True)
    return key
