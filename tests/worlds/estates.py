"""A random estate on paper: releases of several recipes with all that may hang on them, put into the cloud's memory.

It is drawn from a seed, so the same one can be built again in a fresh cloud. What may be deleted of it is worked out
here by brute force, from the drawing and from the cloud's memory, by none of the product's code.
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from goldenami_sandbox.ec2.records import (
    Encryption,
    Image,
    ImageDevice,
    ImageUsageReport,
    Instance,
    Progress,
    Snapshot,
)

from goldenami.aws import tags
from goldenami.model import MANIFEST_SCHEMA, BaseImage, ImageManifest, ManifestImage, ManifestSnapshot, Place
from goldenami.release.retention import ChannelRules, Rules
from tests.worlds.builds import APPS, HOME, PLACES, REGIONS, World

DAY = timedelta(days=1)
# When it is all looked at. The same for every estate of a process, so that a seed means one estate; and ahead of the
# cloud's clock for as long as the tests take, as EC2 deprecates nothing in the past.
NOW = datetime.now(UTC).replace(microsecond=0) + DAY
STRANGER = "999999999999"
ORGANIZATION = f"arn:aws:organizations::{STRANGER}:organization/o-1234567890"
PREFIX = "/golden-ami"
READY = Progress(0.0, 0.0, done=True)
# Name -> the recipe it is built on. The last one's file is gone, so it has no rules.
RECIPES = {"base": None, "web": "base", "shop": "web", "gone": "base"}
CHANNELS = ("stable", "beta")

_CATALOG = re.compile(r"^goldenami-[0-9a-f]{16}-")


@dataclass
class Estate:
    """``releases``: oldest first. ``why``: label -> what protects it, whatever the rules say."""

    now: datetime
    rules: dict[str, Rules]
    releases: list[ImageManifest] = field(default_factory=list)
    channels: dict[tuple[str, str], list[str]] = field(default_factory=dict)  # all moves, oldest first
    pins: set[str] = field(default_factory=set)

    @property
    def images(self) -> int:
        return len({i.image_id for m in self.releases for i in m.images})


def label_of(manifest: ImageManifest) -> str:
    return f"{manifest.recipe} {manifest.version}"


def created(manifest: ImageManifest) -> datetime:
    return datetime.fromisoformat(manifest.created.replace("Z", "+00:00"))


# --- drawing and building ---------------------------------------------------------------------------------------------


class Builder:
    """Puts an estate into a fresh world. ``uses``: how many things of each kind hang on random images."""

    def __init__(self, world: World, seed: int, *, releases: int, uses: int) -> None:
        self.world = world
        self.behind = world.behind
        self.records = world.catalog
        self.catalog = self.records.ensure_identity()
        self.tags = {tags.CATALOG: self.catalog, tags.ENVIRONMENT: "test"}
        self.store = self.behind.ec2._cloud.store
        self.draw = random.Random(seed)
        self.uses = uses
        self.estate = Estate(NOW, {name: self.rules() for name in list(RECIPES)[:-1]})
        self.per_recipe = max(2, releases // len(RECIPES))
        for place in PLACES:
            self.behind._public_parameters(place.region)

    def build(self) -> Estate:
        with self.records.writing_many():
            return self._build()

    def _build(self) -> Estate:
        self.keys = {place: self.key(place) for place in PLACES}
        for recipe in RECIPES:
            ages = sorted(self.draw.sample(range(2 * 400), self.per_recipe), reverse=True)
            for number, half_days in enumerate(ages):
                self.release(recipe, self.estate.now - half_days * DAY / 2, number)
        self.channels()
        for manifest in self.some(self.uses):
            self.estate.pins.add(label_of(manifest))
            self.records.marks.pin(manifest.recipe, manifest.version, "an audit", self.estate.now)
        for kind in (
            self.instance,
            self.template,
            self.launch_configuration,
            self.foreign_parameter,
            self.child,
            self.share,
            self.protection,
            self.last_launch,
            self.usage_report,
        ):
            for manifest in self.some(self.uses):
                row = self.draw.choice(manifest.images)
                kind(manifest, row, Place(row.account, row.region))
        return self.estate

    def some(self, count: int) -> list[ImageManifest]:
        return self.draw.sample(self.estate.releases, min(count, len(self.estate.releases)))

    def id(self, kind: str) -> str:
        return f"{kind}-0{self.draw.getrandbits(64):016x}"

    def rules(self) -> Rules:
        def days(*choices: int) -> timedelta | None:
            chosen = self.draw.choice((0, *choices))
            return chosen * DAY if chosen else None

        beta = ChannelRules(keep=self.draw.randint(0, 3), monthly=self.draw.randint(0, 4), delete_after=days(100, 300))
        return Rules(
            keep=self.draw.randint(1, 4),
            minimum_age=self.draw.choice((1, 7, 30)) * DAY,
            unused_for=self.draw.choice((1, 7, 60)) * DAY,
            deprecate_after=days(30, 60),
            disable_after=days(60, 90),
            delete_after=days(60, 120),
            monthly=self.draw.randint(0, 5),
            channels={"beta": beta} if self.draw.random() < 0.5 else {},
        )

    def key(self, place: Place) -> str:
        with self.behind.surface.active():
            kms = self.behind.surface.backend("kms", place.account, place.region)
            return str(kms.keys[kms.get_key_id_from_alias("alias/golden-ami")].arn)

    def release(self, recipe: str, born: datetime, number: int) -> None:
        version = f"1.0.{born:%Y%m%d}.{number + 1}"
        build = f"{born:%Y%m%d-%H%M%S}-{self.draw.getrandbits(32):08x}"
        parents = [m for m in self.estate.releases if m.recipe == RECIPES[recipe] and created(m) < born]
        parent = self.draw.choice(parents[-4:]) if parents and self.draw.random() < 0.8 else None
        rows: list[ManifestImage] = []
        bases: dict[Any, BaseImage] = {}
        for architecture in ("x86_64", "arm64") if self.draw.random() < 0.3 else ("x86_64",):
            at_home: str | None = None
            for place in PLACES:
                first = place == PLACES[0]
                shared = next((r for r in rows if r.architecture == architecture and r.region == place.region), None)
                if not first and self.draw.random() < 0.25:
                    continue
                name = f"{recipe}-{version}-{architecture}"
                if place.account == APPS and shared is not None and self.draw.random() < 0.5:
                    rows.append(replace(shared, account=APPS, mode="share"))
                    self.store.images[shared.image_id].users.append(APPS)
                    for one in shared.snapshots:
                        self.store.snapshots[one.snapshot_id].users.append(APPS)
                    self.grant(build, Place(HOME, place.region))
                    continue
                row = self.image(place, architecture, name, born, source=at_home)
                at_home = at_home or row.image_id
                rows.append(row)
            if parent is not None:
                of_parent = next((i.image_id for i in parent.images), "")
                named = label_of(parent) if self.draw.random() < 0.7 else None  # else by the id of its image alone
                bases[architecture] = BaseImage(of_parent, "b", HOME, architecture, "/dev/xvda", 8, "", "", named)
                assert at_home is not None
                self.store.images[at_home].source_image_id = of_parent  # as CreateImage notes it
        manifest = ImageManifest(
            schema=MANIFEST_SCHEMA,
            recipe=recipe,
            version=version,
            build_id=build,
            digest=f"{self.draw.getrandbits(64):x}",
            environment="test",
            created=born.strftime("%Y-%m-%dT%H:%M:%SZ"),
            base=bases,
            images=tuple(rows),
            tests=(),
            packages={},
            changes={},
        )
        self.records.add(manifest)
        self.estate.releases.append(manifest)
        for row in rows:
            self.parameter(Place(row.account, row.region), own_parameter(manifest, row), row.image_id)

    def image(self, place: Place, architecture: Any, name: str, born: datetime, source: str | None) -> ManifestImage:
        common: dict[str, Any] = {
            "owner": place.account,
            "region": place.region,
            "created": born.timestamp(),
            "tags": dict(self.tags),
        }
        made = []
        for _ in range(self.draw.choice((1, 1, 2, 3))):
            snapshot = Snapshot(
                id=self.id("snap"),
                **common,
                volume_id=self.id("vol"),
                size=8,
                progress=READY,
                frozen=True,
                hollow=True,
                completed=born.timestamp(),
                encryption=Encryption(self.keys[place], ""),
            )
            self.store.snapshots[snapshot.id] = snapshot
            made.append(snapshot.id)
        devices = [ImageDevice(f"/dev/xvd{'abc'[n]}", id, 8, encrypted=True) for n, id in enumerate(made)]
        image = Image(
            id=self.id("ami"),
            **common,
            name=name,
            architecture=architecture,
            root_device_name="/dev/xvda",
            devices=devices,
            progress=READY,
            source_image_id=source,
        )
        self.store.images[image.id] = image
        snapshots = tuple(ManifestSnapshot(d.snapshot_id or "", d.device, 8, True, self.keys[place]) for d in devices)
        return ManifestImage(architecture, place.account, place.region, image.id, name, "copy", True, snapshots)

    def grant(self, build: str, place: Place) -> None:
        name = f"goldenami-{self.catalog}-{build}-{self.draw.getrandbits(64):016x}"
        with self.behind.surface.active():
            kms = self.behind.surface.backend("kms", place.account, place.region)
            id = self.keys[place].rpartition("/")[2]
            kms.create_grant(id, f"arn:aws:iam::{APPS}:root", ["Decrypt"], name, {}, "")

    def parameter(self, place: Place, name: str, value: str) -> None:
        with self.behind.surface.active():
            ssm = self.behind.surface.backend("ssm", place.account, place.region)
            every = [{"Key": key, "Value": own} for key, own in self.tags.items()]
            # SSM takes tags only for a new parameter.
            known = name in ssm._parameters
            ssm.put_parameter(name, "", value, "String", "", "", known, [] if known else every, "text", None, None)

    def channels(self) -> None:
        for recipe in RECIPES:
            every = [m for m in self.estate.releases if m.recipe == recipe]
            for channel in CHANNELS:
                moves = sorted(self.draw.sample(every, self.draw.randint(0, min(5, len(every)))), key=created)
                if self.draw.random() < 0.3:
                    self.draw.shuffle(moves)  # somebody rolled back
                for manifest in moves:
                    self.records.move(recipe, channel, manifest.version, now=self.estate.now)
                    for row in manifest.images:  # where a later release has no image, an earlier one stays named
                        name = f"{PREFIX}/{recipe}/{row.architecture}/{channel}/image-id"
                        self.parameter(Place(row.account, row.region), name, row.image_id)
                if moves:
                    self.estate.channels[recipe, channel] = [m.version for m in moves]

    # --- what hangs on an image ---------------------------------------------------------------------------------------

    def instance(self, manifest: ImageManifest, row: ManifestImage, place: Place) -> None:
        id = self.id("i")
        self.store.instances[id] = Instance(
            id=id,
            owner=place.account,
            region=place.region,
            created=self.estate.now.timestamp(),
            reservation_id=self.id("r"),
            image_id=row.image_id,
            type="t3.small",
            availability_zone=f"{place.region}a",
            address="10.0.0.5",
            launched=self.estate.now.timestamp(),
            goal=self.draw.choice(("running", "stopped", "terminated")),
            transition=READY,
        )

    def template(self, manifest: ImageManifest, row: ManifestImage, place: Place) -> None:
        """The image is in one of its versions, by id, or by a parameter."""
        ec2 = self.world.client("ec2", place)
        own = own_parameter(manifest, row)
        written = self.draw.choice((row.image_id, f"resolve:ssm:{own}", f"resolve:ssm:{own}:1"))
        values = [written, *(self.id("ami") for _ in range(self.draw.randint(0, 2)))]
        self.draw.shuffle(values)
        name = f"t-{self.draw.getrandbits(32):x}"
        ec2.create_launch_template(LaunchTemplateName=name, LaunchTemplateData={"ImageId": values[0]})
        for value in values[1:]:
            ec2.create_launch_template_version(LaunchTemplateName=name, LaunchTemplateData={"ImageId": value})

    def launch_configuration(self, manifest: ImageManifest, row: ManifestImage, place: Place) -> None:
        self.world.client("autoscaling", place).create_launch_configuration(
            LaunchConfigurationName=f"c-{self.draw.getrandbits(32):x}", ImageId=row.image_id, InstanceType="t3.small"
        )

    def foreign_parameter(self, manifest: ImageManifest, row: ManifestImage, place: Place) -> None:
        """In any place: a region's parameter may name another region's image."""
        value = self.draw.choice(
            (row.image_id, f"ami-0123456789abcdef0,{row.image_id}", f'{{"ami": "{row.image_id}"}}')
        )
        self.parameter(self.draw.choice(PLACES), f"/teams/{self.draw.getrandbits(32):x}/image", value)

    def child(self, manifest: ImageManifest, row: ManifestImage, place: Place) -> None:
        """Somebody's own image: a copy, in any place, or one on its snapshots."""
        copied = self.draw.random() < 0.5
        owner = self.draw.choice(PLACES) if copied else Place(HOME if row.mode == "share" else row.account, row.region)
        id = self.id("ami")
        devices = [] if copied else [ImageDevice("/dev/xvda", self.draw.choice(row.snapshots).snapshot_id, 8)]
        self.store.images[id] = Image(
            id=id,
            owner=owner.account,
            region=owner.region,
            created=self.estate.now.timestamp(),
            name=f"mine-{id}",
            root_device_name="/dev/xvda",
            devices=devices,
            progress=READY,
            source_image_id=row.image_id if copied else None,
        )

    def share(self, manifest: ImageManifest, row: ManifestImage, place: Place) -> None:
        image = self.store.images[row.image_id]
        match self.draw.randrange(4):
            case 0:
                image.users.append(STRANGER)
            case 1:
                image.public = True
            case 2:
                image.organizations.append(ORGANIZATION)
            case _ if APPS not in image.users:
                image.users.append(APPS)  # which can be asked

    def protection(self, manifest: ImageManifest, row: ManifestImage, place: Place) -> None:
        choices: tuple[Any, ...] = ("enabled-with-cooldown", "enabled-without-cooldown")
        self.store.images[row.image_id].deregistration_protection = self.draw.choice(choices)

    def last_launch(self, manifest: ImageManifest, row: ManifestImage, place: Place) -> None:
        ago = self.draw.choice((0.5, 3, 20, 100)) * DAY
        self.store.images[row.image_id].last_launched = (self.estate.now - ago).timestamp()

    def usage_report(self, manifest: ImageManifest, row: ManifestImage, place: Place) -> None:
        """Shared with a stranger, who uses it or not; the report is of today or too old."""
        image = self.store.images[row.image_id]
        if STRANGER not in image.users:
            image.users.append(STRANGER)
        id = self.id("report")
        self.store.usage_reports[id] = ImageUsageReport(
            id=id,
            owner=image.owner,
            region=image.region,
            image_id=image.id,
            types=["ec2:Instance", "ec2:LaunchTemplate"],
            accounts=[],
            created=(self.estate.now - self.draw.choice((0, 20)) * DAY).timestamp(),
            entries={f"{STRANGER} ec2:Instance": 2} if self.draw.random() < 0.5 else {},
        )


