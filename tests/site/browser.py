"""Opens pages of a site in Chromium, as `make .venv-browser/.done` installs it: python browser.py FOLDER.

Prints a JSON list of what is wrong: console messages, violations of axe-core's rules, pages wider than the window,
texts of pictures outside of them or on each other, and steps of a reader that do not work.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from axe_playwright_python.sync_playwright import Axe  # type: ignore[import-not-found]
from playwright.sync_api import Page, sync_playwright  # type: ignore[import-not-found]

TEXTS = """() => [...document.querySelectorAll('svg')].flatMap(svg => {
  const box = svg.getBoundingClientRect(), found = [];
  const all = [...svg.querySelectorAll('text')].map(t => [t.textContent, t.getBoundingClientRect()]);
  all.forEach(([text, b], i) => {
    if (b.left < box.left - 1 || b.right > box.right + 1 || b.top < box.top - 1 || b.bottom > box.bottom + 1)
      found.push('outside its picture: ' + text);
    all.slice(i + 1).forEach(([other, o]) => {
      const wide = Math.min(b.right, o.right) - Math.max(b.left, o.left);
      const high = Math.min(b.bottom, o.bottom) - Math.max(b.top, o.top);
      if (wide > 1 && high > 3) found.push(text + ' is on ' + other);
    });
  });
  return found;
})"""


def main(folder: Path) -> list[str]:
    found: list[str] = []
    pages = sorted(folder.rglob("*.html"))
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path="/usr/bin/chromium", args=["--no-sandbox"])
        for scheme in ("light", "dark"):
            for width in (1280, 360):
                context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme)
                page = context.new_page()
                seen: list[str] = []
                page.on("console", lambda message, seen=seen: seen.append(message.text))
                page.on("pageerror", lambda error, seen=seen: seen.append(str(error)))
                page.on(
                    "request",
                    lambda request, seen=seen: request.url.startswith(("file:", "data:")) or seen.append(request.url),
                )
                for path in pages:
                    where = f"{path.relative_to(folder)} ({scheme}, {width})"
                    page.goto(path.as_uri())
                    page.wait_for_load_state()
                    # What is folded has no boxes.
                    page.evaluate("document.querySelectorAll('details').forEach(one => one.open = true)")
                    found += [f"{where}: {text}" for text in (*seen, *page.evaluate(TEXTS))]
                    if page.evaluate("document.documentElement.scrollWidth > innerWidth"):
                        found.append(f"{where}: wider than the window")
                    for violation in Axe().run(page).response["violations"]:
                        found.append(f"{where}: {violation['id']}: {violation['nodes'][0]['html'][:200]}")
                    seen.clear()
                context.close()
        found += steps(browser.new_context().new_page(), folder)
        browser.close()
    return found


def steps(page: Page, folder: Path) -> list[str]:
    """Do what a reader does, with the keyboard alone where that is possible."""
    found = []
    page.goto((folder / "index.html").as_uri())
    page.keyboard.press("Tab")
    if page.evaluate("document.activeElement.className") != "skip":
        found.append("the first Tab is not the link to the contents")
    page.focus("#search")
    page.keyboard.type("image-1")
    page.wait_for_selector("#results a")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Enter")
    page.wait_for_url("**/images/image-1/index.html")
    page.click("button.copy >> nth=0")
    page.wait_for_function("document.querySelector('button.copy').textContent === 'Copied'")
    page.goto((folder / "images/image-0/compare.html").as_uri())
    page.wait_for_selector("#differences table")
    if "openssl" not in page.inner_text("#differences"):
        found.append("the comparison does not name the changed package")
    page.select_option("select[name=before]", index=0)
    page.wait_for_function("document.querySelector('#differences').textContent === 'Nothing differs.'")
    return found


if __name__ == "__main__":
    print(json.dumps(main(Path(sys.argv[1]).absolute()), indent=1))
