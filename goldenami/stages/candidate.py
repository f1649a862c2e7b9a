"""Makes candidates from base images: launches, prepares and captures a builder."""

from __future__ import annotations

from contextlib import ExitStack
from functools import partial
from typing import Final

from goldenami.aws import images, instances, waiters
from goldenami.aws.instances import DataVolume, RootVolume
from goldenami.aws.ledger import NOT_MADE
from goldenami.each import both
from goldenami.errors import BuilderError, CloudError
from goldenami.model import Architecture
from goldenami.nextstep import step
from goldenami.planning import boot_mode_override, kept_devices
from goldenami.release.order import ReleaseOrder
from goldenami.stages import hosts
from goldenami.stages.build import BuildContext, Candidate, Host, Prepared
from goldenami.stages.replacing import on_a_host

# Codes of CreateImage that are about the state of the builder, and all that may mean that it is gone.
_WRONG_STATE: Final = ("IncorrectInstanceState", "IncorrectState")
_NOT_THERE: Final = (*_WRONG_STATE, "InvalidInstanceID.NotFound", "InvalidParameterValue", "UnsupportedOperation")


def make(
    build: BuildContext, order: ReleaseOrder, architecture: Architecture, prepared: Prepared | None = None
) -> Candidate:
    """Make the candidate of one architecture, and terminate its builder. A second call adopts what the first one made.

    A captured image is not captured again. ``prepared``: what :func:`ready` returned, if it was called before.
    """
    prepared = prepared or ready(build, architecture)
    return Candidate(prepared, capture(build, order, prepared))


def ready(build: BuildContext, architecture: Architecture) -> Prepared:
    """Prepare the builder of one architecture. A sealed builder is used again. One that was not sealed is replaced,
    because its state is unknown."""
    prepared = already_prepared(build, architecture)
    if prepared is None:
        prepared = prepare(build, architecture)
        build.journal.stage_done(f"prepared/{architecture}", **prepared.to_json())
    else:
        build.note(f"continuing with the {architecture} builder or image that was finished already")
    return prepared


def already_prepared(build: BuildContext, architecture: Architecture) -> Prepared | None:
    """Return the builder that an earlier run prepared, if it or its image still exists; otherwise None. One that was
    started again is not sealed any more."""
    done = build.journal.stage(f"prepared/{architecture}")
    if done is None:
        return None
    prepared = Prepared.from_json(architecture, done)
    _resolve_capture(build, architecture)
    if build.ledger.existing(image_key(architecture)) is not None:
        return prepared
    was_captured = _was_captured(build, architecture, prepared.instance_id)
    if not was_captured and build.ledger.existing(hosts.key_of("builder", architecture)) == prepared.instance_id:
        found = instances.find(build.ledger, build.home, prepared.instance_id)
        if found is not None and found.state in ("running", "stopping", "stopped"):
            # Journals of older versions do not say when it was started.
            if found.launched == prepared.launched or not (prepared.launched or prepared.frozen):
                return prepared
            why = "was stopped and started" if prepared.launched else "may have been stopped and started"
            build.note(f"builder {prepared.instance_id} {why}, so it is replaced", "warning")
    build.journal.stage_undone(f"prepared/{architecture}")
    return None


def _resolve_capture(build: BuildContext, architecture: Architecture) -> None:
    """Look up a capture of unknown outcome. If it is not found, it is not sent again to the same builder."""
    latest = build.journal.latest(image_key(architecture))
    if latest is not None and latest[1] is None:
        build.ledger.resolve(latest[0])


def _was_captured(build: BuildContext, architecture: Architecture, instance_id: str) -> bool:
    """Return whether EC2 captured a builder, or may have done so. EC2 starts a captured builder again if it is not
    frozen, so that it is not sealed any more: without its image, another builder is needed. An image that is not found
    may have been deleted."""
    journal = build.journal
    captures = [i for i in journal.intents(image_key(architecture)) if i.request.get("InstanceId") == instance_id]
    return any(journal.refusal(intent.token) in (None, NOT_MADE) for intent in captures)


def prepare(build: BuildContext, architecture: Architecture) -> Prepared:
    """Launch a builder, and provision, test and seal it. A lost builder is replaced by a new one."""

    def once(spot: bool) -> Prepared:
        with ExitStack() as at_end:
            host = launch(spot, at_end)
            return build.host_work.prepare(build, architecture, host)

    def get_ready() -> None:
        build.is_launching.set()
        build.host_work.get_ready(build, architecture)

    def launch(spot: bool, at_end: ExitStack) -> Host:
        with build.stage("launch", architecture):
            base, volume = build.plan.facts.base[architecture], root_volume(build, architecture)
            choice = build.plan.facts.volume_keys.get(architecture)
            host = hosts.launch(
                build,
                architecture,
                "builder",
                base.image_id,
                volume,
                volume_key=choice.key if choice is not None else None,
                data_devices=tuple(d.device_name for d in base.devices if d.device_name != base.root_device_name),
                volumes=data_volumes(build),
                kept_devices=kept_devices(build.recipe, base),
                spot=spot,
                meanwhile=get_ready,
            )
            if host.connection is not None:
                at_end.callback(host.connection.close)  # whatever happens before the work uses it
            return host

    return on_a_host(build, architecture, "builder", once)


