"""``snapshot copy``: copies snapshots to other regions and accounts, in parallel, and encrypts the copies.

A copy in another account is created by that account, so it must be able to read the source. During the copy, the source
is shared with the account, and the account has a grant on the key. Afterwards both are removed, also after a failure
(``take_back``).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from goldenami.aws import kms, snapshots, tags, waiters
from goldenami.aws.session import Cloud
from goldenami.aws.waiters import Item
from goldenami.each import each
from goldenami.errors import CloudError, GoldenAmiError, NotFound, TargetsFailed, UsageError
from goldenami.model import Place
from goldenami.nextstep import step
from goldenami.snapshots import names
from goldenami.snapshots.progress import progress_events
from goldenami.snapshots.share import check_shareable
from goldenami.task import TEMPORARY, Task

SOURCE = tags.PREFIX + "source-snapshot"
_FIRST_PAUSE, _LONGEST_PAUSE = 2.0, 30.0  # seconds before a copy is made again
_AT_ONCE = 20  # parallel copies to one region: EC2's default quota; the ledger queues further ones


@dataclass(frozen=True, slots=True)
class Destination:
    """The place of a copy, and the ARN of its key. None: the copy is unencrypted, as its source is."""

    place: Place
    kms_key: str | None


@dataclass(frozen=True, slots=True)
class Copied:
    """A copy in ``place``. ``source``: the id of the copied snapshot. ``item``: the copy as EC2 describes it."""

    source: str
    place: Place
    item: Item


class CopiesFailed(TargetsFailed):
    """Some copies failed.

    ``made``: the completed copies, which are kept. ``unreachable``: destinations that did not answer.
    """

    made: tuple[Copied, ...] = ()
    unreachable: Mapping[Place, str] = MappingProxyType({})


def destination(cloud: Cloud, place: Place, sources: Sequence[Item], key: str | None) -> Destination:
    """Check a destination. ``key``: an alias or id in that account and region.

    Raises UsageError for an encrypted source without a key: EC2 would use the default key without a warning, and such a
    copy cannot be shared. Raises NotFound for a key that does not exist or cannot be used.
    """
    encrypted = [s["SnapshotId"] for s in sources if s.get("Encrypted")]
    if key is None and encrypted:
        raise UsageError(
            f"--kms-key is missing, and {', '.join(encrypted)} {'is' if len(encrypted) == 1 else 'are'} encrypted. "
            f"Expected: the key for the copy in {place}",
            hint="Give --kms-key with an alias or a key id of that account and region. Copies under alias/aws/ebs "
            "cannot be shared.",
        )
    return Destination(place, kms.resolve(cloud, place, key).arn if key is not None else None)


def destinations_for(
    cloud: Cloud, sources: Sequence[Item], keys: Mapping[Place, str | None]
) -> tuple[list[Destination], dict[Place, str]]:
    """Return the usable destinations, and the reason for each place whose key cannot be read. ``keys``: by place.

    Raises the errors of :func:`destination`, and the error of the first place if no place can be used.
    """
    answers = each(keys, lambda place: destination(cloud, place, sources, keys[place]))
    for error in answers.errors.values():
        if isinstance(error, (NotFound, UsageError)) or not answers.results:
            raise error
    return list(answers.results.values()), answers.reasons


def copy(
    job: Task,
    home: Place,
    sources: Sequence[Item],
    destinations: Sequence[Destination],
    *,
    name: str | None = None,
    wait: bool = True,
    unreachable: Mapping[Place, str] = MappingProxyType({}),
) -> list[Copied]:
    """Copy every source to every destination, in parallel, within the limits of each region.

    ``wait``: wait until all copies are completed. ``unreachable``: destinations that failed before; they are reported
    with the other failures. Raises CopiesFailed with the reasons if a copy failed. The completed copies are kept.
    """
    _check(sources)
    lent = [s["SnapshotId"] for s in sources if s.get("OwnerId", home.account) != home.account]
    elsewhere = sorted({d.place.account for d in destinations} - {home.account})
    if lent and elsewhere:
        raise UsageError(
            f"{', '.join(lent)} belongs to another account, which alone can share it with {', '.join(elsewhere)}",
            hint="Copy it into this account first, without --to-account.",
        )
    for place in {d.place.account for d in destinations} - {home.account}:
        _lend(job, home, sources, place)
    by_id = {str(source["SnapshotId"]): source for source in sources}
    pairs = [(id, d) for d in destinations for id in by_id]
    answers = each(pairs, lambda pair: _start(job, home, by_id[pair[0]], pair[1], name), at_once=_AT_ONCE)
    failures = {f"{id} to {place}": reason for place, reason in unreachable.items() for id in by_id}
    failures |= {f"{id} to {d.place}": reason for (id, d), reason in answers.reasons.items()}
    made = [Copied(id, d.place, {"SnapshotId": copy_id}) for (id, d), copy_id in answers.results.items()]
    if wait:
        by_place = {d.place: d for d in destinations}
        keys = {id: str(source["KmsKeyId"]) for id, source in by_id.items() if source.get("Encrypted")}
        made = _wait(job, made, failures, lambda c: _start(job, home, by_id[c.source], by_place[c.place], name), keys)
    if failures:
        job.own(*(c.item["SnapshotId"] for c in made))
        _return_all(job)
        count = len(pairs) + len(unreachable) * len(by_id)
        error = CopiesFailed(f"{len(failures)} of {count} copies failed", failures=failures)
        error.made, error.unreachable = tuple(made), unreachable
        raise error
    _return_all(job)
    return made


def _check(sources: Sequence[Item]) -> None:
    problems = []
    for source in sources:
        if source["State"] != "completed":
            problems.append(f"{source['SnapshotId']} is {source['State']}, expected completed")
        elif source.get("StorageTier") == "archive":
            problems.append(f"{source['SnapshotId']} is archived")
    if problems:
        raise UsageError(
            f"snapshots cannot be copied: {', '.join(problems)}",
            hint="Wait until pending snapshots are completed. Restore archived snapshots with "
            f"{step('snapshot restore-archive', 'SNAPSHOT')}.",
        )


def _start(job: Task, home: Place, source: Item, target: Destination, name: str | None) -> str:
    id = source["SnapshotId"]
    return snapshots.copy(
        job.ledger,
        f"copy/{target.place}/{id}",
        target.place,
        source=id,
        source_region=home.region,
        name=name or names.name_of(source) or id,
        kms_key=target.kms_key,
        description=source.get("Description") or f"Copy of {id} in {home.region}",
        tags={**names.own_tags(source), SOURCE: f"{home.region}/{id}"},
    )


def _wait(
    job: Task, made: Sequence[Copied], failures: dict[str, str], again: Callable[[Copied], str], keys: Mapping[str, str]
) -> list[Copied]:
    """Wait until all copies are completed or have failed, and return the completed ones.

    A copy that cannot use the key of its source is made again while the grant on that key may have no effect yet.
    ``again``: makes a copy again, and returns its id. ``keys``: the ARN of the key of each encrypted source.
    """
    done: list[Copied] = []
    places = sorted({c.place for c in made})

    def watch(place: Place) -> dict[str, waiters.Observation]:
        copies = {c.source: c for c in made if c.place == place}
        left = {source: str(c.item["SnapshotId"]) for source, c in copies.items()}
        final: dict[str, waiters.Observation] = {}
        pause = _FIRST_PAUSE
        while left:
            seen = snapshots.wait(job.ledger, place, left.values(), on_progress=progress_events(job, place))
            final |= {source: seen[id] for source, id in left.items()}
            left = {s: id for s, id in left.items() if not seen[id].ok and may_come(s, seen[id].reason)}
            if left:
                job.cloud.sleep(pause)
                pause = min(2 * pause, _LONGEST_PAUSE)
            for source, id in left.items():
                snapshots.delete(job.ledger, place, id)
                left[source] = again(copies[source])
        return final

    def may_come(source: str, reason: str) -> bool:
        return job.cloud.recent.key_may_come(reason, [key for id, key in keys.items() if id == source])

    answers = each(places, watch)
    for one in made:
        if one.place in answers.reasons:
            failures[f"{one.source} to {one.place}"] = answers.reasons[one.place]
            continue
        found = answers.results[one.place][one.source]
        if found.ok:
            done.append(Copied(one.source, one.place, found.item))
        else:
            failures[f"{one.source} to {one.place}"] = waiters.failure(found, "snapshot", one.place).message
    return done


# --- temporary sharing ------------------------------------------------------------------------------------------------


def _lend(job: Task, home: Place, sources: Sequence[Item], account: str) -> None:
    check_shareable(job.cloud, home, sources)
    for source in sources:
        id = source["SnapshotId"]
        if account in snapshots.volume_permissions(job.cloud, home, id):
            continue
        lent: list[Any] = list((job.journal.stage("lent") or {}).get("shares", ()))
        job.journal.stage_done("lent", shares=[*lent, [home.account, home.region, id, account]])
        snapshots.share(job.ledger, f"lend/{id}/{account}", home, id, [account])
    for key in sorted({str(s["KmsKeyId"]) for s in sources if s.get("Encrypted")}):
        grantee = job.cloud.account_root(account, home.region)
        kms.create_grant(job.ledger, f"{TEMPORARY}grant/{account}/{key}", home, kms_key_arn=key, grantee=grantee)


def take_back(job: Task) -> None:
    """Remove the temporary sharing of a failed copy. The cleanup of the task deletes its copies."""
    _return_all(job)


def _return_all(job: Task) -> None:
    for account, region, id, to in (job.journal.stage("lent") or {}).get("shares", ()):
        _return(job, Place(account, region), id, to)


def _return(job: Task, place: Place, id: str, to: str) -> None:
    try:
        snapshots.unshare(job.ledger, f"return/{id}/{to}", place, id, [to])
    except CloudError as error:
        if snapshots.describe_many(job.cloud, place, [id]):
            raise GoldenAmiError(f"{id} is still shared with {to}: {error.message}", hint=error.hint) from error
