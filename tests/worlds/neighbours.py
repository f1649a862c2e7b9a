"""Several projects over one cloud: environments, clones and machines that share two accounts.

Each neighbour acts through the program. What exists is read by plain clients, and belongs to the neighbour that acted
when it appeared: this file reads no tag and no catalog to decide that.
"""

from __future__ import annotations

import copy
import json
import random
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import yaml

from goldenami import pipeline
from goldenami import recipe as recipes
from goldenami.aws import journals
from goldenami.errors import GoldenAmiError
from goldenami.model import Environment, Place
from goldenami.release import orphans
from goldenami.release.catalog import Catalog
from goldenami.release.retention import Rules
from goldenami.release.retire import retire
from goldenami.schedules import run as running
from goldenami.schedules.dlm import sync
from tests.worlds.builds import PLACES, PROJECT, Death, Label, World
from tests.worlds.recordings import calls

Inventory = dict[tuple[Place, str, str], str]
_SCHEDULE = {
    "what": {"volumes": {"tags": {"backup": "nightly"}}},
    "regions": ["eu-central-1"],
    "when": "0 3 * * *",
    "missed": "latest",
    "retention": {"keep": 1},
}


@dataclass
class Neighbour:
    """One checkout of a project. ``owner``: its group: neighbours of one group share what they make."""

    world: World
    name: str
    owner: str
    path: Path
    environment_name: str
    recipe: str
    number: int = 0
    ahead: timedelta = timedelta()
    project: Any = field(init=False)
    environment: Environment = field(init=False)

    def __post_init__(self) -> None:
        self.load()

    def load(self) -> None:
        self.project = recipes.load_project(self.path)
        self.environment = recipes.environment(self.project, self.environment_name)

    @property
    def catalog(self) -> Catalog:
        return Catalog.of(self.environment, self.world.cloud)

    @property
    def now(self) -> datetime:
        return datetime.now(UTC) + self.ahead

    # --- commands -----------------------------------------------------------------------------------------------------

    def change(self) -> None:
        """Other inputs: the next build is a new one."""
        self.number += 1
        file = self.path / "recipes" / f"{self.recipe}.yaml"
        recipe = yaml.safe_load(file.read_text())
        recipe["software"][0]["file"]["content"] = f"hello {self.name} {self.number}"
        file.write_text(yaml.safe_dump(recipe))
        self.load()

    def build(self) -> Any:
        self.change()
        request = pipeline.Request(self.project, self.environment, self.recipe)
        return pipeline.build(request, host_work=self.world.host_work, cloud=self.world.cloud)

    def build_until(self, label: Label, when: str = "after") -> None:
        """Build, in a process that dies there, if it comes there."""
        self.world.cloud.start_process(label, when)
        with suppress(Death):
            self.build()

    def build_and_die(self, draw: random.Random) -> None:
        self.build_until(draw.choice(calls("build")), draw.choice(["before", "after"]))

    def clean_all(self) -> None:
        """Of every journal there is, also those of others: the program has to refuse these."""
        for summary in journals.open_journals(self.environment, self.world.cloud).unfinished():
            with suppress(GoldenAmiError):
                pipeline.clean(self.environment, summary.build_id, cloud=self.world.cloud)

    def clean_expired(self) -> Any:
        self.world.cloud.ahead = timedelta(hours=25)
        try:
            return pipeline.clean_expired(self.environment, cloud=self.world.cloud)
        finally:
            self.world.cloud.ahead = timedelta()

    def delete_orphans(self) -> orphans.Orphans:
        now = self.now + timedelta(days=9)
        return orphans.delete(self.world.cloud, self.environment, self.catalog, now)

    def find_orphans(self) -> orphans.Orphans:
        now = self.now + timedelta(days=9)
        return orphans.find(self.world.cloud, self.environment, self.catalog, now)

    def retire(self) -> Any:
        rules = {name: Rules(keep=1) for name in ("web", "shop", "api", "twin")}
        now = self.now + timedelta(days=400)
        return retire(self.environment, self.catalog, rules, now, cloud=self.world.cloud)

    def schedule(self) -> Any:
        self.ahead += timedelta(days=1)
        schedules = recipes.schedules(self.project, self.environment)
        return running.run(self.environment, schedules, self.now, cloud=self.world.cloud)

    def dlm(self, draw: random.Random) -> None:
        """With all schedules, or with none of them, which deletes their policies."""
        schedules = recipes.schedules(self.project, self.environment) if draw.random() < 0.6 else ()
        planned = sync.make_plan(self.environment, schedules, cloud=self.world.cloud, to_apply=True)
        sync.apply(self.environment, planned, cloud=self.world.cloud)

    def act(self, what: str, draw: random.Random) -> str:
        """Run a command in a new process. Returns what it answered: "done", or the error that it was refused with."""
        self.world.cloud.start_process()
        commands: dict[str, Callable[[], object]] = {
            "build": self.build,
            "build and die": lambda: self.build_and_die(draw),
            "clean --all": self.clean_all,
            "clean --expired": self.clean_expired,
            "orphans --delete": self.delete_orphans,
            "retire": self.retire,
            "schedule run": self.schedule,
            "dlm apply": lambda: self.dlm(draw),
        }
        try:
            commands[what]()
        except GoldenAmiError as error:
            return f"{type(error).__name__}: {error.message}"
        return "done"


