"""The site in Chromium: every page in light and dark, wide and narrow, and the steps of a reader."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from goldenami.cli.main import main
from tests.site import world

PYTHON = Path(__file__).parents[2] / ".venv-browser/bin/python"


@pytest.mark.nightly
def test_every_page_in_a_browser(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if not PYTHON.exists() or not Path("/usr/bin/chromium").exists():
        pytest.skip("CHROMIUM OR PLAYWRIGHT IS NOT INSTALLED, so nobody opens the pages: make .venv-browser/.done")
    catalog = world.fill(tmp_path)
    world.sign(catalog, "image-0", world.release("image-0", 3).version)
    world.record_build(tmp_path, "image-0", 3)
    monkeypatch.chdir(tmp_path)
    assert main(["site", "build", *world.reports(tmp_path)]) == 0
    program = [str(PYTHON), str(Path(__file__).with_name("browser.py")), "public"]
    done = subprocess.run(program, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == []
