"""What Jinja makes of a template is kept in the user's cache, found by its source."""

from __future__ import annotations

import os
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import jinja2
import pytest

import goldenami
from goldenami import onecommand
from goldenami.recipe import document, keptdocuments, keptenvironments, kepttemplates, load_project, rendering
from goldenami.recipe.rendering import Namespace, Renderer
from tests.worlds.damage import WAYS, damage

SOURCES = {
    "port {{ vars.port }}{% if vars.port > 80 %} is high{% endif %}": "port 8080 is high",
    "{{ vars.names | first | upper ~ '!' }}": "A!",
    "a text": "a text",
}
CONTEXT = {"vars": Namespace("vars", {"port": 8080, "names": ["a", "b"]}, "")}


class Process:
    """A process that runs one command."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.ends: list[Any] = []
        self.compiled: list[str] = []
        compile = rendering._Environment.compile

        def noting(environment: Any, source: Any, *args: Any, **more: Any) -> Any:
            self.compiled.append(source)
            return compile(environment, source, *args, **more)

        patch.setattr(rendering._Environment, "compile", noting)
        patch.setattr(onecommand._Process, "one", True)
        patch.setattr(kepttemplates._Kept, "current", None)
        patch.setattr(kepttemplates, "atexit", SimpleNamespace(register=self._register))
        for known in (rendering.is_cheap, rendering._names, rendering._tree, rendering._template):
            known.cache_clear()

    def render(self, sources: Any = tuple(SOURCES)) -> list[Any]:
        """Render, and end the process. Returns the results, and the problems of a source that has some."""
        found: list[Any] = []
        for source in sources:
            problems: list[Any] = []
            text = Renderer(CONTEXT).text(source, lambda *one: problems.append(one))  # noqa: B023 - called at once
            found.append(problems or text)
        for call in self.ends:
            call()
        return found

    def _register(self, call: Any, **more: Any) -> None:
        self.ends.append(partial(call, **more))


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return Path(os.environ["XDG_CACHE_HOME"]) / "goldenami/templates"


def test_a_template_is_compiled_once(monkeypatch: pytest.MonkeyPatch) -> None:
    first = Process(monkeypatch)
    assert first.render() == [*SOURCES.values()]
    assert first.compiled
    second = Process(monkeypatch)
    assert second.render() == [*SOURCES.values()]
    assert second.compiled == []
    assert Renderer(CONTEXT).text("{{ vars.port }}!", lambda *_: None) == "8080!"
    assert len(second.compiled) == 1, "another source"


def test_a_problem_is_found_again(monkeypatch: pytest.MonkeyPatch) -> None:
    wrong = ["{{ vars.port", "{{ vars.prot }}"]
    told = Process(monkeypatch).render(wrong)
    assert len(told) == 2
    assert all(isinstance(one, list) for one in told)
    assert Process(monkeypatch).render(wrong) == told


@pytest.mark.parametrize("how", WAYS)
def test_a_file_that_cannot_be_trusted_is_not_used(monkeypatch: pytest.MonkeyPatch, cache: Path, how: str) -> None:
    Process(monkeypatch).render()
    (file,) = cache.iterdir()
    damage(file, how)
    process = Process(monkeypatch)
    assert process.render() == [*SOURCES.values()]
    assert process.compiled


def test_nothing_is_kept_of_code_that_is_in_an_archive(monkeypatch: pytest.MonkeyPatch, cache: Path) -> None:
    """Its modules are no files. Neither templates nor documents nor environments are kept then."""
    archive = cache.parent.with_name("archive.zip")
    archive.write_bytes(b"")
    monkeypatch.setattr(goldenami, "__file__", str(archive / "goldenami/__init__.pyc"))
    monkeypatch.setattr(document, "__file__", str(archive / "goldenami/recipe/document.pyc"))
    assert Process(monkeypatch).render() == [*SOURCES.values()]
    assert [*cache.iterdir()] == []
    (cache.parents[1] / "goldenami.yaml").write_text("environments: {}\n")
    project = load_project(cache.parents[1])
    monkeypatch.setenv("XDG_CACHE_HOME", str(cache.parents[1].with_name("cache")))  # no folder of a project
    assert keptdocuments._entry(project) is None
    assert keptenvironments._entry(project, b"") is None


def test_other_code_makes_other_programs(monkeypatch: pytest.MonkeyPatch, cache: Path) -> None:
    Process(monkeypatch).render()
    monkeypatch.setattr(jinja2, "__version__", "4.0")
    process = Process(monkeypatch)
    process.render()
    assert process.compiled
    assert len([*cache.iterdir()]) == 2


def test_programs_of_code_that_changes_meanwhile_are_not_those_of_the_new_code(
    monkeypatch: pytest.MonkeyPatch, cache: Path
) -> None:
    """An editable installation."""
    first = Process(monkeypatch)
    first.ends.append(partial(monkeypatch.setattr, jinja2, "__version__", "4.0"))  # before it writes
    first.render()
    assert len([*cache.iterdir()]) == 1
    new = Process(monkeypatch)
    new.render()
    assert new.compiled


def test_a_process_that_goes_on_keeps_nothing(monkeypatch: pytest.MonkeyPatch, cache: Path) -> None:
    process = Process(monkeypatch)
    monkeypatch.setattr(onecommand._Process, "one", False)
    assert process.render() == [*SOURCES.values()]
    assert not cache.exists()
