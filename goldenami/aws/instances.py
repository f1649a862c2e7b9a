"""Instances: the temporary ones that are provisioned or that a new image is tested on."""

from __future__ import annotations

import base64
import threading
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Final, Literal

from goldenami.aws import errors, room, waiters
from goldenami.aws.kms import CONSUMER_OPERATIONS
from goldenami.aws.ledger import Call, Ledger
from goldenami.aws.network import Subnet
from goldenami.aws.session import Cloud
from goldenami.aws.waiters import Interval, Item, Observation, OnProgress
from goldenami.each import both
from goldenami.errors import BuilderError, CloudError, HostLost
from goldenami.journal import Secret
from goldenami.model import Network, Place

Market = Literal["spot", "on-demand"]

# EC2 User Guide, "Spot Instance interruptions": the StateReason codes of a reclaimed instance.
RECLAIMED_CODES = frozenset({"Server.SpotInstanceTermination", "Server.SpotInstanceShutdown"})


# StateReason codes of an instance whose volumes could not be decrypted (EC2 user guide, "Troubleshoot Amazon EC2
# instance launch issues"). EC2 also returns the two internal errors for other causes.
_KEY_CODES = frozenset(
    {
        "Client.InternalError",
        "Client.InvalidKMSKey.InvalidState",
        "Client.InvalidKMSKey.NotFound",
        "Server.InternalError",
    }
)
SPOT_ROLE = "AWSServiceRoleForEC2Spot"

Warn = Callable[[str], None]
# Passes a pause of a wait. It gets the seconds, and what was seen last. It may return earlier, when a look is worth its
# call; or true, when it is known that the instances run: then EC2 is not asked again.
Pause = Callable[[float, Mapping[str, Observation]], bool]


def _ignore(_: str) -> None:
    """Discard a warning."""


def _nothing() -> None:
    """Do nothing beside a launch."""


@dataclass(frozen=True, slots=True)
class RootVolume:
    """The properties of the root volume that replace those of the image. ``iops`` and ``throughput`` (MiB/s): gp3
    only."""

    device_name: str
    size_gib: int
    type: str = "gp3"
    iops: int | None = None
    throughput: int | None = None


@dataclass(frozen=True, slots=True)
class DataVolume:
    """A volume besides the root volume: a new one, or the properties that replace those of the image's volume at this
    device. ``size_gib`` and ``snapshot_id`` None: those of the image's volume, or the size of the snapshot."""

    device_name: str
    size_gib: int | None
    type: str = "gp3"
    iops: int | None = None
    throughput: int | None = None
    snapshot_id: str | None = None


@dataclass(frozen=True, slots=True)
class LaunchSpec:
    """The properties of an instance to launch. ``instance_types`` and ``subnets`` are tried in order, with ``spot`` as
    spot instances first. ``user_data`` may contain a private key, so it is not written to the journal.
    ``volume_key``: the ARN of the key that encrypts the root volume and the volumes of ``data_devices``; None: EC2
    decides about their encryption. ``image_key``: the ARN of the key of the image's snapshots if it is known, for
    messages. ``volumes``: data volumes. ``kept_devices``: devices of the image whose volumes would outlive an instance;
    those of this one are deleted with it."""

    image_id: str
    instance_types: tuple[str, ...]
    subnets: tuple[Subnet, ...]
    security_group_id: str
    key_name: str
    user_data: str = field(default="", repr=False)
    root_volume: RootVolume | None = None
    volume_key: str | None = None
    image_key: str | None = None
    data_devices: tuple[str, ...] = ()
    volumes: tuple[DataVolume, ...] = ()
    kept_devices: tuple[str, ...] = ()
    spot: bool = False
    name: str = ""
    instance_profile: str | None = None  # a name or an ARN
    public_address: bool | None = None  # None: as the subnet assigns them
    more_groups: tuple[str, ...] = ()  # security groups
    hop_limit: int = 1  # of the metadata service

    @property
    def encrypted_under(self) -> str | None:
        """The ARN of the key of the volumes, if it is known."""
        return self.volume_key or self.image_key


