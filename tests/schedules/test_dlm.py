"""Schedules as policies of Amazon DLM: the conversion, its limits, and later changes."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import yaml

from goldenami import pipeline, recipe
from goldenami.aws.lifecycle import LifecyclePolicy
from goldenami.cli.main import main
from goldenami.journal import Journals
from goldenami.model import Place
from goldenami.schedules.dlm import express, imports, sync
from goldenami.schedules.policy import Schedule
from tests.worlds.builds import APPS, HOME, Death, Label, World
from tests.worlds.faults import Once, broken_after, lost

HOME_PLACE = Place(HOME, "eu-central-1")
WEEKDAYS = {
    "what": {"volumes": {"tags": {"backup": "nightly"}}},
    "when": "0 3 * * 1-5",
    "missed": "none",
    "retention": {"keep": 5},
}


@pytest.fixture
def world(build_world: World) -> World:
    build_world.fresh()
    return build_world


def declare(world: World, **schedules: Mapping[str, Any]) -> tuple[Schedule, ...]:
    """The environment's schedules are these, and no others."""
    file = world.path / "goldenami.yaml"
    content = yaml.safe_load(file.read_text())
    content["environments"]["test"]["schedules"] = schedules
    file.write_text(yaml.safe_dump(content))
    world.project = recipe.load_project(world.path)
    world.environment = recipe.environment(world.project, "test")
    return recipe.schedules(world.project, world.environment)


def expressed(world: World, **changes: Any) -> express.Expressed:
    declared = {key: value for key, value in {**WEEKDAYS, **changes}.items() if value is not None}
    (one,) = declare(world, nightly=declared)
    return express.express(world.environment, one, {})


def step(world: World, schedules: tuple[Schedule, ...], *, adopt: bool = False) -> sync.Applied:
    plan = sync.make_plan(world.environment, schedules, cloud=world.cloud, to_apply=True, adopt=adopt)
    return sync.apply(world.environment, plan, cloud=world.cloud)


def there(world: World, place: Place = HOME_PLACE) -> list[dict[str, Any]]:
    """What a plain client sees."""
    dlm = world.client("dlm", place)
    return [
        dlm.get_lifecycle_policy(PolicyId=p["PolicyId"])["Policy"] for p in dlm.get_lifecycle_policies()["Policies"]
    ]


# --- what a schedule becomes ------------------------------------------------------------------------------------------


def test_the_example(world: World) -> None:
    one = expressed(world)
    assert (one.reasons, one.notes) == ((), ())
    assert one.details == {
        HOME_PLACE: {
            "PolicyType": "EBS_SNAPSHOT_MANAGEMENT",
            "ResourceTypes": ["VOLUME"],
            "TargetTags": [{"Key": "backup", "Value": "nightly"}],
            "Schedules": [
                {
                    "Name": "nightly",
                    "CopyTags": True,
                    "TagsToAdd": [
                        {"Key": "goldenami:environment", "Value": "test"},
                        {"Key": "owner", "Value": "platform-team"},
                    ],
                    "CreateRule": {"CronExpression": "cron(0 3 ? * MON-FRI *)"},
                    "RetainRule": {"Count": 5},
                }
            ],
        }
    }


@pytest.mark.parametrize(
    ("when", "rule"),
    [
        ("30 4 * * *", {"CronExpression": "cron(30 4 * * ? *)"}),
        ("0 */6 * * *", {"CronExpression": "cron(0 0,6,12,18 * * ? *)"}),
        ("15 * * * *", {"CronExpression": "cron(15 * * * ? *)"}),
        ("0 3 1,15 * *", {"CronExpression": "cron(0 3 1,15 * ? *)"}),
        ("0 3 * 1-3 0", {"CronExpression": "cron(0 3 ? 1,2,3 SUN *)"}),
        ("cron(0 3 ? * MON-FRI *)", {"CronExpression": "cron(0 3 ? * MON-FRI *)"}),
        ("cron(0 3 1 * ? 2027)", {"CronExpression": "cron(0 3 1 * ? 2027)"}),
        ("cron(0 3 L * ? *)", {"CronExpression": "cron(0 3 L * ? *)"}),
        ("cron(15 10 ? * 6L 2026-2027)", {"CronExpression": "cron(15 10 ? * 6L 2026-2027)"}),
        ("cron(0 9 ? * 2#1 *)", {"CronExpression": "cron(0 9 ? * 2#1 *)"}),
        ("cron(0 20-2 ? * MON-FRI *)", {"CronExpression": "cron(0 0,1,2,20,21,22,23 ? * MON-FRI *)"}),
        ("rate(7 days)", {"CronExpression": "cron(0 0 ? * THU *)"}),  # rates count from 1970, a Thursday
        *((f"{n}h", {"Interval": n, "IntervalUnit": "HOURS", "Times": ["00:00"]}) for n in (1, 2, 3, 4, 6, 8, 24)),
        ("12h", {"Interval": 12, "IntervalUnit": "HOURS", "Times": ["00:00"]}),
        ("rate(1 day)", {"Interval": 24, "IntervalUnit": "HOURS", "Times": ["00:00"]}),
    ],
)
def test_when(world: World, when: str, rule: Mapping[str, Any]) -> None:
    (details,) = expressed(world, when=when).details.values()
    assert details["Schedules"][0]["CreateRule"] == rule


