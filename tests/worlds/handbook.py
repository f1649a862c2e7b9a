"""The world that the documentation speaks of, on paper: two accounts, two recipes, their releases, and a server.

The pages name things by the words of ``NAMES``, which are replaced by what is there.
"""

from __future__ import annotations

import json
import os
import shlex
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from goldenami_sandbox.direct import Direct

from goldenami import recipe as recipes
from goldenami.aws.session import Cloud
from goldenami.cli.main import main
from goldenami.evidence.packages import Component, Inventory, dumps
from goldenami.stages import fresh, host_work
from tests.ci.runner import Repository, own_variables
from tests.ci.shells import Answering
from tests.worlds.builds import Death, Label, MortalCloud, PaperHostWork, Saved, World, a_world
from tests.worlds.keys import new_signing_key
from tests.worlds.volumes import HOME_PLACE, Estate

SHIPPED = Path(__file__).parents[2]
ENVIRONMENTS = """\
environment: production
environments:
  sandbox: {sandbox: true}
  production:
    home: {account: "111111111111", region: eu-central-1}
    network: {source_cidr: 192.0.2.7/32}
    accounts:
      apps: {id: "222222222222", role: "arn:aws:iam::222222222222:role/goldenami-publisher"}
    targets:
      - {account: home, regions: [eu-central-1, eu-west-1], kms_key: alias/golden-ami}
      - {account: apps, regions: [eu-central-1, eu-west-1], kms_key: alias/golden-ami}
    catalog: .goldenami/production/catalog
    tags: {owner: platform-team}
    signing: {key: {file: keys/signing.pem}, trusted: [keys/golden-ami.pub]}
    vulnerabilities:
      feeds: [{file: feeds/tracker.json, format: security-tracker}]
      severity: high
    schedules:
      nightly:
        what: {volumes: {tags: {backup: nightly}}}
        when: "0 3 * * 1-5"
        missed: none
        retention: {keep: 5}
"""
INVENTORY = Inventory(
    "debian", "12", "bookworm", (Component("deb", "libssl3", "3.0.11-1", "amd64", "", "openssl", "3.0.11-1"),)
)
FEED = {
    "openssl": {
        "CVE-2026-0001": {
            "releases": {"bookworm": {"status": "resolved", "fixed_version": "3.0.13-1", "urgency": "high"}}
        }
    }
}
FIRST, SECOND = "1.4.20261117.1", "1.4.20261124.1"  # the releases of debian-12-web: in stable, in candidate
BUILD = "20261128-205708-239239b5"
INSTANCE, IMAGE = "i-0123456789abcdef0", "ami-0123456789abcdef0"
WEB = "recipes/debian-12-web.yaml"


class Handbook(World):
    """A world whose project has the shipped recipes of Debian 12."""

    def other_machine(self, saved: Path | None = None) -> None:
        self.path = self.base / f"case-{next(self._numbers)}"
        self._paths.append(self.path)
        if saved is not None:
            shutil.copytree(saved, self.path)
        else:
            self.path.mkdir()
            (self.path / "goldenami.yaml").write_text(ENVIRONMENTS)
            (self.path / "feeds").mkdir()
            (self.path / "feeds" / "tracker.json").write_text(json.dumps(FEED))
            (self.path / "keys").mkdir()
            for file, text in zip(("signing.pem", "golden-ami.pub"), new_signing_key(), strict=True):
                (self.path / "keys" / file).write_text(text)
            for name in ("debian-12-base.yaml", "debian-12-web.yaml", "files", "templates", "tests"):
                source = SHIPPED / "recipes" / name
                copy: Callable[..., Any] = shutil.copytree if source.is_dir() else shutil.copy
                target = self.path / "recipes" / name
                target.parent.mkdir(exist_ok=True)
                copy(source, target)
        self.project = recipes.load_project(self.path)
        self.environment = recipes.environment(self.project, "production")