@dataclass(frozen=True, slots=True)
class Instance:
    """An instance as DescribeInstances returns it. ``market``: spot or on-demand. ``reason``: why it does not run, if
    EC2 returns a reason. ``launched``: when it was launched, or started again after a stop."""

    id: str
    state: str
    instance_type: str
    zone: str
    image_id: str
    private_address: str | None
    public_address: str | None
    root_volume_id: str | None
    market: Market
    reason: str = ""
    reason_code: str = ""
    volumes: Mapping[str, str] = field(default_factory=dict)  # ids by device name, with the root volume
    launched: str = ""


# --- launching --------------------------------------------------------------------------------------------------------


def launch(
    ledger: Ledger,
    key: str,
    place: Place,
    spec: LaunchSpec,
    *,
    tags: Mapping[str, str] | None = None,
    warn: Warn = _ignore,
    beside: Callable[[], None] = _nothing,
) -> str:
    """Ensure that the instance of ``key`` was launched. Return its id at once, while it is pending.

    Each combination of market, type and subnet is tried until one has capacity: all spot combinations before the first
    on-demand one. A missing service-linked role ends the spot market. Raises BuilderError, with the error of each
    combination, if none has capacity; and the service's own error if a call is refused for another reason. ``warn``
    gets a text if no spot instance could be launched. A spoiled instance of the key is terminated first. IMDSv2 is
    required. A shutdown inside the instance terminates it, so that an instance can end without goldenami.
    ``beside``: what the instance needs, but not its launch. It runs at the same time, again with each round of tries,
    and its error is raised.

    If a quota of vCPUs has no room and instances of builds run in the place, the launch waits for their end (``room``).
    """
    spoiled = ledger.spoiled_resource(key)
    if spoiled is not None:
        terminate(ledger, place, spoiled.id)
    cloud, before, tries = ledger.cloud, room.Instances(), 0
    changed = cloud.clock()
    with cloud.room.turn(cloud, place) as stand_in_line:
        while True:
            try:
                tell, failed = _ignore if tries else warn, threading.Event()
                first = partial(_or_set, failed, beside)
                return both(first, partial(_launch_somewhere, ledger, key, place, spec, tags, tell, failed))[1]
            except _NoRoom as refused:
                stand_in_line()
                tries += 1
                now = room.of_builds(cloud, place)
                if now != before:
                    changed = cloud.clock()
                if tries == 1 and now:
                    count = f"{len(now)} instance{'s' if len(now) > 1 else ''} of builds"
                    warn(f"the launch waits for vCPUs: {count} in {place} use the quota")
                # The last of them may have ended after the call: then it is worth another try.
                failure = BuilderError(refused.message, hint=refused.hint)
                if now or before or tries == 1:
                    if room.await_change(cloud, place, now, changed):
                        before = now
                        continue
                    cloud.room.give_up(place, failure)
                raise failure from refused


def _or_set(failed: threading.Event, do: Callable[[], None]) -> None:
    """Call a function. Set ``failed`` if it raises."""
    try:
        do()
    except BaseException:
        failed.set()
        raise


_GONE: Final = frozenset({"InvalidSubnetID.NotFound"})  # deleted since it was found: another one may be there


class _NoRoom(BuilderError):
    """No instance could be launched, and for some combinations only because a quota is used up."""


def _launch_somewhere(
    ledger: Ledger,
    key: str,
    place: Place,
    spec: LaunchSpec,
    tags: Mapping[str, str] | None,
    warn: Warn,
    needless: threading.Event,
) -> str:
    """Try each combination once, until ``needless`` is set. Raises as :func:`launch`."""
    refusals: dict[str, list[str]] = {}  # the combinations that were tried, by error message
    error_class: type[BuilderError] = BuilderError
    hint: str | None = None
    closed: Market | None = None
    full: set[tuple[Market, str]] = set()  # a quota is of the region, so other zones do not help
    for market, instance_type, subnet in _choices(spec):
        if needless.is_set():
            break
        if market == closed or (market, instance_type) in full:
            continue
        if market == "on-demand" and refusals and spec.spot and closed != "spot":
            warn(f"no spot instance could be launched, so an on-demand instance is launched: {_listed(refusals)}")
            closed = "spot"
        call = Call("ec2", "RunInstances", _request(spec, market, instance_type, subnet))
        try:
            return ledger.create(key, "instance", place, call, name=spec.name, tags=tags, temporary=True)
        except CloudError as error:
            if error.code not in errors.CAPACITY_CODES | errors.NO_SPOT_CODES | _GONE:
                raise
            if error.code in room.QUOTA_CODES:
                error_class = _NoRoom
                full.add((market, instance_type))
            tried = f"{market} {instance_type} in {subnet.zone or subnet.id}"
            refusals.setdefault(error.message, []).append(tried)
            if error.code in errors.NO_SPOT_CODES:
                closed, hint = market, error.hint
                warn(f"no spot instance can be launched: {error.message}. {error.hint}")
    raise error_class(
        f"no instance could be launched in {place}:\n  {_listed(refusals, separator=chr(10) + '  ')}",
        hint=hint or "Add more instance types to builder.instance_types in the recipe, or try again later.",
    )


