"""Records the state of a guest in its instance."""

from __future__ import annotations

from goldenami_sandbox.ec2.core import Ec2Cloud
from goldenami_sandbox.ec2.records import Instance, Progress


def attach_data_volumes(cloud: Ec2Cloud, instance: Instance) -> None:
    """Attach the data volumes to the running guest, and record all volumes as attached."""
    with cloud.lock:
        attachments = [(v.id, v.attachment) for v in cloud.volumes_of(instance) if v.attachment]
    for volume_id, attachment in attachments:
        if attachment.device != instance.root_device_name:
            cloud.node.attach(instance.id, volume_id, attachment.device)
        with cloud.lock:
            attachment.progress.succeed()


def record_running(cloud: Ec2Cloud, instance: Instance, transition: Progress) -> None:
    """Record that the guest runs. Called with the lock held.

    ``transition`` is the one in which it was started; a later one may have begun since.
    """
    transition.succeed()
    instance.status_ok_from = max(cloud.now(), transition.until) + cloud.settings.pending.status


def record_failure(instance: Instance, transition: Progress, code: str, message: str) -> None:
    transition.fail(message, code)
    instance.reason_code, instance.reason_message = code, f"{code}: {message or 'Client error on launch'}"
    instance.reason = instance.reason_message
