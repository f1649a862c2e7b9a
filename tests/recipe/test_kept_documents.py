"""The parsed recipes of a project with many of them are kept in the user's cache, each found by its text."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from goldenami import kepttable, onecommand, recipe, usercache
from goldenami.model import Mark
from goldenami.recipe import document, keptdocuments
from goldenami.recipe.controls import Library
from goldenami.recipe.document import Document
from goldenami.recipe.problems import Problems
from goldenami.recipe.project import PARSED, Project
from tests.worlds.damage import WAYS, damage

Write = Callable[[dict[str, str]], Path]

RECIPES = {
    "one": "name: one\nversion: '1.0'\nsoftware:\n  - &web package: {name: [nginx, curl]}\n  - *web\n",
    "two": "name: two\nvars:\n  port: 80\n  ratio: 1.5\n  debug: true\n  none: null\n  text: |\n    two\n    lines\n",
    "dated": "name: dated\nhardening: {waivers: {a-control: {reason: none, expires: 2027-03-01}}}\n",
    "wrong": "name: wrong\nname: wrong\nmode: 0644\n",
}


@pytest.fixture(autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
    monkeypatch.setattr(keptdocuments, "_LEAST", len(RECIPES))
    return Path(os.environ["XDG_CACHE_HOME"]) / "goldenami/recipes"


@pytest.fixture
def parsed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the files that are parsed."""
    files: list[str] = []
    parse = document.parse_leniently

    def noting(text: str, path: Path, file: str) -> object:
        files.append(path.stem)
        return parse(text, path, file)

    monkeypatch.setattr(document, "parse_leniently", noting)
    return files


@pytest.fixture
def root(write_project: Write) -> Path:
    return write_project({f"recipes/{name}.yaml": text for name, text in RECIPES.items()})


def read(root: Path) -> Project:
    project = recipe.load_project(root)
    keptdocuments.read_all(project, [*RECIPES])
    return project


def documents(project: Project) -> dict[str, Document | None]:
    return {name: project.document(project.recipe_path(name), Problems()) for name in RECIPES}


def problems(project: Project) -> list[str]:
    found = Problems()
    for name in RECIPES:
        project.document(project.recipe_path(name), found)
    return [str(one) for one in found.found]


def test_what_is_kept_equals_what_is_parsed(root: Path, parsed: list[str]) -> None:
    before = recipe.load_project(root)
    expected, told = documents(before), problems(before)
    assert documents(read(root)) == expected
    parsed.clear()
    again = read(root)
    assert sorted(set(parsed) & RECIPES.keys()) == ["dated", "wrong"]  # dates and problems are not kept
    assert documents(again) == expected
    assert problems(again) == told


def test_a_changed_recipe_is_parsed(root: Path, parsed: list[str]) -> None:
    read(root)
    times = (root / "recipes/one.yaml").stat()
    (root / "recipes/one.yaml").write_text(RECIPES["one"].replace("nginx", "squid"))
    os.utime(root / "recipes/one.yaml", ns=(times.st_atime_ns, times.st_mtime_ns))  # only the text decides
    parsed.clear()
    changed = documents(read(root))["one"]
    assert changed is not None
    assert changed.value["software"][0] == {"package": {"name": ["squid", "curl"]}}
    assert "one" in parsed
    assert "two" not in parsed


@pytest.mark.parametrize("how", WAYS)
def test_a_file_that_cannot_be_trusted_is_not_used(root: Path, cache: Path, parsed: list[str], how: str) -> None:
    expected = documents(read(root))
    (file,) = cache.iterdir()
    damage(file, how)
    parsed.clear()
    assert documents(read(root)) == expected
    assert set(parsed) >= RECIPES.keys()


def test_texts_of_the_past_do_not_stay_for_ever(root: Path, cache: Path) -> None:
    for number in range(3 * len(RECIPES)):
        (root / "recipes/one.yaml").write_text(f"name: one\nversion: '1.{number}'\n")
        read(root)
    (file,) = cache.iterdir()
    assert len(kepttable.read(file)) <= 2 * len(RECIPES)