def _listed(refusals: Mapping[str, Sequence[str]], separator: str = "; ") -> str:
    return separator.join(f"{', '.join(tried)}: {message}" for message, tried in refusals.items())


def launch_running(
    ledger: Ledger,
    key: str,
    place: Place,
    spec: LaunchSpec,
    *,
    tags: Mapping[str, str] | None = None,
    warn: Warn = _ignore,
    pause: Pause | None = None,
    beside: Callable[[], None] = _nothing,
) -> Instance:
    """Ensure that the instance of ``key`` was launched, and wait until it runs. ``pause``: passes the pauses.
    ``beside``: see ``launch``.

    RunInstances accepts volumes whose key cannot be used: the instance then goes from pending to terminated. A spot
    instance with this fate is replaced by an on-demand instance, because spot instances need the key for another
    principal, the service-linked role. ``warn`` gets a text about it. Raises the errors of ``launch`` and
    ``wait_running``, with a hint that names the key.
    """
    while True:
        instance_id = launch(ledger, key, place, spec, tags=tags, warn=warn, beside=beside)
        try:
            return wait_running(ledger, place, [instance_id], is_new=True, pause=pause)[instance_id]
        except BuilderError as error:
            failed = describe_many(ledger.cloud, place, [instance_id]).get(instance_id)
            if failed is None or failed.reason_code not in _KEY_CODES:
                raise
            if failed.market == "spot":
                warn(
                    f"spot instance {instance_id} did not start, so an on-demand instance is launched: "
                    f"{failed.reason}. {_spot_key_hint(place, spec)}"
                )
                spec = replace(spec, spot=False)
            elif failed.reason_code.startswith("Server."):
                raise  # a failure of EC2: another instance may start
            else:
                raise BuilderError(error.message, hint=_key_hint(spec)) from error


def _spot_key_hint(place: Place, spec: LaunchSpec) -> str:
    """Return how the role of Spot gets a key ("Grant access to customer managed keys for use with encrypted AMIs and
    EBS snapshots", EC2 user guide)."""
    role = f"the role {SPOT_ROLE} of account {place.account}"
    if spec.encrypted_under is None:
        return f"If its volumes are encrypted, {role} needs their key."
    partition = spec.encrypted_under.split(":")[1]
    arn = f"arn:{partition}:iam::{place.account}:role/aws-service-role/spot.amazonaws.com/{SPOT_ROLE}"
    return (
        f"Probably {role} may not use the key {spec.encrypted_under} of its volumes. Create a grant: "
        f"aws kms create-grant --region {place.region} --key-id {spec.encrypted_under} --grantee-principal {arn} "
        f"--operations {' '.join(sorted(CONSUMER_OPERATIONS))}"
    )


def _key_hint(spec: LaunchSpec) -> str:
    what = f"the key {spec.encrypted_under} of its volumes" if spec.encrypted_under else "the key of its volumes"
    return (
        f"Check {what}: it must be enabled, and the role that builds needs kms:CreateGrant, kms:Decrypt, "
        "kms:DescribeKey and kms:GenerateDataKeyWithoutPlaintext on it."
    )