def test_tiers_are_schedules_of_their_own(world: World) -> None:
    one = expressed(world, when="0 3 * * *", retention={"daily": 7, "weekly": 4, "monthly": 12, "yearly": 3})
    (details,) = one.details.values()
    assert [(s["CreateRule"]["CronExpression"], s["RetainRule"]) for s in details["Schedules"]] == [
        ("cron(0 3 * * ? *)", {"Count": 7}),
        ("cron(0 3 ? * MON *)", {"Count": 4}),
        ("cron(0 3 1 * ? *)", {"Count": 12}),
        ("cron(0 3 1 1 ? *)", {"Count": 3}),
    ]
    assert any("4 schedules" in note for note in one.notes)


def test_all_that_goes_with_it(world: World) -> None:
    (one,) = declare(
        world,
        images={
            "what": {"instances": {"tags": {"app": "web"}}},
            "make": "images",
            "when": "0 3 * * *",
            "retention": {"max_age": "30d"},
            "accounts": ["home", "apps"],
            "copies": [{"region": "us-east-1", "kms_key": "alias/backup", "retention": {"max_age": "90d"}}],
            "tags": {"tier": "gold"},
        },
    )
    keys = {place: {"alias/backup": f"arn:aws:kms:us-east-1:{place.account}:key/1"} for place in one.places}
    both = express.express(world.environment, one, keys)
    assert both.reasons == ()
    assert set(both.details) == {HOME_PLACE, Place(APPS, "eu-central-1")}
    details = both.details[Place(APPS, "eu-central-1")]
    assert (details["PolicyType"], details["ResourceTypes"]) == ("IMAGE_MANAGEMENT", ["INSTANCE"])
    assert details["Parameters"] == {"NoReboot": True}
    (rule,) = details["Schedules"]
    assert rule["RetainRule"] == {"Interval": 30, "IntervalUnit": "DAYS"}
    assert rule["CrossRegionCopyRules"] == [
        {
            "TargetRegion": "us-east-1",
            "Encrypted": True,
            "CmkArn": f"arn:aws:kms:us-east-1:{APPS}:key/1",
            "CopyTags": True,
            "RetainRule": {"Interval": 90, "IntervalUnit": "DAYS"},
        }
    ]


