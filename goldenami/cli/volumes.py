"""The commands of ``goldenami volume``: encrypt volumes of an instance; list and delete the kept old volumes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from goldenami.cli import places
from goldenami.cli.context import print_json, print_table
from goldenami.cli.options import (
    Where,
    address_option,
    dry_run_option,
    everywhere_option,
    instance_argument,
    place_options,
    yes_option,
)
from goldenami.cli.tasks import (
    confirm,
    confirm_address,
    environment_key,
    open_place,
    open_places,
    run_task,
    told_address,
)
from goldenami.errors import UsageError
from goldenami.nextstep import command

if TYPE_CHECKING:
    from goldenami.aws.volumes import Volume
    from goldenami.model import Place
    from goldenami.snapshots.encrypt import Encrypted, Verify


@click.group()
def volume() -> None:
    """Encrypt volumes of instances; list and delete the old volumes that were kept."""


@volume.command()
@instance_argument
@click.option(
    "--device",
    "devices",
    metavar="DEVICE",
    multiple=True,
    help="Encrypt the volume at this device. Default: the root volume.",
)
@click.option("--all", "every", is_flag=True, help="Encrypt all volumes of the instance.")
@click.option("--kms-key", metavar="KEY", help="Key: an alias or an id. Default: the environment's key for the region.")
@click.option(
    "--verify",
    type=click.Choice(["changed", "all", "sample", "none"]),
    default="changed",
    show_default=True,
    help="Blocks of the encrypted copy that are read and compared with the source during the stop: those that changed "
    "since a first copy was compared, all, a sample of 1000, or none.",
)
@click.option(
    "--replace-root",
    is_flag=True,
    help="Replace the root volume of a running instance with a reboot instead of a stop. Writes after the snapshot are "
    "only on the old volume.",
)
@dry_run_option
@address_option
@yes_option
@place_options
def encrypt(
    reference: str,
    devices: tuple[str, ...],
    every: bool,
    kms_key: str | None,
    verify: Verify,
    replace_root: bool,
    dry_run: bool,
    new_public_address: bool,
    yes: bool,
    where: Where,
    as_json: bool,
) -> None:
    """Encrypt the volumes of an instance with their contents.

    A snapshot of each volume is taken while the instance runs, copied under the key, and compared block by block (EBS
    direct APIs). Then the instance is stopped, and the same is done for what changed since. A volume from the second
    copy replaces the old one, and the instance is started again. If a step fails, the old volumes are attached again.
    The old volumes are kept until `goldenami volume forget`. The command asks first. Without a terminal, --yes is
    required. Members of Auto Scaling groups and instances with an instance store are refused, because a stop would
    destroy them or their data.

    Example: goldenami volume encrypt web-1 --all
    """
    from goldenami.aws import kms, volumes
    from goldenami.snapshots import encrypt as encrypting
    from goldenami.snapshots import exchange, interruption, names
    from goldenami.snapshots.replace_root import replace_root as replace

    if every and devices:
        raise UsageError("expected one of --all and --device, found both", hint="Omit one of them.")
    if replace_root and (every or devices):
        raise UsageError(
            f"--replace-root: found {'--all' if every else '--device'}, expected neither --all nor --device",
            hint="Encrypt the root volume with --replace-root, and the data volumes in a second call with --device.",
        )
    environment, place, cloud = open_place(where)
    instance = names.instance(cloud, place, reference)
    id, root = instance["InstanceId"], instance["RootDeviceName"]
    key = kms.resolve(cloud, place, kms_key or environment_key(environment, place)).arn
    attached = volumes.of_instance(cloud, place, id)
    chosen, skipped = encrypting.choose(attached, root, devices, every=every, kms_key=key)
    for device, why in skipped.items():
        click.echo(f"{device}: {why}", err=True)
    results: list[Encrypted] = []
    task_id: str | None = None
    if chosen:
        exchange.check(cloud, place, instance, chosen, replaces_root=replace_root)
        listed = ", ".join(f"{v.id} ({v.device})" for v in chosen)
        running = instance["State"]["Name"] == "running"
        downtime = "be rebooted" if replace_root else "be stopped for several minutes" if running else "stay stopped"
        told = f"{id} will {downtime}. Encrypted volumes will replace {listed}."
        address = None if replace_root else interruption.changing_address(instance)
        if dry_run:
            click.echo(told, err=as_json)
            if address is not None:
                click.echo(told_address(id, address), err=as_json)
        else:
            confirm(f"{told} Continue?", yes)
    if dry_run:
        if as_json:
            planned = [{"device": str(v.device), "old": v.id, "size_gib": v.size_gib} for v in chosen]
            print_json({**_encrypted(id, key), "task": None, "plan": planned, "skipped": skipped})
        return
    if chosen:
        confirm_address(id, address, new_public_address)
        arguments: dict[str, Any] = {"instance": id, "volumes": [v.id for v in chosen], "kms_key": key}
        with run_task(cloud, environment, "volume encrypt", arguments, undo=exchange.put_back) as job:
            task_id = job.id
            if replace_root:
                results = [replace(job, place, instance, chosen[0], kms_key=key, verify=verify)]
            else:
                results = encrypting.encrypt(job, place, instance, chosen, kms_key=key, verify=verify)
    if as_json:
        rows = [asdict(r) for r in results]
        verified = "ebs-direct" if verify != "none" else None
        about = {"task": task_id, "verified_by": verified}
        print_json({**_encrypted(id, key), **about, "volumes": rows, "skipped": skipped})
        return
    for result in results:
        read = f"{result.compared} of {result.blocks} blocks compared" if verify != "none" else "not compared"
        click.echo(f"{result.device}  {result.new} encrypted, {read}; {result.old} is kept")
    if results:
        click.echo(f"To delete the kept volumes: {command('volume forget', id)}", err=True)


def _encrypted(instance: str, kms_key: str) -> dict[str, Any]:
    return {"schema": "goldenami.encrypted/1", "instance": instance, "kms_key": kms_key}


@volume.command("kept")
@click.option("--instance", metavar="INSTANCE", help="Only volumes that were attached to this instance.")
@everywhere_option
@place_options
def kept_volumes(instance: str | None, everywhere: bool, where: Where, as_json: bool) -> int:
    """List old volumes that `volume encrypt` or `snapshot restore` replaced and kept.

    The exit code is 6 if an account or region did not answer.
    """
    from goldenami.snapshots import kept

    _, at, cloud = open_places(where, everywhere=everywhere)

    def kept_at(place: Place) -> list[Volume]:
        return kept.kept(cloud, place, kept.instance_id(cloud, place, instance) if instance is not None else None)

    found, unreachable = places.ask(at, kept_at)
    _print(found, as_json, unreachable=unreachable)
    places.tell(unreachable)
    return places.exit_code(unreachable)


def _print(
    found: Mapping[Place, Sequence[Volume]],
    as_json: bool,
    task_id: str | None = None,
    unreachable: Mapping[Place, str] | None = None,
) -> None:
    from goldenami.snapshots import kept

    rows = [
        {
            "account": place.account,
            "region": place.region,
            "id": v.id,
            "instance": kept.origin(v)[0],
            "device": kept.origin(v)[1],
            "size_gib": v.size_gib,
            "encrypted": v.encrypted,
            "name": kept.name_before(v),
        }
        for place, volumes in found.items()
        for v in volumes
    ]
    if as_json:
        document: dict[str, Any] = {"schema": "goldenami.kept/1", "volumes": rows}
        if task_id is not None:
            document["task"] = task_id
        if unreachable is not None:
            document["unreachable"] = places.to_json(unreachable)
        print_json(document)
        return
    if rows:
        columns = {"id": "VOLUME", "instance": "WAS OF", "device": "AT", "size_gib": "GIB"}
        if len(found) > 1:
            columns = {"account": "ACCOUNT", "region": "REGION", **columns}
        print_table(list(columns.values()), [[str(r[c]) if r[c] != "" else "-" for c in columns] for r in rows])


@volume.command()
@click.argument("references", metavar="VOLUME|INSTANCE...", nargs=-1, required=True)
@dry_run_option
@yes_option
@place_options
def forget(references: tuple[str, ...], dry_run: bool, yes: bool, where: Where, as_json: bool) -> None:
    """Delete kept volumes: single ones, or all that were attached to an instance, by their ids or Name tags.

    The command asks first. Without a terminal, --yes is required.
    """
    from goldenami.snapshots import kept

    environment, place, cloud = open_place(where)
    chosen = kept.choose(cloud, place, references)
    if dry_run:
        _print({place: chosen}, as_json)
        return
    confirm(f"Delete {', '.join(v.id for v in chosen)}?", yes)
    with run_task(cloud, environment, "volume forget", {"volumes": [v.id for v in chosen]}) as job:
        kept.forget(job, place, chosen)
    _print({place: chosen}, as_json, job.id)