def _choices(spec: LaunchSpec) -> Iterator[tuple[Market, str, Subnet]]:
    markets: tuple[Market, ...] = ("spot", "on-demand") if spec.spot else ("on-demand",)
    return ((m, t, s) for m in markets for t in spec.instance_types for s in spec.subnets)


def request_of(spec: LaunchSpec) -> dict[str, Any]:
    """Return the parameters of RunInstances for the first type and subnet, on demand."""
    return _request(spec, "on-demand", spec.instance_types[0], spec.subnets[0])


def _request(spec: LaunchSpec, market: Market, instance_type: str, subnet: Subnet) -> dict[str, Any]:
    request: dict[str, Any] = {
        "ImageId": spec.image_id,
        "InstanceType": instance_type,
        "MinCount": 1,
        "MaxCount": 1,
        "KeyName": spec.key_name,
        **_placed(spec, subnet),
        "InstanceInitiatedShutdownBehavior": "terminate",
        # One hop by default: programs in a container on the builder must not reach the instance's credentials.
        "MetadataOptions": {
            "HttpEndpoint": "enabled",
            "HttpTokens": "required",
            "HttpPutResponseHopLimit": spec.hop_limit,
        },
    }
    if spec.user_data:
        request["UserData"] = Secret(spec.user_data)
    mappings = _mappings(spec)
    if mappings:
        request["BlockDeviceMappings"] = mappings
    if spec.instance_profile is not None:
        request["IamInstanceProfile"] = (
            {"Arn": spec.instance_profile}
            if spec.instance_profile.startswith("arn:")
            else {"Name": spec.instance_profile}
        )
    if market == "spot":
        options = {"SpotInstanceType": "one-time", "InstanceInterruptionBehavior": "terminate"}
        request["InstanceMarketOptions"] = {"MarketType": "spot", "SpotOptions": options}
        # EC2 refuses the shutdown behaviour for spot instances: they always terminate ("Stop and start a Spot
        # Instance").
        del request["InstanceInitiatedShutdownBehavior"]
        request["TagTypes"] = ["instance", "volume", "network-interface", "spot-instances-request"]
    return request


def _mappings(spec: LaunchSpec) -> list[dict[str, Any]]:
    """Return what replaces attributes of the image's volumes. EC2 keeps the attributes that a mapping does not name."""
    mappings = [_mapping(spec.root_volume)] if spec.root_volume is not None else []
    mappings += [_data_mapping(volume) for volume in spec.volumes]
    named = {m["DeviceName"] for m in mappings}
    kept = [name for name in spec.kept_devices if name not in named]
    mappings += [{"DeviceName": name, "Ebs": {"DeleteOnTermination": True}} for name in kept]
    if spec.volume_key is not None:
        named.update(kept)
        mappings += [{"DeviceName": name, "Ebs": {}} for name in spec.data_devices if name not in named]
        for mapping in mappings:
            mapping["Ebs"] |= {"Encrypted": True, "KmsKeyId": spec.volume_key}
    return mappings


def _placed(spec: LaunchSpec, subnet: Subnet) -> dict[str, Any]:
    """Return the network of an instance. Only a specification of its interface can choose whether it gets a public
    address, and EC2 refuses that together with the parameters for the instance ("RunInstances", EC2 API reference)."""
    groups = [spec.security_group_id, *spec.more_groups]
    if spec.public_address is None:
        return {"SubnetId": subnet.id, "SecurityGroupIds": groups}
    interface = {
        "DeviceIndex": 0,
        "SubnetId": subnet.id,
        "Groups": groups,
        "AssociatePublicIpAddress": spec.public_address,
        "DeleteOnTermination": True,
    }
    return {"NetworkInterfaces": [interface]}


def _data_mapping(volume: DataVolume) -> dict[str, Any]:
    mapping = _mapping(volume)
    if volume.snapshot_id is not None:
        mapping["Ebs"]["SnapshotId"] = volume.snapshot_id
    return mapping


def _mapping(volume: RootVolume | DataVolume) -> dict[str, Any]:
    ebs: dict[str, Any] = {"VolumeType": volume.type, "DeleteOnTermination": True}
    if volume.size_gib is not None:
        ebs["VolumeSize"] = volume.size_gib
    if volume.iops is not None:
        ebs["Iops"] = volume.iops
    if volume.throughput is not None:
        ebs["Throughput"] = volume.throughput
    return {"DeviceName": volume.device_name, "Ebs": ebs}