def capture(build: BuildContext, order: ReleaseOrder, prepared: Prepared) -> str:
    """Create the image of a builder, and terminate the builder when the image is available. Returns the image's id.

    A frozen builder is captured as it is, at any moment: it stays frozen until it is terminated. Otherwise EC2 shuts
    the builder down while it takes the snapshots, so that its file systems are consistent: a stop before that would
    only be waited for. One-time spot instances cannot be stopped anyway. If the order says that the candidate is the
    image of the home region, it gets the name, description and tags of the release.
    """
    architecture, instance_id = prepared.architecture, prepared.instance_id
    with build.stage("capture", architecture):
        is_new = build.ledger.existing(image_key(architecture)) is None
        create = partial(
            images.create,
            build.ledger,
            image_key(architecture),
            build.home,
            instance_id=instance_id,
            name=order.image_name(architecture) if order.captured else _temporary_name(build, architecture),
            description=order.description if order.captured else f"candidate for {build.label}; not released",
            tags=order.image_tags if order.captured else None,
            no_reboot=prepared.frozen,
            boot_mode=boot_mode_override(build.recipe, build.plan.facts.base[architecture]),
            kept_devices=kept_devices(build.recipe, build.plan.facts.base[architecture]),
            temporary=True,
        )
        try:
            image_id = create()
        except CloudError as refusal:
            if refusal.code not in _NOT_THERE or not _runs_now(build, instance_id, refusal.code):
                raise
            image_id = create()
        seen = images.wait(build.ledger, build.home, [image_id], is_new=is_new)[image_id]
        if not seen.ok:
            error = waiters.failure(seen, "image", build.home)
            if seen.state == "missing":
                again, clean = step("resume", build.journal.build_id), step("clean", build.journal.build_id)
                error.hint = (
                    f"Somebody deleted it. {again} makes another one with a new builder, and all copies again. "
                    f"{clean} deletes the other resources of the build."
                )
            raise error
        imds_missing = build.recipe.image.imds == "v2" and seen.item.get("ImdsSupport") != "v2.0"

        def require_imds() -> None:
            if imds_missing:  # copies inherit it, so one call does it for all targets
                images.require_imds_v2(build.ledger, f"imds/{architecture}/candidate", build.home, image_id)

        def end_builder() -> None:
            build.ledger.delete_key(hosts.key_of("builder", architecture))

        both(require_imds, end_builder)
    return image_id


def _temporary_name(build: BuildContext, architecture: Architecture) -> str:
    return f"{build.recipe.name}-{build.version}-{architecture}-candidate-{build.journal.build_id}"


def _runs_now(build: BuildContext, instance_id: str, code: str) -> bool:
    """Return whether EC2 reports only now, maybe after a wait, that the builder runs. A login proved it before.
    ``code``: of the refusal. Raises BuilderError if it does not exist any more."""
    instance = instances.find(build.ledger, build.home, instance_id)
    if instance is not None and instance.state == "pending":
        instances.wait_running(build.ledger, build.home, [instance_id])
        return True
    if instance is None or instance.state not in ("running", "stopping", "stopped"):
        state = instance.state if instance else "deleted"
        raise BuilderError(
            f"builder {instance_id} is {state} before its capture, expected running or stopped",
            hint=f"Look in CloudTrail for the account that stopped it. {step('resume')} launches a new builder.",
        )
    # It was pending at the refusal, and is described as running since.
    return instance.state == "running" and code in _WRONG_STATE


def image_key(architecture: Architecture) -> str:
    """Return the key of a candidate in the ledger."""
    return f"candidate/{architecture}"


def root_volume(build: BuildContext, architecture: Architecture) -> RootVolume:
    """Return the root volume of the builder. The image gets the same root volume."""
    base, wanted = build.plan.facts.base[architecture], build.recipe.image.root_volume
    size = wanted.size_gib or base.root_volume_gib
    return RootVolume(base.root_device_name, size, wanted.type, wanted.iops, wanted.throughput)


def data_volumes(build: BuildContext) -> tuple[DataVolume, ...]:
    """Return the data volumes that the recipe gives the builder. The image gets a snapshot of each."""
    return tuple(
        DataVolume(one.device, one.size_gib, one.type, one.iops, one.throughput, one.snapshot)
        for one in build.recipe.image.volumes
    )
