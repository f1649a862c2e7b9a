"""The difference between the declared and the actual state of a release, as data. Pure functions."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Final, Literal

from goldenami.aws import snapshots, tags
from goldenami.model import ImageManifest, Place, timestamp
from goldenami.release import fast_restore, protection, shared_tags
from goldenami.release import targets as modes
from goldenami.release.actual import State, has_grant
from goldenami.release.declared import Declared
from goldenami.release.distribute import account_root
from goldenami.release.templates import is_right
from goldenami.release.verify import Actual, Expected, grantees_of, same_minute

Kind = Literal[
    "image",
    "launch permission",
    "snapshot permission",
    "grant",
    "consumer",
    "tag",
    "deprecation",
    "deregistration protection",
    "fast restore",
    "shared tag",
    "imds",
    "parameter",
    "launch template",
    "record",
]
ALLOWED: Final = "allowed"
PASSED: Final = timedelta(minutes=4)  # EC2 refuses a time in the past, so an image is deprecated two minutes from now


@dataclass(frozen=True, slots=True, order=True)
class Change:
    """One change that makes the actual state the declared one.

    ``place``: the account and region where it is made. ``resource``: the id, ARN or name of what changes; for a new
    image, the label of its target. ``what``: which part of it: an account, an organization, a principal, the key of a
    tag; empty for the resource itself. ``before``, ``after``: None: it does not exist, or is not allowed.
    """

    place: Place
    kind: Kind
    resource: str
    what: str = ""
    before: str | None = None
    after: str | None = None
    image_id: str = ""

    def __str__(self) -> str:
        subject = " ".join(part for part in (self.kind, self.what) if part)
        return f"{self.place} {self.resource}: {subject}: {self.before or 'none'} -> {self.after or 'none'}"


@dataclass(frozen=True, slots=True)
class Difference:
    """What `goldenami distribute` would change of one release.

    ``broken``: differences that it cannot remove, such as a deleted image. ``kept``: what is not declared any more and
    stays; it is no difference. ``unreachable``: places that did not answer -> reason; their changes are unknown.
    """

    manifest: ImageManifest
    channels: tuple[str, ...]
    changes: tuple[Change, ...]
    broken: tuple[str, ...] = ()
    kept: tuple[str, ...] = ()
    unreachable: Mapping[Place, str] = field(default_factory=dict)

    @property
    def in_sync(self) -> bool:
        """Whether the release is as declared, in all places that answered."""
        return not self.changes and not self.broken


def compare(declared: Declared, state: State) -> Difference:
    """Return the difference of one release, sorted by place."""
    changes: list[Change] = []
    broken: list[str] = []
    for target in declared.missing:
        after = modes.get_mode(target).plan(target, declared.order.keys[target.label])
        changes.append(Change(target.place, "image", target.label, after=after))
    for one in declared.images:
        actual = state.images.get(one.image_id)
        if actual is None:
            continue  # its place did not answer
        reason = why_broken(one, actual, state)
        if reason is not None:
            broken.append(reason)
            continue
        changes += _image_changes(one, actual, state)
        changes += _fast_restore_changes(one, actual, state)
        for place, id, edit in shared_tag_edits(declared, one, actual, state):
            changes += _shared_tag_changes(place, id, edit, one.image_id)
    for old in state.old.get(declared.manifest.label, ()):
        for zone in old.zones:
            changes.append(Change(old.place, "fast restore", old.snapshot_id, zone, fast_restore.ENABLED, None))
        changes.append(Change(old.place, "tag", old.snapshot_id, tags.FAST_RESTORE, old.tag, None))
    changes += _grant_changes(declared, state)
    changes += _parameter_changes(declared, state, broken)
    changes += _template_changes(declared, state, broken)
    changes += _record_changes(declared)
    places = _places(declared)
    return Difference(
        declared.manifest,
        declared.channels,
        tuple(sorted(set(changes), key=_order)),
        tuple(broken),
        declared.kept,
        {place: reason for place, reason in sorted(state.unreachable.items()) if place in places},
    )


def why_broken(expected: Expected, actual: Actual, state: State) -> str | None:
    """Return why an image cannot be brought to its declared state, or None."""
    where = f"{expected.image_id} in {expected.owner}"
    if actual.image is None:
        return f"{where} does not exist any more"
    if actual.image.get("State") != "available":
        return f"{where} has the state {actual.image.get('State')}, expected available"
    answer = state.owner.of_tags(tags.from_list(actual.image.get("Tags")))
    if answer.whose == "theirs":
        return f"{where} is {answer.reason}: it is not changed"
    lost = [id for id in snapshots.of_image(actual.image) if id not in actual.snapshots]
    return f"{where} has lost {', '.join(lost)}" if lost else None


def _order(change: Change) -> tuple[str, ...]:
    return (str(change.place), change.kind, change.resource, change.what)


def _places(declared: Declared) -> set[Place]:
    every = {one.owner for one in declared.images} | {row.place for row in declared.manifest.images}
    every |= {target.place for target in declared.missing} | {need.owner for need in declared.needs}
    every |= {follower.place for follower in declared.every_template}
    every |= {Place(account, one.owner.region) for one in declared.images for account in one.users & declared.accounts}
    return every | {need.place for need in declared.needs}


def _image_changes(expected: Expected, actual: Actual, state: State) -> Iterator[Change]:
    image, id, place = actual.image, expected.image_id, expected.owner
    assert image is not None
    wanted = expected.users | expected.organizations
    yield from _access(place, "launch permission", id, wanted, actual.launch_permissions, id)
    for snapshot, item in actual.snapshots.items():
        allowed = actual.volume_permissions.get(snapshot, frozenset())
        yield from _access(place, "snapshot permission", snapshot, expected.users, allowed, id)
        yield from _tag_changes(place, snapshot, expected.tags, tags.from_list(item.get("Tags")), id)
    yield from _tag_changes(place, id, expected.tags, tags.from_list(image.get("Tags")), id)
    if expected.imds_v2 and image.get("ImdsSupport") != "v2.0":
        yield Change(place, "imds", id, "", image.get("ImdsSupport"), "v2.0", id)
    yield from _deprecation(expected, str(image.get("DeprecationTime") or ""), state)
    protected = protection.mode_of(image)
    if expected.protection != protected and (expected.protection or protection.by_tag(image)):
        yield Change(place, "deregistration protection", id, "", protected, expected.protection, id)


def _fast_restore_changes(expected: Expected, actual: Actual, state: State) -> Iterator[Change]:
    """Yield the zones where fast restore is missing, and those where goldenami enabled it and it is not declared."""
    found, place = state.fast_restore.get(expected.owner), expected.owner
    if found is None:
        return  # its place did not answer
    for id in actual.snapshots:
        tag, enabled = found.tag(id), found.zones(id)
        for zone in sorted(expected.fast_restore - enabled):
            yield Change(place, "fast restore", id, zone, None, fast_restore.ENABLED, expected.image_id)
        for zone in sorted((enabled & set((tag or "").split())) - expected.fast_restore):
            yield Change(place, "fast restore", id, zone, fast_restore.ENABLED, None, expected.image_id)
        wanted = fast_restore.tag_of(expected.fast_restore)
        if tag != wanted:
            yield Change(place, "tag", id, tags.FAST_RESTORE, tag, wanted, expected.image_id)


def shared_tag_edits(
    declared: Declared, expected: Expected, actual: Actual, state: State
) -> Iterator[tuple[Place, str, shared_tags.Edit]]:
    """Yield the differences of the tags of an image and its snapshots in the accounts that use it, or will use it."""
    users = (expected.users | actual.launch_permissions) & declared.accounts - {expected.owner.account}
    for account in sorted(users):
        place = Place(account, expected.owner.region)
        known = state.shared_tags.get(place, {} if account not in actual.launch_permissions else None)
        if known is None or place in state.unreachable:
            continue
        for id in (expected.image_id, *actual.snapshots):
            edit = shared_tags.compare(wanted_tags(declared, expected, account), known.get(id, {}))
            if not edit.is_empty:
                yield place, id, edit


def wanted_tags(declared: Declared, expected: Expected, account: str) -> dict[str, str]:
    """Return the tags that an image must have in an account; none if the account may not use it any more."""
    return shared_tags.wanted(declared.share_tags if account in expected.users else {}, expected.name)


def _shared_tag_changes(place: Place, id: str, edit: shared_tags.Edit, image_id: str) -> Iterator[Change]:
    for key, value in sorted(edit.put.items()):
        yield Change(place, "shared tag", id, key, edit.was.get(key), value, image_id)
    for key, value in edit.drop.items():
        yield Change(place, "shared tag", id, key, value, None, image_id)
    if not edit.put and not edit.drop:
        yield Change(place, "shared tag", id, tags.SHARED_TAGS, edit.mark_before, edit.mark, image_id)


def _access(
    place: Place, kind: Kind, resource: str, wanted: frozenset[str], actual: frozenset[str], image_id: str
) -> Iterator[Change]:
    for who in sorted(wanted - actual):
        yield Change(place, kind, resource, who, None, ALLOWED, image_id)
    for who in sorted(actual - wanted):
        yield Change(place, kind, resource, who, ALLOWED, None, image_id)


def _tag_changes(
    place: Place, resource: str, wanted: Mapping[str, str], actual: Mapping[str, str], image_id: str
) -> Iterator[Change]:
    for key, value in sorted(wanted.items()):
        if actual.get(key) != value:
            yield Change(place, "tag", resource, key, actual.get(key), value, image_id)
    mark = actual.get(tags.PROTECTION)
    # The end of a cooldown stays, so that a retirement knows until when EC2 refuses.
    if mark is not None and tags.PROTECTION not in wanted and tags.parse_timestamp(mark) is None:
        yield Change(place, "tag", resource, tags.PROTECTION, mark, None, image_id)
    if tags.EXPIRES_AT in actual:  # a process was killed between the manifest and the removal of this tag
        yield Change(place, "tag", resource, tags.EXPIRES_AT, actual[tags.EXPIRES_AT], None, image_id)


def _deprecation(expected: Expected, actual: str, state: State) -> Iterator[Change]:
    """Yield the change of the time of deprecation. A time that has passed is as good as any other that has passed."""
    wanted = expected.deprecate_at
    text = timestamp(wanted) if wanted is not None else None
    if text == (actual or None) or (wanted is not None and same_minute(wanted, actual)):
        return
    if wanted is not None and wanted <= state.now and actual and actual <= timestamp(state.now + PASSED):
        return
    yield Change(expected.owner, "deprecation", expected.image_id, "", actual or None, text, expected.image_id)


def _grant_changes(declared: Declared, state: State) -> Iterator[Change]:
    """Yield the grants that accounts need for the keys of their images, and those that none needs any more."""
    keys: dict[str, Place] = {}
    for one in declared.images:
        keys[one.kms_key] = one.owner
        given = grantees_of(state.grants.get(one.kms_key, ()))
        for account in sorted(one.users) if one.kms_key in state.grants else ():
            root = account_root(one.kms_key, account)
            if root not in given:
                yield Change(one.owner, "grant", one.kms_key, root, None, ALLOWED)
    for key, place in keys.items():
        for id, principal in sorted(state.surplus.get(key, {}).items()):
            yield Change(place, "grant", key, principal, id, None)
    for need in declared.needs:
        known = need.key in state.grants and need.key not in state.aws_managed
        if known and not has_grant(state.grants[need.key], state.owner, need):
            yield Change(need.place, "consumer", need.key, need.principal, None, ALLOWED)


def _parameter_changes(declared: Declared, state: State, broken: list[str]) -> Iterator[Change]:
    staying = [(p, p.value) for p in declared.every_parameter]
    for parameter, after in (*staying, *((p, None) for p in declared.leaving_parameters)):
        at = parameter.place, parameter.name
        before = state.parameters.get(at)
        if parameter.place in state.unreachable or before == after:
            continue
        if at in state.foreign:
            broken.append(f"{state.foreign[at]}. It is not changed")
        else:
            yield Change(parameter.place, "parameter", parameter.name, "", before, after, parameter.image.image_id)


def _template_changes(declared: Declared, state: State, broken: list[str]) -> Iterator[Change]:
    for channel, followers in declared.templates.items():
        for one in followers:
            if one not in state.templates:
                continue  # its place did not answer
            image_id = state.templates[one]
            if image_id is None:
                broken.append(f"{one.place}/{one.template}: this launch template does not exist")
            elif not is_right(one, image_id):
                yield Change(one.place, "launch template", one.template, channel, image_id, one.image.image_id)


def _record_changes(declared: Declared) -> Iterator[Change]:
    """Yield the changes of the manifest that follow no other change: what a killed process did not write."""
    rows = {row.image_id: row for row in declared.manifest.images if modes.owns(row)}
    for one in declared.images:
        before, after = rows[one.image_id].shared_with, tuple(sorted(one.users | one.organizations))
        if before != after:
            texts = (", ".join(before) or None, ", ".join(after) or None)
            yield Change(one.owner, "record", one.image_id, "shared with", *texts, one.image_id)
    for row in declared.leaving:
        yield Change(row.place, "record", row.image_id, "use of the image", ALLOWED, None, row.image_id)


def of_kind(changes: Iterable[Change], *kinds: Kind) -> list[Change]:
    """Return the changes of some kinds."""
    return [change for change in changes if change.kind in kinds]
