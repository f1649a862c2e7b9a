"""The import rules in pyproject.toml hold for every module: none can be left out by mistake."""

from __future__ import annotations

import ast
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.worlds import source

PROJECT = Path(__file__).parents[2]


def contracts(kind: str) -> list[dict[str, Any]]:
    settings = tomllib.loads((PROJECT / "pyproject.toml").read_text(encoding="utf-8"))
    return [c for c in settings["tool"]["importlinter"]["contracts"] if c["type"] == kind]


def test_every_module_has_a_layer() -> None:
    (contract,) = [c for c in contracts("layers") if c.get("containers") == ["goldenami"]]
    assert contract["exhaustive"], "import-linter refuses a module without a layer only with `exhaustive = true`"
    layers = {name.strip() for layer in contract["layers"] for name in layer.split("|")}
    package = PROJECT / "goldenami"
    modules = {p.stem for p in package.glob("*.py") if p.stem != "__init__"}
    modules |= {p.parent.name for p in package.glob("*/__init__.py")}
    missing, stale = sorted(modules - layers), sorted(layers - modules)
    assert not missing, f"pyproject.toml, contract {contract['name']!r}: add {missing} to `layers`, above their imports"
    assert not stale, f"pyproject.toml, contract {contract['name']!r}: remove {stale} from `layers`, they do not exist"


def test_what_is_forbidden_is_forbidden_everywhere() -> None:
    """A list of packages as `source_modules` would leave out the next package."""
    rules = contracts("forbidden")
    partial = [c["name"] for c in rules if any(m.startswith("goldenami.") for m in c["source_modules"])]
    assert not partial, f"pyproject.toml: use 'goldenami' as `source_modules` in {partial}, and `ignore_imports`"


# --- files are read by goldenami/reading.py ---------------------------------------------------------------------------

# Calls that open files without ``reading.Files``. Everything else could follow a link of a merge request.
OWN_FILES = {
    "evidence/feeds.py": {"ANYWHERE.read_bytes(path, FEED_BYTES)"},  # a feed that goldenami.yaml names
    "packages.py": {  # of installed packages
        'Path(directory, name, "entry_points.txt").read_bytes()',
        '(folder / file).read_text(encoding="utf-8", errors="replace")',
    },
    "provision/operation.py": {"source.open()", "self.source.open()"},  # a reading.Source
    "provision/program.py": {"contents.open()", "source.open()"},  # a reading.Source
    "recipe/extensions.py": {"Path(source).read_bytes()"},  # code of an installed package
    "recipe/prices.py": {'files("goldenami.snapshots").joinpath(FILE).read_text()'},  # the shipped prices
    "stages/logins.py": {"known.read_text()"},  # known_hosts in the directory of a build
    "updates/fetch.py": {"path.read_bytes()"},  # the cache of downloads
    "usercache.py": {'path.open("rb")'},  # what goldenami keeps
    "updates/signatures.py": {'(folder / "text").read_bytes()'},  # what gpgv wrote
    "validate/isolation.py": {'Path("/proc/self/maps").read_text()'},  # the memory of this process
    "validate/runner.py": {"file.read_bytes()"},  # to find out whether tests that are loaded have changed
    "validate/shellfiles.py": {'self.path.read_text(encoding="utf-8")'},  # in the child, as pytest reads its files
    "validate/settings.py": {'open(descriptor, encoding="utf-8")'},  # memory that the parent process wrote
}
# Rooms that read no file of a project: state of goldenami, and files that options of the command line name.
OTHER_ROOMS = ("store/", "journal/", "ssh/", "cli/", "reading.py")


def reads(module: ast.Module) -> Iterator[str]:
    """Yield the calls that open a file for reading and do not use ``Files`` or the folder of the module."""
    for node in ast.walk(module):
        if not isinstance(node, ast.Call):
            continue
        mode = next(
            (
                a.value
                for a in [*node.args[:2], *(k.value for k in node.keywords if k.arg == "mode")]
                if isinstance(a, ast.Constant) and isinstance(a.value, str)
            ),
            "r",
        )
        match node.func:
            case ast.Name("open"):
                opens = mode[0] == "r"
            case ast.Attribute(ast.Name("os"), "open"):
                opens = "O_WRONLY" not in ast.unparse(node)
            case ast.Attribute(_, "open"):
                opens = mode[0] == "r" and (not node.args or isinstance(node.args[0], ast.Constant))
            case ast.Attribute(_, "read_text" | "read_bytes"):
                opens = True
            case _:
                opens = False
        if not opens:
            continue
        text = ast.unparse(node).replace("'", '"')
        if not re.match(r"([\w.]*\bfiles|\(?Files\(.*|Path\(__file__\).*)\.\w+\(", text):
            yield text


def test_only_one_module_reads_files_of_a_project() -> None:
    trees = source.trees("open(", "read_text(", "read_bytes(")
    found = {name: set(reads(tree)) for name, tree in trees if not name.startswith(OTHER_ROOMS)}
    found = {name: calls for name, calls in found.items() if calls}
    assert found == OWN_FILES, "read files of a project with `Files` of goldenami/reading.py: it refuses links outward"


@pytest.mark.parametrize(
    "call", ["open(p)", "open(p, 'rb')", "p.open()", "p.open('rb')", "p.read_text()", "os.open(p, os.O_RDONLY)"]
)
def test_a_direct_read_is_found(call: str) -> None:
    assert list(reads(ast.parse(f"def f(p):\n    return {call}\n")))


@pytest.mark.parametrize("call", ["p.open('x')", "scope.project.files.read_bytes(p)", "Files([p]).open(p)"])
def test_other_calls_are_no_direct_reads(call: str) -> None:
    assert not list(reads(ast.parse(f"def f(p):\n    return {call}\n")))
