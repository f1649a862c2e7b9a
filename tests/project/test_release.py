"""Both distributions, the pin between them, CHANGELOG.md and the tag have one version."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import goldenami

ROOT = Path(__file__).parents[2]
READ = (".ci/release.py", "CHANGELOG.md", "pyproject.toml", "goldenami/__init__.py")


def check(root: Path, *tag: str) -> subprocess.CompletedProcess[str]:
    command: list[str | Path] = [sys.executable, root / ".ci" / "release.py", "check", *tag]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """What the check reads, to be changed."""
    for name in READ:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / name)
    return tmp_path


def edit(file: Path, old: str, new: str) -> None:
    text = file.read_text()
    assert old in text
    file.write_text(text.replace(old, new, 1))


def test_this_version_can_be_tagged() -> None:
    done = check(ROOT, f"v{goldenami.__version__}")
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("project", [".", "sandbox"])
def test_a_distribution_is_built_with_this_version(project: str) -> None:
    """As its build backend tells it."""
    command = [sys.executable, "-m", "hatchling", "metadata", "version"]
    done = subprocess.run(command, cwd=ROOT / project, capture_output=True, text=True, check=False)
    assert (done.stdout.strip(), done.stderr) == (goldenami.__version__, "")


@pytest.mark.parametrize("tag", ["", "v0.0.1", goldenami.__version__, f"v{goldenami.__version__}.1"])
def test_another_tag_is_refused(tag: str) -> None:
    done = check(ROOT, tag)
    assert done.returncode == 1
    assert done.stderr == f"the tag is '{tag}'; expected 'v{goldenami.__version__}', the version with a v\n"


def test_a_version_that_the_rest_does_not_have_is_told(copy: Path) -> None:
    edit(copy / "goldenami" / "__init__.py", goldenami.__version__, "9.9.9")
    done = check(copy)
    assert done.returncode == 1
    files = [line.partition(":")[0] for line in done.stderr.splitlines()]
    assert files == ["CHANGELOG.md", "pyproject.toml"]
    assert done.stderr.count("9.9.9") == 2


def test_a_section_without_text_is_told(copy: Path) -> None:
    edit(copy / "CHANGELOG.md", "\n## ", f"\n## {goldenami.__version__}\n\n## ")
    done = check(copy)
    assert done.returncode == 1
    assert re.search(r"CHANGELOG.md: the section '.*' is empty", done.stderr)