COMMANDS = (
    "build",
    "build",
    "build and die",
    "clean --all",
    "clean --expired",
    "orphans --delete",
    "retire",
    "schedule run",
    "dlm apply",
)


def checkout(
    world: World,
    name: str,
    *,
    owner: str = "",
    environment: str = "test",
    recipe: str = "web",
    **settings: Any,
) -> Neighbour:
    """A project beside the world's own. ``settings``: keys of its environment (catalog, builds, parameter_prefix)."""
    path = world.path / "neighbours" / name
    content = yaml.safe_load(PROJECT["goldenami.yaml"])
    own = copy.deepcopy(content["environments"]["test"])
    own |= {"catalog": f".goldenami/{environment}/catalog", "schedules": {"nightly": _SCHEDULE}, **settings}
    (path / "recipes").mkdir(parents=True)
    (path / "goldenami.yaml").write_text(yaml.safe_dump({"environments": {environment: own}}))
    text = yaml.safe_load(PROJECT["recipes/web.yaml"])
    (path / "recipes" / f"{recipe}.yaml").write_text(yaml.safe_dump({**text, "name": recipe}))
    return Neighbour(world, name, owner or name, path, environment, recipe)


# --- what is there ----------------------------------------------------------------------------------------------------


def take(world: World) -> Inventory:
    """Everything in every place, by plain clients: what it is, whom it serves, and all its tags."""
    world.settled()
    found: Inventory = {}
    for place in PLACES:
        for kind, id, fields in (*_ec2(world, place), *_others(world, place)):
            found[place, kind, id] = json.dumps(fields, sort_keys=True, default=str)
    return found


_Row = tuple[str, str, dict[str, Any]]


def _tags(item: Any) -> dict[str, str]:
    return {t["Key"]: t["Value"] for t in item.get("Tags") or ()}


