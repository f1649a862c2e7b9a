"""Nights of a recipe: an update that matters is a reason to build, and nothing else is."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta

import pytest

from goldenami import many, pipeline, planning, plans
from goldenami import recipe as recipes
from goldenami.events import ignore_events
from goldenami.model import Architecture, Package, PackageSources
from goldenami.pipeline import Outcome, Request
from goldenami.planning import BuildPlan
from goldenami.stages import deciding
from goldenami.stages.build import BuildContext, Host, Prepared
from goldenami.stages.tools import open_tools
from tests.updates.archives import Archive, serve
from tests.worlds import inventory
from tests.worlds.builds import RECIPE, PaperHostWork, World
from tests.worlds.graph import write_graph

OLD, NEW = "3.0.15-1", "3.0.16-1"


class Installing(PaperHostWork):
    """A builder on which the package manager installs what is given."""

    def __init__(self, sources: PackageSources | None, version: str) -> None:
        super().__init__()
        self.sources = sources
        self.version = version
        self.contents = ""
        self.order: list[str] = []

    def prepare(self, build: BuildContext, architecture: Architecture, host: Host) -> Prepared:
        self.order.append(build.recipe.name)
        made = super().prepare(build, architecture, host)
        architecture_name = "amd64" if self.sources is None or self.sources.manager == "apt" else "x86_64"
        packages = (Package("openssl", self.version, architecture_name),)
        return replace(made, packages=packages, sources=self.sources, contents=self.contents)


class Nights:
    """A recipe, and the archive from which its image takes packages."""

    def __init__(self, world: World, archive: Archive, manager: str) -> None:
        world.fresh()
        self.world, self.archive, self.manager = world, archive, manager
        self.write("level: security")
        self.offer(security=OLD, main=OLD)
        sources = archive.apt("stable", "stable-security") if manager == "apt" else archive.dnf("main")
        self.host = Installing(sources, OLD)

    def write(self, patches: str, more: str = "") -> None:
        file = self.world.path / "recipes/web.yaml"
        lines = [
            f"patches: {{{patches}}}" if line.startswith("patches:") else line for line in file.read_text().split("\n")
        ]
        file.write_text("\n".join(line for line in lines if not line.startswith("refresh:")) + more)
        self.world.project = recipes.load_project(self.world.path)

    def offer(self, *, security: str = OLD, main: str = OLD, name: str = "openssl") -> None:
        if self.manager == "apt":
            self.archive.suite("stable", (name, main))
            self.archive.suite("stable-security", (name, security))
        else:
            advisories = {(name, security): ("RHSA-2026:7", "security")}
            self.archive.repository("main", (name, main), (name, security), advisories=advisories)

    def night(self, recipe: str = RECIPE) -> Outcome:
        world = self.world
        world.cloud.start_process()
        world.events.clear()
        request = Request(world.project, world.environment, recipe)
        return pipeline.build(request, emit_to=world.events.append, host_work=self.host, cloud=world.cloud)

    def first_night(self, recipe: str = RECIPE) -> Outcome:
        """A night, for tests of what comes after it (see ``World.remember``)."""
        offers = tuple(
            (str(file), file.read_bytes()) for file in sorted(self.archive.root.rglob("*")) if file.is_file()
        )
        self.world.events.clear()
        outcome = self.world.remember((recipe, offers), lambda: self.night(recipe))
        self.host.order.clear()
        return outcome

    def plan(self) -> BuildPlan:
        world = self.world
        with open_tools(world.environment, self.host, world.cloud, "clean", ignore_events) as tools:
            return deciding.plan_for(recipes.load(world.project, RECIPE, world.environment), world.environment, tools)

    @property
    def notes(self) -> list[str]:
        return [event.fields["message"] for event in self.world.events if event.kind == "note"]


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Archive]:
    with serve(tmp_path_factory.mktemp("archive")) as archive:
        yield archive


@pytest.fixture
def archive(served: Archive) -> Archive:
    """An empty archive. All have one address, which first nights remember."""
    for path in served.root.iterdir():
        shutil.rmtree(path)
    served.requests.clear()
    return served


@pytest.fixture(params=["apt", "dnf"])
def nights(request: pytest.FixtureRequest, build_world: World, archive: Archive) -> Nights:
    return Nights(build_world, archive, request.param)


def test_an_update_is_built_once(nights: Nights) -> None:
    first = nights.night()
    assert first.status == "released"
    assert nights.notes[0] == "web has no release yet"
    assert nights.plan().digest == first.manifest.digest
    assert nights.night().status == "unchanged"

    nights.offer(security=NEW)
    plan = nights.plan()
    assert plan.digest != first.manifest.digest
    (reason,) = plan.facts.freshness.reasons
    assert f"1 update since {first.manifest.label} (x86_64): openssl {OLD} -> {NEW}" in reason
    assert ("stable-security" if nights.manager == "apt" else "RHSA-2026:7") in reason
    assert f"to build  {reason}" in planning.describe(plan)
    nights.host.version = NEW
    second = nights.night()
    assert (second.status, second.manifest.digest) == ("released", plan.digest)
    assert reason in nights.notes
    assert second.reason == reason
    assert second.manifest.updates["x86_64"][0].after == NEW

    third = nights.night()
    assert (third.status, third.manifest.version) == ("unchanged", second.manifest.version)
    count = len(nights.host.sources.repositories) if nights.host.sources else 0
    read = f"{count} repositories were read" if count > 1 else "1 repository was read"
    assert third.reason.endswith(f"; no update since ({read})")
    assert nights.plan().facts.freshness.reasons == ()
    assert len(nights.world.builds) == 2


def test_updates_that_do_not_matter(nights: Nights) -> None:
    nights.first_night()
    for change in ({"main": NEW}, {"security": NEW, "name": "nginx"}):
        nights.offer(**change)
        assert nights.night().status == "unchanged"
    nights.offer(security=NEW)
    for patches in ("level: none", "level: security, exclude: [openssl]", "level: security, date: 2026-11-01"):
        if nights.manager == "dnf" and "date" in patches:
            continue
        nights.write(patches)
        assert nights.night().status == "released"  # another recipe
        assert nights.night().status == "unchanged"
    nights.write("level: security", "refresh: {updates: false}\n")
    assert nights.night().status != "released"


def test_an_update_that_the_build_does_not_install_is_not_built_every_night(nights: Nights) -> None:
    nights.first_night()
    nights.offer(security=NEW)
    assert nights.night().status == "released"  # a dependency keeps it back
    assert nights.night().status == "unchanged"
    nights.world.cloud.ahead = timedelta(days=8)
    assert nights.night().status == "released"
    nights.world.cloud.ahead = timedelta()


def test_a_lookup_that_fails_is_told(nights: Nights) -> None:
    nights.first_night()
    for path in nights.archive.root.iterdir():
        path.rename(path.with_suffix(".gone"))
    outcome = nights.night()
    assert outcome.status == "unchanged"
    assert "updates could not be looked up: http://127.0.0.1" in outcome.reason
    nights.host.sources = None
    nights.write("level: all")
    nights.night()
    outcome = nights.night()
    assert f"{outcome.manifest.label} does not record where its packages come from" in outcome.reason


def test_the_age_of_a_release(nights: Nights) -> None:
    nights.write("level: none", "refresh: {max_age: 30d}\n")
    first = nights.first_night()
    assert nights.night().status == "unchanged"
    nights.world.cloud.ahead = timedelta(days=31)
    second = nights.night()
    assert second.status == "released"
    assert f"{first.manifest.label} is older than 30d (refresh.max_age)" in nights.notes
    assert nights.night().manifest.version == second.manifest.version
    nights.world.cloud.ahead = timedelta()


def test_other_inputs_and_a_reverted_recipe(nights: Nights) -> None:
    first = nights.first_night()
    nights.world.change_recipe("bye")
    nights.night()
    assert f"the inputs differ from those of {first.manifest.label}: software:x86_64" in nights.notes
    file = nights.world.path / "recipes/web.yaml"
    file.write_text(file.read_text().replace("content: bye", "content: hello"))
    nights.world.project = recipes.load_project(nights.world.path)
    outcome = nights.night()
    assert (outcome.status, outcome.manifest.version) == ("moved", first.manifest.version)


# --- nothing new ------------------------------------------------------------------------------------------------------


SKIP = "refresh: {skip_same: true, max_age: 30d}\n"


def test_a_build_that_finds_nothing_new_ends_before_the_capture(nights: Nights) -> None:
    world = nights.world
    nights.write("level: security", SKIP)
    nights.host.contents = "a" * 64
    first = nights.first_night()
    assert first.manifest.contents == {"x86_64": "a" * 64}
    nights.offer(security=NEW)  # and a dependency keeps it back
    seen = len(world.paper.calls)
    outcome = nights.night()
    assert (outcome.status, outcome.manifest.version, outcome.exit_code) == ("unchanged", first.manifest.version, 0)
    assert outcome.reason.startswith(f"nothing new: the packages and files are those of {first.manifest.label}")
    assert f"openssl {OLD} -> {NEW}" in outcome.reason
    made = [call["action"] for call in world.paper.calls[seen:]]
    assert "RunInstances" in made
    assert not {"CreateImage", "CopyImage", "PutParameter"} & set(made)
    assert world.journals.unfinished() == ()
    assert inventory.difference(inventory.take(world), inventory.owned(first.manifest), releases=1) == []
    (finished,) = [event for event in world.events if event.kind == "build.finished"]
    assert (finished.fields["status"], finished.fields["exit_code"]) == ("unchanged", 0)

    assert nights.plan().digest == first.manifest.digest
    assert nights.night().status == "unchanged"
    assert len(world.builds) == 2, "the next night builds nothing"
    world.cloud.ahead = timedelta(days=8)
    assert nights.night().reason.startswith("nothing new"), "it is tried again after a week"
    world.cloud.ahead = timedelta(days=20)
    nights.host.version, nights.host.contents = NEW, "b" * 64
    third = nights.night()
    assert third.status == "released"
    assert third.manifest.contents == {"x86_64": "b" * 64}
    world.cloud.ahead = timedelta()


def test_the_age_begins_again_when_nothing_was_new(nights: Nights) -> None:
    nights.write("level: none", SKIP)
    nights.host.contents = "a" * 64
    first = nights.first_night()
    for days, builds in ((31, 2), (60, 2), (62, 3)):
        nights.world.cloud.ahead = timedelta(days=days)
        outcome = nights.night()
        assert (outcome.status, outcome.manifest.version) == ("unchanged", first.manifest.version)
        assert len(nights.world.builds) == builds
    nights.world.cloud.ahead = timedelta()


def test_a_new_base_with_the_same_contents_is_nothing_new(nights: Nights) -> None:
    nights.write("level: none", SKIP)
    nights.host.contents = "a" * 64
    first = nights.first_night()
    nights.world.change_recipe("bye")
    assert nights.night().status == "released", "another input"
    second = nights.night()
    file = nights.world.path / "recipes/web.yaml"
    file.write_text(file.read_text().replace("debian-12-amd64-*", "debian-13-amd64-*"))
    nights.world.project = recipes.load_project(nights.world.path)
    outcome = nights.night()
    assert (outcome.status, outcome.manifest.version) == ("unchanged", second.manifest.version)
    assert outcome.reason.startswith("nothing new")
    assert nights.plan().digest == second.manifest.digest != first.manifest.digest
    nights.night()
    assert len(nights.world.builds) == 3

    world = nights.world
    work = many.choose(world.project, world.environment, [RECIPE], {})
    (planned,) = plans.make(world.project, world.environment, work, cloud=world.cloud)
    assert planned.action == "unchanged"


def test_a_revoked_release_is_never_what_a_build_is_the_same_as(nights: Nights) -> None:
    nights.write("level: security", SKIP)
    nights.host.contents = "a" * 64
    first = nights.first_night()
    world = nights.world
    world.catalog.marks.revoke(RECIPE, first.manifest.version, "bad", "me", world.cloud.now())
    nights.offer(security=NEW)
    assert nights.night().status == "released"


def test_a_forced_build_makes_a_release_although_nothing_is_new(nights: Nights) -> None:
    nights.write("level: none", SKIP)
    nights.host.contents = "a" * 64
    nights.first_night()
    world = nights.world
    world.cloud.start_process()
    request = Request(world.project, world.environment, RECIPE)
    outcome = pipeline.build(request, force=True, emit_to=ignore_events, host_work=nights.host, cloud=world.cloud)
    assert outcome.status == "released"


def test_without_skip_same_every_build_makes_a_release(nights: Nights) -> None:
    nights.host.contents = "a" * 64
    nights.first_night()
    nights.offer(security=NEW)
    assert nights.night().status == "released"


CHILD = """
name: shop
version: "1.0"
base: {recipe: web, channel: stable}
patches: {level: none}
software:
  - file: {dest: /etc/shop, content: hello}