COPY = {"retention": {"max_age": "30d"}}


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"time_zone": "Europe/Berlin"}, "UTC"),
        ({"when": "*/15 * * * *"}, "once an hour"),
        ({"when": "rate(5 hours)"}, "DLM supports intervals of 1, 2, 3"),
        ({"when": "rate(30 minutes)"}, "DLM supports intervals of 1, 2, 3"),
        ({"when": "cron(0 3 29 2 ? *)"}, "at least once a year"),
        ({"when": f"cron(0 3 ? {','.join(map(str, range(1, 12)))} * {','.join(map(str, range(2030, 2050)))})"}, "106"),
        ({"retention": {"keep": 3, "max_age": "3d"}}, "found counts and max_age; DLM supports one kind"),
        ({"tags": {f"t{n}": "" for n in range(44)}}, "tags: found 46, with those of the environment"),
        (
            {
                "what": {"instances": {"tags": {"a": "1"}}},
                "make": "images",
                "fast_restore": {"zones": ["eu-central-1a"]},
            },
            "fast_restore: DLM enables it only for snapshots",
        ),
        ({"when": "0 3 1 * 1"}, "days of the month or days of the week, not both"),
        (
            {"retention": {"keep": 3, "hourly": 1, "daily": 1, "weekly": 1, "max_age": "3d"}},
            "found 5 rules; DLM supports 4",
        ),
        ({"retention": {"monthly": 3}}, "monthly: not supported by DLM if when selects days of the week"),
        ({"retention": {"max_age": "36h"}}, "whole days"),
        ({"what": {"volumes": {"tags": {"a": "1", "b": "2"}}}}, "with any of them, and the schedule those with all"),
        ({"what": {"instances": {"recipe": "web"}}}, "found recipe web; DLM selects only by tags"),
        ({"what": {"volumes": {"tags": {"a": "1"}, "exclude_tags": {"b": "2"}}}}, "exclude_tags"),
        ({"copies": [{"region": "us-east-1", "retention": {"keep": 3}}]}, "copies only by age"),
        (
            {"copies": [{"region": r, **COPY} for r in ("us-east-1", "us-east-2", "us-west-1", "us-west-2")]},
            r"copies: found 4 regions .*; DLM supports 3",
        ),
        ({"archive": {"after": "30d"}, "retention": {"max_age": "400d"}}, "archive"),
        (
            {"retention": {"weekly": 4}, "copies": [{"region": "us-east-1", **COPY}]},
            "DLM needs one rule that keeps every snapshot",
        ),
    ],
)
def test_a_schedule_that_dlm_cannot_run_has_a_reason(world: World, changes: Mapping[str, Any], reason: str) -> None:
    one = expressed(world, **changes)
    assert one.details == {}
    assert any(re.search(reason, said) for said in one.reasons), one.reasons


# --- in step ----------------------------------------------------------------------------------------------------------


def test_policies_are_made_changed_and_deleted(world: World) -> None:
    """A second plan is empty, each time; a person's change is put right."""
    schedules = declare(world, nightly=WEEKDAYS, hourly={**WEEKDAYS, "when": "1h", "accounts": ["apps"]})
    applied = step(world, schedules)
    assert applied.failures == {}
    assert sync.error_of(applied) is None
    (policy,) = there(world)
    assert policy["State"] == "ENABLED"
    assert policy["Tags"]["goldenami:schedule"] == "test/nightly"
    assert policy["ExecutionRoleArn"] == f"arn:aws:iam::{HOME}:role/service-role/AWSDataLifecycleManagerDefaultRole"
    assert len(there(world, Place(APPS, "eu-central-1"))) == 1
    again = sync.make_plan(world.environment, schedules, cloud=world.cloud)
    assert (again.steps, again.in_step) == ((), 2)

    world.client("dlm", HOME_PLACE).update_lifecycle_policy(PolicyId=policy["PolicyId"], State="DISABLED")
    schedules = declare(world, nightly={**WEEKDAYS, "retention": {"keep": 9}})
    plan = sync.make_plan(world.environment, schedules, cloud=world.cloud)
    assert sorted(s.action for s in plan.steps) == ["delete", "update"]
    (update,) = [s for s in plan.steps if s.action == "update"]
    assert update.changes == ("Schedules[0].RetainRule.Count: 5 → 9", "State: 'DISABLED' → 'ENABLED'")
    assert sync.apply(world.environment, plan, cloud=world.cloud).failures == {}
    (changed,) = there(world)
    assert (changed["PolicyId"], changed["State"]) == (policy["PolicyId"], "ENABLED")
    assert changed["PolicyDetails"]["Schedules"][0]["RetainRule"]["Count"] == 9
    assert there(world, Place(APPS, "eu-central-1")) == []
    assert sync.make_plan(world.environment, schedules, cloud=world.cloud).steps == ()


def test_a_schedule_of_a_recipe_is_a_policy_too(world: World) -> None:
    """Its name has a dot, which DLM accepts in a tag, and not in the description of a policy or the name of a
    schedule."""
    web = (world.path / "recipes/web.yaml").read_text().replace("name: web", "name: base-x")
    (world.path / "recipes/base-x.yaml").write_text(web + f"schedules: {json.dumps({'data': WEEKDAYS})}\n")
    every = declare(world, nightly=WEEKDAYS)
    assert [(s.name, s.owner) for s in every] == [("nightly", ""), ("base-x.data", "base-x")]
    one = express.express(world.environment, every[1], {})
    assert one.reasons == ()
    assert one.details[HOME_PLACE]["Schedules"][0]["Name"] == "base-x-data"
    assert step(world, every).failures == {}
    policies = {p["Tags"]["goldenami:schedule"]: p["Description"] for p in there(world)}
    assert policies == {
        "test/nightly": "goldenami test nightly",
        "test/base-x.data": "goldenami test base-x-data",
    }
    again = sync.make_plan(world.environment, every, cloud=world.cloud)
    assert (again.steps, again.in_step) == ((), 2)


