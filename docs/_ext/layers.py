"""The layers of goldenami as a picture and a table, from the import-linter contract in pyproject.toml."""

from __future__ import annotations

import ast
import tomllib
from collections.abc import Iterator
from html import escape
from pathlib import Path

PROJECT = Path(__file__).parents[2]

WIDTH, HEIGHT, GAP, LEFT = 720, 34, 10, 4


def contract() -> list[list[str]]:
    """The layers, the top one first; each is a list of siblings that do not import each other."""
    settings = tomllib.loads((PROJECT / "pyproject.toml").read_text(encoding="utf-8"))
    (found,) = [c for c in settings["tool"]["importlinter"]["contracts"] if c.get("containers") == ["goldenami"]]
    return [[name.strip() for name in layer.replace(":", "|").split("|")] for layer in found["layers"]]


def names() -> list[str]:
    return [name for layer in contract() for name in layer]


def page() -> str:
    """The picture as SVG inside Markdown, and one line for each module or package, from its docstring."""
    picture = ["<div class='layers'>", svg(contract()), "</div>", ""]
    return "\n".join([*picture, "| module | subject |", "|---|---|", *(f"| `{n}` | {summary(n)} |" for n in names())])


def summary(name: str) -> str:
    """The first sentence of the docstring of goldenami/NAME."""
    package = PROJECT / "goldenami" / name
    file = package / "__init__.py" if package.is_dir() else package.with_suffix(".py")
    first = (ast.get_docstring(ast.parse(file.read_text(encoding="utf-8"))) or "").split("\n\n")[0]
    return " ".join(first.split()).replace("``", "`").replace("|", "\\|")


def svg(layers: list[list[str]]) -> str:
    """One row a layer. Colors are those of the theme, so that the picture is readable in light and dark mode."""
    height = len(layers) * (HEIGHT + GAP) + GAP
    label = f"The layers of goldenami, from {layers[0][0]} at the top to {layers[-1][0]} at the bottom"
    rows = [line for number, layer in enumerate(layers) for line in _row(layer, GAP + number * (HEIGHT + GAP))]
    size = f'xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}"'
    return "\n".join([f'<svg {size} role="img" aria-label="{label}">', *rows, "</svg>"])


def _row(layer: list[str], y: int) -> Iterator[str]:
    """Boxes of equal width. An arrow is not needed: imports point down."""
    width = (WIDTH - 2 * LEFT - (len(layer) - 1) * GAP) / len(layer)
    for number, name in enumerate(layer):
        x = LEFT + number * (width + GAP)
        yield f'<rect x="{x:.1f}" y="{y}" width="{width:.1f}" height="{HEIGHT}" rx="5" class="layer"/>'
        yield (
            f'<text x="{x + width / 2:.1f}" y="{y + HEIGHT / 2 + 5:.0f}" text-anchor="middle" '
            f'class="layer">{escape(name)}</text>'
        )
