"""The stages that a build will run, and how long they took in past builds of its recipe: for the views.

Nothing is decided by them. If the logs of past builds cannot be read, there is no estimate.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from goldenami.each import each
from goldenami.errors import GoldenAmiError
from goldenami.journal import Recorded
from goldenami.journal.storage import Storage
from goldenami.planning import BuildPlan
from goldenami.release.catalog import Catalog
from goldenami.stages.host_work import stage_names

_BUILDS: Final = 5  # past builds of which an estimate is the median
_KINDS: Final = ("stage.started", "stage.finished", "build.finished")
_Key = tuple[str, str]  # stage and architecture; "" for all architectures


@dataclass(frozen=True, slots=True)
class _Time:
    """When one stage of a past build ran. ``left``: seconds from its start to the end of the build."""

    seconds: float
    left: float


def expected(plan: BuildPlan, catalog: Catalog, storage: Storage) -> list[dict[str, Any]]:
    """Return the stages of a build in their order, for the event ``build.started``. ``seconds`` and ``left`` are the
    medians of the last releases of the recipe, and absent if there are none: how long the stage took, and how long
    after its start the build ended."""
    past = _past(plan.recipe.name, catalog, storage)
    found = []
    for stage, architecture in _stages(plan):
        entry: dict[str, Any] = {"stage": stage, "architecture": architecture}
        times = [build[stage, architecture] for build in past if (stage, architecture) in build]
        if times:
            entry["seconds"] = round(statistics.median(time.seconds for time in times), 1)
            entry["left"] = round(statistics.median(time.left for time in times), 1)
        found.append(entry)
    return found


def _stages(plan: BuildPlan) -> Iterator[_Key]:
    architectures = plan.recipe.architectures
    for architecture in architectures:
        judged = ("vulnerabilities",) if plan.environment.vulnerabilities.builds else ()
        frozen = ("freeze",) if plan.recipe.builder[architecture].freeze else ()
        last = ("test builder", "seal", *frozen, *judged, "capture")
        for name in ("launch", *stage_names(plan.recipe, architecture), *last):
            yield name, architecture
    yield "copy", ""
    for architecture in architectures:
        yield "boot image", architecture
        yield "test image", architecture
        if plan.recipe.has_suite("reboot"):
            yield "reboot", architecture
            yield "test reboot", architecture
    yield "verify", ""
    if plan.environment.consumers:
        yield "consumers", ""
    yield "publish", ""
    yield "clean up", ""


def _past(name: str, catalog: Catalog, storage: Storage) -> list[dict[_Key, _Time]]:
    """Return the times of the last builds that made a release, read at the same time."""
    try:
        index = catalog.indexed(name)
        builds = [index.entry(name, version).build_id for version in index.versions(name)[:_BUILDS]]
        answers = each(builds, lambda build_id: _times(storage.events(build_id).read(_KINDS)))
    except GoldenAmiError:
        return []
    return [times for times in answers.results.values() if times]


def _times(events: Iterable[Recorded]) -> dict[_Key, _Time]:
    """Return the times of the stages of a build that was released in one run; empty for another build, since a resume
    skips stages. A stage that ran again counts with its last run."""
    started: dict[_Key, datetime] = {}
    ended: dict[_Key, datetime] = {}
    runs: set[str] = set()
    for recorded in events:
        runs.add(recorded.run)
        fields = recorded.event.fields
        key = str(fields.get("stage")), str(fields.get("architecture") or "")
        if recorded.event.kind == "stage.started":
            started[key] = recorded.at
        elif recorded.event.kind == "stage.finished" and fields.get("status") == "ok" and key in started:
            ended[key] = recorded.at
        elif recorded.event.kind == "build.finished" and fields.get("status") == "released" and len(runs) == 1:
            return {
                key: _Time((at - started[key]).total_seconds(), (recorded.at - started[key]).total_seconds())
                for key, at in ended.items()
            }
    return {}
