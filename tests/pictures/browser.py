"""Draws pictures in Chromium: python browser.py FOLDER. Prints, as JSON, the boxes of the texts of each SVG file."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from playwright.sync_api import sync_playwright  # type: ignore[import-not-found]

BOXES = """() => [...document.querySelectorAll('text')].map(t => {
  const b = t.getBBox(), down = t.getCTM().f - document.documentElement.getCTM().f;
  return [t.textContent, b.x, b.y + down, b.x + b.width, b.y + b.height + down];
})"""


def main(folder: Path) -> dict[str, list[list[object]]]:
    found = {}
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path="/usr/bin/chromium", args=["--no-sandbox"])
        page = browser.new_page()
        for path in sorted(folder.glob("*.svg")):
            page.goto(path.as_uri())
            found[path.stem] = page.evaluate(BOXES)
        browser.close()
    return found


if __name__ == "__main__":
    print(json.dumps(main(Path(sys.argv[1]).absolute())))