def test_files_that_are_read_later_are_not_kept(root: Path, cache: Path) -> None:
    (root / "other.yaml").write_text("name: other\n")
    project = read(root)
    (file,) = cache.iterdir()
    before = file.read_bytes()
    assert project.kept[PARSED] is None  # nothing of the cache stays in memory
    assert project.document(root / "other.yaml", Problems()) is not None
    keptdocuments.read_all(project, [*RECIPES])
    assert file.read_bytes() == before


@pytest.mark.parametrize("below", ["recipes/.cache", "link", "tree/.cache"])
def test_a_cache_that_a_commit_can_write_is_not_used(
    root: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch, below: str
) -> None:
    """It is in the project, reached from it or from outside through a link, or in another git work tree."""
    outside = tmp_path_factory.mktemp("outside")
    (root / "link").symlink_to(outside)
    (outside / "back").symlink_to(root / "recipes")
    (outside / "tree").mkdir()
    (outside / "tree/.git").write_text("gitdir: elsewhere\n")  # as of `git worktree`
    places = [outside / below] if below.startswith("tree") else [root / below, outside / "back/.cache"]
    for place in places:
        monkeypatch.setenv("XDG_CACHE_HOME", str(place))
        assert usercache.folder("recipes") is None
        assert documents(read(root))["one"] is not None
        assert not (place / "goldenami").exists()
    monkeypatch.setenv("XDG_CACHE_HOME", str(outside / "own"))
    assert usercache.folder("recipes") == outside / "own/goldenami/recipes"


def test_files_of_controls_are_parsed_once_for_commands(
    root: Path, parsed: list[str], cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def controls() -> dict[str, object]:
        parsed.clear()
        project = recipe.load_project(root)
        profile = Library(project, Problems()).profile("debian-12-level-1", Mark("", 0, 0))
        assert profile is not None
        assert not [one for one in project.kept.values() if isinstance(one, keptdocuments.KeptDocuments)]
        return {id: (one.value, one.mark) for id, one in profile.controls.items()}

    expected = controls()
    assert {"ssh", "kernel"} <= {*parsed}
    assert not cache.exists(), "it was no command"
    monkeypatch.setattr(onecommand._Process, "one", True)
    assert controls() == expected
    assert {"ssh", "kernel"} <= {*parsed}
    assert controls() == expected
    assert not {"ssh", "kernel"} & {*parsed}


def test_threads_keep_what_they_read_apart(root: Path, parsed: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """One begins earlier than the other, and ends earlier."""
    monkeypatch.setattr(onecommand._Process, "one", True)
    project = recipe.load_project(root)
    path = project.recipe_path("one")

    def other(has_begun: threading.Event, may_end: threading.Event, errors: list[BaseException]) -> None:
        try:
            with keptdocuments.keeping_controls(project):
                has_begun.set()
                assert may_end.wait(60)
        except BaseException as error:
            errors.append(error)

    errors: list[BaseException] = []
    begun, end = threading.Event(), threading.Event()
    thread = threading.Thread(target=other, args=(begun, end, errors))
    with keptdocuments.keeping_controls(project):
        thread.start()
        assert begun.wait(60)
        assert project.document(path, Problems()) is not None
    end.set()
    thread.join()
    assert errors == []
    assert not [one for one in project.kept.values() if isinstance(one, keptdocuments.KeptDocuments)]
    parsed.clear()
    with keptdocuments.keeping_controls(again := recipe.load_project(root)):
        assert again.document(path, Problems()) is not None
    assert "one" not in parsed, "it was kept, by the thread that read it"


def test_a_few_recipes_are_not_kept(root: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keptdocuments, "_LEAST", len(RECIPES) + 1)
    read(root)
    assert not cache.exists()


def test_a_user_without_a_cache_needs_none(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", "/dev/null")
    assert documents(read(root))["one"] is not None