def own_parameter(manifest: ImageManifest, row: ManifestImage) -> str:
    return f"{PREFIX}/{manifest.recipe}/{row.architecture}/{manifest.version}/image-id"


# --- the oracle -------------------------------------------------------------------------------------------------------


def protected(world: World, estate: Estate) -> dict[str, str]:
    """Label -> why no rule of age or number may delete it, base releases of what stays aside."""
    store = world.behind.ec2._cloud.store
    release_of = {i.image_id: m for m in estate.releases for i in m.images}
    why: dict[str, str] = dict.fromkeys(estate.pins, "pinned")
    for (recipe, channel), moves in estate.channels.items():
        for version in moves[-2:]:
            why[f"{recipe} {version}"] = f"in {channel}"

    def used(image_id: str | None, by: str) -> None:
        if image_id in release_of:
            why[label_of(release_of[image_id])] = by

    for instance in store.instances.values():
        if instance.goal != "terminated":
            used(instance.image_id, instance.id)
    snapshots = {s.snapshot_id: i.image_id for m in estate.releases for i in m.images for s in i.snapshots}
    for image in store.images.values():
        manifest = release_of.get(image.id)
        if manifest is None:
            used(image.source_image_id, image.id)
            for id in image.snapshot_ids:
                used(snapshots.get(id), image.id)
            continue
        label = label_of(manifest)
        if image.deregistration_protection != "disabled":
            why[label] = "protected"
        unused_for = estate.rules[manifest.recipe].unused_for if manifest.recipe in estate.rules else DAY
        launched = image.last_launched
        if launched is not None and estate.now.timestamp() - launched < unused_for.total_seconds():
            why[label] = "launched lately"
        if image.public or image.organizations:
            why[label] = "shared with many"
        if STRANGER in image.users and not _cleared(store, estate, image.id):
            why[label] = "shared with a stranger"
    for report in store.usage_reports.values():
        if any(report.entries.values()):
            used(report.image_id, report.id)
    values = _parameters(world)
    for (place, name), value in values.items():
        for id in re.findall(r"ami-[0-9a-f]{17}", value):
            of = release_of.get(id)
            own = {(Place(r.account, r.region), own_parameter(of, r)) for r in of.images} if of is not None else set()
            if (place, name) not in own:
                used(id, name)
    for place, written in _written(world):
        if written.startswith("resolve:ssm:"):
            name = written.removeprefix("resolve:ssm:").partition(":")[0]
            written = values.get((place, name), "")
        used(written, "a template or a launch configuration")
    return why


