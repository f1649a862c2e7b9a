"""Tags of shared images and snapshots in the accounts that use them (``distribution.share.tags``).

AWS keeps tags per account: an account does not see the owner's tags of an image that is shared with it, and can set its
own. goldenami sets them with its role in that account, if the environment names the account.

The tag ``goldenami:shared-tags`` has a digest of each key that goldenami set. Other tags are of the account: they are
neither changed nor deleted, even if the recipe declares the same key. A key is in this tag before or with the call that
sets it, and until it is deleted, so a killed process leaves no tag that nobody would delete.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Final

from goldenami.aws import images, snapshots, tags
from goldenami.aws.ledger import Ledger
from goldenami.aws.session import Cloud
from goldenami.aws.tagcalls import tag, untag
from goldenami.each import Answers, each
from goldenami.model import ImageManifest, Place
from goldenami.release import targets as modes

_DIGEST: Final = 8  # characters of a key's digest; 256 characters have room for the 22 keys of two declarations

Tags = Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Edit:
    """What differs: ``put`` are tags to set, ``drop`` tags to delete, each with its value now. ``was``: the values of
    ``put`` now. ``mark``: the value of the tag with the digests afterwards; None: it is deleted."""

    put: Tags
    was: Tags
    drop: Tags
    mark: str | None
    mark_before: str | None

    @property
    def is_empty(self) -> bool:
        return not self.put and not self.drop and self.mark == self.mark_before


def wanted(declared: Tags, name: str) -> dict[str, str]:
    """Return the tags of a shared image or snapshot: the declared ones and its name; none if none are declared."""
    return {tags.NAME: name, **declared} if declared else {}


def compare(wanted: Tags, actual: Tags) -> Edit:
    """Return what differs between the wanted tags and those that an account sees. Pure."""
    before = actual.get(tags.SHARED_TAGS)
    marked = set((before or "").split())
    ours = {key for key in actual if _digest(key) in marked}
    goal = {key: value for key, value in wanted.items() if key in ours or key not in actual}
    put = {key: value for key, value in goal.items() if actual.get(key) != value}
    drop = {key: actual[key] for key in sorted(ours - goal.keys())}
    was = {key: actual[key] for key in put if key in actual}
    return Edit(put, was, drop, " ".join(sorted(map(_digest, goal))) or None, before)


def _digest(key: str) -> str:
    return hashlib.sha256(key.encode()).hexdigest()[:_DIGEST]


def ensure(ledger: Ledger, place: Place, resource: str, wanted: Tags) -> None:
    """Ensure that an image or snapshot has exactly these tags of goldenami in the account of a place. Waits as long as
    a new permission may be unknown there."""
    found = ledger.cloud.look(partial(_read_one, ledger.cloud, place, resource)) or {}
    edit = compare(wanted, found)
    key = f"shared-tags/{place}/{resource}"
    both = {*(edit.mark_before or "").split(), *(edit.mark or "").split()}
    meanwhile = " ".join(sorted(both))
    if edit.put or (both and meanwhile != edit.mark_before):
        tag(ledger, f"{key}/put", place, resource, {**edit.put, tags.SHARED_TAGS: meanwhile})
    if edit.drop:
        untag(ledger, f"{key}/drop", place, resource, edit.drop)
    if edit.mark is None and meanwhile:
        untag(ledger, f"{key}/end", place, resource, {tags.SHARED_TAGS: meanwhile})
    elif edit.mark is not None and edit.mark != meanwhile:
        tag(ledger, f"{key}/mark", place, resource, {tags.SHARED_TAGS: edit.mark})


def read(cloud: Cloud, wanted: Iterable[tuple[Place, str]]) -> Answers[Place, dict[str, dict[str, str]]]:
    """Read the tags of images and snapshots by the place that sees them: id -> tags. What is not visible is left
    out."""
    by_place: dict[Place, list[str]] = defaultdict(list)
    for place, id in wanted:
        by_place[place].append(id)

    def ask(place: Place) -> dict[str, dict[str, str]]:
        of_images = [id for id in by_place[place] if id.startswith("ami-")]
        found = dict(images.describe_many(cloud, place, of_images))
        others = [id for id in by_place[place] if not id.startswith("ami-")]
        found |= snapshots.describe_many(cloud, place, others)
        return {id: tags.from_list(item.get("Tags")) for id, item in found.items()}

    return each(sorted(by_place), ask)


def bring(ledger: Ledger, manifest: ImageManifest, declared: Tags, accounts: Collection[str]) -> dict[str, str]:
    """Set the tags of a new release in the accounts that use its images. ``accounts``: those of the environment.
    Return place -> reason of failures."""
    names = {
        (Place(account, row.region), id): row.name
        for row in manifest.images
        if modes.owns(row)
        for account in row.shared_with
        if account in accounts and declared
        for id in (row.image_id, *(snapshot.snapshot_id for snapshot in row.snapshots))
    }

    done = each(names, lambda at: ensure(ledger, *at, wanted(declared, names[at])))
    return {str(place): f"{id} has no tags there: {reason}" for (place, id), reason in done.reasons.items()}


def _read_one(cloud: Cloud, place: Place, id: str) -> dict[str, str] | None:
    """Return the tags of what is visible; a mapping that is never empty, or None."""
    found = images.describe_many(cloud, place, [id]) if id.startswith("ami-") else None
    found = snapshots.describe_many(cloud, place, [id]) if found is None else found
    return {"": "", **tags.from_list(found[id].get("Tags"))} if id in found else None
