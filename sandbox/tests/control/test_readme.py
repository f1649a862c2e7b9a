"""The examples of the README that need no root, run as they are."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

README = Path(__file__).parents[2] / "README.md"


def blocks() -> list[str]:
    return re.findall(r"```python\n(.*?)```", README.read_text(), re.DOTALL)


def test_the_paper_cloud() -> None:
    (block,) = [b for b in blocks() if "with paper_cloud() as cloud" in b]
    exec(compile(block, str(README), "exec"), {})


def test_the_fixture(paper_cloud: Any) -> None:
    (block,) = [b for b in blocks() if b.startswith("def test_")]
    names: dict[str, Any] = {}
    exec(compile(block, str(README), "exec"), names)
    (example,) = [value for name, value in names.items() if name.startswith("test_")]
    example(paper_cloud)


def test_the_control_functions_exist() -> None:
    """The example needs root; its names are checked."""
    from goldenami_sandbox import control

    (block,) = [b for b in blocks() if "control.ensure_up" in b]
    assert set(re.findall(r"info\.(\w+)\(", block)) <= set(dir(control.SandboxInfo))
    assert set(re.findall(r"control\.(\w+)\(", block)) <= set(dir(control))
