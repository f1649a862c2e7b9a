"""The notifications of a build: a release, a failure, waivers that end soon (see ``notify``)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime

from goldenami import task
from goldenami.errors import Busy, GoldenAmiError, UsageError
from goldenami.events import mask
from goldenami.hardening import WAIVER_ENDS_SOON
from goldenami.model import Environment, ImageManifest, timestamp
from goldenami.nextstep import command
from goldenami.notify import delivery as notify
from goldenami.notify.document import EventDocument, EventWaiver
from goldenami.recipe import Recipe
from goldenami.release.catalog import Catalog
from goldenami.stages import opening
from goldenami.stages.build import BuildContext
from goldenami.stages.tools import Tools

PUBLISHED = "published"  # a stage of the journal: what fails afterwards is no failure of the release
ALONE = "notify"  # the kind of a task that only sends


def released(build: BuildContext, catalog: Catalog, manifest: ImageManifest) -> None:
    """Record that a build made a release and moved its channel."""
    if not build.environment.notify:
        return
    build.journal.stage_done(PUBLISHED)
    channel = build.journal.header.data["channel"]
    pointer = catalog.channel(manifest.recipe, channel) if channel is not None else None
    moves = [move.version for move in pointer.history] if pointer is not None else []
    before = moves[-2] if len(moves) > 1 and moves[-1] == manifest.version else None
    deprecated = opening.deprecation(build.recipe, build.journal.header.created)
    into = f" into {channel}" if channel is not None else ""
    notify.due(
        build,
        notify.make(
            "release",
            id=notify.id_of(build.journal.build_id, "release"),
            title=f"{manifest.label} was released{into}",
            time=timestamp(build.cloud.now()),
            environment=build.environment.name,
            manifest=manifest,
            channels=(notify.channel(channel, before, manifest.version),) if channel is not None else (),
            by=build.plan.facts.caller_arn or None,
            build=build.journal.build_id,
            deprecated=timestamp(deprecated) if deprecated is not None else None,
            command=command("images", "show", manifest.label.replace(" ", "@")),
        ),
    )


def failed(build: BuildContext, error: BaseException | None) -> None:
    """Send that a build failed, after its clean-up. ``error`` None: it was interrupted, and time is short.

    If its release was published already, only what is due is sent. Raises no GoldenAmiError.
    """
    interrupted = error is None
    with suppress(GoldenAmiError):  # the error of the build may be that the journal cannot be written
        if build.journal.stage(PUBLISHED) is None:
            notify.due(build, _failure(build, error))
        notify.deliver(build, seconds=notify.AT_INTERRUPT if interrupted else notify.LONGEST)


def _failure(build: BuildContext, error: BaseException | None) -> EventDocument:
    id, name = build.journal.build_id, build.recipe.name
    channel = build.journal.header.data.get("channel")
    return notify.make(
        "failure",
        id=notify.id_of(id, "failure", notify.number_of(build.journal)),
        title=f"The build of {build.label} {'was interrupted' if error is None else 'failed'}",
        time=timestamp(build.cloud.now()),
        environment=build.environment.name,
        name=name,
        version=build.version,
        channels=(notify.channel(channel),) if channel is not None else (),
        by=build.plan.facts.caller_arn or None,
        error=mask(notify.reason_of(error), tuple(build.secrets.values())),
        build=id,
        command=command("builds show", id),
    )


def waivers(recipe: Recipe, environment: Environment, build_id: str, now: datetime) -> EventDocument | None:
    """Return the event that waivers of a recipe end soon, or None."""
    last = now.date() + WAIVER_ENDS_SOON
    soon = {w.control: w for one in recipe.hardening.values() for w in one.waivers if w.expires <= last}
    if not soon:
        return None
    found = [soon[control] for control in sorted(soon)]
    many = f"{len(found)} waivers" if len(found) > 1 else "A waiver"
    return notify.make(
        "waiver",
        id=notify.id_of(build_id, "waiver"),
        title=f"{many} of {recipe.name} end{'' if len(found) > 1 else 's'} by {max(w.expires for w in found)}",
        time=timestamp(now),
        environment=environment.name,
        name=recipe.name,
        channels=(notify.channel(recipe.distribution.channel),),
        waivers=tuple(EventWaiver(control=w.control, expires=w.expires.isoformat(), reason=w.reason) for w in found),
        command=command("harden coverage", recipe.name),
    )


def alone(environment: Environment, tools: Tools, event: EventDocument) -> None:
    """Send an event of a build that has no journal, in a task of its own. Raises no GoldenAmiError."""
    if notify.is_wanted(environment, event):
        with (
            suppress(GoldenAmiError),
            task.run(environment, ALONE, {"event": event.event}, known=tools.cloud, emit_to=tools.emit) as job,
        ):
            notify.due(job, event)


@contextmanager
def told(environment: Environment, recipe: str, tools: Tools) -> Iterator[None]:
    """Send that a build failed before it had a journal: its base does not exist, a check found an error.

    Mistakes in files or arguments are those of the user who reads the message, and are not sent.
    """
    try:
        yield
    except GoldenAmiError as error:
        mistake = error.exit_code == UsageError.exit_code
        if error not in tools.told and not (mistake or error.ends_everything or isinstance(error, Busy)):
            with suppress(GoldenAmiError):  # the cloud may have answered nothing, so that its time is unknown
                now = tools.cloud.now()
                event = notify.make(
                    "failure",
                    id=notify.id_of(environment.name, recipe, "failure", now),
                    title=f"The build of {recipe} failed before it began",
                    time=timestamp(now),
                    environment=environment.name,
                    name=recipe,
                    error=error.message,
                    command=command("doctor", recipe),
                )
                alone(environment, tools, event)
        raise