def _ec2(world: World, place: Place) -> Iterator[_Row]:
    ec2 = world.client("ec2", place)
    for reservation in ec2.describe_instances()["Reservations"]:
        for one in reservation["Instances"]:
            if one["State"]["Name"] not in ("terminated", "shutting-down"):
                yield "instance", one["InstanceId"], {"state": one["State"]["Name"], "tags": _tags(one)}
    every = ec2.describe_images(Owners=["self"], IncludeDeprecated=True, IncludeDisabled=True)["Images"]
    for one in every:
        id = one["ImageId"]
        answer = ec2.describe_image_attribute(ImageId=id, Attribute="launchPermission")
        fields = {k: one.get(k) for k in ("Name", "State", "DeprecationTime", "BlockDeviceMappings", "Description")}
        yield "image", id, {**fields, "tags": _tags(one), "for": answer["LaunchPermissions"]}
    for one in ec2.describe_snapshots(OwnerIds=["self"])["Snapshots"]:
        id = one["SnapshotId"]
        answer = ec2.describe_snapshot_attribute(SnapshotId=id, Attribute="createVolumePermission")
        fields = {k: one.get(k) for k in ("State", "Encrypted", "KmsKeyId", "StorageTier", "VolumeId")}
        yield "snapshot", id, {**fields, "tags": _tags(one), "for": answer["CreateVolumePermissions"]}
    for one in ec2.describe_volumes()["Volumes"]:
        yield "volume", one["VolumeId"], {"state": one["State"], "tags": _tags(one)}
    for one in ec2.describe_key_pairs()["KeyPairs"]:
        yield "key-pair", one["KeyName"], {"tags": _tags(one)}
    for one in ec2.describe_security_groups()["SecurityGroups"]:
        yield "security-group", one["GroupId"], {"tags": _tags(one), "rules": one["IpPermissions"]}


def _others(world: World, place: Place) -> Iterator[_Row]:
    kms, ssm, dlm = (world.client(service, place) for service in ("kms", "ssm", "dlm"))
    key = kms.describe_key(KeyId="alias/golden-ami")["KeyMetadata"]["Arn"]
    for one in kms.list_grants(KeyId=key)["Grants"]:
        yield "grant", one["GrantId"], {k: one.get(k) for k in ("Name", "GranteePrincipal", "Operations")}
    under = [{"Key": "Name", "Option": "BeginsWith", "Values": ["/golden-ami"]}]
    for page in ssm.get_paginator("describe_parameters").paginate(ParameterFilters=under):
        for one in page["Parameters"]:
            name = one["Name"]
            value = ssm.get_parameter(Name=name)["Parameter"]
            marks = ssm.list_tags_for_resource(ResourceType="Parameter", ResourceId=name)["TagList"]
            fields = {k: value.get(k) for k in ("Value", "Version", "DataType")}
            yield "parameter", name, {**fields, "tags": {t["Key"]: t["Value"] for t in marks}}
    for one in dlm.get_lifecycle_policies()["Policies"]:
        policy = dlm.get_lifecycle_policy(PolicyId=one["PolicyId"])["Policy"]
        fields = {k: policy.get(k) for k in ("Description", "State", "ExecutionRoleArn", "PolicyDetails", "Tags")}
        yield "policy", one["PolicyId"], fields


class Street:
    """All neighbours of a world. After each command, what belongs to others must be as it was."""

    def __init__(self, world: World, neighbours: list[Neighbour]) -> None:
        self.world = world
        self.neighbours = neighbours
        self.inventory = take(world)
        self.owners: dict[tuple[Place, str, str], str] = dict.fromkeys(self.inventory, "a person")
        self.log: list[str] = []
        self.deleted = 0  # how much of their own the neighbours deleted

    def after(self, neighbour: Neighbour, what: str) -> None:
        """Compare. Everything new belongs to the group of the neighbour that acted."""
        self.log.append(f"{neighbour.name}: {what}")
        now = take(self.world)
        wrong = []
        for key, before in self.inventory.items():
            if self.owners[key] == neighbour.owner:
                self.deleted += key not in now
            elif now.get(key) != before:
                change = "is gone" if key not in now else f"changed from {before} to {now[key]}"
                wrong.append(f"{key[1]} {key[2]} in {key[0]} of {self.owners[key]} {change}")
        assert not wrong, "\n".join([*self.log, "", *wrong])
        self.owners = {key: self.owners.get(key, neighbour.owner) for key in now}
        self.inventory = now