@dataclass
class Reader:
    """A person who types what a page shows, in a shell that runs in this process. ``names``: what a page writes -> what
    it means here."""

    world: Handbook
    answering: Answering
    patch: pytest.MonkeyPatch
    saved: Saved | None = None
    names: dict[str, str] = field(default_factory=dict)
    variables: dict[str, str] = field(default_factory=dict)
    dies_at: Label | None = None  # the process of a command dies after this call
    directory: Path = field(init=False)

    def cloud_of(self, environment: Any, **_: Any) -> MortalCloud:
        """A new one for each process, as ``Cloud.of``."""
        direct = Direct(self.world.gate.serve)
        made = MortalCloud(self.world.clock, environment.accounts, environment.home_place, direct)
        if self.dies_at is not None:
            made.start_process(self.dies_at, "after")
        return made

    def host_work(self) -> PaperHostWork:
        made = PaperHostWork()
        made.inventory["x86_64"] = dumps(INVENTORY)
        return made

    def call(self, arguments: list[str]) -> int:
        try:
            return main(arguments)
        except Death:
            return 137
        finally:
            self.world.clock.settle()

    def open(self, scene: str = "project") -> None:
        """Begin a page: in an empty directory and an empty cloud (``nothing``), or in the project with its releases
        (``project``)."""
        if scene == "nothing":
            self.world.fresh(new_process=True)
            self.directory, self.variables = self.world.path / "empty", {}
            self.directory.mkdir()
            return
        if self.saved is None:
            self.world.fresh(new_process=True)
            self.world.put_on_volumes({0: "boot", 9: "root"})
            self._release()
        self.world.fresh(saved=self.saved, new_process=True)
        self.directory, self.variables = self.world.path, {}

    def _release(self) -> None:
        """Make the releases, a server that runs one of them, and another one with a data volume: once for all pages."""
        self.directory = self.world.path
        self.goldenami("build", "debian-12-web")
        self.goldenami("promote", "debian-12-web@candidate", "--to", "stable", "--reason", "checked")
        Repository(self.world.path).commit("The first release")
        file = self.world.path / WEB
        file.write_text(file.read_text().replace("title: Golden image", "title: Golden images"))
        self.goldenami("build", "debian-12-web")
        catalog = self.world.catalog
        first, second = (catalog.get("debian-12-web", version) for version in sorted(catalog.versions("debian-12-web")))
        image = first.images[0].image_id
        (instance,) = self.world.client("ec2", HOME_PLACE).run_instances(
            ImageId=image,
            InstanceType="t3.small",
            MinCount=1,
            MaxCount=1,
            TagSpecifications=[{"ResourceType": "instance", "Tags": [{"Key": "Name", "Value": "shop-1"}]}],
        )["Instances"]
        Estate(self.world)
        self.names = {
            FIRST: first.version,
            SECOND: second.version,
            BUILD: second.build_id,
            INSTANCE: instance["InstanceId"],
            IMAGE: image,
        }
        self.saved = self.world.save()

    def goldenami(self, *arguments: str, code: int = 0) -> None:
        """Run a command before a page begins."""
        got, output = self.type(f"goldenami {shlex.join(arguments)}")
        assert got == code, output

    def type(self, script: str) -> tuple[int, str]:
        """Run a script of bash. Returns its exit code and what it printed on both streams."""
        for name, value in self.names.items():
            script = script.replace(name, value)
        variables = {**own_variables(os.environ), "COLUMNS": "200", **self.variables}
        return self.answering.shell(["-c", script], self.directory, variables)


@contextmanager
def a_reader(path: Path, patch: pytest.MonkeyPatch) -> Iterator[Reader]:
    """A reader of the documentation. ``open`` begins a page."""
    programs = path / "bin"
    programs.mkdir()
    with a_world(path, patch, kind=Handbook) as world:
        assert isinstance(world, Handbook)
        reader = Reader(world, Answering(programs / "goldenami"), patch)
        reader.answering.call = reader.call
        patch.setattr(Cloud, "of", reader.cloud_of)
        for module in (host_work, fresh):
            patch.setattr(module, "SshHostWork", reader.host_work)
        with reader.answering.listening():
            yield reader
