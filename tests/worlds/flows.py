"""What goldenami does for its users, from end to end on paper: each flow is a run that a role needs permissions for.

A flow gets a fresh world whose policies are enforced. What is not goldenami's work (an instance of the user, the wait
for the cloud) is done by the administrator.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from goldenami_sandbox.direct import Direct

from goldenami import pipeline, recipe
from goldenami.aws.session import Cloud
from goldenami.cli.main import main
from goldenami.errors import TargetsFailed
from goldenami.release import channels, orphans
from goldenami.release.retention import Rules
from tests.worlds import retiring
from tests.worlds.builds import APPS, CHANNEL, HOME, PLACES, RECIPE, Death, Label, MortalCloud, World
from tests.worlds.faults import Once, denied
from tests.worlds.retiring import releases
from tests.worlds.roles import Keep, Restricted, everything, restrict
from tests.worlds.volumes import HOME_PLACE, Estate, joined

SCHEDULES = """
    schedules:
      nightly:
        what: {volumes: {tags: {backup: nightly}}}
        when: "0 3 * * *"
        time_zone: Europe/Berlin
        retention: {keep: 2}
        copies: [{region: eu-west-1, kms_key: alias/golden-ami, retention: {keep: 1}}]
        share: {accounts: [apps]}
        fast_restore: {keep: 1, zones: [eu-central-1a]}
      images:
        what: {instances: {tags: {backup: images}}}
        make: images
        when: "0 3 * * *"
        time_zone: Europe/Berlin
        retention: {keep: 1}
        copies: [{region: eu-west-1, kms_key: alias/golden-ami, retention: {keep: 1}}]
      old:
        what: {volumes: {tags: {backup: old}}}
        when: "0 3 * * *"
        time_zone: Europe/Berlin
        retention: {keep: 5}
        archive: {after: 2d}
"""
LIFECYCLES = """
    schedules:
      nightly:
        what: {volumes: {tags: {backup: nightly}}}
        when: "0 3 * * 1-5"
        missed: none
        retention: {keep: 5}
"""


TEMPLATES = """
    launch_templates:
      - {template: web, recipe: web, channel: stable}
"""
RECEIVERS = """
    notify:
      bus: {eventbridge: {bus: images}}
      topic: {sns: {topic: "arn:aws:sns:eu-central-1:111111111111:images"}}
