"""What the tests of whole builds need: a project of their own, and a look at the cloud that is not goldenami's.

Everything about the cloud is asked with plain boto3, as the administrator of the account that is looked at.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import boto3
from goldenami_sandbox import control
from goldenami_sandbox.control import SandboxInfo

HOME, APPS = "111111111111", "222222222222"
REGIONS = ("eu-central-1", "eu-west-1", "us-east-1")
KEY_ALIAS = "alias/golden-ami"
PROJECT = Path(__file__).parents[2]

# As small as a recipe gets: nothing is installed, so that a whole build takes seconds.
TINY = """\
name: {name}
version: "1.0"
base: {{filter: debian-12-amd64-*, owners: ["136693071363"]}}
patches: {{level: none, reboot: never}}
"""

SANDBOX = """\
environments:
  sandbox: {sandbox: true}
"""

READING = ("Describe", "Get", "List", "Simulate", "AssumeRole", "GenerateDataKeyWithoutPlaintext")
"""How the names of calls begin that make and change nothing. KMS keeps no data key: it is made to see whether the
caller may use a key."""

Place = tuple[str, str]  # account, region
PLACES: tuple[Place, ...] = tuple((account, region) for account in (HOME, APPS) for region in REGIONS)


@dataclass
class Cloud:
    """The sandbox as any client sees it."""

    info: SandboxInfo
    _clients: dict[tuple[str, Place], Any] = field(default_factory=dict)

    def client(self, service: str, place: Place) -> Any:
        if (service, place) not in self._clients:
            account, region = place
            self._clients[service, place] = cast(Any, boto3.client)(service, **self.info.client(region, account))
        return self._clients[service, place]

    def inventory(self) -> set[tuple[str, Place, str]]:
        """Everything that a build could have made, in every place: kind, place and id. What ends, as instances of the
        tests before, ends first.
        """
        until(lambda: not any(map(self._is_moving, PLACES)), 300)
        return {(kind, place, id) for place in PLACES for kind, id in self._things(place)}

    def _is_moving(self, place: Place) -> bool:
        """Whether an instance is between two states, or has left volumes that EC2 deletes with it."""
        ec2 = self.client("ec2", place)
        there: set[str] = set()
        for reservation in ec2.describe_instances()["Reservations"]:
            for instance in reservation["Instances"]:
                if instance["State"]["Name"] in ("pending", "stopping", "shutting-down"):
                    return True
                if instance["State"]["Name"] != "terminated":
                    there.add(instance["InstanceId"])
        return any(
            attachment["InstanceId"] not in there
            for volume in ec2.describe_volumes()["Volumes"]
            for attachment in volume["Attachments"]
        )

    def _things(self, place: Place) -> Iterator[tuple[str, str]]:
        ec2 = self.client("ec2", place)
        own = {"OwnerIds": ["self"]}
        for image in ec2.describe_images(Owners=["self"], IncludeDeprecated=True, IncludeDisabled=True)["Images"]:
            yield "image", image["ImageId"]
        for snapshot in ec2.describe_snapshots(**own)["Snapshots"]:
            yield "snapshot", snapshot["SnapshotId"]
        for volume in ec2.describe_volumes()["Volumes"]:
            yield "volume", volume["VolumeId"]
        for reservation in ec2.describe_instances()["Reservations"]:
            for instance in reservation["Instances"]:
                if instance["State"]["Name"] != "terminated":
                    yield "instance", instance["InstanceId"]
        for pair in ec2.describe_key_pairs()["KeyPairs"]:
            yield "key pair", pair["KeyName"]
        for group in ec2.describe_security_groups()["SecurityGroups"]:
            if group["GroupName"] != "default":
                yield "security group", group["GroupId"]
        for page in self.client("ssm", place).get_paginator("describe_parameters").paginate():
            for parameter in page["Parameters"]:
                if not parameter["Name"].startswith("/aws/"):
                    yield "parameter", parameter["Name"]
        kms = self.client("kms", place)
        for grant in kms.list_grants(KeyId=self.key(place))["Grants"]:
            yield "grant", grant["GrantId"]

    def key(self, place: Place) -> str:
        """The ARN of the key that images of a place are encrypted under."""
        return str(self.client("kms", place).describe_key(KeyId=KEY_ALIAS)["KeyMetadata"]["Arn"])

    def image(self, place: Place, image_id: str) -> dict[str, Any]:
        [image] = self.client("ec2", place).describe_images(ImageIds=[image_id])["Images"]
        return dict(image)

    def calls_of(self, do: Callable[[], object]) -> list[dict[str, Any]]:
        """The calls that came in while something was done."""
        before = self.info.calls()
        last = before[-1]["request_id"] if before else None
        do()
        calls = self.info.calls()
        ids = [call["request_id"] for call in calls]
        return calls[ids.index(last) + 1 :] if last is not None else calls

    def launch(self, place: Place, image_id: str, count: int = 1) -> list[str]:
        ec2 = self.client("ec2", place)
        answer = ec2.run_instances(ImageId=image_id, InstanceType="t3.small", MinCount=count, MaxCount=count)
        return [instance["InstanceId"] for instance in answer["Instances"]]

    def address(self, place: Place, instance: str) -> str:
        """Of an instance, once it runs."""

        def running() -> str | None:
            ec2 = self.client("ec2", place)
            [found] = ec2.describe_instances(InstanceIds=[instance])["Reservations"][0]["Instances"]
            assert found["State"]["Name"] in ("pending", "running"), found.get("StateReason")
            return str(found["PrivateIpAddress"]) if found["State"]["Name"] == "running" else None

        return str(until(running))

    def inside(self, instance: str, *command: str) -> str:
        """What a command prints that root runs in an instance."""
        done = subprocess.run(control.shell_argv(self.info, instance, command), capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return done.stdout


@dataclass
class Done:
    """How a command ended."""

    status: int
    stdout: str
    stderr: str

    @property
    def json(self) -> Any:
        return json.loads(self.stdout)

    @property
    def manifest(self) -> Any:
        """Of the last build that ``build --json`` printed: those before it are of bases."""
        return self.json["builds"][-1]["manifest"]


@dataclass
class Workspace:
    """A project directory, in which the program is run as a person runs it."""

    root: Path
    cloud: Cloud

    def write(self, path: str, text: str) -> Path:
        target = self.root / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text)
        return target

    def recipe(self, name: str, more: str = "", *, targets: str = "[home/eu-central-1]") -> Path:
        """A tiny recipe; ``more``: further sections. They begin in line 5."""
        distribution = f"distribution: {{targets: {targets}, channel: stable}}\n"
        return self.write(f"recipes/{name}.yaml", TINY.format(name=name) + more + distribution)

    def variables(self, **more: str) -> dict[str, str]:
        """The environment of the program: the sandbox's endpoint and keys, and nothing of who runs the tests."""
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("AWS_", "GOLDENAMI_", "GITLAB_"))}
        for name in ("NO_COLOR", "COLUMNS", "FORCE_COLOR"):
            kept.pop(name, None)
        return {**kept, "PYTHONDONTWRITEBYTECODE": "1", **self.cloud.info.variables(), **more}

    def start(self, *arguments: str, variables: Mapping[str, str] | None = None, **options: Any) -> Any:
        """The program as a process; ``options`` are Popen's."""
        command = [sys.executable, "-m", "goldenami.cli.main", *arguments]
        environment = self.variables() if variables is None else variables
        streams = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        return subprocess.Popen(command, cwd=self.root, env=environment, **{**streams, **options})

    def run(self, *arguments: str, variables: Mapping[str, str] | None = None, seconds: float = 600.0) -> Done:
        """Run the program to its end."""
        process = self.start(*arguments, variables=variables)
        try:
            output, errors = process.communicate(timeout=seconds)
        finally:
            process.kill()
        return Done(process.returncode, output.decode(), errors.decode())

    def releases(self) -> list[Any]:
        done = self.run("images", "list", "--json")
        assert done.status == 0, done.stderr
        return list(done.json["releases"])


def until(what: Callable[[], Any], seconds: float = 120.0) -> Any:
    """What a function returns, once that is true."""
    deadline = time.monotonic() + seconds
    while not (found := what()):
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.1)
    return found


def events_of(path: Path) -> list[dict[str, Any]]:
    """The complete lines of a file of events, which may still be growing."""
    if not path.exists():
        return []
    return [json.loads(line) for line in path.read_text().splitlines(keepends=True) if line.endswith("\n")]
