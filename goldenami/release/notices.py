"""The notifications of the commands that move channels and change releases (see ``notify``)."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Any, Final

from goldenami.model import ImageManifest, timestamp
from goldenami.nextstep import command
from goldenami.notify import delivery as notify
from goldenami.notify.kinds import What
from goldenami.release.retention import RetentionDecision
from goldenami.task import Task

_FATES: Final = {"deprecate": "deprecated", "disable": "disabled", "delete": "deleted"}


def _due(job: Task, what: What, title: str, manifest: ImageManifest, **fields: Any) -> None:
    notify.due(
        job,
        notify.make(
            what,
            id=notify.id_of(job.id, what, manifest.label),
            title=title,
            time=timestamp(job.cloud.now()),
            environment=job.environment.name,
            manifest=manifest,
            task=job.id,
            **{"command": command("history", manifest.recipe), **fields},
        ),
    )


def moved(job: Task, manifest: ImageManifest, channel: str, before: str | None, caller: str) -> None:
    """Record that a task moved a channel."""
    back = job.kind == "rollback"
    _due(
        job,
        "rollback" if back else "promotion",
        f"{manifest.recipe}@{channel} {'was rolled back' if back else 'points'} to {manifest.version}",
        manifest,
        channels=(notify.channel(channel, before, manifest.version),),
        by=caller,
        reason=job.arguments["reason"],
        command=command("history", f"{manifest.recipe}@{channel}"),
    )


def revoked(
    job: Task,
    manifests: Iterable[ImageManifest],
    channels: Mapping[str, str | None],
    caller: str,
    left: Mapping[str, str],
) -> None:
    """Record that releases were revoked. ``channels``: NAME@CHANNEL -> the version that it points to now."""
    for manifest in manifests:
        own = [
            (name.partition("@")[2], to) for name, to in channels.items() if name.partition("@")[0] == manifest.recipe
        ]
        _due(
            job,
            "revocation",
            f"{manifest.label} was revoked",
            manifest,
            channels=tuple(notify.channel(name, manifest.version, to) for name, to in own),
            by=caller,
            reason=job.arguments["reason"],
            error="; ".join(f"{what}: {why}" for what, why in left.items()) or None,
        )


def restored(job: Task, manifest: ImageManifest, caller: str) -> None:
    """Record that the revocation of a release ended."""
    title, reason = f"The revocation of {manifest.label} ended", job.arguments["reason"]
    _due(job, "restoration", title, manifest, by=caller, reason=reason)


def retired(job: Task, decisions: Iterable[RetentionDecision], failed: Collection[str]) -> None:
    """Record which releases are deprecated now. ``failed``: labels of releases that were left."""
    for decision in decisions:
        manifest = decision.release.manifest
        if decision.fate != "keep" and manifest.label not in failed:
            done = _FATES[decision.fate]
            title = (
                f"{manifest.label} is {done}" if decision.fate == "deprecate" else f"{manifest.label} is being {done}"
            )
            _due(job, "deprecation", title, manifest, reason=decision.rule)
