"""Plans of several recipes: what a build would do, and how often the cloud is asked."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections import Counter
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from goldenami_sandbox.direct import Direct

from goldenami import costs, many, plans
from goldenami import recipe as recipes
from goldenami.cli import planned as views
from goldenami.cli.main import main
from goldenami.many import Options
from goldenami.model import BaseDevice, Place
from goldenami.planning import SourceSnapshot
from goldenami.plans import Planned
from goldenami.recipe.schema import VolumeSpec
from goldenami.release import channels
from goldenami.release import targets as modes
from goldenami.snapshots.prices import Prices, Rate
from tests.worlds.builds import APPS, HOME, PLACES, MortalCloud, PaperHostWork, World
from tests.worlds.graph import GRAPH, write_graph

HERE = Place(HOME, "eu-central-1")


@pytest.fixture
def world(build_world: World) -> World:
    build_world.fresh()
    write_graph(build_world, GRAPH)
    return build_world


def planned(world: World, *names: str, **how: Any) -> dict[str, Planned]:
    work = many.choose(world.project, world.environment, names, {}, **how)
    return {one.recipe: one for one in plans.make(world.project, world.environment, work, cloud=world.cloud)}


def build(world: World, *names: str) -> None:
    """Build them one after the other, for tests of the plans afterwards (see ``World.remember``)."""

    def one(name: str) -> None:
        work = many.choose(world.project, world.environment, [name], {})
        options = Options(host_work=PaperHostWork(), cloud=world.cloud)
        done = many.build(world.project, world.environment, work, options, at_once=1)
        assert many.exit_code(done) == 0

    for name in names:
        world.remember(("built", name), partial(one, name))


def actions(made: dict[str, Planned]) -> dict[str, str]:
    return {name: one.action for name, one in made.items()}


def change(world: World, name: str, old: str, new: str) -> None:
    file = world.path / f"recipes/{name}.yaml"
    assert old in file.read_text()
    file.write_text(file.read_text().replace(old, new))
    world.project = recipes.load_project(world.path)


# --- what is planned --------------------------------------------------------------------------------------------------


def test_a_base_without_a_release_is_planned_with_its_children(world: World) -> None:
    made = planned(world, "cart")
    assert list(made) == ["web", "shop", "cart"]
    assert set(actions(made).values()) == {"build"}
    assert made["web"].why == "cart is built on it, and it has no release"
    assert made["web"].reasons == ("web has no release yet",)
    assert made["cart"].reasons == ("its base shop is built first", "cart has no release yet")
    assert (made["web"].digest is None, made["cart"].digest) == (False, None)
    plan = made["cart"].plan
    assert plan is not None
    assert plan.facts.base["x86_64"].root_volume_gib == 8  # as the recipe of its base says
    assert world.cloud.mutations == []
    assert world.builds == []

    found = json.loads(json.dumps(views.document("test", tuple(made.values()))))
    assert found["schema"] == "goldenami.plan/2"
    assert found["summary"] == {"build": 3, "move": 0, "unchanged": 0, "unknown": 0, "failed": 0, "skipped": 0}
    cart = found["plans"][2]
    assert (cart["digest"], cart["images"][0]["base"]["image_id"]) == (None, None)
    assert cart["images"][0]["base"]["source"] == "the release of shop@stable that is built first"
    assert (cart["channel"], cart["channel_before"], cart["channel_after"]) == ("stable", None, None)
    assert cart["parameters"] == ["/golden-ami/cart/x86_64/stable/image-id"]


def test_what_is_unchanged_and_what_is_built_and_why(world: World) -> None:
    build(world, "cart", "app")
    first = planned(world, "cart", "app", "web", "shop")
    assert set(actions(first).values()) == {"unchanged"}
    assert all(one.before == one.after for one in first.values())
    assert all(one.seconds is not None and one.seconds < 100 for one in first.values())
    assert "was built from the same inputs" in first["cart"].reasons[0]

    change(world, "shop", "content: hello", "content: other")
    made = planned(world, "cart", "app", "web", "shop")
    assert actions(made) == {"app": "unchanged", "web": "unchanged", "shop": "build", "cart": "build"}
    assert made["shop"].changed == ("software:x86_64",)
    assert "software:x86_64" in made["shop"].reasons[0]
    assert made["cart"].reasons[0] == "its base shop is built first"
    assert made["cart"].digest is None
    assert "base:x86_64" in made["cart"].changed
    assert len(made["cart"].reasons) == 1
    # Without its base in the same plan, the child is as it was.
    assert actions(planned(world, "cart")) == {"cart": "unchanged"}

    lines = views.text("test", tuple(made.values()))
    assert any(line.startswith("+ shop") and "a new version, 1 target, about" in line for line in lines)
    assert lines[-2].startswith("2 to build, 2 unchanged; about")
    assert lines[-1].endswith(" USD a month (prices of 2025-06)")


def test_a_plan_names_templates_and_who_gains_and_loses_the_images(world: World) -> None:
    file = world.path / "goldenami.yaml"
    file.write_text(
        f"{file.read_text()}    launch_templates:\n      - {{template: nodes, recipe: web, channel: stable}}\n"
    )
    world.project = recipes.load_project(world.path)
    world.environment = recipes.environment(world.project, "test")
    change(world, "web", "targets: [home/eu-central-1]", 'targets: all, share: {accounts: ["333333333333"]}')
    first = planned(world, "web")["web"]
    assert (first.gaining, first.losing) == ((APPS, "333333333333"), ())
    assert first.templates[0] == f"{HERE} nodes"
    assert len(first.templates) == 4
    for place in PLACES:
        world.client("ec2", place).create_launch_template(
            LaunchTemplateName="nodes", LaunchTemplateData={"InstanceType": "t3.micro"}
        )
    build(world, "web")
    assert planned(world, "web")["web"].templates == (), "nothing would change"
    change(world, "web", "333333333333", "444444444444")
    after = planned(world, "web")["web"]
    assert (after.action, after.gaining, after.losing) == ("build", ("444444444444",), ("333333333333",))
    found = views.document("test", [after])["plans"][0]
    assert found["shared_with"] == {"added": ["444444444444"], "removed": ["333333333333"]}
    lines = views.text("test", [after])
    assert "    no longer shares the images with 333333333333" in lines
    assert f"    moves the launch template {HERE} nodes" in lines


def test_what_a_build_costs(world: World) -> None:
    table = Prices("EUR", Rate(0.05, 0.01, 0.02, {"t3.small": 0.36}), {"eu-west-1": Rate(0.1, 0.01)}, "2026-01")
    change(world, "web", "targets: [home/eu-central-1]", "targets: all")
    plan = planned(world, "web")["web"].plan
    assert plan is not None
    own = [target for target in plan.targets if target.mode != "share"]
    size = plan.recipe.image.root_volume.size_gib
    assert size is not None
    away = [target for target in own if target.region != "eu-central-1"]
    cost = costs.of_build(plan, 100.0, table)
    assert cost.once == pytest.approx(2 * 0.36 * 100 / 3600 + 0.02 * size * len(away))
    rates = {"eu-west-1": 0.1}
    assert cost.monthly == pytest.approx(sum(size * rates.get(target.region, 0.05) for target in own))
    assert str(cost) == f"at most {cost.once:.2f} EUR once, {cost.monthly:.2f} EUR a month (prices of 2026-01)"
    unknown = costs.of_build(plan, None, replace(table, default=Rate(0.05, 0.01)))
    assert unknown.unknown == (
        "instances: no build has told how long one takes",
        "the price of t3.small in eu-central-1",
        "the transfer from eu-central-1",
    )


def test_what_is_missing_is_told_once_for_all_recipes(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SET", "value")
    monkeypatch.delenv("UNSET", raising=False)
    for name in ("app", "shop"):
        file = world.path / f"recipes/{name}.yaml"
        secrets = "a: {secret: {env: SET}}, b: {secret: {env: UNSET}}, c: {secret: {ssm: /not/there}}"
        file.write_text(f"{file.read_text()}vars: {{{secrets}}}\n")
    settings = world.path / "goldenami.yaml"
    settings.write_text(
        settings.read_text().replace("{source_cidr:", "{subnet: {id: subnet-0123456789abcdef0}, source_cidr:", 1)
    )
    world.project = recipes.load_project(world.path)
    world.environment = recipes.environment(world.project, "test")
    made = planned(world, "app", "shop")
    subnet = f"{HERE} has no subnet subnet-0123456789abcdef0"
    secrets_of = ["the secret b: the environment variable UNSET is not set"]
    secrets_of += ["the secret c: the parameter /not/there does not exist"]
    texts = {one.recipe: [finding.message for finding in one.missing] for one in made.values()}
    assert texts == {"web": [subnet], "app": [subnet, *secrets_of], "shop": [subnet, *secrets_of]}
    assert all(finding.mark.line for one in made.values() for finding in one.missing)

    lines = views.text("test", tuple(made.values()))
    (line,) = [line for line in lines if subnet in line]
    assert "goldenami.yaml:5:" in line
    assert line.endswith("(web, app, shop)")
    assert len([line for line in lines if "recipes/shop.yaml:" in line]) == 2
    found = views.document("test", tuple(made.values()))["plans"][0]["missing"]
    assert [(one["code"], one["line"]) for one in found] == [("subnet", 5)]
    assert any("UNSET" in line for line in views.markdown("test", tuple(made.values())))
    assert not many.exit_code(tuple(made.values()))


def test_a_role_that_cannot_be_assumed_is_told_at_its_place_with_the_rest(world: World) -> None:
    settings = world.path / "goldenami.yaml"
    text = settings.read_text().replace("role/goldenami-publisher", "role/nobody")
    settings.write_text(text.replace("eu-west-1], kms_key: alias/golden-ami", "eu-west-1], kms_key: alias/no", 1))
    file = world.path / "recipes/web.yaml"
    file.write_text(file.read_text().replace("targets: [home/eu-central-1]", "targets: all"))
    world.project = recipes.load_project(world.path)
    world.environment = recipes.environment(world.project, "test")
    cloud = MortalCloud(world.clock, world.environment.accounts, HERE, Direct(world.gate.serve))
    work = many.choose(world.project, world.environment, ("web",), {})
    (made,) = plans.make(world.project, world.environment, work, cloud=cloud)
    assert made.error is not None
    said = made.error.message
    assert "goldenami.yaml:7:" in said
    assert "cannot assume arn:aws:iam::222222222222:role/nobody" in said
    assert "alias/no" in said


def test_all_volumes_of_an_image_cost_money(world: World) -> None:
    plan = planned(world, "web")["web"].plan
    assert plan is not None
    base = plan.facts.base["x86_64"]
    of_base = (
        BaseDevice(base.root_device_name, "snap-1", False, 8),
        BaseDevice("/dev/sdf", None, False, 16),
        BaseDevice("/dev/sdg", "snap-2", False, 4),
    )
    volumes = [
        VolumeSpec.model_validate({"device": device, **more})
        for device, more in (
            ("/dev/sdg", {"size_gib": 32}),
            ("/dev/sdh", {"size_gib": 64}),
            ("/dev/sdi", {"snapshot": "snap-0123456789abcdef0"}),
        )
    ]
    facts = replace(
        plan.facts,
        base={"x86_64": replace(base, devices=of_base)},
        snapshots={"snap-0123456789abcdef0": SourceSnapshot(128, False)},
    )
    more = replace(
        plan, facts=facts, recipe=replace(plan.recipe, image=plan.recipe.image.model_copy(update={"volumes": volumes}))
    )
    table = Prices("EUR", Rate(1.0, 0.01, 0.02, {"t3.small": 0.36}), {}, "2026-01")
    one, every = costs.of_build(plan, 1.0, table), costs.of_build(more, 1.0, table)
    own = [target for target in plan.targets if target.mode != "share"]
    assert every.monthly - one.monthly == pytest.approx((16 + 32 + 64 + 128) * len(own))


def test_a_reverted_recipe_moves_the_channel_and_its_children_follow(world: World) -> None:
    build(world, "web", "app")
    before = planned(world, "web")["web"].before
    change(world, "web", "content: hello", "content: other")
    build(world, "web", "app")
    change(world, "web", "content: other", "content: hello")
    made = planned(world, "web", "app")
    assert actions(made) == {"web": "move", "app": "move"}
    assert (made["web"].after, made["web"].before != before) == (before, True)
    work = many.choose(world.project, world.environment, ["web", "app"], {})
    done = many.build(world.project, world.environment, work, Options(cloud=world.cloud), at_once=1)
    assert [(r.recipe, r.status, r.after) for r in done] == [(n, "moved", one.after) for n, one in made.items()]


def test_a_channel_that_was_rolled_back_stays(world: World) -> None:
    build(world, "web")
    change(world, "web", "content: hello", "content: other")
    build(world, "web")
    channels.rollback(world.environment, "web", "stable", reason="it was slow", cloud=world.cloud)
    web = planned(world, "web")["web"]
    assert web.action == "unchanged"
    assert "it was slow" in web.reasons[1]


def test_targets_alone_need_no_build(world: World) -> None:
    build(world, "web")
    change(world, "web", "targets: [home/eu-central-1]", "targets: all")
    web = planned(world, "web")["web"]
    assert web.action == "build"
    assert (
        web.hints
        == ("only targets and shares differ: `goldenami distribute web@stable -e test` applies them without a build",)
        or "goldenami distribute web@stable" in web.hints[0]
    )


def test_a_lost_image_is_a_reason(world: World) -> None:
    build(world, "other")
    image = world.catalog.get("other", world.catalog.versions("other")[0]).images[0]
    world.client("ec2", HERE).deregister_image(ImageId=image.image_id)
    other = planned(world, "other")["other"]
    assert other.action == "build"
    assert f"{image.image_id} in {HOME}/eu-central-1 is no longer available" in other.reasons[0]


def test_one_recipe_that_cannot_be_planned_does_not_hide_the_others(world: World) -> None:
    build(world, "other")
    change(world, "web", "debian-12-amd64-*", "debian-12-nothing-*")
    made = planned(world)
    assert actions(made) == {
        "web": "failed",
        "app": "skipped",
        "shop": "skipped",
        "cart": "skipped",
        "other": "unchanged",
    }
    assert many.exit_code(made.values()) == 3
    assert made["cart"].reasons == ("its base shop cannot be planned",)
    found = views.document("test", tuple(made.values()))
    (web,) = [one for one in found["plans"] if one["recipe"] == "web"]
    assert (web["error"]["kind"], web["error"]["exit_code"]) == ("NotFound", 3)


def test_the_lines_that_differ_from_the_last_release(world: World) -> None:
    def git(*words: str) -> None:
        identity = ("-c", "user.name=x", "-c", "user.email=x@x")
        subprocess.run(["git", *identity, *words], cwd=world.path, check=True, capture_output=True)

    (world.path / ".gitignore").write_text(".goldenami\n")
    git("init", "-q")
    git("add", ".")
    git("commit", "-q", "-m", "first")
    build(world, "web", "other")
    commit = world.catalog.get("web", world.catalog.versions("web")[0]).git_commit
    assert commit is not None
    change(world, "web", "content: hello", "content: other")
    web = planned(world, "web")["web"]
    (place,) = web.places
    assert (place.sign, place.what) == ("~", "software[0].file.content")
    assert f"    ~ {place}" in views.text("test", [web])
    assert views.document("test", [web])["plans"][0]["places"][0]["line"] == place.mark.line

    # Without the commit, or with other inputs than it has, no place is claimed.
    build(world, "web")
    change(world, "web", "content: other", "content: third")
    web = planned(world, "web")["web"]
    assert (web.places, web.hints[-1].endswith("was built from files that no commit has")) == ((), True)
    shutil.rmtree(world.path / ".git")
    change(world, "other", "content: hello", "content: other")
    other = planned(world, "other")["other"]
    assert other.places == ()
    assert f"was built from the commit {commit[:12]}: " in other.hints[-1]


def test_all_wrong_facts_are_told_at_once_with_their_places(world: World) -> None:
    change(world, "web", "debian-12-amd64-*", "debian-12-nothing-*")
    change(world, "web", "targets: [home/eu-central-1]", "targets: all")
    file = world.path / "goldenami.yaml"
    file.write_text(
        file.read_text().replace("eu-west-1], kms_key: alias/golden-ami", "eu-west-1], kms_key: alias/none")
    )
    world.project = recipes.load_project(world.path)
    environment = recipes.environment(world.project, "test")
    work = many.choose(world.project, environment, ["web"], {})
    [web] = plans.make(world.project, environment, work, cloud=world.cloud)
    assert web.error is not None
    assert (web.action, web.exit_code) == ("failed", 3)
    lines = [line for line in web.error.message.splitlines() if line.startswith("  ") and line[2] != " "]
    assert len(lines) == 3  # the key in two regions, and the base
    assert f"/goldenami.yaml:{_line(file, 'alias/none')}:" in lines[0]
    recipe = world.path / "recipes/web.yaml"
    assert f"/recipes/web.yaml:{_line(recipe, 'nothing')}:" in lines[2]


def _line(file: Path, text: str) -> int:
    return next(number for number, line in enumerate(file.read_text().splitlines(), 1) if text in line)


# --- how often the cloud is asked -------------------------------------------------------------------------------------


def calls(world: World, *names: str) -> Counter[str]:
    """The calls of a plan in a new process, by action. The identity is known: the cloud of a world keeps it."""
    world.cloud.start_process()
    world.cloud.check_caller()
    world.gate.start(record=True)
    planned(world, *names)
    counted = Counter(label.action for label in world.gate.recording or ())
    world.gate.stop()
    return counted


def test_more_recipes_ask_for_nothing_twice(build_world: World) -> None:
    world = build_world
    world.fresh()
    children = [f"child-{number}" for number in range(20)]
    write_graph(world, {"web": None, **dict.fromkeys(children, "web")})
    change(world, "web", 'base: {filter: debian-12-amd64-*, owners: ["136693071363"]}', "os: debian\nbase: {id: AMI}")
    image = world.client("ec2", HERE).describe_images(Filters=[{"Name": "name", "Values": ["debian-12-amd64-*"]}])
    change(world, "web", "AMI", image["Images"][0]["ImageId"])
    fresh = calls(world, "child-0")
    assert calls(world, *children) == fresh
    build(world, "web", "child-0", "child-1")
    few, every = calls(world, "child-0", "child-1"), calls(world, *children)
    assert every == few + Counter({"DescribeSubnets": 1})  # what the builds of the others need
    assert every["DescribeKey"] == 1
    # The image of the base, and those of the releases in the only place.
    assert every["DescribeImages"] == 2
    assert sum(calls(world).values()) <= sum(every.values()) + 2  # and what the base is built on


def test_more_recipes_look_at_the_targets_once(build_world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """An environment can have thousands of targets."""
    world = build_world
    world.fresh()
    children = [f"child-{number}" for number in range(10)]
    write_graph(world, {"web": None, **dict.fromkeys(children, "web")})
    looks: Counter[str] = Counter()
    get_mode = modes.get_mode

    def counted(what: Any) -> modes.Mode:
        looks[type(what).__name__] += 1
        return get_mode(what)

    monkeypatch.setattr("goldenami.release.targets.get_mode", counted)
    monkeypatch.setattr("goldenami.release.targets.mode.get_mode", counted)

    def count(*names: str) -> int:
        looks.clear()
        planned(world, *names)
        return looks["Target"]

    first = count("child-0")
    assert count(*children) <= first
    assert first > 0


# --- the command ------------------------------------------------------------------------------------------------------


def test_markdown_is_safe(world: World) -> None:
    change(world, "other", "debian-12-amd64-*", "debian-12-<b>|-*")
    made = planned(world, "other", "web")
    lines = views.markdown("test", tuple(made.values()), ["skipped x"])
    table = [line for line in lines if line.startswith("| ")]
    assert [line.split(" | ")[1] for line in table] == ["plan", "failed", "build"]
    assert all(line.replace("\\|", "").count("|") == 5 for line in table)
    assert not any("<b>" in line for line in lines)
    assert "<details><summary>web: build</summary>" in lines


def test_usage_and_errors_as_json(
    world: World, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(world.path)
    assert main(["plan", "-e", "test"]) == 2
    assert main(["plan", "web", "--all", "-e", "test"]) == 2
    assert main(["plan", "web", "--json", "--markdown", "-e", "test"]) == 2
    capsys.readouterr()
    change(world, "app", "tests: [base]", "tests: [base]\nretentoin: {}")
    assert main(["plan", "--all", "-e", "test", "--json"]) == 2
    found = json.loads(capsys.readouterr().out)
    assert (found["environment"], found["plans"]) == ("test", [])
    assert [one["file"] for one in found["error"]["problems"]] == ["recipes/app.yaml"]


def test_the_exit_code_tells_changes(
    world: World, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(world.path)
    assert main(["plan", "web", "-e", "test", "--detailed-exitcode"]) == 8
    said = capsys.readouterr().out
    assert "+ web  build" in said
    assert "by filter name debian-12-amd64-*" in said  # one recipe is shown in full
    build(world, "web")
    assert main(["plan", "web", "-e", "test", "--detailed-exitcode"]) == 0
    assert main(["plan", "--all", "-e", "test", "--markdown", "--detailed-exitcode"]) == 8
    assert capsys.readouterr().out.count("<details>") == 4
