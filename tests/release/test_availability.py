"""Two catalogs, or another program, in the same accounts: names and parameters are checked before a launch."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from goldenami.aws.tags import BUILD_ID
from goldenami.errors import CloudError, NameTaken
from goldenami.events import Event

if TYPE_CHECKING:
    from tests.worlds.builds import World

PARAMETER = "/golden-ami/web/x86_64/stable/image-id"


def values(world: World) -> dict[str, str]:
    """Every parameter of goldenami in every place, by plain botocore."""
    from tests.worlds.builds import PLACES

    found: dict[str, str] = {}
    for place in PLACES:
        pages = world.client("ssm", place).get_paginator("get_parameters_by_path")
        for page in pages.paginate(Path="/", Recursive=True):
            found |= {
                f"{place}{p['Name']}": p["Value"] for p in page["Parameters"] if not p["Name"].startswith("/aws/")
            }
    return found


def images(world: World) -> dict[str, str]:
    from tests.worlds.builds import PLACES

    found: dict[str, str] = {}
    for place in PLACES:
        for image in world.client("ec2", place).describe_images(Owners=["self"])["Images"]:
            found[f"{place}/{image['ImageId']}"] = image["Name"]
    return found


def refused(world: World, kind: type[CloudError] = CloudError) -> CloudError:
    """Build, and return the error. Nothing was changed."""
    before = values(world), images(world)
    world.cloud.start_process()
    with pytest.raises(kind) as caught:
        world.build()
    assert world.cloud.mutations == [], "refused before anything is launched"
    assert (values(world), images(world)) == before
    assert world.catalog.reservations("web") == ()
    return caught.value


def configure(world: World, old: str, new: str) -> None:
    """Change goldenami.yaml."""
    from goldenami import recipe as recipes

    file = world.path / "goldenami.yaml"
    assert old in file.read_text()
    file.write_text(file.read_text().replace(old, new))
    world.project = recipes.load_project(world.path)
    world.environment = recipes.environment(world.project, "test")


def register(world: World, name: str, **tags: str) -> str:
    """An image that another program made, in a region of the home account."""
    from tests.worlds.builds import PLACES

    ec2 = world.client("ec2", PLACES[1])
    volume = ec2.create_volume(AvailabilityZone="eu-west-1a", Size=8)["VolumeId"]
    world.behind.ec2.settle()
    snapshot = ec2.create_snapshot(VolumeId=volume)["SnapshotId"]
    world.behind.ec2.settle()
    pairs = [{"Key": key, "Value": value} for key, value in tags.items()]
    return str(
        ec2.register_image(
            Name=name,
            RootDeviceName="/dev/xvda",
            BlockDeviceMappings=[{"DeviceName": "/dev/xvda", "Ebs": {"SnapshotId": snapshot}}],
            **({"TagSpecifications": [{"ResourceType": "image", "Tags": pairs}]} if pairs else {}),
        )["ImageId"]
    )


def next_name(world: World) -> str:
    world.cloud.check_caller()  # an answer tells the time
    version = world.catalog.next_version("web", "1.0", world.cloud.now().date())
    return f"web-{version}-x86_64"


def test_a_second_catalog_cannot_take_the_parameters_of_the_first(build_world: World) -> None:
    world = build_world
    world.fresh()
    world.built()
    first = world.catalog.identity()
    world.other_machine()  # its catalog is empty
    error = refused(world)
    assert error.code == "goldenami.NotOurs"
    assert f"Parameter {PARAMETER} in 111111111111/eu-central-1 with the value ami-" in error.message
    assert f"is of the catalog {first}" in error.message
    assert "parameter_prefix" in (error.hint or "")


def test_a_second_catalog_with_its_own_prefix_gets_the_next_free_number(build_world: World) -> None:
    from tests.worlds.builds import follows

    world = build_world
    world.fresh()
    first = world.built().manifest
    before = values(world)
    world.other_machine()
    configure(world, "    tags:", "    parameter_prefix: '/{{ environment.name }}'\n    tags:")
    world.cloud.start_process()
    made = world.build().manifest
    assert follows(made.version, first.version)
    assert {image.name for image in made.images} == {f"web-{made.version}-x86_64"}
    after = values(world)
    assert {name: after[name] for name in before} == before
    assert sorted({name.partition("/eu-")[2].partition("/")[2] for name in after.keys() - before.keys()}) == [
        f"test/web/x86_64/{made.version}/image-id",
        "test/web/x86_64/stable/image-id",
        "test/web/x86_64/stable/manifest",
        "test/web/x86_64/stable/version",
    ]
    notes = [e.fields["message"] for e in world.events if e.kind == "note"]
    assert any("is not used, because its names are taken: web-" in note for note in notes), notes


def test_a_number_that_is_left_after_another_process_took_one_is_looked_up(build_world: World) -> None:
    """Its names were not searched: the next number of the catalog was free then."""
    from goldenami import recipe as recipes
    from goldenami.stages import deciding, opening
    from goldenami.stages.tools import open_tools

    world = build_world
    world.fresh()
    notes: list[Event] = []
    with open_tools(world.environment, None, world.cloud, "clean", notes.append) as tools:
        recipe = recipes.load(world.project, "web", world.environment)
        plan = deciding.plan_for(recipe, world.environment, tools)
        names = opening.read_names(recipe, world.environment, plan.targets, tools)
        now = world.cloud.now()
        first = world.catalog.reserve("web", "1.0", names.day, build_id="another", now=now)
        assert first == names.taken.version
        register(world, next_name(world), **{BUILD_ID: "of-another-catalog"})
        build_id, version = opening._reserve(plan, names, now, tools)
    assert version == f"{first.removesuffix('.1')}.3"
    assert world.catalog.reservations("web")[-1].build_id == build_id
    assert ["is not used, because its names are taken: web-" in note.fields["message"] for note in notes] == [True]


def test_an_environment_in_image_name_needs_no_other_number(build_world: World) -> None:
    world = build_world
    world.fresh()
    world.built()
    world.other_machine()
    configure(
        world,
        "    tags:",
        "    parameter_prefix: /other\n"
        "    image_name: '{{ environment.name }}/{{ recipe.name }}-{{ version }}-{{ architecture }}'\n    tags:",
    )
    world.cloud.start_process()
    made = world.build().manifest
    assert made.version.endswith(".1")
    assert {image.name for image in made.images} == {f"test/web-{made.version}-x86_64"}


def test_a_name_that_another_program_has_is_an_error_that_names_the_image(build_world: World) -> None:
    world = build_world
    world.fresh()
    name = next_name(world)
    taker = register(world, name, team="data", Name="nightly")
    error = refused(world, NameTaken)
    assert (
        f"the name {name} in 111111111111/eu-west-1 is taken by image {taker} of account 111111111111" in error.message
    )
    assert "(not made by goldenami; tags: Name nightly, team data)" in error.message
    assert "image_name" in (error.hint or "")


def test_a_name_of_a_candidate_or_of_another_day_is_no_taker(build_world: World) -> None:
    world = build_world
    world.fresh()
    name = next_name(world)
    register(world, name + "-candidate-1")
    register(world, name.replace("1.0.2", "1.0.1"))
    register(world, name.replace(".1-", ".01-"))
    assert world.build().manifest.version.endswith(".1")


def test_a_parameter_that_another_program_moved_is_kept(build_world: World) -> None:
    from tests.worlds.builds import PLACES

    world = build_world
    world.fresh()
    world.built()
    ssm = world.client("ssm", PLACES[1])
    other = register(world, "other")
    ssm.put_parameter(Name=PARAMETER, Value=other, Overwrite=True)
    world.change_recipe("second")
    before, reserved = values(world), world.catalog.reservations("web")
    world.cloud.start_process()
    with pytest.raises(CloudError, match=rf"has the value {other}, which is not an image of this catalog"):
        world.build()
    assert world.cloud.mutations == []
    assert (values(world), world.catalog.reservations("web")) == (before, reserved)


def test_a_parameter_whose_owner_cannot_be_determined_is_kept(build_world: World) -> None:
    from tests.worlds.builds import PLACES

    world = build_world
    world.fresh()
    made = register(world, "other")
    world.client("ssm", PLACES[1]).put_parameter(Name=PARAMETER, Value=made, Type="String")
    assert "the owner cannot be determined" in refused(world).message


def test_a_best_effort_target_holds_nothing_up(build_world: World) -> None:
    from tests.worlds.builds import PLACES

    world = build_world
    world.fresh()
    configure(
        world,
        "      - {account: apps, regions: [eu-west-1], mode: share}",
        "      - {account: apps, regions: [eu-west-1], mode: share, required: false}",
    )
    other = register(world, "other")
    west = world.client("ec2", PLACES[1])
    west.modify_image_attribute(ImageId=other, LaunchPermission={"Add": [{"UserId": "222222222222"}]})
    world.client("ssm", PLACES[3]).put_parameter(Name=PARAMETER, Value=other, Type="String")
    done = world.build()
    assert list(done.failures) == ["apps/eu-west-1"]
    assert "cannot be determined" in done.failures["apps/eu-west-1"]
    assert values(world)[f"{PLACES[3]}{PARAMETER}"] == other


def test_a_name_taken_during_a_build_is_named_and_no_resume_is_offered(build_world: World) -> None:
    from goldenami.errors import TargetsFailed
    from tests.worlds.builds import Label

    world = build_world
    world.fresh()
    name = next_name(world)
    taken: list[str] = []

    def take(label: Label, call: object, serve: object) -> object:
        if label.action == "RunInstances" and not taken:
            taken.append(name)
            world.gate.stop()
            register(world, name)
        return serve()  # type: ignore[operator]

    world.gate.start(take)  # type: ignore[arg-type]
    with pytest.raises(TargetsFailed) as caught:
        world.build()
    world.gate.stop()
    assert taken == [name]
    assert "is taken by image" in caught.value.failures["home/eu-west-1"]
    assert "resume" not in (caught.value.hint or "")
    sent = [c for c in world.paper.calls if c["action"] == "CopyImage" and c["region"] == "eu-west-1"]
    assert len([c for c in sent if c["account"] == "111111111111"]) == 1
    assert world.journals.unfinished() == (), "nothing is kept for a resume"
    (summary,) = world.journals.list()
    assert (summary.ending, summary.can_resume) == ("failed", False)
    assert list(images(world).values()) == [name]


def test_a_resume_whose_name_was_taken_since_launches_nothing(build_world: World) -> None:
    from tests.worlds.builds import Label

    world = build_world
    world.fresh()
    name = next_name(world)
    world.build_until(Label("ec2", "RunInstances", "111111111111", "eu-central-1", 1), "before")
    register(world, name)
    world.cloud.start_process()
    with pytest.raises(NameTaken, match="is taken by image") as caught:
        world.resume()
    assert world.cloud.mutations == []
    assert f"goldenami clean {world.builds[0]}" in (caught.value.hint or "")


def test_a_fresh_clone_with_the_catalog_in_a_bucket_continues_the_releases(build_world: World) -> None:
    from tests.worlds.builds import follows

    world = build_world
    world.fresh(bucket=True)
    first = world.built().manifest
    world.other_machine()
    world.cloud.start_process()
    assert world.build().status == "unchanged"
    world.change_recipe("second")
    world.cloud.start_process()
    second = world.build().manifest
    assert follows(second.version, first.version)
    pointer = world.catalog.channel("web", "stable")
    assert pointer is not None
    assert (pointer.current, pointer.previous) == (second.version, first.version)
    owned = {f"{image.place}{PARAMETER}": image.image_id for image in second.images}
    assert {name: value for name, value in values(world).items() if name.endswith(PARAMETER)} == owned


def test_two_clones_on_a_machine_share_the_catalog_of_its_sandbox(
    build_world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from goldenami_sandbox import control

    from goldenami import recipe as recipes
    from tests.worlds.builds import PROJECT, follows

    world = build_world
    world.fresh()
    files = tmp_path / "sandboxes" / "default"
    files.mkdir(parents=True)
    (files / "port").write_text(str(world.server.port))
    monkeypatch.setenv("GOLDENAMI_SANDBOX_HOME", str(tmp_path / "sandboxes"))
    made = []
    for clone in ("one", "two"):
        world.path = tmp_path / clone
        (world.path / "recipes").mkdir(parents=True)
        (world.path / "recipes/web.yaml").write_text(PROJECT["recipes/web.yaml"])
        settings = "{sandbox: true, network: {source_cidr: 192.0.2.7/32}}"
        (world.path / "goldenami.yaml").write_text(f"environments:\n  sandbox: {settings}\n")
        world.project = recipes.load_project(world.path)
        world.environment = recipes.environment(world.project)
        world.cloud.start_process()
        made.append(world.build())
        assert not (world.path / ".goldenami").exists(), "nothing that decides about resources is in the clone"
    assert [one.status for one in made] == ["released", "unchanged"]
    assert made[0].manifest == made[1].manifest
    assert len(made[0].images) == 6
    world.change_recipe("second")
    world.cloud.start_process()
    version = world.build().manifest.version
    assert follows(version, made[0].manifest.version), "the second clone continues the releases of the first"
    control.reset("default", home=tmp_path / "sandboxes")
    left = {path.name for path in files.iterdir()}
    assert left == {"port", "up.lock"}, "a reset of the sandbox deletes the catalog of its images"