def test_what_it_cannot_express_is_left_as_it_is(world: World) -> None:
    step(world, declare(world, nightly=WEEKDAYS))
    schedules = declare(world, nightly={**WEEKDAYS, "time_zone": "Europe/Berlin"})
    plan = sync.make_plan(world.environment, schedules, cloud=world.cloud)
    assert plan.steps == ()
    assert [p.id for p in plan.kept] == [there(world)[0]["PolicyId"]]
    error = sync.error_of(sync.apply(world.environment, plan, cloud=world.cloud))
    assert error is not None
    assert error.exit_code == 6
    assert "UTC" in error.failures["nightly"]


def test_the_policy_does_what_the_schedule_says(world: World) -> None:
    """Monday to Friday at 03:00, five kept, on the cloud's own clock."""
    ec2 = world.client("ec2", HOME_PLACE)
    tag = [{"ResourceType": "volume", "Tags": [{"Key": "backup", "Value": "nightly"}]}]
    ec2.create_volume(AvailabilityZone="eu-central-1a", Size=1, TagSpecifications=tag)
    step(world, declare(world, nightly=WEEKDAYS))
    for _ in range(12 * 24):  # somebody looks once an hour: a policy runs when the cloud is next asked for anything
        world.clock.sleep(3600)
        ec2.describe_snapshots(OwnerIds=["self"])
    made = [s["StartTime"].astimezone(UTC) for s in ec2.describe_snapshots(OwnerIds=["self"])["Snapshots"]]
    assert len(made) == 5
    assert all(moment.weekday() < 5 for moment in made)
    newest = max(made)
    now = datetime.fromtimestamp(world.clock.now(), UTC)
    assert (now - newest).days <= 3


# --- policies that were there before ----------------------------------------------------------------------------------


def foreign(world: World, **more: Any) -> str:
    rule = {
        "Name": "Daily",
        "CopyTags": True,
        "CreateRule": {"Interval": 12, "IntervalUnit": "HOURS", "Times": ["05:30"]},
        "RetainRule": {"Interval": 2, "IntervalUnit": "WEEKS"},
        "CrossRegionCopyRules": [
            {
                "Target": "us-east-1",
                "Encrypted": False,
                "CopyTags": True,
                "RetainRule": {"Interval": 1, "IntervalUnit": "WEEKS"},
            }
        ],
        "ShareRules": [{"TargetAccounts": [APPS], "UnshareInterval": 3, "UnshareIntervalUnit": "DAYS"}],
        **more,
    }
    return str(
        world.client("dlm", HOME_PLACE).create_lifecycle_policy(
            ExecutionRoleArn=f"arn:aws:iam::{HOME}:role/ours",
            Description="Databases of old",
            State="ENABLED",
            PolicyDetails={
                "PolicyType": "EBS_SNAPSHOT_MANAGEMENT",
                "ResourceTypes": ["INSTANCE"],
                "TargetTags": [{"Key": "db", "Value": "yes"}],
                "Parameters": {"ExcludeBootVolume": True},
                "Schedules": [rule],
            },
        )["PolicyId"]
    )


