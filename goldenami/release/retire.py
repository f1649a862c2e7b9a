"""Retires releases: reads the facts, applies the rules (``retention``), and removes releases in this order::

    mark as retiring → deprecate → disable → disable the protection → (read the facts again) → deregister → snapshots
    → grants → parameters → mark as retired

The mark in the catalog is first, so that no reference resolves to the release any more. After a killed run, the next
run finds the mark and continues. The facts are read again between disabling and deregistering. If an image came into
use in the meantime, it is enabled again and kept.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

from goldenami import task
from goldenami.aws import journals, recyclebin, snapshots, tags
from goldenami.aws.session import Cloud
from goldenami.errors import TargetsFailed
from goldenami.events import Emit, ignore_events
from goldenami.journal import Wait
from goldenami.model import Environment, Place
from goldenami.nextstep import step
from goldenami.notify import delivery as notify
from goldenami.release import notices, usage
from goldenami.release.catalog import Catalog
from goldenami.release.decisions import decide_releases
from goldenami.release.empty import refuse_empty
from goldenami.release.removal import Removal, comes_back, cooldown_end, is_due
from goldenami.release.retention import Fate, RetentionDecision, Rules
from goldenami.release.usage import Estate

KIND: Final = "retire"
_WAIT_FOR_OTHERS: Final = 900.0


@dataclass(frozen=True, slots=True)
class Retired:
    """What a run did, or would do with ``dry_run``.

    ``deleted``: resources in the order of their deletion. ``left``: resource or step -> reason why it failed.
    ``unreachable``: places that did not answer -> reason. ``recoverable``: resource, as in ``deleted``, -> end of its
    time in the Recycle Bin. Other deleted resources cannot be recovered. ``unknown_bins``: places whose Recycle Bin
    rules could not be read -> reason. ``unsent``: receivers of notifications that did not get one -> reason.
    ``waiting``: releases that are disabled, and that EC2 refuses to deregister until a time, because they were
    protected with a cooldown; a run after that time deletes them.
    """

    decisions: tuple[RetentionDecision, ...]
    deleted: tuple[str, ...] = ()
    left: Mapping[str, str] = field(default_factory=dict)
    unreachable: Mapping[Place, str] = field(default_factory=dict)
    task_id: str = ""
    recoverable: Mapping[str, datetime] = field(default_factory=dict)
    unknown_bins: Mapping[Place, str] = field(default_factory=dict)
    unsent: Mapping[str, str] = field(default_factory=dict)
    waiting: Mapping[str, datetime] = field(default_factory=dict)

    def with_fate(self, fate: Fate) -> tuple[RetentionDecision, ...]:
        """Return the decisions with a fate."""
        return tuple(v for v in self.decisions if v.fate == fate)


def retire(
    environment: Environment,
    catalog: Catalog,
    rules: Mapping[str, Rules],
    now: datetime,
    *,
    only: Collection[str] = (),
    dry_run: bool = False,
    cloud: Cloud | None = None,
    emit_to: Emit = ignore_events,
) -> Retired:
    """Apply the retention rules to every release of a catalog. A second run does nothing.

    ``rules``: by recipe. ``only``: change only releases of these recipes; the other releases still keep their bases.
    A failure is listed in ``left`` and does not stop the other removals. ``dry_run``: change nothing. Raises
    CatalogError for an empty catalog beside released resources.
    """
    cloud = cloud or Cloud.of(environment)
    cloud.check_caller()
    refuse_empty(cloud, environment, catalog)
    if dry_run:
        decisions, estate = decide_releases(cloud, environment, catalog, rules, now, only)
        bins = recyclebin.Bins(cloud)
        recoverable = _preview(cloud, bins, decisions, estate, now)
        return Retired(
            decisions, unreachable=estate.unreachable, recoverable=recoverable, unknown_bins=bins.unreachable
        )
    with journals.open_journals(environment, cloud).exclusive(KIND, Wait(_WAIT_FOR_OTHERS, cloud.clock, cloud.sleep)):
        # A killed run left no new resources. The marks show which releases it was deleting.
        task.conclude(environment, cloud, KIND, emit_to=emit_to)
        decisions, estate = decide_releases(cloud, environment, catalog, rules, now, only)
        due = [v for v in decisions if is_due(v, estate, now)]
        if not due:
            return Retired(decisions, unreachable=estate.unreachable, waiting=_waiting(decisions, estate, now))
        arguments = {"recipes": sorted(only), "releases": [v.release.label for v in due]}
        with task.run(environment, KIND, arguments, cloud=cloud, emit_to=emit_to) as job:
            work = Removal(job, catalog, now)
            to_delete = work.prepare(due, estate)
            notices.retired(job, due, work.failures)
            if to_delete:
                again, estate = decide_releases(cloud, environment, catalog, rules, now, only)
                fates = {v.release.label: v for v in again}
                for decision in to_delete:
                    latest = fates.get(decision.release.label, decision)
                    if latest.fate == "delete" and decision.release.label not in work.waiting:
                        work.delete(decision.release.manifest, estate)
                    elif comes_back(latest, estate):
                        work.take_back(decision.release.manifest, estate, latest.rule)
                latest_of = ((v, fates.get(v.release.label, v)) for v in decisions)
                decisions = tuple(new if new.fate != old.fate else old for old, new in latest_of)
        deleted = tuple(work.deleted)
        return Retired(
            decisions,
            deleted,
            work.failures,
            estate.unreachable,
            job.id,
            work.recoverable,
            unknown_bins=work.bins.unreachable,
            unsent=notify.unsent(job.journal),
            waiting=_waiting(decisions, estate, now) | work.waiting,
        )


def _waiting(decisions: Iterable[RetentionDecision], estate: Estate, now: datetime) -> dict[str, datetime]:
    ends = {v.release.label: cooldown_end(v, estate, now) for v in decisions if v.fate == "delete"}
    return {label: end for label, end in ends.items() if end is not None}


def failed(retired: Retired) -> TargetsFailed | None:
    """Return an error with all failures of a run, or None if there are none."""
    if not retired.left:
        return None
    count = len(retired.left)
    return TargetsFailed(
        f"{count} resource{'s' if count != 1 else ''} could not be retired",
        failures=dict(retired.left),
        hint=f"Remove the causes, and run {step('retire')} again.",
    )


def _preview(
    cloud: Cloud, bins: recyclebin.Bins, decisions: Iterable[RetentionDecision], estate: Estate, now: datetime
) -> dict[str, datetime]:
    """Return resource -> end of its time in the Recycle Bin, for the resources that a run would delete."""
    to_delete = [v.release.manifest for v in decisions if v.fate == "delete"]
    found: dict[str, datetime | None] = {}
    for manifest in to_delete:
        for place, image in usage.own_images(manifest, estate):
            own = tags.from_list(image.get("Tags"))
            found[f"image {image['ImageId']} in {place}"] = bins.until(place, "image", own, now)
        for place, ids in sorted(usage.snapshots_of(manifest, estate).items()):
            for id, item in sorted(snapshots.describe_many(cloud, place, ids).items()):
                own = tags.from_list(item.get("Tags"))
                found[f"snapshot {id} in {place}"] = bins.until(place, "snapshot", own, now)
    return {line: until for line, until in found.items() if until is not None}