def _cleared(store: Any, estate: Estate, image_id: str) -> bool:
    of_image = [r for r in store.usage_reports.values() if r.image_id == image_id]
    return any(r.created > (estate.now - 7 * DAY).timestamp() and not r.entries for r in of_image)


def _parameters(world: World) -> dict[tuple[Place, str], str]:
    surface = world.behind.surface
    with surface.active():
        return {
            (place, name): versions[-1].value
            for place in PLACES
            for name, versions in surface.backend("ssm", place.account, place.region)._parameters.items()
            if versions and not name.startswith("/aws/")
        }


def _written(world: World) -> Iterator[tuple[Place, str]]:
    surface = world.behind.surface
    with surface.active():
        for place in PLACES:
            for template in surface.backend("ec2", place.account, place.region).launch_templates.values():
                for version in template.versions:
                    yield place, str(version.data.get("ImageId", ""))
            for one in surface.backend("autoscaling", place.account, place.region).launch_configurations.values():
                yield place, str(one.image_id)


def to_be_deleted(estate: Estate, why: dict[str, str]) -> set[str]:
    """Labels of the releases that nothing keeps, by asking every question about every one, until nothing changes."""
    going = {label_of(m) for m in estate.releases if label_of(m) not in why and _outlived(estate, m)}
    labels = {i.image_id: label_of(m) for m in estate.releases for i in m.images}
    while True:
        needed = {
            base.release or labels.get(base.image_id, "")
            for m in estate.releases
            if label_of(m) not in going
            for base in m.base.values()
        }
        if not going & needed:
            return going
        going -= needed


