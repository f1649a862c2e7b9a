"""The pictures in Chromium: no text is wider than the table of widths says, or on another one."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from xml.etree import ElementTree

import pytest

from tests.pictures import boxes, gallery
from tests.site.test_browser import PYTHON


@pytest.mark.nightly
def test_texts_have_the_room_that_was_measured(tmp_path: Path) -> None:
    if not PYTHON.exists() or not Path("/usr/bin/chromium").exists():
        pytest.skip("CHROMIUM OR PLAYWRIGHT IS NOT INSTALLED, so nobody opens the pictures: make .venv-browser/.done")
    drawn = {
        f"{name}-{count}{'-long' * long}": draw(count, long)
        for name, draw in gallery.PICTURES.items()
        for count, long in gallery.SIZES
    }
    for name, document in drawn.items():
        (tmp_path / f"{name}.svg").write_text(document, encoding="utf-8")
    program = [str(PYTHON), str(Path(__file__).with_name("browser.py")), str(tmp_path)]
    done = subprocess.run(program, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stderr
    shown = json.loads(done.stdout)
    assert shown.keys() == drawn.keys()
    for name, document in drawn.items():
        root = ElementTree.fromstring(document)
        width, height = float(root.attrib["width"]), float(root.attrib["height"])
        expected = boxes.texts(document)
        real = [boxes.Box(text, a, b, c, d, "") for text, a, b, c, d in shown[name]]
        assert len(real) == len(expected) > 0
        for one, box in zip(real, expected, strict=True):
            assert one.right - one.left <= box.right - box.left + 0.5, f"{name}: {one.text} is wider than measured"
            assert one.left >= 0, f"{name}: {one.text}"
            assert one.right <= width, f"{name}: {one.text}"
            assert one.bottom <= height + 1, f"{name}: {one.text}"
        for number, one in enumerate(real):
            for other in real[number + 1 :]:
                high = min(one.bottom, other.bottom) - max(one.top, other.top)
                wide = min(one.right, other.right) - max(one.left, other.left)
                # The box of a browser has the room between lines, too.
                assert wide <= 1 or high <= 4, f"{name}: {one.text} is on {other.text}"