def test_a_policy_is_imported_and_taken_over(
    world: World, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    id = foreign(world)
    monkeypatch.chdir(world.path)
    assert main(["dlm", "import"]) == 0
    written = yaml.safe_load(capsys.readouterr().out)["schedules"]
    assert written == {
        "databases-of-old": {
            "description": "Databases of old",
            "what": {"instances": {"tags": {"db": "yes"}, "exclude_root": True}},
            "accounts": ["home"],
            "regions": ["eu-central-1"],
            "when": "rate(12 hours)",
            "start": "2020-01-01T05:30",
            "missed": "none",
            "retention": {"max_age": "14d"},
            "copies": [{"region": "us-east-1", "retention": {"max_age": "7d"}}],
            "share": {"accounts": [APPS], "unshare_after": "3d"},
        }
    }
    schedules = declare(world, **written)
    plan = sync.make_plan(world.environment, schedules, cloud=world.cloud)
    assert plan.steps == (), "a policy of an unknown owner is taken over only on request"
    assert list(plan.unowned) == [f"{id} in {HOME_PLACE}"]
    (adopt,) = sync.make_plan(world.environment, schedules, cloud=world.cloud, adopt=True).steps
    assert (adopt.action, adopt.policy and adopt.policy.id) == ("adopt", id)
    assert step(world, schedules, adopt=True).failures == {}
    (policy,) = there(world)
    assert policy["PolicyId"] == id
    assert policy["ExecutionRoleArn"].endswith("role/ours"), "the role that it works as stays"
    assert policy["Tags"]["goldenami:schedule"] == "test/databases-of-old"
    assert sync.make_plan(world.environment, schedules, cloud=world.cloud).steps == ()
    assert main(["dlm", "plan", "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert (shown["steps"], shown["in_step"]) == ([], 1)


def test_an_import_warns_about_what_is_not_converted(world: World) -> None:
    rule = {
        "CopyTags": False,
        "ArchiveRule": {"RetainRule": {}},
        "RetainRule": {"Interval": 2, "IntervalUnit": "MONTHS"},
    }
    details = {
        "PolicyType": "EBS_SNAPSHOT_MANAGEMENT",
        "ResourceTypes": ["VOLUME"],
        "TargetTags": [{"Key": "a", "Value": "1"}, {"Key": "b", "Value": "2"}],
        "Schedules": [{**rule, "Name": "one", "CreateRule": {"CronExpression": "cron(0 3 * * ? *)"}}],
    }
    policy = LifecyclePolicy("policy-1", HOME_PLACE, "2 tags", "DISABLED", "role", details, {}, "arn")
    found = imports.imported(policy, world.environment, ("policy-2-tags-a-1",))
    assert list(found.schedules) == ["policy-2-tags-a-1-2", "policy-2-tags-b-2"]
    said = "\n".join(found.warnings)
    for word in ("DISABLED", "archive", "months of the calendar", "2 schedules"):
        assert word in said
    assert declare(world, **found.schedules), "it can be read"
    event = LifecyclePolicy("policy-2", HOME_PLACE, "", "ENABLED", "", {"PolicyType": "EVENT_BASED_POLICY"}, {}, "")
    assert imports.imported(event, world.environment).schedules == {}


def snapshots(**changes: Any) -> dict[str, Any]:
    """Details of a policy of volumes. ``rule``: changes of its schedule."""
    rule = {"Name": "Schedule 1", "CreateRule": {"CronExpression": "cron(0 3 * * ? *)"}, "RetainRule": {"Count": 5}}
    rule |= changes.pop("rule", {})
    return {"ResourceTypes": ["VOLUME"], "TargetTags": [{"Key": "a", "Value": "1"}], "Schedules": [rule], **changes}


NO_KEY = {
    "Target": "us-east-1",
    "Encrypted": True,
    "CopyTags": True,
    "RetainRule": {"Interval": 1, "IntervalUnit": "WEEKS"},
}
TO_IMAGES = {**NO_KEY, "TargetRegion": "us-east-1", "Encrypted": False}
del TO_IMAGES["Target"]
OF_IMAGES = {"PolicyType": "IMAGE_MANAGEMENT", "ResourceTypes": ["INSTANCE"]}

ADOPTED: dict[str, dict[str, Any]] = {
    "defaults left out": snapshots(),
    "defaults written": snapshots(
        PolicyType="EBS_SNAPSHOT_MANAGEMENT", ResourceLocations=["CLOUD"], PolicyLanguage="STANDARD", Parameters={}
    ),
    "weekdays as numbers": snapshots(rule={"CreateRule": {"CronExpression": "cron(0 3 ? * 2-6 *)"}}),
    "past midnight": snapshots(rule={"CreateRule": {"CronExpression": "cron(0 20-2 ? * MON-FRI *)"}}),
    "last Friday": snapshots(rule={"CreateRule": {"CronExpression": "cron(15 10 ? * 6L 2026-2027)"}}),
    "interval": snapshots(rule={"CreateRule": {"Interval": 8, "IntervalUnit": "HOURS", "Times": ["05:30"]}}),
    "years": snapshots(rule={"RetainRule": {"Interval": 3, "IntervalUnit": "WEEKS"}}),
    "images": snapshots(**OF_IMAGES, rule={"CrossRegionCopyRules": [TO_IMAGES]}),
    "images, written": snapshots(**OF_IMAGES, Parameters={"NoReboot": True}),
    "copies under the default key": snapshots(rule={"CrossRegionCopyRules": [NO_KEY]}),
    "shared": snapshots(rule={"ShareRules": [{"TargetAccounts": ["222222222222", "012345678901"]}]}),
    "tags": snapshots(
        TargetTags=[{"Key": "on", "Value": "1.10"}],
        rule={"TagsToAdd": [{"Key": "z", "Value": "no"}, {"Key": "Name", "Value": "x"}], "CopyTags": True},
    ),
}


def made(world: World, details: Mapping[str, Any], text: str = "by hand") -> str:
    role = f"arn:aws:iam::{HOME}:role/ours"
    words: Any = {"ExecutionRoleArn": role, "Description": text, "State": "ENABLED", "PolicyDetails": details}
    return str(world.client("dlm", HOME_PLACE).create_lifecycle_policy(**words)["PolicyId"])


def imported(world: World, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    """What ``dlm import`` prints, as a person pastes it into goldenami.yaml."""
    monkeypatch.chdir(world.path)
    assert main(["dlm", "import"]) == 0
    printed = capsys.readouterr().out
    found: dict[str, Any] = yaml.safe_load(printed)["schedules"]
    return found


@pytest.mark.parametrize("details", ADOPTED.values(), ids=ADOPTED)
def test_what_is_imported_is_valid_and_adopted_once(
    world: World, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], details: dict[str, Any]
) -> None:
    """Two policies that say the same become two schedules, and each schedule takes over one of them."""
    ids = {made(world, details), made(world, details)}
    written = imported(world, monkeypatch, capsys)
    assert len(written) == 2
    schedules = declare(world, **written)
    plan = sync.make_plan(world.environment, schedules, cloud=world.cloud, adopt=True)
    assert [s.action for s in plan.steps] == ["adopt", "adopt"]
    assert {s.policy.id for s in plan.steps if s.policy} == ids
    assert step(world, schedules, adopt=True).failures == {}
    after = there(world)
    assert {p["PolicyId"] for p in after} == ids
    assert {p["PolicyDetails"]["Schedules"][0]["Name"] for p in after} == {"Schedule 1"}, "its snapshots have this name"
    again = sync.make_plan(world.environment, schedules, cloud=world.cloud)
    assert (again.steps, again.in_step, again.doubled) == ((), 2, {})


def test_a_policy_that_does_the_same_beside_is_told(world: World) -> None:
    made(world, snapshots(), "one")
    schedules = declare(
        world, one={**WEEKDAYS, "what": {"volumes": {"tags": {"a": "1"}}}, "when": "0 3 * * *", "copy_tags": False}
    )
    assert step(world, schedules, adopt=True).failures == {}
    second = made(world, snapshots(rule={"Name": "other"}), "two")
    plan = sync.make_plan(world.environment, schedules, cloud=world.cloud, adopt=True)
    assert (plan.steps, plan.unowned) == ((), {})
    assert plan.doubled == {f"{second} in {HOME_PLACE}": "one"}
    world.client("dlm", HOME_PLACE).update_lifecycle_policy(PolicyId=second, State="DISABLED")
    assert sync.make_plan(world.environment, schedules, cloud=world.cloud).doubled == {}


def test_a_policy_that_reboots_is_not_the_same(world: World) -> None:
    details = snapshots(**OF_IMAGES, Parameters={"NoReboot": False})
    assert express.plain(details) != express.plain({**details, "Parameters": {"NoReboot": True}})
    assert express.plain({**details, "Parameters": {}}) == express.plain({**details, "Parameters": {"NoReboot": True}})


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"retention": {"max_age": "7d"}}, "a retention by count to one by age"),
        ({"what": {"instances": {"tags": {"backup": "nightly"}}}}, "what a policy selects"),
        ({"what": {"instances": {"tags": {"backup": "nightly"}}}, "make": "images"}, "the type of a policy"),
    ],
)
def test_what_dlm_cannot_change_is_replaced(world: World, change: Mapping[str, Any], reason: str) -> None:
    step(world, declare(world, nightly=WEEKDAYS))
    (before,) = there(world)
    schedules = declare(world, nightly={**WEEKDAYS, **change})
    (planned,) = sync.make_plan(world.environment, schedules, cloud=world.cloud).steps
    assert planned.action == "replace"
    assert reason in planned.changes[0]
    assert "DLM no longer deletes them" in planned.changes[1]
    assert step(world, schedules).failures == {}
    (after,) = there(world)
    assert after["PolicyId"] != before["PolicyId"]
    assert sync.make_plan(world.environment, schedules, cloud=world.cloud).steps == ()