distribution: {channel: stable}
"""


def test_a_child_follows_its_base(nights: Nights) -> None:
    world = nights.world
    (world.path / "recipes/shop.yaml").write_text(CHILD)
    world.project = recipes.load_project(world.path)
    base, child = nights.first_night(), nights.first_night("shop")
    nights.offer(security=NEW)
    assert nights.night("shop").status == "unchanged"  # its base has not moved yet
    nights.host.version = NEW
    newer = nights.night()
    assert nights.night("shop").status == "released"
    label = child.manifest.label
    expected = f"the base web@stable is {newer.manifest.label} now, and {label} has {base.manifest.label}"
    assert expected in nights.notes
    assert [nights.night(name).status for name in ("web", "shop")] == ["unchanged", "unchanged"]


FAMILY = {"web": None, "app": "web", "shop": "web"}


def all_of(nights: Nights) -> list[str]:
    """A night of all recipes. Returns the recipes that were built, in the order in which their builders were ready."""
    world, host = nights.world, nights.host
    host.order.clear()
    world.cloud.start_process()
    work = many.choose(world.project, world.environment, (), {})
    options = many.Options(host_work=host, cloud=world.cloud)
    done = many.build(world.project, world.environment, work, options, keep_going=True)
    assert {one.recipe for one in done if one.status == "built"} == set(host.order)
    assert {one.status for one in done} <= {"built", "unchanged"}
    return list(host.order)


def test_nights_of_a_base_and_its_children(nights: Nights) -> None:
    world = nights.world
    nights.write("level: security")
    write_graph(world, FAMILY)
    assert sorted(all_of(nights)) == sorted(FAMILY)
    assert all_of(nights) == []

    nights.offer(main=NEW)
    assert all_of(nights) == [], "an update that is none of security"
    nights.offer(security=NEW, name="nginx")
    assert all_of(nights) == [], "an update of a package that is not installed"

    nights.offer(security=NEW)
    work = many.choose(world.project, world.environment, (), {})
    made = {one.recipe: one for one in plans.make(world.project, world.environment, work, cloud=world.cloud)}
    assert {one.action for one in made.values()} == {"build"}
    assert f"openssl {OLD} -> {NEW}" in made["web"].reasons[0]
    assert ("stable-security" if nights.manager == "apt" else "RHSA-2026:7") in made["web"].reasons[0]
    assert made["shop"].reasons[0] == "its base web is built first"
    nights.host.version = NEW
    first, *others = all_of(nights)
    assert (first, sorted(others)) == ("web", ["app", "shop"])
    assert all_of(nights) == []
    made = {one.recipe: one for one in plans.make(world.project, world.environment, work, cloud=world.cloud)}
    assert all("; no update since (" in one.reasons[0] for one in made.values())
