"""A cloud without contents, a build in it, and its candidates: what distributing, verifying and publishing start from.

Witnesses are plain boto3 clients, which share no code with what is tested.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Hashable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import boto3
from botocore.credentials import Credentials
from goldenami_sandbox.direct import Direct
from goldenami_sandbox.http import Response
from goldenami_sandbox.protocol import Call
from goldenami_sandbox.testing import PaperCloud

from goldenami.aws import tags
from goldenami.aws.ledger import Ledger
from goldenami.aws.limits import Retry
from goldenami.aws.recent import Patience
from goldenami.aws.session import Cloud
from goldenami.events import Event
from goldenami.journal import Header, Journal
from goldenami.model import Account, Architecture, ImageManifest, Place, Target
from goldenami.polling import Interval
from goldenami.release.catalog import Catalog
from goldenami.release.order import ReleaseOrder
from goldenami.release.verify import Verified
from tests.worlds.ledgers import PROOFS, new_session

HOME = Account("home", "111111111111")
APPS = Account("apps", "222222222222", "arn:aws:iam::222222222222:role/goldenami-publisher")
HOME_PLACE = Place(HOME.id, "eu-central-1")
REGIONS = ("eu-central-1", "eu-west-1", "us-east-1")
KEY = "alias/golden-ami"
NOW = datetime(2026, 11, 24, 3, 0, tzinfo=UTC)
TARGETS = (
    *(Target(HOME, region, KEY) for region in REGIONS),
    *(Target(APPS, region, KEY) for region in REGIONS[:2]),
    Target(APPS, "us-east-1", KEY, "share"),
)


class _Lent:
    """A client that all worlds of a worker have in common: making one takes longer than ten calls. It has the settings
    of the environment in which it was made, so worlds in another one have another client."""

    def __init__(self, service: str, place: Place) -> None:
        keys = {"aws_access_key_id": "nobody", "aws_secret_access_key": "nothing"}
        factory: Any = boto3.client
        self._account = place.account
        self._client = factory(service, region_name=place.region, endpoint_url="http://127.0.0.1:9", **keys)
        self._serve: Callable[[Call], Response] | None = None
        Direct(self._answer).attach(self._client)

    def to(self, paper: PaperCloud) -> Any:
        """The client, which calls this cloud from now on, as the administrator of its account."""
        key = paper.key(self._account)
        self._serve = paper.cloud.serve
        self._client._request_signer._credentials = Credentials(key.access_key_id, key.secret_access_key)
        return self._client

    def _answer(self, call: Call) -> Response:
        assert self._serve is not None
        return self._serve(call)


_CLIENTS: Final[dict[Hashable, _Lent]] = {}
# What each client is given in place of that of the environment.
_GIVEN = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_ENDPOINT_URL", "AWS_DEFAULT_REGION", "AWS_REGION")


@dataclass
class World:
    """One environment over one paper cloud. ``events``: what was told, in order."""

    paper: PaperCloud
    path: Path
    cloud: Cloud = field(init=False)
    catalog: Catalog = field(init=False)
    events: list[Event] = field(default_factory=list)
    _numbers: Iterator[int] = field(default_factory=lambda: itertools.count(1))

    def __post_init__(self) -> None:
        # Reads and lost replies are retried, briefly: a test that waits a minute for a fault says nothing more.
        retry = Retry(first=0.01, longest=0.05, throttled=1.0, unreachable=0.3, queued=5.0)
        # What is missing is missing: it is not waited for long.
        patience = Patience(visible=0.6, known=0.6, pauses=Interval(0.02, 1.5, 4.0))
        accounts = {"home": HOME, "apps": APPS}
        self.cloud = Cloud(accounts, HOME_PLACE, retry=retry, patience=patience, caller=new_session())
        self.catalog = Catalog(self.path / "catalog")

    # --- plain boto3 --------------------------------------------------------------------------------------------------

    def client(self, service: str, place: Place) -> Any:
        variables = sorted((k, v) for k, v in os.environ.items() if k.startswith("AWS_") and k not in _GIVEN)
        which = (service, place, *variables)
        if which not in _CLIENTS:
            _CLIENTS[which] = _Lent(service, place)
        return _CLIENTS[which].to(self.paper)

    def key_arn(self, place: Place) -> str:
        return str(self.client("kms", place).describe_key(KeyId=KEY)["KeyMetadata"]["Arn"])

    def image(self, place: Place, image_id: str) -> dict[str, Any]:
        (found,) = self.client("ec2", place).describe_images(ImageIds=[image_id])["Images"]
        return dict(found)

    def own_images(self, place: Place) -> dict[str, dict[str, Any]]:
        found = self.client("ec2", place).describe_images(Owners=["self"])["Images"]
        return {image["Name"]: image for image in found}

    def snapshots_of(self, place: Place, image_id: str) -> list[dict[str, Any]]:
        image = self.image(place, image_id)
        ids = [m["Ebs"]["SnapshotId"] for m in image["BlockDeviceMappings"] if "Ebs" in m]
        return list(self.client("ec2", place).describe_snapshots(SnapshotIds=ids)["Snapshots"])

    def parameter(self, place: Place, name: str) -> str | None:
        ssm = self.client("ssm", place)
        try:
            return str(ssm.get_parameter(Name=name)["Parameter"]["Value"])
        except ssm.exceptions.ParameterNotFound:
            return None

    def mutations(self, since: int = 0) -> list[str]:
        """The actions that changed something, by the sandbox's own log, from that entry on."""
        reading = ("Describe", "Get", "List", "AssumeRole")
        return [e["action"] for e in self.paper.calls[since:] if not e["action"].startswith(reading)]

    # --- a build ------------------------------------------------------------------------------------------------------

    def build(self, version: str = "1.4.20261124.1", *, build_id: str | None = None) -> Ledger:
        """A new build's ledger."""
        build_id = build_id or f"b-{next(self._numbers)}"
        header = Header(
            build_id,
            "debian-12-web",
            "0" * 64,
            "sandbox",
            NOW,
            {"version": version, "catalog": self.catalog.ensure_identity()},
        )
        journal = Journal.create(self.path / "builds", header, sync=lambda descriptor: None)
        return self.ledger(journal, version)

    def ledger(self, journal: Journal, version: str = "1.4.20261124.1") -> Ledger:
        every = tags.build_tags(
            recipe="debian-12-web", version=version, build_id=journal.build_id, own={"cost-center": "1234"}
        )
        return Ledger(self.cloud, journal, every, proofs=PROOFS, emit=self.events.append)

    def reopened(self, ledger: Ledger, version: str = "1.4.20261124.1") -> Ledger:
        """The same build in the next process."""
        ledger.journal.close()
        return self.ledger(Journal.open(ledger.journal.directory, sync=lambda descriptor: None), version)

    def candidate(
        self, architecture: Architecture = "x86_64", *, encrypted: bool = False, imds_v2: bool = False
    ) -> str:
        """An image in the home region, made by other means. ``imds_v2``: it requires IMDSv2, and so do its copies."""
        ec2 = self.client("ec2", HOME_PLACE)
        number = next(self._numbers)
        key = {"Encrypted": True, "KmsKeyId": KEY} if encrypted else {}
        volume = ec2.create_volume(AvailabilityZone="eu-central-1a", Size=8, **key)["VolumeId"]
        patient = {"Delay": 0, "MaxAttempts": 10_000}
        ec2.get_waiter("volume_available").wait(VolumeIds=[volume], WaiterConfig=patient)
        snapshot = ec2.create_snapshot(VolumeId=volume)["SnapshotId"]
        ec2.get_waiter("snapshot_completed").wait(SnapshotIds=[snapshot], WaiterConfig=patient)
        return str(
            ec2.register_image(
                Name=f"candidate-{number}",
                Architecture=architecture,
                RootDeviceName="/dev/xvda",
                VirtualizationType="hvm",
                BlockDeviceMappings=[{"DeviceName": "/dev/xvda", "Ebs": {"SnapshotId": snapshot}}],
                **({"ImdsSupport": "v2.0"} if imds_v2 else {}),
            )["ImageId"]
        )

    def order(
        self, version: str = "1.4.20261124.1", *, targets: tuple[Target, ...] = TARGETS, **more: Any
    ) -> ReleaseOrder:
        owners = {target.label: Place(HOME.id, target.region) for target in targets if target.mode == "share"}
        keys = {target.label: self.key_arn(owners.get(target.label, target.place)) for target in targets}
        return ReleaseOrder("debian-12-web", version, HOME_PLACE, targets, keys, **more)

    def manifest(self, ledger: Ledger, order: ReleaseOrder, verified: Verified) -> ImageManifest:
        return ImageManifest(
            schema="goldenami.manifest/1",
            recipe=order.recipe,
            version=order.version,
            build_id=ledger.journal.build_id,
            digest="0" * 64,
            environment="sandbox",
            created="2026-11-24T03:00:00Z",
            base={},
            images=verified.images,
            tests=(),
            packages={},
            changes={},
        )

    def states(self, target: str) -> list[str]:
        """The states that were told of a target, in order, without repetition."""
        told = [e.fields["state"] for e in self.events if e.kind == "target.progress" and e.fields["target"] == target]
        return [state for state, _ in itertools.groupby(told)]
