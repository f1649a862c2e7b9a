"""The tags of all created resources, and the limits of AWS for tags.

Source: "Tag your Amazon EC2 resources": at most 50 tags for each resource, keys of 127 and values of 256 UTF-8
characters, keys that do not start with "aws:". SSM and KMS allow letters, digits, spaces and ``_ . : / = + - @`` only;
the tags of goldenami use no other characters.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any, Final

from goldenami.errors import UsageError
from goldenami.journal import token

NAME: Final = "Name"
PREFIX: Final = "goldenami:"
RECIPE: Final = "goldenami:recipe"
VERSION: Final = "goldenami:version"
BUILD_ID: Final = "goldenami:build-id"
TOKEN: Final = "goldenami:token"
KEY: Final = "goldenami:key"
GIT_COMMIT: Final = "goldenami:git-commit"
BASE_AMI: Final = "goldenami:base-ami"
EXPIRES_AT: Final = "goldenami:expires-at"
ADDED_TO: Final = "goldenami:added-to"  # the id of the release's build, on an image that `distribute` added later
PROTECTION: Final = "goldenami:protection"  # see ``release.protection``
FAST_RESTORE: Final = "goldenami:fast-restore"  # see ``release.fast_restore``
SHARED_TAGS: Final = "goldenami:shared-tags"  # see ``release.shared_tags``
PROOF: Final = "goldenami:proof"  # a MAC: see ``ownership.Proofs``
TASK: Final = "goldenami:task"
KEPT_FROM: Final = "goldenami:kept-from"  # on an old volume: instance and device, "i-… /dev/xvda"
REPLACES: Final = "goldenami:replaces"  # on a volume: the ids of its predecessors, the latest first
KEPT_TAG: Final = "goldenami:kept:"  # prefix of the other tags of an old volume: no schedule or policy selects it
CATALOG: Final = "goldenami:catalog"  # the id of the catalog that owns the resource
ENVIRONMENT: Final = "goldenami:environment"  # the name of the environment that created it

_MOST = 50
_MOST_ATTEMPTS = 1000


def build_tags(
    *,
    recipe: str,
    version: str,
    build_id: str,
    own: Mapping[str, str],
    git_commit: str | None = None,
    base_ami: str | None = None,
) -> dict[str, str]:
    """Return the tags of all resources of a build. ``own``: the environment's tags; they cannot replace goldenami's."""
    ours = {RECIPE: recipe, VERSION: version, BUILD_ID: build_id, GIT_COMMIT: git_commit, BASE_AMI: base_ami}
    return {**own, **{k: v for k, v in ours.items() if v}}


def task_tags(*, kind: str, build_id: str, own: Mapping[str, str]) -> dict[str, str]:
    """Return the tags of all resources of a task."""
    return {**own, TASK: kind, BUILD_ID: build_id}


def checked(tags: Mapping[str, str]) -> dict[str, str]:
    """Return the tags with long values cut. Raises UsageError for tags that AWS would refuse."""
    if len(tags) > _MOST:
        raise UsageError(f"a resource would have {len(tags)} tags, expected {_MOST} at most (limit of AWS)")
    for key in tags:
        if not key or len(key) > 127 or key.lower().startswith("aws:"):
            raise UsageError(f"tag key {key!r} is invalid, expected 1 to 127 characters that do not start with aws:")
    return {k: v[:256] for k, v in tags.items()}


def to_list(tags: Mapping[str, str]) -> list[dict[str, str]]:
    """Convert tags into the form of API calls."""
    return [{"Key": k, "Value": v} for k, v in sorted(tags.items())]


def from_list(tags: Iterable[Mapping[str, Any]] | None) -> dict[str, str]:
    """Convert tags from the form of describes into a mapping."""
    return {t["Key"]: t["Value"] for t in tags or ()}


def exactly(value: str) -> str:
    """Return the value of a filter that matches this text only: ``*`` and ``?`` are wildcards in filters of EC2, and a
    backslash makes them literal ("List and filter using the CLI and API", EC2 user guide)."""
    return re.sub(r"([\\*?])", r"\\\1", value)


def made_by(tags: Mapping[str, str], build_id: str, catalog: str | None) -> bool:
    """Return whether these are the tags of a resource that this build created: its id, the id of its catalog, and a
    token that belongs to the key. Returns False for similar tags, and for tags that were copied in part. It proves
    nothing: everybody can compute a token. ``ownership.Proofs`` does.

    ``catalog``: None for a build of an earlier version of goldenami, whose resources have no such tag.
    """
    mark, key = tags.get(TOKEN), tags.get(KEY)
    if tags.get(BUILD_ID) != build_id or tags.get(CATALOG) != catalog or not mark or not key:
        return False
    return any(token(build_id, key, attempt) == mark for attempt in range(1, _MOST_ATTEMPTS))


def start_of_build(build_id: str) -> datetime | None:
    """Return the time at which a build or task began, by its id; None for a text that is no such id."""
    try:
        return datetime.strptime(build_id[:15], "%Y%m%d-%H%M%S").replace(tzinfo=UTC)
    except ValueError:
        return None


def parse_timestamp(value: str) -> datetime | None:
    """Return the time in an expiry tag; None if the value has another format."""
    try:
        return datetime.strptime(value, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC)
    except ValueError:
        return None