# --- waiting and reading ----------------------------------------------------------------------------------------------


def wait_running(
    ledger: Ledger,
    place: Place,
    ids: Collection[str],
    *,
    on_progress: OnProgress | None = None,
    timeout: float | None = 600.0,
    interval: Interval = waiters.STANDARD,
    is_new: bool = False,
    pause: Pause | None = None,
) -> dict[str, Instance]:
    """Wait until every instance runs. Instances that do not start are marked as spoiled, so that the next ``launch`` of
    their keys launches new ones. ``is_new``: see ``waiters.Watch``. ``pause``: passes the pauses.

    Raises BuilderError, with EC2's reason, for the first that does not start; HostLost if EC2 caused the failure and
    another instance may start.
    """
    watch = waiters.Watch(
        ledger.cloud,
        place,
        waiters.RUNNING,
        ids,
        on_progress=on_progress,
        timeout=timeout,
        interval=interval,
        is_new=is_new,
    )

    def sleep(seconds: float) -> None:
        if pause is None:
            ledger.cloud.sleep(seconds)
        elif pause(seconds, watch.seen):
            for id in ids:
                watch.take_for_ready(id)

    seen = watch.until_ready(sleep=sleep)
    failed = [one for one in seen.values() if not one.ok]
    for one in failed:
        ledger.spoil("instance", place, one.id, one.reason or "it did not start in time")
    if failed:
        first = failed[0]
        error = waiters.failure(first, "instance", place)
        code, text = _reason(first.item)
        if code.startswith("Server.") and first.state not in ("pending", "running"):
            raise HostLost(error.message, instance_id=first.id, reason=text or code, reclaimed=code in RECLAIMED_CODES)
        hint = "Try again, or write other instance types into builder.instance_types in the recipe."
        raise BuilderError(error.message, hint=hint)
    return {id: of_item(one.item) for id, one in seen.items()}


def describe_many(cloud: Cloud, place: Place, ids: Collection[str]) -> dict[str, Instance]:
    """Return the instances of ``ids`` that are visible. One call for up to 200 ids. Terminated instances stay visible
    for about an hour."""
    found = waiters.describe(cloud, place, waiters.RUNNING, ids) if ids else {}
    return {id: of_item(item) for id, item in found.items()}


def find(ledger: Ledger, place: Place, instance_id: str) -> Instance | None:
    """Return an instance, or None if EC2 omits it for as long as a describe may omit an existing instance."""
    return ledger.cloud.look(lambda: describe_many(ledger.cloud, place, [instance_id]).get(instance_id))


def address(instance: Instance, network: Network) -> str:
    """Return the address to connect to. Raises BuilderError if the instance has no address of the required kind."""
    choice = {
        "auto": instance.public_address or instance.private_address,
        "public": instance.public_address,
        "private": instance.private_address,
    }[network.address]
    if not choice:
        kind = "address" if network.address == "auto" else f"{network.address} address"
        raise BuilderError(
            f"instance {instance.id} has no {kind}",
            hint="Set `network` in goldenami.yaml to a subnet with public addresses, or set `network.address: private` "
            "if this machine has a route to the subnet.",
        )
    return choice


def has_store(cloud: Cloud, place: Place, instance_type: str) -> bool:
    """Return whether instances of a type have an instance store. DescribeInstances does not list its volumes."""
    answer = cloud.call(place, "ec2", "DescribeInstanceTypes", {"InstanceTypes": [instance_type]})
    return any(t.get("InstanceStorageSupported") for t in answer.get("InstanceTypes") or ())


def is_stop_protected(cloud: Cloud, place: Place, instance_id: str) -> bool:
    """Return whether StopInstances is refused for an instance (disableApiStop)."""
    request = {"InstanceId": instance_id, "Attribute": "disableApiStop"}
    answer = cloud.call(place, "ec2", "DescribeInstanceAttribute", request)
    return bool((answer.get("DisableApiStop") or {}).get("Value"))