def test_killed_between_the_new_policy_and_the_deletion_of_the_old_one(world: World) -> None:
    step(world, declare(world, nightly=WEEKDAYS))
    (before,) = there(world)
    schedules = declare(world, nightly={**WEEKDAYS, "retention": {"max_age": "7d"}})
    world.cloud.start_process(Label("dlm", "DeleteLifecyclePolicy", HOME, "eu-central-1", 1), "before")
    with pytest.raises(Death):
        step(world, schedules)
    world.cloud.start_process()
    assert len(there(world)) == 2
    (planned,) = sync.make_plan(world.environment, schedules, cloud=world.cloud).steps
    assert (planned.action, planned.policy and planned.policy.id) == ("delete", before["PolicyId"])
    assert step(world, schedules).failures == {}
    assert len(there(world)) == 1


def test_a_rule_that_ends_is_told(world: World) -> None:
    daily = {**WEEKDAYS, "when": "0 3 * * *", "retention": {"daily": 7, "weekly": 4}}
    step(world, declare(world, nightly=daily))
    schedules = declare(world, nightly={**daily, "retention": {"daily": 7}})
    (planned,) = sync.make_plan(world.environment, schedules, cloud=world.cloud).steps
    assert any("'nightly weekly' of the policy ends" in change for change in planned.changes)