def _outlived(estate: Estate, manifest: ImageManifest) -> bool:
    """Whether its recipe's rules let it go."""
    rules = estate.rules.get(manifest.recipe)
    if rules is None:
        return False
    every = [m for m in estate.releases if m.recipe == manifest.recipe]
    age = estate.now - created(manifest)
    lists = [(every, rules.keep, rules.monthly)]
    times = [(rules.disable_after, rules.delete_after)]
    for channel, own in rules.channels.items():
        versions = estate.channels.get((manifest.recipe, channel), [])
        if manifest.version in versions:
            lists.append(([m for m in every if m.version in versions], own.keep, own.monthly))
            times = [(own.disable_after or rules.disable_after, own.delete_after or rules.delete_after)]
    disable, delete = times[0]
    if age < rules.minimum_age or (delete is not None and age < delete) or (delete is None and disable is not None):
        return False
    for of_list, keep, monthly in lists:
        later = sum(1 for m in of_list if created(m) > created(manifest))
        month = created(manifest).strftime("%Y-%m")
        later_months = {created(m).strftime("%Y-%m") for m in of_list if created(m).strftime("%Y-%m") > month}
        first = min((m for m in of_list if created(m).strftime("%Y-%m") == month), key=created)
        if later < keep or (first is manifest and len(later_months) < monthly):
            return False
    return True