def console_output(cloud: Cloud, place: Place, instance_id: str) -> str:
    """Return the console output of an instance, for diagnosis; empty if there is none or the call fails."""
    try:
        answer = cloud.call(place, "ec2", "GetConsoleOutput", {"InstanceId": instance_id})
    except CloudError:
        return ""
    text = answer.get("Output") or ""
    # botocore decodes base64, unless the endpoint sent plain text.
    if isinstance(text, bytes):
        text = base64.b64decode(text)
    return str(text)


def of_item(item: Item) -> Instance:
    """Return an instance from its entry in the answer of DescribeInstances."""
    root = item.get("RootDeviceName")
    mappings: Sequence[Any] = item.get("BlockDeviceMappings") or ()
    volumes = {m.get("DeviceName"): m.get("Ebs", {}).get("VolumeId") for m in mappings}
    return Instance(
        id=item["InstanceId"],
        state=waiters.state_of(item),
        instance_type=item.get("InstanceType", ""),
        zone=(item.get("Placement") or {}).get("AvailabilityZone", ""),
        image_id=item.get("ImageId", ""),
        private_address=item.get("PrivateIpAddress") or None,
        public_address=item.get("PublicIpAddress") or None,
        root_volume_id=volumes.get(root),
        volumes={str(name): str(id) for name, id in volumes.items() if id},
        market="spot" if item.get("InstanceLifecycle") == "spot" else "on-demand",
        reason=_reason(item)[1],
        reason_code=_reason(item)[0],
        launched=str(item.get("LaunchTime") or ""),
    )


def _reason(item: Item) -> tuple[str, str]:
    """Return code and message of the last change of state (EC2 API reference: StateReason)."""
    found = item.get("StateReason") or {}
    return str(found.get("Code") or ""), str(found.get("Message") or item.get("StateTransitionReason") or "")


def stop(ledger: Ledger, key: str, place: Place, instance_id: str, *, timeout: float | None = 600.0) -> None:
    """Ensure that an instance was shut down, and wait until it is stopped. Not for one-time spot instances.

    ``timeout``: seconds. Raises BuilderError if the instance terminates, or is not stopped in time.
    """
    call = Call("ec2", "StopInstances", {"InstanceIds": [instance_id]})
    ledger.change(key, place, call, resource=instance_id, kind="instance-stop")
    seen = waiters.Watch(ledger.cloud, place, waiters.STOPPED, [instance_id], timeout=timeout).until_ready()[
        instance_id
    ]
    if not seen.ok:
        raise BuilderError(waiters.failure(seen, "instance", place).message)


def start(ledger: Ledger, key: str, place: Place, instance_id: str, *, timeout: float | None = 600.0) -> Instance:
    """Ensure that a stopped instance was started, and wait until its state is "running". Raises BuilderError, with
    EC2's reason, if it does not start. If the key of a volume cannot be used, its state becomes "stopped" again."""
    call = Call("ec2", "StartInstances", {"InstanceIds": [instance_id]})
    ledger.change(key, place, call, resource=instance_id, kind="instance-start")
    seen = waiters.Watch(ledger.cloud, place, waiters.RUNNING, [instance_id], timeout=timeout).until_ready()[
        instance_id
    ]
    if not seen.ok:
        raise BuilderError(waiters.failure(seen, "instance", place).message)
    return of_item(seen.item)


# --- ending -----------------------------------------------------------------------------------------------------------


def terminate(ledger: Ledger, place: Place, instance_id: str) -> None:
    """Ensure that an instance is being terminated, without waiting. Its volumes are deleted
    too (DeleteOnTermination)."""
    ledger.delete("instance", place, instance_id)


def wait_terminated(
    cloud: Cloud,
    place: Place,
    ids: Collection[str],
    *,
    timeout: float | None = 900.0,
    interval: Interval = waiters.STANDARD,
) -> None:
    """Wait until instances are terminated, so that their security group can be deleted. Raises CloudError after
    ``timeout`` seconds."""
    seen = waiters.Watch(cloud, place, waiters.TERMINATED, ids, timeout=timeout, interval=interval).until_ready()
    for one in seen.values():
        if not one.ok:
            raise waiters.failure(one, "instance", place)