"""


@dataclass
class Flow:
    """``bucket``: catalog and journals are in a bucket. ``settings``: lines for the environment."""

    work: Callable[[Stage], None]
    bucket: bool = False
    settings: str = ""
    planner: bool = False


@dataclass
class Stage:
    """A restricted world, and the commands in it."""

    world: World
    restricted: Restricted
    patch: pytest.MonkeyPatch

    def run(self, *arguments: str, code: int = 0) -> None:
        """Run a command of goldenami in this process."""
        self.patch.chdir(self.world.path)
        assert main(list(arguments)) == code, arguments

    @property
    def now(self) -> datetime:
        return datetime.fromtimestamp(self.world.clock.now(), UTC)

    def estate(self) -> Estate:
        self.patch.chdir(self.world.path)
        return Estate(self.world)

    def settle(self) -> None:
        self.world.clock.sleep(60)
        self.world.settled()

    def volume(self, **tags: str) -> str:
        pairs = [{"Key": key, "Value": value} for key, value in tags.items()]
        made = self.world.client("ec2", HOME_PLACE).create_volume(
            AvailabilityZone="eu-central-1a",
            Size=1,
            TagSpecifications=[{"ResourceType": "volume", "Tags": pairs}],
        )
        self.settle()
        return str(made["VolumeId"])


def play(world: World, flow: Flow, patch: pytest.MonkeyPatch, *, keep: Keep = everything) -> Restricted:
    """Play a flow in a fresh world. Returns it, also for the calls that were made."""
    world.fresh(new_process=True, bucket=flow.bucket)
    restricted = restrict(world, patch, settings=flow.settings, keep=keep, planner=flow.planner)

    def logged_in(environment: Any, **_: Any) -> Cloud:
        return MortalCloud(world.clock, environment.accounts, environment.home_place, Direct(world.gate.serve))

    patch.setattr(Cloud, "of", logged_in)
    flow.work(Stage(world, restricted, patch))
    return restricted


# --- the flows --------------------------------------------------------------------------------------------------------


def build_and_release(stage: Stage) -> None:
    """Build, build again without a change, build with a change, list, resolve."""
    world = stage.world
    build_whole(world)
    world.cloud.start_process()
    build_whole(world)
    world.change_recipe("second")
    world.cloud.start_process()
    build_whole(world)
    stage.run("images", "list", "-e", "test")
    stage.run("images", "show", RECIPE, "-e", "test")
    stage.run("resolve", f"{RECIPE}@stable", "-e", "test", "--region", "eu-west-1", "--account", "apps")


def build_whole(world: World) -> None:
    """Build. Raises TargetsFailed if the clean-up left something."""
    outcome = world.build()
    if outcome.left:
        raise TargetsFailed("the clean-up is not complete", failures=dict(outcome.left))
    assert outcome.exit_code == 0


def notify(stage: Stage) -> None:
    """Build with a bus and a topic that are told, and test them."""
    stage.world.client("events", HOME_PLACE).create_event_bus(Name="images")
    stage.world.client("sns", HOME_PLACE).create_topic(Name="images")
    assert stage.world.build().unsent == {}
    stage.run("notify", "test", "-e", "test")


def sign(stage: Stage) -> None:
    """Build with a key of KMS that signs, and verify the release with its contents."""
    kms = stage.world.client("kms", HOME_PLACE)
    key = kms.create_key(KeySpec="ECC_NIST_P256", KeyUsage="SIGN_VERIFY")["KeyMetadata"]["KeyId"]
    kms.create_alias(AliasName="alias/signing", TargetKeyId=key)
    stage.world.put_on_volumes({0: "boot", 9: "root"})
    build_whole(stage.world)
    stage.run("verify", f"{RECIPE}@stable", "-e", "test")


def launch_templates(stage: Stage) -> None:
    """Build with launch templates that follow the channel; a move is undone, because one of them cannot be changed."""
    world = stage.world
    for place in PLACES:
        data = {"InstanceType": "t3.micro"}
        world.client("ec2", place).create_launch_template(LaunchTemplateName="web", LaunchTemplateData=data)
    stage.run("doctor", RECIPE, "-e", "test")
    first, _ = releases(world, 2)
    for place in PLACES:
        # The version of the first release is gone, so the rollback makes another one.
        world.client("ec2", place).delete_launch_template_versions(LaunchTemplateName="web", Versions=["2"])
    world.cloud.start_process()
    world.gate.start(Once(Label("ec2", "ModifyLaunchTemplate", HOME, "eu-west-1", 1), denied))
    with pytest.raises(TargetsFailed):
        channels.rollback(world.environment, RECIPE, CHANNEL, cloud=world.cloud)
    world.gate.stop()
    world.cloud.start_process()
    moved = channels.rollback(world.environment, RECIPE, CHANNEL, cloud=world.cloud)
    assert moved.manifest == first


def build_in_a_bucket(stage: Stage) -> None:
    stage.world.build()
    stage.run("builds", "list", "-e", "test")


def interrupt_and_resume(stage: Stage) -> None:
    stage.world.killed(Label("ec2", "CopyImage", HOME, "eu-west-1", 1), "after")
    stage.world.resume()


def resume_in_a_bucket(stage: Stage) -> None:
    """Resume a build whose builder was launched: its keys are in the bucket, sealed."""
    stage.world.build_until(Label("ec2", "RunInstances", HOME, "eu-central-1", 1), "after")
    stage.world.leases_run_out()
    stage.world.resume()


def interrupt_and_clean(stage: Stage) -> None:
    """Clean a build that ended before its first parameter, when everything else is there."""
    stage.world.build_until(Label("ssm", "PutParameter", APPS, "eu-west-1", 2), "before")
    (build_id,) = stage.world.builds
    stage.world.clean(build_id)


def clean_expired(stage: Stage) -> None:
    world = stage.world
    world.killed(Label("ec2", "CopyImage", HOME, "eu-west-1", 1), "after")
    shutil.rmtree(world.path / ".goldenami" / "test" / "builds")
    world.cloud.start_process()
    world.cloud.ahead = timedelta(hours=25)
    pipeline.clean_expired(world.environment, cloud=world.cloud)


def retire(stage: Stage) -> None:
    """Releases a year later: some are disabled, one of these comes into use again, some are deleted."""
    world = stage.world
    file = world.path / "recipes" / "web.yaml"
    protected = "channel: stable, deregistration_protection: without-cooldown}"
    made = releases(world, 2)
    file.write_text(file.read_text().replace("channel: stable}", protected))
    world.project = recipe.load_project(world.path)
    made += releases(world, 3)
    world.cloud.start_process()
    retiring.go(world, {RECIPE: Rules(keep=1)}, dry_run=True)
    ec2 = world.client("ec2", HOME_PLACE)
    for image in ec2.describe_images(Owners=["self"])["Images"]:
        ec2.create_image_usage_report(ImageId=image["ImageId"], ResourceTypes=[{"ResourceType": "ec2:Instance"}])
    (copied,) = {i.image_id for i in made[0].images if (i.account, i.region) == (HOME, "eu-central-1")}
    ec2.modify_image_attribute(ImageId=copied, LaunchPermission={"Add": [{"UserId": "999999999999"}]})
    _recycle_bin(world)
    disable = {RECIPE: Rules(keep=1, disable_after=timedelta(days=1), delete_after=timedelta(days=9999))}
    retiring.go(world, disable)
    world.cloud.start_process(Label("ec2", "DeregisterImage", HOME, "eu-central-1", 1), "before")
    with pytest.raises(Death):
        retiring.go(world, {RECIPE: Rules(keep=1)})
    (used,) = {i.image_id for i in made[1].images if (i.account, i.region) == (HOME, "eu-central-1")}
    ec2.create_launch_template(LaunchTemplateName="web", LaunchTemplateData={"ImageId": used})
    world.cloud.start_process()
    retiring.go(world, {RECIPE: Rules(keep=1)})
    ec2.delete_launch_template(LaunchTemplateName="web")
    retiring.go(world, {RECIPE: Rules(keep=1)})


def _recycle_bin(world: World) -> None:
    rbin = world.client("rbin", HOME_PLACE)
    for kind in ("EC2_IMAGE", "EBS_SNAPSHOT"):
        rbin.create_rule(ResourceType=kind, RetentionPeriod={"RetentionPeriodValue": 7, "RetentionPeriodUnit": "DAYS"})


def distribute_later(stage: Stage) -> None:
    """A release gets another target, accounts come and go, and what somebody changed by hand is mended."""
    world = stage.world
    file = world.path / "recipes" / "web.yaml"
    text = file.read_text()
    first = "targets: [home], fast_restore: {zones: [eu-west-1a]}"
    file.write_text(text.replace("channel: stable}", f"channel: stable, {first}}}"))
    world.project = recipe.load_project(world.path)
    world.build()
    more = 'share: {accounts: ["999999999999"], tags: {team: web}}, deregistration_protection: without-cooldown'
    more += ", fast_restore: {zones: [eu-central-1a]}"
    wanted = text.replace("channel: stable}", f"channel: stable, {more}}}")
    file.write_text(wanted.replace("retention: {deprecate_after: 90d}", ""))
    stage.run("drift", "-e", "test", "--detailed-exitcode", code=8)
    stage.run("distribute", f"{RECIPE}@stable", "-e", "test")
    ec2 = world.client("ec2", HOME_PLACE)
    for image in ec2.describe_images(Owners=["self"])["Images"]:
        ec2.create_tags(Resources=[image["ImageId"]], Tags=[{"Key": "owner", "Value": "somebody"}])
    file.write_text(text)
    stage.run("distribute", f"{RECIPE}@stable", "-e", "test")
    stage.run("drift", "-e", "test", "--detailed-exitcode")


def delete_orphans(stage: Stage) -> None:
    """A release that the catalog forgot, and a build whose journal is lost."""
    world = stage.world
    made = releases(world, 2)
    world.change_recipe("third")
    world.build_until(Label("ec2", "CreateImage", HOME, "eu-central-1", 1), "after")
    path = world.path / ".goldenami/test"
    (path / f"catalog/releases/{RECIPE}/{made[0].version}.json").unlink()
    shutil.rmtree(path / "builds")
    world.cloud.start_process()
    stage.run("orphans", "-e", "test", "--all")
    orphans.delete(world.cloud, world.environment, world.catalog, stage.now + timedelta(days=2))


def snapshots(stage: Stage) -> None:
    estate = stage.estate()
    run = stage.run
    plain = estate.snapshot(estate.root, "plain")
    run("snapshot", "create", "web-1", "--name", "both", "-e", "test")
    run("snapshot", "create", estate.data, "--name", "one", "-e", "test")
    run("snapshot", "list", "-e", "test")
    run("snapshot", "copy", plain, "--kms-key", "alias/golden-ami", "--name", "sealed", "-e", "test")
    sealed = next(s for s, item in estate.snapshots().items() if item["Encrypted"])
    run("snapshot", "show", sealed, "-e", "test")
    run("snapshot", "copy", sealed, "--to-account", "apps", "--kms-key", "alias/golden-ami", "-e", "test")
    run("snapshot", "copy", sealed, "--to-region", "eu-west-1", "--kms-key", "alias/golden-ami", "-e", "test")
    run("snapshot", "share", sealed, "--with", "apps", "-e", "test")
    run("snapshot", "unshare", sealed, "--with", "apps", "-e", "test")
    run("snapshot", "make-public", plain, "--yes", "-e", "test")
    run("snapshot", "make-private", plain, "-e", "test")
    run("snapshot", "lock", plain, "--days", "2", "-e", "test")
    run("snapshot", "unlock", plain, "-e", "test")
    run("snapshot", "volume", sealed, "--attach", estate.instance, "--device", "/dev/sdg", "-e", "test")
    run("snapshot", "image", "web-1", "--name", "whole", "--no-reboot", "-e", "test")
    run("snapshot", "register", sealed, "--name", "registered", "--architecture", "x86_64", "-e", "test")
    run("snapshot", "lineage", estate.root, "-e", "test")
    run("snapshot", "archive", sealed, "--yes", "-e", "test", code=2)  # an image uses it
    old = estate.snapshot(estate.data, "old")
    run("snapshot", "archive", old, "--yes", "-e", "test")
    stage.settle()
    run("snapshot", "restore-archive", old, "--permanent", "-e", "test")
    stage.settle()
    _recycle_bin(stage.world)
    run("snapshot", "delete", plain, "--yes", "-e", "test")


def volumes(stage: Stage) -> None:
    estate = stage.estate()
    run = stage.run
    run("snapshot", "create", "web-1", "--name", "before", "-e", "test")
    groups = joined(estate)
    run("volume", "encrypt", "web-1", "--all", "--yes", "-e", "test", code=2)
    groups.detach_instances(
        InstanceIds=[estate.instance], AutoScalingGroupName="web", ShouldDecrementDesiredCapacity=True
    )
    run("volume", "encrypt", "web-1", "--replace-root", "--yes", "-e", "test")
    run("volume", "encrypt", "web-1", "--all", "--yes", "-e", "test")
    run("volume", "kept", "-e", "test")
    run("snapshot", "restore", "web-1", "--to", "before", "--yes", "-e", "test")
    run("snapshot", "restore", "web-1", "--undo", "--yes", "-e", "test")
    run("volume", "forget", estate.instance, "--yes", "-e", "test")


def schedules(stage: Stage) -> None:
    world = stage.world
    stage.volume(backup="nightly")
    stage.volume(backup="old")
    estate = stage.estate()
    estate.ec2().create_tags(Resources=[estate.instance], Tags=[{"Key": "backup", "Value": "images"}])
    for _ in range(4):
        world.clock.sleep(86400)
        moment = stage.now.replace(hour=12)
        stage.run("schedule", "run", "-e", "test", "--now", moment.isoformat())
        stage.settle()
    stage.run("schedule", "list", "-e", "test")
    stage.run("schedule", "left", "-e", "test")


def doctor(stage: Stage) -> None:
    stage.run("doctor", RECIPE, "-e", "test")


def rebuild_catalog(stage: Stage) -> None:
    """A catalog that was lost."""
    stage.world.built()
    shutil.rmtree(stage.world.path / ".goldenami" / "test" / "catalog")
    stage.run("catalog", "show", "-e", "test")
    stage.run("catalog", "rebuild", "-e", "test", "--yes")


def lifecycles(stage: Stage) -> None:
    """Plan, apply, change, and end policies of DLM; and adopt one that was there before."""
    world = stage.world
    stage.run("dlm", "plan", "-e", "test")
    stage.run("dlm", "apply", "-e", "test")
    file = world.path / "goldenami.yaml"
    file.write_text(file.read_text().replace("keep: 5", "keep: 6"))
    stage.run("dlm", "apply", "-e", "test")
    admin = world.client("dlm", HOME_PLACE)
    (policy,) = admin.get_lifecycle_policies()["Policies"]
    arn = admin.get_lifecycle_policy(PolicyId=policy["PolicyId"])["Policy"]["PolicyArn"]
    admin.untag_resource(ResourceArn=arn, TagKeys=list(policy["Tags"]))
    stage.run("dlm", "apply", "--adopt", "-e", "test")
    text = file.read_text()
    file.write_text(text[: text.index("    schedules:")])
    stage.run("dlm", "apply", "-e", "test")
    stage.run("dlm", "import", "-e", "test")


def plan_and_list(stage: Stage) -> None:
    """What whoever only plans does."""
    world = stage.world
    stage.run("plan", RECIPE, "-e", "test")
    stage.run("images", "list", "-e", "test")
    stage.run("builds", "list", "-e", "test")
    stage.run("orphans", "-e", "test", "--all")
    stage.run("retire", "-e", "test", "--dry-run")
    stage.run("drift", "-e", "test")
    assert world.cloud.mutations == []


def prove_everywhere(stage: Stage) -> None:
    """Build, and boot the image in every target before the release."""
    file = stage.world.path / "recipes/web.yaml"
    file.write_text(file.read_text().replace("{channel: stable}", "{channel: stable, prove: each-target}"))
    stage.world.project = recipe.load_project(stage.world.path)
    build_whole(stage.world)


FLOWS: dict[str, Flow] = {
    "build": Flow(build_and_release),
    "prove": Flow(prove_everywhere),
    "notify": Flow(notify, settings=RECEIVERS),
    "sign": Flow(sign, settings="    signing: {key: {kms: alias/signing}}\n"),
    "launch-templates": Flow(launch_templates, settings=TEMPLATES),
    "build-in-a-bucket": Flow(build_in_a_bucket, bucket=True),
    "resume": Flow(interrupt_and_resume),
    "resume-in-a-bucket": Flow(resume_in_a_bucket, bucket=True),
    "clean": Flow(interrupt_and_clean),
    "clean-expired": Flow(clean_expired),
    "retire": Flow(retire),
    "distribute": Flow(distribute_later),
    "orphans": Flow(delete_orphans),
    "doctor": Flow(doctor),
    "rebuild": Flow(rebuild_catalog),
    "snapshots": Flow(snapshots),
    "volumes": Flow(volumes),
    "schedules": Flow(schedules, settings=SCHEDULES),
    "dlm": Flow(lifecycles, settings=LIFECYCLES),
    "plan": Flow(plan_and_list, planner=True),
}