# --- what is there ----------------------------------------------------------------------------------------------------


def inventory(world: World) -> frozenset[str]:
    """All that could be left over, in every account and region, from the cloud's memory: kind, place and id."""
    behind = world.behind
    lines = set()
    for kind, table in (("image", behind.ec2._cloud.store.images), ("snapshot", behind.ec2._cloud.store.snapshots)):
        lines |= {f"{kind} {one.id}" for one in table.values() if one.owner in (HOME, APPS)}
    with behind.surface.active():
        for account in (HOME, APPS):
            for region in REGIONS:
                for key in behind.surface.backend("kms", account, region).keys.values():
                    # Each world has a catalog with an id of its own.
                    lines |= {f"grant {_CATALOG.sub('goldenami-', grant.name)}" for grant in key.grants.values()}
    lines |= {f"parameter {name} in {place}" for place, name in _parameters(world)}
    return frozenset(lines)


def owned(manifest: ImageManifest, lines: frozenset[str]) -> frozenset[str]:
    """What of an inventory is a release's."""
    ids = {i.image_id for i in manifest.images} | {s.snapshot_id for i in manifest.images for s in i.snapshots}
    names = {f"parameter {own_parameter(manifest, i)} in {Place(i.account, i.region)}" for i in manifest.images}
    grant = f"-{manifest.build_id}-"
    return frozenset(line for line in lines if line.split()[1] in ids or line in names or grant in line)


def condition(world: World, manifest: ImageManifest) -> list[str]:
    """The state and the doors of a release's images, as they are."""
    images = world.behind.ec2._cloud.store.images
    found = [images[id] for id in sorted({i.image_id for i in manifest.images}) if id in images]
    return [f"{i.id} {i.disabled} {i.deprecation} {i.public} {sorted(i.users)} {i.organizations}" for i in found]
