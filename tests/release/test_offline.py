"""Plans without any network: `goldenami plan --offline`."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from goldenami import many, offline
from goldenami.plans import Planned
from tests.release.test_plans import actions, build, change
from tests.worlds.builds import World
from tests.worlds.graph import GRAPH, write_graph


@pytest.fixture
def world(build_world: World) -> World:
    build_world.fresh()
    write_graph(build_world, GRAPH)
    return build_world


def planned(world: World, *names: str) -> dict[str, Planned]:
    work = many.choose(world.project, world.environment, names, {})
    return {one.recipe: one for one in offline.make(world.project, world.environment, work)}


def test_what_the_files_and_the_catalog_show(world: World) -> None:
    first = planned(world, "cart")
    assert set(actions(first).values()) == {"build"}
    assert list(first) == ["web", "shop", "cart"]
    assert first["web"].reasons[0].startswith("web has no release in the catalog ")
    build(world, "cart", "other")
    made = planned(world, "cart", "other", "shop")
    assert set(actions(made).values()) == {"unchanged"}
    assert made["other"].reasons[0].endswith("was built from the same inputs, as far as the files show")
    (base, keys, rest) = made["other"].hints
    assert base.startswith("not asked: the base image by filter debian-12-amd64-* (")
    assert "/recipes/other.yaml:4:16): ami-" in base
    assert "is assumed" in base
    assert keys.startswith("not asked: keys by alias or id")
    assert rest == "not asked: updates of packages, and whether the images exist"
    assert not any("base image" in hint for hint in made["shop"].hints)  # the catalog has it

    change(world, "shop", "content: hello", "content: other")
    made = planned(world, "cart", "other", "shop")
    assert actions(made) == {"shop": "build", "cart": "build", "other": "unchanged"}
    assert made["shop"].changed == ("software:x86_64",)
    assert made["cart"].reasons == ("its base shop is built first",)


def test_a_reverted_recipe_moves(world: World) -> None:
    build(world, "web")
    before = planned(world, "web")["web"].before
    change(world, "web", "content: hello", "content: other")
    build(world, "web")
    change(world, "web", "content: other", "content: hello")
    web = planned(world, "web")["web"]
    assert (web.action, web.after) == ("move", before)


NO_NETWORK = """\
import sys
def refuse(event, arguments):
    reaches = event in ("socket.connect", "socket.sendto", "socket.sendmsg", "socket.getaddrinfo")
    if reaches or event == "subprocess.Popen" and arguments[0] != "git":
        raise SystemExit(f"{event} {arguments}")
sys.addaudithook(refuse)
from goldenami.cli.main import main
sys.exit(main(sys.argv[1:]))
"""


@pytest.mark.parametrize("arguments", [["--all", "--offline"], ["--diff", "HEAD"]])
def test_no_connection_is_made(world: World, arguments: list[str], tmp_path: Path) -> None:
    for words in (
        ["init", "-q"],
        ["add", "recipes", "goldenami.yaml"],
        ["-c", "user.name=x", "-c", "user.email=x@x", "commit", "-q", "-m", "x"],
    ):
        subprocess.run(["git", *words], cwd=world.path, check=True)
    done = subprocess.run(
        [sys.executable, "-B", "-c", NO_NETWORK, "plan", "-e", "test", *arguments],
        cwd=world.path,
        env={"PATH": "/usr/bin:/bin", "HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "to build" in done.stdout


def test_a_catalog_in_a_bucket_is_not_read(world: World) -> None:
    environment = replace(world.environment, catalog="s3://bucket/catalog")
    work = many.choose(world.project, environment, ["web"], {})
    [web] = offline.make(world.project, environment, work)
    assert (web.action, web.exit_code) == ("unknown", 0)
    assert "not read offline" in web.reasons[0]
    assert "plan --diff REF" in web.hints[0]
