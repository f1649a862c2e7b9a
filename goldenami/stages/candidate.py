"""From a base image to a candidate: launch, prepare, stop, capture."""

from __future__ import annotations

from goldenami.aws import images, instances, waiters
from goldenami.aws.instances import RootVolume
from goldenami.errors import BuilderError
from goldenami.model import Architecture
from goldenami.stages import hosts
from goldenami.stages.build import BuildContext, Candidate, Prepared
from goldenami.stages.replacing import on_a_host


def make(build: BuildContext, architecture: Architecture) -> Candidate:
    """Ensure that there is a candidate: captured, available, its builder on the way out.

    A captured image is never made again. A builder that was sealed is captured; one that was not is replaced, since
    nobody knows in the middle of what it stopped.
    """
    prepared = already_prepared(build, architecture)
    if prepared is None:
        prepared = prepare(build, architecture)
        build.journal.stage_done(f"prepared/{architecture}", **prepared.to_json())
    else:
        build.note(f"continuing with the {architecture} builder or image that was finished already")
    return Candidate(prepared, capture(build, prepared))


def already_prepared(build: BuildContext, architecture: Architecture) -> Prepared | None:
    """What an earlier run prepared, if its image or its builder still exists."""
    done = build.journal.stage(f"prepared/{architecture}")
    if done is None:
        return None
    prepared = Prepared.from_json(architecture, done)
    if build.ledger.existing(image_key(architecture)) is not None:
        return prepared
    if build.ledger.existing(hosts.key_of("builder", architecture)) == prepared.instance_id:
        found = instances.describe_many(build.cloud, build.home, [prepared.instance_id])
        if prepared.instance_id in found and found[prepared.instance_id].state in ("running", "stopping", "stopped"):
            return prepared
    build.journal.stage_undone(f"prepared/{architecture}")
    return None


def prepare(build: BuildContext, architecture: Architecture) -> Prepared:
    """A new builder, provisioned, tested and sealed; another one where that is lost."""

    def once(spot: bool) -> Prepared:
        with build.stage("launch", architecture):
            base, volume = build.plan.facts.base[architecture], root_volume(build, architecture)
            host = hosts.launch(build, architecture, "builder", base.image_id, volume, spot=spot)
        return build.host_work.prepare(build, architecture, host)

    return on_a_host(build, architecture, "builder", once)


def capture(build: BuildContext, prepared: Prepared) -> str:
    """Stop the builder, make the image, wait for it, and terminate the builder the moment it is available."""
    architecture, instance_id = prepared.architecture, prepared.instance_id
    with build.stage("capture", architecture):
        if build.ledger.existing(image_key(architecture)) is None:
            stop(build, instance_id)
        image_id = images.create(
            build.ledger,
            image_key(architecture),
            build.home,
            instance_id=instance_id,
            name=f"{build.recipe.name}-{build.version}-{architecture}-candidate-{build.journal.build_id}",
            description=f"candidate for {build.label}; not released",
            boot_mode=build.recipe.image.boot_mode,
            temporary=True,
        )
        seen = images.wait(build.ledger, build.home, [image_id])[image_id]
        if not seen.ok:
            raise waiters.failure(seen, "image", build.home)
        build.ledger.delete_key(hosts.key_of("builder", architecture))
    return image_id


def stop(build: BuildContext, instance_id: str) -> None:
    """A stopped root volume is captured clean. Spot instances of the one-time kind cannot be stopped; CreateImage shuts
    those down itself for as long as it copies."""
    found = instances.describe_many(build.cloud, build.home, [instance_id])
    instance = found.get(instance_id)
    if instance is None or instance.state not in ("running", "stopping", "stopped"):
        state = instance.state if instance else "gone"
        raise BuilderError(f"builder {instance_id} is {state} before it was captured")
    if instance.market == "on-demand":
        instances.stop(build.ledger, f"stop/{instance_id}", build.home, instance_id)


def image_key(architecture: Architecture) -> str:
    """The candidate's key in the ledger."""
    return f"candidate/{architecture}"


def root_volume(build: BuildContext, architecture: Architecture) -> RootVolume:
    """The builder's root volume, which becomes the image's."""
    base, wanted = build.plan.facts.base[architecture], build.recipe.image.root_volume
    size = wanted.size_gib or base.root_volume_gib
    return RootVolume(base.root_device_name, size, wanted.type, wanted.iops, wanted.throughput)