@pytest.mark.parametrize(
    ("details", "word"),
    [
        (snapshots(ResourceLocations=["OUTPOST"]), "location OUTPOST"),
        (snapshots(rule={"CreateRule": {"CronExpression": "cron(0 3 1 1 ? 2020)"}}), "has no time any more"),
        (snapshots(rule={"FastRestoreRule": {"Count": 60, "AvailabilityZoneIds": ["euc1-az1"]}}), "by their ids"),
        (
            snapshots(rule={"CrossRegionCopyRules": [{**NO_KEY, "Target": "arn:aws:outposts:eu:1:outpost/op-1"}]}),
            "the copy to arn:aws:outposts",
        ),
    ],
)
def test_what_has_no_form_here_is_told(world: World, details: dict[str, Any], word: str) -> None:
    policy = LifecyclePolicy("policy-1", HOME_PLACE, "x" * 400, "ENABLED", "role", details, {}, "arn")
    found = imports.imported(policy, world.environment)
    assert any(word in warning for warning in found.warnings)
    assert len(declare(world, **found.schedules)) == len(found.schedules)


def test_an_unknown_policy_is_never_touched(world: World) -> None:
    id = foreign(world)
    step(world, declare(world, nightly=WEEKDAYS))
    step(world, declare(world))
    assert [p["PolicyId"] for p in there(world)] == [id]


# --- killed, and answers that are lost --------------------------------------------------------------------------------

CREATE = Label("dlm", "CreateLifecyclePolicy", HOME, "eu-central-1", 1)


@pytest.mark.parametrize("fault", [lost, broken_after], ids=lambda f: f.__name__)
def test_a_lost_answer_makes_no_second_policy(world: World, fault: Any) -> None:
    schedules = declare(world, nightly=WEEKDAYS)
    world.gate.start(Once(CREATE, fault))
    applied = step(world, schedules)
    world.gate.stop()
    assert applied.failures == {}
    assert len(there(world)) == 1


@pytest.mark.parametrize("when", ["before", "after"])
def test_killed_while_it_applies(world: World, when: str) -> None:
    """The next clean-up finds a policy that nobody heard of; and applying again makes one."""
    schedules = declare(world, nightly=WEEKDAYS)
    world.cloud.start_process(CREATE, when)
    with pytest.raises(Death):
        step(world, schedules)
    assert len(there(world)) == (when == "after")
    (left,) = Journals(Path(world.environment.builds)).unfinished()
    world.cloud.start_process()
    done = pipeline.clean(world.environment, left.build_id, cloud=world.cloud)
    assert done.complete, done.left
    assert there(world) == []
    step(world, schedules)
    assert len(there(world)) == 1
