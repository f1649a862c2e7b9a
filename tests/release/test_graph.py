"""``goldenami graph``: releases and stale images from the catalog, and the graph without it."""

from __future__ import annotations

import json
import shutil
from xml.etree import ElementTree

import pytest

from goldenami import many
from goldenami import recipe as recipes
from goldenami.aws.session import Cloud
from goldenami.cli.main import main
from goldenami.many import Options
from tests.worlds.builds import PaperHostWork, World, logged_in
from tests.worlds.graph import write_graph


@pytest.fixture
def world(build_world: World, monkeypatch: pytest.MonkeyPatch) -> World:
    build_world.fresh()
    write_graph(build_world, {"web": None, "app": "web"})
    monkeypatch.chdir(build_world.path)
    monkeypatch.setattr(Cloud, "of", logged_in)
    return build_world


def test_an_image_is_stale_after_the_channel_of_its_parent_moved(
    world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    def built(*names: str) -> None:
        project = recipes.load_project(world.path)
        work = many.choose(project, world.environment, names, {}, children=False)
        many.build(project, world.environment, work, Options(host_work=PaperHostWork(), cloud=world.cloud))

    def shown(*arguments: str) -> str:
        assert main(["graph", "-e", "test", *arguments]) == 0
        return capsys.readouterr().out

    built("web", "app")
    first = world.catalog.versions("web")[0]
    before = json.loads(shown("--json"))
    assert (before["schema"], before["releases_read"]) == ("goldenami.graph/1", True)
    assert {one["name"]: (one["parent"], one["built_on"], one["stale"]) for one in before["images"]} == {
        "web": (None, None, False),
        "app": ("web", first, False),
    }
    recipe = world.path / "recipes/web.yaml"
    recipe.write_text(recipe.read_text().replace("content: hello", "content: again"))
    built("web")
    second = world.catalog.versions("web")[0]
    after = {one["name"]: one for one in json.loads(shown("--json"))["images"]}
    assert (after["app"]["stale"], after["app"]["parent_release"]) == (True, second)
    assert f"stale: built on web {first}, stable is {second} now" in shown()
    assert ":::stale" in shown("--mermaid")
    assert "1 stale" in "".join(ElementTree.fromstring(shown("--svg")).itertext())

    offline = json.loads(shown("--offline", "--json"))
    assert (offline["releases_read"], offline["images"][0]["release"]) == (False, None)
    assert main(["graph", "-e", "test", "--svg", "--json"]) == 2


def test_a_broken_recipe_is_shown(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    (world.path / "recipes/app.yaml").write_text("{{")
    assert main(["graph", "-e", "test", "--offline"]) == 0
    assert "cannot be read\n└─ app" in capsys.readouterr().out
    shutil.rmtree(world.path / "recipes")
    assert main(["graph", "-e", "test"]) == 3
